"""The funnel of a corpus: how many came through each step, why the rest did not, and examples of it.

Nothing is dropped in silence. Each step counts what it passed on; each drop is counted under its step and
reason, and a few of what each reason dropped are kept as examples: those whose ids have the smallest hashes,
so that the same documents give the same examples, whichever worker met them first. Funnels of shards add up
to the funnel of the whole. Rejected: the first ones met, which are all of one site. The drops of a step add up
to the difference of two counts. What was taken out of texts that stay, or was lost before it could be counted,
is in other units (lines, signs, stretches of a file) and has a list of its own.

    funnel.dropped("cleaning", "language", id=document.id, text=document.text, detail="fr, 0.99")
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gpt2.workspace import Json

EXAMPLES = 10
"""Kept for each reason."""
SHOWN = 300
"""Characters of an example's text."""


@dataclass(frozen=True)
class Step:
    """A step of the recipe, as the funnel shows it."""

    name: str
    unit: str
    note: str = ""


class Funnel:
    """Counts what comes through each step, and why the rest does not."""

    def __init__(self) -> None:
        self.passing: Counter[str] = Counter()
        self.reasons: Counter[tuple[str, str]] = Counter()
        self.pieces: Counter[tuple[str, str]] = Counter()
        self.kept: dict[tuple[str, str], list[Json]] = {}

    def passed(self, step: str, n: int = 1) -> None:
        """`n` more came through a step."""
        self.passing[step] += n

    def dropped(
        self, step: str, reason: str, n: int = 1, *, id: str = "", text: str = "", detail: str = ""
    ) -> None:
        """A step dropped `n` for a reason; `id`, `text` and `detail` tell of one of them."""
        self.reasons[step, reason] += n
        if id:
            shown = text if len(text) <= SHOWN else text[:SHOWN].rsplit(None, 1)[0] + " …"
            self._keep((step, reason), {"id": id[:SHOWN], "detail": detail, "text": shown})

    def took(self, step: str, what: str, n: int = 1) -> None:
        """A step took `n` pieces out of texts, or lost them before they could be counted."""
        self.pieces[step, what] += n

    def _keep(self, of: tuple[str, str], example: Json) -> None:
        kept = self.kept.setdefault(of, [])
        if len(kept) == EXAMPLES and rank(example) > rank(kept[-1]):
            return
        distinct: dict[str, Json] = {}
        for one in sorted([*kept, example], key=rank):
            distinct.setdefault(one["id"], one)
        kept[:] = [*distinct.values()][:EXAMPLES]

    def add(self, told: Json) -> None:
        """Add what another funnel tells in `json`."""
        self.passing.update(told["passed"])
        for row in told["drops"]:
            of = (row["step"], row["reason"])
            self.reasons[of] += row["count"]
            for example in row["examples"]:
                self._keep(of, example)
        for row in told.get("taken", []):
            self.pieces[row["step"], row["what"]] += row["count"]

    @property
    def json(self) -> Json:
        """All that is counted and kept, for a file."""
        return {"passed": dict(self.passing), "drops": self.drops(examples=True), "taken": self.taken()}

    def drops(self, examples: bool = False) -> list[Json]:
        """Reasons of drops, the most frequent first; with `examples` those too."""
        ordered = sorted(self.reasons.items(), key=lambda item: (-item[1], item[0]))
        rows: list[Json] = [{"step": s, "reason": r, "count": n} for (s, r), n in ordered if n]
        if examples:
            rows = [row | {"examples": self.kept.get((row["step"], row["reason"]), [])} for row in rows]
        return rows

    def taken(self) -> list[Json]:
        """What was taken out of texts, or lost before it could be counted, the most frequent first."""
        ordered = sorted(self.pieces.items(), key=lambda item: (-item[1], item[0]))
        return [{"step": step, "what": what, "count": n} for (step, what), n in ordered if n]

    def rows(self, steps: Iterable[Step], notes: Mapping[str, str] | None = None) -> list[Json]:
        """How many came through each of `steps`, in order, with a note for some."""
        return [
            {
                "step": step.name,
                "count": self.passing[step.name],
                "unit": step.unit,
                "note": (notes or {}).get(step.name, step.note),
            }
            for step in steps
        ]


def rank(example: Json) -> tuple[int, str, str, str]:
    """Where an example stands in an order that depends on nothing but itself."""
    id = example["id"]
    return zlib.crc32(id.encode(errors="surrogatepass")), id, example["detail"], example["text"]
