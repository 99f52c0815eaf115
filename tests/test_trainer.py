"""Training: it learns, it can be killed, it refuses what would spoil a run."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from pydoc_data.topics import topics  # real prose that every Python carries
from typing import Any

import pytest
import torch

from gpt2.errors import BusyError, ConfigError, InputError, TooLittleData, WorkbenchError
from gpt2.evaluation.heldout import usual_callbacks
from gpt2.model.checkpoint import load
from gpt2.model.config import GPT2Config
from gpt2.model.device import PLAIN, Compute
from gpt2.model.transformer import GPT2
from gpt2.tokens.bpe import Tokenizer
from gpt2.tokens.shards import Shards, write_shards
from gpt2.training import trainer
from gpt2.training.batches import Batches
from gpt2.training.optimizer import OptimizerConfig, make_optimizer
from gpt2.training.plan import TrainConfig
from gpt2.training.speed import seconds_per_step
from gpt2.training.step import train_step
from gpt2.training.trainer import train
from gpt2.workspace import Workspace

SHAPE = GPT2Config(n_layer=2, n_head=2, n_embd=32, vocab_size=400, n_ctx=32)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of a part of Python's own manual."""
    folder = tmp_path_factory.mktemp("data") / "shards"
    documents = [(name, name, text[:3000]) for name, text in sorted(topics.items())[:40]]
    write_shards(
        documents, Tokenizer(Tokenizer.gpt2().pairs[:143]), folder, {documents[3][0], documents[9][0]}
    )
    return folder


@pytest.fixture
def config(tokens: Path, tmp_path: Path) -> TrainConfig:
    rate = OptimizerConfig(learning_rate=1e-2)
    return TrainConfig(tokens, tmp_path / "run", SHAPE, steps=30, batch=4, optimizer=rate, callback_every=10)


def steps_of(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights(run: Path) -> bytes:
    return (run / "checkpoint" / "model.safetensors").read_bytes()


def test_the_loss_falls_and_the_model_is_on_disk(config: TrainConfig) -> None:
    config = dataclasses.replace(config, steps=120, callback_every=60)
    callbacks = usual_callbacks(Shards.open(config.tokens))
    done = train(config, callbacks)
    rows = done.metrics
    assert [row["step"] for row in rows] == list(range(1, 121))
    assert rows[-1]["loss"] < rows[0]["loss"] - 1
    assert rows[0]["loss"] == pytest.approx(6.0, abs=0.2), "log 400 before anything is learned"
    looked = [row for row in rows if "heldout_loss" in row]
    assert [row["step"] for row in looked] == [60, 120] and all("sample" in row for row in looked)
    assert looked[1]["heldout_loss"] < 5.5
    assert (done.steps, done.tokens) == (120, 120 * 4 * 32) and rows[-1]["tokens"] == done.tokens
    assert done.seconds == pytest.approx(sum(row["seconds"] for row in rows))
    saved = load(config.out)
    for p, q in zip(saved.net.parameters(), done.model.net.parameters(), strict=True):
        assert torch.equal(p, q)
    assert saved.card["steps"] == "120 of 120" and saved.card["heldout_loss"] == looked[1]["heldout_loss"]
    assert saved.card == json.loads(json.dumps(done.model.card))


def test_the_same_settings_give_the_same_weights(config: TrainConfig, tmp_path: Path) -> None:
    runs = []
    for name, changes in (("a", {}), ("b", {"log_every": 7, "callback_every": 4}), ("c", {"seed": 1})):
        train(dataclasses.replace(config, out=tmp_path / name, steps=6, **changes))
        runs.append(weights(tmp_path / name))
    assert runs[0] == runs[1] != runs[2]
    assert steps_of(tmp_path / "b") == [4, 6], "callbacks' steps and the last are always logged"


def test_a_run_is_not_begun_twice_nor_by_two(config: TrainConfig) -> None:
    with Workspace(config.out), pytest.raises(BusyError, match="another process works in"):
        train(config)
    train(dataclasses.replace(config, steps=2))
    with pytest.raises(InputError, match="add --resume to go on with it"):
        train(dataclasses.replace(config, steps=2))


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("steps 2, not 3", {"steps": 3}),
        ("steps 2, not None", {"steps": None, "minutes": 1.0}),
        ("batch 4, not 5", {"batch": 5}),
        ("seed 0, not 1", {"seed": 1}),
        ("model {", {"model": dataclasses.replace(SHAPE, n_layer=1)}),
        ("optimizer {", {"optimizer": OptimizerConfig(learning_rate=2e-2)}),
    ],
)
def test_other_settings_are_refused_on_resume(
    words: str, changes: dict[str, Any], config: TrainConfig
) -> None:
    config = dataclasses.replace(config, steps=2)
    train(config)
    before = weights(config.out)
    with pytest.raises(ConfigError) as caught:
        train(dataclasses.replace(config, **changes), resume_run=True)
    assert f"was begun with {words}" in str(caught.value)
    assert weights(config.out) == before
    train(dataclasses.replace(config, save_every_seconds=5.0, threads=1, log_every=2), resume_run=True)


def test_other_data_is_refused_on_resume(config: TrainConfig, tmp_path: Path) -> None:
    train(dataclasses.replace(config, steps=2))
    documents = [(name, name, text[:2000]) for name, text in sorted(topics.items())[:40]]
    write_shards(documents, Tokenizer(Tokenizer.gpt2().pairs[:143]), tmp_path / "other", {documents[3][0]})
    with pytest.raises(ConfigError, match="was begun with data"):
        train(dataclasses.replace(config, steps=2, tokens=tmp_path / "other"), resume_run=True)
    moved = shutil.copytree(config.tokens, tmp_path / "moved")
    train(dataclasses.replace(config, steps=2, tokens=moved), resume_run=True)


def test_a_loss_that_is_no_number_stops_the_run(config: TrainConfig) -> None:
    wild = OptimizerConfig(learning_rate=1e30, warmup=0.0)
    config = dataclasses.replace(config, optimizer=wild, save_every_seconds=0.0)
    with pytest.raises(WorkbenchError) as caught:
        train(config)
    assert "the loss was" in str(caught.value) and "learning rate below 1e+30" in str(caught.value)
    assert load(config.out), "what was saved before is whole and holds numbers"


def test_the_length_is_given_in_exactly_one_way(config: TrainConfig, tmp_path: Path) -> None:
    for given in ({}, {"steps": 3, "train_tokens": 9}, {"steps": 3, "train_tokens": 9, "minutes": 1.0}):
        with pytest.raises(ConfigError, match="exactly one of steps, train_tokens and minutes"):
            TrainConfig(config.tokens, config.out, SHAPE, **given)
    for given in ({"steps": 0}, {"train_tokens": -5}, {"minutes": float("nan")}, {"minutes": float("inf")}):
        with pytest.raises(ConfigError, match="must be above 0"):
            TrainConfig(config.tokens, config.out, SHAPE, **given)
    done = train(dataclasses.replace(config, steps=None, train_tokens=257, out=tmp_path / "tokens"))
    assert (done.steps, done.tokens) == (3, 3 * 4 * 32), "rounded up to whole steps"


def test_minutes_become_steps_once(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(config, steps=None, minutes=0.5)
    monkeypatch.setattr(trainer, "seconds_per_step", lambda *_, **__: 7.0)
    assert train(config).steps == 4
    monkeypatch.setattr(trainer, "seconds_per_step", lambda *_, **__: 1.0)
    assert train(config, resume_run=True).steps == 4, "the plan of the run holds"


def test_a_trial_takes_time_and_leaves_no_trace(config: TrainConfig) -> None:
    batches = Batches(Shards.open(config.tokens).train, 32, 4)
    assert seconds_per_step(SHAPE, batches, config.optimizer, PLAIN, steps=2) > 0
    assert not config.out.exists()


@pytest.mark.parametrize(
    ("field", "value"), [("log_every", 0), ("callback_every", 0), ("seed", -1), ("seed", 2**63), ("batch", 0)]
)
def test_impossible_settings_are_refused(field: str, value: int, config: TrainConfig) -> None:
    with pytest.raises(ConfigError):
        train(dataclasses.replace(config, **{field: value}))
    assert not config.out.exists(), "nothing was begun"


def test_data_that_does_not_fit_is_refused(config: TrainConfig) -> None:
    with pytest.raises(ConfigError, match="vocabulary of 400, but the model's is 401"):
        train(dataclasses.replace(config, model=dataclasses.replace(SHAPE, vocab_size=401)))
    with pytest.raises(TooLittleData, match="give more text or a shorter context"):
        train(dataclasses.replace(config, model=dataclasses.replace(SHAPE, n_ctx=10**6)))
    assert not config.out.exists()


def test_bfloat16_learns_what_float32_learns(tokens: Path) -> None:
    batches = Batches(Shards.open(tokens).train, 32, 8)
    last = []
    for compute in (PLAIN, Compute("cpu", "bfloat16", 1)):
        net, config = GPT2(SHAPE), OptimizerConfig(learning_rate=1e-2)
        optimizer = make_optimizer(net, config)
        losses = [
            train_step(net, optimizer, batches[i], config.rate(i, 60), config.clip, compute)[0]
            for i in range(60)
        ]
        assert {p.dtype for p in net.parameters()} == {torch.float32}
        last.append(sum(losses[-10:]) / 10)
    assert last[0] != last[1] and abs(last[0] - last[1]) < 0.05
