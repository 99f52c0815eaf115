"""Answers in the model's own words: generation for the requests of tasks, many at a time.

All requests go to one engine, under its rules: what several prompts begin with, such as example pairs, is read
once, and an answer that has ended makes room for the next. A request draws from its own seed, and its answer
does not depend on what else is asked. Of a prompt that does not fit into the context beside `max_tokens` the
newest part is read, as lm-evaluation-harness has it; with an `ending`, which is read whole, the beginning is
read instead: an article tells what matters first. Where `max_tokens` would leave a prompt less than half the
context, it gets half, and the engine goes on from there as it does with any full context.

    answer(model, [Generate("Q: What is the capital of France?\\nA:", 16, ["\\n"])], seeds=[0])
"""

from __future__ import annotations

from collections.abc import Sequence

from gpt2.evaluation.task import Generate
from gpt2.inference.continuations import continuations
from gpt2.inference.engine import Request
from gpt2.inference.sampling import Sampling
from gpt2.model.checkpoint import Model
from gpt2.model.device import Compute


def answer(
    model: Model, requests: Sequence[Generate], seeds: Sequence[int], compute: Compute | None = None
) -> list[str]:
    """What the model goes on with after each prompt, up to where the first of its `until` begins.

    `seeds` has one number a request; greedy requests (`top_k` None) do not use it.
    """
    asked = [
        Request(
            prompt_ids(model, request), request.max_tokens, how(request), seed, stop=request.until, slide=True
        )
        for request, seed in zip(requests, seeds, strict=True)
    ]
    return [stream.text for stream in continuations(model, asked, compute)]


def how(request: Generate) -> Sampling:
    """Greedy, or among the k most likely tokens."""
    return Sampling(0.0) if request.top_k is None else Sampling(1.0, request.top_k)


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
