"""A task: items out of data, what is asked of the model for each, and what its answers are worth.

Five kinds of request cover all of the paper's tasks. A task turns the rows of its data into items, each with
its requests; `gpt2.evaluation.run` puts them to the model, many at a time, and hands each item its replies;
`follow` may ask more, knowing them; `measure` turns all replies into a numerator and a denominator for every
protocol of the task. So all protocols of a task are measured in one pass, a run can stop after any item, and
intervals are drawn over items or groups.

    class Parity(Task):
        protocols = (Protocol("parity", "even", "accuracy", data="parity", statistic="percent"),)

        def items(self, rows):
            for i, row in enumerate(rows):
                yield Item(str(i), [Choices(row["context"], [" odd", " even"])], facts=row)

        def measure(self, item, replies):
            scores = [s.logprob for s in replies[0]]
            return {"even": Measured(float(scores[1] > scores[0]), 1.0)}

A file of tasks imports neither torch nor numpy at its top, so that `gpt2 tasks` starts at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from gpt2.evaluation.protocol import Protocol
from gpt2.inference.passages import Passage
from gpt2.workspace import Json

if TYPE_CHECKING:
    from gpt2.inference.scoring import Score


@dataclass(frozen=True)
class LogLikelihood:
    """How likely `continuation` is after `context`; the reply is a `Score` of the continuation."""

    context: str
    """May be empty. A context longer than the window loses its beginning."""
    continuation: str
    start: str = "endoftext"
    """What stands before the context: endoftext or none."""


@dataclass(frozen=True)
class Rolling:
    """How likely all of a text is; the reply is a `Score` of all its tokens."""

    text: str
    start: str = "endoftext"
    stride: int | None = None
    """Tokens between windows; the model's context when None."""


@dataclass(frozen=True)
class Choices:
    """Several (context, continuation) pairs to compare; the reply is a list of `Score`, one a pair."""

    pairs: Sequence[tuple[str, str]]
    start: str = "endoftext"


@dataclass(frozen=True)
class Generate:
    """How the model goes on from a prompt; the reply is the text generated, before any of `until`."""

    prompt: str
    """Of a prompt that does not fit beside `max_tokens`, the newest part is read."""
    max_tokens: int
    until: Sequence[str] = ()
    """Generation ends where one of these begins."""
    top_k: int | None = None
    """None is greedy; otherwise drawn among the k likeliest at temperature 1, seeded by the item's id."""
    ending: str = ""
    """Stands after the prompt and is read whole: with an ending, a prompt that does not fit loses its end."""


Request = LogLikelihood | Rolling | Passage | Choices | Generate
"""A `Passage` is a part of a text that is read as a whole; the reply is a `Score` of its tokens."""
Reply: TypeAlias = "Score | list[Score] | str"


@dataclass(frozen=True)
class Item:
    """One question of a task, and what is asked of the model for it."""

    id: str
    """Unique in the task, and the same in every run."""
    requests: Sequence[Request]
    group: str = ""
    """What intervals are drawn over; the item itself when empty."""
    facts: Json = field(default_factory=dict)
    """What `measure` needs and the file of items shows: prompt, answer, row number. Only what JSON can hold."""


@dataclass(frozen=True)
class Measured:
    """What one item adds to a protocol's result: the ratio of the sums over items is what counts."""

    numerator: float
    denominator: float = 1.0
    output: str = ""
    """What the model said, for the file of items; for BLEU, the hypothesis that is scored."""
    reference: str = ""
    """For BLEU only: the reference."""
    confidence: float | None = None
    """How sure the model was, where a protocol asks for it: a probability."""


@dataclass(frozen=True)
class Malformed:
    """A row that cannot be asked, and why; it is counted and named, never silently left out."""

    id: str
    reason: str


class Task(ABC):
    """What every file of `gpt2.evaluation.tasks` has at least one of."""

    name: str
    """As in `--tasks`."""
    protocols: tuple[Protocol, ...]
    """All ways of measuring it, taken in one pass over one data set."""
    whole: int | None = None
    """Items in the whole split that the paper measured."""
    on_request: bool = False
    """Whether it is left out unless one of its protocols is asked for by name: strides that take hours."""

    @abstractmethod
    def items(self, rows: Sequence[Any]) -> Iterator[Item | Malformed]:
        """Items out of the rows of the data set."""

    def follow(self, item: Item, replies: Sequence[Reply]) -> Sequence[Request]:  # noqa: ARG002
        """What is asked next, knowing all replies so far; nothing when the item is done.

        For what depends on the model's own words: the next turn of a conversation, how sure it was of them.
        """
        return ()

    @abstractmethod
    def measure(self, item: Item, replies: Sequence[Reply]) -> Mapping[str, Measured]:
        """By the name of each protocol that has something to say of this item, what it adds.

        `replies` are those to the item's requests, then those to what followed.
        """

    def remarks(
        self,
        rows: Sequence[Any],  # noqa: ARG002
        done: Sequence[tuple[Item, Mapping[str, Measured]]],  # noqa: ARG002
    ) -> Sequence[str]:
        """Lines to print with the results: example pairs out of the data, the most confident answers."""
        return ()
