"""A small harness for tests of the command line: call it, and things for it to work on."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import gpt2.cli
from gpt2.tokens.shards import write_shards

WORDS = ["".join(random.Random(i).choices("abcdefghijklmnopqrstuvwxyz", k=5)) for i in range(4000)]
TEXTS = [f"The lazy dog. {' '.join(WORDS[i * 100 : i * 100 + 100]).capitalize()}.\n" for i in range(40)]
SHAPE = ["--layers", "1", "--heads", "1", "--channels", "8", "--context", "16"]


class Said(NamedTuple):
    """What a command answered."""

    status: int
    out: str
    err: str

    def refused(self, words: str) -> bool:
        """Whether it ended with one sentence that has `words`, and printed nothing."""
        one = self.err.startswith("gpt2: ") and self.err.count("\n") == 1 and self.err.endswith("\n")
        return self.status == 2 and not self.out and one and words in self.err


Run = Callable[..., Said]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call the command line in this process, with bytes for standard input."""

    def call(*words: object, given: bytes = b"") -> Said:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given), encoding="utf-8"))
        status = 0
        try:
            gpt2.cli.main([str(word) for word in words])
        except SystemExit as end:
            status = int(end.code or 0)
        return Said(status, *capsys.readouterr())

    return call


class World(NamedTuple):
    """What commands work on."""

    folder: Path
    texts: Path
    shards: Path
    model: Path


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A folder of texts, their tokens and a tiny model."""
    folder = tmp_path_factory.mktemp("world")
    w = World(folder, folder / "texts", folder / "shards", folder / "model")
    w.texts.mkdir()
    for i, text in enumerate(TEXTS):
        (w.texts / f"{i:02d}.txt").write_text(text)
    tok = gpt2.Tokenizer.learn(TEXTS, 300)
    write_shards(((f"d{i}", f"g{i}", t) for i, t in enumerate(TEXTS)), tok, w.shards, {"g1", "g2"})
    gpt2.Model(gpt2.GPT2(gpt2.GPT2Config(1, 1, 8, 300, 32), seed=0), tok).save(w.model)
    return w


def spawn(*words: object, **how: Any) -> subprocess.Popen[bytes]:
    """A process of its own, as a shell would start it."""
    how = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | how
    how["env"] = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"} | how.get("env", {})
    return subprocess.Popen([sys.executable, "-m", "gpt2", *map(str, words)], **how)
