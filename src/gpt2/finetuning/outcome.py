"""What tuning on a text changed: loss and samples of the model before and after, and what the samples copy.

The held-out documents are measured as everywhere (`gpt2.evaluation.heldout`), and the difference has a paired
interval over them. Samples are drawn from both models with the same prompts and seeds. Each look is a stage of the
tuning's folder, measured once for the same weights.

    python -m json.tool tuned/finetune.json
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt2.console import Console
from gpt2.errors import ConfigError
from gpt2.evaluation import heldout, metrics
from gpt2.finetuning.copying import Copy, longest_copies
from gpt2.inference.continuations import generate
from gpt2.model.checkpoint import Model
from gpt2.model.device import Compute
from gpt2.tokens.bpe import Tokenizer
from gpt2.tokens.shards import Shards, Split
from gpt2.training.beginning import weights_digest
from gpt2.workspace import Json, Workspace

PROMPT = 12
"""Tokens of a held-out text that a sample goes on from."""
MEASURED = 128
"""Held-out documents that are measured before and after."""


@dataclass(frozen=True)
class Sampling:
    """Which samples are drawn, from the tuned model as from the model before."""

    samples: int = 3
    """How many."""
    tokens: int = 120
    """Tokens of each."""
    prompt: str | None = None
    """What they go on from; beginnings of held-out texts when not given."""
    seed: int = 0
    """Decides them."""

    def __post_init__(self) -> None:
        if self.samples < 0 or self.tokens < 1:
            raise ConfigError(
                f"{self.samples} samples of {self.tokens} tokens cannot be: give at least 0 and 1"
            )


def look(
    model: Model,
    shards: Shards,
    sampling: Sampling,
    compute: Compute,
    work: Workspace,
    name: str,
    console: Console,
) -> Json:
    """Loss on held-out text, and samples; measured once for the same weights."""
    asked = {"weights": weights_digest(model.net), "data": shards.summary, "sampling": vars(sampling)}

    def measure(folder: Path) -> Json:  # noqa: ARG001
        model.net.to(compute.device)
        prompts = prompts_of(sampling, shards)
        texts = generate(model, prompts, sampling.tokens, seed=sampling.seed, compute=compute)
        found: Json = {"prompts": prompts, "samples": texts}
        if chosen := heldout.pick_documents(shards.heldout, MEASURED):
            title = f"measuring {name}"
            losses = heldout.document_losses(
                model, shards.heldout, chosen, compute=compute, console=console, title=title
            )
            found["losses"] = {
                field: getattr(losses, field).tolist() for field in ("nats", "tokens", "n_bytes")
            }
        return found

    return work.run(name, asked, measure)


def prompts_of(sampling: Sampling, shards: Shards) -> list[str]:
    """What each sample goes on from."""
    if sampling.prompt is not None:
        return [sampling.prompt] * sampling.samples
    chosen = heldout.pick_documents(shards.heldout, sampling.samples)
    begun = [shards.tokenizer.decode(shards.heldout.document(i)[:PROMPT].tolist()) for i in chosen]
    return [begun[i % len(begun)] if begun else "" for i in range(sampling.samples)]


def losses_of(looked: Json) -> metrics.Losses | None:
    """What a look measured; None where nothing is held out."""
    if "losses" not in looked:
        return None
    return metrics.Losses(**{name: np.array(values) for name, values in looked["losses"].items()})


def texts_of(split: Split) -> Iterator[tuple[str, str]]:
    """Name and text of each document of a split."""
    tok = Tokenizer.load(split.folder.parent / "tokenizer")
    for i, name in enumerate(split.document_ids):
        yield name, tok.decode(split.document(i).tolist())


def outcome(shards: Shards, sampling: Sampling, before: Json, after: Json) -> Json:
    """What tuning changed: loss, samples, and what they copy."""
    was, now = losses_of(before), losses_of(after)
    real = [
        shards.tokenizer.decode(shards.heldout.document(i)[PROMPT : PROMPT + sampling.tokens].tolist())
        for i in heldout.pick_documents(shards.heldout, sampling.samples)
    ]
    copies = longest_copies([*before["samples"], *after["samples"], *real], texts_of(shards.train))
    n = sampling.samples
    rows = zip(
        after["prompts"], before["samples"], after["samples"], copies[:n], copies[n : 2 * n], strict=True
    )
    return {
        "before": figures(was),
        "after": figures(now),
        "difference": vars(metrics.compare(now, was)) if was and now else None,
        "samples": [
            {"prompt": prompt, "before": b, "after": a, "copied_before": vars(had), "copied": vars(has)}
            for prompt, b, a, had, has in rows
        ],
        "longest_copy": {
            "before": longest(copies[:n]),
            "after": longest(copies[n : 2 * n]),
            "held_out_text": longest(copies[2 * n :]),
        },
    }


def figures(losses: metrics.Losses | None) -> Json | None:
    """A loss as it is told."""
    if losses is None:
        return None
    shown = {"loss": losses.loss, "perplexity": losses.perplexity, "bits_per_byte": losses.bits_per_byte}
    return {name: round(value, 4) for name, value in shown.items()} | {"documents": len(losses.nats)}


def longest(copies: list[Copy]) -> int | None:
    """Words of the longest run; None where there is no text."""
    return max((copy.words for copy in copies), default=None)
