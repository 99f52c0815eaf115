"""gpt2 evaluate and gpt2 tasks: the paper's tables.

gpt2 tasks --data my_data
gpt2 evaluate run --tasks lambada,wikitext2 --data my_data --out results
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

import gpt2
from gpt2.cli.talk import EXACTLY, TALK, ComputingExactly, Count, Flag, Talk

Data = Annotated[Path | None, Parameter(env_var="GPT2_DATA")]


def evaluate(
    model: Path,
    *,
    tasks: str = "all",
    protocol: str | None = None,
    data: Data = None,
    out: Path | None = None,
    limit: Count | None = None,
    download: Flag = False,
    computing: ComputingExactly = EXACTLY,
    talk: Talk = TALK,
) -> None:
    """Measure a model on the paper's tasks, beside the paper's numbers and those that others could reproduce.

    Under torchrun (`torchrun --nproc-per-node 4 -m gpt2 evaluate ...`) the items are dealt out to the processes.

    Parameters
    ----------
    model:
        A model in any known format: folder or file, a training run, the folder of `gpt2 reproduce`, hub name.
    tasks:
        Names with commas between them, as `gpt2 tasks` shows them; all for each of the paper's.
    protocol:
        Only these, with commas between them: lambada/last-word, or last-word.
    data:
        Folder that has the data sets somewhere in it, in their original formats; a text file for --tasks text.
    out:
        Folder for the results and for every item with its prompt and answer; the same command goes on from it.
    limit:
        Only the first items of each task.
    download:
        Get data sets that are not there from the Hugging Face hub.
    """
    compute = computing.choose()
    results = gpt2.evaluate(
        model,
        words(tasks),
        data=data,
        protocols=None if protocol is None else words(protocol),
        out=out,
        limit=limit,
        download=download,
        compute=compute,
        console=talk.console,
    )
    if int(os.environ.get("RANK", "0")) == 0:
        talk.result(results.json(), results.table())


def tasks(*, data: Data = None, talk: Talk = TALK) -> None:
    """The tasks with all their protocols, where their data is looked for and whether it is there.

    Parameters
    ----------
    data:
        Folder that has the data sets somewhere in it, in their original formats.
    """
    from gpt2.evaluation.datasets import Library
    from gpt2.evaluation.tasks import every_task

    library = Library(data)
    found: list[dict[str, Any]] = []
    for task in every_task():
        name = task.protocols[0].data
        here = library.find(name)
        found.append(
            {
                "task": task.name,
                "data": name,
                "found": [str(path) for path in here.paths] if here else None,
                "how_to_get": None if here else library.lacking(name),
                "items": task.whole,
                "on_request": task.on_request,
                "protocols": task.protocols,
            }
        )
    talk.table(
        ["task", "protocol", "metric", "data", "there"],
        [
            [p.task, p.name, p.metric, p.data, "yes" if one["found"] else "no"]
            for one in found
            for p in one["protocols"]
        ],
    )
    talk.write("")
    for line in dict.fromkeys(line for one in found for line in described(one)):
        talk.write(line)
    if talk.json:
        talk.result({"looked_in": library.folders, "tasks": found}, "")


def described(one: dict[str, Any]) -> Sequence[str]:
    """Where a task's data is, or how to get it; which protocols are asked only by name."""
    where = ", ".join(one["found"]) if one["found"] else one["how_to_get"]
    lines = [f"{one['data']}: {where}"]
    if one["on_request"]:
        lines += [f"only when asked for with --protocol: {p.id}" for p in one["protocols"]]
    return lines


def words(typed: str) -> list[str]:
    """Names with commas between them."""
    return [name.strip() for name in typed.split(",") if name.strip()]
