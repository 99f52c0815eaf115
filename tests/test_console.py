"""Progress lines and metrics."""

from __future__ import annotations

import io
from pathlib import Path

from gpt2.console import Console, MetricsLog, count, duration, print_table


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


def test_tables_are_printed(capsys: object) -> None:
    from rich.console import Console as RichConsole

    stream = io.StringIO()
    print_table(["size", "loss"], [["0.1M", 4.25], ["1M", 3]], RichConsole(file=stream, width=60))
    assert "0.1M" in stream.getvalue() and "4.25" in stream.getvalue()
