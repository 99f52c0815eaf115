"""gpt2 finetune decanlp: one model for the tasks of decaNLP, beside what it knew before.

gpt2 finetune decanlp reproduce --data my_data --out deca --steps 2000
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gpt2.cli.evaluate import Data, words
from gpt2.cli.talk import COMPUTING, TALK, Amount, Computing, Count, Seed, Size, Talk


def decanlp(
    model: Path,
    *,
    out: Path,
    steps: Count,
    tasks: str = "all",
    data: Data = None,
    curriculum: Literal["sampling", "round-robin", "squad-first"] = "round-robin",
    batch: Size = 32,
    learning_rate: Amount = 6.25e-5,
    warmup: float = 0.002,
    max_tokens: Size | None = None,
    answer_tokens: Size = 64,
    limit: Count | None = None,
    seed: Seed = 0,
    computing: Computing = COMPUTING,
    talk: Talk = TALK,
) -> None:
    """Learn decaNLP's tasks in one model, as questions about contexts, and ask it before and after.

    OUT/tuned/model is an ordinary model; OUT/zero-shot and OUT/tuned have every answer. Killed, the same command
    goes on where it was.

    Parameters
    ----------
    model:
        The model to begin with: a folder or file of any known format.
    out:
        Folder for the model, the answers and results.json.
    steps:
        Steps to train, each on one task's records.
    tasks:
        squad, iwslt.en.de, cnn_dailymail, multinli.in.out, sst, srl, zre, woz.en, wikisql, schema, with commas
        between; all for those whose data is at hand.
    data:
        Folder that has the tasks' files somewhere in it, as they were published.
    curriculum:
        Which task a step is of: drawn by size, in turn, or SQuAD alone for the first third.
    batch:
        Records in a step.
    learning_rate:
        The highest learning rate; GPT-1's when not given.
    warmup:
        Share of the steps in which it rises.
    max_tokens:
        Tokens of a record; a longer one loses its context's end. The model's context when not given.
    answer_tokens:
        Tokens of a generated answer at most.
    limit:
        Held-out records of each task at most.
    seed:
        Decides the order of the records.
    """
    import dataclasses

    from gpt2.finetuning.decanlp import DecaConfig, finetune_decanlp
    from gpt2.finetuning.supervised import GPT1, SupervisedConfig

    rates = dataclasses.replace(GPT1, learning_rate=learning_rate, warmup=warmup)
    config = DecaConfig(
        steps=steps,
        tasks=() if tasks == "all" else tuple(words(tasks)),
        data=data,
        curriculum=curriculum,
        supervised=SupervisedConfig(batch=batch, optimizer=rates, seed=seed),
        max_tokens=max_tokens,
        answer_tokens=answer_tokens,
        limit=limit,
    )
    found = finetune_decanlp(model, out, config, computing.choose(), talk.console)
    talk.result(found.json(), found.table())
