"""Cleaning the shards of a corpus, one to one.

When one of the rules is on lines that many pages of a host share, all lines are counted first, shard by shard, and
the shared ones written to one file, which all workers map into memory. Every drop is written down with its rule
and reason (`drops-*.parquet`), and of each rule a few dropped texts are kept for a person to read.

    gpt2 corpus clean corpus/documents --out clean

Rejected: cleaning in place, after which nobody can tell what was lost.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from gpt2.console import QUIET, Console
from gpt2.corpus.clean.cleaner import EMPTY, Cleaner, Dropped
from gpt2.corpus.clean.frames import LINES, SHARED, Frames, count_lines, write_shared, write_table
from gpt2.corpus.clean.mending import Mending, SharedLines
from gpt2.corpus.clean.rule_lists import WEB, settings_of
from gpt2.corpus.clean.rules import Judging, Rules
from gpt2.corpus.documents import Document, read_documents
from gpt2.corpus.engine import HERE, Engine
from gpt2.corpus.shards import ALONE, Making, added_up, alone, make_shard, shard_jobs, through
from gpt2.errors import TooLittleData
from gpt2.workspace import Json


@dataclass(frozen=True)
class Counting:
    """Counts the lines of a shard, as they are after the rules that mend before the one on shared lines."""

    folder: Path
    """Where the table of lines goes."""
    before: Rules
    """Those rules."""
    rule: SharedLines
    """Which lines are counted."""
    worth: ClassVar[int] = 16_000_000

    @contextlib.contextmanager
    def opened(self) -> Iterator[Callable[[Json], Json]]:
        """The function of jobs."""
        yield self.count

    def count(self, job: Json) -> Json:
        """Write the table of a shard, unless it is there already."""
        path = self.folder / LINES.format(job["number"])
        if not (done := path.exists()):
            cleaner = Cleaner(self.before)
            documents = read_documents(job["shard"])
            mended = (dataclasses.replace(d, text=cleaner.mend(d.text, d.url)) for d in documents)
            write_table(path, count_lines(mended, self.rule))
        return {"number": job["number"], "done": done, "documents": 0}


@dataclass(frozen=True)
class Cleaning:
    """Makes the clean texts of a shard of texts."""

    folder: Path
    """Where the shard goes."""
    rules: Rules
    """What mends and drops."""
    shared: SharedLines | None
    """The one of them on lines that many pages share, which are in a file of the folder."""
    worth: ClassVar[int] = 4_000_000

    @contextlib.contextmanager
    def opened(self) -> Iterator[Callable[[Json], Json]]:
        """The function of jobs, with the lines that many pages share."""
        frames = Frames.read(self.folder / SHARED, self.shared) if self.shared else None
        yield lambda job: make_shard(self.folder, job, lambda making: self.cleaned(job, making, frames))

    def cleaned(self, job: Json, making: Making, frames: Frames | None) -> Iterator[Document]:
        """Documents mended by the rules, without those that a rule drops."""
        cleaner = Cleaner(self.rules, frames)
        for document in read_documents(job["shard"]):
            left = cleaner.clean(document)
            if isinstance(left, Dropped):
                making.drop("cleaning", left.rule, document.id, document.text, left.reason)
            else:
                making.funnel.passed("clean texts")
                yield left
        for rule, n in cleaner.taken.items():
            making.funnel.took("cleaning", rule, n)


def clean_shards(
    shards: Sequence[Path], folder: Path, rules: Rules, engine: Engine, console: Console
) -> Json:
    """Clean shards into `folder`; returns what was counted. Raises `TooLittleData` when no document is left."""
    todo = shard_jobs(shards)
    place, shared = next(
        ((i, rule) for i, rule in enumerate(rules) if isinstance(rule, SharedLines)), (0, None)
    )
    if shared:
        through(Counting(folder, rules[:place], shared), todo, engine, console, "counting lines")
        if not (folder / SHARED).exists():
            write_shared(folder, len(todo), shared)
    through(Cleaning(folder, rules, shared), todo, engine, console, "cleaning")
    told = added_up(folder, len(todo))
    if not told["passed"].get("clean texts"):
        drops = ", ".join(f"{row['count']:,} {row['reason']}" for row in told["drops"][:5]) or "no text"
        raise TooLittleData(f"no document is left after cleaning ({drops}); give more text, or other rules")
    return told


@dataclass(frozen=True)
class Cleaned:
    """What came of cleaning a corpus."""

    folder: Path
    """The cleaned corpus."""
    documents: int
    """How many there were,"""
    kept: int
    """and how many are left."""
    dropped: dict[str, int]
    """Documents dropped, by rule, in the order of the rules."""
    taken: dict[str, int]
    """What mending rules took out, by rule: characters, lines or addresses."""
    drops: list[Json]
    """The dropped by step and reason, with examples of each."""


def clean(
    shards: Sequence[Path],
    folder: Path,
    rules: Rules = WEB,
    console: Console = QUIET,
    engine: Engine = HERE,
) -> Cleaned:
    """Clean the shards of a corpus into `folder`, or go on where an earlier call was interrupted.

    Raises `InputError` when the folder has other work in it, `TooLittleData` when no document is left.
    """
    settings = {"rules": settings_of(rules), "order": [rule.name for rule in rules]}
    told = alone(
        folder, "clean", shards, settings, lambda to: clean_shards(shards, to, rules, engine, console)
    )
    drops = {row["reason"]: row["count"] for row in told["drops"]}
    taken = {row["what"]: row["count"] for row in told["taken"]}
    kept = told["passed"]["clean texts"]
    return Cleaned(
        folder / ALONE,
        kept + sum(drops.values()),
        kept,
        {name: drops.get(name, 0) for name in [EMPTY, *(r.name for r in rules if isinstance(r, Judging))]},
        {rule.name: taken.get(rule.name, 0) for rule in rules if isinstance(rule, Mending | SharedLines)},
        told["drops"],
    )
