"""The chunked loss and its readable twin."""

from __future__ import annotations

import pytest
import torch

from gpt2.training import loss as loss_module
from gpt2.training.loss import chunked_cross_entropy, plain_cross_entropy, slice_rows


@pytest.mark.parametrize(
    ("n", "vocabulary", "rows"), [(50, 97, 7), (64, 4096, 128), (1, 5, 1), (300, 5000, 256)]
)
def test_loss_and_gradients_equal_the_plain_ones(
    n: int, vocabulary: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_module, "slice_rows", lambda V, C: rows)
    generator = torch.Generator().manual_seed(n)
    x = torch.randn(n, 24, generator=generator) * 3
    w = torch.randn(vocabulary, 24, generator=generator)
    y = torch.randint(0, vocabulary, (n,), generator=generator)
    results = []
    for f in (plain_cross_entropy, lambda a, b, c: chunked_cross_entropy(a, b, c, torch.float32)):
        a, b = x.clone().requires_grad_(), w.clone().requires_grad_()
        value = f(a, b, y)
        (value * 3).backward()
        results.append((value.detach(), a.grad, b.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_slices_of_a_large_vocabulary_are_long_enough_for_the_matrix_products() -> None:
    assert slice_rows(50_257, 768) == 1024 and slice_rows(8192, 384) == 256 and slice_rows(512, 24) == 1024


def test_bfloat16_products_stay_near() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 64, generator=generator)
    w = torch.randn(500, 64, generator=generator) * 0.3
    y = torch.randint(0, 500, (200,), generator=generator)
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        a, b = x.clone().requires_grad_(), w.clone().requires_grad_()
        value = chunked_cross_entropy(a, b, y, dtype)
        value.backward()
        assert a.grad is not None and b.grad is not None
        results.append((value.detach(), a.grad, b.grad))
    for exact, near in zip(*results, strict=True):
        assert near.dtype == torch.float32 and not torch.equal(exact, near)
        assert (exact - near).norm() < 0.01 * exact.norm()


def test_huge_logits_stay_finite() -> None:
    x = torch.full((3, 2), 1e4, requires_grad=True)
    w = torch.tensor([[1.0, 1.0], [-1.0, -1.0], [0.0, 0.0]], requires_grad=True)
    value = chunked_cross_entropy(x, w, torch.tensor([0, 0, 0]), torch.float32)
    value.backward()
    assert float(value.detach()) == 0.0
    assert x.grad is not None and bool(torch.isfinite(x.grad).all())
