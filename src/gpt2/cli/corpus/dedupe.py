"""gpt2 corpus dedupe: exact and near duplicates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from gpt2.cli.talk import TALK, Count, Talk, Whole
from gpt2.console import shown

if TYPE_CHECKING:
    from gpt2.corpus.dedupe import DedupeConfig

Share = Annotated[float, Parameter(validator=Number(gt=0, lte=1))]


@Parameter(name="*", group=Group("Duplicates", sort_key=45))
@dataclass(frozen=True)
class Alike:
    """What makes two documents one."""

    similarity: Share | None = None
    """Share of common word n-grams from which two documents are one; 0.8 when not given."""
    preset: Literal["openwebtext"] | None = None
    """The rule of a published corpus: openwebtext (0.5)."""
    bands: Count | None = None
    """Bands of a signature, with --rows; when not given, such that 98 % are found at that similarity."""
    rows: Count | None = None
    """Hashes in a band."""
    ngram: Count = 5
    """Words in an n-gram."""
    sample: Whole = 1000
    """Documents held against all others to measure how many duplicates were found; 0 for none."""

    @property
    def config(self) -> DedupeConfig:
        """The same for `dedupe`."""
        from gpt2.corpus.dedupe import settings

        return settings(
            self.preset,
            similarity=self.similarity,
            bands=self.bands,
            rows=self.rows,
            ngram=self.ngram,
            sample=self.sample,
        )


ALIKE = Alike()


def dedupe(
    documents: Path,
    *,
    out: Path,
    alike: Alike = ALIKE,
    show: Whole = 0,
    talk: Talk = TALK,
) -> None:
    """Take exact and near duplicates out of a corpus; of those alike, the one with most votes stays.

    Parameters
    ----------
    documents:
        Folder of documents-*.parquet, or one such file.
    out:
        Folder for duplicates.parquet and, in documents/, what is left of each file; not that of the documents.
    show:
        Print so many of the largest clusters.
    """
    from gpt2.corpus.dedupe import dedupe as run
    from gpt2.corpus.dedupe.duplicates import largest_clusters, write_kept
    from gpt2.corpus.documents import corpus_files
    from gpt2.errors import InputError

    shards = corpus_files(documents)
    target, home = out.resolve(), shards[0].parent.resolve()
    inside = documents.is_dir() and target.is_relative_to(home)
    if inside or any(shard.resolve().is_relative_to(target) for shard in shards):
        raise InputError(f"the documents and --out {out} lie in one another; give another folder")
    found = run(shards, out, alike.config, talk.console)
    write_kept(shards, found.path, out, talk.console)
    clusters = largest_clusters(found.path, show)
    lines = [[c.kept, len(c.copies), min(s for _, s in c.copies), c.copies[0][0]] for c in clusters]
    if lines:
        talk.table(["kept", "copies", "least alike", "first of them"], lines)
    talk.result(found, "\n".join(f"{name:12}{shown(value)}" for name, value in found.facts.items()))
