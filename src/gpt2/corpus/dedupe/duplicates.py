"""The list of duplicates: written, shown, and taken out of the shards.

`duplicates.parquet` has a row for each document to drop: its id, the id of the document it repeats, which is
kept, their similarity, the cluster (all that repeat one document; 0 is the largest), and the shard and row
where it stands. Shard and row name a document without fail, which ids do only where no two are the same.

    python -c "from gpt2.corpus.dedupe.duplicates import *; print(largest_clusters(Path('out/duplicates.parquet'), 3))"
"""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from gpt2.console import QUIET, Console
from gpt2.corpus.dedupe.clusters import Places
from gpt2.corpus.dedupe.signatures import SignedShards, documents_in
from gpt2.corpus.documents import damage_told, parquet_batches, parquet_rows
from gpt2.corpus.engine import HERE, Engine
from gpt2.corpus.funnel import Funnel
from gpt2.corpus.links.votes import hash64
from gpt2.corpus.shards import ALONE, alone, facts, shard_jobs, through
from gpt2.workspace import Json, atomic_write, file_digest

if TYPE_CHECKING:
    from gpt2.corpus.build.takedown import Removals

ROWS_AT_ONCE = 10_000


def write_duplicates(
    path: Path,
    signed: SignedShards,
    documents: Places,
    ids: Any,
    rank: Places,
    of: Places,
    similarity: npt.NDArray[np.float64],
) -> Json:
    """Write what each dropped document repeats, the largest cluster first and the best of each first."""
    import pyarrow
    import pyarrow.parquet

    dropped = np.flatnonzero(of != np.arange(len(of)))
    copies = np.bincount(of[dropped], minlength=len(of))
    keepers = np.flatnonzero(copies)
    keepers = keepers[np.lexsort((rank[keepers], -copies[keepers]))]
    cluster = np.empty(len(of), np.int64)
    cluster[keepers] = np.arange(len(keepers))
    dropped = dropped[np.lexsort((rank[dropped], cluster[of[dropped]]))]
    shard = np.searchsorted(signed.begins, documents[dropped], "right") - 1
    names = pyarrow.array([shard.name for shard in signed.shards], pyarrow.string())
    table = pyarrow.table(
        {
            "id": ids.take(dropped),
            "of": ids.take(of[dropped]),
            "similarity": similarity[dropped],
            "cluster": cluster[of[dropped]],
            "shard": names.take(shard),
            "row": documents[dropped] - signed.begins[shard],
        }
    )
    with atomic_write(path) as stream:
        pyarrow.parquet.write_table(table, stream, row_group_size=ROWS_AT_ONCE)
    return {"clusters": len(keepers), "largest": int(copies.max(initial=0))}


@dataclass(frozen=True)
class Keeping:
    """Writes shards without the documents that are listed as duplicates, and those that somebody had removed."""

    folder: Path
    """Where the shards go, under the same names."""
    duplicates: Path
    """The list."""
    removals: Removals | None = None
    """What was to be removed."""
    worth: ClassVar[int] = 64_000_000

    @contextlib.contextmanager
    def opened(self) -> Iterator[Callable[[Json], Json]]:
        """The function of jobs."""
        yield self.keep

    def keep(self, job: Json) -> Json:
        """Write what is left of a shard, unless it is there already."""
        import pyarrow.parquet

        shard = Path(job["shard"])
        target = self.folder / shard.name
        if not (done := target.exists()):
            mine = [("shard", "=", shard.name)]
            listed = pyarrow.parquet.read_table(self.duplicates, columns=["row"], filters=mine)
            write_shard(shard, target, listed["row"].to_numpy(), self.removals)
        return {"number": job["number"], "done": done, **facts(target)}


def write_kept(
    shards: Sequence[Path], duplicates: Path, folder: Path, console: Console = QUIET, engine: Engine = HERE
) -> list[Path]:
    """Write what is left of each shard into folder `documents` of `folder`, under the same name.

    Raises `InputError` when a shard lies in that folder, which is emptied when the shards are others.
    """

    def do(to: Path) -> Json:
        work = Keeping(to.absolute(), duplicates.absolute())
        through(work, shard_jobs(shards), engine, console, "documents")
        return {}

    alone(folder, "dedupe", shards, {"duplicates": file_digest(duplicates)}, do)
    return [folder / ALONE / shard.name for shard in shards]


def write_shard(shard: Path, target: Path, dropped: Places, removals: Removals | None = None) -> None:
    """Write a shard without some of its rows, and without what was to be removed."""
    import pyarrow
    import pyarrow.parquet

    with damage_told(shard):
        schema = pyarrow.parquet.read_schema(shard)
    left = np.ones(documents_in(shard), np.bool_)
    left[dropped] = False
    here = 0
    with atomic_write(target) as stream, pyarrow.parquet.ParquetWriter(stream, schema) as writer:
        for batch in parquet_batches(shard, schema.names):
            mask = left[here : here + batch.num_rows]
            here += batch.num_rows
            if removals:
                rows = batch.select(["id", "url"]).to_pylist()
                mask &= [not removals.covers_any(row.values()) for row in rows]
            if mask.any():
                writer.write_batch(batch.filter(pyarrow.array(mask)))


def one_per_address(shards: Sequence[Path], folder: Path, funnel: Funnel) -> list[Path]:
    """The shards with each id once over all of them: the document with most votes, of equals the first.

    A shard that loses some is written anew into `folder`. Takes 20 bytes of memory a document.
    """
    addresses, votes, sizes = array("Q"), array("q"), []
    for shard in shards:
        before = len(addresses)
        for row in parquet_rows(shard, ["id"], ["votes"]):
            addresses.append(hash64(row["id"]))
            votes.append(-(2**40) if row["votes"] is None else row["votes"])
        sizes.append(len(addresses) - before)
    hashes = np.asarray(addresses, np.uint64)
    order = np.lexsort((-np.asarray(votes, np.int64), hashes))
    again = np.sort(order[1:][hashes[order][1:] == hashes[order][:-1]])
    found, start = [], 0
    for shard, size in zip(shards, sizes, strict=True):
        mine = again[(again >= start) & (again < start + size)] - start
        found.append(folder / shard.name if len(mine) else shard)
        if len(mine):
            write_shard(shard, folder / shard.name, mine)
        start += size
    funnel.dropped("duplicates", "address seen before, in another shard", len(again))
    return found


@dataclass(frozen=True)
class Cluster:
    """A document that is kept, and those that repeat it."""

    kept: str
    """Its id."""
    copies: list[tuple[str, float]]
    """Ids and similarities of the others, the best first."""


def largest_clusters(path: Path, count: int) -> list[Cluster]:
    """The largest clusters of a duplicates.parquet."""
    found: list[Cluster] = []
    for row in parquet_rows(path, ["id", "of", "similarity", "cluster"]):
        if row["cluster"] >= count:
            break
        if row["cluster"] == len(found):
            found.append(Cluster(row["of"], []))
        found[-1].copies.append((row["id"], row["similarity"]))
    return found
