"""Going on from texts with a model of ours: what programs call, over the engine and a runner.

    gpt2.generate(model, ["The meaning of life"], max_tokens=64, top_k=40, seed=0)
    gpt2.generate(model, ["Q: What is life?\nA:"], max_tokens=64, temperature=0, until=["\n"])
    gpt2.generate(model, ["Once"] * 5, top_p=0.95, repetition_penalty=1.1)     # five continuations, read once
    gpt2.generate(model, ["Once"], best_of=8, draft=small)      # the likeliest of eight; a smaller model drafts
    for piece in gpt2.stream(model, "Once upon a time"): print(piece, end="")

An empty prompt starts from <|endoftext|>, as the paper's unconditional samples do; a continuation ends there
too. Each prompt draws from its own random generator, seeded by the seed and the prompt's place in the list, so
a continuation does not depend on what else is in the list (`gpt2.inference.engine` says how far that holds).
Of a prompt longer than the context the newest part is read, and when the context is full, the newer half of it
is read anew and generation goes on from there; with `slide=False` both are refused or end the text.

A model is a `gpt2.Model`, which the torch runner computes, or a `NativeModel` in low-bit weights, which the
kernels compute; with the latter nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from gpt2.console import QUIET, Console
from gpt2.errors import ConfigError, MissingExtra
from gpt2.inference.engine import Engine, Request, Stream
from gpt2.inference.native import NativeModel, open_native
from gpt2.inference.sampling import Sampling
from gpt2.model.config import GPT2Config
from gpt2.model.packed import is_packed

if TYPE_CHECKING:
    from gpt2.model.checkpoint import Model
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
    model: Model | NativeModel,
    prompts: Sequence[str] | str,
    max_tokens: int = 64,
    temperature: float = 1.0,
    top_k: int | None = 40,
    seed: int = 0,
    compute: Compute | None = None,
    until: Sequence[str] = (),
    slide: bool = True,
    best_of: int = 1,
    draft: Model | NativeModel | None = None,
    **controls: Unpack[Controls],
) -> list[str]:
    """Continuations only, one a prompt, each of at most `max_tokens` tokens and before any of `until`.

    `best_of`: draw so many for each prompt, and take the one whose tokens are the likeliest to the model on
    average. `draft`: a smaller model of the same vocabulary, whose guesses are checked several at a time; the text
    is the same as without. Raises `ConfigError` for settings that mean nothing, `InputError` for a prompt that does
    not fit when the window does not slide.
    """
    if best_of < 1:
        raise ConfigError(f"best_of must be at least 1, not {best_of}")
    how = Sampling(temperature, top_k, **controls)
    encode = model.tokenizer.encode
    requests = [
        Request(
            encode(text), max_tokens, how, seed, i, until, logprobs=0 if best_of > 1 else None, slide=slide
        )
        for i, text in enumerate(
            text for text in ([prompts] if isinstance(prompts, str) else prompts) for _ in range(best_of)
        )
    ]
    streams = continuations(model, requests, compute, draft=draft)
    return [stream.text for stream in likeliest_of_each(best_of, streams)]


def likeliest_of_each(n: int, streams: Sequence[Stream]) -> list[Stream]:
    """Of each `n` streams in turn the one whose tokens have the highest mean log-probability."""

    def mean(stream: Stream) -> float:
        return sum(chosen.logprob for chosen in stream.chosen) / max(1, len(stream.chosen))

    return [max(streams[i : i + n], key=mean) for i in range(0, len(streams), n)]


def generate_ids(
    model: Model | NativeModel,
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
    model: Model | NativeModel,
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
    model: Model | NativeModel,
    requests: Sequence[Request],
    compute: Compute | None = None,
    ended: Callable[[int], object] = bool,
    draft: Model | NativeModel | None = None,
) -> list[Stream]:
    """Every request's finished stream; see `Engine.run`."""
    return engine_for(model, requests, compute, draft).run(requests, ended) if requests else []


def engine_for(
    model: Model | NativeModel,
    requests: Sequence[Request],
    compute: Compute | None = None,
    draft: Model | NativeModel | None = None,
) -> Engine:
    """An engine with room for these requests, side by side as far as memory should be taken for it."""
    longest = max(max(1, len(request.prompt)) + max(1, request.max_tokens) for request in requests)
    engine = engine_with(model, len(requests), longest, compute)
    return drafted(engine, engine_with(draft, engine.runner.slots, longest, compute)) if draft else engine


def drafted(engine: Engine, smaller: Engine) -> Engine:
    """An engine like the first, for which the model of the second drafts; `ConfigError` for another vocabulary."""
    if smaller.tokenizer.fingerprint != engine.tokenizer.fingerprint:
        raise ConfigError(
            f"a model that drafts needs the same vocabulary: {smaller.tokenizer} is not {engine.tokenizer}"
        )
    return Engine(engine.runner, engine.tokenizer, smaller=smaller.runner)


def engine_with(
    model: Model | NativeModel, texts: int, length: int | None = None, compute: Compute | None = None
) -> Engine:
    """An engine for so many texts of up to `length` tokens, the model's context when not given.

    Raises `MissingExtra` for a native model where its kernels cannot be built.
    """
    config = model.config if isinstance(model, NativeModel) else model.net.config
    slots = min(texts, slots_for(config, length or config.n_ctx))
    if isinstance(model, NativeModel):
        return model.engine(slots, length)
    from gpt2.inference.torch_runner import TorchRunner

    return Engine(TorchRunner(model.net, slots, length, compute), model.tokenizer)


def open_engine(
    model: Path,
    texts: int = 1,
    device: str = "auto",
    dtype: str = "auto",
    threads: int | None = None,
    console: Console = QUIET,
) -> Engine:
    """An engine over the model at a path: the fast one for int8 and int4 and for packed weights as they are.

    Where the fast one cannot be built, torch computes in float32 from the rounded weights, and `console` says so.
    Raises `ConfigError` for a choice that this machine does not have.
    """
    if dtype in ("int8", "int4") or (dtype == "auto" and is_packed(model)):
        if device not in ("auto", "cpu"):
            raise ConfigError(f"int8 and int4 compute on the processor, not on {device}; leave --device out")
        native = open_native(model, None if dtype == "auto" else dtype, threads, console)
        try:
            return engine_with(native, texts)
        except MissingExtra as missing:
            console.say(f"{missing}; torch computes instead, in float32 from the rounded weights")
            model, dtype = native.folder, "float32"
    from gpt2.model.checkpoint import load
    from gpt2.model.device import choose

    compute, loaded = choose(device, dtype, threads), load(model)
    loaded.net.to(compute.device)
    return engine_with(loaded, texts, compute=compute)


def slots_for(config: GPT2Config, length: int) -> int:
    """Texts of up to `length` tokens whose keys and values may be held side by side."""
    each = 2 * config.n_layer * config.n_embd * min(length, config.n_ctx)
    return max(1, min(SLOTS, KEYS_AT_ONCE // each))
