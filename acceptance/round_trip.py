"""Large models go through all formats unchanged, in the memory of their largest tensor.

Writes a Hugging Face folder of random weights in the shape of GPT-2 355M and 1558M, converts it to OpenAI's,
nanoGPT's, llm.c's and GGUF's format and back, each from the one before, and holds every weight against the
first. While each conversion runs, its memory is watched: what it takes for itself, pages of mapped files left
out, may grow by 1.5 times the largest tensor. Needs 13 GB of disk.

    python -m acceptance.round_trip [355M 1558M]
"""

from __future__ import annotations

import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from gpt2.console import duration
from gpt2.model.config import GPT2Config
from gpt2.model.formats import Source, huggingface, open_source, parameter_shapes
from gpt2.tokens.bpe import Tokenizer

CHAIN = ("openai", "nanogpt", "llmc", "gguf", "huggingface")
ALLOWED = 50e6
"""bytes that a conversion may take besides, whatever the model: vocabularies, headers, tables"""
CONVERT = """
import sys
from gpt2.model.formats import convert, formats

formats()
print("ready", flush=True)
input()
convert(*sys.argv[1:])
print("done", flush=True)
"""


def main() -> None:
    """Run both sizes; raises `AssertionError` when a weight differs or memory is exceeded."""
    for size in sys.argv[1:] or ("355M", "1558M"):
        with tempfile.TemporaryDirectory() as scratch:
            round_trip(size, Path(scratch))


def round_trip(size: str, folder: Path) -> None:
    """One size through all formats."""
    source = random_source(GPT2Config.size(size))
    largest = 4 * source.config.vocab_size * source.config.n_embd
    print(f"{size}: {source.config.num_parameters():,} weights, the largest tensor {largest / 1e6:.0f} MB")
    before = folder / "first"
    huggingface.write(before, source)
    for to in CHAIN:
        begun = time.time()
        after = folder / f"in-{to}"
        most = watched(before, after, to)
        print(
            f"  to {to:12} {duration(time.time() - begun):>8}, {most / largest:.2f} x the largest tensor",
            flush=True,
        )
        assert most <= 1.5 * largest + ALLOWED, f"{to}: {most / 1e6:.0f} MB"
        shutil.rmtree(before) if before.is_dir() else before.unlink()
        before = after
    back = open_source(before)
    assert (back.format, back.config, back.tokenizer.pairs) == (
        "huggingface",
        source.config,
        source.tokenizer.pairs,
    )
    for name in parameter_shapes(source.config):
        assert torch.equal(back.tensor(name), source.tensor(name)), f"{size}: {name} is changed"
    print(f"  all {len(parameter_shapes(source.config))} tensors are equal to the bit")


def random_source(config: GPT2Config) -> Source:
    """Random weights, drawn anew whenever one is asked for."""
    shapes = parameter_shapes(config)
    places = {name: i for i, name in enumerate(shapes)}

    def tensor(name: str) -> torch.Tensor:
        return torch.randn(shapes[name], generator=torch.Generator().manual_seed(places[name])) * 0.02

    return Source("workbench", Path("random"), config, Tokenizer.gpt2(), tensor)


def watched(source: Path, target: Path, to: str) -> int:
    """Convert in a process of its own; returns by how many bytes its own memory grew at most."""
    command = [sys.executable, "-c", CONVERT, str(source), str(target), to]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdin and job.stdout
        assert job.stdout.readline() == "ready\n"
        begin = most = own_memory(job.pid)
        job.stdin.write("\n")
        job.stdin.flush()
        while not select.select([job.stdout], [], [], 0.005)[0]:
            most = max(most, own_memory(job.pid))
        assert job.stdout.readline() == "done\n"
    return most - begin


def own_memory(pid: int) -> int:
    """Bytes of a process that are not pages of a mapped file."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


if __name__ == "__main__":
    main()
