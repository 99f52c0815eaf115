"""One step of learning: loss, gradients, clipped, AdamW.

The loss is one module whose forward is the mean cross entropy of ids [B, T + 1], so that DDP and FSDP2 wrap
it as they wrap any. A step may be taken in parts: gradients add up over them and are exchanged between
processes once. `recompute` keeps only what enters each block and computes the block again in the backward
pass: a third more work, and of a block's activations only one block's at a time in memory; the gradients
are the same to the bit. Rejected for it: torch's wrapper module, which renames the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gpt2.model.device import DTYPES, Compute
from gpt2.model.transformer import GPT2
from gpt2.training.loss import chunked_cross_entropy
from gpt2.training.method import PLAIN, Method
from gpt2.training.parallel import ALONE, Crew


class NextTokenLoss(nn.Module):
    """ids [B, T + 1] -> mean loss in nats a token; with `end_of_text`, each document as if it stood alone."""

    def __init__(self, net: GPT2, compute: Compute, end_of_text: int | None = None) -> None:
        super().__init__()
        self.net, self.compute, self.end_of_text = net, compute, end_of_text

    def forward(self, ids: Tensor) -> Tensor:
        inputs, documents = ids[:, :-1], None
        if self.end_of_text is not None:
            documents = (inputs == self.end_of_text).cumsum(1)  # [B, T]
        with self.compute.autocast(ids):
            hidden = self.net.hidden(inputs, documents=documents).flatten(0, 1)  # [B T, C]
        dtype = DTYPES[self.compute.dtype]
        return chunked_cross_entropy(hidden, self.net.wte.weight, ids[:, 1:].flatten(), dtype)


def recomputed(net: GPT2) -> GPT2:
    """The network, its blocks' activations computed again in the backward pass instead of kept."""
    for block in net.h:
        again = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
        block.forward = again
    return net


@dataclass(frozen=True)
class Learner:
    """A network and what changes it."""

    net: GPT2
    loss: nn.Module
    """`NextTokenLoss` of the network, wrapped for its crew."""
    optimizer: torch.optim.Optimizer
    clip: float
    device: str
    accumulate: int = 1
    crew: Crew = ALONE
    beside_weight: float = 0.0
    """Weight of the loss on the ids that are learned from beside."""
    method: Method = PLAIN

    def gradients(self, ids: Tensor, beside: Tensor | None = None) -> tuple[float, float]:
        """From a step's ids [B, T + 1]: this process's mean loss in nats a token, and the norm of the gradient
        of all processes, before it was clipped. `beside` are other ids, whose weighted loss is learned from too.
        """
        parts = [(part, 1.0) for part in self.crew.share(ids, self.accumulate)]
        others = [] if beside is None else self.crew.share(beside, self.accumulate)
        parts += [(part, self.beside_weight) for part in others]
        total = torch.zeros((), device=self.device)
        for i, (part, weight) in enumerate(parts):
            with self.crew.part(self.loss, last=i == len(parts) - 1):
                loss = self.loss(part.to(self.device)) / self.accumulate
                (loss if weight == 1 else loss * weight).backward()
            if i < self.accumulate:
                total += loss.detach()
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.clip)
        return float(total), float(self.crew.whole(norm))

    def update(self, rate: float) -> None:
        """Change the weights at a learning rate, and be ready for the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("share", 1.0)
        self.optimizer.step()
        self.forget()

    def forget(self) -> None:
        """Drop the gradients."""
        self.optimizer.zero_grad(set_to_none=True)


def train_step(
    net: GPT2, optimizer: torch.optim.Optimizer, ids: Tensor, rate: float, clip: float, compute: Compute
) -> tuple[float, float]:
    """One step on ids [B, T + 1]: the loss before it in nats a token, and the gradient's norm before clipping."""
    learner = Learner(net, NextTokenLoss(net, compute), optimizer, clip, compute.device)
    loss, norm = learner.gradients(ids)
    learner.update(rate)
    return loss, norm
