"""AdamW as GPT-2's successors use it, and the learning rate of each step.

The paper names no optimizer. The settings are GPT-3's (Brown et al., 2020, appendix B): betas 0.9 and 0.95,
epsilon 1e-8, weight decay 0.1 on matrices and embeddings only, gradients clipped to norm 1, a linear
warm-up and a cosine down to a tenth. The learning rate is a function of the step alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from gpt2.errors import ConfigError


@dataclass(frozen=True)
class OptimizerConfig:
    """How weights are changed."""

    learning_rate: float = 6e-4
    """The highest learning rate, reached at the end of the warm-up."""
    warmup: float = 0.05
    """Share of all steps in which the learning rate rises; the highest is that of the last of them."""
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

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step 0 ... steps - 1."""
        warm = max(1, round(self.warmup * steps))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        progress = (step + 1 - warm) / (steps - warm)
        low = self.final * self.learning_rate
        return low + (self.learning_rate - low) * 0.5 * (1 + math.cos(math.pi * progress))


def make_optimizer(net: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW with decay on tensors of two dimensions only."""
    named = [p for p in net.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in named if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in named if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), eps=1e-8, fused=True
    )
