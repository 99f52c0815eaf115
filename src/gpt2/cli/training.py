"""gpt2 train: token shards to a GPT-2 (paper 2.3).

gpt2 train --tokens shards --out run --size 124M --minutes 60
gpt2 train --tokens shards --out run --size 124M --minutes 60 --resume
gpt2 train --tokens shards --out tuned --from model --steps 2000 --learning-rate 6e-5
gpt2 train --tokens web --tokens books --weights 3 1 --out run --size 124M --recipe modern --minutes 60
torchrun --nproc-per-node 4 -m gpt2 train --tokens shards --out run --size 355M --batch 512 --steps 20000
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

import gpt2
from gpt2.cli.talk import COMPUTING, TALK, Amount, Computing, Count, Flag, Seed, Size, Talk
from gpt2.console import count
from gpt2.errors import ConfigError

LENGTH = Group("How long (exactly one of these)", sort_key=10)
SHAPE = Group("Shape", sort_key=20)
DATA = Group("Data", sort_key=25)
SHARING = Group("Memory and several processes (the step stays the same)", sort_key=30)
KEEPING = Group("Saving and watching", sort_key=40)
TROUBLE = Group("When it goes wrong", sort_key=50)


def train(
    *,
    tokens: list[Path],
    out: Path,
    resume: Flag = False,
    from_: Annotated[Path | None, Parameter(name="--from")] = None,
    steps: Annotated[Count | None, Parameter(group=LENGTH)] = None,
    train_tokens: Annotated[Count | None, Parameter(group=LENGTH)] = None,
    minutes: Annotated[Amount | None, Parameter(group=LENGTH)] = None,
    size: Annotated[str | None, Parameter(group=SHAPE)] = None,
    layers: Annotated[Size | None, Parameter(group=SHAPE)] = None,
    heads: Annotated[Size | None, Parameter(group=SHAPE)] = None,
    channels: Annotated[Size | None, Parameter(group=SHAPE)] = None,
    context: Annotated[Size | None, Parameter(group=SHAPE)] = None,
    weights: Annotated[list[Amount] | None, Parameter(group=DATA, consume_multiple=True)] = None,
    mask_documents: Annotated[Flag, Parameter(group=DATA)] = False,
    batch: Size = 8,
    recipe: Literal["gpt2", "gpt3", "nanogpt", "modern"] = "gpt2",
    learning_rate: Amount | None = None,
    tune_lr: Count | None = None,
    ema: Amount | None = None,
    seed: Seed = 0,
    parallel: Annotated[Literal["ddp", "fsdp"] | None, Parameter(group=SHARING)] = None,
    accumulate: Annotated[Size, Parameter(group=SHARING)] = 1,
    recompute: Annotated[Flag, Parameter(group=SHARING)] = False,
    callback_every: Annotated[Count, Parameter(group=KEEPING)] = 100,
    log_every: Annotated[Count, Parameter(group=KEEPING)] = 1,
    save_every: Annotated[Amount, Parameter(group=KEEPING)] = 60.0,
    keep_best: Annotated[Flag, Parameter(group=KEEPING)] = False,
    keep_every: Annotated[Count | None, Parameter(group=KEEPING)] = None,
    tensorboard: Annotated[Flag, Parameter(group=KEEPING)] = False,
    on_spike: Annotated[Literal["note", "skip", "stop", "back"], Parameter(group=TROUBLE)] = "note",
    overfit_batch: Annotated[Flag, Parameter(group=TROUBLE)] = False,
    computing: Computing = COMPUTING,
    talk: Talk = TALK,
) -> None:
    """Train a GPT-2 on token shards.

    Parameters
    ----------
    tokens:
        Folder of token shards (see `gpt2 tokens write`); given several times, the folders are mixed.
    out:
        Folder of the run.
    resume:
        Go on with the run in that folder.
    from_:
        Begin with the weights of this model, of any known format, in place of random ones; the tokens must be of its
        vocabulary, and its shape is its own.
    steps:
        Train for so many steps.
    train_tokens:
        Train on so many tokens, such as 300M.
    minutes:
        Train for so long, made into steps by a timed trial.
    size:
        124M (the usual), 355M, 774M or 1558M (or, as the paper counted, 117M, 345M, 762M, 1542M).
    layers:
        Blocks, in place of the size's.
    heads:
        Attention heads, in place of the size's.
    channels:
        Channels, in place of the size's.
    context:
        Longest text in tokens, usually 1,024; with --from, tokens of a sequence, at most the model's.
    weights:
        Sequences of each folder to those of the others, such as 3 1; without them each is seen as often.
    mask_documents:
        Let no token see the documents before its own.
    batch:
        Sequences in a step, of all processes together.
    recipe:
        Where learning rate, warm-up, decay and optimizer are from: gpt2, gpt3 (its table for small models),
        nanogpt, or modern (Muon, and a straight line to zero).
    learning_rate:
        The highest learning rate, in place of the recipe's for the size.
    tune_lr:
        First train for so many steps with several learning rates, and take the best on held-out documents.
    ema:
        Keep an average of the weights with this decay too, such as 0.999, in RUN/checkpoint/average.
    seed:
        Decides first weights and order of tokens.
    parallel:
        How processes started by torchrun share the model: ddp (each has all of it; the default there) or fsdp
        (each has a part).
    accumulate:
        Parts in which each process takes its sequences of a step, one after another.
    recompute:
        Compute activations again in the backward pass rather than keep them.
    callback_every:
        Steps between two looks at held-out loss and a sample.
    log_every:
        Steps between two lines of metrics.jsonl.
    save_every:
        Seconds between two checkpoints; the last two are there at all times.
    keep_best:
        Keep the model with the lowest held-out loss, in RUN/best.
    keep_every:
        Keep the model of each so many steps, in RUN/kept.
    tensorboard:
        Write the metrics for TensorBoard too.
    on_spike:
        What to do at a step whose loss or gradient is far above the last ones' or no number: note it (and stop
        at what is no number), skip its batch, stop, or go back to the last checkpoint and pass over the batches.
    overfit_batch:
        Train on the first batch alone until its loss is below 0.05, to check that learning works at all; exit
        status 1 when it does not get there.
    """
    import dataclasses

    from gpt2.evaluation.heldout import mixture_callbacks
    from gpt2.training import beginning, recipes, tuning, verdict
    from gpt2.training.mixture import Data
    from gpt2.training.trainer import train as run

    data = Data.open(tokens, weights)
    fields = {"n_layer": layers, "n_head": heads, "n_embd": channels}
    changes = {k: v for k, v in fields.items() if v is not None}
    if from_ is None:
        shape = gpt2.GPT2Config.size(size or "124M", vocab_size=data.tokenizer.n_vocab, n_ctx=context or 1024)
        shape = dataclasses.replace(shape, **changes)
    elif size or changes:
        raise ConfigError(
            "a model that is begun with has its own shape; leave --size, --layers and so on out"
        )
    else:
        shape = beginning.shape_of(from_, data)
    config = gpt2.TrainConfig(
        tokens=tuple(tokens),
        weights=tuple(weights) if weights else None,
        mask_documents=mask_documents,
        out=out,
        model=shape,
        start=from_,
        context=context if from_ else None,
        steps=steps,
        train_tokens=train_tokens,
        minutes=minutes,
        batch=batch,
        optimizer=recipes.recipe(recipe).optimizer(shape, batch * (context or shape.n_ctx), learning_rate),
        ema=ema,
        seed=seed,
        overfit_batch=overfit_batch,
        log_every=log_every,
        callback_every=callback_every,
        tensorboard=tensorboard,
        save_every_seconds=save_every,
        keep_best=keep_best,
        keep_every=keep_every,
        on_spike=on_spike,
        parallel=parallel,
        accumulate=accumulate,
        recompute=recompute,
        device=computing.device,
        dtype=computing.dtype,
        threads=computing.threads,
    )
    callbacks = mixture_callbacks(data.folders)
    trials = tuning.tune(config, tune_lr, callbacks, talk.console) if tune_lr else []
    if trials:
        rate = tuning.best(trials).learning_rate
        talk.table(
            ["learning rate", "held-out loss"], [[f"{t.learning_rate:g}", t.heldout_loss] for t in trials]
        )
        talk.console.say(f"training with a learning rate of {rate:g}")
        config = dataclasses.replace(
            config, optimizer=dataclasses.replace(config.optimizer, learning_rate=rate)
        )
    done = run(config, callbacks, resume, talk.console)
    if not done.reports:
        return
    last = done.metrics[-1]
    result = {"run": out, "steps": done.steps, "tokens": done.tokens, "seconds": done.seconds, **last}
    result |= {"recipe": recipe, "trials": [vars(trial) for trial in trials]}
    text = f"{out}: {count(done.tokens)} tokens, loss {last['loss']:.3f}"
    if "heldout_loss" in last:
        text += f", held-out {last['heldout_loss']:.3f}"
    if done.learned is not None:
        result["learned"] = done.learned
        text += f"; one batch was {'' if done.learned else 'not '}learned by heart in {done.steps:,} steps"
    if done.learned is None and from_ is None:
        judged = verdict.judge_run(out)
        result["verdict"] = judged.json()
        text += f"\n{judged}"
    talk.result(result, text)
    if done.learned is False:
        raise SystemExit(1)
