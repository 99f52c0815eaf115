"""The exceptions of the workbench, and how one becomes a sentence.

    WorkbenchError              raised on purpose; its text is one sentence for the user
    ├── InputError              a file, folder, text or argument that cannot be used
    │   ├── FormatError         a file is not what it should be: foreign, cut short, damaged
    │   └── ConfigError         an unknown setting or a value out of range
    ├── TooLittleData           the input is sound, but there is not enough of it for the job
    ├── MissingExtra            an optional dependency is not installed
    ├── FetchError              a page or file could not be had from the network
    └── BusyError               another process is at work in the same folder

Every message says what happened, names the value, and gives the next thing to try. `sentence` gives that
one sentence, and finds one for what the system refuses as well: a full disk, a forbidden folder, too little
memory. The command line prints it and exits with status 2; any other exception is a fault of ours and keeps
its traceback. Rejected: checks of every path before use, which race with the disk and still miss a full one.

    python -c "from gpt2.errors import sentence; print(sentence(IsADirectoryError(21, '', 'texts')))"
"""

from __future__ import annotations

import difflib
import errno
import importlib
import re
from collections.abc import Iterable
from types import ModuleType


class WorkbenchError(Exception):
    """Raised on purpose: the text is one sentence for the user."""


class InputError(WorkbenchError):
    """A file, folder, text or argument that cannot be used."""


class FormatError(InputError):
    """A file is not what it should be: foreign, cut short or damaged."""


class ConfigError(InputError):
    """An unknown setting or a value out of range."""


class TooLittleData(WorkbenchError):
    """The input is sound, but there is not enough of it for the job."""


class MissingExtra(WorkbenchError):
    """An optional dependency is not installed."""


class FetchError(WorkbenchError):
    """A page or file could not be had from the network."""


class BusyError(WorkbenchError):
    """Another process is at work in the same folder."""


def need(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or raise `MissingExtra` with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        raise MissingExtra(
            f"this needs the package {error.name!r}, which is not installed: "
            f"run  pip install 'gpt2-workbench[{extra}]'"
        ) from None


def nearest(name: str, known: Iterable[str]) -> str:
    """' (did you mean X?)' when a known name is close to `name`, else ''."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


ADVICE = {
    errno.ENOSPC: "the disk is full; make room or give another folder",
    errno.EDQUOT: "the disk quota is used up; make room or give another folder",
    errno.EROFS: "the disk is read-only; give another folder",
    errno.EACCES: "permission denied; change its permissions or give another path",
    errno.EPERM: "permission denied; change its permissions or give another path",
    errno.ENOENT: "there is no such file or folder; check the path",
    errno.EEXIST: "that is a file; give a folder",
    errno.EISDIR: "that is a folder; give a file",
    errno.ENOTDIR: "that is a file, or has a file in its path; give a folder",
    errno.ENAMETOOLONG: "the name is too long; give a shorter one",
    errno.ELOOP: "its symbolic links lead in a circle; give another path",
    errno.EFBIG: "the file would be larger than this system allows; give another folder",
    errno.EIO: "the disk cannot be read or written; give another one",
}
"""What to do about an error of the file system."""


def sentence(error: BaseException) -> str | None:
    """What to tell the user, on one line, or None for a fault of ours."""
    if isinstance(error, WorkbenchError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in ADVICE:
        path = error.filename2 or error.filename
        return f"{path}: {ADVICE[error.errno]}" if path else ADVICE[error.errno]
    rust = re.search(
        r"\(os error (\d+)\)", str(error)
    )  # how safetensors and Daft tell of the system's errors
    if rust and int(rust[1]) in ADVICE:
        return ADVICE[int(rust[1])]
    refused = ("can't allocate memory", "out of memory", "bad_alloc")  # torch's words
    torch_refuses = isinstance(error, RuntimeError) and any(words in str(error) for words in refused)
    if isinstance(error, MemoryError) or torch_refuses:
        return "there is not enough memory; take a smaller model, batch or context"
    return None
