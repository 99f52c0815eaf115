"""What the command line refuses: in one sentence, with status 2, and with nothing half written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import SHAPE, Run, World

from gpt2.errors import sentence


@pytest.mark.parametrize(
    ("words", "refusal"),
    {
        "genrate": "unknown command 'genrate' (did you mean 'generate'?); see gpt2 --help",
        "tokens encod x": "unknown command 'encod' (did you mean 'encode'?); see gpt2 tokens --help",
        "--verbose": "unknown option '--verbose' (did you mean '--version'?)",
        "reproduce --minuts 3": "unknown option '--minuts' (did you mean '--minutes'?); see gpt2 reproduce --help",
        "reproduce --minutes": "missing a value for --minutes",
        "reproduce --minutes abc": 'unable to convert "abc" into float',
        "reproduce --minutes 1 --minutes 2": "--minutes specified multiple times",
        "reproduce 5": "'5' is one argument too many",
        "reproduce --minutes 0": "must be > 0",
        "reproduce --minutes -3": "must be > 0",
        "reproduce --minutes nan": 'invalid value "nan"',
        "reproduce --minutes inf": 'invalid value "inf"',
        "reproduce --minutes 1e400": 'invalid value "inf"',
        "reproduce --seed 1.5": '"1.5" is not a whole number',
        "reproduce --seed -1": "must be >= 0",
        "reproduce --seed 1e99": "must be < 4294967296",
        "reproduce --seed 1e999": "is not a whole number",
        "reproduce --quiet=maybe": 'unable to convert "maybe" into bool',
        "generate": "missing MODEL; see gpt2 generate --help",
        "generate m The fox": "'fox' is one argument too many (a text with spaces needs quotes)",
        "generate m The --top-k -1": "must be >= 0",
        "generate m The --temperature nan": 'invalid value "nan"',
        "generate m The --max-tokens 0": "must be >= 1",
        "generate m The --device gpu": 'choose from: "auto", "cpu", "cuda", "mps"',
        "generate m The --threads 0": "must be >= 1",
        "train --tokens s": "missing --out",
        "train --tokens s --out r --layers 1e9": "must be <= 100000",
        "tokens decode a": 'unable to convert "a" into int',
        "tokens decode 5 50257": "token 50257 is not in this vocabulary",
        "tokens decode -1": "token -1 is not in this vocabulary",
        "tokens decode 99999999999999999999": "token 99999999999999999999 is not in this vocabulary",
        "tokens encode -x": "unknown option '-x'",
    }.items(),
)
def test_wrong_words_are_answered_with_the_right_ones(words: str, refusal: str, run: Run) -> None:
    said = run(*words.split(), "--json") if not words.endswith("--minutes") else run(*words.split())
    assert said.refused(refusal), said


@pytest.fixture
def wrong(world: World, tmp_path: Path) -> Path:
    """A folder of things that cannot be used."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)) * 50)
    (tmp_path / "empty.txt").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    half = shutil.copytree(world.model, tmp_path / "half")
    weights = half / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    noise = shutil.copytree(world.model, tmp_path / "noise")
    (noise / "config.json").write_bytes(b"\xff\xfe{}")
    unfinished = shutil.copytree(world.shards, tmp_path / "unfinished")
    (unfinished / "index.json").unlink()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    return tmp_path


TRAIN = "train --steps 2 --layers 1 --channels 12"


@pytest.mark.parametrize(
    ("words", "refusal"),
    {
        "generate nowhere The": "there is no model at",
        "generate empty The": "there is no config.json",
        "generate binary.txt The": "is a file",
        "generate half The": "is damaged",
        "generate noise The": "is not readable JSON",
        "generate {texts} The": "there is no config.json",
        "generate loop The": "there is no model at loop",
        "score half The": "is damaged",
        "score {model} The --stride 99": "stride must be between 1 and",
        "tokens inspect nowhere": "is no finished shard folder",
        "tokens inspect empty": "is no finished shard folder",
        "tokens inspect unfinished": "is no finished shard folder",
        "tokens inspect empty.txt/x": "is no finished shard folder",
        "tokens inspect {model}/model.safetensors": "is no token file",
        "tokens encode The --vocabulary nowhere": "there is no vocabulary in nowhere",
        "tokens encode The --vocabulary binary.txt": "there is no vocabulary in binary.txt",
        f"{TRAIN} --tokens nowhere --out new": "is no finished shard folder",
        f"{TRAIN} --tokens {{shards}} --out binary.txt": "is a file",
        f"{TRAIN} --tokens {{shards}} --out binary.txt/new": "a directory",
        f"{TRAIN} --tokens {{shards}} --out loop/new": "symbolic links",
        f"{TRAIN} --tokens {{shards}} --out new --size 125M": "there is no GPT-2 of size '125M' (did you mean",
        f"{TRAIN} --tokens {{shards}} --out new --heads 5": "cannot be split evenly",
        f"{TRAIN} --tokens {{shards}} --out new --context 99999": "too few for one sequence",
        f"{TRAIN} --tokens {{shards}} --out new --minutes 1": "exactly one of",
        f"{TRAIN} --tokens {{shards}} --out new --batch 1e9": "must be <= 100000",
        "report nowhere": "there is no file",
        "report binary.txt": "binary.txt",
        "tokens write nowhere new": "nowhere",
        "tokens write empty new": "empty",
        "tokens write binary.txt new": "binary.txt",
        "tokens write {texts} binary.txt": "is a file",
        "tokens write {texts} mine": "has other files, which would be lost",
        "tokens write {texts} .": "while you work in it",
        "tokens write {texts} new --heldout nan": "held-out fraction",
        "tokens write {texts} new --heldout 1": "held-out fraction",
        "tokens write {texts} new --heldout 0.999": "hold out less",
        "tokens write {texts} new --vocabulary nowhere": "there is no vocabulary",
        "tokens learn {texts} new --size 99999": "99",
        "tokens learn {texts} binary.txt --size 300": "file",
        "corpus build --text nowhere --out new": "nowhere",
        "corpus build --text empty --out new": "empty",
        "corpus build --text binary.txt --out new": "binary.txt",
        "corpus build --pages nowhere --out new": "nowhere",
        "corpus build --links nowhere --out new": "give --contact",
        "corpus build --links nowhere --contact me@example.org --out new": "nowhere",
        "reproduce --text nowhere --out new": "nowhere",
        "reproduce --text empty --out new": "empty",
        "reproduce --text binary.txt --out new": "binary.txt",
        "reproduce --text {texts} --out binary.txt": "is a file",
        "reproduce --text {texts} --out loop": "loop",
        "reproduce --text {texts} --links nowhere": "only one of",
        "reproduce --pages binary.txt --out new": "binary.txt",
    }.items(),
)
def test_what_cannot_be_used_is_refused_in_one_sentence(
    words: str, refusal: str, run: Run, world: World, wrong: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(wrong)
    said = run(*words.format(**world._asdict()).split(), "--quiet")
    assert said.refused(refusal), said
    assert (wrong / "mine" / "thesis.txt").read_text() == "years of work"
    assert (wrong / "binary.txt").stat().st_size == 256 * 50
    for made in ("index.json", "config.json", "encoder.json", "report.html", "documents.parquet"):
        assert not list(wrong.glob(f"new/**/{made}")), "something looks finished"


def test_input_that_is_not_text_is_refused(run: Run) -> None:
    assert run("tokens", "encode", given=b"caf\xe9").refused("standard input is not UTF-8 text (byte 3)")
    assert run("tokens", "encode", "caf\udce9").refused("not UTF-8")
    assert run("tokens", "decode", given=b"5 six").refused("not a list of token ids")


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Not root, for a while."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_forbidden_folders_are_refused(
    run: Run, world: World, tmp_path: Path, unprivileged: None, request: pytest.FixtureRequest
) -> None:
    locked = tmp_path / "locked"  # by root's own folder above it, or else by its mode
    if os.getuid():
        locked.mkdir(mode=0)
        request.addfinalizer(lambda: locked.chmod(0o700))
    for words in (
        ("generate", locked / "model", "The"),
        ("tokens", "inspect", locked / "shards"),
        ("tokens", "encode", "The", "--vocabulary", locked / "v"),
        ("reproduce", "--text", locked / "texts", "--out", tmp_path / "new"),
        ("reproduce", "--out", locked / "new"),
    ):
        assert run(*words, "--quiet").refused("ermission denied"), words


def test_what_the_system_refuses_has_a_sentence() -> None:
    for error in (
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA out of memory. Tried to allocate"),
    ):
        assert "not enough memory" in str(sentence(error))
    assert sentence(OSError(28, "No space", "f")) == "f: the disk is full; make room or give another folder"
    assert "disk is full" in str(sentence(ValueError("I/O error: No space left on device (os error 28)")))
    assert sentence(OSError(111, "Connection refused")) is None
    assert sentence(RuntimeError("a fault")) is None


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = shutil.which("mount")
    how = [str(mount), "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() or not mount or subprocess.run(how, capture_output=True).returncode:
        pytest.skip("a tiny disk needs root and a system that lets it mount tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(
    "words",
    [
        ("tokens", "write", "{texts}", "{disk}/new"),
        ("tokens", "learn", "{texts}", "{disk}/new", "--size", "300"),
        ("train", "--tokens", "{shards}", "--out", "{disk}/new", "--steps", "2", *SHAPE[:-1], "512"),
        ("corpus", "build", "--text", "{texts}", "--out", "{disk}/new"),
        ("reproduce", "--text", "{texts}", "--out", "{disk}/new"),
    ],
    ids=" ".join,
)
def test_a_full_disk_leaves_nothing_that_looks_whole(
    words: tuple[str, ...], run: Run, world: World, tiny_disk: Path
) -> None:
    (tiny_disk / "ballast").write_bytes(bytes(52 * 1024))
    words = tuple(w.format(**world._asdict(), disk=tiny_disk) for w in words)
    words = tuple(
        w for i, w in enumerate(words) if not (w == "--channels" and "--channels" in words[i + 1 :])
    )
    said = run(*words, "--quiet")
    assert said.refused("the disk is full"), said
    for made in ("index.json", "config.json", "tokenizer.json", "report.html"):
        assert not list(tiny_disk.glob(f"new/**/{made}")), "something looks finished"
    assert not list(tiny_disk.rglob("*.part")), "a draft stayed behind"
    for mark in tiny_disk.rglob("stage.json"):
        assert not json.loads(mark.read_text())["done"]
