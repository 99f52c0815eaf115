"""AdamW's decay and the learning rate of each step."""

from __future__ import annotations

import math

import pytest
import torch

from gpt2.errors import ConfigError
from gpt2.model.config import GPT2Config
from gpt2.model.device import PLAIN
from gpt2.model.transformer import GPT2
from gpt2.training.optimizer import OptimizerConfig, make_optimizer
from gpt2.training.step import train_step

TINY = GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=50, n_ctx=16)


def test_only_tensors_of_two_dimensions_decay() -> None:
    net = GPT2(TINY)
    optimizer = make_optimizer(net, OptimizerConfig(learning_rate=0.1, weight_decay=0.5))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, p in net.named_parameters():
        assert decay.pop(id(p)) == (0.5 if p.dim() == 2 else 0.0), name
    assert not decay
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in net.named_parameters():
        torch.testing.assert_close(p.detach(), before[name] * (0.95 if p.dim() == 2 else 1.0))


def test_a_step_is_adamw_as_published() -> None:
    """Loshchilov and Hutter (2019), algorithm 2, on the gradient clipped to norm 1."""
    net, config = GPT2(TINY, seed=1), OptimizerConfig(weight_decay=0.1)
    twin = GPT2(TINY, seed=1)
    optimizer = make_optimizer(net, config)
    ids = torch.randint(0, 50, (3, 17), generator=torch.Generator().manual_seed(0))
    moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in twin.named_parameters()}
    for t, rate in enumerate([0.01, 0.02, 0.015], start=1):
        loss, norm = train_step(net, optimizer, ids, rate, 0.5, PLAIN)
        logits = twin(ids[:, :-1])
        plain = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        gradients = torch.autograd.grad(plain, list(twin.parameters()))
        size = math.sqrt(sum(float(g.square().sum()) for g in gradients))
        assert loss == pytest.approx(float(plain.detach()), rel=1e-5)
        assert norm == pytest.approx(size, rel=1e-4)
        assert norm > 0.5, "the clipping must matter"
        with torch.no_grad():
            for (name, p), g in zip(twin.named_parameters(), gradients, strict=True):
                m, v = moments[name]
                g = g * (0.5 / size)
                m.mul_(0.9).add_(0.1 * g)
                v.mul_(0.95).add_(0.05 * g * g)
                p.mul_(1 - rate * (0.1 if p.dim() == 2 else 0.0))
                p.sub_(rate * (m / (1 - 0.9**t)) / ((v / (1 - 0.95**t)).sqrt() + 1e-8))
        for (name, p), q in zip(net.named_parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(p, q, atol=1e-4, rtol=1e-3, msg=name)


def test_the_learning_rate_rises_then_falls_as_a_cosine() -> None:
    config = OptimizerConfig(learning_rate=1e-3, warmup=0.1, final=0.1)
    rates = [config.rate(step, 1000) for step in range(1000)]
    assert rates[0] == pytest.approx(1e-5)
    assert rates[49] == pytest.approx(5e-4)
    assert rates[99] == pytest.approx(1e-3) == max(rates)
    assert rates[549] == pytest.approx(5.5e-4)
    assert rates[999] == pytest.approx(1e-4) == min(rates[100:])
    assert rates[:100] == sorted(rates[:100]) and rates[99:] == sorted(rates[99:], reverse=True)


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.5, 1.0])
def test_short_runs_have_sound_learning_rates(steps: int, warmup: float) -> None:
    config = OptimizerConfig(learning_rate=1.0, warmup=warmup, final=0.2)
    rates = [config.rate(step, steps) for step in range(steps)]
    assert all(0 < rate <= 1.0 for rate in rates) and max(rates) == pytest.approx(1.0)
    if round(warmup * steps) < steps and steps > 1:
        assert rates[-1] == pytest.approx(0.2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"learning_rate": float("inf")},
        {"warmup": 1.1},
        {"final": -0.1},
        {"weight_decay": -1.0},
        {"beta1": 1.0},
        {"beta2": -0.1},
        {"clip": 0.0},
        {"clip": float("nan")},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        OptimizerConfig(**wrong)
