"""WMT 2014, English and French (paper 3.7).

The model reads example pairs, `english sentence = french sentence`, a line each, then the sentence and `=`,
and goes on greedily to the line's end. For French to English the sides change places. Which pairs, and how
many, the paper does not say: here the first `EXAMPLES` of newstest2013, in their order, which the run's
remarks show. Two cuts of the same answer:

    first-sentence   as the paper has it; of a line with two sentences the second is lost
    line             all of the line

BLEU is sacrebleu's of the whole corpus on newstest2014, with its signature in the remarks.

    gpt2 evaluate MODEL --tasks translation-fr-en
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from gpt2.errors import FormatError
from gpt2.evaluation.answers import bleu
from gpt2.evaluation.protocol import Protocol
from gpt2.evaluation.rows import read_lines
from gpt2.evaluation.sentences import cut
from gpt2.evaluation.task import Generate, Item, Malformed, Measured, Reply, Task
from gpt2.workspace import Json

EXAMPLES = 5
ANSWER = 192
"""Tokens of a translation at most: GPT-2's vocabulary needs two for a French word."""
NAMES = {"en": "english", "fr": "french"}


def read(source: Path, target: Path, example_source: Path, example_target: Path) -> list[Json | Malformed]:
    """Line-aligned files: the lines to translate, then those that example pairs are taken from."""
    examples = pairs(example_source, example_target, "example ")[:EXAMPLES]
    broken = [f"{row.id} is {row.reason}" for row in examples if isinstance(row, Malformed)]
    if broken or len(examples) < EXAMPLES:
        reason = broken[0] if broken else f"there are {len(examples)}"
        raise FormatError(
            f"{example_source} and {example_target} do not begin with {EXAMPLES} pairs ({reason}); give "
            "newstest2013 as it was published"
        )
    return [*examples, *pairs(source, target)]


def pairs(source: Path, target: Path, kind: str = "") -> list[Json | Malformed]:
    """Line i of one file with line i of the other; an id says of which kind it is."""
    ours, theirs = read_lines(source), read_lines(target)
    if len(ours) != len(theirs):
        raise FormatError(
            f"{source} has {len(ours):,} lines and {target} has {len(theirs):,}; give files that were made together"
        )
    return [paired(f"{kind}{i}", a, b) for i, (a, b) in enumerate(zip(ours, theirs, strict=True))]


def paired(name: str, source: str | Malformed, target: str | Malformed) -> Json | Malformed:
    """A pair of sentences; or what is wrong with it."""
    if isinstance(source, Malformed):
        return Malformed(name, source.reason)
    if isinstance(target, Malformed):
        return Malformed(name, target.reason)
    if not source.strip() or not target.strip():
        return Malformed(name, "an empty line")
    return {"id": name, "source": source.strip(), "target": target.strip()}


class Translation(Task):
    """One direction."""

    whole = 3003

    def __init__(self, source: str, target: str) -> None:
        self.name = f"translation-{source}-{target}"
        ours, theirs = NAMES[source], NAMES[target]
        self.protocols = tuple(
            Protocol(
                self.name,
                name,
                "BLEU",
                f"wmt14-{source}-{target}",
                "bleu",
                unit="sentence",
                start="none",
                target="corpus BLEU by sacrebleu's defaults",
                denominator="corpus",
                prompt=f"{ours} sentence = {theirs} sentence\n... ({EXAMPLES} pairs)\n{ours} sentence =",
                decoding=f"greedy, at most {ANSWER} tokens",
                cut=how,
            )
            for name, how in {
                "first-sentence": "at the first newline, then the first sentence",
                "line": "at the first newline",
            }.items()
        )

    def items(self, rows: Sequence[Json | Malformed]) -> Iterator[Item | Malformed]:
        """A sentence after the example pairs."""
        examples = shown(rows)
        for row in rows[EXAMPLES:]:
            if isinstance(row, Malformed):
                yield row
            else:
                request = Generate(f"{examples}{row['source']} =", ANSWER, ["\n"])
                yield Item(row["id"], [request], facts={"source": row["source"], "target": row["target"]})

    def measure(self, item: Item, replies: Sequence[Reply]) -> Mapping[str, Measured]:
        """The translation and its reference; BLEU has no parts that add up."""
        line, reference = str(replies[0]).strip(), item.facts["target"]
        first = next(iter(cut(line)), "").strip()
        return {
            "first-sentence": Measured(0.0, output=first, reference=reference),
            "line": Measured(0.0, output=line, reference=reference),
        }

    def remarks(
        self, rows: Sequence[Json | Malformed], done: Sequence[tuple[Item, Mapping[str, Measured]]]
    ) -> Sequence[str]:
        """The example pairs, and sacrebleu's signature."""
        own = [measured["line"] for _, measured in done if "line" in measured]
        if not own:
            return ()
        signature = bleu([m.output for m in own], [m.reference for m in own]).signature
        return [f"sacrebleu {signature}", "example pairs:", *shown(rows).splitlines()]


def shown(rows: Sequence[Json | Malformed]) -> str:
    """The example pairs as the model reads them, a line each."""
    examples = [row for row in rows[:EXAMPLES] if not isinstance(row, Malformed)]
    return "".join(f"{row['source']} = {row['target']}\n" for row in examples)


TASKS = (Translation("fr", "en"), Translation("en", "fr"))
