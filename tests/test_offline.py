"""Nothing phones home: commands run without a network, and the kernel sees no attempt to reach one."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNSHARE, STRACE, IP = (shutil.which(tool) for tool in ("unshare", "strace", "ip"))


def offline(command: list[str], log: Path) -> subprocess.CompletedProcess[str]:
    """Run a command, all its threads and children, with loopback alone, logging every address it addresses."""
    trace = f"{STRACE} -f -qq --seccomp-bpf -e trace=connect,sendto,sendmsg,sendmmsg -o {log}"
    script = f'{IP} link set lo up && exec {trace} "$@"'
    return subprocess.run(
        [str(UNSHARE), "-n", "sh", "-c", script, "sh", *command], capture_output=True, text=True, timeout=280
    )


def outside(log: Path) -> list[str]:
    """Logged calls that name an internet address beyond loopback."""
    calls = []
    for line in log.read_text(errors="replace").splitlines():
        for address in re.findall(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"', line):
            host = address[0] or address[1]
            if not (host.startswith("127.") or host == "::1"):
                calls.append(line)
    return calls


def can_unshare() -> bool:
    return bool(UNSHARE and STRACE and IP) and subprocess.run([str(UNSHARE), "-n", "true"]).returncode == 0


needs_namespaces = pytest.mark.skipif(
    not can_unshare(), reason="needs unshare -n, ip and strace (Linux, root, packages iproute2 and strace)"
)


@needs_namespaces
def test_the_watch_sees_an_attempt(tmp_path: Path) -> None:
    code = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect_ex(('192.0.2.1', 9))"
    offline([sys.executable, "-c", code], tmp_path / "log")
    assert len(outside(tmp_path / "log")) == 1


@needs_namespaces
def test_reproduce_reaches_for_no_network(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.mkdir()
    for i in range(40):
        (text / f"{i}.txt").write_text(f"Document {i}. " + "It says nothing that was not said before. " * 30)
    command = [sys.executable, "-m", "gpt2", "reproduce", "--quiet", "--out", str(tmp_path / "out")]
    run = offline([*command, "--text", str(text)], tmp_path / "log")
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "out" / "report.html").exists()
    assert outside(tmp_path / "log") == []


@needs_namespaces
@pytest.mark.parametrize(
    "command", [["--help"], ["tokens", "encode", "hello world"], ["reproduce", "--help"]]
)
def test_small_commands_reach_for_no_network(command: list[str], tmp_path: Path) -> None:
    run = offline([sys.executable, "-m", "gpt2", *command], tmp_path / "log")
    assert run.returncode == 0, run.stderr
    assert outside(tmp_path / "log") == []
