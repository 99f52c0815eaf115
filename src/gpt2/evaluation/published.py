"""What the paper prints, what others measured with OpenAI's weights, and what a difference means.

Two columns stand beside every result of ours. The *paper's* value is what Tables 3 and 4 and Figures 1 and 3
print for the size (those of figures are digitised, which their source says). The *reproducible* value is what
others measured with OpenAI's released weights under the very protocol, with its source. They differ, since the
paper leaves choices unsaid; so a result is held against every published value of its task and metric, and the
verdict names the rule under which the one it agrees with was made: 46.67 is LAMBADA's last token by itself.

A value agrees with a published one within the interval when only part of the data was measured, and on the
whole split, where the same weights must give the same number, within `WITHIN`: one rounding, or a handful of
items that another number format decides otherwise. A verdict is given for OpenAI's four shapes with GPT-2's
vocabulary. For any other model the paper's smallest stands beside it as context.

    judge("124M", protocol, 46.67, (45.3, 48.0), whole=True).verdict

Rejected: a band around the paper's own numbers, which no one has measured again to the digit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from gpt2.evaluation.protocol import Protocol

if TYPE_CHECKING:
    from gpt2.model.checkpoint import Model

WITHIN = {"percent": 0.15, "perplexity": 0.005, "bits": 0.006, "mean": 0.15, "bleu": 0.15}
"""How near the same number is, by statistic: points; of a perplexity, the share of it."""
CONTEXT = "124M"
"""Whose value of the paper stands beside a model that is not OpenAI's."""


@dataclass(frozen=True)
class Published:
    """A number that someone published for some of OpenAI's models."""

    task: str
    metric: str
    source: str
    values: Mapping[str, float]
    """By the size's released name."""
    protocols: Sequence[str] = ()
    """The protocols of ours under which it was measured; for the paper's, those that it belongs to, if not
    to all of the task."""
    rule: str = ""
    """The choices that make the number what it is, in words."""
    within: float | None = None
    """How exactly it is known, when less so than it is printed."""

    def near(self, size: str, protocol: Protocol, value: float, span: tuple[float, float]) -> bool:
        """Whether a result is this number: `span` is what the result may be, up to rounding."""
        own = self.values[size]
        return abs(value - own) <= self.allowed(size, protocol) or span[0] <= own <= span[1]

    def allowed(self, size: str, protocol: Protocol) -> float:
        """How far the same number may be from it, without chance."""
        scale = self.values[size] if protocol.statistic == "perplexity" else 1.0
        return max(WITHIN[protocol.statistic] * scale, self.within or 0.0)


@dataclass(frozen=True)
class Line:
    """A number that the paper compares with: people, baselines, the best before it."""

    task: str
    metric: str
    name: str
    value: float
    source: str


@dataclass(frozen=True)
class Known:
    """All that was published."""

    paper: list[Published] = field(default_factory=list)
    measured: list[Published] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)


@dataclass(frozen=True)
class Judgement:
    """What stands beside a result."""

    paper: float | None = None
    paper_size: str | None = None
    """Whose it is, when it is not of the model's own size."""
    reproducible: float | None = None
    source: str = ""
    verdict: str = ""


@cache
def known() -> Known:
    """What was published, out of the package."""
    held = json.loads((resources.files("gpt2.evaluation") / "data" / "published.json").read_text("utf-8"))
    return Known(
        [Published(**row) for row in held["paper"]],
        [Published(**row) for row in held["measured"]],
        [Line(**row) for row in held["lines"]],
    )


def lines_of(task: str) -> list[Line]:
    """What the paper compares with on a task."""
    return [line for line in known().lines if line.task == task]


def size_of(model: Model) -> str | None:
    """Which of OpenAI's sizes a model has the shape and vocabulary of, by its released name."""
    from gpt2.model.config import SIZES, GPT2Config

    return next((name for name in SIZES if GPT2Config.size(name) == model.net.config), None)


def of_paper(protocol: Protocol) -> Published | None:
    """What the paper prints for a protocol's task and metric; of numbers per token it prints none."""
    if protocol.denominator == "token":
        return None
    same = [p for p in known().paper if (p.task, p.metric) == (protocol.task, protocol.metric)]
    named = [p for p in same if protocol.id in p.protocols]
    return next(iter([*named, *(p for p in same if not p.protocols)]), None)


def judge(
    size: str | None,
    protocol: Protocol,
    value: float | None,
    interval: tuple[float, float] | None = None,
    whole: bool = False,
) -> Judgement:
    """What was published beside a result of a model of `size`, and what follows; without a value, no verdict.

    `whole` says that the whole split was measured, so that the value has no chance left in it.
    """
    paper = of_paper(protocol)
    if size is None:
        context = paper.values.get(CONTEXT) if paper else None
        one = paper is not None and len(set(paper.values.values())) == 1 < len(paper.values)
        return Judgement(context, None if context is None or one else CONTEXT)  # a baseline has no size
    own = next((m for m in known().measured if protocol.id in m.protocols and size in m.values), None)
    beside = Judgement(
        paper.values.get(size) if paper else None,
        reproducible=own.values[size] if own else None,
        source=f"{own.source}: {own.rule}" if own else "",
    )
    if value is None:
        return beside
    span = (value, value) if whole else interval
    verdict = compared(size, protocol, value, span, paper, own)
    return Judgement(beside.paper, None, beside.reproducible, beside.source, verdict)


def compared(
    size: str,
    protocol: Protocol,
    value: float,
    span: tuple[float, float] | None,
    paper: Published | None,
    own: Published | None,
) -> str:
    """The verdict, in one sentence; `span` is what the result may be, None when nothing is known of that."""
    same = [
        p
        for p in [*known().measured, *known().paper]
        if (p.task, p.metric) == (protocol.task, protocol.metric) and size in p.values
    ]
    if not same:
        return "no published value"
    if span is None:
        return "too few items for a verdict"
    near = [p for p in same if p.near(size, protocol, value, span)]
    near.sort(key=lambda p: abs(p.values[size] - value))
    if span[0] < span[1]:  # within an interval the protocol's own comes first; without chance, the nearest
        near.sort(key=lambda p: p is not own)
    printed = f"the paper's {paper.values[size]:g}" if paper and size in paper.values else ""
    if not near:
        if own is None:
            return f"nobody has published this protocol; {difference(value, printed, paper, size)}".rstrip(
                "; "
            )
        return f"differs from {own.values[size]:g} ({own.rule}) and from every other published value"
    best, *others = near
    exact = abs(best.values[size] - value) <= best.allowed(size, protocol)
    if best is paper:
        said = f"equals {printed}" if exact else f"{printed} is within the interval"
    else:
        number = f"{best.values[size]:g} is {best.rule}"
        said = f"as published: {number}" if best is own else f"the published {number} ({best.source})"
        said = said if exact else said.replace("published", "published, within the interval", 1)
    if span[0] < span[1] and others:
        said += "; so is " + ", and ".join(f"{p.values[size]:g}, {p.rule or 'the paper'}" for p in others)
    elif best is not paper and printed and paper is not None and paper not in near and paper.rule:
        said += f"; {printed} is {paper.rule}"
    return said


def difference(value: float, printed: str, paper: Published | None, size: str) -> str:
    """How far a value is from the paper's, and by which rule that was made."""
    if not printed or paper is None:
        return ""
    why = f", which is {paper.rule}" if paper.rule else ""
    return f"{value - paper.values[size]:+.3g} from {printed}{why}"
