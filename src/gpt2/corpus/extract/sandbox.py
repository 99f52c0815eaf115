"""A function in a child process, which may hang, crash or eat memory without harm to the caller.

A page of the web can keep a parser busy for hours inside C code that no Python thread or signal handler
interrupts, or end the process. So one child answers requests one after another; when it takes longer than
its limit or dies, it is killed, waited for and replaced at the next request, and the caller gets the cause in
the place of an answer. The limit is of processor time, which the kernel holds in the child, so that the answer
does not depend on how busy the machine is. Behind it stands one of `PATIENCE` times as long by the clock, for a
child that waits: held by the caller, and by an alarm in the child, which ends it even when the caller was
killed while it was busy; idle, it ends when its line is closed. Rejected: a limit by the clock alone, under
which a loaded machine drops pages that a free one keeps.
The child is a new interpreter and no fork, so it can be made in a process with threads or in a daemonic worker;
a request costs about a tenth of a millisecond. Rejected: multiprocessing, which daemonic workers may not use,
and a process for each page, which costs more than the page.

    with Sandbox("gpt2.corpus.extract.methods:answering", ("fast",), seconds=10) as box: box.call(request)
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from gpt2 import errors

START = """import json, sys
sys.path[:] = json.loads(sys.argv[1])
from gpt2.corpus.extract.sandbox import serve
serve(*json.loads(sys.argv[2]))"""
STARTING = 120.0
"""Seconds that a child may take to import what it needs."""
PATIENCE = 5
"""Times its limit of processor time that an answer may take by the clock."""
GRACE = 1.0
"""Seconds by which the child's own alarm comes after the caller's clock."""
MEMORY = 8 << 30
"""Bytes of address space of a child."""
PIECE = 1 << 18
ANSWER, FAILED, REFUSED = b"\0", b"\1", b"\2"
"""How a reply begins: with an answer, with the name of an exception, with a `WorkbenchError`."""


class Sandbox:
    """One child process at a time, made when it is first needed. Not for several threads at once."""

    def __init__(self, target: str, arguments: tuple[str, ...] = (), seconds: float = 10.0) -> None:
        """`target`: "module:function"; called with `arguments` in the child, it returns the function from
        bytes to bytes that answers requests, each within `seconds` of processor time."""
        self.target, self.arguments, self.seconds = target, arguments, seconds
        self._child: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._owner = 0

    def call(self, request: bytes) -> bytes | str:
        """The answer to a request, or as a string the cause why there is none.

        Raises the child's `WorkbenchError`, such as `MissingExtra` for a package that it lacks.
        """
        if self._owner != os.getpid():  # forked: the child belongs to the other process
            self._child = self._line = None
        if self._child is None:
            self._start()
        return self._answer(request, PATIENCE * self.seconds)

    def _start(self) -> None:
        self._owner = os.getpid()
        self._line, theirs = socket.socketpair()
        task = [self.target, self.arguments, self.seconds]
        command = [sys.executable, "-P", "-c", START, json.dumps(sys.path), json.dumps(task)]
        with theirs:
            child = subprocess.Popen(
                command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
        self._child = child
        assert child.stderr is not None
        with child.stderr:
            ready = self._answer(None, STARTING)
            if isinstance(ready, str):
                self.close()
                said = child.stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
                raise RuntimeError(f"the process for {self.target} does not start: {ready} {said}")

    def _answer(self, request: bytes | None, seconds: float) -> bytes | str:
        assert self._line is not None
        deadline = time.monotonic() + seconds
        try:
            if request is not None:
                send(self._line, request, deadline)
            reply = receive(self._line, deadline)
        except TimeoutError:
            self.close()
            return f"over {seconds:g} seconds by the clock"
        except (EOFError, OSError):
            status = self.close()
            if status == -signal.SIGPROF:
                return f"over {self.seconds:g} seconds"
            if status == -signal.SIGALRM:
                return f"over {seconds:g} seconds by the clock"
            return f"crashed ({signal.Signals(-status).name if status < 0 else f'exit status {status}'})"
        kind, content = reply[:1], reply[1:]
        if kind == ANSWER:
            return content
        name, _, message = content.decode().partition(": ")
        if kind == REFUSED:
            self.close()
            raise getattr(errors, name)(message)
        return f"failed ({name})"

    def close(self) -> int:
        """End the child and wait for it; returns its exit status, 0 when there was none."""
        child, line, self._child, self._line = self._child, self._line, None, None
        if child is None or line is None or self._owner != os.getpid():
            return 0
        line.close()
        child.kill()
        return child.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def serve(target: str, arguments: list[str], seconds: float) -> None:
    """Answer requests from standard input's socket until it is closed: what the child runs.

    `seconds`: of processor time, all threads together, for each.
    """
    line = socket.socket(fileno=os.dup(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the caller to handle
    for alarm in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(alarm, signal.SIG_DFL)  # ends the process, whatever code is running
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF, signal.SIGALRM})
    with contextlib.suppress(ValueError, OSError):  # where the system knows no such limit, or a smaller one
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    module, _, name = target.partition(":")
    made: list[Callable[[bytes], bytes]] = []

    def make(_: bytes) -> bytes:
        made.append(getattr(importlib.import_module(module), name)(*arguments))
        return b""

    with contextlib.suppress(EOFError, OSError):  # the caller is gone
        reply = attempt(make, b"")
        with Path(os.devnull).open("r+b", buffering=0) as null:  # no library reads requests, or is heard
            os.dup2(null.fileno(), 0)
            os.dup2(null.fileno(), 2)
        send(line, reply)
        while made:
            request = receive(line)
            signal.setitimer(signal.ITIMER_PROF, seconds)
            signal.setitimer(signal.ITIMER_REAL, PATIENCE * seconds + GRACE)
            reply = attempt(made[0], request)
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
            send(line, reply)


def attempt(function: Callable[[bytes], bytes], request: bytes) -> bytes:
    """A reply: what a function returns, or how it failed."""
    try:
        return ANSWER + function(request)
    except errors.WorkbenchError as error:
        return REFUSED + f"{type(error).__name__}: {error}".encode()
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        return FAILED + type(error).__name__.encode()


def send(line: socket.socket, content: bytes, deadline: float | None = None) -> None:
    """Send a message: its length in eight bytes, then its bytes. Raises `TimeoutError` after the deadline."""
    line.settimeout(left(deadline))
    line.sendall(len(content).to_bytes(8, "big") + content)


def receive(line: socket.socket, deadline: float | None = None) -> bytes:
    """The next message; `EOFError` when the other side has closed, `TimeoutError` after the deadline."""
    message = bytearray()
    while len(message) < 8 or len(message) < 8 + int.from_bytes(message[:8], "big"):
        line.settimeout(left(deadline))
        part = line.recv(PIECE)
        if not part:
            raise EOFError
        message += part
    return bytes(message[8:])


def left(deadline: float | None) -> float | None:
    """Seconds until a deadline."""
    if deadline is None:
        return None
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
