"""Parts of a long text, each scored as if all of the text was read: a test set as one stream of tokens.

What a token of a stream has as its past depends on where the windows lie, and that on all text before it. A
`Passage` names a text and a part of it, between two characters; its score is that of the tokens that begin in
the part, in the windows of the whole text. So a test set is divided into articles or blocks that can be
scored in any order, stopped between any two, and whose scores add up to that of the stream exactly. A window
that lies across two parts is read for each, but only once where both are scored in one call.

Windows lie by one of two rules:

    ends     each ends `stride` tokens after the one before, reads as many tokens as the context holds, and
             every token but the first of the text is scored: as everywhere in this package
    begins   each begins `stride` tokens after the one before and holds as many tokens as the context, the
             last one fewer, and its first token is never scored: as in the documentation of transformers

Rejected: cutting the text into pieces that are scored by themselves, which gives the first tokens of every
piece less past than they have in the stream.

    [score] = score_passages(model, [Passage(text, 0, len(text))])
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gpt2.inference.scoring import Score
    from gpt2.model.checkpoint import Model
    from gpt2.model.device import Compute
    from gpt2.tokens.bpe import Tokenizer

    Ids = NDArray[np.int64]

Rule = Literal["ends", "begins"]


@dataclass(frozen=True)
class Passage:
    """How likely text[begin:end] is where all of the text is read; scored as one `Score`."""

    text: str
    begin: int
    end: int
    start: str = "endoftext"
    """What stands before the text: endoftext or none."""
    stride: int | None = None
    """Tokens between windows; the context when None, and never more than it."""
    windows: Rule = "ends"


def score_passages(
    model: Model, passages: Iterable[Passage], compute: Compute | None = None
) -> Iterator[Score]:
    """The score of each passage, in order. Those of one text should follow each other: it is encoded once."""
    from gpt2.inference.scoring import Score, score_ids

    for _, some in groupby(passages, key=lambda p: (id(p.text), p.start, p.stride, p.windows)):
        own = list(some)
        parts = list(windows_of(model.tokenizer, own, model.net.config.n_ctx))
        flat = [window for windows in parts for window in windows]
        scores = iter(score_ids(model.net, [w[0] for w in flat], [w[1] for w in flat], None, compute))
        for windows in parts:
            found = [next(scores) for _ in windows]
            yield Score(
                float(sum(score.logprob for score in found)),
                [x for score in found for x in score.token_logprobs],
                [x for score in found for x in score.tokens],
                [x for score in found for x in score.ranks],
            )


def windows_of(tok: Tokenizer, passages: Iterable[Passage], context: int) -> Iterator[list[tuple[Ids, Ids]]]:
    """Of passages of one text, alike but for their place: their windows as (ids that are given, ids to score).

    The two together have at most context + 1 ids, so that each pair is scored in one window.
    """
    import numpy as np

    ids, at, text, lie = None, None, "", None
    for passage in passages:
        if ids is None or at is None or lie is None or passage.text is not text:
            text = passage.text
            encoded = np.array(tok.encode(text), np.int64)
            sizes = np.array([len(token) for token in tok.tokens], np.int64)
            before = [tok.end_of_text] if passage.start == "endoftext" else []
            ids = np.concatenate([np.array(before, np.int64), encoded])  # [n]
            at = np.concatenate([np.full(len(before), -1), sizes[encoded].cumsum() - sizes[encoded]])  # [n]
            lie = lay_windows(len(ids), context, passage.stride, passage.windows)
        places = [len(text[:place].encode()) for place in (passage.begin, passage.end)]
        first, last = np.searchsorted(at, places)
        begins, firsts, ends = lie
        some = slice(np.searchsorted(ends, first, "right"), np.searchsorted(firsts, last, "left"))
        yield [
            (ids[begin : max(one, first)], ids[max(one, first) : min(end, last)])
            for begin, one, end in zip(begins[some], firsts[some], ends[some], strict=True)
            if max(one, first) < min(end, last)
        ]


def lay_windows(n: int, context: int, stride: int | None, rule: Rule) -> tuple[Ids, Ids, Ids]:
    """Windows over n tokens: where each begins, the first token that it scores, and where it ends."""
    import numpy as np

    stride = min(stride or context, context)
    if rule == "ends":
        count = 1 + max(0, -(-(n - context - 1) // stride))
        ends = np.minimum(n, context + 1 + stride * np.arange(count))
        begins = np.maximum(0, ends - 1 - context)
        firsts = np.concatenate([[1], ends[:-1]])
    else:
        count = 1 + max(0, -(-(n - context) // stride))
        begins = stride * np.arange(count)
        ends = np.minimum(n, begins + context)
        firsts = np.maximum(begins + 1, np.concatenate([[0], ends[:-1]]))
    return begins, firsts, ends
