"""Files that are whole or absent, and stages that run once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from gpt2.errors import BusyError, FormatError, InputError
from gpt2.workspace import (
    Workspace,
    atomic_folder,
    atomic_write,
    digest,
    read_json,
    recover_folder,
    write_json,
)


def test_a_failed_write_leaves_the_old_file_and_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file"
    write_json(path, {"n": np.int64(3), "p": tmp_path})
    assert read_json(path)["n"] == 3
    with pytest.raises(ZeroDivisionError), atomic_write(path, "w") as stream:
        stream.write("half")
        raise ZeroDivisionError
    assert read_json(path)["n"] == 3
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    for word in ("old", "new"):
        with atomic_folder(folder, "file") as draft:
            (draft / "file").write_text(word)
    assert (folder / "file").read_text() == "new"
    with pytest.raises(ZeroDivisionError), atomic_folder(folder, "file") as draft:
        (draft / "file").write_text("half")
        raise ZeroDivisionError
    assert (folder / "file").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    folder.rename(tmp_path / ".model.old")  # what a kill between the two renames leaves
    recover_folder(folder)
    assert (folder / "file").read_text() == "new"


def test_what_another_made_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for ours, refused in ((mine, False), (mine / "thesis.txt", True), (mine, True), (tmp_path, True)):
        with contextlib.suppress(InputError), atomic_folder(ours, "mark") as draft:
            assert not refused, f"{ours} would be lost"
            (draft / "thesis.txt").write_text("years of work")
    assert (mine / "thesis.txt").read_text() == "years of work"
    with Workspace(tmp_path) as space, pytest.raises(InputError, match="was not made here"):
        space.run("mine", {}, lambda folder: {})
    assert (mine / "thesis.txt").read_text() == "years of work"
    monkeypatch.chdir(mine)
    with pytest.raises(InputError, match="while you work in it"), atomic_folder(Path(), "thesis.txt"):
        pass


def test_a_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "large disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "large disk")
    for word in ("old", "new"):
        with atomic_folder(tmp_path / "out", "file") as draft:
            (draft / "file").write_text(word)
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "large disk" / "file").read_text() == "new"


def test_drafts_of_the_dead_are_cleared_and_those_of_the_living_kept(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".a [b].{dead.pid}.part").mkdir()
    (tmp_path / f".a [b].{os.getppid()}.part").mkdir()
    with atomic_folder(tmp_path / "a [b]", "file"):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == [f".a [b].{os.getppid()}.part", "a [b]"]


def test_drafts_of_the_dead_are_cleared_where_work_goes_on(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    drafts = [
        f"{place}.{pid}.part" for place in (".links", "s/.a", "s/in/.b") for pid in (dead.pid, os.getppid())
    ]

    def killed(folder: Path) -> dict[str, int]:
        (folder / "in" / f".b.{dead.pid}.part").mkdir(parents=True)
        for draft in drafts:
            (tmp_path / draft).touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Workspace(tmp_path) as space:
        space.run("s", {}, killed)
    with Workspace(tmp_path) as space:
        space.run("s", {}, lambda folder: {})
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.part"))
    assert left == sorted(f"{place}.{os.getppid()}.part" for place in (".links", "s/.a", "s/in/.b"))


def test_a_stage_runs_once_and_anew_when_its_settings_change(tmp_path: Path) -> None:
    calls: list[int] = []

    def work(folder: Path) -> dict[str, int]:
        calls.append(1)
        (folder / f"made-{len(calls)}").touch()
        return {"calls": len(calls)}

    with Workspace(tmp_path / "w") as space:
        assert space.run("a/b", {"k": 1}, work) == {"calls": 1}
        assert space.run("a/b", {"k": 1}, work) == {"calls": 1}
        assert space.run("a/b", {"k": 2}, work) == {"calls": 2}
    assert not (tmp_path / "w/a/b/made-1").exists()


def test_an_interrupted_stage_finds_its_folder_again(tmp_path: Path) -> None:
    def stop(folder: Path) -> dict[str, int]:
        (folder / "part").write_text("kept")
        raise KeyboardInterrupt

    with Workspace(tmp_path) as space:
        with pytest.raises(KeyboardInterrupt):
            space.run("s", {"k": 1}, stop)
        assert space.finished("s", {"k": 1}) is None
        found = space.run("s", {"k": 1}, lambda folder: {"part": (folder / "part").read_text()})
        assert found == {"part": "kept"}
        assert space.seconds("s") >= 0


def test_killed_at_any_moment_no_stage_is_done_twice(tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text(
        textwrap.dedent(f"""
        from pathlib import Path
        from gpt2.workspace import Workspace
        import time
        def work(folder):
            with (Path({str(tmp_path)!r}) / "log").open("a") as f: f.write(folder.name + "\\n")
            time.sleep(0.05)
            return {{}}
        with Workspace(Path({str(tmp_path / "w")!r})) as w:
            for i in range(8): w.run(f"s{{i}}", {{}}, work)
        """)
    )
    finished_before: set[str] = set()
    for attempt in range(40):
        job = subprocess.Popen([sys.executable, str(script)])
        time.sleep(0.12 + 0.01 * attempt)
        if job.poll() is None:
            job.send_signal(signal.SIGKILL)
        job.wait()
        log = tmp_path / "log"
        ran = log.read_text().split() if log.exists() else []
        assert not finished_before & set(ran), "a finished stage ran again"
        log.write_text("")
        done = {p.parent.name for p in (tmp_path / "w").glob("s*/stage.json") if read_json(p)["done"]}
        finished_before = done
        if job.returncode == 0:
            break
    assert len(finished_before) == 8


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    with Workspace(tmp_path), pytest.raises(BusyError, match="another process"):
        Workspace(tmp_path)
    Workspace(tmp_path).close()


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        Workspace(tmp_path / "file")
    with pytest.raises(InputError, match="no file"):
        read_json(tmp_path / "missing")
    for damaged in ('{"a": ', "[" * 100_000, "\x00"):
        (tmp_path / "bad.json").write_text(damaged)
        with pytest.raises(FormatError, match="not readable JSON"):
            read_json(tmp_path / "bad.json")
    write_json(tmp_path / "s" / "stage.json", ["not ours"])
    with Workspace(tmp_path) as space, pytest.raises(FormatError, match="not the mark"):
        space.run("s", {}, lambda folder: {})
    if os.geteuid():
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(InputError, match="cannot work in"):
            Workspace(tmp_path / "locked" / "inner")


def test_digests_depend_on_values_alone() -> None:
    assert digest({"a": 1, "b": Path("x")}) == digest({"b": Path("x"), "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_refused_work_leaves_no_trace_and_begun_work_stays(tmp_path: Path) -> None:
    def refuse(folder: Path) -> dict[str, int]:
        with Workspace(folder) as inner:
            inner.run("inner", {}, lambda _: raising())
        return {}

    def raising() -> dict[str, int]:
        raise FormatError("this is not what it should be")

    for out in (tmp_path / "new", tmp_path / "kept"):
        if out.name == "kept":
            (out / "mine").mkdir(parents=True)
        with pytest.raises(FormatError), Workspace(out) as space:
            space.run("s", {}, refuse)
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "kept/mine").is_dir() and not (tmp_path / "kept/s").exists()

    def begin(folder: Path) -> dict[str, int]:
        (folder / "page").write_text("fetched")
        return raising()

    with pytest.raises(FormatError), Workspace(tmp_path / "new") as space:
        space.run("s", {}, begin)
    assert (tmp_path / "new/s/page").read_text() == "fetched"
