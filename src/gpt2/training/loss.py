"""Next-token cross entropy, without ever holding the logits of a whole batch.

With a small network and a vocabulary of thousands, most of a step's memory and much of its time is the
logits: written, read by the softmax, written again as gradient. `chunked_cross_entropy` makes them a slice
at a time, small enough to stay near the processor, and takes both gradients (of the hidden states and
of the tied embedding) at once while the slice is there. `plain_cross_entropy` is its readable twin; tests
hold the two equal. On a processor the chunked one takes a quarter (24 channels) to two thirds (224) of it.

    python benchmarks/loss.py
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LOGITS_AT_ONCE, ROWS = 2**19, 256
"""Logits in a slice, 2 MB of float32; more where these are too few rows for the matrix products."""
CACHED, LONG_ROWS = 2**23, 1024
"""Of an embedding with more numbers every slice reads and writes the gradient from memory, so slices are longer."""


def slice_rows(V: int, C: int) -> int:
    """Rows of a slice, under an embedding [V, C]."""
    return max(LOGITS_AT_ONCE // V, ROWS if V * C <= CACHED else LONG_ROWS)


def plain_cross_entropy(hidden: Tensor, embedding: Tensor, targets: Tensor) -> Tensor:
    """hidden [N, C], embedding [V, C], targets [N] -> mean loss in nats a token."""
    return F.cross_entropy(F.linear(hidden, embedding).float(), targets)


def chunked_cross_entropy(hidden: Tensor, embedding: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
    """The same, slice by slice; matrix products in `dtype`, the softmax in float32."""
    loss: Tensor = ChunkedCrossEntropy.apply(hidden, embedding, targets, dtype)  # type: ignore[no-untyped-call]
    return loss


class ChunkedCrossEntropy(torch.autograd.Function):
    """Loss and gradients in the forward pass; the backward pass only scales them."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, embedding: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        N, V = hidden.shape[0], embedding.shape[0]
        rows = slice_rows(V, embedding.shape[1])
        x, w = hidden.to(dtype), embedding.to(dtype)
        dx = torch.empty_like(hidden)
        dw = torch.zeros_like(embedding) if ctx.needs_input_grad[1] else None  # not where it is frozen
        total = torch.zeros((), dtype=torch.float64 if hidden.device.type == "cpu" else torch.float32)
        total = total.to(hidden.device)
        for i in range(0, N, rows):
            part, target = x[i : i + rows], targets[i : i + rows, None]  # [n, C], [n, 1]
            logits = (part @ w.t()).float()  # [n, V]
            p = logits.softmax(dim=1)
            # Of the highest logit z, log p = z - log(sum of exp): that sum without a second pass of exp.
            log_sum = logits.amax(dim=1) - p.amax(dim=1).log()  # [n]
            total += (log_sum - logits.gather(1, target)[:, 0]).sum()
            del logits
            p.scatter_add_(1, target, p.new_full(target.shape, -1.0))  # d loss / d logits, times N
            p = p.to(dtype)
            dx[i : i + rows] = p @ w
            if dw is not None:
                dw += p.t() @ part
        ctx.save_for_backward(dx.div_(N), None if dw is None else dw.div_(N))
        return (total / N).float()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        dx, dw = ctx.saved_tensors
        return dx * upstream[0], None if dw is None else dw * upstream[0], None, None
