"""What a person sees while work goes on, and what programs can read of it afterwards.

Everything here goes to standard error, so that standard output stays free for results. On a terminal a
progress line shows share done, rate and time left; in a log file the same is printed as a plain line every
ten seconds. `MetricsLog` appends one JSON object a line; on resume, lines of undone steps are cut off.

    with console.progress("fetching", total=900, unit="pages") as bar:
        bar.advance(1, note="torch.nn")

Rejected: rich's live display, which needs a thread of its own and says nothing in a log file.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from gpt2.workspace import Json, atomic_write, plain

LOG_EVERY_SECONDS = 10.0


def duration(seconds: float) -> str:
    """'8 s', '3 min 20 s', '2 h 05 min'."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def count(number: float) -> str:
    """'950', '12,400', '3.1 M', '1.56 B': a number as people say it."""
    if number < 1e6:
        return f"{number:,.0f}"
    return f"{number / 1e9:.2f} B" if number >= 1e9 else f"{number / 1e6:.1f} M"


class Bar:
    """One piece of work under way: how much is done, how fast, how long is left."""

    def __init__(self, console: Console, title: str, total: float | None, unit: str) -> None:
        self.console, self.title, self.total, self.unit = console, title, total, unit
        self.done, self.note, self._skipped = 0.0, "", 0.0
        self.begun = self._printed = time.monotonic()

    def skip(self, amount: float) -> None:
        """Count work that an earlier run had done, without letting it flatter the rate."""
        self.done += amount
        self._skipped += amount

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Count `amount` more units as done; `note` is shown at the end of the line."""
        self.done += amount
        self.note = note or self.note
        self.console._show(self)

    def line(self) -> str:
        """The state in one line: title, done of total, rate, time left, note."""
        spent = max(time.monotonic() - self.begun, 1e-9)
        rate = (self.done - self._skipped) / spent
        parts = [f"{count(self.done)} {self.unit}"]
        if self.total:
            parts = [
                f"{min(1.0, self.done / self.total):4.0%}  {count(self.done)} of {count(self.total)} {self.unit}"
            ]
        parts.append(f"{count(rate) if rate >= 10 else f'{rate:.1f}'}/s")
        if self.total and rate > 0:
            parts.append(f"{duration((self.total - self.done) / rate)} left")
        if self.note:
            parts.append(self.note)
        return f"{self.title}  " + "  ".join(parts)


class Console:
    """Where progress and messages go. `Console(quiet=True)` says nothing."""

    def __init__(self, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.quiet = quiet
        self.stream = sys.stderr if stream is None else stream
        self._live = not quiet and self.stream.isatty()
        self._open_line = False

    def say(self, text: str = "") -> None:
        """One line for the person."""
        if not self.quiet:
            self._clear()
            print(text, file=self.stream, flush=True)

    @contextlib.contextmanager
    def progress(self, title: str, total: float | None = None, unit: str = "items") -> Iterator[Bar]:
        """Show a piece of work while it goes on, and one closing line when it is done."""
        bar = Bar(self, title, total, unit)
        try:
            yield bar
        except BaseException:
            self._clear()
            raise
        spent = time.monotonic() - bar.begun
        self.say(f"{title}: {count(bar.done)} {unit} in {duration(spent)}")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table; numbers to the right."""
        self.say(table(header, rows))

    def _show(self, bar: Bar) -> None:
        now = time.monotonic()
        if self.quiet or now - bar._printed < (0.1 if self._live else LOG_EVERY_SECONDS):
            return
        bar._printed = now
        if self._live:
            import shutil

            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{bar.line()[:width]}", end="", file=self.stream, flush=True)
            self._open_line = True
        else:
            print(bar.line(), file=self.stream, flush=True)

    def _clear(self) -> None:
        if self._open_line:
            print("\r\x1b[K", end="", file=self.stream)
            self._open_line = False


QUIET = Console(quiet=True)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table as text: numbers to the right, columns as wide as their longest cell."""
    from rich.cells import cell_len, set_cell_size

    cells = [list(header), *([shown(x) for x in row] for row in rows)]
    columns = range(len(header))
    widths = [max(cell_len(row[i]) for row in cells) for i in columns]
    right = [bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in columns]

    def line(row: Sequence[str]) -> str:
        padded = [
            " " * (widths[i] - cell_len(row[i])) + row[i] if right[i] else set_cell_size(row[i], widths[i])
            for i in columns
        ]
        return "  ".join(padded).rstrip()

    return "\n".join([line(cells[0]), "  ".join("─" * w for w in widths), *map(line, cells[1:])])


def shown(value: object) -> str:
    """A value as people read it: 12,400 or 3.142, facts of a mapping as '3 documents, 40 tokens'."""
    if isinstance(value, Mapping):
        return ", ".join(f"{shown(v)} {name}" for name, v in value.items())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.5g}" if abs(value) < 1e5 else f"{value:,.0f}"


class MetricsLog:
    """Metrics as JSON lines, one object a step, each flushed when written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, **values: Any) -> None:
        """Append one object."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(values, default=plain) + "\n")

    def read(self) -> list[Json]:
        """All whole lines; a last line cut short by a kill is left out."""
        if not self.path.exists():
            return []
        rows: list[Json] = []
        for line in self.path.read_text(encoding="utf-8").split("\n"):
            with contextlib.suppress(ValueError):
                rows.append(json.loads(line))
        return [row for row in rows if isinstance(row, dict)]

    def cut(self, last_step: int) -> None:
        """Drop what was logged after `last_step`, which a resumed run will log again."""
        rows = [row for row in self.read() if row.get("step", 0) <= last_step]
        with atomic_write(self.path, "w") as stream:
            stream.writelines(json.dumps(row) + "\n" for row in rows)
