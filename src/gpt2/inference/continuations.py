"""Going on from texts with a model of ours: what programs call, over the engine and the torch runner.

    gpt2.generate(model, ["The meaning of life"], max_tokens=64, top_k=40, seed=0)
    gpt2.generate(model, ["Q: What is life?\nA:"], max_tokens=64, temperature=0, until=["\n"])
    gpt2.generate(model, ["Once"] * 5, top_p=0.95, repetition_penalty=1.1)     # five continuations, read once
    for piece in gpt2.stream(model, "Once upon a time"): print(piece, end="")

An empty prompt starts from <|endoftext|>, as the paper's unconditional samples do; a continuation ends there
too. Each prompt draws from its own random generator, seeded by the seed and the prompt's place in the list, so
a continuation does not depend on what else is in the list (`gpt2.inference.engine` says how far that holds).
Of a prompt longer than the context the newest part is read, and when the context is full, the newer half of it
is read anew and generation goes on from there; with `slide=False` both are refused or end the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypedDict, Unpack

from gpt2.inference.engine import Engine, Request, Stream
from gpt2.inference.sampling import Sampling
from gpt2.inference.torch_runner import TorchRunner
from gpt2.model.checkpoint import Model
from gpt2.model.config import GPT2Config
from gpt2.model.device import Compute

SLOTS = 64
KEYS_AT_ONCE = 2**28
"""Numbers in the keys and values of all slots: 1 GB of float32."""


class Controls(TypedDict, total=False):
    """What else a text may be drawn by; the fields of `Sampling`."""

    top_p: float
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: Mapping[int, float]


def generate(
    model: Model,
    prompts: Sequence[str] | str,
    max_tokens: int = 64,
    temperature: float = 1.0,
    top_k: int | None = 40,
    seed: int = 0,
    compute: Compute | None = None,
    until: Sequence[str] = (),
    slide: bool = True,
    **controls: Unpack[Controls],
) -> list[str]:
    """Continuations only, one a prompt, each of at most `max_tokens` tokens and before any of `until`.

    Raises `ConfigError` for settings that mean nothing, `InputError` for a prompt that does not fit when the
    window does not slide.
    """
    how = Sampling(temperature, top_k, **controls)
    encode = model.tokenizer.encode
    requests = [
        Request(encode(text), max_tokens, how, seed, i, until, slide=slide)
        for i, text in enumerate([prompts] if isinstance(prompts, str) else prompts)
    ]
    return [stream.text for stream in continuations(model, requests, compute)]


def generate_ids(
    model: Model,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    how: Sampling,
    seed: int | Sequence[int] = 0,
    compute: Compute | None = None,
    until: Sequence[str] = (),
) -> list[list[int]]:
    """The same on token ids; <|endoftext|> ends a continuation and is not part of it.

    So does the token that completes one of `until`, which is part of it. A list of seeds has one a prompt,
    and then its place in the list does not matter.
    """
    seeds = [(seed, i) for i in range(len(prompts))] if isinstance(seed, int) else [(s, 0) for s in seed]
    requests = [
        Request(prompt, max_tokens, how, *own, until, slide=True)
        for prompt, own in zip(prompts, seeds, strict=True)
    ]
    return [stream.ids for stream in continuations(model, requests, compute)]


def stream(
    model: Model,
    prompt: str,
    max_tokens: int = 64,
    temperature: float = 1.0,
    top_k: int | None = 40,
    seed: int = 0,
    compute: Compute | None = None,
    until: Sequence[str] = (),
    slide: bool = True,
    **controls: Unpack[Controls],
) -> Iterator[str]:
    """The continuation of one prompt piece by piece, as soon as whole characters are known."""
    how = Sampling(temperature, top_k, **controls)
    request = Request(model.tokenizer.encode(prompt), max_tokens, how, seed, 0, until, slide=slide)
    engine = engine_for(model, [request], compute)
    yield from engine.pieces(engine.submit(request))


def continuations(
    model: Model,
    requests: Sequence[Request],
    compute: Compute | None = None,
    ended: Callable[[int], object] = bool,
) -> list[Stream]:
    """Every request's finished stream; see `Engine.run`."""
    return engine_for(model, requests, compute).run(requests, ended) if requests else []


def engine_for(model: Model, requests: Sequence[Request], compute: Compute | None = None) -> Engine:
    """An engine with room for these requests, side by side as far as memory should be taken for it."""
    longest = max(max(1, len(request.prompt)) + max(1, request.max_tokens) for request in requests)
    slots = min(len(requests), slots_for(model.net.config, longest))
    return Engine(TorchRunner(model.net, slots, longest, compute), model.tokenizer)


def slots_for(config: GPT2Config, length: int) -> int:
    """Texts of up to `length` tokens whose keys and values may be held side by side."""
    each = 2 * config.n_layer * config.n_embd * min(length, config.n_ctx)
    return max(1, min(SLOTS, KEYS_AT_ONCE // each))
