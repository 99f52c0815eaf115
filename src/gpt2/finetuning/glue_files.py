"""GLUE's files: read in the forms that they are published in, got from the hub, written for the leaderboard.

A split is looked for in the user's folder and in the cache, as evaluation's data sets are: CoLA/train.tsv as GLUE
has it, cola_train.tsv, or the name that the task's own authors gave it. Tab-separated files are read without any
quoting, since a quote character is a quote character in MRPC; with a header by the names of its columns, and
without one (CoLA, the original STS-B) by their places. JSON lines are read too. Rows that lack a column (QQP has
a few), and such as have no gold label ("-"), are left out and counted; more than one in a hundred is another
format. Of a split without labels (none at all, or -1 as the hub has it) every row stays, for a submission must have
every id; what it lacks is read as empty. The original MRPC has no development set: its test set, which has labels,
stands for it.

    examples = read_split("cola", "dev", ["my_data"])
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2.errors import FormatError, InputError, TooLittleData
from gpt2.evaluation.datasets import Library, cache, listed
from gpt2.finetuning.classifier import Texts
from gpt2.finetuning.glue_tasks import GlueTask, glue_task
from gpt2.workspace import Json, atomic_write

HIGHEST = 5.0
"""The score of two sentences that mean the same."""


@dataclass(frozen=True)
class Example:
    """An item of a task."""

    id: str
    """Its number in the leaderboard's files."""
    texts: Texts
    label: float | None
    """Number of its class, or its score; None where it is not given."""


@dataclass(frozen=True)
class Split:
    """The items of a split."""

    examples: list[Example]
    left_out: int
    """Rows that could not be read."""
    paths: tuple[Path, ...]

    @property
    def texts(self) -> list[Texts]:
        """The texts of each item."""
        return [example.texts for example in self.examples]

    @property
    def labels(self) -> list[float]:
        """The label of each item; `InputError` when one has none."""
        found = [example.label for example in self.examples if example.label is not None]
        if len(found) != len(self.examples):
            raise InputError(f"{self.paths[0]} has items without a label, so nothing can be measured on it")
        return found


def find_split(task: GlueTask, split: str, folders: Sequence[Path]) -> tuple[Path, ...] | None:
    """The files of a split in the nearest folder that has them."""
    forms = [(f"/{task.title.lower()}/{split}.tsv",), *task.files.get(split, ())]
    forms += [(f"{task.name}_{split}.{kind}",) for kind in ("tsv", "jsonl")]
    for folder in folders:
        files = listed(folder)
        for form in forms:
            tails = [name if name.startswith("/") else f"/{name.lower()}" for name in form]
            found = [next((path for tail, path in files if tail.endswith(end)), None) for end in tails]
            if all(found):
                return tuple(path for path in found if path)
    return None


def read_split(
    task: GlueTask | str, split: str, data: str | Path | None = None, download: bool = False
) -> Split | None:
    """The items of train, dev or test (MNLI: dev_matched ...), or None where there is no such file.

    Raises `FormatError` for another format or an unknown label, `TooLittleData` for a file without rows, and
    with `download` what `gpt2.evaluation.download` does.
    """
    task = glue_task(task) if isinstance(task, str) else task
    folders = Library(data).folders
    paths = find_split(task, split, folders)
    if paths is None and download:
        fetch(task, split)
        paths = find_split(task, split, folders)
    if paths is None:
        return None
    examples, left_out = list[Example](), 0
    for path in paths:
        found, lost = read_file(task, path)
        examples += found
        left_out += lost
    return Split(examples, left_out, paths)


def lacking(task: GlueTask, split: str, data: str | Path | None) -> str:
    """That a split is not there and how to get it, in one sentence."""
    places = " or ".join(str(folder) for folder in Library(data).folders if folder.exists()) or "any folder"
    return (
        f"there is no {task.title}/{split}.tsv in {places}; get GLUE's {task.title} as it was published and name its "
        "folder with --data, or add --download"
    )


def read_file(task: GlueTask, path: Path) -> tuple[list[Example], int]:
    """The items of a file, and how many rows were left out."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is not UTF-8 (byte {error.start:,}); get the file anew") from None
    lines = text.rstrip("\n").split("\n") if text.strip() else []
    rows = json_rows(path, lines) if path.suffix == ".jsonl" else tab_rows(task, path, lines)
    found, left_out = list[Example](), 0
    names: tuple[str, ...] | None = None
    test = False  # whether nothing is labelled
    for i, row in enumerate(rows):
        if names is None:
            names = next((n for n in task.texts if all(name in row for name in n)), None)
            if names is None:
                raise FormatError(
                    f"{path} has {', '.join(map(str, row)) or 'nothing'} in its first row; {task.title} needs "
                    f"{' and '.join(task.texts[0])}"
                )
            test = not {str(row[k]) for k in (task.label, "label") if k in row} - {"-1"}
        texts = [row.get(name) for name in names]
        label = next((row[k] for k in (task.label, "label") if row.get(k) is not None), None)
        labelled = any(k in row for k in (task.label, "label"))
        if test:  # every id is wanted in a submission, that of a broken row too
            texts = [text if isinstance(text, str) else "" for text in texts]
        elif not all(isinstance(t, str) for t in texts) or (labelled and label in (None, "-", "")):
            left_out += 1
            continue
        second = str(texts[1]) if len(texts) == 2 else None
        said = None if label in (None, -1, "-1") else number_of(task, path, i, label)
        found.append(Example(str(row.get("index", row.get("idx", i))), (str(texts[0]), second), said))
    if not found and not left_out:
        raise TooLittleData(f"{path} has no rows; get the file anew or leave {task.title} out")
    if left_out * 100 > len(found) + left_out:
        raise FormatError(
            f"{path}: {left_out} of {len(found) + left_out} rows lack a column; give {task.title} as it was published"
        )
    return found, left_out


def tab_rows(task: GlueTask, path: Path, lines: Sequence[str]) -> Iterator[Json]:
    """Rows of a tab-separated file by the names of their columns; a row that is too short lacks the last ones."""
    if not lines:
        return
    header = lines[0].rstrip("\r").split("\t")
    if any(all(name in header for name in names) for names in task.texts):
        for line in lines[1:]:
            cells: list[str | None] = [*line.rstrip("\r").split("\t")]
            cells.extend([None] * len(header))
            yield dict(zip(header, cells, strict=False))
        return
    if not task.bare or len(header) <= max(task.bare):
        raise FormatError(
            f"{path} has the columns {', '.join(header)[:80]}; {task.title} needs {', '.join(task.texts[0])} and "
            f"{task.label}"
        )
    for line in lines:
        row = line.rstrip("\r").split("\t")
        *texts, label = (row[place] if place < len(row) else None for place in task.bare)
        yield dict(zip((*task.texts[0], task.label), (*texts, label), strict=True))


def json_rows(path: Path, lines: Sequence[str]) -> Iterator[Json]:
    """Rows of JSON lines; blank lines are none."""
    for i, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise FormatError(f"{path}, line {i + 1} is no JSON object; give the file as it was published")
        yield row


def number_of(task: GlueTask, path: Path, i: int, label: Any) -> float:
    """A label as its class's number, or as a score; `FormatError` for one that the task does not have."""
    if not task.labels:
        try:
            score = float(label)
        except (TypeError, ValueError):
            score = math.nan
        if not 0 <= score <= HIGHEST:
            raise FormatError(
                f"{path}, row {i + 1}: {label!r} is no score from 0 to 5, as {task.title} has them"
            )
        return score
    for names in (task.written, task.labels):
        if label in names:
            return float(names.index(label))
    if isinstance(label, int) and 0 <= label < len(task.labels):  # the hub's numbers
        return float(label)
    raise FormatError(
        f"{path}, row {i + 1}: unknown label {label!r}; {task.title} has {', '.join(task.written)}"
    )


def write_submission(folder: Path, name: str, task: GlueTask, ids: Sequence[str], outputs: Any) -> Path:
    """NAME.tsv as the leaderboard takes it, from a classifier's outputs [items, classes]: number and label.

    Scores are kept between 0 and 5 and written with three decimals.
    """
    path = folder / f"{name}.tsv"
    if task.labels:
        said = [task.written[int(row.argmax())] for row in outputs]
    else:
        said = [f"{min(HIGHEST, max(0.0, float(row[0]))):.3f}" for row in outputs]
    with atomic_write(path, "w") as stream:
        stream.write("index\tprediction\n")
        stream.writelines(f"{i}\t{label}\n" for i, label in zip(ids, said, strict=True))
    return path


def fetch(task: GlueTask, split: str) -> None:
    """Get a split of nyu-mll/glue from the hub into the cache, as a tab-separated file with a header."""
    from gpt2.evaluation.download import Rows, Source, download_source

    hub = split.replace("dev", "validation")
    if task.name == "ax" and split != "test":
        return  # the hub has the diagnostic without its labels

    def write(rows: Rows) -> Iterator[str]:
        for i, row in enumerate(rows):
            known = next(names for names in task.texts if all(name in row for name in names))
            labelled = row.get("label") not in (None, -1)
            if i == 0:
                yield "\t".join(["index", *task.texts[0], *([task.label] if labelled else [])]) + "\n"
            cells = [" ".join(str(row[k]).split()) for k in known]
            label = [task.written[row["label"]] if task.labels else f"{row['label']:.3f}"] if labelled else []
            yield "\t".join([str(row.get("idx", i)), *cells, *label]) + "\n"

    source = Source("nyu-mll/glue", {f"{task.name}_{split}.tsv": (f"{task.name}/{hub}", write)})
    download_source("glue", source, cache())
