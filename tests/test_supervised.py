"""Classifiers: the head on the last real token, layouts, learning that resumes, and transformers beside it."""

from __future__ import annotations

import dataclasses
import itertools
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gpt2
from gpt2.errors import ConfigError, FormatError, InputError
from gpt2.finetuning.classifier import Padded, Purpose, TextClassifier, pad
from gpt2.finetuning.layout import fitting, inputs
from gpt2.finetuning.supervised import GPT1, Lessons, SupervisedConfig, learn, order
from gpt2.training.stopping import Terminated
from gpt2.workspace import file_digest

pytestmark = pytest.mark.usefixtures("one_thread")
TOK = gpt2.Tokenizer([])
SHAPE = gpt2.GPT2Config(2, 2, 16, TOK.n_vocab, 64)
QUICK = dataclasses.replace(GPT1, learning_rate=3e-3)
WORDS = ["good", "bad", "dull", "bright", "long", "short", "film", "play"]


def texts(n: int, seed: int = 0) -> list[tuple[str, str | None]]:
    draw = random.Random(seed)
    return [(" ".join(draw.choices(WORDS, k=draw.randint(1, 6))), None) for _ in range(n)]


def classifier(purpose: Purpose | None = None, seed: int = 0) -> TextClassifier:
    purpose = purpose or Purpose("test", ("no", "yes"))
    return TextClassifier.over(gpt2.GPT2(SHAPE, seed), TOK, purpose, seed)


def lessons(made: TextClassifier, n: int = 24, **changes: Any) -> Lessons:
    found = texts(n)
    labels = [float("good" in text) for text, _ in found]
    config = SupervisedConfig(**{"batch": 4, "optimizer": QUICK, "epochs": 2} | changes)
    return Lessons(made, made.read(found), labels, config)


def test_gpt1_layout_has_start_delimiter_and_extract() -> None:
    start, delimiter, extract = range(TOK.n_vocab, TOK.n_vocab + 3)
    a, b = TOK.encode("ab"), TOK.encode("cd")
    assert inputs(TOK, "ab", None, "gpt1", True, 64).sequences == ([start, *a, extract],)
    one = [start, *a, delimiter, *b, extract]
    other = [start, *b, delimiter, *a, extract]
    assert inputs(TOK, "ab", "cd", "gpt1", False, 64).sequences == (one,)
    assert inputs(TOK, "ab", "cd", "gpt1", True, 64).sequences == (one, other)
    assert inputs(TOK, "ab", "cd", "plain", False, 64).sequences == (TOK.encode("ab\ncd"),)


def test_what_is_too_long_loses_the_end_of_its_longer_text_and_no_mark() -> None:
    found = inputs(TOK, "abcdefgh", "xyz", "gpt1", False, 9)
    assert found.cut
    assert TOK.decode(found.sequences[0][1:4]) == "abc"
    assert TOK.decode(found.sequences[0][5:8]) == "xyz"
    assert found.sequences[0][-1] == TOK.n_vocab + 2
    single = inputs(TOK, "abcdefgh", None, "gpt1", False, 6)
    assert single.cut and TOK.decode(single.sequences[0][1:-1]) == "abcd"
    assert not inputs(TOK, "abcd", None, "gpt1", False, 6).cut


def test_the_longer_text_loses_one_token_at_a_time() -> None:
    for room in range(2, 24):
        for a, b in itertools.product(range(1, 14), repeat=2):
            one, two = a, b
            while one + two > room:
                if one >= two:
                    one -= 1
                else:
                    two -= 1
            found = fitting(a, b, room)
            assert sum(found) == one + two and max(found) - min(found) == abs(one - two), (a, b)


def test_an_empty_text_has_something_to_be_judged_by() -> None:
    made = classifier(Purpose("test", ("no", "yes"), layout="plain"))
    assert made.read([("", None)])[0].sequences == ([TOK.end_of_text],)
    assert made.predict([("", None)])[0]["label"] in ("no", "yes")


@pytest.mark.parametrize(("layout", "pair", "both"), [("gpt1", False, False), ("plain", True, True)])
def test_logits_are_the_same_alone_and_in_a_batch_padded_left_or_right(
    layout: Any, pair: bool, both: bool
) -> None:
    made = classifier(Purpose("test", ("a", "b", "c"), pair, both, layout))
    items = made.read([(text, text[::-1] if pair else None) for text, _ in texts(20)])
    alone = np.concatenate([made.outputs([item]) for item in items])
    right, left = made.outputs(items), made.outputs(items, left=True)
    assert len({item.length for item in items}) > 5 and alone.std() > 1e-3
    assert np.abs(right - alone).max() < 1e-5
    assert np.abs(left - alone).max() < 1e-5


def test_padding_is_never_read() -> None:
    made = classifier()
    for left in (True, False):
        batch = pad(made.read(texts(6)), left)
        other = torch.where(batch.real, batch.ids, 77)
        with torch.no_grad():
            assert torch.equal(made.network(batch), made.network(Padded(other, batch.real)))


def test_both_orders_are_added() -> None:
    made = classifier(Purpose("test", ("no", "yes"), True, True))
    one, two = made.read([("good film", "bad"), ("bad", "good film")])
    assert np.allclose(made.outputs([one]), made.outputs([two]), atol=1e-6)


def test_fifty_steps_equal_those_of_transformers(tmp_path: Path) -> None:
    """The same batches, padded as transformers pads, the plain layout, no dropout."""
    transformers = pytest.importorskip("transformers")
    made = classifier(Purpose("test", ("a", "b", "c"), layout="plain"))
    settings = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    theirs = transformers.GPT2ForSequenceClassification(
        transformers.GPT2Config(
            vocab_size=TOK.n_vocab,
            n_positions=64,
            n_embd=16,
            n_layer=2,
            n_head=2,
            num_labels=3,
            pad_token_id=256,
            **settings,
        )
    )
    with torch.no_grad():
        theirs.score.weight.copy_(made.network.head.weight)
        for name, p in theirs.transformer.named_parameters():
            values = made.network.net.get_parameter(name)
            p.copy_(values.T if name.split(".")[-2].startswith("c_") and p.dim() == 2 else values)
    found = texts(80)
    labels = [float(len(text) % 3) for text, _ in found]
    config = SupervisedConfig(
        batch=8, epochs=5, lm_weight=0.0, optimizer=dataclasses.replace(QUICK, weight_decay=0.0)
    )
    ours = Lessons(made, made.read(found), labels, config)
    optimizer = torch.optim.AdamW(theirs.parameters(), betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    their_losses = []
    for step in range(50):
        batch = pad([ours.items[i] for i in ours.order[step]])
        ids = torch.where(batch.real, batch.ids, 256)
        loss = theirs(
            input_ids=ids, attention_mask=batch.real.long(), labels=ours.targets[ours.order[step]]
        ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = config.optimizer.rate(step, 50)
        optimizer.step()
        optimizer.zero_grad()
        their_losses.append(float(loss.detach()))
    with torch.no_grad():
        last = pad(ours.items[:16])
        wanted = theirs(
            input_ids=torch.where(last.real, last.ids, 256), attention_mask=last.real.long()
        ).logits
    our_losses = learned(made, ours, tmp_path)
    assert max(abs(a - b) for a, b in zip(our_losses, their_losses, strict=True)) < 1e-3
    assert their_losses[0] - their_losses[-1] > 0.05, "something was learned"
    with torch.no_grad():
        assert (made.network(last) - wanted).abs().max() < 1e-3


def learned(made: TextClassifier, what: Lessons, folder: Path) -> list[float]:
    """The loss at each step."""
    losses = []

    def loss(step: int) -> torch.Tensor:
        value = what.loss(step)
        losses.append(float(value.detach()))
        return value

    learn(made.network, loss, what.steps, what.config, folder)
    return losses


@pytest.mark.parametrize("purpose", [Purpose("t", ("no", "yes")), Purpose("t", mean=0.5, deviation=0.5)])
def test_a_classifier_learns(purpose: Purpose, tmp_path: Path) -> None:
    made = classifier(purpose)
    what = lessons(made, 48, epochs=25)
    learn(made.network, what.loss, what.steps, what.config, tmp_path)
    said = made.outputs(list(what.items))
    labels = np.array([float("good" in text) for text, _ in texts(48)])
    right = said.argmax(axis=1) == labels if purpose.labels else (said[:, 0] > 0.5) == labels
    assert right.mean() > 0.9


def test_each_example_is_seen_once_an_epoch_in_an_order_that_the_seed_decides() -> None:
    lengths = [i % 7 for i in range(45)]
    found = order(lengths, 4, 2, 5)
    half = len(found) // 2
    for epoch in (found[:half], found[half:]):
        assert sorted(i for step in epoch for i in step) == list(range(45))
    assert found[:half] != found[half:]
    assert found == order(lengths, 4, 2, 5) and found != order(lengths, 4, 2, 6)
    assert len(order(lengths, 4, 0.5, 5)) == 6
    spread = [max(lengths[i] for i in step) - min(lengths[i] for i in step) for step in found]
    assert np.mean(spread) < 2, "what is side by side is of like length"


@pytest.mark.parametrize("changes", [{}, {"unfreeze": True, "layer_factor": 2.6, "schedule": "slanted"}])
def test_a_run_that_was_stopped_ends_in_the_same_weights(changes: dict[str, Any], tmp_path: Path) -> None:
    whole = classifier()
    what = lessons(whole, **changes)
    learn(whole.network, what.loss, what.steps, what.config, tmp_path / "whole")
    for stop in (1, 5, 11):
        folder = tmp_path / f"cut{stop}"
        first = classifier()
        cut = lessons(first, **changes)

        def loss(step: int, cut: Lessons = cut, stop: int = stop) -> torch.Tensor:
            if step == stop:
                signal.raise_signal(signal.SIGTERM)
            return cut.loss(step)

        with pytest.raises(Terminated):
            learn(first.network, loss, cut.steps, cut.config, folder)
        second = classifier(seed=9)
        again = lessons(second, **changes)
        asked: list[int] = []

        def seen(step: int, again: Lessons = again, asked: list[int] = asked) -> torch.Tensor:
            asked.append(step)
            return again.loss(step)

        learn(second.network, seen, again.steps, again.config, folder)
        assert asked == list(range(stop + 1, what.steps))
        for name, p in whole.network.state_dict().items():
            assert torch.equal(p, second.network.state_dict()[name]), name


RUN = """
import sys, torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
import test_supervised as t
from pathlib import Path
made = t.classifier()
what = t.lessons(made, epochs=4, save_every_seconds=0.0)
t.learn(made.network, what.loss, what.steps, what.config, Path(sys.argv[1]))
made.save(Path(sys.argv[1]) / "classifier")
"""


def test_a_run_that_was_killed_again_and_again_ends_in_the_same_file(tmp_path: Path) -> None:
    code = RUN.format(tests=str(Path(__file__).parent))
    found = []
    for kills in (0, 2):
        folder = tmp_path / str(kills)
        for _ in range(kills):
            job = subprocess.Popen([sys.executable, "-c", code, str(folder)])
            before = (folder / "metrics.jsonl").stat().st_size if (folder / "metrics.jsonl").exists() else 0
            while job.poll() is None:
                log = folder / "metrics.jsonl"
                if log.exists() and log.stat().st_size > before + 300:
                    job.kill()
                    job.wait()
                time.sleep(0.01)
            assert job.returncode == -signal.SIGKILL
        subprocess.run([sys.executable, "-c", code, str(folder)], check=True)
        found.append(
            [file_digest(folder / "classifier" / name) for name in ("model.safetensors", "head.safetensors")]
        )
    assert found[0] == found[1]


def test_unfreezing_leaves_lower_layers_as_they_were(tmp_path: Path) -> None:
    made = classifier()
    before = {name: p.clone() for name, p in made.network.state_dict().items()}
    what = lessons(made, unfreeze=True, lm_weight=0.0)
    learn(made.network, what.loss, what.steps, what.config, tmp_path / "a")
    assert not torch.equal(before["net.wte.weight"], made.network.net.wte.weight)
    again = classifier()
    few = lessons(again, unfreeze=True, lm_weight=0.0)

    def loss(step: int) -> torch.Tensor:
        if step == 0:
            signal.raise_signal(signal.SIGTERM)
        return few.loss(step)

    with pytest.raises(Terminated):
        learn(again.network, loss, few.steps, few.config, tmp_path / "b")
    now = again.network.state_dict()
    assert not torch.equal(before["head.weight"], now["head.weight"])
    assert all(
        torch.equal(before[name], p) for name, p in now.items() if ".h." in name or "wte.weight" in name
    )
    assert not torch.equal(before["net.wte.marks"], now["net.wte.marks"]), "as new as the head"


def test_a_classifiers_folder_opens_as_it_was_and_as_a_model_too(tmp_path: Path) -> None:
    made = classifier(Purpose("test", ("no", "yes"), True, True))
    made.save(tmp_path / "classifier")
    pairs: list[tuple[str, str | None]] = [("good film", "bad"), ("x", "y")]
    opened = TextClassifier.load(tmp_path)
    assert opened.predict(pairs) == made.predict(pairs)
    assert opened.purpose == made.purpose
    assert gpt2.score(gpt2.load(tmp_path / "classifier"), ["good film"])[0].logprob < 0
    gpt2.convert(tmp_path / "classifier", tmp_path / "huggingface", to="huggingface")


def test_folders_that_are_no_classifier_are_refused(tmp_path: Path) -> None:
    gpt2.Model(gpt2.GPT2(SHAPE), TOK).save(tmp_path / "model")
    with pytest.raises(InputError, match=r"no classifier\.json"):
        TextClassifier.load(tmp_path / "model")
    made = classifier()
    made.save(tmp_path / "c")
    for damage in (
        '{"format": "other"}',
        '{"format": "gpt2-workbench classifier 1", "purpose": {"name": "x"}}',
    ):
        (tmp_path / "c" / "classifier.json").write_text(damage)
        with pytest.raises(FormatError, match="does not describe a classifier"):
            TextClassifier.load(tmp_path / "c")


def test_another_number_of_texts_is_refused() -> None:
    with pytest.raises(InputError, match="judges one text, and item 2 has two"):
        classifier().read([("a", None), ("a", "b")])
    with pytest.raises(InputError, match="judges two texts, and item 1 has one"):
        classifier(Purpose("p", ("no", "yes"), True)).read([("a", None)])


@pytest.mark.parametrize(
    "changes", [{"epochs": 0.0}, {"batch": 0}, {"lm_weight": -1.0}, {"schedule": "cosine"}]
)
def test_settings_out_of_range_are_refused(changes: Any) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        SupervisedConfig(**changes)
