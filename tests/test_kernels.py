"""The native kernels against their twin in numpy, over shapes, kinds of weights, instruction sets and cuts."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.errors import FormatError, InputError, MissingExtra
from gpt2.inference.kernels import Decoder, build, twin
from gpt2.inference.kernels.decoder import close
from gpt2.model.config import GPT2Config
from gpt2.model.packed import KINDS, matrix_shapes, packed_names, tiles_again
from gpt2.model.quantize import pack_model

LIBRARY = os.environ.get("GPT2_KERNELS")
"""Another build to test: acceptance/sanitizers.py gives one."""

shapes = st.builds(
    lambda heads, width, layers, vocabulary, context: GPT2Config(
        layers, heads, heads * width, vocabulary, context
    ),
    st.integers(1, 4),
    st.sampled_from([1, 3, 8, 10, 16, 17, 32, 80]),
    st.integers(1, 2),
    st.sampled_from([2, 15, 16, 17, 64, 131, 517]),
    st.integers(2, 40),
)


def model(config: GPT2Config, scheme: str, seed: int = 0) -> dict[str, Any]:
    """Packed random weights, large enough for all parts to matter."""
    rng = np.random.default_rng(seed)

    @functools.cache  # a first pass of the head asks for the head once more
    def tensor(name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        owner, _, part = name.rpartition(".")
        if owner == "wpe":
            return rng.normal(0, 0.3, (config.n_ctx, config.n_embd)).astype(np.float32)
        if owner in matrix_shapes(config):
            rows, columns = matrix_shapes(config)[owner]
            size: tuple[int, ...] = (rows, columns) if part == "weight" else (rows,)
            return rng.normal(0, 0.5 / columns**0.5 if part == "weight" else 0.1, size).astype(np.float32)
        return rng.normal(part == "weight", 0.2, config.n_embd).astype(np.float32)

    return pack_model(config, tensor, scheme)


def decoder(config: GPT2Config, tensors: dict[str, Any], slots: int = 1, **options: Any) -> Decoder:
    """A decoder on the build under test."""
    return Decoder(config, tensors, slots, library=LIBRARY, **options)


@settings(max_examples=40, deadline=None)
@given(shapes, st.sampled_from(sorted(KINDS)), st.integers(0, 99), st.data())
def test_the_kernels_equal_the_twin_in_every_shape(
    config: GPT2Config, scheme: str, seed: int, data: st.DataObject
) -> None:
    tensors = model(config, scheme, seed)
    ids = data.draw(st.lists(st.integers(0, config.vocab_size - 1), min_size=1, max_size=config.n_ctx))
    want = twin.read(config, tensors, ids)
    got = decoder(config, tensors, threads=2).run([0], [ids], every=True)
    # A float that lies on the border of two codes may fall to either side: then all that comes after it is
    # another rounding of the same network, as far from this one as rounding goes. Without one, they are equal.
    largest = np.abs(want).max()
    border = max(np.abs(nudged(config, tensors, ids, by) - want).max() for by in (-1e-5, 1e-5))
    whole = by_head(config, tensors, ids, True)
    rounding = np.abs(whole - by_head(config, tensors, ids, True, rounded=False)).max()
    limit = 1e-3 * largest + (4 * rounding if border > 1e-3 * largest else 0)
    far = np.abs(got - want)
    if border > 1e-3 * largest:  # what is computed again by the whole head is another choice then too
        again = np.abs(got - whole)
        assert (again <= limit).sum(1).min() >= min(
            config.vocab_size, 16 * tiles_again(config.vocab_size) - 15
        )
        far = np.minimum(again, np.abs(got - by_head(config, tensors, ids, False)))
    assert far.max() <= limit


def by_head(
    config: GPT2Config, tensors: dict[str, Any], ids: list[int], whole: bool, rounded: bool = True
) -> twin.Floats:
    """The twin's logits, all of them by the whole head or all by its first pass."""
    with mock.patch.object(twin, "highest", lambda logits: np.full(logits.shape, whole)):
        return twin.read(config, tensors, ids, rounded)


def nudged(config: GPT2Config, tensors: dict[str, Any], ids: list[int], by: float) -> twin.Floats:
    """The twin's logits where all that it rounds is a little off, up and down in turn."""

    def rounded(x: twin.Floats) -> twin.Floats:
        return round_rows(x + np.float32(by) * np.abs(x).max() * (1 - 2 * (np.indices(x.shape).sum(0) % 2)))

    round_rows = twin.round_rows
    with mock.patch.object(twin, "round_rows", rounded):
        return twin.read(config, tensors, ids)


@pytest.mark.parametrize("path", build.paths())
def test_the_highest_logits_are_those_of_the_whole_head(path: str) -> None:
    config = GPT2Config(n_layer=1, n_head=2, n_embd=128, vocab_size=50_257, n_ctx=8)
    tensors = model(config, "int4")
    whole = {name: tensor for name, tensor in tensors.items() if name != "wte.first"}
    ids = list(range(7, 15))
    got = decoder(config, tensors, path=path, threads=2).run([0], [ids], every=True)
    exact = decoder(config, whole, path=path, threads=2).run([0], [ids], every=True)
    same = got == exact
    assert same.sum(axis=1).min() >= tiles_again(50_257) * 16 - 15  # the last tile has one row
    assert np.array_equal(got.argmax(axis=1), exact.argmax(axis=1))
    best = np.argsort(-exact, axis=1)[:, :5]
    assert np.take_along_axis(same, best, axis=1).all()
    assert np.abs(got - exact).max() < np.abs(exact).max() / 2


@settings(max_examples=25, deadline=None)
@given(shapes, st.sampled_from(sorted(KINDS)), st.integers(0, 99))
def test_all_instruction_sets_and_thread_counts_give_the_same_bits(
    config: GPT2Config, scheme: str, seed: int
) -> None:
    tensors = model(config, scheme, seed)
    ids = np.random.default_rng(seed).integers(0, config.vocab_size, config.n_ctx).tolist()
    first = decoder(config, tensors, threads=1, path="portable").run([0], [ids], every=True)
    for path in build.paths():
        for threads in (1, 2, 3):
            again = decoder(config, tensors, threads=threads, path=path).run([0], [ids], every=True)
            assert np.array_equal(first, again), (path, threads)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.integers(0, 10**6))
def test_a_text_has_the_same_bits_alone_and_among_others_however_it_is_cut(scheme: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    config = GPT2Config(n_layer=2, n_head=2, n_embd=48, vocab_size=70, n_ctx=90)
    tensors = model(config, scheme)
    texts = [rng.integers(0, 70, rng.integers(1, 90)).tolist() for _ in range(20)]
    alone = []
    for text in texts:
        alone.append(decoder(config, tensors, threads=1).run([0], [text], every=True))
    together, done = decoder(config, tensors, slots=20, threads=2), [0] * 20
    while any(done[i] < len(text) for i, text in enumerate(texts)):
        open_texts = [i for i, text in enumerate(texts) if done[i] < len(text)]
        chosen = rng.permutation(open_texts)[: rng.integers(1, len(open_texts) + 1)].tolist()
        ends = [min(done[i] + int(rng.choice([1, 2, 5, 40])), len(texts[i])) for i in chosen]
        parts = [texts[i][done[i] : end] for i, end in zip(chosen, ends, strict=True)]
        every = bool(rng.integers(2))
        logits = together.run(chosen, parts, every=every)
        for i, end in zip(chosen, ends, strict=True):
            rows = end - done[i] if every else 1
            assert np.array_equal(logits[:rows], alone[i][end - rows : end])
            logits, done[i] = logits[rows:], end


def test_a_cut_text_goes_on_as_if_nothing_had_been_there_and_a_copy_as_its_original() -> None:
    config = GPT2Config(n_layer=2, n_head=3, n_embd=36, vocab_size=50, n_ctx=40)
    d = decoder(config, model(config, "int8"), slots=2)
    whole = d.run([0], [list(range(30))], every=True)
    d.cut(0, 7)
    assert np.array_equal(d.run([0], [[7, 8]], every=True), whole[7:9])
    d.run([1], [[3] * 20])
    d.copy(0, 1)
    d.copy(1, 1)
    assert np.array_equal(d.run([1], [[9]]), whole[9:10])
    assert np.array_equal(d.run([0], [list(range(9, 20))], every=True), whole[9:20])
    d.copy(0, 1)
    assert np.array_equal(d.run([1], [[20]]), whole[20:21])


@pytest.mark.parametrize("scheme", sorted(KINDS))
@pytest.mark.parametrize("name", ["h.0.ln_1", "h.1.ln_2", "ln_f", "wpe"])
def test_a_weight_that_is_no_number_is_seen_in_the_logits(scheme: str, name: str) -> None:
    config = GPT2Config(n_layer=2, n_head=3, n_embd=36, vocab_size=50, n_ctx=40)
    for channel in range(36):
        tensors = model(config, scheme)
        tensors[name] = tensors[name].copy()
        tensors[name].view(np.float32).reshape(-1)[channel] = np.nan
        for path in build.paths():
            assert np.isnan(decoder(config, tensors, threads=1, path=path).run([0], [[1]])).all()


def python(code: str) -> subprocess.CompletedProcess[str]:
    """A process of its own that runs `code` after a small decoder's imports."""
    setup = """
import resource, sys, threading, time
from gpt2.inference.kernels import Decoder
from gpt2.model.config import GPT2Config
from test_kernels import model
config = GPT2Config(n_layer=2, n_head=4, n_embd=64, vocab_size=50, n_ctx=1024)
tensors = model(config, "int8")
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", setup + code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_a_process_ends_in_peace_while_a_thread_decodes() -> None:
    done = python("""
d, running = Decoder(config, tensors, threads=2), threading.Event()
def work():
    while True:
        d.run([0], [[1] * 200])
        d.cut(0, 0)
        running.set()
threading.Thread(target=work, daemon=True).start()
running.wait()
sys.exit(0)
""")
    assert (done.returncode, done.stderr) == (0, "")


def test_where_memory_is_short_one_sentence_says_so_and_smaller_decoders_work() -> None:
    done = python("""
Decoder(config, tensors)
resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32))
for slots, threads in ((40000, 2), (1, 4000)):
    try:
        Decoder(config, tensors, slots, threads=threads)
    except MemoryError as error:
        print(error)
Decoder(config, tensors, threads=2).run([0], [[1]])
""")
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert "40000 texts of 1024 tokens" in first and "4000 threads" in second


def test_a_fork_leaves_the_model_to_the_process_that_opened_it() -> None:
    config = GPT2Config(n_layer=1, n_head=1, n_embd=16, vocab_size=20, n_ctx=12)
    closed: list[int] = []
    close(closed.append, 7, os.getpid() + 1)
    assert not closed
    close(closed.append, 7, os.getpid())
    assert closed == [7]
    assert decoder(config, model(config, "int8")).run([0], [[1]]).shape == (1, 20)


def test_what_does_not_fit_is_refused_before_the_library_sees_it() -> None:
    config = GPT2Config(n_layer=1, n_head=1, n_embd=16, vocab_size=20, n_ctx=12)
    tensors = model(config, "int4")
    d = decoder(config, tensors, slots=2, room=8)
    wrong_calls: list[tuple[list[int], list[list[int]]]] = [
        ([2], [[1]]),
        ([-1], [[1]]),
        ([0, 0], [[1], [1]]),
        ([0], [[1], [2]]),
        ([], []),
        ([0], [[]]),
        ([0], [[20]]),
        ([0], [[-1]]),
        ([0], [[1] * 9]),
    ]
    for slots, ids in wrong_calls:
        with pytest.raises(InputError):
            d.run(slots, ids)
    for slot, length in [(0, 1), (2, 0), (0, -1)]:
        with pytest.raises(InputError):
            d.cut(slot, length)
    with pytest.raises(InputError):
        d.copy(0, 5)
    for wrong in ({"slots": 0}, {"room": 0}, {"threads": -1}):
        with pytest.raises(InputError):
            decoder(config, tensors, **wrong)
    for name in packed_names(config, "int4"):
        for bad in (None, tensors[name][:-1], tensors[name][:, :-1], tensors[name].astype(np.int64)):
            with pytest.raises(FormatError):
                decoder(config, {**tensors, name: bad})


def test_without_a_compiler_one_sentence_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(build, "cache_folders", lambda: [tmp_path / "a", tmp_path / "b"])
    with pytest.raises(MissingExtra, match="C\\+\\+ compiler"):
        build.built()
    monkeypatch.setattr(build, "compiler", lambda: sys.executable)
    with pytest.raises(MissingExtra, match="could not compile"):
        build.built()
    assert not list(tmp_path.rglob("*.so"))


def test_the_library_is_built_once_and_falls_back_to_another_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(build, "cache_folders", lambda: [tmp_path / "file" / "a", tmp_path / "b"])
    left, young = tmp_path / "b" / "build-left", tmp_path / "b" / "build-young"
    for folder in (left, young):
        folder.mkdir(parents=True)
    (tmp_path / "b").chmod(0o700)
    os.utime(left, (0, 0))
    made = []
    monkeypatch.setattr(build, "compile_library", lambda place: made.append(place.write_bytes(b"")))
    assert build.built() == build.built()
    assert build.built().parent == tmp_path / "b" and len(made) == 1
    assert young.exists() and not left.exists()


def test_no_library_is_taken_from_a_folder_that_others_may_write_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(build, "compile_library", lambda place: place.write_bytes(b""))
    monkeypatch.setattr(build, "cache_folders", lambda: [tmp_path / "mine"])
    library = build.built()
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    monkeypatch.setattr(build, "cache_folders", lambda: [tmp_path / "link"])
    with pytest.raises(MissingExtra, match="yours alone"):
        build.built()
    monkeypatch.setattr(build, "cache_folders", lambda: [tmp_path / "mine", tmp_path / "second"])
    (tmp_path / "mine").chmod(0o770)
    assert build.built().parent == tmp_path / "second"
    (tmp_path / "mine").chmod(0o700)
    assert build.built() == library
    library.rename(tmp_path / "elsewhere")
    library.symlink_to(tmp_path / "elsewhere")
    assert build.built().parent == tmp_path / "second"


def test_a_library_that_cannot_be_loaded_is_built_once_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "cache_folders", lambda: [tmp_path / "a"])
    whole, made = build.compile_library, []
    monkeypatch.setattr(build, "compile_library", lambda place: made.append(place.write_bytes(b"")))
    with pytest.raises(MissingExtra, match="cannot be loaded"):
        build.opened()
    assert len(made) == 2
    monkeypatch.setattr(build, "compile_library", whole)
    capsys.readouterr()
    assert hasattr(build.opened(), f"gpt2_open_{build.paths()[0]}")
    told = capsys.readouterr()
    assert not told.out and told.err.startswith("compiling the fast engine") and told.err.count("\n") == 1
    assert [place.suffix for place in (tmp_path / "a").iterdir()] == [".so"]


COMPILER = """#!/bin/sh
case "$*" in
*{refused}*) echo "no, not that" >&2; exit 1;;
esac
exec {compiler} "$@"
"""


def test_a_compiler_without_half_precision_and_one_that_cannot_link(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    true, false = build.compiler(), tmp_path / "compiler"
    monkeypatch.setattr(build, "compiler", lambda: str(false))

    def refuse(what: str) -> None:
        false.write_text(COMPILER.format(refused=what, compiler=true))
        false.chmod(0o700)

    refuse("-shared")
    with pytest.raises(MissingExtra, match="could not link the fast engine \\(no, not that"):
        build.compile_library(tmp_path / "decode.so", ("-O0",))
    if build.paths()[0] != "portable":
        refuse("=portable")
        build.compile_library(tmp_path / "decode.so", ("-O0",))
        assert "step" in build.load(library=str(tmp_path / "decode.so"))
        with pytest.raises(MissingExtra, match="without the instruction set portable"):
            build.load("portable", str(tmp_path / "decode.so"))


def test_a_user_without_a_home_has_the_folder_for_passing_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert [folder.name for folder in build.cache_folders()] == [f"gpt2-workbench-{os.getuid()}"]


def test_the_processor_decides_which_instruction_set_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert build.paths() == ["portable"]
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(Path, "read_text", lambda self: "flags\t: fpu avx2 f16c\n")
    assert build.paths() == ["avx2", "portable"]


def test_decoding_imports_no_torch() -> None:
    code = "import sys, gpt2.inference.kernels, gpt2.model.packed; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_structures_are_as_long_as_the_library_takes_them() -> None:
    from gpt2.inference.kernels.decoder import Layer, Matrix, Shape

    assert [ctypes.sizeof(s) for s in (Matrix, Layer, Shape)] == [24, 112, 40]
