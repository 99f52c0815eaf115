"""How likely a model finds a text: log-probabilities of tokens, texts and continuations.

Natural logarithms; sums in float64. The first token has no past of its own: `start="endoftext"` gives it
<|endoftext|> as past, as in training; `start="none"` leaves it unscored. A text longer than the context is
read in windows: each ends `stride` tokens after the one before (the last one at the end of the text),
reaches back as far as the context does, and of its tokens only those not scored yet count. A stride equal
to the context (the default) is the fastest and the strictest; a smaller one gives each token more past.
Logits are made in slices, never for a whole batch at once.

    gpt2.score(model, ["A text."])[0].logprob
    gpt2.score(model, [("The capital of France is", " Paris")])[0].is_greedy
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray

from gpt2.errors import ConfigError, InputError
from gpt2.model.checkpoint import Model
from gpt2.model.device import PLAIN, Compute
from gpt2.model.transformer import GPT2

LOGITS_AT_ONCE = 2**24
"""Logits made at a time: 64 MB of float32."""
TOKENS_AT_ONCE = 8192


@dataclass(frozen=True)
class Score:
    """The log-probability of a text, or of a continuation given its context."""

    logprob: float
    """Sum over the scored tokens, in nats."""
    token_logprobs: list[float]
    """One a scored token."""
    tokens: list[int]
    """The scored token ids."""
    is_greedy: bool
    """Whether each scored token was the most likely one."""


@dataclass(frozen=True)
class Window:
    """One pass through the network: of `ids`, all but the last are read, and the last `scored` are scored."""

    text: int
    """Which text it is of."""
    ids: NDArray[np.int64]
    scored: int
    at: int
    """Place of its first scored token among all scored tokens of the text."""


def score(
    model: Model,
    texts: Sequence[str | tuple[str, str]],
    start: str = "endoftext",
    stride: int | None = None,
    compute: Compute | None = None,
) -> list[Score]:
    """Score texts, or (context, continuation) pairs of which only the continuation counts.

    A continuation is encoded by itself: its first token never merges with the context's end.
    """
    if start not in ("endoftext", "none"):
        raise ConfigError(f"start must be endoftext or none, not {start!r}")
    if isinstance(texts, str):
        raise InputError("score takes a list of texts; for one text give [text]")
    tok = model.tokenizer
    past: list[list[int]] = []
    rest: list[list[int]] = []
    for text in texts:
        context, continuation = ("", text) if isinstance(text, str) else text
        before, after = tok.encode(context), tok.encode(continuation)
        if start == "endoftext":
            before = [tok.end_of_text, *before]
        elif not before:
            before, after = after[:1], after[1:]
        past.append(before)
        rest.append(after)
    scores = score_ids(model.net, past, rest, stride, compute)
    return [
        Score(float(logprobs.sum()), logprobs.tolist(), ids, bool(greedy.all()))
        for (logprobs, greedy), ids in zip(scores, rest, strict=True)
    ]


@torch.inference_mode()
def score_ids(
    net: GPT2,
    past: Sequence[ArrayLike],
    rest: Sequence[ArrayLike],
    stride: int | None = None,
    compute: Compute | None = None,
) -> list[tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """Log-probabilities of `rest` after `past`, and whether each token was the most likely one.

    Shapes: for text i two arrays [len(rest[i])]. `past[i]` must not be empty when `rest[i]` has tokens.
    """
    context = net.config.n_ctx
    stride = context if stride is None else stride
    if not 1 <= stride <= context:
        raise ConfigError(f"stride must be between 1 and the model's context of {context}, not {stride}")
    windows: list[Window] = []
    found: list[tuple[NDArray[np.float64], NDArray[np.bool_]]] = []
    for i, (before, after) in enumerate(zip(past, rest, strict=True)):
        first, second = np.asarray(before, np.int64), np.asarray(after, np.int64)
        windows += cut_windows(i, np.concatenate([first, second]), len(first), context, stride)
        found.append((np.zeros(len(second), np.float64), np.ones(len(second), np.bool_)))
    for batch in batches(windows):
        for w, logprobs, top in read(net, batch, compute or PLAIN):
            found[w.text][0][w.at : w.at + w.scored] = logprobs
            found[w.text][1][w.at : w.at + w.scored] = top
    return found


def cut_windows(
    text: int, ids: NDArray[np.int64], n_past: int, context: int, stride: int
) -> Iterator[Window]:
    """Windows that read at most `context` tokens; each token after the first `n_past` is scored once."""
    done = n_past
    if done == 0 and len(ids):
        raise InputError("a text cannot be scored without any token before it")
    end = context + 1 if done <= context else done + stride
    while done < len(ids):
        end = min(end, len(ids))
        yield Window(text, ids[max(0, end - 1 - context) : end], end - done, done - n_past)
        done, end = end, end + stride


def batches(windows: Sequence[Window]) -> Iterator[list[Window]]:
    """Windows of like length together, at most `TOKENS_AT_ONCE` tokens with their padding."""
    batch: list[Window] = []
    for w in sorted(windows, key=lambda w: -len(w.ids)):
        if batch and len(batch[0].ids) * (len(batch) + 1) > TOKENS_AT_ONCE:
            yield batch
            batch = []
        batch.append(w)
    if batch:
        yield batch


def read(
    net: GPT2, windows: Sequence[Window], compute: Compute
) -> Iterator[tuple[Window, NDArray[np.float64], NDArray[np.bool_]]]:
    """One forward pass over windows padded on the right, which a causal network cannot see."""
    like = net.wte.weight
    padded = np.zeros((len(windows), len(windows[0].ids) - 1), np.int64)  # [B, T]; the first is the longest
    for row, w in zip(padded, windows, strict=True):
        row[: len(w.ids) - 1] = w.ids[:-1]
    with compute.autocast(like):
        hidden = net.hidden(torch.from_numpy(padded).to(like.device))  # [B, T, C]
    rows = torch.cat(
        [h[len(w.ids) - 1 - w.scored : len(w.ids) - 1] for h, w in zip(hidden, windows, strict=True)]
    )
    targets = torch.from_numpy(np.concatenate([w.ids[-w.scored :] for w in windows])).to(like.device)  # [N]
    step = max(1, LOGITS_AT_ONCE // net.config.vocab_size)
    logprobs, tops = [], []
    for x, y in zip(torch.split(rows, step), torch.split(targets, step), strict=True):
        with compute.autocast(like):
            logits = net.head(x).float()  # [n, V]
        logprobs.append(-F.cross_entropy(logits, y, reduction="none"))
        tops.append(logits.argmax(dim=-1) == y)
    logprob, top = torch.cat(logprobs).double().cpu().numpy(), torch.cat(tops).cpu().numpy()
    at = 0
    for w in windows:
        yield w, logprob[at : at + w.scored], top[at : at + w.scored]
        at += w.scored
