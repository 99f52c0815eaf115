"""A Ray cluster on this machine, for tests and proofs: started in processes of its own, which all end with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "1",
    "DAFT_ANALYTICS_ENABLED": "0",
    "GLOO_SOCKET_IFNAME": "lo",
    "RAY_DISABLE_IMPORT_WARNING": "1",
}


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass(frozen=True)
class Cluster:
    """A running cluster."""

    address: str
    pid: int
    """Of the process that started all others."""

    def workers(self) -> list[int]:
        """The processes that do the work of a query."""
        found = []
        for child in descendants(self.pid):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"ray::UDFActor"):
                    found.append(child)
        return found


@contextlib.contextmanager
def cluster(workers: int = 2) -> Iterator[Cluster]:
    """A cluster with so many places for workers."""
    temporary, port = tempfile.mkdtemp(prefix="ray"), free_port()
    options = {
        "port": port,
        "num-cpus": workers,
        "node-ip-address": "127.0.0.1",
        "include-dashboard": "false",
        "object-store-memory": 150_000_000,
        "temp-dir": temporary,
    }
    command = [
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--head",
        "--block",
        "--disable-usage-stats",
    ]
    command += [f"--{name}={value}" for name, value in options.items()]
    log = Path(temporary, "start.log")
    with log.open("w") as stream:
        process = subprocess.Popen(
            command,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | ENVIRONMENT,
        )
    try:
        begun = time.monotonic()
        while "--block" not in log.read_text():  # which it says when all is up
            assert process.poll() is None and time.monotonic() < begun + 120, log.read_text()
            time.sleep(0.1)
        yield Cluster(f"127.0.0.1:{port}", process.pid)
    finally:
        ended = [process.pid, *descendants(process.pid)]
        for pid in ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(temporary, ignore_errors=True)


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they started."""
    parents: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(status.parent.name))
    found, todo = [], [pid]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found
