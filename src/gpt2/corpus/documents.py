"""Documents: what a corpus is made of, and the files they are kept in.

A document is one text with what is known of it: an id, the group it is held out with (the module a piece of
its page belongs to, the work a chapter is from), its address, its votes, its date, and where the text was
taken from. A corpus is a folder of Parquet files of them, `documents-00000.parquet` and so on, read in that
order. A user's own text becomes documents by `read_text`: one a text file, one a line of JSON lines, one a
row of Parquet; the documents of a corpus come as they are. Text that is not UTF-8 is refused by name rather
than guessed at: a wrong guess would train a model on rubbish without a word. Halves of surrogate pairs, which
JSON and file names can hold and UTF-8 cannot, become U+FFFD.

    python -c "from gpt2.corpus import read_text; print(next(read_text('my_texts')).text[:200])"
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from gpt2.errors import FormatError, InputError, TooLittleData
from gpt2.workspace import Json, atomic_write

PLAIN_SUFFIXES = {".txt", ".text", ".md", ".rst", ".asc", ".adoc"}
TABLE_SUFFIXES = {".jsonl", ".ndjson", ".parquet"}
SUFFIXES = PLAIN_SUFFIXES | TABLE_SUFFIXES
ROWS_AT_ONCE = 256
NEEDED = ["text", "id", "group"]
SHARD = "documents-{:05d}.parquet"
"""The name of a corpus's n-th file."""


@dataclass(frozen=True)
class Document:
    """A text and what is known of it."""

    text: str
    """The text itself."""
    id: str = ""
    """Its name in the corpus."""
    group: str = ""
    """What it is held out together with; its id when it stands alone."""
    title: str | None = None
    """Its title, where the page has one."""
    language: str | None = None
    """ISO 639-1 code of the language it is most likely in."""
    url: str | None = None
    """Canonical address of its page."""
    votes: int | None = None
    """How many others vouched for the page: distinct pages linking to it, or a link's score."""
    date: str | None = None
    """The day it was published as its page says, as 2019-02-14."""
    source: str = ""
    """Where the text was taken from: a file, a line of it, a record of a WARC file."""


class Part(NamedTuple):
    """A part of a table: what is read of it, and how much comes before."""

    start: int
    """The byte at which its first line begins; of Parquet, its first row, counted from 0."""
    stop: int
    """The same of what comes behind it."""
    rows: int
    """Rows before it: lines that are not blank."""
    lines: int
    """All lines before it."""


def write_documents(path: Path, documents: Iterable[Document]) -> int:
    """Write documents as Parquet, whole or not at all; returns how many there were."""
    import pyarrow
    import pyarrow.parquet

    types = {f.name: pyarrow.string() for f in dataclasses.fields(Document)} | {"votes": pyarrow.int64()}
    schema = pyarrow.schema(types)
    written = 0
    with atomic_write(path) as stream, pyarrow.parquet.ParquetWriter(stream, schema) as writer:
        for batch in in_batches(documents, ROWS_AT_ONCE):
            rows = [{k: sound(v) if isinstance(v, str) else v for k, v in vars(d).items()} for d in batch]
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
            written += len(batch)
    return written


def corpus_files(path: str | Path) -> list[Path]:
    """The files of a corpus, in order: of its folder, of the folder it was built in, or a file by itself.

    Raises `InputError` where there is no corpus.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    for folder in (path, path / "documents"):
        files = sorted(folder.glob("documents-*.parquet"))
        if files:
            return files
    if not path.exists():
        raise InputError(f"there is no file or folder {path}; check the path")
    raise InputError(f"{path} is no corpus: it has no {SHARD.format(0)}; build one with `gpt2 corpus build`")


def read_documents(path: str | Path) -> Iterator[Document]:
    """The documents of a corpus: of its folder, or of one of its files; `FormatError` for a foreign file."""
    others = [f.name for f in dataclasses.fields(Document) if f.name not in NEEDED]
    for file in corpus_files(path):
        for row in parquet_rows(file, NEEDED, others):
            yield Document(**row)


def read_text(path: str | Path) -> Iterator[Document]:
    """Documents from a file or a folder (searched through, in the order of names) of a user's own text.

    JSON lines and Parquet need a field `text`; `id` and `group` are taken when they are there. A corpus gives
    its own documents. Raises `InputError` for a path without text, `FormatError` for a file that is not what
    its name says.
    """
    path = Path(path)
    if is_corpus(path):
        yield from read_documents(path)
        return
    files = text_files(path)
    found = False
    for file, name in files:
        for document in read_file(file, name):
            found = True
            yield document
    if not found:
        raise TooLittleData(f"there is no text in {path}: its files are empty")


def text_files(path: Path) -> list[tuple[Path, str]]:
    """The files of text that a path has, in the order of names, with what they are called in ids."""
    if not path.exists():
        raise InputError(f"there is no file or folder {path}; check the path")
    kinds = ", ".join(sorted(SUFFIXES))
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise InputError(f"{path} is not one of the kinds of text that can be read: {kinds}")
        return [(path, path.name)]
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not files:
        raise InputError(f"there is no text in {path}: give a folder with files of kind {kinds}")
    return [(file, file.relative_to(path).as_posix()) for file in files]


def is_corpus(path: Path) -> bool:
    """Whether a path is a corpus, or a file of one."""
    if path.is_dir():
        return any((folder / SHARD.format(0)).exists() for folder in (path, path / "documents"))
    return re.fullmatch(r"documents-\d{5,}\.parquet", path.name) is not None and path.is_file()


def read_file(path: Path, name: str, part: Part | None = None) -> Iterator[Document]:
    """The documents of one file, called `name` in their ids; texts without a word are passed over.

    With `part` only those of a part of a table, with the ids that they have in the whole.
    """
    name, source = sound(name), sound(str(path))
    if path.suffix.lower() in PLAIN_SUFFIXES:
        text = decode_text(path.read_bytes(), path)
        if text.strip():
            yield Document(text, id=name, group=name, source=source)
        return
    if path.suffix.lower() == ".parquet":
        rows = parquet_rows(path, ["text"], ["id", "group"], (part.start, part.stop) if part else None)
    else:
        rows = jsonl_rows(path, part)
    for number, row in enumerate(rows, part.rows + 1 if part else 1):
        words = row.get("text")
        if not isinstance(words, str):
            fields = ", ".join(row) or "none"
            raise FormatError(
                f"row {number} of {path} has no field 'text' with a string; its fields: {fields}"
            )
        if words.strip():
            own, group = row.get("id"), row.get("group")
            own = sound(f"{name}:{number if own is None else own}")
            group = own if group is None else sound(str(group))
            yield Document(sound(words), id=own, group=group, source=f"{source}:{number}")


def cut_text(document: Document, characters: int = 4_000) -> list[Document]:
    """One long text as documents of about so many characters, cut where there is an empty line.

    Each stands alone, so that some can be held out; a text without empty lines stays whole.
    """
    pieces: list[list[str]] = []
    size = characters
    for part in re.split(r"\n\s*\n", document.text.strip()):
        if size >= characters:
            pieces.append([])
            size = 0
        pieces[-1].append(part)
        size += len(part)
    return [
        dataclasses.replace(document, text="\n\n".join(parts) + "\n", id=name, group=name)
        for number, parts in enumerate(pieces, 1)
        for name in [f"{document.id}#{number}"]
    ]


def sound(text: str) -> str:
    """Text that UTF-8 can hold: halves of surrogate pairs are joined, or become U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def decode_text(data: bytes, path: Path) -> str:
    """Bytes as UTF-8 text, without its byte-order mark; `FormatError` when they are not text."""
    if b"\0" in data[:65536]:
        raise FormatError(f"{path} is binary, not text; take it away or give another file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{path} is not UTF-8 text (byte {error.start} is 0x{data[error.start]:02x}); "
            "convert it to UTF-8 or take it away"
        ) from None


def jsonl_rows(path: Path, part: Part | None = None) -> Iterator[Json]:
    """The objects of a file of JSON lines, or of a part of it."""
    with path.open("rb") as stream:
        if part is None:
            yield from json_lines(stream, str(path))
        else:
            stream.seek(part.start)
            yield from json_lines(lines_of(stream, part.stop - part.start), str(path), part.lines + 1)


def lines_of(stream: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The lines that begin in the next so many bytes."""
    for line in stream:
        yield line
        size -= len(line)
        if size <= 0:
            break


def json_lines(stream: Iterable[bytes], name: str, first: int = 1) -> Iterator[Json]:
    """The objects of JSON lines called `name`, from the line that is number `first` there."""
    for number, line in enumerate(stream, first):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"line {number} of {name} is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise FormatError(f"line {number} of {name} is not a JSON object with a field 'text'")
        yield row


def parquet_rows(
    path: Path, needed: list[str], taken: Iterable[str] = (), span: tuple[int, int] | None = None
) -> Iterator[Json]:
    """The rows of a Parquet file, a few at a time: its columns `needed`, and `taken` if it has them."""
    with damage_told(path):
        for batch in parquet_batches(path, needed, taken, span):
            rows: list[Json] = batch.to_pylist()
            yield from rows


def parquet_batches(
    path: Path, needed: list[str], taken: Iterable[str] = (), span: tuple[int, int] | None = None
) -> Iterator[Any]:
    """The same as Arrow record batches of up to `ROWS_AT_ONCE` rows; of a span, only its row groups are read."""
    import pyarrow.parquet

    if not path.exists():
        raise InputError(f"there is no file {path}; check the path")
    with damage_told(path), path.open("rb") as stream, pyarrow.parquet.ParquetFile(stream) as file:
        names = file.schema_arrow.names
        for name in needed:
            if name not in names:
                raise FormatError(f"{path} has no column {name!r}; it has {', '.join(names) or 'none'}")
        columns = [*needed, *(name for name in taken if name in names)]
        if span is None:
            yield from file.iter_batches(ROWS_AT_ONCE, columns=columns)
            return
        start, stop = span
        ends = list(accumulate(group_rows(file.metadata)))
        groups = [g for g, end in enumerate(ends) if end > start and (ends[g - 1] if g else 0) < stop]
        at = ends[groups[0] - 1] if groups and groups[0] else 0
        for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=groups, columns=columns):
            rows = batch[max(0, start - at) : max(0, stop - at)]
            at += batch.num_rows
            if rows.num_rows:
                yield rows
            if at >= stop:
                break


def group_rows(metadata: Any) -> list[int]:
    """How many rows each row group of a Parquet file has."""
    return [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]


@contextlib.contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """What Arrow says of a damaged file, as a `FormatError`."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, ValueError, OverflowError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # the system's, and no fault of the file
        reason = str(error).split("\n")[0]
        raise FormatError(f"{path} is damaged or not a Parquet file ({reason}); make it anew") from None


def in_batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of up to `size` items, in order."""
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
