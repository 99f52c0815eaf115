"""The paper's tasks, one file each; see `gpt2.evaluation.task` for what a task is.

Each file has `TASKS`, a tuple of its tasks, one object for each data set that is read: several may share a
name (`lambada` is measured on two copies of its text), and then are asked for together. Files are imported
when tasks are asked for, and import nothing heavy themselves.

    gpt2 tasks
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from gpt2.errors import ConfigError, nearest
from gpt2.evaluation.task import Task

FILES: tuple[str, ...] = (
    "language_modeling",
    "lambada",
    "cbt",
    "winograd",
    "coqa",
    "summarization",
    "translation",
    "natural_questions",
    "hellaswag",
    "cloze",
)
"""The files of this folder, in the order in which their tasks are shown."""
ON_REQUEST = ("text", "cloze")
"""Tasks that `all` leaves out: they measure what the user gives."""


def every_task() -> list[Task]:
    """All tasks, in order."""
    return [task for file in FILES for task in importlib.import_module(f"{__name__}.{file}").TASKS]


def tasks_named(names: Sequence[str]) -> list[Task]:
    """The tasks of these names, `all` for each of the paper's; `ConfigError` for a name that is none."""
    every = every_task()
    known = list(dict.fromkeys(task.name for task in every))
    for name in names:
        if name not in [*known, "all"]:
            raise ConfigError(f"unknown task {name!r}{nearest(name, known)}; `gpt2 tasks` shows them all")
    wanted = {n for n in known if n in names or ("all" in names and n not in ON_REQUEST)}
    return [task for task in every if task.name in wanted]
