"""Answers in the model's own words: generation for the requests of tasks, many at a time.

Requests that end alike are generated together, by the engine and under its rules. A request draws from its
own seed, and its answer does not depend on what else is asked, up to float32's rounding of near ties.
Of a prompt that does not fit into the context beside `max_tokens` the newest part is read, as
lm-evaluation-harness has it; with an `ending`, which is read whole, the beginning is read instead: an article
tells what matters first. Where `max_tokens` would leave a prompt less than half the context, it gets half,
and the engine goes on from there as it does with any full context.

    answer(model, [Generate("Q: What is the capital of France?\\nA:", 16, ["\\n"])], seeds=[0])
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from gpt2.evaluation.task import Generate
from gpt2.inference.engine import before, generate_ids
from gpt2.inference.sampling import Sampling
from gpt2.model.checkpoint import Model
from gpt2.model.device import Compute


def answer(
    model: Model, requests: Sequence[Generate], seeds: Sequence[int], compute: Compute | None = None
) -> list[str]:
    """What the model goes on with after each prompt, up to where the first of its `until` begins.

    `seeds` has one number a request; greedy requests (`top_k` None) do not use it.
    """
    alike: dict[tuple[int, tuple[str, ...], int | None], list[int]] = defaultdict(list)
    for i, request in enumerate(requests):
        alike[request.max_tokens, tuple(request.until), request.top_k].append(i)
    tok, out = model.tokenizer, [""] * len(requests)
    for (max_tokens, until, top_k), rows in alike.items():
        prompts = [prompt_ids(model, requests[i]) for i in rows]
        how = Sampling(0.0) if top_k is None else Sampling(1.0, top_k)
        found = generate_ids(model, prompts, max_tokens, how, [seeds[i] for i in rows], compute, until)
        for i, ids in zip(rows, found, strict=True):
            out[i] = before(tok.decode(ids), until)
    return out


def prompt_ids(model: Model, request: Generate) -> list[int]:
    """The tokens that are read: of the prompt as many as there is room for, then the ending."""
    room = room_beside(model, request.max_tokens)
    prompt = model.tokenizer.encode(request.prompt)
    if not request.ending:
        return prompt[-room:]
    ending = model.tokenizer.encode(request.ending)
    return (prompt[: max(0, room - len(ending))] + ending)[-room:]


def room_beside(model: Model, max_tokens: int) -> int:
    """How many tokens of a prompt are read beside so many new ones."""
    context = model.net.config.n_ctx
    return max(context - max_tokens, context // 2, 1)
