"""Layer rates, slanted triangles and unfreezing, at worked steps of the published formulas."""

from __future__ import annotations

import pytest
import torch

from gpt2.errors import ConfigError
from gpt2.finetuning.methods import Gentle, Methods, layer_of, layer_rates, slanted_triangular, thawed
from gpt2.model.config import GPT2Config
from gpt2.model.device import PLAIN as COMPUTE
from gpt2.model.transformer import GPT2
from gpt2.training.optimizer import OptimizerConfig
from gpt2.training.speed import make_learner

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPE = GPT2Config(n_layer=2, n_head=2, n_embd=8, vocab_size=20, n_ctx=8)


def test_layers_are_found_by_name() -> None:
    names = {
        "wte.weight": 0,
        "wpe.weight": 0,
        "h.0.ln_1.weight": 1,
        "h.11.mlp.c_proj.bias": 12,
        "ln_f.bias": 13,
        "head.weight": 13,
        "net.h.3.attn.c_attn.weight": 4,
        "network.wpe.weight": 0,
        "net.wte.marks": 13,
    }
    assert {name: layer_of(name, 12) for name in names} == names
    with torch.device("meta"):
        net = GPT2(SHAPE)
    assert {layer_of(name, 2) for name, _ in net.named_parameters()} == {0, 1, 2, 3}


def test_each_layer_learns_at_the_rate_above_it_divided_by_2_6() -> None:
    # Howard and Ruder (2018), section 3.2: eta^(l-1) = eta^l / 2.6
    rates = layer_rates(3)
    assert rates == pytest.approx([1 / 2.6**4, 1 / 2.6**3, 1 / 2.6**2, 1 / 2.6, 1])
    assert rates[0] == pytest.approx(0.021882987290361, abs=1e-12)
    assert layer_rates(3, 1) == [1] * 5
    with pytest.raises(ConfigError, match="1 or more"):
        layer_rates(3, 0.5)


@pytest.mark.parametrize(
    ("step", "share"),
    [  # equation 3 with T = 1000, cut_frac 0.1, ratio 32, by hand: cut = 100, p = t / 100 or 1 - (t - 100) / 900
        (0, 1 / 32),
        (25, (1 + 0.25 * 31) / 32),
        (50, 16.5 / 32),
        (99, (1 + 0.99 * 31) / 32),
        (100, 1.0),
        (550, 16.5 / 32),
        (775, (1 + 0.25 * 31) / 32),
        (999, (1 + 31 / 900) / 32),
    ],
)
def test_slanted_triangles_are_those_of_the_formula(step: int, share: float) -> None:
    assert slanted_triangular(step, 1000) == pytest.approx(share, rel=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 7, 19, 63, 1000])
def test_slanted_triangles_stay_between_their_lowest_and_their_highest(steps: int) -> None:
    shares = [slanted_triangular(step, steps) for step in range(steps)]
    assert min(shares) >= 1 / 32 and max(shares) <= 1
    top = shares.index(max(shares))
    assert shares[: top + 1] == sorted(shares[: top + 1]) and shares[top:] == sorted(
        shares[top:], reverse=True
    )
    assert max(shares) == 1 or steps == 1


@pytest.mark.parametrize(("cut", "ratio"), [(0.0, 32), (1.0, 32), (0.1, 0.5)])
def test_impossible_triangles_are_refused(cut: float, ratio: float) -> None:
    with pytest.raises(ConfigError):
        slanted_triangular(0, 10, cut, ratio)


def test_one_layer_more_is_thawed_with_each_stage() -> None:
    # Howard and Ruder (2018), section 3.3: the last layer for one epoch, then one more each epoch, then all
    by_epoch = [thawed(epoch * 50 + 49, 300, 2, stage=50) for epoch in range(6)]
    assert by_epoch == [{3}, {2, 3}, {1, 2, 3}, {0, 1, 2, 3}, {0, 1, 2, 3}, {0, 1, 2, 3}]
    assert thawed(50, 300, 2, stage=50) == {2, 3}
    shared = [thawed(step, 8, 2) for step in range(8)]
    assert shared == [{3}, {3}, {2, 3}, {2, 3}, {1, 2, 3}, {1, 2, 3}, {0, 1, 2, 3}, {0, 1, 2, 3}]
    assert thawed(0, 1, 2) == {3}


def test_methods_combine_in_the_weights_that_they_change() -> None:
    method = Gentle(Methods(layer_factor=2.6, slanted=True, unfreeze=True))
    assert method.settings == {"layer_factor": 2.6, "slanted": True, "unfreeze": True}
    net = GPT2(SHAPE)
    method.prepare(net)
    optimizer = OptimizerConfig(learning_rate=1e-2, weight_decay=0.0)
    learner = make_learner(net, optimizer, COMPUTE, method=method)
    ids = torch.randint(0, 20, (4, 9), generator=torch.Generator().manual_seed(0))
    layers = [
        {"ln_f", "wte"},
        {"h.1"},
        {"h.0"},
        {"wpe"},
    ]  # the head is the token embedding, so it is of the top
    for step in range(8):
        before = {name: p.detach().clone() for name, p in net.named_parameters()}
        method.thaw(net, step, 8)
        learner.gradients(ids)
        rate = method.rate(optimizer, step, 8)
        assert rate == pytest.approx(1e-2 * slanted_triangular(step, 8))
        learner.update(rate)
        learning = set().union(*layers[: step // 2 + 1])
        changed = {
            name.rpartition(".")[0] if name.count(".") == 1 else ".".join(name.split(".")[:2])
            for name, p in net.named_parameters()
            if not torch.equal(p, before[name])
        }
        assert changed == learning, f"step {step}"
    shares = {
        name: group["lr"] / rate
        for group in learner.optimizer.param_groups
        for name, p in net.named_parameters()
        if any(p is q for q in group["params"])
    }
    assert shares["wte.weight"] == shares["ln_f.bias"] == pytest.approx(1)
    assert shares["h.1.mlp.c_fc.weight"] == pytest.approx(1 / 2.6)
    assert shares["h.0.ln_1.bias"] == pytest.approx(1 / 2.6**2)
    assert shares["wpe.weight"] == pytest.approx(1 / 2.6**3)


def test_without_methods_nothing_is_changed_and_nothing_recorded() -> None:
    method = Gentle(Methods())
    net = GPT2(SHAPE)
    method.prepare(net)
    assert method.settings == {} and method.share("wpe.weight") == 1
    optimizer = OptimizerConfig()
    assert [method.rate(optimizer, s, 9) for s in range(9)] == [optimizer.rate(s, 9) for s in range(9)]
    method.thaw(net, 0, 9)
    assert all(p.requires_grad for p in net.parameters())
    with pytest.raises(ConfigError):
        Methods(layer_factor=0.1)
