"""Signatures and shingles of a corpus on disk, one file of each a shard.

`Signing` reads a shard once and writes a Parquet file with, row for row, the key, the sketch, the band hashes of
minhash.py and the number of shingles, which are then read a column at a time; and beside it the sorted shingles
themselves, to be read one document at a time while documents are compared. It needs nothing but the shard, so it
is done by the workers of any engine. The shingles of all take about a third more room than the texts; rejected:
only those of documents that met another, for which, as for the measuring, all texts must be read again.

    with Signing(Path("signatures"), 18, 7, 5).opened() as sign: sign(shard_jobs([Path("documents-00000.parquet")])[0])
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from gpt2.corpus.dedupe.clusters import Places
from gpt2.corpus.dedupe.minhash import Hashes, shingles, sign, words
from gpt2.corpus.documents import damage_told, in_batches, parquet_rows
from gpt2.errors import InputError
from gpt2.workspace import Json, atomic_write

AT_ONCE = 512
FILE, SETS = "signatures-{:05d}.parquet", "shingles-{:05d}.bin"


@dataclass(frozen=True)
class Signing:
    """Writes the signatures and shingles of a shard."""

    folder: Path
    """Where they go."""
    bands: int
    """Bands of a signature."""
    rows: int
    """Hashes in a band."""
    ngram: int
    """Words in an n-gram."""
    worth: ClassVar[int] = 8_000_000

    @contextlib.contextmanager
    def opened(self) -> Iterator[Callable[[Json], Json]]:
        """The function of jobs."""
        yield self.sign

    def sign(self, job: Json) -> Json:
        """Write both files of a shard, unless they are there already."""
        import pyarrow
        import pyarrow.parquet

        target = self.folder / FILE.format(job["number"])
        if done := target.exists():
            return {"number": job["number"], "done": done, "documents": documents_in(target)}
        names = ["key_0", "key_1", "sketch_0", "sketch_1", *(f"band_{band}" for band in range(self.bands))]
        types = {"near": pyarrow.bool_(), "size": pyarrow.int64()}
        schema = pyarrow.schema(types | dict.fromkeys(names, pyarrow.uint64()))
        plain: Any = {"compression": "none", "use_dictionary": False}  # hashes do not compress
        documents = 0
        with (
            atomic_write(target) as stream,
            pyarrow.parquet.ParquetWriter(stream, schema, **plain) as writer,
            atomic_write(self.folder / SETS.format(job["number"])) as sets,
        ):
            rows = parquet_rows(Path(job["shard"]), ["text"])
            for batch in in_batches((words(row["text"] or "") for row in rows), AT_ONCE):
                signed = sign(batch, self.bands, self.rows, self.ngram)
                found = [shingles(row, self.ngram).astype("<u8") for row in batch]
                sets.write(b"".join(one.tobytes() for one in found))
                columns = np.concatenate([signed.key, signed.sketch, signed.bands], axis=1).T
                sizes = np.array([len(one) for one in found], np.int64)
                arrays = [pyarrow.array(a) for a in (signed.near, sizes, *np.ascontiguousarray(columns))]
                writer.write_table(pyarrow.table(arrays, schema=schema))
                documents += len(batch)
        return {"number": job["number"], "done": done, "documents": documents}


def documents_in(shard: Path) -> int:
    """How many documents a shard has."""
    import pyarrow.parquet

    if not shard.exists():
        raise InputError(f"there is no file {shard}; check the path")
    with damage_told(shard), shard.open("rb") as stream:
        return int(pyarrow.parquet.ParquetFile(stream).metadata.num_rows)


class SignedShards:
    """Shards with their signatures, as one long table: document `begins[s] + r` is row r of shard s."""

    def __init__(self, shards: Sequence[Path], folder: Path) -> None:
        self.shards, self.folder = shards, folder
        self.files = [folder / FILE.format(number) for number in range(len(shards))]
        self.begins = np.cumsum([0, *map(documents_in, self.files)])
        self.total = int(self.begins[-1])

    def columns(self, *names: str) -> Iterator[npt.NDArray[Any]]:
        """Columns of the signatures, shard by shard: [documents] for one, [documents, names] for more."""
        import pyarrow.parquet

        for file in self.files:
            table = pyarrow.parquet.read_table(file, columns=list(names), memory_map=False)
            arrays = [table.column(name).to_numpy() for name in names]
            yield arrays[0] if len(names) == 1 else np.stack(arrays, axis=1)

    def taken(self, documents: Places, *names: str) -> npt.NDArray[Any]:
        """Columns of some documents, given in ascending order."""
        parts = [
            piece[documents[(documents >= begin) & (documents < begin + len(piece))] - begin]
            for begin, piece in zip(self.begins, self.columns(*names), strict=False)
        ]
        return np.concatenate(parts)

    def sets(self, shard: int, sizes: Places) -> Iterator[Hashes]:
        """The shingles of each document of a shard, whose numbers are given."""
        with (self.folder / SETS.format(shard)).open("rb") as stream:
            for size in sizes.tolist():
                yield np.frombuffer(stream.read(8 * size), "<u8").astype(np.uint64, copy=False)


class ShingleFiles:
    """The shingles of some documents, given in ascending order, to be read one document at a time."""

    def __init__(self, signed: SignedShards, documents: Places) -> None:
        self.shard = np.searchsorted(signed.begins, documents, "right") - 1
        sizes, begins = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for shard, column in enumerate(signed.columns("size")):
            mine = documents[self.shard == shard] - signed.begins[shard]
            sizes.append(column[mine])
            begins.append((np.cumsum(column) - column)[mine])
        self.sizes: Places = np.concatenate(sizes)
        self.begin = np.concatenate(begins)
        self.files = [signed.folder / SETS.format(shard) for shard in range(len(signed.shards))]

    def __call__(self, i: int) -> Hashes:
        """The shingles of the i-th document."""
        with self.files[self.shard[i]].open("rb", buffering=0) as stream:
            stream.seek(8 * int(self.begin[i]))
            return np.frombuffer(stream.read(8 * int(self.sizes[i])), "<u8").astype(np.uint64, copy=False)
