"""What was asked and answered, item by item, in Parquet files that mark what is done.

The items of a task are measured in parts, and a part's file appears whole or not at all, when all of its items
are measured: a run that was killed, or one of more items or fewer, asks only those of which there is no record.
A file says in its metadata what it was made from (model, data, protocols), and of each item what was asked;
files that were made from anything else, and such as are damaged, are taken away and made anew. Columns:

    key                digest of the item's name and of what was asked
    id, group          the item, and the unit that intervals are drawn over
    prompt, answer     what the model was shown, and what was wanted
    cut                whether the prompt did not fit and was cut
    malformed          why the item could not be asked, else empty
    NAME.numerator, NAME.denominator, NAME.output, NAME.reference, NAME.confidence      for each protocol
    facts              everything else the task knows of the item, as JSON

    pyarrow.parquet.read_table("out/items/lambada.lambada-openai").to_pandas()
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gpt2.evaluation.protocol import Protocol
from gpt2.evaluation.task import Generate, Item, LogLikelihood, Measured, Rolling
from gpt2.inference.passages import Passage
from gpt2.workspace import Json, atomic_write, digest

MARK = b"gpt2-workbench"
SHOWN = 200
"""Characters of a long text that is itself what was asked."""
FIELDS: dict[str, pa.DataType] = {
    "numerator": pa.float64(),
    "denominator": pa.float64(),
    "output": pa.string(),
    "reference": pa.string(),
    "confidence": pa.float64(),
}


@dataclass(frozen=True)
class Record:
    """An item, and what it adds to each protocol."""

    item: Item
    measured: dict[str, Measured]
    cut: bool = False
    malformed: str = ""


def write_records(
    folder: Path, made_from: str, protocols: Sequence[Protocol], records: Sequence[Record], rank: int, of: int
) -> None:
    """Write a part as a new file; process `rank` `of` several has file numbers of its own."""
    columns: dict[str, Any] = {
        "key": [key(r.item) for r in records],
        "id": [r.item.id for r in records],
        "group": [r.item.group or r.item.id for r in records],
        "prompt": [shown(r.item)[0] for r in records],
        "answer": [shown(r.item)[1] for r in records],
        "cut": [r.cut for r in records],
        "malformed": [r.malformed for r in records],
    }
    types = {"cut": pa.bool_()}
    for protocol in protocols:
        for name, kind in FIELDS.items():
            column = f"{protocol.name}.{name}"
            columns[column] = [getattr(r.measured.get(protocol.name), name, None) for r in records]
            types[column] = kind
    columns["facts"] = [json.dumps(r.item.facts, ensure_ascii=False) for r in records]
    schema = pa.schema([(name, types.get(name, pa.string())) for name in columns], {MARK: made_from.encode()})
    paths = (folder / f"{n:05d}.parquet" for n in itertools.count(rank, of))
    with atomic_write(next(path for path in paths if not path.exists())) as stream:
        pq.write_table(pa.table(columns, schema=schema), stream)


def read_records(
    folder: Path, made_from: str, protocols: Sequence[Protocol], items: Sequence[Item]
) -> dict[str, Record]:
    """The records that there are of these items, by their keys. Files of no use are taken away."""
    wanted, found = {key(item): item for item in items}, dict[str, Record]()
    for path in sorted(folder.glob("*.parquet")):
        try:
            if (pq.read_schema(path).metadata or {}).get(MARK) != made_from.encode():
                raise ValueError("made from something else")
            rows = pq.read_table(path).to_pylist()
            found |= {
                row["key"]: record(wanted[row["key"]], row, protocols) for row in rows if row["key"] in wanted
            }
        except (OSError, pa.ArrowException, ValueError, LookupError):
            path.unlink(missing_ok=True)
    return found


def record(item: Item, row: Json, protocols: Sequence[Protocol]) -> Record:
    """A row of a file as it was written."""
    measured = {
        p.name: Measured(**{name: row[f"{p.name}.{name}"] for name in FIELDS})
        for p in protocols
        if row[f"{p.name}.numerator"] is not None
    }
    return Record(item, measured, row["cut"], row["malformed"])


def key(item: Item) -> str:
    """Tells an item, and what is asked of it, from all others."""
    asked = [
        [r.begin, r.end, r.text[r.begin : r.end]] if isinstance(r, Passage) else repr(r)
        for r in item.requests
    ]
    return digest([item.id, asked])


def shown(item: Item) -> tuple[str, str]:
    """The prompt and the answer that the file of items shows: the task's own facts, else its first request."""
    prompt, answer = item.facts.get("prompt"), item.facts.get("answer", item.facts.get("target"))
    match item.requests[0] if item.requests else None:
        case LogLikelihood(context, continuation):
            prompt, answer = prompt or context, answer or continuation
        case Generate(text, ending=ending):
            prompt = prompt or text + ending
        case Rolling(text):
            answer = answer or start_of(text)
        case Passage(text, begin, end):
            answer = answer or start_of(text[begin:end])
        case _:
            pass
    return as_text(prompt), as_text(answer)


def as_text(value: Any) -> str:
    """A fact as text."""
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def start_of(text: str) -> str:
    """A text as far as there is room to show it."""
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
