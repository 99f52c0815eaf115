"""gpt2 forecast, gpt2 judge and gpt2 batch: before and after a training.

gpt2 forecast --size 124M --tokens 10B
gpt2 judge run
gpt2 batch run 4000
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from gpt2.cli.talk import COMPUTING, TALK, Amount, Computing, Count, Flag, Size, Talk

Folders = Annotated[list[Path] | None, Parameter(consume_multiple=True)]


SHAPE = Group("Shape", sort_key=20)


def forecast(
    *,
    size: Annotated[str, Parameter(group=SHAPE)] = "124M",
    layers: Annotated[Size | None, Parameter(group=SHAPE)] = None,
    heads: Annotated[Size | None, Parameter(group=SHAPE)] = None,
    channels: Annotated[Size | None, Parameter(group=SHAPE)] = None,
    context: Annotated[Size | None, Parameter(group=SHAPE)] = None,
    vocabulary: Annotated[Size, Parameter(group=SHAPE)] = 50_257,
    tokens: Count | None = None,
    batch: Size | None = None,
    accumulate: Size | None = None,
    recompute: Flag = False,
    recipe: Literal["gpt2", "gpt3", "nanogpt", "modern"] = "gpt2",
    ema: Amount | None = None,
    callback_every: Count = 100,
    computing: Computing = COMPUTING,
    talk: Talk = TALK,
) -> None:
    """Say what a training will take on this machine: memory by part, time, disk.

    Whether it fits into memory is said from the shapes alone; if it does, a few steps are tried.

    Parameters
    ----------
    size:
        124M, 355M, 774M or 1558M (or, as the paper counted, 117M, 345M, 762M, 1542M).
    layers:
        Blocks, in place of the size's.
    heads:
        Attention heads, in place of the size's.
    channels:
        Channels, in place of the size's.
    context:
        Longest text in tokens; the recipe's when not given.
    vocabulary:
        Tokens in the vocabulary.
    tokens:
        Tokens to train on, such as 10B; the recipe's when not given.
    batch:
        Sequences in a step; the recipe's when not given.
    accumulate:
        Parts in which they are taken; when not given, parts of at most 4 sequences.
    recompute:
        Compute activations again in the backward pass rather than keep them.
    recipe:
        Where the optimizer's settings, and what is not given, are from: gpt2, gpt3, nanogpt or modern.
    ema:
        Keep an average of the weights too.
    callback_every:
        Steps between two looks at held-out loss.
    """
    import dataclasses

    import gpt2
    from gpt2.training import recipes
    from gpt2.training.forecast import Asked, lines
    from gpt2.training.forecast import forecast as foretell

    chosen = recipes.recipe(recipe)
    changes = {"n_layer": layers, "n_head": heads, "n_embd": channels, "n_ctx": context or chosen.context}
    shape = gpt2.GPT2Config.size(size, vocab_size=vocabulary)
    shape = dataclasses.replace(shape, **{k: v for k, v in changes.items() if v is not None})
    batch = batch or chosen.batch
    parts = accumulate or next(n for n in range(-(-batch // 4), batch + 1) if batch % n == 0)
    optimizer = chosen.optimizer(shape, batch * shape.n_ctx)
    asked = Asked(
        shape, optimizer, tokens or chosen.tokens, batch, parts, recompute, ema is not None, callback_every
    )
    found = foretell(asked, computing.choose())
    given = (
        f"batch {batch} x {shape.n_ctx:,} tokens in {parts} parts, {optimizer.matrices} from recipe {recipe}"
    )
    result = {"batch": batch, "context": shape.n_ctx, "accumulate": parts, "recipe": recipe, **found.json()}
    talk.result(result, "\n".join(lines(found, [given])))


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
