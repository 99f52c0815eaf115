"""Claim: from the start of the process to the first token in at most 0.8 times CTranslate2's time, in 300 MB.

A 124M network of random weights in the page cache; a prompt of 32 tokens. Each process is started in turn,
`--rounds` times, and the time until it has written its first token is taken; medians, and the largest peak of
memory.

    gpt2 generate int8       the command whole: arguments read, the prompt given and the token printed as text
    ours int8                the library alone, ids in and an id out, as the peers' processes below
    ctranslate2 int8         from its converter's usual float32 file; the claim is about this one
    ctranslate2 int8 file    from a file that is int8 already, which its converter makes when told to
    onnxruntime, openvino    int8 files; transformers in bfloat16

llama.cpp's `llama-completion` (Q8_0, no warm-up, text to text) joins where it is named.

    python benchmarks/first_token.py --peers ENVIRONMENT/bin/python
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from string import Template
from typing import Any

from generate import environment, missing, prepare

CLAIM_RATIO, CLAIM_MEGABYTES = 0.8, 300
PROMPT = " the" * 32

OURS = """
from gpt2.inference.native import open_native
runner = open_native($folder + "/ours-int8", threads=$threads).runner()
print(runner.run([0], [[262] * 32])[0].argmax())
"""
PEERS = {
    "ctranslate2": """
import ctranslate2
engine = ctranslate2.Generator($folder + "/ctranslate2-float32", compute_type="int8", intra_threads=$threads)
print(engine.generate_batch([["\\u0120the"] * 32], max_length=1, sampling_topk=1)[0].sequences_ids[0][-1])
""",
    "ctranslate2 int8 file": """
import ctranslate2
engine = ctranslate2.Generator($folder + "/ctranslate2", compute_type="int8", intra_threads=$threads)
print(engine.generate_batch([["\\u0120the"] * 32], max_length=1, sampling_topk=1)[0].sequences_ids[0][-1])
""",
    "onnxruntime": """
import numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = $threads
session = onnxruntime.InferenceSession($folder + "/onnx/int8.onnx", options)
mask = np.where(np.tri(32), 0, -1e9).astype(np.float32)[None, None]
feed = {"ids": np.full((1, 32), 262), "pos": np.arange(32)[None], "mask": mask}
feed |= {i.name: np.zeros((1, *[d if isinstance(d, int) else 0 for d in i.shape[1:]]), np.float32)
         for i in session.get_inputs() if i.name.startswith("past")}
print(session.run(["logits"], feed)[0].argmax())
""",
    "openvino": """
import numpy as np, openvino
settings = {"INFERENCE_NUM_THREADS": $threads, "PERFORMANCE_HINT": "LATENCY"}
request = openvino.Core().compile_model($folder + "/openvino/int8.xml", "CPU", settings).create_infer_request()
mask = np.where(np.tri(32), 0, -1e9).astype(np.float32)[None, None]
feed = {"ids": np.full((1, 32), 262), "pos": np.arange(32)[None], "mask": mask}
request.infer(feed | {"beam_idx": np.zeros(1, np.int32)})
print(request.get_output_tensor(0).data.argmax())
""",
    "transformers": """
import torch
from transformers import GPT2LMHeadModel
torch.set_num_threads($threads)
model = GPT2LMHeadModel.from_pretrained($folder + "/huggingface", dtype=torch.bfloat16)
ids = torch.full((1, 32), 262)
with torch.inference_mode():
    print(model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=1, pad_token_id=0)[0, -1])
""",
}


def commands(folder: Path, threads: int, peers: str, llama: str | None) -> dict[str, list[str]]:
    """What is started for each engine."""

    def code(script: str) -> str:
        return Template(script).substitute(folder=repr(str(folder)), threads=threads)

    whole = [sys.executable, "-m", "gpt2", "generate", str(folder / "ours-int8"), PROMPT, "--json"]
    whole += ["--max-tokens", "1", "--threads", str(threads), "--temperature", "0"]
    found = {"gpt2 generate int8": whole, "ours int8": [sys.executable, "-c", code(OURS)]}
    for peer, script in PEERS.items():
        if not missing(peers, peer.split()[0]):
            name = peer if " " in peer else f"{peer} {'bfloat16' if peer == 'transformers' else 'int8'}"
            found[name] = [peers, "-W", "ignore", "-c", code(script)]
    if llama:
        program, model = llama.split(":")
        flags = ["-n", "1", "-c", "1024", "-no-cnv", "--no-warmup", "--no-display-prompt", "-t", str(threads)]
        found["llama.cpp Q8_0"] = [program, "-m", model, *flags, "-p", PROMPT]
    return found


def start(command: list[str]) -> tuple[float, float]:
    """Seconds until the first token is on standard output, and megabytes at most."""
    begun = time.perf_counter()
    job = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment() | {"OMP_NUM_THREADS": "2"},
    )
    assert job.stdout
    said = job.stdout.read(1)
    seconds = time.perf_counter() - begun
    job.stdout.read()
    _, status, usage = os.wait4(job.pid, 0)  # its peak begins with our own, so we do nothing large
    job.returncode = status
    if status or not said:
        sys.exit(f"{command[0]} ... ended with status {status}")
    return seconds, usage.ru_maxrss / 1024


def main() -> None:
    """Start all in turn, print medians, ratios and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", default="124M")
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON", help="interpreter of the peers")
    parser.add_argument("--models", type=Path, help="folder where the engines' files are kept")
    parser.add_argument("--llama", metavar="PROGRAM:MODEL", help="llama-completion and a Q8_0 file")
    options: Any = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = (options.models or Path(name)) / options.size
        folder.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(1, get_context("spawn")) as aside:
            aside.submit(prepare, folder, options.size, options.peers).result()
        jobs = commands(folder, options.threads, options.peers, options.llama)
        for command in jobs.values():
            start(command)  # once, so that files are in memory and compiled
        measured: dict[str, list[tuple[float, float]]] = {engine: [] for engine in jobs}
        for _ in range(options.rounds):
            for engine, command in jobs.items():
                measured[engine].append(start(command))
    medians = {engine: statistics.median(s for s, _ in rows) for engine, rows in measured.items()}
    for engine, rows in measured.items():
        print(
            f"{engine:22}{medians[engine]:6.2f} s to the first token ({min(rows)[0]:.2f} to {max(rows)[0]:.2f})"
            f"{max(mb for _, mb in rows):6,.0f} MB"
        )
    memory = max(mb for _, mb in measured["gpt2 generate int8"])
    failed = memory > CLAIM_MEGABYTES
    print(f"claim: at most {CLAIM_MEGABYTES} MB; measured: {memory:.0f}")
    for peer in list(jobs)[2:]:
        whole, library = (medians[ours] / medians[peer] for ours in list(jobs)[:2])
        claim = f"; claim: at most {CLAIM_RATIO}" if peer == "ctranslate2 int8" else ""
        failed |= bool(claim) and whole > CLAIM_RATIO
        print(f"gpt2 generate takes {whole:.2f} and the library {library:.2f} times as long as {peer}{claim}")
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
