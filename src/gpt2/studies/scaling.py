"""A ladder of GPT-2s that differ in size: how far size helps (the paper's Table 2 and Figure 4).

Each size sees the same tokens in the same order for the same number of steps, which a timed trial decides
before the first of them is trained: a length decided later, by what the small ones lost, would be a choice
in favour of one of them. The learning rate alone is each size's own, as in the paper ("manually tuned for
the best perplexity on a 5% held-out sample"). What a size loses is measured per document, so that two sizes
are compared on the same documents, with an interval.

    shapes, n_vocab = shapes_for(minutes=10)
    plan = plan_ladder(shapes, shards, seconds=400, seed=0, compute=choose())
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from gpt2.console import QUIET, Console, count, duration
from gpt2.evaluation.heldout import LIMIT, document_losses, pick_documents, usual_callbacks
from gpt2.evaluation.metrics import Losses, by_group, compare, perplexity_interval
from gpt2.model.checkpoint import load
from gpt2.model.config import GPT2Config
from gpt2.model.device import Compute
from gpt2.tokens.shards import Shards, Split
from gpt2.training.batches import Batches
from gpt2.training.optimizer import OptimizerConfig
from gpt2.training.plan import TrainConfig
from gpt2.training.speed import seconds_per_step
from gpt2.training.trainer import train
from gpt2.workspace import Json, atomic_write

CONTEXT = 256
BATCH = 4
MOST_EPOCHS = 4
FEWEST_STEPS = 20
TRAIN_SAMPLE_SEED = 1

Shape = tuple[int, int, int, float]
"""Layers, heads, channels and learning rate."""

# Minutes from which a ladder is used, its vocabulary, its shapes. Each shape has at least three times the
# parameters of the one before, embeddings included. Learning rates of the first ladder: docs/log.md.
LADDERS: list[tuple[float, int, list[Shape]]] = [
    (0, 4096, [(1, 1, 24, 1.2e-2), (2, 2, 64, 3e-3), (4, 4, 128, 3e-3), (6, 7, 224, 1.5e-3)]),
    (45, 4096, [(2, 2, 64, 3e-3), (4, 4, 128, 3e-3), (6, 7, 224, 1.5e-3), (8, 7, 448, 1e-3)]),
    (360, 8192, [(4, 4, 128, 3e-3), (6, 8, 256, 1.5e-3), (8, 7, 448, 1e-3), (12, 12, 768, 6e-4)]),
]


def shapes_for(minutes: float) -> tuple[list[Shape], int]:
    """The four shapes, and the vocabulary's size, that so much time is good for."""
    _, n_vocab, shapes = max((row for row in LADDERS if minutes >= row[0]), key=lambda row: row[0])
    return shapes, n_vocab


def plan_ladder(
    shapes: Sequence[Shape],
    shards: Shards,
    seconds: float,
    seed: int,
    compute: Compute,
    console: Console = QUIET,
) -> Json:
    """How many steps all sizes are trained for so that training and measuring take `seconds`."""
    batches = Batches(shards.train, CONTEXT, BATCH, seed)
    configs = [
        GPT2Config(layers, heads, channels, shards.tokenizer.n_vocab, CONTEXT)
        for layers, heads, channels, _ in shapes
    ]
    trial = [seconds_per_step(c, batches, OptimizerConfig(), compute) for c in configs]
    # Reading a token costs about a third of learning from it; half leaves room for padding.
    measured = sum(
        min(n, LIMIT) for _, part, chosen in measured_documents(shards) for n in lengths(part, chosen)
    )
    left = seconds - sum(trial) * (measured / (BATCH * CONTEXT)) / 2
    most = int(MOST_EPOCHS * batches.steps_per_epoch)
    steps = max(FEWEST_STEPS, min(int(left / sum(trial)), most))
    ladder = [
        {
            "name": parameter_name(config.num_parameters()),
            "config": dataclasses.asdict(config),
            "learning_rate": shape[3],
            "trial_seconds_per_step": round(step, 5),
        }
        for config, step, shape in zip(configs, trial, shapes, strict=True)
    ]
    epochs = steps / batches.steps_per_epoch
    console.say(
        f"ladder {', '.join(str(r['name']) for r in ladder)}: {steps:,} steps, "
        f"{count(steps * BATCH * CONTEXT)} tokens each ({epochs:.2f} epochs), about {duration(steps * sum(trial))}"
    )
    return {"steps": steps, "epochs": epochs, "ladder": ladder, "most_epochs": steps == most}


def train_rung(
    rung: Json,
    steps: int,
    folder: Path,
    seed: int,
    shards: Shards,
    compute: Compute,
    console: Console = QUIET,
) -> Json:
    """Train one size of the plan in `folder`, or go on with it."""
    config = TrainConfig(
        tokens=shards.folder,
        out=folder,
        model=GPT2Config(**rung["config"]),
        steps=steps,
        batch=BATCH,
        optimizer=OptimizerConfig(learning_rate=rung["learning_rate"]),
        seed=seed,
        callback_every=max(1, -(-steps // 8)),
        save_every_seconds=20,
    )
    done = train(config, usual_callbacks(shards, compute=compute), resume_run=True, console=console)
    return {
        "parameters": done.model.net.num_parameters(),
        "non_embedding": done.model.net.config.num_parameters(embeddings=False),
        "steps": done.steps,
        "tokens": done.tokens,
        "seconds": round(done.seconds, 2),
        "tokens_per_second": round(done.tokens / max(done.seconds, 1e-9)),
        "curve": thin([[row["tokens"], row["loss"]] for row in done.metrics], 600),
        "heldout_curve": [[r["tokens"], r["heldout_loss"]] for r in done.metrics if "heldout_loss" in r],
    }


def measure_rung(
    name: str, model: Path, shards: Shards, folder: Path, compute: Compute, console: Console = QUIET
) -> Json:
    """What one size loses on each held-out document, and on as many training documents."""
    net = load(model)
    out: Json = {}
    for split, part, documents in measured_documents(shards):
        title = f"measuring {name}, {split}"
        losses = document_losses(net, part, documents, compute=compute, console=console, title=title)
        with atomic_write(losses_path(folder, split)) as stream:
            np.savez(stream, nats=losses.nats, tokens=losses.tokens, n_bytes=losses.n_bytes)
        out |= {f"{split}_loss": losses.loss, f"{split}_perplexity": losses.perplexity}
    console.say(f"{name}: held-out perplexity {out['heldout_perplexity']:.2f}")
    return out


def losses_path(folder: Path, split: str) -> Path:
    """Where the losses of one split are kept."""
    return folder / f"{split}.npz"


def read_losses(folder: Path, split: str) -> Losses:
    """The losses that `measure_rung` saved in `folder`."""
    with np.load(losses_path(folder, split)) as arrays:
        return Losses(arrays["nats"], arrays["tokens"], arrays["n_bytes"])


def measured_documents(shards: Shards) -> Iterator[tuple[str, Split, list[int]]]:
    """The documents whose loss is measured: all held-out ones, and as many of the training documents."""
    heldout = pick_documents(shards.heldout, shards.heldout.n_documents)
    yield "heldout", shards.heldout, heldout
    yield "train", shards.train, pick_documents(shards.train, len(heldout), TRAIN_SAMPLE_SEED)


def lengths(split: Split, documents: Sequence[int]) -> list[int]:
    """Tokens in each of the documents."""
    every = np.diff([*split.starts, split.n_tokens]) - 1
    return [int(every[i]) for i in documents]


def describe_ladder(
    rungs: Sequence[Json], losses: Sequence[Losses], groups: Sequence[str], epochs: float
) -> list[Json]:
    """Each size with its held-out interval, and compared with the size below it on the same documents.

    `groups` names the source of each measured document: intervals are drawn over sources, since the pieces
    of one are alike.
    """
    out: list[Json] = []
    sources = [by_group(row, groups) for row in losses]
    for i, (rung, mine) in enumerate(zip(rungs, losses, strict=True)):
        row = {k: v for k, v in rung.items() if k not in ("config", "trial_seconds_per_step")}
        row |= {k: rung["config"][k] for k in ("n_layer", "n_head", "n_embd")}
        row |= {
            "batch_tokens": BATCH * CONTEXT,
            "heldout_interval": list(perplexity_interval(sources[i])),
            "heldout_sources": len(sources[i].nats),
            "bits_per_byte": mine.bits_per_byte,
            "epochs": epochs,
            "versus_previous": None,
        }
        if i:
            interval = compare(sources[i], sources[i - 1]).interval
            row["versus_previous"] = dataclasses.asdict(compare(mine, losses[i - 1])) | {"interval": interval}
        out.append(row)
    return out


def thin(points: Sequence[list[float]], at_most: int) -> list[list[float]]:
    """Every k-th point, the last one always."""
    step = max(1, -(-len(points) // at_most))
    return [p for i, p in enumerate(points) if (len(points) - 1 - i) % step == 0]


def parameter_name(n: int) -> str:
    """'0.11M', '4.6M', '124M'."""
    return f"{n / 1e6:.2f}M" if n < 1e6 else f"{n / 1e6:.1f}M" if n < 1e7 else f"{n / 1e6:.0f}M"
