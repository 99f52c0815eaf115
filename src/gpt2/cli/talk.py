"""How every command talks: how it takes numbers, what it computes with, where its words go.

Results go to standard output and everything else to standard error, so that `gpt2 ... > file` holds the
result alone; `--json` makes it one JSON object. All writing goes through `Talk`, which knows both.
A number may be typed as people write it: 20000, 20_000, 2e4, 20K, 10M, 1.5B. cyclopts by itself would round
1.5 to 2 without a word.

    gpt2 tokens encode "to be or not" --json
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter, Token
from cyclopts.validators import Number

from gpt2.console import Console, shown, table
from gpt2.errors import FormatError, InputError
from gpt2.workspace import plain

if TYPE_CHECKING:
    from gpt2.model.checkpoint import Model
    from gpt2.model.device import Compute

SCALES = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}


def whole(kind: Any, tokens: Sequence[Token]) -> int:  # noqa: ARG001
    """A whole number as people type it; `ValueError` for anything else."""
    typed = tokens[0].value
    match = re.fullmatch(r"([-+]?[\d_.]+(?:[eE]\+?\d{1,2})?)([KMB]?)", typed.strip(), re.ASCII)
    try:
        number = Decimal(match[1].replace("_", "")) * SCALES[match[2]] if match else Decimal("nan")
    except InvalidOperation:
        number = Decimal("nan")
    if number.is_nan() or number != int(number):
        raise ValueError(f'"{typed}" is not a whole number such as 300, 2e6 or 10M.')
    return int(number)


Whole = Annotated[int, Parameter(converter=whole, validator=Number(gte=0, lt=10**15))]
"""0 or more."""
Count = Annotated[int, Parameter(converter=whole, validator=Number(gte=1, lt=10**15))]
"""1 or more."""
Size = Annotated[int, Parameter(converter=whole, validator=Number(gte=1, lte=100_000))]
"""1 or more, but no more than any model has."""
Seed = Annotated[int, Parameter(converter=whole, validator=Number(gte=0, lt=2**32))]
"""What decides random choices."""
Threads = Annotated[int, Parameter(converter=whole, validator=Number(gte=1, lte=1024))]
"""Processor threads."""
Flag = Annotated[bool, Parameter(show_default=False)]
"""On when it is given."""
Amount = Annotated[float, Parameter(validator=Number(gt=0, lt=10**9))]
"""Above 0, and neither infinite nor NaN."""


@Parameter(name="*", group=Group("Computing", sort_key=90))
@dataclass(frozen=True)
class Computing:
    """What to compute with."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Format of matrix products; auto takes bfloat16 where the hardware multiplies it."""
    threads: Threads | None = None
    """Processor threads; as many as there are cores when not given."""

    def choose(self) -> Compute:
        """The choice, resolved for this machine."""
        from gpt2.model.device import choose

        return choose(self.device, self.dtype, self.threads)


@Parameter(name="*", group=Group("Computing", sort_key=90))
@dataclass(frozen=True)
class ComputingExactly(Computing):
    """The same, in float32 unless asked otherwise."""

    dtype: Literal["auto", "float32", "bfloat16"] = "float32"
    """Format of matrix products; auto takes bfloat16 where the hardware multiplies it."""


@Parameter(name="*", group=Group("Computing", sort_key=90))
@dataclass(frozen=True)
class ComputingLightly:
    """What to compute with, weights in fewer bits among it."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    dtype: Literal["auto", "float32", "bfloat16", "int8", "int4"] = "auto"
    """Format of matrix products; auto takes bfloat16 where the hardware multiplies it. int8 and int4 keep a copy
    of the weights in 8 and 4 bits in the cache, and are the quickest on a processor."""
    threads: Threads | None = None
    """Processor threads; as many as there are cores when not given."""


@Parameter(name="*", group=Group("Output", sort_key=99))
@dataclass(frozen=True)
class Talk:
    """How a command speaks."""

    json: Flag = False
    """Print the result as one JSON object, and nothing else on standard output."""
    quiet: Flag = False
    """Show no progress."""

    @property
    def console(self) -> Console:
        """Where progress goes."""
        return Console(quiet=self.quiet)

    def write(self, text: str, end: str = "\n") -> None:
        """Text for people, at once; nothing with `--json`."""
        if not self.json:
            put(text + end)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table for people; nothing with `--json`."""
        self.write(table(header, rows))

    def facts(self, values: Mapping[str, Any]) -> None:
        """A result that is a few facts: one a line, or as JSON."""
        self.result(
            values, "\n".join(f"{name.replace('_', ' '):16} {shown(v)}" for name, v in values.items())
        )

    def result(self, value: Any, text: str) -> None:
        """A result, for programs or for people."""
        if not self.json:
            put(text + "\n")
            return
        try:
            put(json.dumps(value, default=plain, ensure_ascii=not in_utf8(), allow_nan=False) + "\n")
        except ValueError:
            raise FormatError(
                "the result has a number that is infinite or NaN, which JSON cannot say; is the model damaged?"
            ) from None


TALK, COMPUTING, EXACTLY, LIGHTLY = Talk(), Computing(), ComputingExactly(), ComputingLightly()


def in_utf8() -> bool:
    """Whether standard output takes every character; JSON is written in ASCII where it does not."""
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def put(text: str) -> None:
    """Text to standard output, at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def text_or_input(text: str | None) -> str:
    """A text given as argument, or else standard input; `InputError` when it is not UTF-8."""
    try:
        if text is not None:
            text.encode()
            return text
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise InputError(f"standard input is not UTF-8 text (byte {error.start:,}); give text") from None
    except UnicodeEncodeError as error:
        raise InputError(f"the text is not UTF-8 (character {error.start:,}); give text") from None


def typed_lines() -> Iterator[str]:
    """Lines typed at a terminal, until end of file."""
    while True:
        try:
            yield input("> ")
        except EOFError:
            put("\n")
            return


def open_model(path: Path, compute: Compute) -> Model:
    """The model at `path`, on the device chosen."""
    from gpt2.model.checkpoint import load

    model = load(path)
    model.net.to(compute.device)
    return model
