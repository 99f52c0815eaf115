"""A run's metrics as TensorBoard reads them, beside metrics.jsonl.

    gpt2 train --tokens TOKENS --out RUN --minutes 60 --tensorboard
    tensorboard --logdir RUN

The files are in RUN/tensorboard and need the package tensorboard; what a resumed run does again replaces
what it had written. Rejected: writing events ourselves, whose format is TensorBoard's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpt2.errors import need
from gpt2.workspace import Json


class Curves:
    """Numbers of each logged step, and samples as text."""

    def __init__(self, run: Path, done: int) -> None:
        need("tensorboard", "tensorboard")
        writer: Any = need("torch.utils.tensorboard", "tensorboard").SummaryWriter
        self._writer = writer(run / "tensorboard", purge_step=done + 1)

    def write(self, row: Json) -> None:
        """One row of metrics."""
        step = row["step"]
        for name, value in row.items():
            if isinstance(value, str):
                self._writer.add_text(name, value, step)
            elif name != "step" and isinstance(value, int | float):
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Put what was written on the disk."""
        self._writer.close()
