"""Winograd schemas: which of two a pronoun means, with a twin where it means the other (paper 3.4).

The candidates take the pronoun's place, one after the other (Trinh and Le 2018). *Partial* scoring compares
how likely what follows is, given the text up to and with the candidate; *full* scoring, how likely the whole
sentence is. The paper plots both; its 70.70 % of the largest model is partial. A tie is no answer.

How a candidate is written decides some items, and differs from program to program:

    partial, full           as a sentence needs it: a capital where one begins, small articles and pronouns
                            elsewhere; 's for a possessive pronoun, or only ' after an s
    ...-as-given            as the file has it, possessive or not, with its capitals
    harness                 partial as lm-evaluation-harness does it (task wsc273): articles and pronouns are
                            small unless a full stop stands two characters before them, 's for my, his, her,
                            our and their; two spaces before what follows; no <|endoftext|> in front

The files of WSC273 and PDP-60 have [MASK] in place of the pronoun, which is no word to tell possessives by;
but the problems are known, and `POSSESSED` lists what follows a possessive pronoun in them. In the other form
of WSC273, JSON lines with the candidate in its place already, partial and full scoring ask for the very same.
In the files of DPR the pronoun stands as it is; where it stands twice, the first is meant.

Intervals are drawn over twins: a problem belongs to the one before it, if that has no twin yet and the two
share a candidate.

    gpt2 evaluate MODEL --tasks winograd dpr pdp
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt2.errors import FormatError
from gpt2.evaluation.protocol import Protocol
from gpt2.evaluation.rows import read_json_lines, read_lines
from gpt2.evaluation.task import Choices, Item, Malformed, Measured, Reply, Task
from gpt2.workspace import Json

MASK = "[MASK]"
POSSESSIVE = ("my", "his", "her", "our", "their", "its", "your")
POSSESSED = re.compile(
    r"(?:education|place|empty glass|bathroom key|\"Dibs|bishop|turn|shoulders|bunk bed|back,|toy|silence"
    r"|concentration|legs|arms|bassinet|chest|will\.|boyfriend"  # WSC273
    r"|boss|everlasting|feet|wing|approval|innate|financial|hair|favorite|work|crew|shoulder|berth|Sunday)\b"
)
"""What begins after a possessive pronoun in the masked problems of WSC273 and PDP-60."""
HER_IS_OBJECT = re.compile(r"\b(?:make|made|let|saw|watched|heard|helped) $")
"""Before a `her` that is no possessive, though a word follows."""
SMALL = "The A An He She It They We You My His Her Its Our Their Your This That These Those".split()  # noqa: SIM905
HARNESS_SMALL = "A An The She He It They My His Her Their".split()  # noqa: SIM905
"""Words that lm-evaluation-harness begins with a small letter."""


def read_wsc273(path: Path) -> list[Json | Malformed]:
    """WSC273 with [MASK]: four lines a problem (sentence, pronoun, candidates, answer), then a blank line."""
    return read_problems(path)


def read_pdp60(path: Path) -> list[Json | Malformed]:
    """PDP-60, in the same form; two to five candidates."""
    return read_problems(path)


def read_dpr(path: Path) -> list[Json | Malformed]:
    """DPR, in the same form with the pronoun in its place."""
    return read_problems(path)


def read_problems(path: Path) -> list[Json | Malformed]:
    """Problems of four lines each, with a blank line between."""
    blocks: list[list[str | Malformed]] = [[]]
    for line in read_lines(path):
        if isinstance(line, Malformed) or line.strip():
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    rows = [parsed(str(i), lines) for i, lines in enumerate(blocks) if lines]
    if all(isinstance(row, Malformed) for row in rows):
        raise FormatError(
            f"{path} has no problem of four lines: the sentence, its pronoun, the candidates with commas between, "
            "the answer; give the file as it was published"
        )
    return rows


def parsed(name: str, lines: Sequence[str | Malformed]) -> Json | Malformed:
    """A problem's parts, or what is wrong with it."""
    if bad := next((line for line in lines if isinstance(line, Malformed)), None):
        return Malformed(name, bad.reason)
    if len(lines) != 4:
        return Malformed(name, f"{len(lines)} lines instead of 4")
    text, pronoun, among, answer = (" ".join(str(line).split()) for line in lines)
    found = re.search(rf"(?<!\w){re.escape(pronoun)}(?!\w)", text)
    candidates = [c.strip() for c in among.split(",")]
    if not found:
        return Malformed(name, f"the pronoun {pronoun!r} is not in the sentence")
    return checked(name, text[: found.start()], pronoun, text[found.end() :], candidates, answer)


def checked(
    name: str, before: str, pronoun: str, after: str, candidates: list[str], answer: str
) -> Json | Malformed:
    """A problem, or what is wrong with it. `after` loses a space that a masked file has before a stop."""
    if len(set(candidates)) < 2 or not all(candidates):
        return Malformed(name, "not two different candidates")
    if answer not in candidates:
        return Malformed(name, "the answer is none of the candidates")
    after = re.sub(r"^ (?=[.,;:!?])", "", after)
    if not after:
        return Malformed(name, "nothing follows the pronoun")
    pronoun = pronoun if pronoun != MASK else "their" if POSSESSED.match(after.lstrip()) else "they"
    return {"before": before, "pronoun": pronoun, "after": after, "candidates": candidates, "answer": answer}


def read_substituted(path: Path) -> list[Json | Malformed]:
    """JSON lines with the candidates in place: `context_options`, `continuation`, `gold`."""
    fields = {"context_options": list, "continuation": str, "gold": int}
    rows = enumerate(read_json_lines(path, fields))
    return [row if isinstance(row, Malformed) else taken_apart(str(i), row) for i, row in rows]


def taken_apart(name: str, row: Json) -> Json | Malformed:
    """A problem out of its substituted form: the words that the contexts begin with alike stand before."""
    options, gold = row["context_options"], row["gold"]
    if not all(isinstance(option, str) for option in options) or not 0 <= gold < len(options):
        return Malformed(name, "'gold' is the place of none of the texts in 'context_options'")
    words = [option.split(" ") for option in options]
    shared = min(map(len, words)) - 1
    while any(some[:shared] != words[0][:shared] for some in words):
        shared -= 1
    before = " ".join([*words[0][:shared], ""])
    candidates = [" ".join(some[shared:]) for some in words]
    after = row["continuation"] if row["continuation"][:1] in ".,;:!?" else f" {row['continuation']}"
    return checked(name, before, "they", after, candidates, candidates[gold])


def possessive(row: Json) -> bool:
    """Whether the pronoun means something of the candidate's; `her` does, where a word goes with it."""
    pronoun = row["pronoun"].lower()
    if pronoun == "her":
        return bool(re.match(r" (?!to\b)\w", row["after"])) and not HER_IS_OBJECT.search(row["before"])
    return pronoun in POSSESSIVE


def fitted(row: Json, candidate: str) -> str:
    """The candidate as its place in the sentence needs it."""
    first, space, others = candidate.partition(" ")
    if re.search(r"(?:^|[.!?]\"? )\"?$", row["before"]):
        first = first[0].upper() + first[1:]
    elif first in SMALL:
        first = first.lower()
    candidate = first + space + others
    return candidate + ("'" if candidate.endswith("s") else "'s") if possessive(row) else candidate


def as_given(row: Json, candidate: str) -> str:  # noqa: ARG001
    """The candidate as the file has it."""
    return candidate


def as_harness(row: Json, candidate: str) -> str:
    """The candidate as lm-evaluation-harness writes it."""
    if row["pronoun"].lower() in POSSESSIVE[:5]:
        candidate += "'s"
    first = candidate.split()[0]
    if row["before"][-2:-1] != "." and first in HARNESS_SMALL:
        candidate = candidate.replace(first, first.lower())
    return candidate


SPELLINGS: dict[str, Callable[[Json, str], str]] = {"": fitted, "-as-given": as_given}


class Winograd(Task):
    """Problems of one set; `harness` where lm-evaluation-harness has the set."""

    def __init__(self, name: str, data: str, whole: int, harness: bool = False) -> None:
        self.name, self.whole, self.harness = name, whole, harness
        targets = {"partial": "what follows the pronoun", "full": "the whole sentence"}
        made = [(kind + end, text) for end in SPELLINGS for kind, text in targets.items()]
        made += [("harness", targets["partial"])] if harness else []
        self.protocols = tuple(
            Protocol(
                name,
                protocol,
                "accuracy",
                data,
                "percent",
                unit="schema",
                start="none" if protocol == "harness" else "endoftext",
                target=f"likeliest with the right candidate: {target}",
                denominator="problems",
                prompt="{sentence with the candidate in the pronoun's place}",
            )
            for protocol, target in made
        )

    def items(self, rows: Sequence[Json | Malformed]) -> Iterator[Item | Malformed]:
        """The sentence with each candidate, in each spelling."""
        before: set[str] = set()
        schema = ""
        for i, row in enumerate(rows):
            if isinstance(row, Malformed):
                before = set()
                yield row
                continue
            names = {candidate.lower() for candidate in row["candidates"]}
            twin = bool(names & before)
            schema = schema if twin else f"schema {i}"
            before = set() if twin else names
            requests = []
            for spell in SPELLINGS.values():
                texts = [row["before"] + spell(row, candidate) for candidate in row["candidates"]]
                requests.append(Choices([(text, row["after"]) for text in texts]))
                requests.append(Choices([("", text) for text in texts]))
            if self.harness:
                texts = [row["before"] + as_harness(row, candidate) for candidate in row["candidates"]]
                requests.append(Choices([(text, " " + row["after"]) for text in texts], start="none"))
            yield Item(str(i), requests, schema, row)

    def measure(self, item: Item, replies: Sequence[Reply]) -> Mapping[str, Measured]:
        """Whether the right candidate is likelier than the others; full scores are the sums of two parts."""
        given: Any = replies
        values = []
        for k in range(0, 2 * len(SPELLINGS), 2):
            partial, head = ([s.logprob for s in scores] for scores in given[k : k + 2])
            values += [partial, [a + b for a, b in zip(partial, head, strict=True)]]
        values += [[s.logprob for s in given[-1]]] if self.harness else []
        return {p.name: best(item, v) for p, v in zip(self.protocols, values, strict=True)}


def best(item: Item, values: Sequence[float]) -> Measured:
    """1 when the answer is likelier than every other candidate; as output, the likeliest."""
    candidates: list[str] = item.facts["candidates"]
    right = candidates.index(item.facts["answer"])
    won = all(value < values[right] for k, value in enumerate(values) if k != right)
    return Measured(float(won), output=candidates[values.index(max(values))])


TASKS = (
    Winograd("winograd", "wsc273", 273, harness=True),
    Winograd("dpr", "dpr", 564),
    Winograd("pdp", "pdp60", 60),
)
