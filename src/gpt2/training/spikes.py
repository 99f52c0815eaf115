"""Steps that go wrong: a loss or a gradient that is no number, or far above what it has been lately.

A step is odd when its loss or the norm of its gradient stands more than `LIMIT` standard deviations above the
mean of the last `WINDOW` steps; of fewer than `FEWEST` nothing is said. What is done about it is the run's
`on_spike`:

    note   say so, and learn from it as from any step; stop only when it is no number (the default)
    skip   do not learn from this batch; the step counts, its batch is passed over
    stop   end the run before the weights are changed
    back   return to the last checkpoint and pass over all batches from there to this one

The window is a part of the checkpoint, so a resumed run judges as the undisturbed one does. What was skipped
does not enter it; `MOST` skips in a row, or returns in a run, end the run: then it is no matter of single
batches. With `back` the run depends on when checkpoints were made, and so on the clock.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from gpt2.errors import WorkbenchError

OnSpike = Literal["note", "skip", "stop", "back"]
WINDOW, FEWEST = 128, 32
"""Steps that a step is compared with: at most, and at least."""
LIMIT = 6.0
"""Standard deviations above the mean."""
SMALLEST = 0.01
"""A standard deviation counts as at least this share of its mean."""
MOST = 10


@dataclass
class Spikes:
    """Loss and gradient norm of the last steps."""

    losses: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    norms: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def judge(self, loss: float, norm: float) -> str | None:
        """What is odd about a step, in words, or None."""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return f"the loss was {loss} and its gradient {norm}"
        for name, value, window in (
            ("loss", loss, self.losses),
            ("norm of the gradient", norm, self.norms),
        ):
            z = score(value, window)
            if z > LIMIT:
                return f"the {name} was {value:.4g}, {z:.1f} standard deviations above its last {len(window)}"
        return None

    def admit(self, loss: float, norm: float) -> None:
        """Let a step that was learned from be one that others are compared with."""
        self.losses.append(loss)
        self.norms.append(norm)


def score(value: float, window: deque[float]) -> float:
    """Standard deviations of `value` above the mean of a window; 0 while that is too short."""
    if len(window) < FEWEST:
        return 0.0
    mean, deviation = float(np.mean(window)), float(np.std(window))
    return (value - mean) / max(deviation, SMALLEST * abs(mean), 1e-12)


def too_many(what: str, step: int, odd: str, rate: float) -> WorkbenchError:
    """The end of a run that `skip` or `back` could not mend."""
    return WorkbenchError(
        f"at step {step} {odd}, after {what}; the cause is not single batches: "
        f"train anew in another folder, with a learning rate below {rate:g}"
    )


def stopped(step: int, odd: str, rate: float, number: bool) -> WorkbenchError:
    """The end of a run at an odd step."""
    if number:
        return WorkbenchError(
            f"at step {step} {odd}; the last checkpoint is from before it: go on with --resume and --on-spike "
            "skip, back or note"
        )
    return WorkbenchError(
        f"at step {step} {odd}, which cannot be learned from; go on with --resume and --on-spike back, or "
        f"train anew in another folder, with a learning rate below {rate:g}"
    )
