"""Cleaning: documents are mended or dropped by named rules, and nothing happens in silence.

The rules are values in a list (`rules.py`, `mending.py`; `rule_lists.py` has the lists in use and reads a user's
own). A `Cleaner` takes one document at a time: first all mending rules, until they find nothing more, then the
judging rules in the order of the list. What it says of a document depends on that document and the rules alone,
and a document that it gave back passes unchanged when it is cleaned again.

`clean` does the same to the shards of a corpus, one to one: a shard that is done is not done again after a kill.
Every drop is written down with its rule and reason, and of each rule `SAMPLES` dropped texts are kept for a
person to read. Which ones, a hash of the id decides, so they are the same in any order and for any cut into shards.

    gpt2 corpus clean corpus/documents --out clean

Rejected: cleaning in place, after which nobody can tell what was lost.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpt2.console import QUIET, Console
from gpt2.corpus.clean.frames import Frames, count_lines, write_table
from gpt2.corpus.clean.mending import Mending, SharedLines
from gpt2.corpus.clean.quality import Reading
from gpt2.corpus.clean.rule_lists import OWN_TEXT, SITE, WEB, read_rules, settings_of
from gpt2.corpus.clean.rules import Judging, Language, Rules
from gpt2.corpus.documents import Document, read_documents, write_documents
from gpt2.errors import InputError, TooLittleData
from gpt2.workspace import Json, Workspace, atomic_write, clear_drafts, digest, read_json, write_json

__all__ = [
    "OWN_TEXT",
    "SITE",
    "WEB",
    "Cleaned",
    "Cleaner",
    "Dropped",
    "Rules",
    "Samples",
    "clean",
    "read_rules",
]

EMPTY = "empty"
ROUNDS = 8
"""Two are enough for any page seen; no page may hold up a crawl."""
SAMPLES = 20
"""Dropped texts kept for each rule,"""
SAMPLE_CHARACTERS = 2_000
"""cut to so many characters."""
MARK, SAMPLES_FILE, NOTES = "clean.json", "dropped.jsonl", "cleaning"


@dataclass(frozen=True)
class Dropped:
    """Why a document is none for the corpus."""

    rule: str
    """Name of the rule that refused it."""
    reason: str
    """What it found, with the value."""


class Cleaner:
    """Rules at work, one document at a time."""

    def __init__(self, rules: Rules, frames: Frames | None = None) -> None:
        """`frames`: the shared lines, counted beforehand; without them that rule does nothing."""
        self.rules, self.frames = rules, frames
        self.mending = [rule for rule in rules if isinstance(rule, Mending | SharedLines)]
        self.judging = [rule for rule in rules if isinstance(rule, Judging)]
        self.taken: Counter[str] = Counter()
        """What the mending rules took out, by rule."""

    def clean(self, document: Document) -> Document | Dropped:
        """The document, mended, or why it is dropped."""
        text = self.mend(document.text, document.url)
        if not text.strip():
            return Dropped(EMPTY, "nothing but white space")
        reading = Reading(text, document.url)
        for rule in self.judging:
            reason = rule.refuse(reading)
            if reason is not None:
                return Dropped(rule.name, reason)
        if any(isinstance(rule, Language) for rule in self.judging):
            return dataclasses.replace(document, text=text, language=reading.language[0])
        return document if text == document.text else dataclasses.replace(document, text=text)

    def mend(self, text: str, url: str | None) -> str:
        """The text after all mending rules, again and again until they take out nothing more."""
        for _ in range(ROUNDS):
            before = text
            for rule in self.mending:
                if isinstance(rule, Mending):
                    text, n = rule.mend(text)
                else:
                    text, n = self.frames.mend(text, url) if self.frames else (text, 0)
                if n:
                    self.taken[rule.name] += n
            if text == before:
                break
        return text


class Samples:
    """A few dropped texts of each rule: those whose ids have the smallest hashes."""

    def __init__(self, size: int = SAMPLES) -> None:
        self.size = size
        self.rows: dict[str, list[Json]] = {}

    def drop(self, document: Document, dropped: Dropped) -> None:
        """Take note of a dropped document."""
        name = hashlib.blake2b(document.id.encode("utf-8", "replace"), digest_size=8).hexdigest()
        self.add({
            "rule": dropped.rule,
            "reason": dropped.reason,
            "id": document.id,
            "url": document.url,
            "hash": name,
            "text": document.text[:SAMPLE_CHARACTERS],
        })  # fmt: skip

    def add(self, row: Json) -> None:
        """Take note of a row that `drop` made, here or for another shard."""
        rows = self.rows.setdefault(row["rule"], [])
        if len(rows) < self.size or row["hash"] <= rows[-1]["hash"]:
            rows.append(row)
            rows.sort(key=lambda row: (row["hash"], row["id"], row["text"]))
            del rows[self.size :]

    def all(self) -> list[Json]:
        """The rows of all rules."""
        return [row for rule in sorted(self.rows) for row in self.rows[rule]]


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


def clean(shards: Sequence[Path], folder: Path, rules: Rules = WEB, console: Console = QUIET) -> Cleaned:
    """Clean the shards of a corpus into `folder`, or go on where an earlier call was interrupted.

    Writes `documents-00000.parquet` and so on, one for each shard, `dropped.jsonl` with samples, and in
    `cleaning/` a line for every dropped document. Raises `InputError` when the folder has other work in it,
    `TooLittleData` when no document is left.
    """
    key = {
        "rules": settings_of(rules),
        "shards": [[str(s), s.stat().st_size, s.stat().st_mtime_ns] for s in shards],
    }
    with Workspace(folder):
        begin(folder, digest(key), key)
        clear_drafts(folder / NOTES)
        notes = [folder / NOTES / f"{i:05d}.json" for i in range(len(shards))]
        frames = find_frames(shards, folder / NOTES, rules, console)
        with console.progress("cleaning", len(shards), "shards") as bar:
            for i, (shard, note) in enumerate(zip(shards, notes, strict=True)):
                if not note.exists():
                    clean_shard(shard, folder / f"documents-{i:05d}.parquet", note, Cleaner(rules, frames))
                bar.advance()
        return finish(folder, [read_json(note) for note in notes], rules)


def begin(folder: Path, key: str, settings: Json) -> None:
    """Mark a new folder, or see that the one there was begun with the same settings."""
    mark = folder / MARK
    if mark.exists():
        if read_json(mark).get("key") != key:
            raise InputError(
                f"{folder} holds documents cleaned by other rules, or other documents; give a new folder"
            )
    elif any(not path.name.startswith(".") for path in folder.iterdir()):
        raise InputError(f"{folder} has other files in it; give a new or empty folder")
    else:
        write_json(mark, {"key": key, **settings})


def find_frames(shards: Sequence[Path], notes: Path, rules: Rules, console: Console) -> Frames | None:
    """The lines that many pages share, as they are after the mending rules before that one."""
    place = next((i for i, rule in enumerate(rules) if isinstance(rule, SharedLines)), None)
    if place is None:
        return None
    rule, before = rules[place], Cleaner(rules[:place])
    assert isinstance(rule, SharedLines)

    def mended(shard: Path) -> Iterator[Document]:
        for document in read_documents(shard):
            yield dataclasses.replace(document, text=before.mend(document.text, document.url))

    tables = [notes / f"{i:05d}.lines.npy" for i in range(len(shards))]
    with console.progress("counting shared lines", len(shards), "shards") as bar:
        for shard, table in zip(shards, tables, strict=True):
            if not table.exists():
                write_table(table, count_lines(mended(shard), rule))
            bar.advance()
    return Frames.of_tables(tables, rule)


def clean_shard(shard: Path, out: Path, note: Path, cleaner: Cleaner) -> None:
    """Clean one file of documents into another; the note with its counts is written last."""
    samples, dropped, read, kept = Samples(), Counter[str](), 0, 0

    def passing() -> Iterable[Document]:
        nonlocal read
        for document in read_documents(shard):
            read += 1
            found = cleaner.clean(document)
            if isinstance(found, Document):
                yield found
                continue
            dropped[found.rule] += 1
            samples.drop(document, found)
            row = {"id": document.id, "url": document.url, "rule": found.rule, "reason": found.reason}
            drops.write(json.dumps(row, ensure_ascii=False) + "\n")

    with atomic_write(note.with_suffix(".jsonl"), "w") as drops:
        kept = write_documents(out, passing())
    counts = {"documents": read, "kept": kept, "dropped": dict(dropped), "taken": dict(cleaner.taken)}
    write_json(note, {**counts, "samples": samples.all()})


def finish(folder: Path, notes: Sequence[Json], rules: Rules) -> Cleaned:
    """Add up what the shards' notes say, and write the samples."""
    samples, dropped, taken = Samples(), Counter[str](), Counter[str]()
    for note in notes:
        dropped.update(note["dropped"])
        taken.update(note["taken"])
        for row in note["samples"]:
            samples.add(row)
    with atomic_write(folder / SAMPLES_FILE, "w") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in samples.all())
    kept = sum(note["kept"] for note in notes)
    if not kept:
        raise TooLittleData(
            f"no document is left after cleaning; {folder / SAMPLES_FILE} shows what was dropped"
        )
    return Cleaned(
        folder,
        sum(note["documents"] for note in notes),
        kept,
        {name: dropped[name] for name in [EMPTY, *(r.name for r in rules if isinstance(r, Judging))]},
        {rule.name: taken[rule.name] for rule in rules if isinstance(rule, Mending | SharedLines)},
    )
