"""A function in a child process: its limit is of processor time, and nothing it does harms the caller."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from gpt2.corpus.sandbox import Sandbox

SECONDS = 0.5


def answering() -> Callable[[bytes], bytes]:
    """What the child runs: does what it is asked, and says who it is."""

    def answer(request: bytes) -> bytes:
        if request == b"work":
            while True:
                pass
        if request == b"fail":
            raise KeyError(request)
        if request == b"die":
            os.kill(os.getpid(), signal.SIGKILL)
        if request.startswith(b"wait"):
            time.sleep(float(request[4:]))
        return b"%d" % os.getpid()

    return answer


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox(f"{__name__}:answering", (), SECONDS) as box:
        yield box


def test_time_in_which_a_child_does_not_run_is_not_counted(box: Sandbox) -> None:
    before = box.call(b"")
    assert isinstance(before, bytes)
    assert box.call(b"wait %g" % (2 * SECONDS)) == before, "by the clock it is twice the limit"
    assert [box.call(b"") for _ in range(3)] == [before] * 3


def test_a_child_that_works_or_waits_too_long_is_replaced(box: Sandbox) -> None:
    before = box.call(b"")
    assert box.call(b"work") == "over 0.5 seconds"
    after = box.call(b"")
    assert isinstance(after, bytes) and after != before
    assert box.call(b"wait 1000") == "over 2.5 seconds by the clock"
    assert isinstance(box.call(b""), bytes)


def test_what_fails_or_dies_gives_its_cause(box: Sandbox) -> None:
    before = box.call(b"")
    assert box.call(b"fail") == "failed (KeyError)"
    assert box.call(b"") == before
    assert box.call(b"die") == "crashed (SIGKILL)"
    assert isinstance(box.call(b""), bytes)
