"""The learning rate found as the paper found it: short runs, and the one that loses least on held-out text.

Rates stand a factor of two apart around the recipe's. While the best is the lowest or the highest of them, one
more is tried beyond it. Each short run has warm-up and decay of its own, sees the same tokens in the same order
and begins from the same weights; it stays in RUN/tuning, so that the same command goes on where it was.

    gpt2 train --tokens TOKENS --out RUN --tune-lr 300 --steps 20000
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from gpt2.console import QUIET, Console
from gpt2.errors import ConfigError, InputError, WorkbenchError
from gpt2.training.plan import TrainConfig
from gpt2.training.recipes import rounded
from gpt2.training.trainer import Callback, train

FACTOR, AROUND, MOST = 2.0, 1, 9
"""Ratio of two neighbours, rates tried at first on each side of the middle one, and rates in all."""


@dataclass(frozen=True)
class Trial:
    """A short run."""

    learning_rate: float
    """Its highest learning rate."""
    heldout_loss: float
    """What it ended with, in nats a token; infinite when its loss became no number."""


def tune(
    config: TrainConfig, steps: int, callbacks: Sequence[Callback], console: Console = QUIET
) -> list[Trial]:
    """Short runs at rates around the config's own, lowest rate first; `best` of them is the one to take.

    `callbacks` must measure `heldout_loss`. Raises `ConfigError` when they do not, or under torchrun.
    """
    if "RANK" in os.environ:
        raise ConfigError("learning rates are tuned by one process; start it without torchrun")
    middle, done = config.optimizer.learning_rate, dict[int, Trial]()
    wanted = list(range(-AROUND, AROUND + 1))
    while wanted:
        for i in wanted:
            rate = rounded(middle * FACTOR**i)
            done[i] = Trial(rate, heldout_loss(config, rate, steps, callbacks, console))
        place = min(done, key=lambda i: done[i].heldout_loss)
        edges = {min(done): min(done) - 1, max(done): max(done) + 1}
        wanted = [edges[place]] if place in edges and len(done) < MOST else []
    if not any(math.isfinite(trial.heldout_loss) for trial in done.values()):
        raise ConfigError(
            f"no learning rate from {done[min(done)].learning_rate:g} to {done[max(done)].learning_rate:g} gave a "
            "loss that is a number; is the data what it should be?"
        )
    return [done[i] for i in sorted(done)]


def best(trials: Sequence[Trial]) -> Trial:
    """The trial that lost least."""
    return min(trials, key=lambda trial: trial.heldout_loss)


def heldout_loss(
    config: TrainConfig, rate: float, steps: int, callbacks: Sequence[Callback], console: Console
) -> float:
    """What one short run ends with."""
    short = dataclasses.replace(
        config,
        out=config.out / "tuning" / f"{rate:g}",
        optimizer=dataclasses.replace(config.optimizer, learning_rate=rate),
        steps=steps,
        train_tokens=None,
        minutes=None,
        callback_every=steps,
        ema=None,
        tensorboard=False,
        keep_best=False,
        keep_every=None,
        on_spike="note",
    )
    try:
        row = train(short, callbacks, resume_run=True, console=console).metrics[-1]
    except InputError:
        raise
    except WorkbenchError as error:
        console.say(f"learning rate {rate:g}: {error}")
        return math.inf
    if "heldout_loss" not in row:
        raise ConfigError("learning rates are compared on held-out documents; write shards that have some")
    console.say(f"learning rate {rate:g}: held-out loss {row['heldout_loss']:.4f} after {steps:,} steps")
    return float(row["heldout_loss"])
