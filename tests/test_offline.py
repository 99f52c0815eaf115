"""Nothing phones home: commands run without a network, and the kernel sees no attempt to reach one."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import SHAPE, World

UNSHARE, STRACE, IP = (shutil.which(tool) for tool in ("unshare", "strace", "ip"))


def offline(command: list[str], log: Path) -> subprocess.CompletedProcess[str]:
    """Run a command, all its threads and children, with loopback alone, logging every address it addresses."""
    trace = f"{STRACE} -f -qq --seccomp-bpf -e trace=connect,sendto,sendmsg,sendmmsg -o {log}"
    script = f'{IP} link set lo up && exec {trace} "$@"'
    return subprocess.run(
        [str(UNSHARE), "-n", "sh", "-c", script, "sh", *command], capture_output=True, text=True, timeout=280
    )


def outside(log: Path) -> list[str]:
    """Logged calls that name an address beyond loopback, or ask for names (port 53, often a resolver here)."""
    calls = []
    for line in log.read_text(errors="replace").splitlines():
        for address in re.findall(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"', line):
            host = address[0] or address[1]
            if not (host.startswith("127.") or host == "::1") or "htons(53)" in line:
                calls.append(line)
    return calls


def can_unshare() -> bool:
    return bool(UNSHARE and STRACE and IP) and subprocess.run([str(UNSHARE), "-n", "true"]).returncode == 0


needs_namespaces = pytest.mark.skipif(
    not can_unshare(), reason="needs unshare -n, ip and strace (Linux, root, packages iproute2 and strace)"
)


@needs_namespaces
@pytest.mark.parametrize("address", [("192.0.2.1", 9), ("127.0.0.53", 53)], ids=["outside", "resolver"])
def test_the_watch_sees_an_attempt_from_a_native_thread(address: tuple[str, int], tmp_path: Path) -> None:
    code = f"""
import ctypes, os, socket
# pthread_create, so that the thread is none of Python's; connect is called by the C library itself
libc = ctypes.CDLL(None)
family, port, host = socket.AF_INET, socket.htons({address[1]}), socket.inet_aton({address[0]!r})
sockaddr = family.to_bytes(2, "little") + port.to_bytes(2, "little") + host + bytes(8)
handle = socket.socket(family, socket.SOCK_DGRAM).detach()
libc.connect.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
work = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(lambda _: libc.connect(handle, sockaddr, 16) and None)
thread = ctypes.c_ulong()
libc.pthread_create(ctypes.byref(thread), None, work, None)
libc.pthread_join(thread, None)
"""
    run = offline([sys.executable, "-c", code], tmp_path / "log")
    assert run.returncode == 0, run.stderr
    assert len(outside(tmp_path / "log")) == 1


@needs_namespaces
def test_reproduce_reaches_for_no_network(world: World, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gpt2", "reproduce", "--quiet", "--out", str(tmp_path / "out")]
    run = offline([*command, "--text", str(world.texts)], tmp_path / "log")
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "out" / "report.html").exists()
    assert outside(tmp_path / "log") == []


@needs_namespaces
@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["reproduce", "--help"],
        ["tokens", "encode", "hello world"],
        ["tokens", "write", "{texts}", "{new}/shards"],
        ["train", "--tokens", "{shards}", "--out", "{new}/run", "--steps", "2", *SHAPE],
        ["generate", "{model}", "The", "--max-tokens", "3"],
        ["score", "{model}", "The fox"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_commands_reach_for_no_network(words: list[str], world: World, tmp_path: Path) -> None:
    words = [word.format(**world._asdict(), new=tmp_path) for word in words]
    run = offline([sys.executable, "-m", "gpt2", *words], tmp_path / "log")
    assert run.returncode == 0, run.stderr
    assert outside(tmp_path / "log") == []
