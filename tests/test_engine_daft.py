"""Jobs mapped by Daft: every one is done, what they raise is raised, and workers that die are replaced."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from gpt2.corpus.engine import TRIES, Engine, Fault
from gpt2.errors import FormatError, WorkbenchError
from gpt2.workspace import Json


@dataclass(frozen=True)
class Doing:
    """Does what a job says, and keeps a note of it."""

    folder: Path
    worth: ClassVar[int] = 0

    @contextlib.contextmanager
    def opened(self) -> Iterator[Callable[[Json], Json]]:
        if (self.folder / "broken").exists():
            raise FormatError("the table beside is damaged; make it anew")
        yield self.do

    def do(self, job: Json) -> Json:
        note = self.folder / f"{job['number']}"
        times = int(note.read_text()) if note.exists() else 0
        note.write_text(str(times + 1))
        if job.get("dies", 0) > times:
            time.sleep(0.3)  # so that others are done before
            os.kill(os.getpid(), signal.SIGKILL)
        if job.get("raises") == "sentence":
            raise FormatError("the file é is damaged; get it anew")
        if job.get("raises") == "fault":
            return {"share": 1 / 0}
        if job.get("raises") == "memory":
            raise MemoryError
        if job.get("raises") == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))
        return {"number": job["number"], "pid": os.getpid(), "text": "日本" * 10}


pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed file", "ignore::pytest.PytestUnraisableExceptionWarning"
)
"""Daft leaves the pipes of workers that died to be closed when they are collected."""


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Worker processes find this file, and the pipes of dead ones are closed before other tests run."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def jobs(n: int, **special: Json) -> list[Json]:
    return [{"number": i, "bytes": 1} | special.get(f"job{i}", {}) for i in range(n)]


def test_every_job_is_done_once_by_several_processes(tmp_path: Path) -> None:
    done = list(Engine(2).run(Doing(tmp_path), jobs(12)))
    assert sorted(result["number"] for result in done) == list(range(12))
    assert os.getpid() not in {result["pid"] for result in done} and len({r["pid"] for r in done}) == 2
    assert {path.read_text() for path in tmp_path.iterdir()} == {"1"}


def test_one_worker_one_job_or_little_work_need_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for engine, todo in ((Engine(1), jobs(3)), (Engine(2), jobs(1)), (Engine(2), [])):
        assert {result["pid"] for result in engine.run(Doing(tmp_path), todo)} <= {os.getpid()}
    monkeypatch.setattr(Doing, "worth", 4)
    assert {result["pid"] for result in Engine(2).run(Doing(tmp_path), jobs(3))} == {os.getpid()}


def test_a_job_for_which_memory_is_short_says_what_takes_less(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match=r"not enough memory; fewer workers \(--processes 1\)"):
        list(Engine(2).run(Doing(tmp_path), jobs(2, job1={"raises": "memory"})))


def test_what_a_job_raises_is_raised_here_with_its_kind(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="the file é is damaged"):
        list(Engine(2).run(Doing(tmp_path), jobs(4, job2={"raises": "sentence"})))
    with pytest.raises(Fault, match=r"(?s)Traceback.*1 / 0.*ZeroDivisionError"):
        list(Engine(2).run(Doing(tmp_path), jobs(4, job2={"raises": "fault"})))


def test_a_full_disk_ends_the_work_at_once_as_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left on device") as caught:
        list(Engine(2).run(Doing(tmp_path), jobs(4, job1={"raises": "full"})))
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(tmp_path)
    assert "in do" in str(caught.value.__cause__), "with the worker's traceback"
    assert (tmp_path / "1").read_text() == "1", "it is not tried again"


def test_what_opening_raises_is_no_death_of_a_worker(tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    with pytest.raises(FormatError, match="the table beside is damaged"):
        list(Engine(2).run(Doing(tmp_path), jobs(4)))


def test_workers_that_die_are_replaced_and_their_jobs_done(tmp_path: Path) -> None:
    done = list(Engine(2).run(Doing(tmp_path), jobs(8, job3={"dies": 1}, job6={"dies": 1})))
    assert sorted(result["number"] for result in done) == list(range(8))


def test_a_job_that_always_kills_its_worker_ends_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        WorkbenchError, match=rf"a worker process died {TRIES} times with 1 jobs left"
    ) as caught:
        list(Engine(2).run(Doing(tmp_path), jobs(5, job4={"dies": 99})))
    assert "--processes 1" in str(caught.value) and "\n" not in str(caught.value)
