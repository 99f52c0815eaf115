"""What a training will take is said before it begins."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from command_line import SHAPE, Run

from gpt2.errors import ConfigError
from gpt2.model.config import GPT2Config
from gpt2.model.device import Compute
from gpt2.model.transformer import GPT2
from gpt2.training import forecast as room
from gpt2.training.forecast import Asked, at_once, forecast, lively, memory_of
from gpt2.training.optimizer import OptimizerConfig
from gpt2.training.step import NextTokenLoss

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = GPT2Config(n_layer=3, n_head=2, n_embd=64, vocab_size=1000, n_ctx=128)
PLAIN = Compute("cpu", "float32", 1)
ASKED = Asked(SMALL, OptimizerConfig(), tokens=100_000, batch=8)


def test_a_dry_run_counts_what_a_real_step_keeps() -> None:
    """Against the tensors that autograd really saves, and the memory-free run's straight line in the batch."""
    net, kept = GPT2(SMALL), {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    weights = {p.untyped_storage().data_ptr() for p in net.parameters()}
    ids = torch.randint(0, 1000, (3, 129))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = NextTokenLoss(net, PLAIN)(ids)
    real = sum(size for place, size in kept.items() if place not in weights)
    assert loss.requires_grad
    assert lively(SMALL, False, PLAIN, 3)["forward"] == pytest.approx(real, rel=0.03)
    straight = at_once(dataclasses.replace(ASKED, batch=16), PLAIN)
    for name, size in lively(SMALL, False, PLAIN, 16).items():
        assert straight[name] == pytest.approx(size, rel=0.01), name


def test_memory_follows_the_settings() -> None:
    weights = 4 * SMALL.num_parameters()
    base = memory_of(ASKED, PLAIN)
    assert base["weights"] == weights and base["optimizer"] == pytest.approx(2 * weights, rel=0.001)
    assert base["checkpoint copy"] == pytest.approx(3 * weights, rel=0.001)
    more = memory_of(dataclasses.replace(ASKED, batch=16), PLAIN)
    assert more["activations"] == pytest.approx(2 * base["activations"], rel=0.05)
    parts = memory_of(dataclasses.replace(ASKED, batch=16, accumulate=2), PLAIN)
    assert parts["activations"] == base["activations"] and parts["gradients"] == weights
    again = memory_of(dataclasses.replace(ASKED, recompute=True), PLAIN)
    assert again["activations"] < base["activations"] / 3
    muon = memory_of(dataclasses.replace(ASKED, optimizer=OptimizerConfig(matrices="muon")), PLAIN)
    assert muon["optimizer"] < base["optimizer"]
    half = memory_of(ASKED, dataclasses.replace(PLAIN, dtype="bfloat16"))
    assert half["activations"] < base["activations"]


def test_a_forecast_tries_real_steps_where_they_fit() -> None:
    asked = dataclasses.replace(ASKED, accumulate=4, callback_every=50)
    found = forecast(asked, PLAIN)
    assert found.fits and found.steps == 98
    assert found.tokens_per_second and found.seconds_per_step and found.seconds
    assert found.tokens_per_second == pytest.approx(8 * 128 / found.seconds_per_step)
    looks = 2 * 64 * 256 / 3 / found.tokens_per_second
    assert found.seconds == pytest.approx(98 * found.seconds_per_step + looks)
    assert found.operations == pytest.approx(98 * 8 * 128 * 6 * 1.0 * (216e3), rel=0.5)
    assert 0.2e9 < found.total < 2e9 and found.disk > 24 * SMALL.num_parameters()


def test_what_does_not_fit_is_said_before_anything_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    need = sum(memory_of(ASKED, PLAIN).values())
    quarter = sum(memory_of(dataclasses.replace(ASKED, accumulate=4), PLAIN).values())
    assert quarter < need
    monkeypatch.setattr(room, "trial", lambda *_: pytest.fail("nothing is to be tried"))
    monkeypatch.setattr(room, "available", lambda _: quarter + 1)
    found = forecast(ASKED, PLAIN)
    assert not found.fits and found.seconds is None and found.fitting == 4
    said = "\n".join(room.lines(found))
    assert "DOES NOT FIT" in said and "--accumulate 4" in said
    monkeypatch.setattr(room, "available", lambda _: 1000)
    found = forecast(ASKED, PLAIN)
    assert found.fitting is None and "not even one sequence" in "\n".join(room.lines(found))
    with pytest.raises(ConfigError, match="a batch of 8 sequences cannot be cut into 3 equal parts"):
        forecast(dataclasses.replace(ASKED, accumulate=3), PLAIN)


def test_the_command_forecasts(run: Run) -> None:
    words = ("forecast", *SHAPE, "--vocabulary", "300", "--batch", "4", "--tokens", "10K", "--quiet")
    said = run(*words, "--json")
    found = json.loads(said.out)
    assert (said.status, found["steps"], found["accumulate"], found["fits"]) == (0, 157, 1, True)
    assert set(found["memory"]) >= {"weights", "gradients", "optimizer", "activations", "checkpoint copy"}
    plain = run(*words, "--recipe", "modern").out
    assert "muon from recipe modern" in plain and "tokens/s" in plain and "GB" in plain
    assert run(*words, "--size", "125M").refused("there is no GPT-2 of size '125M'")
