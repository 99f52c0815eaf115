"""Where the records of decaNLP's ten tasks are found, and which split they are.

Files are looked for by the names under which they were published, and as TASK_train.jsonl and TASK_dev.jsonl in
decaNLP's own form, in the user's folder and in the cache. Where a data set is there as one file without a split
(XQuAD's English part of SQuAD, test articles of CNN/Daily Mail), every fifth context is held out and the split is
called our own; that is done only where the published splits are not both there. MWSC's one file is divided as
decaNLP divides it, which keeps the twins of a schema together. A handful of records that shows a format is no data:
fewer than `FEWEST` count as missing.

    found = find_task("woz.en", [Path("my_data")])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpt2.evaluation.datasets import listed
from gpt2.finetuning.decanlp_files import (
    Query,
    Reader,
    read_multinli,
    read_records,
    read_schemas,
    read_squad,
    read_srl,
    read_sst,
    read_summaries,
    read_translation,
    read_woz,
    read_zre,
)
from gpt2.finetuning.decanlp_wikisql import read_wikisql

FEWEST = 20
"""Records that a file must have to be data."""


def one(*names: str) -> tuple[tuple[str, ...], ...]:
    """Forms that are one file each."""
    return tuple((name,) for name in names)


@dataclass(frozen=True)
class Source:
    """Where a task's records come from."""

    reader: Reader
    train: tuple[tuple[str, ...], ...]
    """Groups of file names, the best first."""
    dev: tuple[tuple[str, ...], ...]
    whole: tuple[str, ...] = ()
    """One file without a split."""


SOURCES: dict[str, Source] = {
    "squad": Source(read_squad, one("train-v1.1.json"), one("dev-v1.1.json"), ("xquad.en.json",)),
    "iwslt.en.de": Source(
        read_translation,
        (("train.tags.en-de.en", "train.tags.en-de.de"), ("iwslt_train.en", "iwslt_train.de")),
        tuple((f"iwslt{y}.ted.tst2013.en-de.en.xml", f"iwslt{y}.ted.tst2013.en-de.de.xml") for y in (16, 17)),
    ),
    "cnn_dailymail": Source(
        read_summaries,
        one("cnndm_train.jsonl"),
        one("cnndm_validation.jsonl"),
        ("cnndm_test.jsonl", "cnndm_test_sample.jsonl"),
    ),
    "multinli.in.out": Source(
        read_multinli,
        one("multinli_1.0_train.jsonl"),
        (("multinli_1.0_dev_matched.jsonl", "multinli_1.0_dev_mismatched.jsonl"),),
    ),
    "sst": Source(
        read_sst,
        one("train_binary_sent.csv", "train_fine_sent.csv", "sst_train_fine_sent.csv"),
        one("dev_binary_sent.csv", "dev_fine_sent.csv", "sst_dev_fine_sent.csv"),
    ),
    "srl": Source(
        read_srl, one("wiki1.train.qa", "qasrl_wiki1.train.qa"), one("wiki1.dev.qa", "qasrl_wiki1.dev.qa")
    ),
    "zre": Source(read_zre, one("train.0"), one("dev.0")),
    "woz.en": Source(read_woz, one("woz_train_en.json"), one("woz_validate_en.json")),
    "wikisql": Source(
        read_wikisql,
        (("wikisql/train.jsonl", "wikisql/train.tables.jsonl"), ("wikisql_subset_train.jsonl",)),
        (("wikisql/dev.jsonl", "wikisql/dev.tables.jsonl"), ("wikisql_subset_valid.jsonl",)),
    ),
    "schema": Source(read_schemas, (), (), ("schema.txt",)),
}


@dataclass(frozen=True)
class Task:
    """A task whose data is at hand."""

    train: list[Query]
    dev: list[Query]
    data: str
    """What the held-out records are of."""
    paths: tuple[Path, ...]
    """All files that were read."""


def find_task(name: str, folders: Sequence[Path]) -> Task | None:
    """The records of a task: both splits as they were published, or one file divided; None for too few."""
    source = SOURCES[name]
    train = find_split(source, source.train, f"{name}_train.jsonl", folders)
    dev = find_split(source, source.dev, f"{name}_dev.jsonl", folders)
    if train and dev:
        return Task(train[0], dev[0], dev[1][0].name, (*train[1], *dev[1]))
    for file in source.whole:
        if path := next((found for folder in folders if (found := place(folder, file))), None):
            records = source.reader(path)
            if len(records) < FEWEST:
                continue
            if name == "schema":
                return Task(*pairs_divided(records), f"{path.name}, decaNLP's split", (path,))
            return Task(*contexts_divided(records), f"{path.name}, our own split", (path,))
    return None


def find_split(
    source: Source, forms: Sequence[Sequence[str]], own: str, folders: Sequence[Path]
) -> tuple[list[Query], list[Path]] | None:
    """The records of a split in the nearest folder that has it, and its files."""
    for folder in folders:
        if path := place(folder, own):
            return read_records(path), [path]
        for form in forms:
            paths = [path for file in form if (path := place(folder, file))]
            if len(paths) == len(form) and len(records := source.reader(*paths)) >= FEWEST:
                return records, paths
    return None


def place(folder: Path, tail: str) -> Path | None:
    """The file of that name, or the end of a path, somewhere in a folder."""
    return next((path for known, path in listed(folder) if f"/{known}".endswith(f"/{tail}")), None)


def contexts_divided(records: Sequence[Query]) -> tuple[list[Query], list[Query]]:
    """Training records and, of every fifth context, held-out ones."""
    held = {c for i, c in enumerate(dict.fromkeys(r.context for r in records)) if i % 5 == 4}
    return [r for r in records if r.context not in held], [r for r in records if r.context in held]


def pairs_divided(records: Sequence[Query]) -> tuple[list[Query], list[Query]]:
    """MWSC's training and development records as decaNLP's code divides them, twins of a schema together.

    The last 100 are its test; of those before, the first 80 are for training.
    """
    return list(records[:80]), list(records[80:-100])
