"""Folders that survive being killed: atomic files, completion marks, and who made what from what.

A file written here is either whole or absent: it is written beside its place, flushed to the disk and
renamed. A *stage* is a folder plus a mark, `stage.json`; the mark is written last, so a folder without one
is unfinished work. `Workspace.run` does a stage once: when the mark is there and was made from the same
settings, its recorded result is returned and nothing runs. When the settings differ, the folder is emptied
and the stage runs anew; when the stage was interrupted, its folder stays, and the stage's own function goes
on from what it finds there. Nothing of the user's is ever deleted: a folder is emptied or replaced only when
a file in it shows that this package made it. What killed processes were writing (`.NAME.PID.part`) is cleared
where a workspace is opened again and where a stage begins or goes on.

    work = Workspace(Path("reproduce"))
    result = work.run("documents", {"minimum_votes": 3}, lambda folder: build(folder))

Rejected: one database of states. Marks beside the data can be read, copied and deleted by hand.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import glob
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from gpt2.errors import BusyError, FormatError, InputError, WorkbenchError

Json = dict[str, Any]
MARK, LOCK, DRAFTS = "stage.json", ".lock", ".*.part"


@contextlib.contextmanager
def atomic_write(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a file that appears at `path` whole on success, and not at all on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_of(path)
    try:
        with draft.open(mode, encoding=None if "b" in mode else "utf-8") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path, mark: str) -> Iterator[Path]:
    """A new folder that takes the place of `path` on success, and leaves no trace on failure.

    What is there already is replaced only if it is an empty folder or one with a file named `mark`, which
    every folder of its kind has; else `InputError`. It is set aside before the new one is renamed into place,
    and deleted after; a kill between the two renames leaves it as `.NAME.old`, which `recover_folder` puts
    back.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; give a folder")
    if Path.cwd().is_relative_to(path):
        raise InputError(f"{path} cannot be replaced while you work in it; give another folder")
    if path.exists() and any(path.iterdir()) and not (path / mark).exists():
        raise InputError(f"{path} has other files, which would be lost; give a new or empty folder")
    draft, old = draft_of(path), path.with_name(f".{path.name}.old")
    clear_drafts(path.parent, f".{glob.escape(path.name)}.*.part")
    draft.mkdir(parents=True)
    try:
        yield draft
        for file in draft.rglob("*"):
            if file.is_file():
                with file.open("rb") as stream:
                    os.fsync(stream.fileno())
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            path.replace(old)
        draft.replace(path)
        sync_folder(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def draft_of(path: Path) -> Path:
    """Where to write before renaming to `path`."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def clear_drafts(folder: Path, pattern: str = DRAFTS) -> None:
    """Delete drafts in a folder that killed processes left behind; those of living ones stay."""
    for left in [*folder.glob(pattern)]:
        pid = left.name.split(".")[-2]
        if pid.isdecimal() and (int(pid) == os.getpid() or not alive(int(pid))):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def alive(pid: int) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def recover_folder(path: Path) -> None:
    """Put back the folder that an interrupted `atomic_folder` had set aside."""
    path = Path(os.path.realpath(path))
    old = path.with_name(f".{path.name}.old")
    if old.exists() and not path.exists():
        old.replace(path)


def remove(folder: Path) -> None:
    """Delete a folder, or what an earlier, killed `remove` left of it: no part of it keeps its name."""
    gone = folder.with_name(f".{folder.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    if folder.exists():
        folder.replace(gone)
        shutil.rmtree(gone)


def only_drafts(folder: Path) -> bool:
    """Whether a folder is empty, or has only what a killed `atomic_write` left."""
    return all(p.name.startswith(".") and p.name.endswith(".part") for p in folder.iterdir())


def is_bare(folder: Path) -> bool:
    """Whether a stage's folder holds no work: nothing but locks and the marks of unfinished stages."""
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    return all(p.name == LOCK or (p.name == MARK and not read_json(p).get("done")) for p in files)


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write `value` (dataclasses and paths allowed) as indented JSON, atomically."""
    text = json.dumps(value, indent=1, ensure_ascii=False, default=plain) + "\n"
    with atomic_write(path, "w") as stream:
        stream.write(text)


def read_json(path: Path) -> Any:
    """Read a JSON file; `InputError` when it is missing, `FormatError` when it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} is not readable JSON ({error}); make it anew or delete it") from None


def plain(value: Any) -> Any:
    """What JSON cannot say of itself: dataclasses as objects, paths as text, sets sorted, numpy as numbers."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def digest(value: Any) -> str:
    """A short sha256 of any JSON-like value: the same settings give the same digest."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Version of the workbench, of Python and of the libraries that numbers depend on, where installed."""
    from importlib import metadata  # 0.04 s, which generating should not wait for

    found = {"python": platform.python_version()}
    for name in (
        "gpt2-workbench",
        "torch",
        "numpy",
        "gigatoken",
        "tiktoken",
        "trafilatura",
        "resiliparse",
        "daft",
    ):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


class Workspace:
    """A run folder whose stages each run once, whatever happens in between."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file; give a folder to work in")
        self._made, used = not folder.exists(), (folder / LOCK).exists()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / LOCK).open("w")
        except OSError as error:
            raise InputError(f"cannot work in {folder}: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise BusyError(
                f"another process works in {folder}; wait for it or give another folder"
            ) from None
        if used:
            clear_drafts(folder)

    def close(self) -> None:
        """Let another process work in the folder; one that was made in vain goes."""
        if self._made and {path.name for path in self.folder.iterdir()} == {LOCK}:
            (self.folder / LOCK).unlink()
            self.folder.rmdir()
        self._lock.close()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def record(self, stage: str) -> Json | None:
        """What the stage's mark says, or None without one."""
        path = self.folder / stage / MARK
        if not path.exists():
            return None
        record = read_json(path)
        if not isinstance(record, dict) or "settings_digest" not in record:
            raise FormatError(f"{path} is not the mark of a stage; delete the folder to do the stage anew")
        return record

    def finished(self, stage: str, settings: Mapping[str, Any]) -> Json | None:
        """The recorded result of a stage that was finished with these settings, else None."""
        record = self.record(stage)
        if record and record.get("done") and record["settings_digest"] == digest(settings):
            return dict(record["result"])
        return None

    def seconds(self, stage: str) -> float:
        """How long a finished stage took in the process that finished it."""
        return float(read_json(self.folder / stage / MARK)["seconds"])

    def run(
        self, stage: str, settings: Mapping[str, Any], work: Callable[[Path], Json], again: bool = False
    ) -> Json:
        """Do a stage once. `work` gets the stage's folder and returns what the later stages need to know.

        With `again` the work is done each time, for work that knows itself what is left to do.
        """
        done = None if again else self.finished(stage, settings)
        if done is not None:
            return done
        folder, key = self.folder / stage, digest(settings)
        found = self.record(stage)
        if found is None and folder.exists() and not (folder.is_dir() and only_drafts(folder)):
            raise InputError(f"{folder} is in the way and was not made here; move it or give another folder")
        if found and found["settings_digest"] != key:
            remove(folder)
            found = None
        record: Json = {"stage": stage, "settings_digest": key, "settings": dict(settings), "done": False}
        if found is None:
            write_json(folder / MARK, record)
        clear_drafts(folder, f"**/{DRAFTS}")
        begun = time.time()
        try:
            result = work(folder)
        except WorkbenchError:
            if is_bare(folder):
                remove(folder)
            raise
        record |= {
            "done": True,
            "seconds": round(time.time() - begun, 3),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "versions": versions(),
            "result": result,
        }
        write_json(folder / MARK, record)
        return dict(json.loads(json.dumps(result, default=plain)))
