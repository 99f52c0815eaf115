"""Token files on disk: documents in order, split into training and held-out (paper 2.2, 3.1).

    shards/index.json                    written last: files, lengths, checksums
    shards/tokenizer/                    the vocabulary that the ids belong to
    shards/train/tokens-00000.bin        uint16 tokens behind a header, llm.c's layout (token_files.py)
    shards/train/documents.parquet       id, group, address, start and UTF-8 bytes of each document
    shards/heldout/...                   the same for documents that training must not see

`<|endoftext|>` stands before each document: every first token has it as context, and it ends the document
before. Held-out is decided by group (a novel, a module), not by document, or chapters of one novel would
stand on both sides. The folder appears whole or not at all, and `Shards.open` refuses one that was cut,
changed or never finished. Rejected: a shuffle while writing (the trainer shuffles blocks, and files
in the given order can be read and compared), and one index in JSON, which takes gigabytes for WebText.

    python -c "from gpt2.tokens import Shards; print(Shards.open('shards').summary)"
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpt2.console import QUIET, Console
from gpt2.errors import ConfigError, FormatError, InputError, TooLittleData
from gpt2.tokens.bpe import Ids, Offsets, Tokenizer, sound
from gpt2.tokens.token_files import TokenFile, Tokens, header, open_token_file
from gpt2.workspace import Json, atomic_folder, file_digest, read_json, recover_folder, write_json

INDEX, TABLE, VERSION = "index.json", "documents.parquet", 1
BATCH_CHARACTERS = 8_000_000
LARGEST_FILE = 2**31 - 1
"""tokens; the header counts them in an int32"""

Document = tuple[str, str, str] | tuple[str, str, str, str | None]
"""id, group, text, and the address it was taken from where there is one"""


def choose_heldout(groups: Sequence[str], fraction: float, seed: int) -> set[str]:
    """The groups to hold out, so that they have at least `fraction` of all documents.

    `groups` has one entry a document. Groups are taken in the order of the sha256 of seed and name, so the
    choice depends on nothing else, and a larger fraction holds out a superset. Raises `ConfigError` for a
    fraction outside [0, 1) and `TooLittleData` when no group would be left to train on.
    """
    if not 0 <= fraction < 1:
        raise ConfigError(f"a held-out fraction of {fraction} cannot be: give at least 0 and less than 1")
    sizes: dict[str, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    heldout: set[str] = set()
    documents = 0
    for group in sorted(sizes, key=lambda name: hashlib.sha256(f"{seed}\n{sound(name)}".encode()).digest()):
        if documents >= fraction * len(groups):
            break
        heldout.add(group)
        documents += sizes[group]
    if heldout and len(heldout) == len(sizes):
        raise TooLittleData(
            f"holding out {fraction:.1%} of {len(groups)} documents takes all {len(sizes)} groups: "
            "give documents of more groups, or hold out less"
        )
    return heldout


def write_shards(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    folder: str | Path,
    heldout: set[str],
    *,
    shard_tokens: int = 100_000_000,
    console: Console = QUIET,
) -> Json:
    """Encode documents into token files; those whose group is in `heldout` go to the held-out split.

    Memory is bounded by one batch of documents. Returns what `Shards.summary` says afterwards. Raises
    `ConfigError` for a vocabulary of more than 65,536 tokens or a file of more than 2^31 - 1, `InputError`
    for a folder that has other things in it, and `TooLittleData` without any document.
    """
    if tokenizer.n_vocab > 65_536:
        raise ConfigError(
            f"token files hold 16-bit ids, and this vocabulary has {tokenizer.n_vocab:,} tokens"
        )
    if not 1 <= shard_tokens <= LARGEST_FILE:
        raise ConfigError(f"shard_tokens is {shard_tokens:,}; a file can have 1 to {LARGEST_FILE:,} tokens")
    token_bytes = np.array([len(token) for token in tokenizer.tokens], np.int64)
    with (
        atomic_folder(Path(folder), INDEX) as draft,
        console.progress("writing tokens", unit="tokens") as bar,
    ):
        writers = {name: _SplitWriter(draft / name, shard_tokens) for name in ("train", "heldout")}
        for batch in _batches(documents):
            ids, offsets = tokenizer.encode_batch([document[2] for document in batch])
            sizes = np.diff(np.concatenate([[0], np.cumsum(token_bytes[ids])])[offsets])
            lengths = np.diff(offsets)
            out = np.array([document[1] in heldout for document in batch])
            for name, chosen in (("train", ~out), ("heldout", out)):
                rows = [(*batch[i][:2], *(batch[i][3:] or [None])) for i in np.flatnonzero(chosen)]
                kept = ids[np.repeat(chosen, lengths)]
                writers[name].add(rows, kept, lengths[chosen], sizes[chosen], tokenizer.end_of_text)
            bar.advance(len(ids) + len(batch))
        splits = {name: writer.close() for name, writer in writers.items()}
        if not any(split["documents"] for split in splits.values()):
            raise TooLittleData("there are no documents to write")
        tokenizer.save(draft / "tokenizer")
        index = {"version": VERSION, "n_vocab": tokenizer.n_vocab, "fingerprint": tokenizer.fingerprint}
        write_json(draft / INDEX, index | {"splits": splits})
    return _summary(index | {"splits": splits})


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document[2]) + 1_000
        if characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _summary(index: Json) -> Json:
    splits = {
        name: {"documents": split["documents"], "tokens": split["tokens"], "bytes": split["bytes"]}
        for name, split in index["splits"].items()
    }
    return {"n_vocab": index["n_vocab"], "fingerprint": index["fingerprint"], **splits}


class _SplitWriter:
    """Token files of one split, each filled to `shard_tokens`, and its table of documents."""

    def __init__(self, folder: Path, shard_tokens: int) -> None:
        import pyarrow
        import pyarrow.parquet

        folder.mkdir()
        self.folder, self.shard_tokens = folder, shard_tokens
        self.documents = self.tokens = self.bytes = 0
        self.files: list[Json] = []
        self._held = 0  # tokens in the file that is being filled
        self._arrow = pyarrow
        types = {
            "id": pyarrow.string(),
            "group": pyarrow.string(),
            "url": pyarrow.string(),
            "start": pyarrow.int64(),
            "bytes": pyarrow.int64(),
        }
        self._schema = pyarrow.schema(types)
        self._table = pyarrow.parquet.ParquetWriter(folder / TABLE, self._schema)

    def add(
        self, rows: list[tuple[Any, ...]], ids: Ids, lengths: Offsets, sizes: Offsets, end_of_text: int
    ) -> None:
        """Append documents: rows of id, group and address, the ids of all, tokens and UTF-8 bytes of each."""
        if not rows:
            return
        starts = np.cumsum(lengths) - lengths
        tokens = np.insert(ids, starts, end_of_text).astype("<u2")
        names, groups, urls = (
            [name if name is None else sound(name) for name in column] for column in zip(*rows, strict=True)
        )
        begins = self.tokens + starts + np.arange(len(rows))
        columns = {"id": names, "group": groups, "url": urls, "start": begins, "bytes": sizes}
        self._table.write_table(self._arrow.table(columns, schema=self._schema))
        self.documents += len(rows)
        self.tokens += len(tokens)
        self.bytes += int(sizes.sum())
        while len(tokens):
            piece, tokens = np.split(tokens, [self.shard_tokens - self._held])
            with self._path.open("ab") as stream:
                stream.write((b"" if self._held else header(0)) + piece.tobytes())
            self._held += len(piece)
            if self._held == self.shard_tokens:
                self._finish_file()

    @property
    def _path(self) -> Path:
        return self.folder / f"tokens-{len(self.files):05d}.bin"

    def _finish_file(self) -> None:
        if self._held:
            with self._path.open("r+b") as stream:
                stream.write(header(self._held))
            entry = {"name": self._path.name, "tokens": self._held, "sha256": file_digest(self._path)}
            self.files.append(entry)
            self._held = 0

    def close(self) -> Json:
        """Finish the files and describe the split for the index."""
        self._finish_file()
        self._table.close()
        table = self.folder / TABLE
        return {
            "documents": self.documents,
            "tokens": self.tokens,
            "bytes": self.bytes,
            "files": self.files,
            "table": {"size": table.stat().st_size, "sha256": file_digest(table)},
        }


class Split(Tokens):
    """One side of a shard folder: a row of tokens and the table of its documents."""

    def __init__(self, folder: Path, files: Sequence[TokenFile], end_of_text: int) -> None:
        super().__init__(files, end_of_text)
        self.folder, self.files = folder, list(files)
        self._columns: dict[str, Any] = {}

    def column(self, name: str) -> Any:
        """A column of the table of documents, as Arrow has it: id, group, url, start or bytes."""
        import pyarrow
        import pyarrow.parquet

        if name not in self._columns:
            with pyarrow.parquet.ParquetFile(self.folder / TABLE) as file:
                if name in file.schema_arrow.names:
                    self._columns[name] = file.read([name]).column(name)
                else:  # a folder written before addresses were kept
                    self._columns[name] = pyarrow.chunked_array(
                        [pyarrow.nulls(file.metadata.num_rows, "string")]
                    )
        return self._columns[name]

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """Where the `<|endoftext|>` of each document stands, [n_documents] int64."""
        return np.asarray(self.column("start").to_numpy(), np.int64)

    @cached_property
    def document_ids(self) -> list[str]:
        """The id of each document."""
        return list(self.column("id").to_pylist())

    @cached_property
    def groups(self) -> list[str]:
        """The group of each document."""
        return list(self.column("group").to_pylist())

    @cached_property
    def _bytes(self) -> npt.NDArray[np.int64]:
        return np.asarray(self.column("bytes").to_numpy(), np.int64)

    def n_bytes(self, i: int) -> int:
        """How long the text of document i is in UTF-8 bytes."""
        return int(self._bytes[i])


class Shards:
    """A shard folder, opened: `tokenizer`, `train`, `heldout`, and `summary`, counts of both."""

    def __init__(
        self, folder: Path, tokenizer: Tokenizer, train: Split, heldout: Split, summary: Json
    ) -> None:
        self.folder, self.tokenizer = folder, tokenizer
        self.train, self.heldout, self.summary = train, heldout, summary

    @classmethod
    def open(cls, folder: str | Path, verify: bool = False) -> Shards:
        """Open a folder that `write_shards` finished, checking headers and lengths.

        With `verify`, every byte is read and held against the checksums. Raises `InputError` where there is
        no shard folder and `FormatError` for one that is damaged, cut short or from another program.
        """
        folder = Path(folder)
        recover_folder(folder)
        if not (folder / INDEX).exists():
            raise InputError(
                f"{folder} is no finished shard folder (it has no {INDEX}); write it with `gpt2 tokens write`"
            )
        index = read_json(folder / INDEX)
        if not isinstance(index, dict) or index.get("version") != VERSION or "splits" not in index:
            raise FormatError(f"{folder / INDEX} is not an index of token shards, version {VERSION}")
        tokenizer = Tokenizer.load(folder / "tokenizer")
        if tokenizer.fingerprint != index["fingerprint"]:
            raise FormatError(
                f"the vocabulary in {folder / 'tokenizer'} is not the one that its tokens were made with"
            )
        splits = {
            name: Split(folder / name, _checked_files(folder / name, split, verify), tokenizer.end_of_text)
            for name, split in index["splits"].items()
        }
        return cls(folder, tokenizer, splits["train"], splits["heldout"], _summary(index))

    def __repr__(self) -> str:
        return f"Shards({str(self.folder)!r}, {self.train.n_tokens:,} + {self.heldout.n_tokens:,} tokens)"


def _checked_files(folder: Path, split: Json, verify: bool) -> list[TokenFile]:
    files = []
    for entry in split["files"]:
        file = open_token_file(folder / entry["name"])
        if file.count != entry["tokens"]:
            raise FormatError(
                f"{file.path} has {file.count:,} tokens, and the index says {entry['tokens']:,}"
            )
        if verify and file_digest(file.path) != entry["sha256"]:
            raise FormatError(
                f"{file.path} is damaged: its checksum is not the one in the index; write the shards anew"
            )
        files.append(file)
    table = folder / TABLE
    whole = table.exists() and table.stat().st_size == split["table"]["size"]
    if not whole or (verify and file_digest(table) != split["table"]["sha256"]):
        raise FormatError(f"the table of documents {table} is missing or damaged; write the shards anew")
    return files
