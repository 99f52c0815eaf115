"""How likely a model finds a text: log-probabilities of tokens, texts and continuations.

Natural logarithms; sums in float64. The first token has no past of its own: `start="endoftext"` gives it
<|endoftext|> as past, as in training; `start="none"` leaves it unscored. A text longer than the context is
read in windows; each new window begins `stride` tokens after the one before, and of its tokens only those
not scored yet count. A stride equal to the context (the default) is the fastest and the strictest; a
smaller one gives each token more past. Logits are made in slices, never for a whole batch at once.

    gpt2.score(model, ["A text."])[0].logprob
    gpt2.score(model, [("The capital of France is", " Paris")])[0].is_greedy
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from gpt2.errors import ConfigError, InputError
from gpt2.inference.engine import PLAIN
from gpt2.model.checkpoint import Model
from gpt2.model.device import Compute
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
    """One pass through the network: `ids` are read, and the last `scored` of `targets` count."""

    text: int
    ids: Sequence[int]
    targets: Sequence[int]
    scored: int


def score(
    model: Model,
    texts: Sequence[str | tuple[str, str]],
    start: str = "endoftext",
    stride: int | None = None,
    compute: Compute | None = None,
) -> list[Score]:
    """Score texts, or (context, continuation) pairs of which only the continuation counts.

    A continuation is encoded by itself, so its tokens are what the context's end cannot merge with.
    """
    if start not in ("endoftext", "none"):
        raise ConfigError(f"start must be endoftext or none, not {start!r}")
    tok = model.tokenizer
    past: list[list[int]] = []
    rest: list[list[int]] = []
    for text in texts:
        context, continuation = ("", text) if isinstance(text, str) else text
        past.append(([tok.end_of_text] if start == "endoftext" else []) + tok.encode(context))
        rest.append(tok.encode(continuation))
    for i, (before, after) in enumerate(zip(past, rest, strict=True)):
        if not before and after:
            past[i], rest[i] = after[:1], after[1:]
    scores = score_ids(model.net, past, rest, stride, compute)
    return [
        Score(float(np.sum(lp, dtype=np.float64)), lp.tolist(), ids, bool(greedy.all()))
        for (lp, greedy), ids in zip(scores, rest, strict=True)
    ]


@torch.inference_mode()
def score_ids(
    net: GPT2,
    past: Sequence[Sequence[int]],
    rest: Sequence[Sequence[int]],
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
    found = [np.zeros(len(r), np.float64) for r in rest]
    greedy = [np.ones(len(r), np.bool_) for r in rest]
    windows = [w for i in range(len(rest)) for w in cut_windows(i, past[i], rest[i], context, stride)]
    place = [0] * len(rest)
    offsets = []
    for w in windows:
        offsets.append(place[w.text])
        place[w.text] += w.scored
    order = sorted(range(len(windows)), key=lambda k: -len(windows[k].ids))
    for batch in batches(order, windows):
        for k, logprob, top in read(net, [windows[k] for k in batch], batch, compute or PLAIN):
            w, at = windows[k], offsets[k]
            found[w.text][at : at + w.scored] = logprob
            greedy[w.text][at : at + w.scored] = top
    return list(zip(found, greedy, strict=True))


def cut_windows(
    text: int, past: Sequence[int], rest: Sequence[int], context: int, stride: int
) -> Iterator[Window]:
    """Windows of at most `context` tokens in which each token of `rest` is scored once, in order."""
    if not len(rest):
        return
    if not len(past):
        raise InputError("a text cannot be scored without any token before it")
    ids = [*past, *rest]
    done = len(past)  # the next token to be scored
    end = min(context + 1 if done <= context else done + stride, len(ids))
    while True:
        begin = max(0, end - 1 - context)
        yield Window(text, ids[begin : end - 1], ids[begin + 1 : end], end - done)
        done = end
        if done == len(ids):
            return
        end = min(done + stride, len(ids))


def batches(order: list[int], windows: Sequence[Window]) -> Iterator[list[int]]:
    """Windows of like length together, at most `TOKENS_AT_ONCE` tokens with their padding."""
    batch: list[int] = []
    for k in order:
        longest = len(windows[batch[0]].ids) if batch else 0
        if batch and longest * (len(batch) + 1) > TOKENS_AT_ONCE:
            yield batch
            batch = []
        batch.append(k)
    if batch:
        yield batch


def read(
    net: GPT2, windows: Sequence[Window], names: Sequence[int], compute: Compute
) -> Iterator[tuple[int, NDArray[np.float64], NDArray[np.bool_]]]:
    """One forward pass over windows padded on the right, which a causal network cannot see."""
    device = net.wte.weight.device
    longest = max(len(w.ids) for w in windows)
    ids = torch.zeros(len(windows), longest, dtype=torch.long)
    for row, w in enumerate(windows):
        ids[row, : len(w.ids)] = torch.as_tensor(np.asarray(w.ids, dtype=np.int64))
    with compute.autocast():
        hidden = net.hidden(ids.to(device))  # [B, T, C]
    rows = torch.cat([hidden[i, len(w.ids) - w.scored : len(w.ids)] for i, w in enumerate(windows)])  # [N, C]
    targets = torch.cat(
        [torch.as_tensor(np.asarray(w.targets[-w.scored :], dtype=np.int64)) for w in windows]
    )
    targets = targets.to(device)
    step = max(1, LOGITS_AT_ONCE // net.config.vocab_size)
    logprobs, tops = [], []
    for i in range(0, len(rows), step):
        with compute.autocast():
            logits = net.head(rows[i : i + step]).float()  # [n, V]
        logprobs.append(-F.cross_entropy(logits, targets[i : i + step], reduction="none"))
        tops.append(logits.argmax(dim=-1) == targets[i : i + step])
    logprob, top = torch.cat(logprobs).double().cpu().numpy(), torch.cat(tops).cpu().numpy()
    at = 0
    for name, w in zip(names, windows, strict=True):
        yield name, logprob[at : at + w.scored], top[at : at + w.scored]
        at += w.scored
