"""gpt2 forecast, gpt2 judge and gpt2 batch: before and after a training.

gpt2 forecast --size 124M --tokens 10B
gpt2 judge run
gpt2 batch run 4000
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from gpt2.cli.talk import TALK, Count, Talk

Folders = Annotated[list[Path] | None, Parameter(consume_multiple=True)]


def judge(run: Path, *, tokens: Folders = None, talk: Talk = TALK) -> None:
    """Say whether a training run looks right, and what is likely wrong when it does not.

    Its loss is held against what its tokens alone would lose, its own beginning, and published runs.

    Parameters
    ----------
    run:
        Folder of the run.
    tokens:
        Folders of the tokens that it learned from, where they are no longer where they were.
    """
    from gpt2.training.verdict import judge_run

    verdict = judge_run(run, tokens or ())
    talk.result(verdict.json(), str(verdict))


def batch(run: Path, step: Count, *, tokens: Folders = None, talk: Talk = TALK) -> None:
    """Say which documents a training run learned from in a step.

    Parameters
    ----------
    run:
        Folder of the run.
    step:
        The step, counted from 1 as in metrics.jsonl.
    tokens:
        Folders of the tokens that it learned from, where they are no longer where they were.
    """
    from gpt2.training.provenance import batch_of

    passages = batch_of(run, step, tokens or ())
    talk.table(
        ["tokens", "of", "epoch", "documents"],
        [
            [f"{p.begin:,} to {p.stop:,}", p.folder.name, p.epoch + 1, ", ".join(d.id for d in p.documents)]
            for p in passages
        ],
    )
    if talk.json:
        talk.result({"step": step, "passages": passages}, "")
