"""gpt2 train: token shards to a GPT-2 (paper 2.3).

gpt2 train --tokens shards --out run --size 124M --minutes 60
gpt2 train --tokens shards --out run --size 124M --minutes 60 --resume
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

import gpt2
from gpt2.cli.talk import COMPUTING, TALK, Amount, Computing, Count, Flag, Seed, Size, Talk
from gpt2.console import count

LENGTH = Group("How long (exactly one of these)", sort_key=10)
SHAPE = Group("Shape", sort_key=20)


def train(
    *,
    tokens: Path,
    out: Path,
    resume: Flag = False,
    steps: Annotated[Count | None, Parameter(group=LENGTH)] = None,
    train_tokens: Annotated[Count | None, Parameter(group=LENGTH)] = None,
    minutes: Annotated[Amount | None, Parameter(group=LENGTH)] = None,
    size: Annotated[str, Parameter(group=SHAPE)] = "124M",
    layers: Annotated[Size | None, Parameter(group=SHAPE)] = None,
    heads: Annotated[Size | None, Parameter(group=SHAPE)] = None,
    channels: Annotated[Size | None, Parameter(group=SHAPE)] = None,
    context: Annotated[Size, Parameter(group=SHAPE)] = 1024,
    batch: Size = 8,
    learning_rate: Amount = 6e-4,
    seed: Seed = 0,
    callback_every: Count = 100,
    computing: Computing = COMPUTING,
    talk: Talk = TALK,
) -> None:
    """Train a GPT-2 on token shards.

    Parameters
    ----------
    tokens:
        Folder of token shards (see `gpt2 tokens write`).
    out:
        Folder of the run.
    resume:
        Go on with the run in that folder.
    steps:
        Train for so many steps.
    train_tokens:
        Train on so many tokens, such as 300M.
    minutes:
        Train for so long, made into steps by a timed trial.
    size:
        124M, 355M, 774M or 1558M (or, as the paper counted, 117M, 345M, 762M, 1542M).
    layers:
        Blocks, in place of the size's.
    heads:
        Attention heads, in place of the size's.
    channels:
        Channels, in place of the size's.
    context:
        Longest text in tokens.
    batch:
        Sequences in a step.
    learning_rate:
        The highest learning rate.
    seed:
        Decides first weights and order of tokens.
    callback_every:
        Steps between two looks at held-out loss and a sample.
    """
    import dataclasses

    from gpt2.evaluation.heldout import usual_callbacks
    from gpt2.training.trainer import train as run

    shards = gpt2.Shards.open(tokens)
    changes = {"n_layer": layers, "n_head": heads, "n_embd": channels}
    shape = gpt2.GPT2Config.size(size, vocab_size=shards.tokenizer.n_vocab, n_ctx=context)
    shape = dataclasses.replace(shape, **{k: v for k, v in changes.items() if v is not None})
    config = gpt2.TrainConfig(
        tokens=tokens,
        out=out,
        model=shape,
        steps=steps,
        train_tokens=train_tokens,
        minutes=minutes,
        batch=batch,
        optimizer=gpt2.OptimizerConfig(learning_rate=learning_rate),
        seed=seed,
        callback_every=callback_every,
        device=computing.device,
        dtype=computing.dtype,
        threads=computing.threads,
    )
    done = run(config, usual_callbacks(shards), resume, talk.console)
    last = done.metrics[-1]
    result = {"run": out, "steps": done.steps, "tokens": done.tokens, "seconds": done.seconds, **last}
    heldout = f", held-out {last['heldout_loss']:.3f}" if "heldout_loss" in last else ""
    talk.result(result, f"{out}: {count(done.tokens)} tokens, loss {last['loss']:.3f}{heldout}")
