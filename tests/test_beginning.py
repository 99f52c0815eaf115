"""Training that begins with a model, learns another text beside, stops early, in sequences of its own length."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
import torch
from command_line import SHAPE as SMALL
from command_line import Run, World

import gpt2
from gpt2.errors import ConfigError, InputError
from gpt2.model.device import PLAIN as COMPUTE
from gpt2.model.transformer import GPT2
from gpt2.tokens.shards import write_shards
from gpt2.training.batches import Batches
from gpt2.training.optimizer import OptimizerConfig, make_optimizer
from gpt2.training.plan import Beside, TrainConfig
from gpt2.training.step import Learner, NextTokenLoss
from gpt2.training.trainer import train
from gpt2.workspace import Json

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPE = gpt2.GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=400, n_ctx=32)
RATE = OptimizerConfig(learning_rate=1e-2)


@pytest.fixture
def model(tokens: Path, tmp_path: Path) -> gpt2.Model:
    found = gpt2.Model(gpt2.GPT2(SHAPE, seed=7), gpt2.Shards.open(tokens).tokenizer)
    found.save(tmp_path / "model")
    return found


@pytest.fixture
def config(tokens: Path, tmp_path: Path, model: gpt2.Model) -> TrainConfig:
    run, start = tmp_path / "run", tmp_path / "model"
    return TrainConfig(tokens, run, start=start, steps=8, batch=4, optimizer=RATE, dtype="float32", seed=1)


def weights(run: Path) -> bytes:
    return (run / "checkpoint" / "model.safetensors").read_bytes()


def test_the_first_loss_is_that_of_the_model(config: TrainConfig, model: gpt2.Model, tokens: Path) -> None:
    done = train(config)
    first = Batches(gpt2.Shards.open(tokens).train, 32, 4, seed=1)[0]
    expected = float(NextTokenLoss(model.net, COMPUTE)(first).detach())
    assert done.metrics[0]["loss"] == pytest.approx(expected, abs=1e-4)
    assert done.model.net.config == SHAPE, "the shape is the model's, whatever the default is"
    assert (
        gpt2.load(config.out).card["settings"]["start"]
        == json.loads((config.out / "train.json").read_text())["settings"]["start"]
    )


def test_a_run_from_a_model_is_resumed_only_from_that_model(config: TrainConfig, tmp_path: Path) -> None:
    whole = train(dataclasses.replace(config, out=tmp_path / "whole"))

    def stop(model: gpt2.Model, step: int) -> Json:
        raise KeyboardInterrupt

    cut = dataclasses.replace(config, callback_every=5, save_every_seconds=1e-9)
    with pytest.raises(KeyboardInterrupt):
        train(cut, [stop])
    gpt2.load(tmp_path / "model").save(tmp_path / "moved")
    moved = dataclasses.replace(config, start=tmp_path / "moved", callback_every=5)
    resumed = train(moved, resume_run=True)
    for p, q in zip(whole.model.net.parameters(), resumed.model.net.parameters(), strict=True):
        assert torch.equal(p, q)
    other = gpt2.Model(gpt2.GPT2(SHAPE, seed=8), whole.model.tokenizer)
    other.save(tmp_path / "other")
    for start in (tmp_path / "other", None):
        with pytest.raises(ConfigError, match="begun with"):
            train(dataclasses.replace(moved, start=start, model=SHAPE), resume_run=True)


def test_a_model_of_another_vocabulary_or_shape_is_refused(
    config: TrainConfig, model: gpt2.Model, tmp_path: Path
) -> None:
    tok = gpt2.Tokenizer(gpt2.Tokenizer.gpt2().pairs[1:144])
    gpt2.Model(model.net, tok).save(tmp_path / "other")
    with pytest.raises(ConfigError, match=r"another vocabulary.*gpt2 finetune text"):
        train(dataclasses.replace(config, start=tmp_path / "other"))
    with pytest.raises(ConfigError, match="n_layer 1, not 3"):
        train(dataclasses.replace(config, model=dataclasses.replace(SHAPE, n_layer=3)))
    with pytest.raises(InputError):
        train(dataclasses.replace(config, start=tmp_path / "nothing"))
    assert not config.out.exists()


def test_the_command_trains_from_a_model(run: Run, world: World, tmp_path: Path) -> None:
    words = ["train", "--tokens", world.shards, "--out", tmp_path / "run", "--steps", "2", "--threads", "1"]
    refused = run(*words, "--from", world.model, *SMALL)
    assert refused.refused("its own shape")
    said = run(*words, "--from", world.model, "--context", "16", "--json", "--quiet")
    assert said.status == 0, said.err
    assert "verdict" not in json.loads(said.out), "which is for random first weights"
    assert run("judge", tmp_path / "run").refused("began from a trained model")
    assert gpt2.load(tmp_path / "run").net.config == gpt2.load(world.model).net.config
    assert run("batch", tmp_path / "run", "1", "--json").status == 0


def test_shorter_sequences_leave_the_rest_of_the_context_as_it_was(
    config: TrainConfig, model: gpt2.Model
) -> None:
    done = train(
        dataclasses.replace(config, context=8, optimizer=dataclasses.replace(RATE, weight_decay=0.0))
    )
    assert done.tokens == 8 * 4 * 8 and done.model.net.config.n_ctx == 32
    was, now = model.net.wpe.weight, done.model.net.wpe.weight
    assert not torch.equal(was[:8], now[:8]) and torch.equal(was[8:], now[8:])
    with pytest.raises(ConfigError, match="context of 33"):
        TrainConfig(config.tokens, config.out, SHAPE, steps=1, context=33)


def test_the_loss_beside_is_added_with_its_weight(tokens: Path) -> None:
    batches = Batches(gpt2.Shards.open(tokens).train, 32, 4, seed=1)
    grads: list[list[Any]] = []
    for own, beside in ((batches[0], batches[5]), (batches[0], None), (batches[5], None)):
        net = GPT2(SHAPE, seed=7)
        learner = Learner(
            net,
            NextTokenLoss(net, COMPUTE),
            make_optimizer(net, RATE),
            1e9,
            "cpu",
            accumulate=2,
            beside_weight=0.3,
        )
        loss, _ = learner.gradients(own, beside)
        assert loss == pytest.approx(float(NextTokenLoss(net, COMPUTE)(own).detach()), abs=1e-5), (
            "told is the loss proper"
        )
        grads.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    for both, first, second in zip(*grads, strict=True):
        torch.testing.assert_close(both, first + 0.3 * second)


def test_what_is_learned_beside_decides_the_run(config: TrainConfig, tokens: Path, tmp_path: Path) -> None:
    alone = train(dataclasses.replace(config, out=tmp_path / "alone"))
    folder = tmp_path / "beside"
    tok = gpt2.Shards.open(tokens).tokenizer
    write_shards([("lists", "lists", topics["typesseq"])], tok, folder, set())
    both = dataclasses.replace(config, beside=Beside(folder, 0.7))
    done = train(both)
    assert done.metrics[0]["loss"] == alone.metrics[0]["loss"]
    assert weights(config.out) != weights(tmp_path / "alone")
    for other in (None, Beside(folder, 0.6)):
        with pytest.raises(ConfigError, match="begun with beside"):
            train(dataclasses.replace(both, beside=other), resume_run=True)
    write_shards([("a", "a", "text " * 99)], gpt2.Tokenizer(tok.pairs[:9]), tmp_path / "foreign", set())
    with pytest.raises(ConfigError, match="another vocabulary"):
        train(dataclasses.replace(config, out=tmp_path / "new", beside=Beside(tmp_path / "foreign")))
    with pytest.raises(ConfigError, match="above 0"):
        Beside(folder, 0.0)


def test_it_stops_when_the_heldout_loss_no_longer_falls(config: TrainConfig) -> None:
    losses = {2: 3.0, 4: 2.0, 6: 2.5, 8: 2.0, 10: 1.0}

    def look(model: gpt2.Model, step: int) -> Json:
        return {"heldout_loss": losses[step]}

    patient = dataclasses.replace(config, steps=10, callback_every=2, patience=2, keep_best=True)
    done = train(patient, [look])
    assert done.steps == 8, "two looks after the best, at step 4"
    assert gpt2.load(config.out / "best").card["steps"] == "4 of 10"
    assert gpt2.load(config.out).card["steps"] == "8 of 10"
    again = train(patient, [look], resume_run=True)
    assert again.steps == 8 and len(again.metrics) == 8, "and it has stopped"
    more = train(dataclasses.replace(patient, patience=3), [look], resume_run=True)
    assert more.steps == 10
    with pytest.raises(ConfigError, match="patience needs held-out"):
        train(dataclasses.replace(config, out=config.out / "new", patience=1))
