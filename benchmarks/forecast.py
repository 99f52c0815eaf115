"""Claim: `gpt2 forecast` is within 15 % of the truth in time and in memory, for three sizes.

For each size a forecast, and then a training of `--seconds` or so by `gpt2.training.trainer` in a process of its
own, with a checkpoint while it runs; `--rounds` times, medians. Time is that of the median step, since a
checkpoint in seconds rather than in a minute weighs too much; memory is the most that the training's process
held. Random tokens, since neither depends on the text.

    python benchmarks/forecast.py --rounds 3 --seconds 6
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from gpt2.model.config import GPT2Config
from gpt2.model.device import choose
from gpt2.tokens.bpe import Tokenizer
from gpt2.tokens.shards import write_shards
from gpt2.training.forecast import Asked, forecast, peak
from gpt2.training.optimizer import OptimizerConfig

SIZES = {
    # shape, sequences a step
    "12M": (GPT2Config(n_layer=6, n_head=6, n_embd=384, vocab_size=4096, n_ctx=256), 16),
    "30M": (GPT2Config(n_layer=8, n_head=8, n_embd=512, vocab_size=8192, n_ctx=512), 8),
    "124M": (GPT2Config.size("124M", n_ctx=256), 4),
}
ALLOWED = 0.15


def work() -> None:
    """A training: its job on standard input, its seconds a step and peak memory on standard output."""
    from gpt2.training.plan import TrainConfig
    from gpt2.training.trainer import train

    job = json.load(sys.stdin)
    config = TrainConfig(
        Path(job["tokens"]),
        Path(job["out"]),
        GPT2Config(**job["model"]),
        steps=job["steps"],
        batch=job["batch"],
        save_every_seconds=job["save"],
        threads=job["threads"],
    )
    done = train(config)
    steps = [row["seconds"] for row in done.metrics]
    sys.stdout.write(json.dumps({"step": statistics.median(steps), "peak": peak("cpu")}) + "\n")


def tokens(folder: Path, n_vocab: int) -> Path:
    """Shards of random words in a vocabulary of so many tokens."""
    draw = np.random.default_rng(0)
    words = ["".join(draw.choice(list("abcdefghijklmnop"), 5)) for _ in range(2000)]
    texts = ((str(i), str(i), " ".join(draw.choice(words, 500))) for i in range(100))
    whole = Tokenizer.gpt2()
    vocabulary = whole if n_vocab == whole.n_vocab else Tokenizer(whole.pairs[: n_vocab - 257])
    write_shards(texts, vocabulary, folder, {"3"})
    return folder


def main() -> None:
    """Forecast, train, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options: Any = parser.parse_args()
    if options.work:
        work()
        return
    compute, off = choose("cpu", threads=options.threads), []
    for size in options.sizes:
        model, batch = SIZES[size]
        rates, truths, memory, peaks = [], [], [], []
        with tempfile.TemporaryDirectory() as scratch:
            data = tokens(Path(scratch) / "tokens", model.vocab_size)
            for i in range(options.rounds):
                asked = Asked(model, OptimizerConfig(), 10**9, batch)
                found = forecast(asked, compute)
                assert found.seconds_per_step
                job = {
                    "tokens": str(data),
                    "out": str(Path(scratch) / f"run-{i}"),
                    "model": asdict(model),
                    "steps": max(3, round(options.seconds / found.seconds_per_step)),
                    "save": options.seconds / 2,
                    "batch": batch,
                    "threads": options.threads,
                }
                words = [sys.executable, __file__, "--work"]
                done = subprocess.run(
                    words, input=json.dumps(job), stdout=subprocess.PIPE, text=True, check=True
                )
                truth = json.loads(done.stdout.splitlines()[-1])
                rates.append(found.seconds_per_step)
                truths.append(truth["step"])
                memory.append(found.total / 1e9)
                peaks.append(truth["peak"] / 1e9)
        for what, unit, said, real in (("time", "s a step", rates, truths), ("memory", "GB", memory, peaks)):
            a, b = statistics.median(said), statistics.median(real)
            ratios = [x / y - 1 for x, y in zip(said, real, strict=True)]
            ratio = statistics.median(ratios)  # of a forecast and the training right after it
            off.append(abs(ratio))
            spread = f"{min(ratios):+.1%} to {max(ratios):+.1%}"
            print(
                f"{size:>5} {what:6} forecast {a:7.3f} {unit}, truth {b:7.3f}: {ratio:+.1%} ({spread})",
                flush=True,
            )
    print(f"largest deviation {max(off):.1%}, allowed {ALLOWED:.0%}")
    sys.exit(max(off) > ALLOWED)


if __name__ == "__main__":
    main()
