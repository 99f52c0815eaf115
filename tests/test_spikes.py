"""Steps that go wrong: noticed, and what is done about them."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Run, World

from gpt2.console import Console
from gpt2.errors import MissingExtra, WorkbenchError
from gpt2.model.checkpoint import load
from gpt2.model.config import GPT2Config
from gpt2.model.device import PLAIN
from gpt2.training import spikes
from gpt2.training.batches import Batches
from gpt2.training.curves import Curves
from gpt2.training.optimizer import OptimizerConfig
from gpt2.training.plan import TrainConfig
from gpt2.training.speed import matrix_peak, operations
from gpt2.training.spikes import Spikes
from gpt2.training.step import Learner
from gpt2.training.trainer import train

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = GPT2Config(n_layer=1, n_head=2, n_embd=32, vocab_size=400, n_ctx=32)
BAD = 60
"""The batch that is not like the others."""


@pytest.fixture
def config(tokens: Path, tmp_path: Path) -> TrainConfig:
    rate = OptimizerConfig(learning_rate=1e-2)
    return TrainConfig(
        tokens, tmp_path / "run", SHAPE, steps=90, batch=8, optimizer=rate, save_every_seconds=0.0, threads=1
    )


@pytest.fixture
def bad_batch(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Batch `BAD` is one token of a kind never seen, again and again; returns the batches that were asked for."""
    real, asked = Batches.__getitem__, []

    def batch(self: Batches, i: int) -> torch.Tensor:
        asked.append(i)
        return torch.full((8, 33), 399) if i == BAD else real(self, i)

    monkeypatch.setattr(Batches, "__getitem__", batch)
    return asked


@pytest.fixture
def no_number(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The gradients of batch `BAD` are NaN; returns the batches that were asked for."""
    real, asked = Batches.__getitem__, []
    learn = Learner.gradients

    def batch(self: Batches, i: int) -> torch.Tensor:
        asked.append(i)
        return real(self, i)

    def gradients(
        self: Learner, ids: torch.Tensor, beside: torch.Tensor | None = None
    ) -> tuple[float, float]:
        loss, norm = learn(self, ids, beside)
        if asked[-1] != BAD:
            return loss, norm
        for p in self.net.parameters():
            assert p.grad is not None
            p.grad.fill_(math.nan)
        return math.nan, math.nan

    monkeypatch.setattr(Batches, "__getitem__", batch)
    monkeypatch.setattr(Learner, "gradients", gradients)
    return asked


def test_a_spike_is_noted_and_learned_from(config: TrainConfig, bad_batch: list[int]) -> None:
    said = io.StringIO()
    done = train(config, console=Console(stream=said))
    odd = [row for row in done.metrics if "spike" in row]
    assert [row["step"] for row in odd] == [BAD + 1]
    assert "standard deviations above its last 60" in odd[0]["spike"]
    assert f"step 61: {odd[0]['spike']}" in said.getvalue()
    assert bad_batch == list(range(90))


def test_a_spike_is_skipped(
    config: TrainConfig, bad_batch: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    norms = []
    update = Learner.update

    def watched(self: Learner, rate: float) -> None:
        norms.append(rate)
        update(self, rate)

    monkeypatch.setattr(Learner, "update", watched)
    done = train(dataclasses.replace(config, on_spike="skip"))
    rates = [config.optimizer.rate(step, 90) for step in range(90)]
    assert norms == rates[:BAD] + rates[BAD + 1 :], "the step counts, and changes nothing"
    assert bad_batch == list(range(90))
    assert [row["step"] for row in done.metrics if "spike" in row] == [BAD + 1]


def test_a_spike_stops_the_run(config: TrainConfig, bad_batch: list[int]) -> None:
    with pytest.raises(WorkbenchError, match=r"at step 61 the .* go on with --resume and --on-spike skip"):
        train(dataclasses.replace(config, on_spike="stop"))
    step = json.loads((config.out / "checkpoint" / "state.json").read_text())["step"]
    assert 0 < step <= BAD
    assert train(dataclasses.replace(config, on_spike="skip"), resume_run=True).steps == 90


@pytest.mark.parametrize("kind", ["bad_batch", "no_number"])
def test_a_run_goes_back_and_passes_over_the_batches(
    kind: str, config: TrainConfig, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = request.getfixturevalue(kind)
    said = io.StringIO()
    config = dataclasses.replace(config, on_spike="back")
    done = train(config, console=Console(stream=said))
    state = json.loads((config.out / "checkpoint" / "state.json").read_text())
    over = state["passed_over"]
    back = BAD + 1 - over
    assert state["returns"] == 1 and 0 < back <= BAD
    assert f"back to step {back}; {over} batches are passed over" in said.getvalue()
    assert asked == [*range(BAD + 1), *range(BAD + 1, 90 + over)]
    assert [row["step"] for row in done.metrics] == list(range(1, 91))
    assert [row["went_back_from"] for row in done.metrics if "went_back_from" in row] == [BAD + 1]
    monkeypatch.undo()
    torch.set_num_threads(1)
    real = Batches.__getitem__
    monkeypatch.setattr(Batches, "__getitem__", lambda self, i: real(self, i if i < back else i + over))
    twin = train(dataclasses.replace(config, out=config.out.with_name("twin")))
    for p, q in zip(done.model.net.parameters(), twin.model.net.parameters(), strict=True):
        assert torch.equal(p, q), "as if those batches had never been"


def test_what_is_no_number_is_never_learned_from(config: TrainConfig, no_number: list[int]) -> None:
    with pytest.raises(
        WorkbenchError, match="the loss was nan and its gradient nan, which cannot be learned"
    ):
        train(config)
    assert load(config.out), "what was saved before is whole and holds numbers"
    again = dataclasses.replace(config, out=config.out.with_name("skipped"), on_spike="skip")
    assert train(again).metrics[-1]["loss"] < 6


@pytest.mark.parametrize("on_spike", ["skip", "back"])
def test_a_run_that_is_past_mending_ends(
    on_spike: Any, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn, calls = Learner.gradients, []

    def gradients(
        self: Learner, ids: torch.Tensor, beside: torch.Tensor | None = None
    ) -> tuple[float, float]:
        calls.append(0)
        found = learn(self, ids, beside)
        return found if len(calls) < 40 else (math.inf, math.inf)

    monkeypatch.setattr(Learner, "gradients", gradients)
    with pytest.raises(WorkbenchError, match=r"after 10 .* learning rate below 0.01"):
        train(dataclasses.replace(config, on_spike=on_spike))
    assert len(calls) == 50


def test_without_a_checkpoint_there_is_no_way_back(config: TrainConfig, no_number: list[int]) -> None:
    with pytest.raises(WorkbenchError, match="there is no checkpoint to go back to"):
        train(dataclasses.replace(config, on_spike="back", save_every_seconds=1e6))


def test_only_what_stands_out_is_odd() -> None:
    seen = Spikes()
    draw = torch.Generator().manual_seed(0)
    for _ in range(spikes.FEWEST - 1):
        assert seen.judge(100.0, 100.0) is None, "too early to tell"
        seen.admit(3 + 0.1 * float(torch.randn((), generator=draw)), 1.0)
    seen.admit(3.0, 1.0)
    assert seen.judge(3.3, 1.0) is None and seen.judge(0.1, 0.0) is None, "low is no spike"
    assert "the loss was 4, " in str(seen.judge(4.0, 1.0))
    assert seen.judge(3.0, 1.05) is None, "a window without any spread is not believed"
    assert "norm of the gradient was 1.07" in str(seen.judge(3.0, 1.07))
    assert seen.judge(math.nan, 1.0) == "the loss was nan and its gradient 1.0"
    for _ in range(2 * spikes.WINDOW):
        seen.admit(5.0, 1.0)
    assert len(seen.losses) == spikes.WINDOW and seen.judge(5.0, 1.0) is None


# One batch, curves and speed


def test_one_batch_is_learned_by_heart(run: Run, world: World, tmp_path: Path) -> None:
    shape = ["--layers", "2", "--heads", "2", "--channels", "64", "--context", "16", "--batch", "2"]
    words = ("train", "--tokens", world.shards, *shape, "--learning-rate", "0.01", "--overfit-batch")
    said = run(*words, "--out", tmp_path / "run", "--steps", "400", "--quiet", "--json")
    told = json.loads(said.out)
    assert said.status == 0 and told["learned"] and told["loss"] < 0.05 and told["steps"] < 400
    said = run(*words, "--out", tmp_path / "short", "--steps", "5", "--quiet")
    assert said.status == 1 and "one batch was not learned by heart in 5 steps" in said.out


def test_targets_that_change_are_not_learned_by_heart(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Batches, "__getitem__", lambda self, i: torch.randint(0, 400, (8, 33)))
    assert train(dataclasses.replace(config, overfit_batch=True)).learned is False


def test_tensorboard_reads_the_curves(config: TrainConfig) -> None:
    config = dataclasses.replace(config, steps=5, tensorboard=True)
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtra, match=r"pip install 'gpt2-workbench\[tensorboard\]'"):
            train(config)
        return
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = train(config)
    events = EventAccumulator(str(config.out / "tensorboard")).Reload()
    assert [e.step for e in events.Scalars("loss")] == [1, 2, 3, 4, 5]
    assert events.Scalars("loss")[-1].value == pytest.approx(done.metrics[-1]["loss"])


def test_curves_hold_numbers_and_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[object] = []

    class Writer:
        def __init__(self, folder: Path, purge_step: int) -> None:
            said.append((folder, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            said.append((name, value, step))

        def add_text(self, name: str, value: str, step: int) -> None:
            said.append((name, value, step))

        def close(self) -> None:
            said.append("closed")

    fake = type("fake", (), {"SummaryWriter": Writer})
    monkeypatch.setattr("gpt2.training.curves.need", lambda module, extra: fake)
    curves = Curves(tmp_path, 7)
    curves.write({"step": 8, "loss": 2.5, "sample": "The"})
    curves.close()
    assert said == [(tmp_path / "tensorboard", 8), ("loss", 2.5, 8), ("sample", "The", 8), "closed"]


def test_rows_tell_the_speed(config: TrainConfig) -> None:
    done = train(dataclasses.replace(config, steps=6, log_every=2))
    for row in done.metrics:
        assert row["tokens_per_second"] == pytest.approx(2 * 8 * 32 / row["seconds"], rel=0.01)
        assert row["peak_share"] > 0
    assert matrix_peak(PLAIN) > 1e8
    matrices = SHAPE.n_layer * 12 * 32**2 + 400 * 32
    assert operations(SHAPE) == pytest.approx(6 * matrices + 6 * SHAPE.n_layer * 32 * 32, rel=0.05)
