"""Documents and the files they are kept in: any text goes in, and comes out as it was."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.corpus.documents import Document, cut_text, read_documents, read_text, sound, write_documents
from gpt2.errors import FormatError, InputError, TooLittleData, WorkbenchError

ANY_TEXT = st.text(st.characters(), max_size=40)  # halves of surrogate pairs too


def texts(path: Path) -> list[str]:
    return [document.text for document in read_text(path)]


# Corpus files


@settings(max_examples=60, deadline=None, database=None)
@given(
    st.lists(
        st.builds(
            Document,
            text=ANY_TEXT,
            id=ANY_TEXT,
            group=ANY_TEXT,
            title=st.none() | ANY_TEXT,
            language=st.none() | st.just("en"),
            url=st.none() | ANY_TEXT,
            votes=st.none() | st.integers(-(2**40), 2**40),
            date=st.none() | st.just("2019-02-14"),
            source=ANY_TEXT,
        ),
        max_size=5,
    )
)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, documents: list[Document]) -> None:
    path = tmp_path_factory.getbasetemp() / "documents.parquet"
    assert write_documents(path, documents) == len(documents)
    for found, given_ in zip(read_documents(path), documents, strict=True):
        for name, value in vars(given_).items():
            assert getattr(found, name) == (sound(value) if isinstance(value, str) else value)


def test_more_documents_than_one_batch_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "documents.parquet"
    assert write_documents(path, (Document(f"text {i}") for i in range(1_000))) == 1_000
    assert [d.text for d in read_documents(path)] == [f"text {i}" for i in range(1_000)]


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    def some() -> object:
        yield Document("one")
        raise InputError("no more")

    with pytest.raises(InputError):
        write_documents(tmp_path / "documents.parquet", some())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_file_is_no_corpus(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"], "id": ["b"]}), path)
    with pytest.raises(FormatError, match="has no column 'group'; it has text, id"):
        list(read_documents(path))
    with pytest.raises(InputError, match="there is no file"):
        list(read_documents(tmp_path / "absent.parquet"))


def test_a_corpus_is_a_folder_of_files_read_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "corpus" / "documents"
    written = [
        Document(f"text {i}", id=f"http://a.b/{i}", group="g", url=f"http://a.b/{i}") for i in range(9)
    ]
    for shard in (2, 0, 1):
        write_documents(folder / f"documents-{shard:05d}.parquet", written[3 * shard : 3 * shard + 3])
    pyarrow.parquet.write_table(pyarrow.table({"id": ["x"], "of": ["y"]}), folder / "duplicates.parquet")
    (folder / "datasheet.md").write_text("about the documents")
    for read in (read_documents, read_text):
        assert list(read(folder)) == list(read(folder.parent)) == written
        assert list(read(folder / "documents-00001.parquet")) == written[3:6]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"is no corpus: it has no documents-00000\.parquet; build one"):
        list(read_documents(tmp_path / "empty"))


@settings(max_examples=100, deadline=None, database=None)
@given(st.text(st.characters()))
def test_sound_text_can_be_written_and_stays_as_it_is(text: str) -> None:
    assert sound(text).encode().decode() == sound(text)
    if not any("\ud800" <= c <= "\udfff" for c in text):
        assert sound(text) == text


# A user's own text


def test_one_text_in_three_forms_gives_the_same_documents(tmp_path: Path) -> None:
    words = [f"Text number {i}.\n\nIt has two parts: é 日本 \U0001f600.\n" for i in range(7)]
    folders = [tmp_path / name for name in ("plain", "lines", "table")]
    for folder in folders:
        folder.mkdir()
    for i, text in enumerate(words):
        (folders[0] / f"{i}.txt").write_text(text)
    (folders[1] / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in words))
    pyarrow.parquet.write_table(pyarrow.table({"text": words}), folders[2] / "a.parquet")
    assert texts(folders[0]) == texts(folders[1]) == texts(folders[2]) == words
    assert texts(folders[1] / "a.jsonl") == words


def test_a_folder_is_searched_through_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "b" / "deep").mkdir(parents=True)
    for name in ("c.MD", "a.txt", "b/deep/x.rst", "b/y.text", "picture.png", "d.csv", "e.txt~"):
        (tmp_path / name).write_text(name)
    (tmp_path / "empty.txt").write_text(" \n")
    found = list(read_text(tmp_path))
    assert [d.id for d in found] == ["a.txt", "b/deep/x.rst", "b/y.text", "c.MD"]
    assert all(d.id == d.group == d.text and d.source == str(tmp_path / d.id) for d in found)


def test_links_that_lead_in_a_circle_are_no_trap(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "self.txt").symlink_to(tmp_path / "self.txt")
    (tmp_path / "nowhere.txt").symlink_to(tmp_path / "absent.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    assert texts(tmp_path) == ["a"]


def test_a_name_that_is_not_utf8_is_read_all_the_same(tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")).write_text("words")
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    found = list(read_text(tmp_path))
    assert write_documents(tmp_path / "out" / "documents.parquet", found) == 1


def test_ids_and_groups_are_taken_where_there_are_any(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "id": 0, "group": 0},
        {"text": "b", "id": 1, "group": 0},
        {"text": "c", "id": "x", "group": "g"},
        {"text": "d", "id": None},
        {"text": " "},
        {"text": "e"},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    found = list(read_text(path))
    assert [d.id for d in found] == ["a.jsonl:0", "a.jsonl:1", "a.jsonl:x", "a.jsonl:4", "a.jsonl:6"]
    assert [d.group for d in found] == ["0", "0", "g", "a.jsonl:4", "a.jsonl:6"]
    table = pyarrow.table({name: [str(r.get(name, "")) for r in rows] for name in ("text", "id", "group")})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert [d.id for d in read_text(tmp_path / "a.parquet")][2] == "a.parquet:x"


def test_halves_of_pairs_and_marks_of_byte_order_are_mended(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"text": "a\\ud800b", "id": "\\udfff"}\r\n\r\n{"text": "\\ud83d\\ude00"}\r\n'
    )
    found = list(read_text(path))
    assert [d.text for d in found] == ["a\ufffdb", "\U0001f600"]
    assert found[0].id == "a.jsonl:\ufffd"
    assert write_documents(tmp_path / "documents.parquet", found) == 2
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfwith a mark")
    assert texts(tmp_path / "a.txt") == ["with a mark"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a"', "line 2 of .* is not JSON"),
        ("not JSON", "line 2 of .* is not JSON"),
        ("[" * 100_000, "line 2 of .* is not JSON"),
        ('{"text": ' + "9" * 5_000 + "}", "line 2 of .* is not JSON"),
        ("\x01", "line 2 of .* is not JSON"),
        ('["text"]', "line 2 of .* is not a JSON object"),
        ("null", "line 2 of .* is not a JSON object"),
        ('{"words": "a"}', "row 2 of .* has no field 'text' with a string; its fields: words"),
        ('{"text": null}', "row 2 of .* has no field 'text' with a string"),
        ('{"text": 1e400}', "row 2 of .* has no field 'text' with a string"),
        ("{}", "its fields: none"),
    ],
)
def test_lines_that_cannot_be_read_are_refused_in_a_sentence(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n' + line + "\n")
    with pytest.raises(FormatError, match=message) as caught:
        list(read_text(path))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_parquet_file_may_hold_anything_beside_its_text(tmp_path: Path) -> None:
    table = pyarrow.table(
        {
            "text": pyarrow.array(["a", "b"]).dictionary_encode(),
            "when": pyarrow.array([2**62, 0], pyarrow.timestamp("ms")),
            "blob": [b"\0", b"\xff"],
            "deep": [[{"x": 1}], []],
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet") == ["a", "b"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"words": ["a"]}, "has no column 'text'; it has words"),
        ({}, "has no column 'text'; it has none"),
        ({"text": [1]}, "row 1 of .* has no field 'text' with a string"),
        ({"text": [b"a"]}, "row 1 of .* has no field 'text' with a string"),
        ({"text": [["a"]]}, "row 1 of .* has no field 'text' with a string"),
        ({"text": ["a", None]}, "row 2 of .* has no field 'text' with a string"),
        ({"text": ["a"], "id": [datetime.datetime.max]}, None),
    ],
)
def test_parquet_files_without_text_are_refused(
    columns: dict[str, list[object]], message: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    if message is None:
        assert texts(path) == ["a"]
        return
    with pytest.raises(FormatError, match=message):
        list(read_text(path))


def test_a_parquet_file_damaged_anywhere_is_refused_or_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = {"text": [f"text {i} " * 5 for i in range(40)]}
    pyarrow.parquet.write_table(pyarrow.table(rows), path)
    data = path.read_bytes()
    for n in range(0, len(data), 41):
        for broken in (data[:n], data[:n] + bytes([data[n] ^ 0xFF]) + data[n + 1 :]):
            path.write_bytes(broken)
            try:
                list(read_text(path))
            except WorkbenchError as error:
                assert "\n" not in str(error)


def test_text_in_parquet_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    broken = pyarrow.Array.from_buffers(
        pyarrow.string(), 1, [None, pyarrow.py_buffer(b"\0\0\0\0\x02\0\0\0"), pyarrow.py_buffer(b"\xff\xfe")]
    )
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": broken}), path)
    with pytest.raises(FormatError, match="damaged"):
        list(read_text(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"caf\xe9", r"is not UTF-8 text \(byte 3 is 0xe9\)"),
        (b"a\0b", "is binary"),
        ("in UTF-16".encode("utf-16"), "is binary"),
        (b"\x89PNG\r\n\x1a\n\0", "is binary"),
        (b"\xed\xa0\x80", "is not UTF-8"),
    ],
)
def test_what_is_not_text_is_refused_by_name(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message) as caught:
        list(read_text(path))
    assert str(path) in str(caught.value)


def test_a_path_without_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match="there is no text in"):
        list(read_text(tmp_path))
    with pytest.raises(InputError, match="is not one of the kinds"):
        list(read_text(tmp_path / "picture.png"))
    with pytest.raises(InputError, match="there is no file or folder"):
        list(read_text(tmp_path / "absent"))
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(TooLittleData, match="its files are empty"):
        list(read_text(tmp_path))


# Cutting


def test_a_long_text_is_cut_at_empty_lines() -> None:
    paragraphs = [f"Paragraph {i}. " + "word " * 50 for i in range(300)]
    whole = Document("\n\n".join(paragraphs), id="book", group="book", source="book.txt")
    pieces = cut_text(whole)
    assert [p.id for p in pieces] == [f"book#{i}" for i in range(1, len(pieces) + 1)]
    assert all(p.group == p.id and p.source == "book.txt" for p in pieces)
    assert "\n".join(p.text for p in pieces).split() == whole.text.split()
    assert all(3_900 < len(p.text) < 4_400 for p in pieces[:-1])


@settings(max_examples=100, deadline=None, database=None)
@given(st.text(st.sampled_from("ab \n\r\t")))
def test_cutting_loses_no_word_and_makes_no_empty_piece(text: str) -> None:
    pieces = cut_text(Document(text + "c", id="x"), characters=5)
    assert [word for p in pieces for word in p.text.split()] == (text + "c").split()
    assert all(p.text.strip() for p in pieces)


def test_cutting_takes_no_more_than_its_time() -> None:
    for text in (
        "a" + "\n" * 300_000 + "b",
        "a\n" + " " * 300_000 + "b",
        "a\n \n" * 100_000,
        "\n \t" * 100_000 + "b",
    ):
        cut_text(Document(text, id="x"))
