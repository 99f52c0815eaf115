"""Run the long proofs one after another and keep what they print, stamped with what it was measured on.

    python -m acceptance                 all of them
    python -m acceptance tokenizer       one

Each runs in a process of its own, so that none inherits another's memory or threads. Its output appears here
as it comes and is kept in docs/results/NAME.txt, of a failure too. Exit status: 0 when all passed, 1 when one
failed, 2 for a name that is none.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from gpt2.console import duration
from gpt2.errors import nearest
from gpt2.reproduce import machine
from gpt2.workspace import atomic_write, versions

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
NAMES = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def main() -> None:
    """Run the proofs named on the command line, or all."""
    chosen = sys.argv[1:] or NAMES
    for name in chosen:
        if name not in NAMES:
            sys.stderr.write(
                f"acceptance: no proof {name!r}{nearest(name, NAMES)}; known: {', '.join(NAMES)}\n"
            )
            sys.exit(2)
    begun = time.time()
    failed = [name for name in chosen if not passes(name)]
    verdict = f", {len(failed)} failed ({', '.join(failed)})" if failed else ""
    print(f"\nacceptance: {len(chosen) - len(failed)} passed{verdict} in {duration(time.time() - begun)}")
    sys.exit(1 if failed else 0)


def passes(name: str) -> bool:
    """Run one proof, show and keep its output, and say whether it passed."""
    print(f"\n{name} {'=' * (78 - len(name))}", flush=True)
    stamp, begun, lines = stamped(name), time.time(), []
    command = [sys.executable, "-c", f"from acceptance.{name} import main; main()"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=quiet()
    ) as job:
        for line in job.stdout or ():
            print(line, end="", flush=True)
            lines.append(
                line.replace(str(ROOT), ".").replace(os.environ.get("GPT2_DATA") or "\0", "GPT2_DATA")
            )
    last = f"{'passed' if job.returncode == 0 else 'FAILED'} in {duration(time.time() - begun)}\n"
    print(last, end="", flush=True)
    with atomic_write(RESULTS / f"{name}.txt", "w") as stream:
        stream.write("\n".join([*stamp, "", "".join(lines) + last]))
    return job.returncode == 0


def quiet() -> dict[str, str]:
    """The environment of a proof: its lines come at once."""
    return os.environ | {"PYTHONUNBUFFERED": "1"}


def stamped(name: str) -> list[str]:
    """What the figures were measured with and on."""
    where = machine(os.cpu_count() or 1)
    return [
        f"python -m acceptance {name}",
        f"date: {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC",
        f"commit: {commit()}",
        "machine: " + ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in where.items()),
        "versions: " + ", ".join(f"{k} {v}" for k, v in versions().items()),
    ]


def commit() -> str:
    """The commit of this checkout, and whether files differ from it."""
    try:
        git = ["git", "-C", str(ROOT)]
        name = subprocess.check_output([*git, "rev-parse", "--short=12", "HEAD"], text=True).strip()
        changed = subprocess.check_output([*git, "status", "--porcelain", "-uno"], text=True).strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name}, with uncommitted changes" if changed else name


if __name__ == "__main__":
    main()
