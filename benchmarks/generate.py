"""Claim: generation is faster than every wheel in the same number format, and near the limit of the memory.

A network of random weights (124M, or `--size`), prompts of 32 tokens, 200 new ones, greedy, prompt included:

    one stream      what one reader waits for
    16 streams      what a server gives, all together

Every engine runs in a process of its own, is warmed up once and is then told in turn with the others to
generate, `--rounds` times: medians of new tokens a second and of the ratios within a round. Claimed of one
stream: int8 at least 1.4 times the best wheel, int4 at least 2 times, bfloat16 at least 2 times transformers'.

To generate a token is to read every weight once (of two heads, what is needed), so reading speed over bytes a
token is the limit. The speed is measured in the same rounds, by torch summing 1 GiB; aimed at is 60 % of that
limit, and 45 % is the least.

    python benchmarks/generate.py                                  # transformers and CTranslate2
    python benchmarks/generate.py --peers ENVIRONMENT/bin/python   # what is installed there too

The second is for onnxruntime and openvino, which would weigh down every installation:

    python -m venv ENVIRONMENT && ENVIRONMENT/bin/pip install -e '.[peers]' onnxruntime onnx onnx_ir openvino nncf
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SCRIPT = Path(__file__).with_name("generation_engines.py")
PEERS = {
    "transformers": ("bfloat16",),
    "ctranslate2": ("int8",),
    "onnxruntime": ("int8", "int4"),
    "openvino": ("int8", "int4"),
}
NEEDS = {"onnxruntime": ("onnxruntime", "onnx", "onnx_ir"), "openvino": ("openvino", "nncf")}
OURS = ("int8", "int4", "bfloat16")
CLAIMS = {"int8": 1.4, "int4": 2.0, "bfloat16": 2.0}
LEAST_SHARE = 0.45
PROMPT = 32

READING = """
import sys, time, torch
torch.set_num_threads(int(sys.argv[1]))
block = torch.ones(2**28)
print("\\0ready", flush=True)
for line in sys.stdin:
    best = 1e9
    for _ in range(5):
        begun = time.perf_counter()
        block.sum()
        best = min(best, time.perf_counter() - begun)
    print("\\0" + str(best), flush=True)
"""


class Worker:
    """An engine in a process of its own."""

    def __init__(self, command: list[str]) -> None:
        self.job = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        self.answer()

    def answer(self) -> str:
        """What the process says next."""
        assert self.job.stdout and self.job.stderr
        for line in self.job.stdout:
            if line.startswith("\0"):
                return line[1:]
        raise RuntimeError(self.job.stderr.read().strip().split("\n")[-1])

    def seconds(self, streams: int, new: int) -> float:
        """How long it generates."""
        assert self.job.stdin
        self.job.stdin.write(json.dumps([streams, PROMPT, new]) + "\n")
        self.job.stdin.flush()
        return float(self.answer())


def environment() -> dict[str, str]:
    """Where the interpreter of the peers finds this package too."""
    return os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": "ignore"}


def missing(python: str, peer: str) -> str:
    """The first package of a peer that an environment lacks, or nothing."""
    names = NEEDS.get(peer, (peer,))
    look = "import sys, importlib.util as u; print(next((n for n in sys.argv[1:] if not u.find_spec(n)), ''))"
    return subprocess.check_output([python, "-c", look, *names], text=True).strip()


def prepare_ours(folder: Path, size: str) -> None:
    """Make a network of random weights and our own forms of it, where they are not there yet."""
    import gpt2

    if not (folder / "workbench").exists():
        net = gpt2.GPT2(gpt2.GPT2Config.size(size), seed=0)
        gpt2.Model(net, gpt2.Tokenizer.gpt2()).save(folder / "workbench")
    for dtype in OURS:
        if not (folder / f"ours-{dtype}").exists():
            gpt2.convert(folder / "workbench", folder / f"ours-{dtype}", to=dtype)


def prepare(folder: Path, size: str, python: str) -> list[str]:
    """Make every engine's files that are not there yet; returns the engines that can run."""
    import gpt2

    prepare_ours(folder, size)
    if not (folder / "huggingface").exists():
        gpt2.convert(folder / "workbench", folder / "huggingface", to="huggingface")
    found = [f"ours {dtype}" for dtype in OURS]
    for peer, dtypes in PEERS.items():
        if lacks := missing(python, peer):
            print(f"left out: {peer}, because {python} has no {lacks}")
            continue
        target = folder / {"transformers": "huggingface", "onnxruntime": "onnx"}.get(peer, peer)
        if not target.exists():
            command = [python, str(SCRIPT), "prepare", peer, str(folder), ",".join(dtypes)]
            job = subprocess.run(command, capture_output=True, text=True, env=environment())
            if job.returncode:
                print(f"left out: {peer}, which cannot be prepared: {job.stderr.strip()[-300:]}")
                continue
        found += [f"{peer} {dtype}" for dtype in dtypes]
    return found


def main() -> None:
    """Prepare, time all engines in turn, print medians, ratios and shares of the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", default="124M", help="124M, 355M, 774M or 1558M")
    parser.add_argument("--new", type=int, default=200, help="tokens to generate")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--dtypes", nargs="+", default=OURS, choices=OURS)
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON", help="interpreter of the peers")
    parser.add_argument("--models", type=Path, help="folder where the engines' files are kept")
    options: Any = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    with tempfile.TemporaryDirectory() as name:
        folder = (options.models or Path(name)) / options.size
        folder.mkdir(parents=True, exist_ok=True)
        engines = [e for e in prepare(folder, options.size, options.peers) if e.split()[1] in options.dtypes]
        workers = start(engines, folder, options.threads, options.peers)
        reading = Worker([sys.executable, "-c", READING, str(options.threads)])
        print(f"{options.size}, {options.threads} threads, {options.rounds} rounds, engines in turn")
        try:
            for streams in options.streams:
                times, speeds = measure(workers, reading, streams, options.new, options.rounds)
                show(folder, streams, options.new, times, speeds)
        finally:
            for worker in [*workers.values(), reading]:
                worker.job.kill()


def start(engines: list[str], folder: Path, threads: int, python: str) -> dict[str, Worker]:
    """A process for each engine; those that cannot start are named and left out."""
    workers = {}
    for engine in engines:
        interpreter = sys.executable if engine.startswith("ours") else python
        try:
            workers[engine] = Worker([interpreter, str(SCRIPT), "work", engine, str(folder), str(threads)])
        except RuntimeError as error:
            print(f"left out: {engine}, which does not start: {error}")
    return workers


def measure(
    workers: dict[str, Worker], reading: Worker, streams: int, new: int, rounds: int
) -> tuple[dict[str, list[float]], list[float]]:
    """Seconds of each engine, and bytes a second that can be read, round by round."""
    for worker in workers.values():
        worker.seconds(streams, 8)
    times: dict[str, list[float]] = {engine: [] for engine in workers}
    speeds = []
    for _ in range(rounds):
        speeds.append(2**30 / reading.seconds(0, 0))
        for engine, worker in workers.items():
            time.sleep(0.3)  # until the last one's threads have gone to sleep
            times[engine].append(worker.seconds(streams, new))
    return times, speeds


def show(folder: Path, streams: int, new: int, times: dict[str, list[float]], speeds: list[float]) -> None:
    """Print one table."""
    from gpt2.inference.native import open_native

    print(f"\n{streams} stream{'s' * (streams > 1)}, {PROMPT} + {new} tokens each, new tokens a second")
    reading = statistics.median(speeds)
    print(f"  memory read at {reading / 1e9:.1f} GB/s ({min(speeds) / 1e9:.1f} to {max(speeds) / 1e9:.1f})")
    for engine, seconds in times.items():
        speed = [streams * new / s for s in seconds]
        line = f"  {engine:24}{statistics.median(speed):8,.1f}  ({min(speed):,.1f} to {max(speed):,.1f})"
        if streams == 1 and engine.startswith("ours"):
            size = open_native(folder / engine.replace(" ", "-")).bytes_a_token
            limit = [s / size for s in speeds]
            share = statistics.median(a / b for a, b in zip(speed, limit, strict=True))
            line += f"  {size / 1e6:,.0f} MB a token: {share:.0%} of the limit of {reading / size:,.0f}"
            line += f", {statistics.median(speed) * size / 1e9:.1f} GB/s"
            line += "" if share >= LEAST_SHARE else f"; MISSED: at least {LEAST_SHARE:.0%}"
        print(line)
    for dtype in OURS:
        ours = times.get(f"ours {dtype}")
        peers = {e: t for e, t in times.items() if e.split()[1] == dtype and not e.startswith("ours")}
        if not ours or not peers:
            continue
        best = min(peers, key=lambda e: statistics.median(peers[e]))
        ratios = [b / a for a, b in zip(ours, peers[best], strict=True)]
        ratio = statistics.median(ratios)
        verdict = ""
        if streams == 1:
            verdict = f"; claim {CLAIMS[dtype]}: {'met' if ratio >= CLAIMS[dtype] else 'MISSED'}"
        print(f"  ours {dtype} is {ratio:.2f} times {best} ({min(ratios):.2f} to {max(ratios):.2f}){verdict}")


if __name__ == "__main__":
    main()
