"""How likely a model finds a text: log-probabilities of tokens, texts and continuations.

Natural logarithms; sums in float64. The first token has no past of its own: `start="endoftext"` gives it
<|endoftext|> as past, as in training; `start="none"` leaves it unscored. A text longer than the context is
read in windows: each ends `stride` tokens after the one before (the last one at the end of the text),
reaches back as far as the context does, and of its tokens only those not scored yet count. A stride equal
to the context (the default) is the fastest and the strictest; a smaller one gives each token more past.
That is how lm-evaluation-harness does it too, with `start="endoftext"` for `loglikelihood_rolling`, and with
`start="none"` for `loglikelihood` where a context is given.

Texts may be of any number and length. What is held at a time is some windows, of which those that begin alike
are read once (`gpt2.inference.prefill`), the texts that they are of, and the logits of a few rows. What a
token's score is does not depend on what else is read with it, up to rounding. Matrix products are in float32
unless `compute` says otherwise.

    gpt2.score(model, ["A text."])[0].logprob
    gpt2.score(model, [("The capital of France is", " Paris")])[0].is_greedy
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray

from gpt2.errors import ConfigError, FormatError, InputError
from gpt2.inference.prefill import Layout, PackedGPT2, common_length, in_order, lay_out
from gpt2.model.checkpoint import Model
from gpt2.model.device import PLAIN, Compute
from gpt2.model.transformer import GPT2
from gpt2.tokens.bpe import Tokenizer

Ids = NDArray[np.int64]
LogProbs = NDArray[np.float64]

TOKENS_AT_ONCE = 2048
"""Distinct tokens of a forward pass."""
TOKENS_AHEAD = 65_536
"""Tokens among which like beginnings are looked for."""
LOGITS_AT_ONCE = 6_500_000
"""Logits made at a time: 26 MB of float32, about what a processor's cache holds."""
SOFTMAX_AT_ONCE = 800_000
"""Logits of which the softmax is made at a time: 3 MB, and as much again for what it writes."""
PACK_FROM = 1024
"""Tokens for which packing the weights pays."""


@dataclass(frozen=True)
class Score:
    """The log-probability of a text, or of a continuation given its context."""

    logprob: float
    """Sum over the scored tokens, in nats."""
    token_logprobs: list[float]
    """One a scored token."""
    tokens: list[int]
    """The scored token ids."""
    ranks: list[int]
    """Each scored token's place among all tokens by likelihood; 1 is the most likely."""

    @property
    def is_greedy(self) -> bool:
        """Whether no token was more likely than the scored one, at each place."""
        return all(rank == 1 for rank in self.ranks)


@dataclass(frozen=True)
class Window:
    """One pass over a text: of `ids`, all but the last are read, and the last `scored` are scored."""

    text: int
    """Which text it is of."""
    ids: Ids
    scored: int
    last: bool
    """Whether the text ends here."""


@dataclass(frozen=True)
class Piece:
    """Scored tokens of a text, as many as a window scores."""

    text: int
    """Which text it is of."""
    tokens: Ids
    """[n]"""
    logprobs: LogProbs
    """[n], in nats"""
    ranks: Ids
    """[n], 1 the most likely"""
    last: bool
    """Whether the text ends here."""


def score(
    model: Model,
    texts: Iterable[str | tuple[str, str]],
    start: str = "endoftext",
    stride: int | None = None,
    compute: Compute | None = None,
) -> list[Score]:
    """Score texts, or (context, continuation) pairs of which only the continuation counts.

    A continuation is encoded by itself: its first token never merges with the context's end. Where that end
    is a word's end and the continuation begins with a space, that is how the whole is encoded too.
    """
    return list(score_each(model, texts, start, stride, compute))


def score_each(
    model: Model,
    texts: Iterable[str | tuple[str, str]],
    start: str = "endoftext",
    stride: int | None = None,
    compute: Compute | None = None,
) -> Iterator[Score]:
    """The same, one text after the other in their order, for more of them than memory holds."""
    if isinstance(texts, str):
        raise InputError("score takes a list of texts; for one text give [text]")
    encoded = (encode(model.tokenizer, text, start) for text in texts)
    return joined(score_pieces(model.net, ((past, [rest]) for past, rest in encoded), stride, compute))


def joined(pieces: Iterable[Piece]) -> Iterator[Score]:
    """The scores of texts, each as soon as its last piece is there."""
    own: list[Piece] = []
    for piece in pieces:
        own.append(piece)
        if piece.last:
            logprobs = np.concatenate([p.logprobs for p in own])
            tokens = np.concatenate([p.tokens for p in own])
            ranks = np.concatenate([p.ranks for p in own])
            yield Score(float(logprobs.sum()), logprobs.tolist(), tokens.tolist(), ranks.tolist())
            own = []


def encode(tok: Tokenizer, text: str | tuple[str, str], start: str) -> tuple[list[int], list[int]]:
    """The tokens that are given and those that are scored."""
    match text:
        case str():
            context, continuation = "", text
        case (str(context), str(continuation)):
            pass
        case _:
            raise InputError(f"a text is a string, or a pair of context and continuation, not {text!r:.60}")
    return begin(tok, tok.encode(context), tok.encode(continuation), start)


def begin(tok: Tokenizer, past: list[int], rest: list[int], start: str) -> tuple[list[int], list[int]]:
    """The question of the first token answered: what is given, what is scored."""
    if start not in ("endoftext", "none"):
        raise ConfigError(f"start must be endoftext or none, not {start!r}")
    if start == "endoftext":
        return [tok.end_of_text, *past], rest
    return (past, rest) if past else (rest[:1], rest[1:])


def score_ids(
    net: GPT2,
    past: Sequence[ArrayLike],
    rest: Sequence[ArrayLike],
    stride: int | None = None,
    compute: Compute | None = None,
) -> list[Score]:
    """Scores of the token ids `rest` after the ids `past`, which must not be empty when `rest` has tokens."""
    texts = ((before, [after]) for before, after in zip(past, rest, strict=True))
    return list(joined(score_pieces(net, texts, stride, compute)))


def score_pieces(
    net: GPT2,
    texts: Iterable[tuple[ArrayLike, Iterable[ArrayLike]]],
    stride: int | None = None,
    compute: Compute | None = None,
) -> Iterator[Piece]:
    """Scores of texts given as (ids before, ids to score in chunks), window by window, all in order.

    Neither the texts nor one text need fit into memory.
    """
    context = net.config.n_ctx
    stride = context if stride is None else stride
    if not isinstance(stride, int) or not 1 <= stride <= context:
        raise ConfigError(f"stride must be between 1 and the model's context of {context}, not {stride!r}")
    windows = (
        window
        for i, (past, rest) in enumerate(texts)
        for window in cut_windows(i, np.asarray(past, np.int64), rest, context, stride)
    )
    reader = None
    for few in ahead(windows):
        if reader is None:
            many = sum(len(w.ids) for w in few) >= PACK_FROM
            how = compute or PLAIN
            reader = PackedGPT2.of(net, how) if many else PackedGPT2(net, how, pack=False)
        yield from read(reader, few)


def cut_windows(
    text: int, past: Ids, rest: Iterable[ArrayLike], context: int, stride: int
) -> Iterator[Window]:
    """Windows that read at most `context` tokens; each token after `past` is scored once.

    At least one window for every text, which scores nothing when there is nothing to score.
    """
    ids, done = past, len(past)
    more = iter(rest)
    end = max(context + 1, done + stride)
    last = False
    while not last:
        while len(ids) <= end and not last:  # one token beyond the window, to know whether it is the last
            chunk = next(more, None)
            last = chunk is None
            if chunk is not None:
                ids = np.concatenate([ids, np.asarray(chunk, np.int64)])
        end = min(end, len(ids))
        if done == 0 and end:
            raise InputError("a text cannot be scored without any token before it")
        yield Window(text, ids[max(0, end - 1 - context) : end], end - done, last)
        passed = max(0, end - context)
        ids, done, end = ids[passed:], end - passed, end - passed + stride


def ahead(windows: Iterable[Window]) -> Iterator[list[Window]]:
    """Lists of windows: of `TOKENS_AT_ONCE` tokens at first, so that scores come soon, up to `TOKENS_AHEAD`."""
    few: list[Window] = []
    tokens, enough = 0, TOKENS_AT_ONCE
    for window in windows:
        few.append(window)
        tokens += len(window.ids) + 1
        if tokens >= enough:
            yield few
            few, tokens, enough = [], 0, min(2 * enough, TOKENS_AHEAD)
    if few:
        yield few


@torch.inference_mode()
def read(reader: PackedGPT2, windows: Sequence[Window]) -> list[Piece]:
    """Score windows, those with like beginnings in one pass."""
    for w in windows:
        if len(w.ids) and not 0 <= w.ids.min() <= w.ids.max() < reader.config.vocab_size:
            wrong = next(i for i in w.ids.tolist() if not 0 <= i < reader.config.vocab_size)
            raise InputError(
                f"token {wrong} is none of the model's, which are 0 to {reader.config.vocab_size - 1}"
            )
    pieces = [Piece(w.text, w.ids[:0], np.empty(0), w.ids[:0], w.last) for w in windows]
    busy = [i for i, w in enumerate(windows) if w.scored]
    inputs = [windows[i].ids[:-1] for i in busy]
    for some in passes(inputs):
        layout = lay_out([inputs[k] for k in some])
        found = [windows[busy[k]] for k in some]
        places = np.concatenate([at[-w.scored :] for at, w in zip(layout.places, found, strict=True)])
        targets = np.concatenate([w.ids[-w.scored :] for w in found])
        logprobs, ranks = log_probabilities(reader, layout, places, targets)
        ends = np.cumsum([w.scored for w in found])
        for k, w, end in zip(some, found, ends, strict=True):
            own = slice(end - w.scored, end)
            pieces[busy[k]] = Piece(w.text, targets[own], logprobs[own], ranks[own], w.last)
    return pieces


def passes(inputs: Sequence[Ids]) -> Iterator[list[int]]:
    """Indices of what to read together, in the order of ids: at most `TOKENS_AT_ONCE` distinct tokens."""
    some: list[int] = []
    tokens, before = 0, np.empty(0, np.int64)
    for i in in_order(inputs):
        new = len(inputs[i]) - common_length(before, inputs[i])
        if some and tokens + new > TOKENS_AT_ONCE:
            yield some
            some, tokens, new = [], 0, len(inputs[i])
        some.append(i)
        tokens, before = tokens + new, inputs[i]
    if some:
        yield some


def log_probabilities(reader: PackedGPT2, layout: Layout, places: Ids, targets: Ids) -> tuple[LogProbs, Ids]:
    """For each of M tokens its place in the layout and its id [M] -> log-probabilities and ranks [M].

    What several texts share is computed once: logits of each place, and each pair of place and token.
    """
    V = reader.config.vocab_size
    pairs, back = np.unique(places * V + targets, return_inverse=True)
    rows, row_of = np.unique(pairs // V, return_inverse=True)
    hidden = reader.hidden(layout, rows)  # [rows, C]
    tokens = torch.from_numpy(pairs % V).to(hidden.device)
    logprobs, ranks = np.empty(len(pairs), np.float64), np.empty(len(pairs), np.int64)
    many, few = max(1, LOGITS_AT_ONCE // V), max(1, SOFTMAX_AT_ONCE // V)
    for i in range(0, len(rows), many):
        logits = reader.logits(hidden[i : i + many])
        for j in range(i, i + len(logits), few):
            part = logits[j - i : j - i + few]
            some = slice(*np.searchsorted(row_of, [j, j + len(part)]))
            at = torch.from_numpy(row_of[some] - j).to(hidden.device)
            logprobs[some], ranks[some] = of_rows(part, at, tokens[some])
    if not np.isfinite(logprobs).all():
        raise FormatError("the model gives a log-probability that is no number; are its weights damaged?")
    return logprobs[back], ranks[back]


def of_rows(logits: torch.Tensor, at: torch.Tensor, tokens: torch.Tensor) -> tuple[LogProbs, Ids]:
    """logits [n, V], of which row `at[k]` is asked about `tokens[k]`, [m] in the order of rows -> [m], [m]."""
    first = torch.searchsorted(at, torch.arange(len(logits), device=at.device))  # [n]
    logits = logits.float()
    lost = F.cross_entropy(logits, tokens[first], reduction="none").double()  # of each row's first token
    own = logits[at, tokens]  # [m]
    logprobs = own.double() - own[first][at].double() - lost[at]
    if logits.device.type == "cpu":  # torch would write and sum a matrix of truths
        rows, limits = logits.numpy(), own.numpy()
        above = [np.count_nonzero(rows[i] > limit) for i, limit in zip(at.tolist(), limits, strict=True)]
        ranks = 1 + np.array(above, np.int64)
    else:
        ranks = 1 + (logits[at] > own[:, None]).sum(dim=-1).cpu().numpy()
    return logprobs.cpu().numpy(), ranks
