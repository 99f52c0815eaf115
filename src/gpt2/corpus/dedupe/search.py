"""Exact and near duplicates (the paper's "de-duplication", of which it says no more).

Two documents are equal when their words are, whatever their case, punctuation and spacing, and near duplicates
when of their word 5-grams at least `similarity` are common to both. Candidates come from MinHash signatures
(minhash.py); of those that meet, a document is dropped only for an exact likeness to one that is kept
(clusters.py), and the one kept is the one with most votes, ties by URL and then id: the same documents give the
same result in whatever order and files they come. What was found is held against brute force on a sample of
the run (recall.py). OpenWebText's rule, 0.5, is the preset `openwebtext`.

A corpus may be larger than memory. Each shard is read once, by the workers of an engine, which write its
signatures and shingles (`signatures/`); the rest needs no text. Signatures are read band by band; in memory are
some 20 bytes for each document, and for each that meets another its id and address and some 16 bytes for each of
its bands that another shares. Shingles are read two documents at a time. Each file is written whole or not at all,
so a run that was killed goes on at the shards where it was; another similarity over the same shape starts from the
signatures that are there.

    gpt2 corpus dedupe corpus --out distinct --similarity 0.8 --show 10
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpt2.console import QUIET, Console
from gpt2.corpus.dedupe.clusters import Places, first_of_each, meetings, settle
from gpt2.corpus.dedupe.duplicates import write_duplicates
from gpt2.corpus.dedupe.minhash import curve, shape
from gpt2.corpus.dedupe.recall import Rate, Sampled, drawn, rates
from gpt2.corpus.dedupe.signatures import ShingleFiles, SignedShards, Signing
from gpt2.corpus.documents import parquet_batches
from gpt2.corpus.engine import HERE, Engine
from gpt2.corpus.shards import ALONE, file_stats, keep_apart, shard_jobs, through
from gpt2.errors import ConfigError, InputError, nearest, need
from gpt2.workspace import Json, Workspace, remove

SIMILARITY = 0.8
DUPLICATES = "duplicates.parquet"


@dataclass(frozen=True)
class DedupeConfig:
    """What makes two documents one, and how they are looked for."""

    similarity: float = SIMILARITY
    """Share of common word n-grams from which two documents are one."""
    bands: int | None = None
    """Bands of a signature, with `rows`; when not given, such that 98 % are found at that similarity."""
    rows: int | None = None
    """Hashes in a band."""
    ngram: int = 5
    """Words in an n-gram; shorter texts are only compared whole."""
    sample: int = 1_000
    """Documents held against all others to measure what was found; 0 leaves that out."""

    def __post_init__(self) -> None:
        if not 0 < self.similarity <= 1:
            raise ConfigError(f"similarity is a share above 0 and up to 1, not {self.similarity}")
        if (self.bands is None) != (self.rows is None):
            raise ConfigError("give both bands and rows, or neither")
        counts = [n for n in (self.bands, self.rows, self.ngram) if n is not None]
        if min(counts) < 1 or self.sample < 0:
            raise ConfigError("bands, rows and ngram are 1 or more, and sample is 0 or more")
        if self.hashes > 4096:
            raise ConfigError(f"{self.bands} bands of {self.rows} are {self.hashes} hashes; take up to 4096")

    @property
    def shape(self) -> tuple[int, int]:
        """Bands, and hashes in each."""
        return (self.bands, self.rows) if self.bands and self.rows else shape(self.similarity)

    @property
    def hashes(self) -> int:
        """Hashes in a signature."""
        bands, rows = self.shape
        return bands * rows


PRESETS = {"openwebtext": DedupeConfig(similarity=0.5)}


def settings(preset: str | None = None, **changed: Any) -> DedupeConfig:
    """The default or a preset, with those settings changed that are not None."""
    if preset is not None and preset not in PRESETS:
        raise ConfigError(f"no preset {preset!r}{nearest(preset, PRESETS)}; known: {', '.join(PRESETS)}")
    config = PRESETS[preset] if preset else DedupeConfig()
    return replace(config, **{name: value for name, value in changed.items() if value is not None})


@dataclass(frozen=True)
class Deduped:
    """What was found in a corpus."""

    path: Path
    """Parquet file of the documents to drop: id, of, similarity, cluster, shard, row."""
    documents: int
    """Documents there were."""
    exact: int
    """Dropped for the same words as a document that is kept, or dropped with their like."""
    near: int
    """Dropped as near duplicates."""
    clusters: int
    """Documents kept that others repeat."""
    largest: int
    """Documents that repeat the most repeated one."""
    met: int
    """Pairs that shared a band."""
    checked: int
    """Pairs of them compared exactly; the sketches told the others apart."""
    cut: int
    """Documents for which not all that they met could be considered."""
    shape: tuple[int, int]
    """Bands, and hashes in each."""
    expected: dict[float, float]
    """Share of pairs expected to be found, by similarity."""
    recall: Rate | None
    """Of sampled documents with a near duplicate, those of which none is kept beside them."""
    precision: Rate | None
    """Of sampled documents that were dropped, those as like the one kept as was asked, by brute force."""

    @property
    def kept(self) -> int:
        """Documents that are left."""
        return self.documents - self.exact - self.near

    @property
    def facts(self) -> Json:
        """The same for people."""
        told: Json = {name: getattr(self, name) for name in ("documents", "kept", "exact", "near")}
        told["clusters"] = f"{self.clusters:,}, the largest of {self.largest:,} besides the one kept"
        told["pairs"] = f"{self.met:,} met, {self.checked:,} compared"
        if self.cut:
            told["not_all"] = f"{self.cut:,} documents met more than could be considered"
        told["bands"] = "{} of {}".format(*self.shape)
        told["expected"] = ", ".join(f"{share:.1%} at {s}" for s, share in self.expected.items())
        if self.recall and self.precision:
            told["recall"] = f"{self.recall}, of sampled documents with a near duplicate"
            told["precision"] = f"{self.precision}, of sampled documents that were dropped as one"
        return told


def dedupe(
    shards: Sequence[Path],
    folder: Path,
    config: DedupeConfig = DedupeConfig(),
    console: Console = QUIET,
    engine: Engine = HERE,
) -> Deduped:
    """Find the documents to drop in Parquet shards of documents and list them in `folder`/duplicates.parquet.

    A run that was interrupted goes on; one that was finished is not repeated. Raises `InputError` for no shard,
    one that is missing or in a folder of the output, or two of one name, `FormatError` for one that is damaged,
    `BusyError` when another process works in `folder`.
    """
    if not shards:
        raise InputError("there is no shard to look for duplicates in; give at least one")
    for shard in shards:
        if not shard.exists():
            raise InputError(f"there is no file {shard}; check the path")
    if len({shard.name for shard in shards}) < len(shards):
        raise InputError("two shards have the same name; give each a name of its own")
    for stage in ("signatures", "near", ALONE):
        keep_apart(shards, folder / stage)
    daft: Any = need("daft", "corpus")
    bands, rows = config.shape
    key: Json = {"shards": file_stats(shards), "shape": config.shape, "ngram": config.ngram}
    key["daft"] = daft.__version__

    def sign_all(to: Path) -> Json:
        work = Signing(to.absolute(), bands, rows, config.ngram)
        through(work, shard_jobs(shards), engine, console, "signatures")
        return {}

    with Workspace(folder) as work:
        give_way(work, key | {"config": config})
        work.run("signatures", key, sign_all)
        signed = SignedShards(shards, work.folder / "signatures")
        found = work.run("near", key | {"config": config}, lambda to: find(signed, to, config, console))
    for name in ("recall", "precision"):
        found[name] = Rate(**found[name]) if found[name] else None
    return Deduped(path=folder / DUPLICATES, shape=config.shape, expected=curve(bands, rows), **found)


def give_way(work: Workspace, settings: Json) -> None:
    """Take away the list of a run with other settings, and the mark of a list that is gone."""
    listed = work.folder / DUPLICATES
    if work.finished("near", settings) is not None:
        if not listed.exists():
            remove(work.folder / "near")
    elif listed.exists():
        if work.record("near") is None:
            raise InputError(f"{listed} is in the way and was not made here; move it or give another folder")
        listed.unlink()


def find(signed: SignedShards, folder: Path, config: DedupeConfig, console: Console) -> Json:
    """Find the documents to drop, list them beside `folder`, and tell what `Deduped` does."""
    first = first_of_each(lambda: signed.columns("key_0", "key_1"), signed.total)
    able = np.concatenate([np.empty(0, np.bool_), *signed.columns("near")])
    able &= first == np.arange(signed.total)
    bands, _ = config.shape
    texts, bucket = meetings(lambda band: signed.columns(f"band_{band}"), bands, able)
    files = ShingleFiles(signed, texts)

    wanted = first != np.arange(signed.total)
    wanted[first[wanted]] = True
    wanted[texts] = True
    documents = np.flatnonzero(wanted)
    rank, ids = by_worth(signed, documents)
    text = np.searchsorted(documents, first[documents])  # the first document of the same words
    leader = best_of_each(text, rank)

    place = np.searchsorted(documents, texts)
    order = np.argsort(rank[leader[place]], kind="stable")
    with console.progress("comparing", len(texts), "documents") as bar:
        settled = settle(
            bucket[order],
            signed.taken(texts, "sketch_0", "sketch_1")[order],
            files.sizes[order],
            lambda i: files(order[i]),
            config.similarity,
            config.hashes,
            bar.advance,
        )
    dropped = np.flatnonzero(settled.of >= 0)
    near, kept = place[order[dropped]], place[order[settled.of[dropped]]]
    of, alike = leader.copy(), np.ones(len(documents))  # of each text, given by its first document
    of[near], alike[near] = leader[kept], settled.similarity[dropped]
    clusters = write_duplicates(
        folder.parent / DUPLICATES, signed, documents, ids, rank, of[text], alike[text]
    )
    repeats = {int(documents[a]): int(documents[b]) for a, b in zip(near, kept, strict=True)}
    measured = measure(signed, able, repeats, config, console) if config.sample else (None, None)
    dropped_in_all = int(np.count_nonzero(of[text] != np.arange(len(documents))))
    return clusters | {
        "documents": signed.total,
        "exact": dropped_in_all - len(near),
        "near": len(near),
        "met": settled.met,
        "checked": settled.checked,
        "cut": settled.cut,
        "recall": measured[0],
        "precision": measured[1],
    }


def by_worth(signed: SignedShards, documents: Places) -> tuple[Places, Any]:
    """The rank of documents, 0 the one with most votes, ties by URL, id and words; and their ids in Arrow."""
    import pyarrow
    import pyarrow.compute

    wanted = np.zeros(signed.total, np.bool_)
    wanted[documents] = True
    text, here = pyarrow.large_string(), 0
    schema = pyarrow.schema({"votes": pyarrow.int64(), "url": text, "id": text})
    pieces = [schema.empty_table()]
    for shard in signed.shards:
        for batch in parquet_batches(shard, ["id"], ["url", "votes"]):
            mask = wanted[here : here + batch.num_rows]
            here += batch.num_rows
            if mask.any():
                rows = batch.filter(pyarrow.array(mask)).to_pydict()
                missing = [None] * int(mask.sum())
                pieces.append(
                    pyarrow.table({name: rows.get(name, missing) for name in schema.names}, schema=schema)
                )
    table = pyarrow.concat_tables(pieces).combine_chunks()
    worth = {
        "votes": pyarrow.compute.fill_null(table["votes"], np.iinfo(np.int64).min),
        "url": pyarrow.compute.fill_null(table["url"], ""),
        "id": table["id"],
        "words": signed.taken(documents, "key_0"),
    }
    keys = [(name, "descending" if name == "votes" else "ascending") for name in worth]
    order = pyarrow.compute.sort_indices(pyarrow.table(worth), sort_keys=keys).to_numpy()
    rank = np.empty(len(documents), np.int64)
    rank[order] = np.arange(len(documents))
    return rank, table["id"]


def best_of_each(text: Places, rank: Places) -> Places:
    """For each text (given as the number of its first document) the best of its documents."""
    order = np.lexsort((rank, text))
    begins = np.flatnonzero(np.diff(text[order], prepend=-1))
    best = np.arange(len(text))
    best[text[order][begins]] = order[begins]
    return best


def measure(
    signed: SignedShards,
    able: npt.NDArray[np.bool_],
    repeats: dict[int, int],
    config: DedupeConfig,
    console: Console,
) -> tuple[Rate, Rate]:
    """Recall and precision on a sample; `repeats` tells for each text that was dropped the one it repeats."""
    chosen = drawn(signed.columns("key_0"), able, config.sample)
    files = ShingleFiles(signed, chosen)
    sample = {number: files(i) for i, number in enumerate(chosen.tolist())}
    ready = Sampled(sample)
    found: list[tuple[int, int, float]] = []
    with console.progress("measuring", signed.total, "documents") as bar:
        for shard, sizes in enumerate(signed.columns("size")):
            sets = enumerate(signed.sets(shard, sizes), int(signed.begins[shard]))
            found += ready.alike(((i, own) for i, own in sets if able[i]), config.similarity)
            bar.advance(len(sizes))
    kept = np.ones(signed.total, np.bool_)
    kept[[*repeats]] = False
    return rates(found, {text: repeats[text] for text in sample if text in repeats}, kept)
