"""Puts what items ask to a model, and hands each item its replies.

Requests of many items go to the model together: those that are scored in one stream, so that like beginnings
are read once and no pass is half empty (`gpt2.inference.scoring`), those that are generated in one call.
What a task asks after it knows the replies is put in the next round, again for all items together.

What does not fit a model's context is handled by one rule for all tasks: a context loses its beginning, and
the item counts as cut; choices lose as much of it as the longest of them needs, so that all are judged by, and
read once, the same context; a continuation with no token, or with more than the context, cannot be asked, and a
text that is measured as a whole is read in windows.

    replies = ask(model, task, items)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from gpt2.evaluation.generation import answer, room_beside
from gpt2.evaluation.task import (
    Choices,
    Generate,
    Item,
    LogLikelihood,
    Malformed,
    Reply,
    Request,
    Rolling,
    Task,
)
from gpt2.inference.passages import Passage, score_passages
from gpt2.inference.scoring import Piece, Score, encode, joined, score_pieces
from gpt2.model.checkpoint import Model
from gpt2.model.device import Compute
from gpt2.workspace import digest

Texts = list[str | tuple[str, str]]
Progress = Callable[[float], None]
NEW_TOKEN = 40
"""Characters that are read in about the time in which a token is generated."""


@dataclass
class Asked:
    """An item and what the model replied."""

    item: Item
    replies: list[Reply] = field(default_factory=list)
    cut: bool = False
    """Whether a context of it lost its beginning."""


def ask(
    model: Model,
    task: Task,
    items: Sequence[Item],
    compute: Compute | None = None,
    progress: Progress = lambda _: None,
    more: Progress = lambda _: None,
) -> list[Asked | Malformed]:
    """Every item with all its replies, or why it cannot be asked.

    `progress` is told of characters done, `more` of those that the replies made it necessary to ask.
    """
    found: list[Asked | Malformed] = []
    for item in items:
        reason = next((r for request in item.requests if (r := obstacle(model, request))), "")
        found.append(Malformed(item.id, reason) if reason else Asked(item))
    waiting = [(asked, list(asked.item.requests)) for asked in found if isinstance(asked, Asked)]
    while waiting:
        for asked, requests in waiting:
            asked.cut |= any(is_cut(model, request) for request in requests)
        flat = [(asked.item, request) for asked, requests in waiting for request in requests]
        replies = iter(put(model, task, flat, compute, progress))
        for asked, requests in waiting:
            asked.replies += [next(replies) for _ in requests]
        waiting = [(a, new) for a, _ in waiting if (new := list(task.follow(a.item, a.replies)))]
        more(sum(size(request) for _, requests in waiting for request in requests))
    return found


def put(
    model: Model,
    task: Task,
    requests: Sequence[tuple[Item, Request]],
    compute: Compute | None,
    progress: Progress,
) -> list[Reply]:
    """The reply to each request."""
    streams: dict[tuple[str, int | None], list[int]] = defaultdict(list)
    replies: list[Reply] = [""] * len(requests)
    generated: list[int] = []
    passages: list[tuple[int, Passage]] = []
    for i, (_, request) in enumerate(requests):
        match request:
            case Generate():
                generated.append(i)
            case Passage():
                passages.append((i, request))
            case Rolling():
                streams[request.start, request.stride].append(i)
            case _:
                streams[request.start, None].append(i)
    for (start, stride), members in streams.items():
        texts = [texts_of(requests[i][1]) for i in members]
        scores = scored(model, texts, start, stride, compute, progress)
        for i, some in zip(members, texts, strict=True):
            own = [next(scores) for _ in some]
            replies[i] = own if isinstance(requests[i][1], Choices) else own[0]
    for (i, passage), score in zip(
        passages, score_passages(model, [p for _, p in passages], compute), strict=True
    ):
        replies[i] = score
        progress(size(passage))
    prompts = [r for _, r in requests if isinstance(r, Generate)]
    if prompts:
        seeds = [int(digest([task.name, requests[i][0].id])[:8], 16) for i in generated]
        for i, text in zip(generated, answer(model, prompts, seeds, compute), strict=True):
            replies[i] = text
            progress(size(requests[i][1]))
    return replies


def scored(
    model: Model,
    texts: Sequence[Texts],
    start: str,
    stride: int | None,
    compute: Compute | None,
    progress: Progress,
) -> Iterator[Score]:
    """Scores of the texts of each request, in order; `progress` is told while a long one is read."""
    tok = model.tokenizer
    flat = [text for some in texts for text in some]

    def told(pieces: Iterable[Piece]) -> Iterator[Piece]:
        done = 0
        for piece in pieces:
            read = len(tok.decode(piece.tokens.tolist()))
            text = flat[piece.text]
            whole = len(text) if isinstance(text, str) else len(text[0]) + len(text[1])
            progress(max(0, whole - done) if piece.last else read)
            done = 0 if piece.last else done + read
            yield piece

    encoded = (ids for some in texts for ids in together(model, some, start))
    return joined(told(score_pieces(model.net, ((past, [rest]) for past, rest in encoded), stride, compute)))


def together(model: Model, texts: Texts, start: str) -> list[tuple[list[int], list[int]]]:
    """The tokens given and scored of each text of a request; choices are given no more than all can have."""
    encoded = [encode(model.tokenizer, text, start) for text in texts]
    if len(encoded) < 2:
        return encoded
    room = model.net.config.n_ctx + 1 - max(len(rest) for _, rest in encoded)  # the last token is not read
    return [(past[-room:], rest) for past, rest in encoded]


def texts_of(request: Request) -> Texts:
    """What of a request is scored: texts, or pairs of context and continuation."""
    match request:
        case LogLikelihood():
            return [(request.context, request.continuation)]
        case Rolling():
            return [request.text]
        case Choices():
            return list(request.pairs)
        case _:
            return []


def size(request: Request) -> int:
    """Characters of a request, as a measure of its work."""
    if isinstance(request, Generate):
        return len(request.prompt) + len(request.ending) + NEW_TOKEN * request.max_tokens
    if isinstance(request, Passage):
        return request.end - request.begin
    return sum(len(t) if isinstance(t, str) else len(t[0]) + len(t[1]) for t in texts_of(request))


def obstacle(model: Model, request: Request) -> str:
    """Why a model cannot be asked this, "" when it can."""
    context = model.net.config.n_ctx
    for text in texts_of(request):
        target = text if isinstance(text, str) else text[1]
        if not target:
            return "nothing to score: the target is empty"
        if isinstance(text, tuple) and tokens_above(model, target, context):
            return f"the target has more tokens than the model's context of {context}"
    return ""


def is_cut(model: Model, request: Request) -> bool:
    """Whether a context does not fit, and loses its beginning."""
    room = model.net.config.n_ctx
    if isinstance(request, Generate):
        return tokens_above(model, request.prompt + request.ending, room_beside(model, request.max_tokens))
    room += request.start == "none"  # the last token of a text is not read
    pairs = [text for text in texts_of(request) if isinstance(text, tuple)]
    return any(tokens_above(model, context + target, room) for context, target in pairs)


def tokens_above(model: Model, text: str, limit: int) -> bool:
    """Whether a text has more tokens than `limit`; one of fewer bytes has not."""
    return len(text) * 4 > limit and len(text.encode()) > limit and len(model.tokenizer.encode(text)) > limit
