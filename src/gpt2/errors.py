"""The exceptions of the workbench, and how one becomes a sentence.

    WorkbenchError              raised on purpose; its text is one sentence for the user
    ├── InputError              a file, folder, text or argument that cannot be used
    │   ├── FormatError         a file is not what it should be: foreign, cut short, damaged
    │   └── ConfigError         an unknown setting or a value out of range
    ├── TooLittleData           the input is sound, but there is not enough of it for the job
    ├── MissingExtra            an optional dependency is not installed
    ├── FetchError              a page or file could not be had from the network
    └── BusyError               another process is at work in the same folder

Every message says what happened, names the value, and gives the next thing to try. The command line
prints a `WorkbenchError` as that one sentence and exits with status 2; any other exception is a fault of
ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
import importlib
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
