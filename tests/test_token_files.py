"""Files of 16-bit tokens: other trainers' files are read as they are, wrong files are named in one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.errors import FormatError, InputError
from gpt2.tokens import Tokenizer, Tokens, read_llmc, read_nanogpt
from gpt2.tokens.token_files import TokenFile, header, open_token_file

END = 50_256
TEXTS = ["The first document.", "A second one,\n\nin two parts.", "And the third: <|endoftext|>"]


def write_nanogpt(path: Path, documents: list[list[int]]) -> None:
    """As nanoGPT's `prepare.py` does: `<|endoftext|>` appended to each document, bare uint16."""
    np.array([i for ids in documents for i in (*ids, END)], np.uint16).tofile(path)


def write_llmc(path: Path, documents: list[list[int]]) -> None:
    """As llm.c's `data_common.py` does: `<|endoftext|>` before each document, behind 256 int32."""
    tokens = np.array([i for ids in documents for i in (END, *ids)], np.uint16)
    head = np.zeros(256, np.int32)
    head[0], head[1], head[2] = 20240520, 1, len(tokens)
    with path.open("wb") as stream:
        stream.write(head.tobytes())
        stream.write(tokens.tobytes())


def documents_of(row: Tokens) -> list[list[int]]:
    return [row.document(i).tolist() for i in range(row.n_documents)]


@pytest.mark.parametrize("name", ["nanogpt", "llmc"])
def test_documents_of_other_trainers(tmp_path: Path, name: str) -> None:
    tok = Tokenizer.gpt2()
    documents = [tok.encode(text) for text in TEXTS]
    write, read = (write_nanogpt, read_nanogpt) if name == "nanogpt" else (write_llmc, read_llmc)
    write(tmp_path / "val.bin", documents)
    row = read(tmp_path / "val.bin")
    assert row.n_tokens == sum(map(len, documents)) + 3
    assert [tok.decode(ids) for ids in documents_of(row)] == TEXTS
    half = tmp_path / "half.bin"
    write(half, documents[1:])
    assert documents_of(read(tmp_path / "val.bin", str(half))) == documents + documents[1:]


def test_documents_may_begin_and_end_without_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "train.bin"
    np.array([1, 2, END, 3, END, END, 4], "<u2").tofile(path)
    row = read_nanogpt(path)
    assert row.starts.tolist() == [0, 2, 4, 5]
    assert documents_of(row) == [[1, 2], [3], [], [4]]
    np.array([7] * 5, "<u2").tofile(path)
    assert documents_of(read_nanogpt(path)) == [[7] * 5]
    path.write_bytes(b"")
    assert read_nanogpt(path).n_tokens == read_nanogpt(path).n_documents == 0
    assert documents_of(read_nanogpt()) == []


def test_characters_as_tokens(tmp_path: Path) -> None:
    """nanoGPT's character-level Shakespeare numbers 65 characters: small ids and no end of text."""
    ids = np.random.default_rng(1).integers(0, 65, 3_000)
    ids.astype(np.uint16).tofile(tmp_path / "train.bin")
    assert documents_of(read_nanogpt(tmp_path / "train.bin")) == [ids.tolist()]


def test_tiny_shakespeare_as_llmc_lays_it_out(data: Path, tmp_path: Path) -> None:
    """llm.c's counts: a document a paragraph, 32,768 tokens to validate and 305,260 to train."""
    text = (data / "prose" / "tinyshakespeare.txt").read_text(encoding="utf-8")
    tok = Tokenizer.gpt2()
    spelled = "<|endoftext|>" + text.replace("\n\n", "\n\n<|endoftext|>")
    ids = tok.encode(spelled, allow_special=True)
    assert len(ids) == 338_028 and ids[:5] == [END, 5962, 22307, 25, 198]
    for name, part in (("val", ids[:32_768]), ("train", ids[32_768:])):
        (tmp_path / name).write_bytes(header(len(part)) + np.array(part, "<u2").tobytes())
    row = read_llmc(tmp_path / "val", tmp_path / "train")
    assert row.files[1].count == 305_260
    assert "".join(tok.decode(ids) for ids in documents_of(row)) == text
    assert row.n_documents == len(text.split("\n\n"))


@settings(max_examples=150, deadline=None, database=None)
@given(st.lists(st.lists(st.sampled_from([0, 1, 65_535, END]), max_size=9), max_size=5), st.data())
def test_reading_over_files_is_reading_one_row(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[list[int]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("row")
    for k, piece in enumerate(pieces):
        (folder / str(k)).write_bytes(header(len(piece)) + np.array(piece, "<u2").tobytes())
    row, whole = (
        read_llmc(*(folder / str(k) for k in range(len(pieces)))),
        [i for piece in pieces for i in piece],
    )
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    found = row.read(start, stop)
    assert found.dtype == np.uint16 and found.tolist() == whole[start:stop]
    # the documents are the row, cut at each mark that something follows
    marks = [i for i, token in enumerate(whole) if token == END and i < len(whole) - 1]
    assert row.starts.tolist() == ([0] if whole and marks[:1] != [0] else []) + marks
    rebuilt = [i for document in documents_of(row) for i in document]
    assert rebuilt == [i for i in whole if i != END]


def test_reading_out_of_range_is_refused(tmp_path: Path) -> None:
    write_llmc(tmp_path / "a", [[1, 2, 3]])
    row = read_llmc(tmp_path / "a")
    for start, stop in ((-1, 2), (3, 2), (0, 5), (5, 5)):
        with pytest.raises(InputError, match=f"tokens {start} to {stop} are not within the 4 there are"):
            row.read(start, stop)
    with pytest.raises(InputError, match="there is no document 1; there are 1, counted from 0"):
        row.document(1)


def test_a_read_costs_what_it_touches(tmp_path: Path) -> None:
    """A file of 8 GB, most of it a hole: opening and reading at its end is immediate."""
    path = tmp_path / "large.bin"
    with path.open("wb") as stream:
        stream.write(header(2**31 - 1))
        stream.seek(1024 + 2 * (2**31 - 2))
        stream.write(b"\x07\x00")
    row = Tokens([open_token_file(path)] * 2)
    assert row.n_tokens == 2**32 - 2
    assert row.read(2**31 - 2, 2**31).tolist() == [7, 0]
    with pytest.raises(ValueError, match="read-only"):
        row.read(0, 4)[0] = 1
    assert TokenFile(path, 1024, 0).map().tolist() == []


def wrong_files(folder: Path) -> dict[str, Path]:
    contents = {
        "empty": b"",
        "text": b"First Citizen:\nBefore we proceed any further, hear me speak.\n" * 40,
        "french": "Où donc ? L'été s'achève à Orléans, déjà.\r\n".encode() * 40,
        "odd": bytes(range(256)) * 8 + b"\0",
        "llmc": header(3) + b"\1\0\2\0\3\0",
        "cut": header(3) + b"\1\0\2\0",
        "cut in a token": header(3) + b"\1\0\2\0\3",
        "too long": header(3) + b"\1\0" * 4,
        "negative": np.array([20240520, 1, -5] + [0] * 253, "<i4").tobytes(),
        "evaluation": np.array([20240522, 1, 5] + [0] * 253, "<i4").tobytes(),
        "newer": np.array([20240801, 7, 5] + [0] * 253, "<i4").tobytes(),
        "version": np.array([20240520, 2, 0] + [0] * 253, "<i4").tobytes(),
        "header cut": header(3)[:700],
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "folder").mkdir()
    return {name: folder / name for name in [*contents, "folder", "missing"]}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty", "is no token file: it has 0 bytes, fewer than a header has"),
        ("text", r"its header says \d+, version \d+, not 20240520, version 1"),
        ("odd", "a nanoGPT file has no header: use read_nanogpt"),
        ("cut", r"is damaged: its header says 3 tokens, and it has 2\.0"),
        ("cut in a token", r"is damaged: its header says 3 tokens, and it has 2\.5"),
        ("too long", r"is damaged: its header says 3 tokens, and it has 4\.0"),
        ("negative", r"is damaged: its header says -5 tokens, and it has 0\.0"),
        ("evaluation", "its header says 20240522, version 1, not 20240520"),
        ("newer", "its header says 20240801, version 7"),
        ("version", "its header says 20240520, version 2"),
        ("header cut", "is no token file: it has 700 bytes"),
        ("folder", "cannot be read: Is a directory"),
        ("missing", "cannot be read: No such file"),
    ],
)
def test_what_is_no_llmc_file_is_named(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(FormatError, match=reason) as caught:
        read_llmc(wrong_files(tmp_path)[name])
    assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("text", "is text and no nanoGPT token file: encode it"),
        ("french", "is text and no nanoGPT token file"),
        ("odd", r"or was cut short: 2,049 bytes are not whole tokens"),
        ("llmc", r"has llm.c's header and is no nanoGPT token file: use read_llmc"),
        ("cut in a token", r"has llm.c's header"),
        ("folder", "cannot be read: Is a directory"),
        ("missing", "cannot be read: No such file"),
    ],
)
def test_what_is_no_nanogpt_file_is_named(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(FormatError, match=reason) as caught:
        read_nanogpt(wrong_files(tmp_path)[name])
    assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


def test_real_tokens_are_never_taken_for_text(data: Path, tmp_path: Path) -> None:
    """Any stretch of 512 tokens of prose, in English and French, may stand at the start of a file."""
    tok, path = Tokenizer.gpt2(), tmp_path / "train.bin"
    for source in [
        *sorted((data / "prose" / "novels").glob("*.txt"))[:3],
        *(data / "prose" / "french").glob("*"),
    ]:
        ids = np.array(tok.encode(source.read_text(encoding="utf-8")[:60_000]), "<u2")
        for start in range(0, len(ids), 512):
            ids[start:].tofile(path)
            assert read_nanogpt(path).n_tokens == len(ids) - start
