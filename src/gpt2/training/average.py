"""An average of the weights over the run: often a better model than the last weights are.

After step t each averaged weight moves towards the weight by 1 - min(decay, t / (t + 9)): the first steps,
whose weights are worth little, are forgotten quickly, as in TensorFlow's ExponentialMovingAverage. It costs
4 bytes a weight, and is saved as a model of its own in RUN/checkpoint/average.

    gpt2 train --tokens TOKENS --out RUN --steps 20000 --ema 0.999
    gpt2 generate RUN/checkpoint/average "The"
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gpt2.training.parallel import Crew


class Average:
    """The exponential moving average of weights by name; with `fsdp`, of this process's parts."""

    def __init__(self, kept: Mapping[str, Tensor], decay: float, crew: Crew) -> None:
        self.kept, self.decay, self.crew = kept, decay, crew
        self.weights: dict[str, Tensor] = {n: p.detach().clone() for n, p in kept.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step 1, 2, ..."""
        move = 1 - min(self.decay, step / (step + 9))
        for averaged, p in zip(self.weights.values(), self.kept.values(), strict=True):
            self.crew.own(averaged).lerp_(self.crew.own(p), move)
