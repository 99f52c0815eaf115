"""How well a model predicts documents that it was not trained on (the paper's Figure 4).

Protocol: each document starts from <|endoftext|> with nothing before it, counts with at most its first
`limit` tokens, so that one long novel does not outweigh a hundred pages, and is read in windows of the
model's context one after the other (the last one reaches back to be full, see `gpt2.inference.scoring`).
Perplexity is per token of the model's own vocabulary; bits per byte compare across vocabularies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpt2.console import QUIET, Console
from gpt2.evaluation.metrics import Losses
from gpt2.inference.continuations import generate
from gpt2.inference.scoring import score_ids
from gpt2.model.checkpoint import Model
from gpt2.model.device import Compute
from gpt2.tokens.shards import Shards, Split
from gpt2.training.trainer import Callback
from gpt2.workspace import Json

LIMIT = 4096
"""Tokens of a document that count."""
DOCUMENTS_AT_ONCE = 32


def pick_documents(split: Split, at_most: int, seed: int = 0) -> list[int]:
    """Up to `at_most` documents that have any tokens, the same for the same seed, in order."""
    lengths = np.diff(split.starts, append=split.n_tokens) - 1
    able = np.flatnonzero(lengths > 0)
    chosen = np.random.default_rng(seed).permutation(able)[:at_most]
    return sorted(int(i) for i in chosen)


def document_losses(
    model: Model,
    split: Split,
    documents: Sequence[int],
    limit: int = LIMIT,
    compute: Compute | None = None,
    console: Console = QUIET,
    title: str = "measuring",
) -> Losses:
    """What the model loses on each of the documents (indices into the split)."""
    tok = model.tokenizer
    nats, tokens, n_bytes = [], [], []
    with console.progress(title, len(documents), "documents") as bar:
        for k in range(0, len(documents), DOCUMENTS_AT_ONCE):
            texts = [split.document(i)[:limit].tolist() for i in documents[k : k + DOCUMENTS_AT_ONCE]]
            scores = score_ids(model.net, [[tok.end_of_text]] * len(texts), texts, compute=compute)
            for ids, found in zip(texts, scores, strict=True):
                nats.append(-found.logprob)
                tokens.append(len(ids))
                n_bytes.append(len(tok.decode_bytes(ids)))
            bar.advance(len(texts))
    return Losses(np.array(nats, np.float64), np.array(tokens, np.int64), np.array(n_bytes, np.int64))


def heldout_callback(
    split: Split, documents: Sequence[int], limit: int, compute: Compute | None = None, suffix: str = ""
) -> Callback:
    """While training: the loss on the first `limit` tokens of a few held-out documents."""

    def measure(model: Model, step: int) -> Json:  # noqa: ARG001
        loss = document_losses(model, split, documents, limit, compute).loss
        return {f"heldout_loss{suffix}": round(loss, 5)}

    return measure


def sample_callback(prompt: str, max_tokens: int = 40, compute: Compute | None = None) -> Callback:
    """While training: how the model goes on from `prompt`."""

    def sample(model: Model, step: int) -> Json:
        return {"sample": prompt + generate(model, [prompt], max_tokens, seed=step, compute=compute)[0]}

    return sample


def mixture_callbacks(
    folders: Sequence[Shards], documents: int = 64, limit: int = 256, compute: Compute | None = None
) -> list[Callback]:
    """The same for a mixture: the loss on each folder's documents, and their mean as the loss of all."""
    if len(folders) == 1:
        return usual_callbacks(folders[0], documents, limit, compute)
    picked = {
        f"_{i}": (folder.heldout, chosen)
        for i, folder in enumerate(folders, start=1)
        if (chosen := pick_documents(folder.heldout, documents))
    }
    each = [heldout_callback(split, rows, limit, compute, name) for name, (split, rows) in picked.items()]
    if not each:
        return []

    def measure(model: Model, step: int) -> Json:
        found: Json = {}
        for callback in each:
            found |= callback(model, step)
        return {"heldout_loss": round(sum(found.values()) / len(found), 5), **found}

    first = next(folder for folder in folders if pick_documents(folder.heldout, 1))
    return [measure, *usual_callbacks(first, documents, limit, compute)[1:]]


def usual_callbacks(
    shards: Shards, documents: int = 64, limit: int = 256, compute: Compute | None = None
) -> list[Callback]:
    """What to watch while training: loss on a few held-out documents, and a sample; nothing without any."""
    chosen = pick_documents(shards.heldout, documents)
    if not chosen:
        return []
    prompt = shards.tokenizer.decode(shards.heldout.document(chosen[0])[:12].tolist())
    return [
        heldout_callback(shards.heldout, chosen, limit, compute),
        sample_callback(prompt, compute=compute),
    ]
