"""A protocol: every choice behind a number, by name.

Why no two programs agree on GPT-2's results is that each hides choices: which copy of the data, how it is
de-tokenised, how far back a token may look, which of its tokens count, and what the sum is divided by. Here
each is a field, a result carries its protocol always, and the numbers that others published stand beside it:
the paper's own, and those that others measured with OpenAI's weights (`gpt2.evaluation.published`).

    gpt2 tasks
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Statistic = Literal["mean", "percent", "perplexity", "bits", "bleu"]
"""From the sums of an item's numerator and denominator: their ratio, 100 times it, exp of it, it over ln 2;
or corpus BLEU, which is no ratio."""


@dataclass(frozen=True)
class Protocol:
    """How one number is made."""

    task: str
    """What is measured: lambada, wikitext2, ..."""
    name: str
    """Which way of measuring: the values below in a word or two, unique within the task."""
    metric: str
    """What comes out: accuracy, perplexity, bits per byte, F1, ROUGE-L, BLEU, exact match."""
    data: str
    """The copy of the data, by its name in `gpt2.evaluation.datasets`."""
    statistic: Statistic
    """How the items' numbers become the result."""
    unit: str = "item"
    """What intervals are drawn over: document, story, schema pair, passage."""
    detokenizer: str = "none"
    """Which function of `gpt2.evaluation.detokenize` the text went through."""
    window: int | None = None
    """Tokens read at most; the model's context when None."""
    stride: int | None = None
    """Tokens between windows; the window when None."""
    start: str = "endoftext"
    """What stands before the first token: endoftext, none, or newline."""
    target: str = ""
    """Which tokens are scored, or must be right."""
    denominator: str = ""
    """What the sum is divided by."""
    prompt: str = ""
    """The text around an item, with its fields in braces."""
    decoding: str = ""
    """How text is generated."""
    cut: str = ""
    """Where a generated answer ends."""
    most_confident: float = 1.0
    """The share of items that counts, those the model was surest of (`Measured.confidence`), at least one."""
    version: int = 1
    """Raised when the same protocol gives another number than before."""

    @property
    def id(self) -> str:
        """Its full name: lambada/last-word."""
        return f"{self.task}/{self.name}"
