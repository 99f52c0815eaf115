"""How fast this machine trains: a timed trial, the rate of plain matrix products, and what share is used.

A token costs 6 operations for each weight of a matrix product (a multiplication and an addition, forward and
twice backward) and those of attention; the token embedding counts once, as the head. The peak is what plain
products of this machine reach in the run's own number format, measured in a tenth of a second at the start
of the run: a share of it means the same on every machine, which a data sheet's figure does not.

    python -c "from gpt2.model.device import choose; from gpt2.training.speed import *; print(matrix_peak(choose()))"
"""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F

from gpt2.model.config import GPT2Config
from gpt2.model.device import DTYPES, Compute
from gpt2.model.transformer import GPT2
from gpt2.training.batches import Batches
from gpt2.training.method import PLAIN, Method
from gpt2.training.optimizer import OptimizerConfig, make_optimizer
from gpt2.training.parallel import ALONE, Crew, products, wait_for
from gpt2.training.step import Learner, NextTokenLoss, recomputed

TRIAL_STEPS = 4
PEAK_SECONDS = 0.1


def operations(config: GPT2Config) -> int:
    """Floating-point operations of training on one token, at full context."""
    c = config
    weights = c.num_parameters(embeddings=False) + c.vocab_size * c.n_embd
    return 6 * weights + 6 * c.n_layer * c.n_ctx * c.n_embd  # attention sees half of the context on average


@torch.no_grad()
def matrix_peak(compute: Compute) -> float:
    """Operations a second of plain matrix products on this machine, the best of a tenth of a second."""
    n, best = products(compute.device), 0.0
    a = torch.ones(n, n, dtype=DTYPES[compute.dtype], device=compute.device)
    end = time.perf_counter() + PEAK_SECONDS
    while time.perf_counter() < end or not best:
        begun = time.perf_counter()
        F.linear(a, a)
        wait_for(compute.device)
        best = max(best, 2 * n**3 / (time.perf_counter() - begun))
    return best


def make_learner(
    net: GPT2,
    optimizer: OptimizerConfig,
    compute: Compute,
    crew: Crew = ALONE,
    accumulate: int = 1,
    recompute: bool = False,
    end_of_text: int | None = None,
    method: Method = PLAIN,
    beside_weight: float = 0.0,
) -> Learner:
    """What trains `net`, made ready by its method, whose weights must be where they are to be computed with."""
    loss = crew.wrap(NextTokenLoss(recomputed(net) if recompute else net, compute, end_of_text), net)
    changer = make_optimizer(net, optimizer, DTYPES[compute.dtype], method.share)
    return Learner(
        net, loss, changer, optimizer.clip, compute.device, accumulate, crew, beside_weight, method
    )


def seconds_per_step(
    model: GPT2Config,
    batches: Batches,
    optimizer: OptimizerConfig,
    compute: Compute,
    crew: Crew = ALONE,
    accumulate: int = 1,
    recompute: bool = False,
    end_of_text: int | None = None,
    method: Method = PLAIN,
    beside_weight: float = 0.0,
    beside: Batches | None = None,
    steps: int = TRIAL_STEPS,
) -> float:
    """Median time of a few steps on a throw-away network of the same shape."""
    net = GPT2(model)
    method.prepare(net)
    net.to(compute.device)
    learner = make_learner(
        net, optimizer, compute, crew, accumulate, recompute, end_of_text, method, beside_weight
    )
    times = []
    for step in range(steps + 1):
        begun = time.perf_counter()
        learner.gradients(batches[step], beside[step] if beside else None)
        learner.update(0.0)
        wait_for(compute.device)
        times.append(time.perf_counter() - begun)
    return sorted(times[1:])[steps // 2]
