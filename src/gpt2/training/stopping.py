"""SIGTERM and Ctrl-C while training: the step is finished, a checkpoint written, then the program leaves.

The first of them sets a mark that the loop reads between two steps; a second one has its usual effect, at
once. The exit status is the shell's, 128 + the signal's number: 130 after Ctrl-C, 143 after SIGTERM.
torchrun passes SIGTERM on and kills after 30 seconds what has not left.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM came: like Ctrl-C, but for its exit status."""

    status = 128 + signal.SIGTERM


class Stopping:
    """Inside this context the two signals wait for the end of a step; elsewhere than in a main thread, nothing."""

    def __init__(self) -> None:
        self.signal = 0
        """The number of the signal that came; 0 for none."""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stopping:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._come)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _come(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.signal = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def leave(self) -> KeyboardInterrupt:
        """What to raise when all is saved; a process that was only told of the signal takes it for SIGTERM."""
        return KeyboardInterrupt() if self.signal == signal.SIGINT else Terminated()
