"""Muon: the update of a hidden matrix made orthogonal before it is taken (`--recipe modern`).

The momentum of a matrix's gradient is nearly of low rank: a few directions are large, and the many small ones
are hardly learned from. Muon takes the nearest matrix with all singular values 1 in its place. That matrix is
U V^T of the singular value decomposition (`by_svd`, the readable twin); five Newton-Schulz steps come close
(singular values of 0.68 to 1.16, the very smallest less), with nothing but matrix products. Embeddings, layer
norms and biases stay with AdamW. Queries, keys and values are three matrices, though they are stored as one.

An orthogonal update of shape [m, n] has entries of root mean square 1 / sqrt(max(m, n)); times
0.2 sqrt(max(m, n)) they are as large as AdamW's usually are, so that both share one learning rate and one
weight decay. State of a matrix: its momentum, 4 bytes a weight where AdamW keeps 8.

Sources: K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024), for the update, its
coefficients, momentum 0.95 and Nesterov's form; J. Liu et al., "Muon is Scalable for LLM Training" (2025,
arXiv 2502.16982), for the 0.2 and the weight decay. Rejected: torch.optim.Muon, which does not know that
queries, keys and values are apart, nor the parts that FSDP makes of a matrix.

    gpt2 train --tokens TOKENS --out RUN --recipe modern --minutes 60
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
STEPS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Chosen by Jordan so that small singular values grow as fast as they can: x -> a x + b x^3 + c x^5."""
LIKE_ADAMW = 0.2
"""Root mean square of AdamW's usual update, as a share of the learning rate."""


class Muon(torch.optim.Optimizer):
    """Muon on `matrices`, each given with the number of equal parts it is made of, and AdamW on `others`.

    `others` are groups as AdamW takes them; `dtype` is that of the Newton-Schulz steps.
    """

    def __init__(
        self,
        matrices: Sequence[tuple[Tensor, int]],
        others: Sequence[dict[str, Any]],
        learning_rate: float,
        weight_decay: float,
        betas: tuple[float, float],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        group = {"params": [p for p, _ in matrices], "weight_decay": weight_decay}
        super().__init__([group], {"lr": learning_rate})
        self.parts, self.dtype = [parts for _, parts in matrices], dtype
        self.adam = torch.optim.AdamW(others, lr=learning_rate, betas=betas, eps=1e-8, fused=True)
        self.adam.state = self.state
        self.param_groups += self.adam.param_groups

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Change all weights by their gradients."""
        group = self.param_groups[0]
        for p, parts in zip(group["params"], self.parts, strict=True):
            if p.grad is None:
                continue
            state = self.state[p]
            if not state:
                state |= momentum_of(p)
            momentum = state["momentum"].lerp_(p.grad, 1 - MOMENTUM)
            update = whole(p.grad.lerp(momentum, MOMENTUM))  # Nesterov: as if the next gradient were this one
            rows, columns = update.shape[0] // parts, update.shape[1]
            update = newton_schulz(update.view(parts, rows, columns), self.dtype).view_as(update)
            p.mul_(1 - group["lr"] * group["weight_decay"])
            p.add_(own(update, p), alpha=-group["lr"] * LIKE_ADAMW * max(rows, columns) ** 0.5)
        self.adam.step()


def momentum_of(p: Tensor) -> dict[str, Tensor]:
    """What Muon knows of a matrix before the first step."""
    return {"momentum": torch.zeros_like(p)}


def newton_schulz(g: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Matrices [..., m, n] -> about U V^T of each, in float32."""
    a, b, c = COEFFICIENTS
    tall = g.shape[-2] > g.shape[-1]
    x = g.mT if tall else g
    x = (x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)).to(dtype)  # singular values at most 1
    for _ in range(STEPS):
        square = x @ x.mT  # [..., m, m] of the shorter side
        x = a * x + (b * square + c * square @ square) @ x
    out: Tensor = (x.mT if tall else x).float()
    return out


def by_svd(g: Tensor) -> Tensor:
    """The readable twin of `newton_schulz`: U V^T exactly."""
    u, _, vt = torch.linalg.svd(g, full_matrices=False)
    polar: Tensor = u @ vt
    return polar


def whole(tensor: Tensor) -> Tensor:
    """A matrix with the parts that other processes hold."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own(tensor: Tensor, p: Tensor) -> Tensor:
    """The part of a whole matrix that this process holds of `p`."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(p, DTensor):
        return tensor
    return distribute_tensor(tensor, p.device_mesh, p.placements, src_data_rank=None)
