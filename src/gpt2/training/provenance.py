"""Which documents were in the batch of a step: from a spike in the curve back to the texts it came from.

    gpt2 batch RUN 4000

Batches are functions of the seed and the step (`batches.py`), and every token knows its document (the table
beside it, `tokens/shards.py`), so nothing needs to be logged for this. Of a run that passed batches over
(`--on-spike back`) the metrics say how many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt2.console import MetricsLog
from gpt2.errors import ConfigError, InputError
from gpt2.tokens.trace import Place, place_of
from gpt2.training.batches import Batches
from gpt2.training.mixture import Data
from gpt2.training.plan import block_of, read_record
from gpt2.workspace import Json


@dataclass(frozen=True)
class Passage:
    """One sequence of a batch."""

    folder: Path
    """The folder of tokens it is from."""
    begin: int
    """Its first token there, of the training split."""
    stop: int
    """The token after its last target."""
    epoch: int
    """How often that folder had been seen whole before."""
    documents: tuple[Place, ...]
    """The documents that have a part of it, in order."""


def batch_of(run: Path, step: int, folders: Sequence[Path] = ()) -> list[Passage]:
    """The sequences that a run learned from in step 1, 2, ..., its token folders being where they were or in `folders`.

    Raises `InputError` for a step that the run does not have, and `ConfigError` when the tokens are others.
    """
    record = read_record(run)
    settings = record["settings"]
    if not 1 <= step <= record["steps"]:
        raise InputError(f"the run in {run} has no step {step}; it has {record['steps']:,}, counted from 1")
    data = data_of(record, folders)
    batches = data.batches(block_of(settings), settings["batch"], settings["seed"])
    if settings["overfit_batch"]:
        return passages(data, batches, 0)
    passed_over = 0
    for row in MetricsLog(run / "metrics.jsonl").read():
        if row.get("step", 0) <= step:
            passed_over = row.get("passed_over", passed_over)
    return passages(data, batches, step - 1 + passed_over)


def data_of(record: Json, folders: Sequence[Path] = ()) -> Data:
    """The tokens that a run of this record learned from; `ConfigError` when those found are others."""
    before = record["settings"]["data"]
    weights = before.get("weights") if "mixture" in before else None
    data = Data.open(list(folders) or [Path(name) for name in record["folders"]], weights)
    if data.summary != before:
        raise ConfigError(
            f"the tokens in {', '.join(str(f.folder) for f in data.folders)} are not those that the run was "
            "trained on; give their folders with --tokens"
        )
    return data


def passages(data: Data, batches: Batches, number: int) -> list[Passage]:
    """The sequences of batch 0, 1, 2, ..."""
    found = []
    for row in batches.rows(number):
        side = data.folders[row.source].train
        stop = row.begin + batches.context + 1
        first = int(np.searchsorted(side.starts, row.begin, side="right")) - 1
        last = int(np.searchsorted(side.starts, stop, side="left"))
        documents = tuple(place_of(side, "train", i) for i in range(first, last))
        found.append(Passage(data.folders[row.source].folder, row.begin, stop, row.epoch, documents))
    return found
