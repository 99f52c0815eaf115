"""What a person sees while work goes on, and what programs can read of it afterwards.

Everything here goes to standard error, so that standard output stays free for results. On a terminal a
progress line shows share done, rate and time left; in a log file the same is printed as a plain line every
ten seconds. `MetricsLog` appends one JSON object a line; on resume, lines of undone steps are cut off.

    with console.progress("fetching", total=900, unit="pages") as bar:
        bar.advance(1, note="torch.nn")
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from gpt2.workspace import Json, atomic_write, plain

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

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
        yield bar
        spent = time.monotonic() - bar.begun
        self.say(f"{title}: {count(bar.done)} {unit} in {duration(spent)}")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table; numbers to the right."""
        if not self.quiet:
            self._clear()
            print_table(header, rows, self._rich())

    def _rich(self) -> RichConsole:
        from rich.console import Console as RichConsole

        return RichConsole(file=self.stream)

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


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[object]], console: RichConsole | None = None
) -> None:
    """Print a table to standard output, or to the console given."""
    from rich import box
    from rich.console import Console as RichConsole
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(header):
        numeric = all(isinstance(row[i], int | float) for row in rows) if rows else False
        table.add_column(name, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(
            *(f"{x:,}" if isinstance(x, int) else f"{x:.4g}" if isinstance(x, float) else str(x) for x in row)
        )
    (console or RichConsole()).print(table)


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
