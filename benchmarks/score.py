"""Claim: scoring is faster than transformers and CTranslate2 in the same number format, with the same results.

Log-probability of every token but the first, under a 124M network with random weights:

    long     4 texts of 1,024 tokens
    short    512 texts (`--short`) of about 80 tokens: beginnings of 50 to 70 tokens, each with 4 endings of 10 to 30

Every engine runs in a process of its own, loads once, scores once to warm up, and is then told in turn with
the others to score again, `--rounds` times; medians of tokens asked for a second, and ratios. transformers
scores batches of up to 2,048 tokens, sorted by length and padded on the right; CTranslate2 batches by itself
(`score_batch`, also 2,048). What the engines' sums differ by from transformers in float32 is printed too.

The floor is matrix products at this machine's peak, measured in the same run: 2 x 124M operations a distinct
token and those of attention.

    python benchmarks/score.py --rounds 5 --threads 2
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BATCH_TOKENS = 2048
ENGINES = {
    "ours float32": "float32",
    "transformers float32": "float32",
    "ctranslate2 float32": "float32",
    "ours bfloat16": "bfloat16",
    "transformers bfloat16": "bfloat16",
}
PEERS = [
    ("ours float32", "transformers float32"),
    ("ours float32", "ctranslate2 float32"),
    ("ours bfloat16", "transformers bfloat16"),
]
Texts = list[list[int]]


def texts(kind: str, short: int, vocabulary: int = 50257) -> Texts:
    """Token ids, the same for all; `short` is the number of short texts."""
    rng = random.Random(0)

    def ids(n: int) -> list[int]:
        return [rng.randrange(vocabulary) for _ in range(n)]

    if kind == "long":
        return [ids(1024) for _ in range(4)]
    beginnings = [ids(rng.randint(50, 70)) for _ in range(short // 4)]
    return [beginning + ids(rng.randint(10, 30)) for beginning in beginnings for _ in range(4)]


def ours(folder: Path, dtype: str, threads: int) -> Callable[[Texts], list[float]]:
    """This package."""
    import gpt2
    from gpt2.inference.scoring import score_ids
    from gpt2.model.device import choose

    net, compute = gpt2.load(folder).net, choose("cpu", dtype, threads)
    return lambda x: [
        s.logprob for s in score_ids(net, [t[:1] for t in x], [t[1:] for t in x], compute=compute)
    ]


def transformers(folder: Path, dtype: str, threads: int) -> Callable[[Texts], list[float]]:
    """transformers' GPT2LMHeadModel as its users run it."""
    import torch
    from transformers import GPT2LMHeadModel

    torch.set_num_threads(threads)
    model = GPT2LMHeadModel.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()

    def run(x: Texts) -> list[float]:
        sums = [0.0] * len(x)
        for batch in batches(x):
            lengths = torch.tensor([len(x[i]) for i in batch])
            ids = torch.tensor([x[i] + [0] * (int(lengths.max()) - len(x[i])) for i in batch])
            mask = torch.arange(ids.shape[1]) < lengths[:, None]
            with torch.inference_mode():
                logits = model(ids, attention_mask=mask.long(), use_cache=False).logits
                logprobs = logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
            for i, row in zip(batch, (logprobs.double() * mask[:, 1:]).sum(-1).tolist(), strict=True):
                sums[i] = row
        return sums

    return run


def batches(x: Texts) -> list[list[int]]:
    """Indices of texts of like length, up to BATCH_TOKENS with their padding."""
    found: list[list[int]] = []
    for i in sorted(range(len(x)), key=lambda i: -len(x[i])):
        if not found or len(x[found[-1][0]]) * (len(found[-1]) + 1) > BATCH_TOKENS:
            found.append([])
        found[-1].append(i)
    return found


def ctranslate2(folder: Path, dtype: str, threads: int) -> Callable[[Texts], list[float]]:
    """CTranslate2's Generator.score_batch."""
    from ctranslate2 import Generator
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(folder)).convert(str(folder / "ctranslate2"), force=True)
    engine = Generator(str(folder / "ctranslate2"), compute_type=dtype, intra_threads=threads)
    names = [""] * 50257
    for name, i in json.loads((folder / "vocab.json").read_text(encoding="utf-8")).items():
        names[i] = name

    def run(x: Texts) -> list[float]:
        tokens = [[names[i] for i in t] for t in x]
        found = engine.score_batch(tokens, max_batch_size=BATCH_TOKENS, batch_type="tokens")
        return [sum(s.log_probs) for s in found]

    return run


def work(engine: str, folder: Path, threads: int) -> None:
    """A process for one engine: for each line on standard input, score and say how long it took."""
    name, dtype = engine.split()
    run = {"ours": ours, "transformers": transformers, "ctranslate2": ctranslate2}[name](
        folder, dtype, threads
    )
    for line in sys.stdin:
        x = texts(*json.loads(line))
        begun = time.perf_counter()
        sums = run(x)
        print("\0" + json.dumps([time.perf_counter() - begun, sums]), flush=True)


class Worker:
    """An engine in a process of its own."""

    def __init__(self, engine: str, folder: Path, threads: int) -> None:
        command = [
            sys.executable,
            __file__,
            "--engine",
            engine,
            "--folder",
            str(folder),
            "--threads",
            str(threads),
        ]
        self.job = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def score(self, *which: str | int) -> tuple[float, list[float]]:
        """Seconds and sums."""
        assert self.job.stdin and self.job.stdout
        self.job.stdin.write(json.dumps(which) + "\n")
        self.job.stdin.flush()
        for line in self.job.stdout:
            if line.startswith("\0"):
                seconds, sums = json.loads(line[1:])
                return seconds, sums
        sys.exit("an engine stopped; is it installed?  pip install '.[peers]'")


def peak(dtype: str, threads: int) -> float:
    """The machine's matrix peak in operations a second: the best of products of 2048 x 2048."""
    import torch

    from gpt2.inference.prefill import packed

    torch.set_num_threads(threads)
    a, b = (torch.randn(2048, 2048, dtype=getattr(torch, dtype)) for _ in range(2))
    with torch.inference_mode():
        multiply, times = packed(b, None, False), []
        for _ in range(12):
            begun = time.perf_counter()
            multiply(a)
            times.append(time.perf_counter() - begun)
    return 2 * 2048**3 / min(times)


def operations(x: Texts) -> float:
    """Multiplications and additions that the distinct tokens of sorted texts need."""
    total, before = 0.0, []
    for t in sorted(x):
        common = next(
            (i for i, (a, b) in enumerate(zip(t, before, strict=False)) if a != b), min(len(t), len(before))
        )
        new = range(common, len(t) - 1)
        total += sum(2 * 123_532_032 + 4 * 12 * 768 * (i + 1) for i in new)
        before = t
    return total


def main() -> None:
    """Time all engines and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--short", type=int, default=512)
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options: Any = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if options.engine:
        work(options.engine, options.folder, options.threads)
        return
    import gpt2

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "huggingface"
        model = gpt2.Model(gpt2.GPT2(gpt2.GPT2Config.size("124M")), gpt2.Tokenizer.gpt2())
        model.save(Path(name) / "model")
        gpt2.convert(Path(name) / "model", folder, to="huggingface")
        del model
        peaks = {dtype: peak(dtype, options.threads) for dtype in ("float32", "bfloat16")}
        workers = {engine: Worker(engine, folder, options.threads) for engine in ENGINES}
        print(f"{options.threads} threads, median of {options.rounds} rounds, engines in turn")
        for kind in ("long", "short"):
            x = texts(kind, options.short)
            tokens, times, sums = sum(map(len, x)), {}, {}
            for engine, worker in workers.items():
                sums[engine] = worker.score(kind, options.short)[1]
                times[engine] = []
            for _ in range(options.rounds):
                for engine, worker in workers.items():
                    time.sleep(0.5)  # until the last one's threads have gone to sleep
                    times[engine].append(worker.score(kind, options.short)[0])
            print(f"\n{kind}: {len(x)} texts, {tokens:,} tokens")
            for engine, dtype in ENGINES.items():
                speed = tokens / statistics.median(times[engine])
                limit = tokens / operations(x) * peaks[dtype]
                off = max(
                    abs(a - b) / len(t) for a, b, t in zip(sums[engine], sums[PEERS[0][1]], x, strict=True)
                )
                share = (
                    f"{speed / limit:.0%} of the limit of {limit:,.0f}" if engine.startswith("ours") else ""
                )
                print(
                    f"  {engine:24}{speed:8,.0f} tokens/s  largest difference {off:.1e} nats a token  {share}"
                )
            for one, other in PEERS:
                ratios = [b / a for a, b in zip(times[one], times[other], strict=True)]
                shown = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
                print(f"  {one} against {other}: {shown}")
        for worker in workers.values():
            worker.job.kill()


if __name__ == "__main__":
    main()
