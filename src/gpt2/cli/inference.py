"""gpt2 generate: going on from a text.

gpt2 generate reproduce "The meaning of"
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

import gpt2
from gpt2.cli.talk import (
    COMPUTING,
    TALK,
    Computing,
    Count,
    Seed,
    Talk,
    Whole,
    open_model,
    text_or_input,
    typed_lines,
)


def generate(
    model: Path,
    prompt: str | None = None,
    *,
    max_tokens: Count = 100,
    temperature: Annotated[float, Parameter(validator=Number(gte=0, lt=1e6))] = 1.0,
    top_k: Whole = 40,
    samples: Count = 1,
    seed: Seed = 0,
    computing: Computing = COMPUTING,
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
    temperature:
        Divides the logits; 0 takes the most likely token each time.
    top_k:
        Draw among the k most likely tokens; 0 among all.
    samples:
        Continuations to draw.
    seed:
        Decides the draws.
    """
    compute = computing.choose()
    m = open_model(model, compute)
    how: dict[str, Any] = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_k": top_k or None,
        "compute": compute,
    }
    if prompt is None and sys.stdin.isatty() and not talk.json:
        talk.console.say("Type a text to go on from; Ctrl-D ends.")
        for number, line in enumerate(typed_lines()):
            for piece in gpt2.stream(m, line, seed=seed + number, **how):
                talk.write(piece, end="")
            talk.write("")
        return
    prompt = text_or_input(prompt)
    if samples == 1 and not talk.json:
        talk.write(prompt, end="")
        for piece in gpt2.stream(m, prompt, seed=seed, **how):
            talk.write(piece, end="")
        talk.write("")
        return
    texts = gpt2.generate(m, [prompt] * samples, seed=seed, **how)
    talk.result({"prompt": prompt, "texts": texts}, "\n\n".join(prompt + t for t in texts))
