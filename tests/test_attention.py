"""Attention for training on a processor equals the plain form and torch's own, and keeps little."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from gpt2.model.attention import KEPT, ROWS, attend, attend_plainly

pytestmark = pytest.mark.usefixtures("one_thread")


def documents(T: int) -> torch.Tensor:
    """[2, 1, T, T], true where a token of one document would see another: borders at a third and in the middle."""
    number = torch.stack([torch.arange(T) >= T // 3, torch.arange(T) >= T // 2]).long()  # [B, T]
    return (number[:, :, None] != number[:, None, :])[:, None]


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("T", [1, 5, ROWS - 1, ROWS, ROWS + 1, 300, KEPT + 100])
def test_values_and_gradients_equal_the_plain_form_and_torchs_own(
    T: int, dtype: torch.dtype, apart: bool
) -> None:
    generator = torch.Generator().manual_seed(T)
    whole = torch.randn(2, T, 3, 4, 8, generator=generator) * 2  # as a block makes them: not contiguous
    weights = torch.randn(2, 4, T, 8, generator=generator)
    mask = documents(T) if apart else None
    seen = (
        torch.ones(T, T, dtype=torch.bool).tril() if mask is None else ~mask & torch.ones(T, T).tril().bool()
    )
    results = []
    for f, kind in (
        (lambda q, k, v: attend(q, k, v, mask), dtype),
        (lambda q, k, v: attend_plainly(q, k, v, mask), torch.float64),
        (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=seen), torch.float64),
    ):
        parts = [x.to(kind).requires_grad_() for x in whole.permute(2, 0, 3, 1, 4)]
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
            y = f(*parts)  # type: ignore[no-untyped-call]
        assert y.dtype == kind
        results.append([y.detach(), *torch.autograd.grad((y * weights.to(kind)).sum(), parts)])
    near = 1e-5 if dtype == torch.float32 else 0.02
    for ours, plain, torchs in zip(*results, strict=True):
        torch.testing.assert_close(plain, torchs, atol=1e-10, rtol=1e-10)
        assert (ours.double() - plain).norm() <= near * plain.norm() + 1e-6


@pytest.mark.parametrize("T", [KEPT, 2 * KEPT])
def test_probabilities_are_kept_once_or_not_at_all(T: int) -> None:
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    N, D = 6, 8
    q, k, v = (torch.randn(2, 3, T, D).bfloat16().requires_grad_() for _ in range(3))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = attend(q, k, v)
    assert y.requires_grad
    causal = 2 * N * sum(ROWS * j for j in range(ROWS, T + 1, ROWS)) if T <= KEPT else 0
    assert sum(kept.values()) == causal + 3 * 2 * N * T * D
