"""gpt2 finetune glue: a classifier for each task of GLUE.

gpt2 finetune glue reproduce --tasks cola,sst2 --data my_data --out glue
gpt2 finetune glue reproduce --tasks cola,sst2 --data my_data --out glue_fresh --from-scratch
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from gpt2.cli.evaluate import Data, words
from gpt2.cli.talk import COMPUTING, TALK, Amount, Computing, Count, Flag, Seed, Size, Talk

LAYERS = Group("How layers learn (Howard and Ruder)", sort_key=25)


def glue(
    model: Path,
    *,
    out: Path,
    tasks: str = "all",
    data: Data = None,
    seeds: Count = 3,
    seed: Seed = 0,
    epochs: Amount = 3.0,
    batch: Size = 32,
    learning_rate: Amount = 6.25e-5,
    warmup: float = 0.002,
    lm_weight: float = 0.5,
    layout: Literal["gpt1", "plain"] = "gpt1",
    max_tokens: Size = 128,
    limit: Count | None = None,
    from_scratch: Flag = False,
    download: Flag = False,
    layer_factor: Annotated[Amount | None, Parameter(group=LAYERS)] = None,
    slanted: Annotated[Flag, Parameter(group=LAYERS)] = False,
    unfreeze: Annotated[Flag, Parameter(group=LAYERS)] = False,
    computing: Computing = COMPUTING,
    talk: Talk = TALK,
) -> None:
    """Fine-tune on GLUE, several seeds a task, and show the official figures beside the published ones.

    Each classifier is kept in OUT/TASK/seed-N and opens with `gpt2 finetune predict`; where there are test files
    without labels, OUT/submission has the leaderboard's files. Killed, the same command goes on where it was.

    Parameters
    ----------
    model:
        The model to begin with: a folder or file of any known format.
    out:
        Folder for the classifiers and results.json.
    tasks:
        cola, sst2, mrpc, qqp, stsb, mnli (with AX), qnli, rte, wnli, with commas between; all for those at hand.
    data:
        Folder that has GLUE's files somewhere in it, as they were published.
    seeds:
        Runs of each task, to see the spread.
    seed:
        The first of the seeds.
    epochs:
        How often each training item is seen.
    batch:
        Items in a step.
    learning_rate:
        The highest learning rate; GPT-1's when not given.
    warmup:
        Share of the steps in which it rises.
    lm_weight:
        Share of the texts' own language-modelling loss that is added; 0 for none.
    layout:
        How texts are laid out: gpt1 (start, delimiter and extract marks) or plain.
    max_tokens:
        Tokens read of an item; of two texts the longer loses its end.
    limit:
        Training items at most, drawn at random.
    from_scratch:
        Begin with fresh weights of the same shape, to see what the pretraining is worth.
    download:
        Get data that is not there from the Hugging Face hub.
    layer_factor:
        A layer learns at 1/FACTOR of the rate of the layer above it; 2.6 in the paper.
    slanted:
        Slanted triangular rates in place of a warm-up and a straight line down.
    unfreeze:
        Let the top layer learn first, then one more below it at a time.
    """
    import dataclasses

    from gpt2.finetuning.glue import GlueConfig, finetune_glue
    from gpt2.finetuning.supervised import GPT1, SupervisedConfig

    how = SupervisedConfig(
        epochs=epochs,
        batch=batch,
        optimizer=dataclasses.replace(GPT1, learning_rate=learning_rate, warmup=warmup),
        schedule="slanted" if slanted else "optimizer",
        lm_weight=lm_weight,
        layer_factor=layer_factor,
        unfreeze=unfreeze,
        seed=seed,
    )
    config = GlueConfig(
        tasks=() if tasks == "all" else tuple(words(tasks)),
        data=data,
        seeds=seeds,
        supervised=how,
        layout=layout,
        max_tokens=max_tokens,
        limit=limit,
        from_scratch=from_scratch,
        download=download,
    )
    found = finetune_glue(model, out, config, computing.choose(), talk.console)
    talk.result(found.json(), found.table())
