"""The list of duplicates: written, shown, and taken out of the shards.

`duplicates.parquet` has a row for each document to drop: its id, the id of the document it repeats, which is
kept, their similarity, the cluster (all that repeat one document; 0 is the largest), and the shard and row
where it stands. Shard and row name a document without fail, which ids do only where no two are the same.

    python -c "from gpt2.corpus.dedupe.duplicates import *; print(largest_clusters(Path('out/duplicates.parquet'), 3))"
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpt2.console import QUIET, Console
from gpt2.corpus.dedupe.clusters import Places
from gpt2.corpus.dedupe.signatures import SignedShards, documents_in
from gpt2.corpus.documents import damage_told, parquet_batches, parquet_rows
from gpt2.errors import InputError
from gpt2.workspace import Json, Workspace, atomic_write, file_digest

ROWS_AT_ONCE = 10_000
STAGES = ("signatures", "near", "documents")
"""Folders that are emptied when the shards or the settings are others."""


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


def keep_apart(shards: Sequence[Path], folder: Path) -> None:
    """Refuse, with `InputError`, shards in a folder of the output that would be emptied for them."""
    for shard in shards:
        for stage in STAGES:
            if shard.resolve().is_relative_to((folder / stage).resolve()):
                raise InputError(f"{shard} lies in the output folder {folder}; give another folder")


def write_kept(
    shards: Sequence[Path], duplicates: Path, folder: Path, console: Console = QUIET
) -> list[Path]:
    """Write what is left of each shard into folder `documents` of `folder`, under the same name.

    Raises `InputError` when a shard lies in that folder, which is emptied when the shards are others.
    """
    import pyarrow
    import pyarrow.parquet

    keep_apart(shards, folder)
    listed = pyarrow.parquet.read_table(duplicates, columns=["shard", "row"])
    names, places = listed["shard"].combine_chunks().dictionary_encode(), listed["row"].to_numpy()
    number_of = {name: number for number, name in enumerate(names.dictionary.to_pylist())}
    numbers = names.indices.to_numpy()

    def write(to: Path) -> Json:
        with console.progress("documents", sum(map(documents_in, shards)), "documents") as bar:
            for shard in shards:
                if not (to / shard.name).exists():
                    write_shard(shard, to / shard.name, places[numbers == number_of.get(shard.name, -1)])
                bar.advance(documents_in(shard))
        return {}

    stats = [(str(shard.resolve()), shard.stat().st_size, shard.stat().st_mtime_ns) for shard in shards]
    with Workspace(folder) as work:
        work.run("documents", {"shards": stats, "duplicates": file_digest(duplicates)}, write)
        return [work.folder / "documents" / shard.name for shard in shards]


def write_shard(shard: Path, target: Path, dropped: Places) -> None:
    """Write a shard without some of its rows."""
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
            if mask.any():
                writer.write_batch(batch.filter(pyarrow.array(mask)))


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
