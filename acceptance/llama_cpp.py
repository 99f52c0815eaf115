"""llama.cpp computes what we compute, from GGUF files that we wrote.

Builds llama.cpp from the source package of `llama-cpp-python` in an environment that is thrown away (ten minutes
and more; needs a C++ compiler and pip's index) and has both programs read the same prose with a float32 cache,
from float32 GGUF files of a 124M network with random weights, of a small one that is trained here for some
minutes, and of every model named. llama.cpp must cut the text into the same tokens, and over all positions

    mean KL(ours || theirs) < 1e-5, and the same most likely token in at least 99.9 % of them.

Before that, llama.cpp's own converter, which is in the same package, takes a Hugging Face folder of ours: its GGUF
file must equal the one that we write of the same network, in each number format, in all tensors to the bit and in
all settings but the name and the size it has for people.

llama.cpp looks GELU up in a table of float16 numbers, which is what keeps the two apart: our network with GELU
rounded so differs from itself by as much (KL 7.0e-9 there, 7.2e-9 here, on 6 layers of random weights). In a
random network the best two tokens are so near each other that this decides between them in about one position of
a thousand; so the second claim is made of trained networks, and of the random one only that KL is small.

    GPT2_DATA=DATA python -m acceptance.llama_cpp [MODEL ...]
    LLAMA_PYTHON=ENVIRONMENT/bin/python ...    with a llama-cpp-python that is there already
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from gpt2.errors import InputError
from gpt2.model.config import GPT2Config
from gpt2.model.formats import Source, gguf, huggingface, open_source
from gpt2.model.formats.gguf_header import Header
from gpt2.model.transformer import GPT2
from gpt2.tokens.bpe import Tokenizer

PACKAGE = "llama-cpp-python==0.3.36"
BOOKS = ("novels/Braddon_Audley_1862.txt", "tinyshakespeare.txt", "inaugural/1861-Lincoln.txt")
"""Public-domain prose."""
WINDOWS = 4
"""Texts of a full context."""
MOST_KL, LEAST_SAME = 1e-5, 0.999
STEPS, BATCH = 300, 4

THEIRS = """
import json, sys
import llama_cpp
import numpy as np

job = json.load(open(sys.argv[1]))
model = llama_cpp.Llama(
    job["model"], n_ctx=job["context"], n_batch=job["context"], n_threads=2, n_threads_batch=2,
    logits_all=True, type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32, verbose=False,
)
ids = model.tokenize(job["text"].encode(), add_bos=False, special=False)
json.dump(ids, open(job["ids"], "w"))
for i, row in enumerate(job["rows"]):
    model.reset()
    model.eval(row)
    np.save(job["logits"] + str(i), model.scores[: len(row)])
"""


def main() -> None:
    """Build, compare, print; raises `AssertionError` when the two disagree."""
    if "GPT2_DATA" not in os.environ:
        raise InputError("set GPT2_DATA to the folder of real data")
    folder = Path(os.environ["GPT2_DATA"]) / "prose"
    text = "\n\n".join((folder / book).read_text(encoding="utf-8")[:40_000] for book in BOOKS)
    with tempfile.TemporaryDirectory() as scratch:
        python = os.environ.get("LLAMA_PYTHON") or build(Path(scratch) / "environment")
        torch.set_num_threads(2)
        converter_agrees(Path(scratch), python)
        random_net = GPT2(GPT2Config.size("124M"), seed=0)
        compare("random 124M", in_memory(random_net), text, Path(scratch), python, trained=False)
        compare("trained 7M", in_memory(train(text)), text, Path(scratch), python)
        for name in sys.argv[1:]:
            compare(name, open_source(name), text, Path(scratch), python)


def train(text: str) -> GPT2:
    """A small network of GPT-2's vocabulary after some minutes with a text."""
    net = GPT2(GPT2Config(n_layer=4, n_head=4, n_embd=128, n_ctx=256))
    ids, draw = torch.tensor(Tokenizer.gpt2().encode(text)), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    for _ in range(STEPS):
        starts = torch.randint(len(ids) - 257, (BATCH, 1), generator=draw)
        rows = ids[starts + torch.arange(257)]  # [B, T + 1]
        loss = F.cross_entropy(net(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"trained a small network for {STEPS} steps, last loss {loss.item():.2f}", flush=True)
    return net.eval()


def build(folder: Path) -> str:
    """An environment with llama.cpp, built from source; returns its interpreter."""
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "install", "-qq", "--no-binary", "llama-cpp-python", PACKAGE]
    subprocess.run(
        ["nice", "-n", "19", *pip], check=True, env=os.environ | {"CMAKE_ARGS": "-DLLAVA_BUILD=OFF"}
    )
    print(f"built {PACKAGE}")
    return python


def converter_agrees(scratch: Path, python: str) -> None:
    """Hold our GGUF files against those that llama.cpp's converter makes of our Hugging Face folder."""
    pip = [python, "-m", "pip", "download", "-qq", "--no-deps", "--no-binary", ":all:", PACKAGE]
    subprocess.run([*pip, "--dest", str(scratch)], check=True)
    with tarfile.open(next(scratch.glob("*.tar.gz"))) as archive:
        archive.extractall(scratch / "source", filter="data")
    converter = next(scratch.glob("source/*/vendor/llama.cpp/convert_hf_to_gguf.py"))
    source = in_memory(GPT2(GPT2Config(n_layer=2, n_head=4, n_embd=64), seed=1))
    huggingface.write(scratch / "folder", source)
    for kind in gguf.KINDS:
        paths = scratch / "ours.gguf", scratch / "theirs.gguf"
        gguf.write(paths[0], source, kind)
        command = [sys.executable, str(converter), str(scratch / "folder"), "--outtype", kind]
        subprocess.run([*command, "--outfile", str(paths[1])], check=True, capture_output=True)
        ours, theirs = map(Header, paths)
        apart = {name for name in ours.fields.keys() | theirs.fields.keys() if differ(name, ours, theirs)}
        assert apart == {"general.name", "general.size_label"}, f"{kind}: other settings: {apart}"
        mine, other = ours.tensors(), theirs.tensors()
        assert mine.keys() == other.keys()
        for name, part in mine.items():
            assert (part.kind, part.shape) == (other[name].kind, other[name].shape), f"{kind}: {name}"
            assert np.array_equal(part.raw, other[name].raw), f"{kind}: {name}"
    print(f"llama.cpp's converter makes the same files of our Hugging Face folder: {', '.join(gguf.KINDS)}")


def differ(name: str, ours: Header, theirs: Header) -> bool:
    """Whether two files differ in a setting."""
    return not np.array_equal(ours.fields.get(name), theirs.fields.get(name))


def in_memory(net: GPT2) -> Source:
    """A network in memory as a source."""
    return Source("workbench", Path("random"), net.config, Tokenizer.gpt2(), net.state_dict().__getitem__)


def compare(name: str, source: Source, text: str, scratch: Path, python: str, trained: bool = True) -> None:
    """Hold llama.cpp's logits of one model against ours."""
    gguf.write(scratch / "model.gguf", source)
    net = GPT2(source.config)
    net.load_state_dict({key: source.tensor(key) for key in net.state_dict()})
    ids, context = source.tokenizer.encode(text), source.config.n_ctx
    windows = WINDOWS * 1024 // context
    rows = [ids[i * len(ids) // windows :][:context] for i in range(windows)]
    job = {"model": str(scratch / "model.gguf"), "context": context, "text": text, "rows": rows}
    job |= {"ids": str(scratch / "ids.json"), "logits": str(scratch / "logits")}
    (scratch / "job.json").write_text(json.dumps(job))
    subprocess.run([python, "-c", THEIRS, str(scratch / "job.json")], check=True)
    assert json.loads((scratch / "ids.json").read_text()) == ids, (
        f"{name}: llama.cpp makes other tokens of the text"
    )
    divergence, same, apart = [], [], 0.0
    for i, row in enumerate(rows):
        with torch.inference_mode():
            ours = net(torch.tensor([row]))[0]  # [T, V]
        theirs = torch.from_numpy(np.load(scratch / f"logits{i}.npy"))
        apart = max(apart, float((ours - theirs).abs().max()))
        same.append((ours.argmax(-1) == theirs.argmax(-1)).float())
        for mine, other in zip(ours.split(64), theirs.split(64), strict=True):
            p, q = mine.double().log_softmax(-1), other.double().log_softmax(-1)
            divergence.append((p.exp() * (p - q)).sum(-1))
    kl, agreed = float(torch.cat(divergence).mean()), float(torch.cat(same).mean())
    print(
        f"{name}: mean KL {kl:.1e} and same top token in {agreed:.2%} of {len(torch.cat(same)):,} positions, "
        f"logits apart by at most {apart:.0e}; {len(ids):,} tokens cut alike",
        flush=True,
    )
    assert kl < MOST_KL, f"{name}: mean KL {kl:.2e}"
    assert agreed >= LEAST_SAME or not trained, f"{name}: same top token in {agreed:.3%}"


if __name__ == "__main__":
    main()
