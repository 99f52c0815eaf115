"""gpt2 generate: going on from a text.

gpt2 generate reproduce "The meaning of"
gpt2 generate reproduce "The meaning of" --dtype int8
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from gpt2.cli.talk import (
    LIGHTLY,
    TALK,
    ComputingLightly,
    Count,
    Seed,
    Talk,
    Whole,
    text_or_input,
    typed_lines,
)
from gpt2.errors import ConfigError

if TYPE_CHECKING:
    from gpt2.inference.engine import Request, Stream
    from gpt2.inference.sampling import Sampling
    from gpt2.tokens.bpe import Tokenizer

Share = Annotated[float, Parameter(validator=Number(gte=0, lte=1))]
Penalty = Annotated[float, Parameter(validator=Number(gt=-1e6, lt=1e6))]


@Parameter(name="*", group=Group("Drawing", sort_key=80))
@dataclass(frozen=True)
class Drawing:
    """How the next token is drawn; controls act in this order, from the penalties on."""

    temperature: Annotated[float, Parameter(validator=Number(gte=0, lt=1e6))] = 1.0
    """Divides the logits; 0 takes the most likely token each time."""
    top_k: Whole = 40
    """Draw among the k most likely tokens; 0 among all."""
    top_p: Share = 1.0
    """Draw among the most likely tokens that together have this probability."""
    min_p: Share = 0.0
    """Draw among tokens at least this share as likely as the most likely one."""
    repetition_penalty: Annotated[float, Parameter(validator=Number(gt=0, lt=1e6))] = 1.0
    """Above 1 makes tokens of prompt and continuation less likely."""
    presence_penalty: Penalty = 0.0
    """Taken from the logits of tokens that the continuation has."""
    frequency_penalty: Penalty = 0.0
    """Taken from them once for each time that the continuation has them."""
    logit_bias: Annotated[tuple[str, ...], Parameter(negative=())] = field(default=())
    """ID=NUMBER, added to the logit of a token; -inf forbids it. May be given several times."""

    def sampling(self) -> Sampling:
        """The same for the engine."""
        from gpt2.inference.sampling import Sampling

        return Sampling(
            self.temperature,
            self.top_k or None,
            self.top_p,
            self.min_p,
            self.repetition_penalty,
            self.presence_penalty,
            self.frequency_penalty,
            dict(bias(one) for one in self.logit_bias),
        )


DRAWING = Drawing()


def generate(
    model: Path,
    prompt: str | None = None,
    *,
    max_tokens: Count = 100,
    samples: Count = 1,
    best_of: Count = 1,
    draft_model: Path | None = None,
    until: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    window: Literal["slide", "stop"] = "slide",
    logprobs: Whole | None = None,
    seed: Seed = 0,
    drawing: Drawing = DRAWING,
    computing: ComputingLightly = LIGHTLY,
    talk: Talk = TALK,
) -> None:
    """Go on from a text.

    Parameters
    ----------
    model:
        A model in any known format: folder or file, a training run, the folder of `gpt2 reproduce`, hub name.
    prompt:
        What to go on from; empty starts a new document. When not given, prompts are read from the terminal,
        or one from standard input.
    max_tokens:
        Longest continuation.
    samples:
        Continuations to draw.
    best_of:
        Draw so many for each of them, and take the one whose tokens are the likeliest on average.
    draft_model:
        A smaller model of the same vocabulary, whose guesses are checked several at a time: the same text, sooner.
    until:
        A text before which the continuation ends; may be given several times.
    window:
        Past the model's context, slide over the newer half of it or stop.
    logprobs:
        Show how likely each token was to the model, and so many of the likeliest in its place.
    seed:
        Decides the draws.
    """
    from gpt2.inference.continuations import drafted, likeliest_of_each, open_engine
    from gpt2.inference.engine import Request

    how, slide = drawing.sampling(), window == "slide"

    def request(text: str, number: int = 0, seed: int = seed) -> Request:
        ids = engine.tokenizer.encode(text)
        kept = 0 if logprobs is None and best_of > 1 else logprobs
        return Request(ids, max_tokens, how, seed, number, until, logprobs=kept, slide=slide)

    def go_on(text: str, seed: int = seed) -> None:
        stream = engine.submit(request(text, seed=seed))
        for piece in engine.pieces(stream):
            talk.write(piece, end="")
        talk.write("")
        if stream.finish == "context":
            talk.console.say("The model's context is full; --window slide goes on beyond it.")

    engine = open_engine(
        model, samples * best_of, computing.device, computing.dtype, computing.threads, talk.console
    )
    if draft_model:
        small = open_engine(
            draft_model, samples * best_of, computing.device, computing.dtype, computing.threads, talk.console
        )
        engine = drafted(engine, small)
    if prompt is None and sys.stdin.isatty() and not talk.json:
        talk.console.say("Type a text to go on from; Ctrl-D ends.")
        for number, line in enumerate(typed_lines()):
            go_on(line, seed + number)
        return
    prompt = text_or_input(prompt)
    if samples * best_of == 1 and logprobs is None and not talk.json:
        talk.write(prompt, end="")
        go_on(prompt)
        return
    drawn = engine.run([request(prompt, number) for number in range(samples * best_of)])
    streams = likeliest_of_each(best_of, drawn)
    found: dict[str, Any] = {
        "prompt": prompt,
        "texts": [stream.text for stream in streams],
        "finish": [stream.finish for stream in streams],
    }
    parts = [prompt + stream.text for stream in streams]
    if logprobs is not None:
        found["logprobs"] = [likelihoods(stream, engine.tokenizer) for stream in streams]
        parts = [f"{part}\n\n{shown(rows)}" for part, rows in zip(parts, found["logprobs"], strict=True)]
    talk.result(found, "\n\n".join(parts))


def bias(typed: str) -> tuple[int, float]:
    """A token's id and its bias, out of `ID=NUMBER`."""
    token, _, number = typed.partition("=")
    try:
        return int(token), float(number)
    except ValueError:
        raise ConfigError(f"--logit-bias is ID=NUMBER, as in 198=-inf, not {typed!r}") from None


def likelihoods(stream: Stream, tok: Tokenizer) -> list[dict[str, Any]]:
    """How likely each token of a continuation was, for `--json`."""
    return [
        {
            "token": chosen.token,
            "text": tok.decode([chosen.token]),
            "logprob": chosen.logprob,
            "top": [{"token": i, "text": tok.decode([i]), "logprob": p} for i, p in chosen.top],
        }
        for chosen in stream.chosen
    ]


def shown(rows: Sequence[dict[str, Any]]) -> str:
    """The same for people: a line a token."""
    return "\n".join(
        f"{row['logprob']:8.3f} {row['text']!r}"
        + "".join(f"   {top['logprob']:.3f} {top['text']!r}" for top in row["top"])
        for row in rows
    )
