"""Reading many tokens at once against the network read plainly, and beginnings shared against not shared."""

from __future__ import annotations

import copy
import gc
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.inference.prefill import Ids, PackedGPT2, attend, in_order, lay_out
from gpt2.model.config import GPT2Config
from gpt2.model.device import Compute
from gpt2.model.transformer import GPT2

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def net() -> GPT2:
    net = GPT2(GPT2Config(n_layer=3, n_head=4, n_embd=48, vocab_size=97, n_ctx=300), seed=1).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())) * 0.1)
    return net


def some_ids(n: int, seed: int) -> Ids:
    return np.random.default_rng(seed).integers(0, 97, n)


def families() -> list[Ids]:
    """Texts that share much, something, nothing, and everything."""
    a, b = some_ids(40, 1), some_ids(200, 2)
    texts = [np.concatenate([a, some_ids(n, n)]) for n in (1, 5, 30)]
    texts += [np.concatenate([a, some_ids(9, 3), some_ids(n, 9 + n)]) for n in (2, 7)]
    texts += [b, b[:50], b.copy(), np.concatenate([b, some_ids(90, 5)]), some_ids(1, 6), some_ids(280, 7)]
    return texts


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("sort", [True, False])
def test_every_place_reads_as_the_network_does_by_itself(net: GPT2, pack: bool, sort: bool) -> None:
    texts = families()
    order = in_order(texts) if sort else range(len(texts))
    layout = lay_out([texts[i] for i in order])
    reader = PackedGPT2(net, Compute("cpu", "float32", 1), pack)
    with torch.inference_mode():
        hidden = reader.hidden(layout)
        for i, places in zip(order, layout.places, strict=True):
            expected = net.hidden(torch.from_numpy(texts[i])[None])[0]
            torch.testing.assert_close(hidden[torch.from_numpy(places)], expected, atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(reader.logits(hidden), net.head(hidden), atol=2e-5, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0, 1), seed=st.integers(0, 99), dtype=st.sampled_from(["float32", "bfloat16"]))
def test_some_places_read_as_they_do_among_all(net: GPT2, share: float, seed: int, dtype: str) -> None:
    texts = families()
    layout = lay_out([texts[i] for i in in_order(texts)])
    n = len(layout.ids)
    chosen = np.flatnonzero(np.random.default_rng(seed).random(n) < share)
    reader = PackedGPT2(net, Compute("cpu", dtype, 1))
    with torch.inference_mode():
        expected = reader.hidden(layout)[torch.from_numpy(chosen)]
        tolerance = 2e-5 if dtype == "float32" else 0.15
        torch.testing.assert_close(reader.hidden(layout, chosen), expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("pack", [True, False])
def test_bfloat16_reads_nearly_the_same(net: GPT2, pack: bool) -> None:
    layout = lay_out(families())
    with torch.inference_mode():
        exact, near = (
            PackedGPT2(net, Compute("cpu", dtype, 1), pack).hidden(layout)
            for dtype in ("float32", "bfloat16")
        )
    assert not torch.equal(exact, near)
    assert float((exact - near).abs().mean()) < 0.02 * float(exact.abs().mean())


def test_packed_weights_are_kept_until_the_weights_change(net: GPT2) -> None:
    own, compute, layout = copy.deepcopy(net), Compute("cpu", "float32", 1), lay_out(families())
    first = PackedGPT2.of(own, compute)
    assert PackedGPT2.of(own, compute) is first
    assert PackedGPT2.of(own, Compute("cpu", "bfloat16", 1)) is not first
    before = PackedGPT2.of(own, compute).hidden(layout)
    with torch.no_grad():
        own.h[1].mlp.c_fc.weight.mul_(1.5)
    with torch.inference_mode():
        after = PackedGPT2.of(own, compute).hidden(layout)
        assert not torch.allclose(before, after)
        expected = own.hidden(torch.from_numpy(families()[-1])[None])[0]
        places = torch.from_numpy(layout.places[-1])
        torch.testing.assert_close(after[places], expected, atol=2e-5, rtol=1e-5)
    own.wpe.weight.data.mul_(2)
    own.ln_f.eps = 0.1
    with torch.inference_mode():
        again = PackedGPT2.of(own, compute).hidden(layout)[places]
        expected = own.hidden(torch.from_numpy(families()[-1])[None])[0]
        torch.testing.assert_close(again, expected, atol=2e-5, rtol=1e-5)
    held = weakref.ref(own)
    del own
    gc.collect()
    assert held() is None, "what is kept does not keep the network alive"


def test_a_beginning_is_laid_out_once() -> None:
    a, b = np.array([5, 6, 7, 8]), np.array([5, 6, 9])
    layout = lay_out([a, b, b, np.array([5, 6, 9, 1])])
    assert layout.ids.tolist() == [5, 6, 7, 8, 9, 1]
    assert layout.positions.tolist() == [0, 1, 2, 3, 2, 3]
    assert [p.tolist() for p in layout.places] == [[0, 1, 2, 3], [0, 1, 4], [0, 1, 4], [0, 1, 4, 5]]
    assert layout.shared == [0, 2, 3, 3]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers(0, 70_000), min_size=1, max_size=6), min_size=1, max_size=12))
def test_sorted_texts_share_all_they_can(lists: list[list[int]]) -> None:
    texts = [np.array(x) for x in lists]
    order = in_order(texts)
    assert [lists[i] for i in order] == sorted(lists)
    layout = lay_out([texts[i] for i in order])
    prefixes = {tuple(x[: n + 1]) for x in lists for n in range(len(x))}
    assert len(layout.ids) == len(prefixes), "each distinct beginning has one place"
    for i, places in zip(order, layout.places, strict=True):
        assert layout.ids[places].tolist() == lists[i]
        assert layout.positions[places].tolist() == list(range(len(lists[i])))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("n", "seen"), [(1, 0), (1, 9), (5, 0), (5, 60), (128, 0), (130, 0), (300, 77), (257, 1)]
)
def test_attention_equals_its_definition(dtype: torch.dtype, n: int, seen: int) -> None:
    generator = torch.Generator().manual_seed(n + seen)
    q = torch.randn(1, 2, n, 16, generator=generator).to(dtype)
    k, v = (torch.randn(1, 2, seen + n, 16, generator=generator).to(dtype) for _ in range(2))
    scores = q.double() @ k.double().transpose(2, 3) / 4
    scores.masked_fill_(torch.ones(n, seen + n).tril(seen) == 0, float("-inf"))
    expected = scores.softmax(-1) @ v.double()
    found = attend(q, k, v).double()
    torch.testing.assert_close(found, expected, atol=1e-5 if dtype == torch.float32 else 0.03, rtol=0)
