"""`gpt2 reproduce` killed with SIGKILL in each of its stages, then run again: a complete report, nothing done twice.

Each stage is killed a little after it began, at a moment drawn by a seed; then the same command goes on. A
stage that was marked done must keep its mark to the byte until the end.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MINUTES = 3
KILLS_A_STAGE = 2


def marks(folder: Path) -> dict[str, str]:
    """The marks of all stages that are done, by name."""
    found = {}
    for path in sorted(folder.rglob("stage.json")):
        text = path.read_text()
        if json.loads(text)["done"]:
            found[str(path.parent.relative_to(folder))] = text
    return found


def begun(folder: Path) -> set[str]:
    """Names of the stages that have begun, finished or not."""
    return {str(path.parent.relative_to(folder)) for path in folder.rglob("stage.json")}


def main() -> None:
    """Kill, resume, and compare marks."""
    draw = random.Random(0)
    kills: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as scratch:
        out, log = Path(scratch) / "out", Path(scratch) / "log"
        command = [sys.executable, "-m", "gpt2", "reproduce", "--minutes", str(MINUTES), "--out", str(out)]
        done: dict[str, str] = {}
        while True:
            with log.open("a") as stream:
                job = subprocess.Popen(command, stdout=stream, stderr=stream)
                victim, when = None, 0.0
                while job.poll() is None:
                    time.sleep(0.05)
                    now = marks(out) if out.exists() else {}
                    for name, text in done.items():
                        assert now.get(name) == text, f"stage {name} was done and ran again"
                    done = now
                    open_stages = begun(out) - now.keys() if out.exists() else set()
                    fresh = sorted(s for s in open_stages if kills.get(s, 0) < KILLS_A_STAGE)
                    if victim is None and fresh:
                        victim = fresh[-1]
                        longest = 4.0 if victim in kills else 0.6  # the shortest stage takes a second
                        when = time.monotonic() + draw.uniform(0.0, longest)
                    if victim is not None and victim in now:
                        victim = None
                    if victim is not None and time.monotonic() > when:
                        job.send_signal(signal.SIGKILL)
                        kills[victim] = kills.get(victim, 0) + 1
                        print(f"killed in {victim}", flush=True)
                        break
                code = job.wait()
            if code == 0:
                break
            assert code == -signal.SIGKILL, f"exit {code}:\n{log.read_text()[-2000:]}"
        results = json.loads((out / "results.json").read_text())
        assert (out / "report.html").stat().st_size > 10_000
        assert len(results["ladder"]) == 4
        everything = set(marks(out))
        assert begun(out) == everything, f"unfinished stages: {begun(out) - everything}"
        for name, text in done.items():
            assert marks(out)[name] == text
        losses = [rung["heldout_loss"] for rung in results["ladder"]]
        print(f"{sum(kills.values())} kills in {len(kills)} of {len(everything)} stages: {kills}")
        print(f"stages too short to be hit: {sorted(everything - kills.keys())}")
        print(f"the report is complete; held-out losses {', '.join(f'{x:.3f}' for x in losses)}")


if __name__ == "__main__":
    main()
