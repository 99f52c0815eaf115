"""A port of loopback for processes that a test starts."""

from __future__ import annotations

import random
import socket


def free_port() -> str:
    """A port that is free, below those that the system gives to connections of other tests."""
    for port in random.sample(range(15_000, 30_000), 100):
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        return str(port)
    raise OSError("none of a hundred ports is free")
