"""What changes the weights, and the learning rate of each step.

The paper names no optimizer. The settings are GPT-3's (Brown et al., 2020, appendix B): AdamW with betas 0.9
and 0.95, epsilon 1e-8, weight decay 0.1 on matrices and embeddings only, gradients clipped to norm 1, a linear
warm-up and a cosine down to a tenth. Others are there for recipes (`recipes.py`): Muon for the hidden matrices
(`muon.py`), a straight line down, or a plateau and then a straight line. The learning rate is a function of
the step alone.

    python -c "from gpt2.training.optimizer import *; print([OptimizerConfig().rate(s, 9) for s in range(9)])"
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from gpt2.errors import ConfigError
from gpt2.training.muon import Muon, momentum_of

PLATEAU = 0.6
"""Share of the steps after the warm-up in which a trapezoid stays at the highest rate."""


@dataclass(frozen=True)
class OptimizerConfig:
    """How weights are changed."""

    learning_rate: float = 6e-4
    """The highest learning rate, reached at the end of the warm-up."""
    warmup: float = 0.05
    """Share of all steps in which the learning rate rises; the highest is that of the last of them."""
    longest_warmup: int | None = None
    """Steps that the warm-up takes at most."""
    schedule: Literal["cosine", "linear", "trapezoid"] = "cosine"
    """How the learning rate falls after the warm-up."""
    final: float = 0.1
    """Learning rate of the last step, as a share of the highest."""
    weight_decay: float = 0.1
    """Pull towards 0 on tensors of two dimensions."""
    beta1: float = 0.9
    """Memory of the mean gradient."""
    beta2: float = 0.95
    """Memory of the mean squared gradient."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    matrices: Literal["adamw", "muon"] = "adamw"
    """What changes the hidden matrices; embeddings, norms and biases are always AdamW's."""

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < float("inf"):
            raise ConfigError(f"learning_rate must be above 0, not {self.learning_rate}")
        for name in ("warmup", "final"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is a share between 0 and 1, not {getattr(self, name)}")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 0 and below 1, not {getattr(self, name)}")
        if not 0 <= self.weight_decay < float("inf"):
            raise ConfigError(f"weight_decay must be 0 or more, not {self.weight_decay}")
        if not self.clip > 0:
            raise ConfigError(f"clip must be above 0, not {self.clip}")
        if self.longest_warmup is not None and self.longest_warmup < 1:
            raise ConfigError(f"longest_warmup must be at least 1 step, not {self.longest_warmup}")
        for name, known in (("schedule", SCHEDULES), ("matrices", ("adamw", "muon"))):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} is one of {', '.join(known)}, not {getattr(self, name)!r}")

    def warm(self, steps: int) -> int:
        """Steps of the warm-up, of all `steps`."""
        return max(1, min(round(self.warmup * steps), self.longest_warmup or steps))

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step 0 ... steps - 1."""
        warm = self.warm(steps)
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        progress = (step + 1 - warm) / (steps - warm)  # 0 at the end of the warm-up, 1 at the last step
        low = self.final * self.learning_rate
        return low + (self.learning_rate - low) * SCHEDULES[self.schedule](progress)


SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    "linear": lambda progress: 1 - progress,
    "trapezoid": lambda progress: min(1.0, (1 - progress) / (1 - PLATEAU)),
}


def make_optimizer(
    net: nn.Module,
    config: OptimizerConfig,
    dtype: torch.dtype = torch.float32,
    share: Callable[[str], float] = lambda name: 1.0,  # noqa: ARG005
) -> torch.optim.Optimizer:
    """AdamW with decay on tensors of two dimensions only, or Muon with it; `dtype` is that of Muon's products.

    A parameter learns at `share` of its name times the rate, which stands as "share" in its group.
    """
    named = {name: p for name, p in net.named_parameters() if p.requires_grad}
    hidden = [n for n, p in named.items() if p.dim() == 2 and n not in ("wte.weight", "wpe.weight")]
    taken = set(hidden) if config.matrices == "muon" else set()
    rest = set(named) - taken
    shares = {name: share(name) for name in named}
    if taken and set(shares.values()) != {1.0}:
        raise ConfigError("with Muon all layers learn at one rate; take AdamW for rates of their own")
    groups = [
        {"params": chosen, "weight_decay": decay, "share": part}
        for part in sorted(set(shares.values()), reverse=True)
        for decay, matrix in ((config.weight_decay, True), (0.0, False))
        if (
            chosen := [
                p for n, p in named.items() if n in rest and shares[n] == part and (p.dim() >= 2) == matrix
            ]
        )
    ]
    rate, betas = config.learning_rate, (config.beta1, config.beta2)
    if taken:
        matrices = [(named[name], 3 if name.endswith("c_attn.weight") else 1) for name in hidden]
        return Muon(matrices, groups, rate, config.weight_decay, betas, dtype)
    return torch.optim.AdamW(groups, lr=rate, betas=betas, eps=1e-8, fused=True)


def fresh(optimizer: torch.optim.Optimizer, p: Tensor) -> dict[str, Tensor]:
    """What an optimizer of `make_optimizer` knows of a weight before the first step."""
    if isinstance(optimizer, Muon) and any(p is q for q in optimizer.param_groups[0]["params"]):
        return momentum_of(p)
    step = torch.zeros((), device=p.device)
    return {"step": step, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
