"""Results: one row for each protocol, with its interval and all that one must know of the number.

A task's items give each protocol a numerator and a denominator; the result is the ratio of their sums, as the
protocol's statistic has it, so a long document weighs as much as it has words. Intervals are percentile
bootstraps over the protocol's unit (`gpt2.evaluation.metrics`), all protocols of a task on the same draws.

    results = gpt2.evaluate(model, tasks=["lambada"], data="my_data")
    print(results.table())
    results.rows[0].value, results.rows[0].verdict

Rejected: means of per-item ratios, which no published number is.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2.console import table
from gpt2.errors import FormatError
from gpt2.evaluation import answers
from gpt2.evaluation.metrics import DRAWS, Interval, percentiles
from gpt2.evaluation.protocol import Protocol, Statistic
from gpt2.evaluation.task import Measured
from gpt2.workspace import Json, atomic_write, read_json, write_json

AT_ONCE = 500
"""Draws of the bootstrap made at a time."""


@dataclass(frozen=True)
class Row:
    """One number, and all that belongs to it."""

    task: str
    protocol: str
    """Its full name: lambada/last-word."""
    metric: str
    value: float | None
    """None when nothing could be measured; `verdict` says why."""
    low: float | None
    """Ends of the 95 % interval; None for a single unit."""
    high: float | None
    n: int
    """Items measured."""
    of: int | None
    """Items in the whole split that the paper measured, where that is known."""
    paper: float | None
    """What the paper prints for this size; for a size that is not OpenAI's, for the size in `paper_size`."""
    paper_size: str | None
    reproducible: float | None
    """What others measured with OpenAI's weights of this size under this protocol."""
    source: str
    """Who measured it."""
    verdict: str
    data: str
    """Which copy of the data, and how much of it."""
    malformed: int
    """Rows that could not be asked."""
    reasons: Mapping[str, int]
    """Why, and how many."""
    cut: int
    """Items whose context did not fit and was cut."""
    settings: Json
    """The protocol's fields."""
    remarks: Sequence[str] = ()
    """What the task has to say of the run."""


@dataclass(frozen=True)
class Results:
    """The rows of an evaluation, in the order of tasks."""

    rows: list[Row]
    model: Json = field(default_factory=dict)
    """Shape and size of the model, number format, versions."""

    def table(self) -> str:
        """Ours beside the paper's and the reproducible value, as text; below it what is noteworthy."""
        header = [
            "protocol",
            "metric",
            "ours",
            "95 % interval",
            "n",
            "of",
            "paper",
            "reproducible",
            "verdict",
        ]
        cells = [
            [
                row.protocol,
                row.metric,
                number(row.value),
                "" if row.low is None or row.high is None else f"{number(row.low)} to {number(row.high)}",
                f"{row.n:,}",
                "" if row.of is None else f"{row.of:,}",
                number(row.paper) + (f" ({row.paper_size})" if row.paper_size else ""),
                number(row.reproducible),
                row.verdict,
            ]
            for row in self.rows
        ]
        return "\n".join([table(header, cells), *self.notes()])

    def notes(self) -> list[str]:
        """Below a line for each data set: rows that could not be asked, and the tasks' own remarks, each once."""
        about: dict[str, dict[str, None]] = {}
        for row in self.rows:
            if row.value is None and not row.malformed:
                continue
            title = f"{row.task} ({row.settings['data']}): {row.data or 'nothing measured'}"
            lines = about.setdefault(title, {})
            if row.malformed:
                why = ", ".join(f"{count:,} {reason}" for reason, count in row.reasons.items())
                lines[f"{row.malformed:,} rows could not be asked: {why}"] = None
            if row.cut:
                lines[f"{row.cut:,} contexts did not fit and were cut"] = None
            lines |= dict.fromkeys(row.remarks)
        found = [line for title, lines in about.items() for line in (title, *(f"    {x}" for x in lines))]
        if any(row.paper_size for row in self.rows):
            found.insert(
                0, "The model has none of OpenAI's shapes: the paper's column is context, without verdict."
            )
        return ["", *found] if found else []

    def json(self) -> Json:
        """All of it as plain values."""
        return {"model": self.model, "rows": [dataclasses.asdict(row) for row in self.rows]}

    def save(self, folder: str | Path) -> None:
        """Write results.json and the table, results.txt, into a folder.

        Rows of other protocols that are there of the same model stay.
        """
        path = Path(folder) / "results.json"
        rows = {row.protocol: row for row in [*earlier(path, self.model), *self.rows]}
        every = Results(list(rows.values()), self.model)
        write_json(path, every.json())
        with atomic_write(Path(folder) / "results.txt", "w") as stream:
            stream.write(every.table() + "\n")


def earlier(path: Path, model: Json) -> list[Row]:
    """The rows of results.json, when it is of this model and this version."""
    try:
        held = read_json(path) if path.exists() else {}
        return [Row(**row) for row in held["rows"]] if held.get("model") == model else []
    except (FormatError, LookupError, TypeError, AttributeError):
        return []


def number(value: float | None) -> str:
    """Four digits, which is what the paper prints."""
    if value is None:
        return ""
    return f"{value:.2f}" if 1 <= abs(value) < 1e4 else f"{value:.4g}"


@dataclass(frozen=True)
class Value:
    """A protocol's result over some items."""

    value: float
    interval: Interval | None
    n: int
    """Items that count."""


def aggregate(
    protocols: Sequence[Protocol], measured: Sequence[Mapping[str, Measured]], units: Sequence[str]
) -> dict[str, Value]:
    """The result of each protocol that any item has something to say of, by its name.

    `units` names the unit of each item, over which intervals are drawn.
    """
    found: dict[str, Value] = {}
    ratios: list[tuple[Protocol, NDArray[np.float64], int]] = []
    _, place = np.unique(np.asarray(units), return_inverse=True)
    for protocol in protocols:
        own = [(i, m[protocol.name]) for i, m in enumerate(measured) if protocol.name in m]
        if not own:
            continue
        own = surest(own, protocol.most_confident)
        if protocol.statistic == "bleu":
            found[protocol.name] = bleu([m for _, m in own])
            continue
        at = place[[i for i, _ in own]]
        sums = np.stack(
            [
                np.bincount(at, weights=[m.numerator for _, m in own], minlength=place.max() + 1),
                np.bincount(at, weights=[m.denominator for _, m in own], minlength=place.max() + 1),
            ],
            axis=1,
        )  # [units, 2]
        ratios.append((protocol, sums.astype(np.float64), len(own)))
    draws = resampled([sums for _, sums, _ in ratios])
    for (protocol, totals, n), drawn in zip(ratios, draws, strict=True):
        numerator, denominator = totals.sum(axis=0)
        if denominator == 0:
            continue
        value = float(transformed(numerator / denominator, protocol.statistic))
        interval = None if drawn is None else percentiles(transformed(drawn, protocol.statistic))
        if interval and protocol.statistic == "percent" and value in (0.0, 100.0):
            interval = at_the_end(value, int((totals[:, 1] > 0).sum()))
        found[protocol.name] = Value(value, interval, n)
    return found


def surest(own: list[tuple[int, Measured]], share: float) -> list[tuple[int, Measured]]:
    """The share of items that the model was surest of, at least one, in their order."""
    if share >= 1:
        return own
    ranked = sorted(own, key=lambda pair: (-(pair[1].confidence or 0.0), pair[0]))
    return sorted(ranked[: max(1, round(share * len(own)))], key=lambda pair: pair[0])


def at_the_end(value: float, units: int) -> Interval:
    """The exact binomial interval (Clopper and Pearson, 1934) of none or all of so many units.

    There the bootstrap, which can only draw what was seen, has no width.
    """
    slack = 100 * (1 - 0.025 ** (1 / units))
    return (0.0, slack) if value == 0 else (100.0 - slack, 100.0)


def transformed(ratio: Any, statistic: Statistic) -> Any:
    """What a ratio of sums becomes."""
    match statistic:
        case "percent":
            return 100 * ratio
        case "perplexity":
            return np.exp(np.minimum(ratio, 700))
        case "bits":
            return ratio / math.log(2)
        case _:
            return ratio


def resampled(sums: Sequence[NDArray[np.float64]], seed: int = 0) -> list[NDArray[np.float64] | None]:
    """Numerators and denominators [units, 2] of each protocol -> its ratio in each of `DRAWS` draws.

    None for a protocol with one unit. The same draws serve all that have the same units.
    """
    if not sums:
        return []
    units = len(sums[0])
    columns = np.concatenate(sums, axis=1)  # [units, 2 x protocols]
    rng = np.random.default_rng(seed)
    drawn = np.empty((DRAWS, columns.shape[1]))
    for i in range(0, DRAWS, AT_ONCE):
        chosen = rng.integers(0, units, size=(AT_ONCE, units)) + units * np.arange(AT_ONCE)[:, None]
        counts = np.bincount(chosen.ravel(), minlength=AT_ONCE * units).reshape(AT_ONCE, units)
        drawn[i : i + AT_ONCE] = counts @ columns
    out: list[NDArray[np.float64] | None] = []
    for k, own in enumerate(sums):
        numerators, denominators = drawn[:, 2 * k], drawn[:, 2 * k + 1]
        some = denominators > 0
        single = (own[:, 1] > 0).sum() < 2
        out.append(None if single or not some.any() else numerators[some] / denominators[some])
    return out


def bleu(measured: Sequence[Measured]) -> Value:
    """Corpus BLEU of the hypotheses, by sacrebleu."""
    found = answers.bleu([m.output for m in measured], [m.reference for m in measured])
    return Value(found.score, found.interval, len(measured))
