"""Signatures and shingles of a corpus on disk, one file a shard.

`sign_shard` reads a shard once and writes a Parquet file with, row for row, the key, the sketch and the band
hashes of minhash.py, which are then read a column at a time. It needs nothing but the shard, so these files may
be made anywhere. While Daft hashes one batch, Python takes the next apart into words, on another core where
there is one. `ShingleFiles` has the sorted shingles of those documents that met another, to be read one document
at a time while they are compared. Rejected: reading the texts again for each comparison, since Parquet gives no
single row, and keeping the shingles of all documents, which are larger than the text.

    sign_shard(Path("documents-00000.parquet"), Path("signatures-00000.parquet"), bands=18, rows=7, ngram=5)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpt2.console import QUIET, Console
from gpt2.corpus.dedupe.clusters import Places
from gpt2.corpus.dedupe.minhash import Hashes, Signatures, shingles, sign, words
from gpt2.corpus.documents import damage_told, parquet_batches
from gpt2.errors import InputError
from gpt2.workspace import Json, atomic_write

BATCH_BYTES = 4 << 20
FILE, SETS, SIZES = "signatures-{:05d}.parquet", "shingles-{:05d}.bin", "sizes-{:05d}.npy"


def sign_shards(
    shards: Sequence[Path], folder: Path, bands: int, rows: int, ngram: int, console: Console = QUIET
) -> Json:
    """Write the signatures of each shard into `folder`, but for those that are there."""
    counts = [documents_in(shard) for shard in shards]
    with console.progress("signatures", sum(counts), "documents") as bar:
        for number, (shard, count) in enumerate(zip(shards, counts, strict=True)):
            target = folder / FILE.format(number)
            if target.exists():
                bar.skip(count)
            else:
                sign_shard(shard, target, bands, rows, ngram, bar.advance)
    return {"documents": sum(counts)}


def sign_shard(
    shard: Path,
    target: Path,
    bands: int,
    rows: int,
    ngram: int,
    advance: Callable[[float], None] = lambda _: None,
) -> None:
    """Write the signatures of one shard, whole or not at all."""
    import pyarrow
    import pyarrow.parquet

    names = ["key_0", "key_1", "sketch_0", "sketch_1", *(f"band_{band}" for band in range(bands))]
    schema = pyarrow.schema({"near": pyarrow.bool_(), **dict.fromkeys(names, pyarrow.uint64())})

    def put(signed: Signatures) -> None:
        columns = np.concatenate([signed.key, signed.sketch, signed.bands], axis=1).T
        arrays = [pyarrow.array(column) for column in (signed.near, *np.ascontiguousarray(columns))]
        writer.write_table(pyarrow.table(arrays, schema=schema))
        advance(len(signed.near))

    plain: Any = {"compression": "none", "use_dictionary": False}  # hashes do not compress
    with (
        atomic_write(target) as stream,
        pyarrow.parquet.ParquetWriter(stream, schema, **plain) as writer,
        ThreadPoolExecutor(1) as pool,
    ):
        waiting = None
        for batch in word_batches(shard):
            job = pool.submit(sign, batch, bands, rows, ngram)
            if waiting:
                put(waiting.result())
            waiting = job
        if waiting:
            put(waiting.result())


def word_batches(shard: Path) -> Iterator[list[bytes]]:
    """The `words` of a shard's documents, some megabytes at a time."""
    batch: list[bytes] = []
    size = 0
    for _, row in shard_words(shard):
        batch.append(row)
        size += len(row) + 64
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def shard_words(shard: Path, wanted: npt.NDArray[np.bool_] | None = None) -> Iterator[tuple[int, bytes]]:
    """(row, `words`) of the wanted documents of a shard, or of all."""
    import pyarrow

    here = 0
    for batch in parquet_batches(shard, ["text"]):
        column = batch.column(0)
        places = np.arange(here, here + len(column))
        if wanted is not None:
            mask = wanted[here : here + len(column)]
            column, places = column.filter(pyarrow.array(mask)), places[mask]
        with damage_told(shard):
            texts = column.to_pylist()
        for place, text in zip(places.tolist(), texts, strict=True):
            yield place, words(text or "")
        here += batch.num_rows


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

    def words(self, wanted: npt.NDArray[np.bool_], shard: int) -> Iterator[tuple[int, bytes]]:
        """(document, `words`) of the wanted documents of one shard."""
        begin, end = self.begins[shard : shard + 2].tolist()
        if wanted[begin:end].any():
            for row, found in shard_words(self.shards[shard], wanted[begin:end]):
                yield begin + row, found


class ShingleFiles:
    """The shingles of some documents, given in ascending order, to be read one document at a time."""

    def __init__(
        self, signed: SignedShards, documents: Places, folder: Path, ngram: int, console: Console = QUIET
    ) -> None:
        self.folder = folder
        wanted = np.zeros(signed.total, np.bool_)
        wanted[documents] = True
        sizes = []
        with console.progress("shingles", len(documents), "documents") as bar:
            for shard in range(len(signed.shards)):
                path = folder / SIZES.format(shard)
                if not path.exists():
                    with atomic_write(folder / SETS.format(shard)) as stream:
                        sets = (shingles(row, ngram) for _, row in signed.words(wanted, shard))
                        lengths = [stream.write(s.astype("<u8").tobytes()) // 8 for s in sets]
                    with atomic_write(path) as stream:
                        np.save(stream, np.array(lengths, np.int64))
                sizes.append(np.load(path))
                bar.advance(len(sizes[-1]))
        self.sizes: Places = np.concatenate([*sizes, np.empty(0, np.int64)])
        self.files = [folder / SETS.format(shard) for shard in range(len(sizes))]
        self.shard = np.repeat(np.arange(len(sizes)), [len(s) for s in sizes])
        self.begin = np.concatenate([np.cumsum(s) - s for s in sizes] or [np.empty(0, np.int64)])

    def __call__(self, i: int) -> Hashes:
        """The shingles of the i-th document."""
        with self.files[self.shard[i]].open("rb", buffering=0) as stream:
            stream.seek(8 * int(self.begin[i]))
            return np.frombuffer(stream.read(8 * int(self.sizes[i])), "<u8").astype(np.uint64, copy=False)

    def delete(self) -> None:
        """Take the files away."""
        for path in (*self.folder.glob("sizes-*.npy"), *self.files):
            path.unlink()
