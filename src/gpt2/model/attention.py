"""Causal attention for training on a processor: `attend`, and its readable twin `attend_plainly`.

Both are equal to `F.scaled_dot_product_attention(q, k, v, is_causal=True)`, whose backward pass in bfloat16
takes about twice as long on a processor. Queries are taken `ROWS` at a time, so that the keys which none of
them may see are skipped. Autograd would keep the probabilities of the plain form in float32 and again in
bfloat16, most of a step's memory at a context of 1,024. `attend` keeps them once, in its input's format, and
of a longer text than `KEPT` not at all: there they are computed again in the backward pass.

    python benchmarks/loss.py

Shapes: B batch, H heads, T time, D channels of a head, N = B H.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

ROWS = 128
"""Queries that are taken at a time."""
KEPT = 512
"""Longest text whose probabilities are kept."""


def attend_plainly(q: Tensor, k: Tensor, v: Tensor, apart: Tensor | None = None) -> Tensor:
    """Causal attention of [B, H, T, D]; `apart` [B, 1, T, T] is true where a query may not see a key besides."""
    T, D = q.shape[2:]
    hidden = torch.ones(T, T, dtype=torch.bool, device=q.device).triu(1)
    if apart is not None:
        hidden = hidden | apart
    scores = (q * D**-0.5) @ k.transpose(2, 3)  # [B, H, T, T]
    out: Tensor = scores.masked_fill(hidden, float("-inf")).softmax(dim=-1).to(v.dtype) @ v
    return out


def attend(q: Tensor, k: Tensor, v: Tensor, apart: Tensor | None = None) -> Tensor:
    """The same, faster and in less memory."""
    out: Tensor = CausalAttention.apply(q, k, v, apart)  # type: ignore[no-untyped-call]
    return out


class CausalAttention(torch.autograd.Function):
    """Row block by row block, forward and backward."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, apart: Tensor | None) -> Tensor:
        B, H, T, D = q.shape
        with torch.autocast(q.device.type, enabled=False):
            scaled, k, v = (x.reshape(B * H, T, D) for x in (q * D**-0.5, k, v))
            out, kept = torch.empty_like(scaled), []
            for i in range(0, T, ROWS):
                p = probabilities(scaled, k, i, apart)
                torch.bmm(p, v[:, : i + ROWS], out=out[:, i : i + ROWS])
                if T <= KEPT:
                    kept.append(p)
        ctx.save_for_backward(scaled, k, v, apart, *kept)
        return out.view(B, H, T, D)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        scaled, k, v, apart, *kept = ctx.saved_tensors
        (B, H, T, D), g = upstream[0].shape, upstream[0].reshape(scaled.shape)
        dq, dk, dv = torch.empty_like(scaled), torch.zeros_like(k), torch.zeros_like(v)
        for i in range(0, T, ROWS):
            j = min(i + ROWS, T)
            p = kept[i // ROWS] if kept else probabilities(scaled, k, i, apart)
            dp = torch.bmm(g[:, i:j], v[:, :j].transpose(1, 2))  # [N, rows, j]
            ds = torch._softmax_backward_data(dp, p, -1, p.dtype)
            torch.bmm(ds, k[:, :j], out=dq[:, i:j])
            dk[:, :j].baddbmm_(ds.transpose(1, 2), scaled[:, i:j])
            dv[:, :j].baddbmm_(p.transpose(1, 2), g[:, i:j])
        dq.mul_(D**-0.5)
        return dq.view(B, H, T, D), dk.view(B, H, T, D), dv.view(B, H, T, D), None


def probabilities(scaled: Tensor, k: Tensor, i: int, apart: Tensor | None) -> Tensor:
    """What `ROWS` queries from i on give to the keys up to the last of them: [N, rows, j]."""
    N, T, _ = k.shape
    j = min(i + ROWS, T)
    scores = torch.bmm(scaled[:, i:j], k[:, :j].transpose(1, 2))
    later = torch.full((j - i, j - i), float("-inf"), dtype=k.dtype, device=k.device).triu(1)
    scores[:, :, i:j] += later
    if apart is not None:
        B = len(apart)
        scores.view(B, N // B, j - i, j).masked_fill_(apart[:, :, i:j, :j], float("-inf"))
    return scores.softmax(dim=-1)  # summed in float32 inside, whatever the format
