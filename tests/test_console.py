"""Progress lines and metrics."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from gpt2.console import Console, MetricsLog, count, duration, shown, table


def test_people_read_numbers_and_times() -> None:
    assert [count(x) for x in (7, 12_400, 3.14e6, 1.557e9)] == ["7", "12,400", "3.1 M", "1.56 B"]
    assert [duration(x) for x in (8.4, 200, 7500)] == ["8 s", "3 min 20 s", "2 h 05 min"]


def test_progress_ends_with_a_line_and_quiet_says_nothing() -> None:
    for quiet in (False, True):
        stream = io.StringIO()
        console = Console(quiet=quiet, stream=stream)
        with console.progress("fetching", 10, "pages") as bar:
            for _ in range(10):
                bar.advance()
            assert "100%" in bar.line() and "10 of 10 pages" in bar.line()
        assert stream.getvalue() == ("" if quiet else "fetching: 10 pages in 0 s\n")


def test_work_done_before_does_not_flatter_the_rate() -> None:
    console = Console(quiet=True)
    with console.progress("x", 1000) as bar:
        bar.skip(999)
        bar.begun -= 10
        bar.advance(1)
        assert "0.1/s" in bar.line()


def test_metrics_are_cut_back_on_resume(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "m.jsonl")
    for step in range(1, 6):
        log.write(step=step, loss=1 / step)
    with log.path.open("a") as stream:
        stream.write('{"step": 6, "lo')
    assert [r["step"] for r in log.read()] == [1, 2, 3, 4, 5]
    log.cut(3)
    log.write(step=4, loss=0.0)
    assert [r["step"] for r in log.read()] == [1, 2, 3, 4]


def test_a_table_has_numbers_to_the_right_and_text_as_it_is() -> None:
    rows = [["0.1M", 4.25, "[/red] :smile:"], ["124M", 12_345_678, "日本"]]
    assert table(["size", "loss", "note"], rows).split("\n") == [
        "size        loss  note",
        "────  ──────────  ──────────────",
        "0.1M        4.25  [/red] :smile:",
        "124M  12,345,678  日本",
    ]
    assert table(["size"], []).startswith("size\n")


def test_values_are_shown_as_people_read_them() -> None:
    facts = {"train": {"documents": 3, "tokens": 41_000}, "loss": 3.14159265, "whole": True}
    assert [shown(v) for v in facts.values()] == ["3 documents, 41,000 tokens", "3.1416", "True"]
    assert [shown(x) for x in (1e7, -0.001234567, float("nan"))] == ["10,000,000", "-0.0012346", "nan"]


def test_an_exception_leaves_no_half_line_on_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with pytest.raises(ZeroDivisionError), Console(stream=stream).progress("fetching", 10) as bar:
        bar.begun = bar._printed = -1e9
        bar.advance(1)
        raise ZeroDivisionError
    assert "fetching" in stream.getvalue() and stream.getvalue().endswith("\r\x1b[K")
