"""Rules for all tests: no network beyond loopback, no telemetry, real data only where GPT2_DATA says."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["command_line", "manual_shards", "trained_model"]

for name, value in {
    "DO_NOT_TRACK": "1",
    "DAFT_ANALYTICS_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_WAIT_POLICY": "PASSIVE",
}.items():
    os.environ.setdefault(name, value)


class NetworkBlocked(RuntimeError):
    """A test tried to leave the machine."""


def is_local(address: object) -> bool:
    """Whether an address stays on this machine."""
    if not isinstance(address, tuple):
        return True  # a Unix socket's path
    host = str(address[0])
    return host in ("localhost", "::1", "") or host.startswith("127.")


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections to anything but this machine."""
    for name in ("connect", "connect_ex", "sendto"):
        real = getattr(socket.socket, name)

        def guarded(self: socket.socket, *args: Any, real: Any = real) -> Any:
            address = args[-1] if args else None
            if self.family in (socket.AF_INET, socket.AF_INET6) and not is_local(address):
                raise NetworkBlocked(f"a test tried to reach {address}")
            return real(self, *args)

        monkeypatch.setattr(socket.socket, name, guarded)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data."""
    folder = os.environ.get("GPT2_DATA")
    if not folder:
        pytest.skip("GPT2_DATA names no folder of real data")
    return Path(folder)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """torch on one thread: sums in the same order everywhere, and small networks are quicker."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
