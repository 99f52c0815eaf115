"""The network against transformers' GPT-2 with the same weights, and against itself."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from huggingface import CONV1D, to_huggingface

from gpt2.errors import ConfigError, InputError
from gpt2.model.config import GPT2Config
from gpt2.model.transformer import GPT2

TINY = GPT2Config(n_layer=2, n_head=2, n_embd=16, vocab_size=97, n_ctx=32)


def roughen(net: GPT2) -> GPT2:
    """Give biases and layer norms values that matter."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.02)
    return net


def random_ids(config: GPT2Config, B: int, T: int) -> torch.Tensor:
    return torch.randint(0, config.vocab_size, (B, T), generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize(
    ("names", "parameters"),
    [
        (("117M", "124M"), 124_439_808),
        (("345M", "355M"), 354_823_168),
        (("762M", "774M"), 774_030_080),
        (("1542M", "1558M"), 1_557_611_200),
    ],
)
def test_parameter_counts(names: tuple[str, str], parameters: int) -> None:
    for name in names:
        config = GPT2Config.size(name)
        assert config.num_parameters() == parameters
        with torch.device("meta"):
            net = GPT2(config)
        assert net.num_parameters() == parameters
        assert config.n_embd // config.n_head == 64


def test_the_network_has_as_many_parameters_as_its_config_says() -> None:
    for config in (TINY, GPT2Config.size("124M")):
        with torch.device("meta"):
            net = GPT2(config)
        assert net.num_parameters() == config.num_parameters()
        embeddings = net.wte.weight.numel() + net.wpe.weight.numel()
        assert config.num_parameters(embeddings=False) == net.num_parameters() - embeddings


# The widths and head counts of all four sizes; fewer layers and tokens, so that all fit a small machine.
@pytest.mark.parametrize(("name", "layers"), [("124M", 12), ("355M", 2), ("774M", 2), ("1558M", 2)])
def test_logits_and_gradients_equal_transformers(name: str, layers: int) -> None:
    config = GPT2Config.size(name, n_layer=layers, vocab_size=3000)
    net = roughen(GPT2(config, seed=3))
    theirs = to_huggingface(net)
    ids = random_ids(config, 2, 32)
    ours_logits, their_logits = net(ids), theirs(ids).logits
    assert (ours_logits - their_logits).abs().max() < 1e-4
    for logits in (ours_logits, their_logits):
        F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    their_gradients = {n: p.grad for n, p in theirs.transformer.named_parameters()}
    for parameter, p in net.named_parameters():
        other = their_gradients[parameter]
        assert p.grad is not None and other is not None
        other = other.t() if parameter.endswith(CONV1D) else other
        assert (p.grad - other).norm() <= 1e-3 * other.norm() + 1e-9, parameter


@pytest.mark.parametrize("cuts", [[32], [1] * 32, [5, 1, 1, 20, 5], [31, 1]])
def test_going_on_from_a_state_equals_reading_at_once(cuts: list[int]) -> None:
    net = roughen(GPT2(TINY)).eval()
    ids = random_ids(TINY, 3, 32)
    with torch.no_grad():
        whole = net(ids)
        state, parts, at = net.start(3), [], 0
        for n in cuts:
            logits, state = net(ids[:, at : at + n], state)
            parts.append(logits)
            at += n
    assert state.length == 32
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=1e-5)


def test_a_state_has_the_room_and_the_format_asked_for() -> None:
    net = roughen(GPT2(TINY)).eval()
    ids = random_ids(TINY, 2, 12)
    with torch.no_grad():
        whole = net(ids)
        first, state = net(ids[:, :9], net.start(2, room=12))
        rest, state = net(ids[:, 9:], state)
        torch.testing.assert_close(torch.cat([first, rest], 1), whole, atol=1e-5, rtol=1e-5)
        assert (state.room, state.length) == (12, 12) and net.start(1).room == TINY.n_ctx
        with pytest.raises(InputError, match="13 tokens does not fit: the model reads 12"):
            net(ids[:, :1], state)
        half = net.start(1, 4, torch.bfloat16)
        assert {x.dtype for x in half.keys + half.values} == {torch.bfloat16}


def test_the_future_is_not_seen() -> None:
    net = roughen(GPT2(TINY)).eval()
    ids = random_ids(TINY, 1, 20)
    changed = ids.clone()
    changed[0, 12:] = (changed[0, 12:] + 1) % TINY.vocab_size
    with torch.no_grad():
        a, b = net(ids), net(changed)
    assert torch.equal(a[:, :12], b[:, :12])
    assert not torch.allclose(a[:, 12:], b[:, 12:])


def test_a_text_longer_than_the_context_is_refused() -> None:
    net = GPT2(TINY)
    with pytest.raises(InputError, match="33 tokens does not fit"):
        net(torch.zeros(1, 33, dtype=torch.long))
    _, state = net(torch.zeros(1, 30, dtype=torch.long), net.start())
    with pytest.raises(InputError, match="33 tokens does not fit"):
        net(torch.zeros(1, 3, dtype=torch.long), state)


def test_initial_weights_follow_the_paper() -> None:
    config = GPT2Config(n_layer=8, n_head=4, n_embd=256, vocab_size=1000, n_ctx=512)
    net = GPT2(config, seed=5)
    for name, p in net.named_parameters():
        if p.dim() == 2:
            expected = (
                0.02 / math.sqrt(16) if name.endswith("c_proj.weight") else 0.01 if "wpe" in name else 0.02
            )
            assert float(p.detach().std()) == pytest.approx(expected, rel=0.02), name
        else:
            assert bool((p == (1.0 if name.endswith("weight") else 0.0)).all()), name
    same, other = GPT2(config, seed=5), GPT2(config, seed=6)
    assert torch.equal(net.wte.weight, same.wte.weight)
    assert not torch.equal(net.wte.weight, other.wte.weight)


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean '124M'"):
        GPT2Config.size("125M")
    with pytest.raises(ConfigError, match="cannot be split evenly"):
        GPT2Config(n_embd=10, n_head=3)
    for wrong in (0, -3, 2**31, 1.5, "12", True, None):
        with pytest.raises(ConfigError, match="n_layer must be a whole number from 1 to"):
            GPT2Config(n_layer=wrong)
    for wrong in (0, -1e-5, 1, float("nan"), "1e-5", None):
        with pytest.raises(ConfigError, match="layer_norm_epsilon must be a number between 0 and 1"):
            GPT2Config(layer_norm_epsilon=wrong)
