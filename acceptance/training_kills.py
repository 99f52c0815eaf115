"""A training of 500 small steps killed with SIGKILL at a random moment, then resumed: the undisturbed run's weights.

Fifty runs, each killed once, within some hundredths of a second after a step drawn by a seed, while checkpoints
are written without a pause. Final weights, averaged weights and logged losses must be equal to
the bit each time. Processes are forked from one that has imported torch and computed nothing, so that the
kills fall into training and not into imports.
"""

from __future__ import annotations

import json
import os
import random
import signal
import tempfile
import time
from pathlib import Path
from pydoc_data.topics import topics  # real prose that every Python carries

from gpt2.model.config import GPT2Config
from gpt2.tokens.bpe import Tokenizer
from gpt2.tokens.shards import write_shards
from gpt2.training.optimizer import OptimizerConfig
from gpt2.training.plan import TrainConfig
from gpt2.training.trainer import train

KILLS, STEPS = 50, 500
SHAPE = GPT2Config(n_layer=1, n_head=2, n_embd=32, vocab_size=400, n_ctx=16)


def begin(tokens: Path, out: Path) -> int:
    """A process that trains, or goes on with the run in `out`; its number."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        rate = OptimizerConfig(learning_rate=1e-2)
        config = TrainConfig(tokens, out, SHAPE, steps=STEPS, batch=4, optimizer=rate, ema=0.99, threads=1)
        train(
            TrainConfig(**{**vars(config), "save_every_seconds": 0.0, "callback_every": 50}), resume_run=True
        )
        status = 0
    finally:
        os._exit(status)


def finish(pid: int) -> None:
    """Wait for a process that must end well."""
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"training ended with {status}"


def steps_in(log: Path) -> int:
    """Steps that a log tells of."""
    return log.read_bytes().count(b"\n") if log.exists() else 0


def result(run: Path) -> tuple[bytes, bytes, list[float]]:
    """All that must be equal: weights, averaged weights, losses."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1)), "a step is lost or twice there"
    files = (run / "checkpoint" / where / "model.safetensors" for where in (".", "average"))
    weights, average = (path.read_bytes() for path in files)
    return weights, average, [row["loss"] for row in rows]


def main() -> None:
    """Kill, resume, compare."""
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch:
        tokens = Path(scratch) / "tokens"
        documents = [(name, name, text[:3000]) for name, text in sorted(topics.items())[:40]]
        write_shards(documents, Tokenizer(Tokenizer.gpt2().pairs[:143]), tokens, {documents[3][0]})
        whole = Path(scratch) / "whole"
        begun = time.monotonic()
        finish(begin(tokens, whole))
        length = time.monotonic() - begun
        expected = result(whole)
        print(f"undisturbed: {STEPS} steps in {length:.1f} s, last loss {expected[2][-1]:.4f}")
        reached, writing, unsaved = [], 0, 0
        for i in range(KILLS):
            run = Path(scratch) / f"run-{i}"
            pid = begin(tokens, run)
            log, after = run / "metrics.jsonl", draw.randrange(STEPS)
            while steps_in(log) < after:
                assert os.waitpid(pid, os.WNOHANG) == (0, 0), "it ended before it was killed"
                time.sleep(0.001)
            time.sleep(draw.uniform(0, 0.03))
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            assert status in (0, signal.SIGKILL), f"it ended with {status} before it was killed"
            reached.append(steps_in(log))
            writing += any(run.glob(".checkpoint*")) or any(run.glob(".previous*"))
            unsaved += not (run / "checkpoint").exists()
            finish(begin(tokens, run))
            assert result(run) == expected, f"run {i}, killed at step {reached[-1]}, is another one"
        killed = [step for step in reached if step < STEPS]
        print(
            f"{KILLS} kills: {len(killed)} within training, at steps {min(killed)} to {max(killed)} (median "
            f"{sorted(killed)[len(killed) // 2]}); {writing} while a checkpoint was being put in place, {unsaved} "
            "before the first"
        )
        print(f"weights, averages and losses identical to the bit in {KILLS} of {KILLS} runs")


if __name__ == "__main__":
    main()
