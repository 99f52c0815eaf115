"""Where the records of decaNLP's ten tasks are found, and which split they are.

Files are looked for by the names under which they were published, and as TASK_train.jsonl and TASK_dev.jsonl in
decaNLP's own form, in the user's folder and in the cache. Where a data set is there as one file without a split
(XQuAD's English part of SQuAD, test articles of CNN/Daily Mail, MWSC), every fifth context is held out and the split
is called our own. A handful of records that shows a format is no data: fewer than `FEWEST` count as missing.

    records, file = find_task("woz.en", "dev", [Path("my_data")])
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
        read_multinli, one("multinli_1.0_train.jsonl"), one("multinli_1.0_dev_matched.jsonl")
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


def find_task(name: str, split: str, folders: Sequence[Path]) -> tuple[list[Query], str] | None:
    """The records of train or dev, and what to know of them; None when they are not there, or too few."""
    source = SOURCES[name]
    for folder in folders:
        files = listed(folder)

        def at(tail: str, files: list[tuple[str, Path]] = files) -> Path | None:
            return next((path for known, path in files if f"/{known}".endswith(f"/{tail}")), None)

        tail = f"{name}_{split}.jsonl"
        if own := at(tail):
            return read_records(own), tail
        for form in source.train if split == "train" else source.dev:
            paths = [path for file in form if (path := at(file))]
            if len(paths) == len(form):
                records = source.reader(*paths)
                if len(records) >= FEWEST:
                    return records, paths[0].name
        for file in source.whole:
            if path := at(file):
                records = source.reader(path)
                held = {c for i, c in enumerate(dict.fromkeys(r.context for r in records)) if i % 5 == 4}
                mine = [r for r in records if (r.context in held) == (split == "dev")]
                if len(records) >= FEWEST:
                    return mine, f"{path.name}, our own split"
    return None
