"""CNN and Daily Mail: an article in three sentences (paper 3.6).

The model reads an article and `TL;DR:`, and draws 100 tokens among the two likeliest each time; the first
three sentences of that are the summary. Measured against the highlights by ROUGE-1, -2 and -L and their mean,
stemmed, with -L sentence by sentence, as those who report CNN/Daily Mail do (`gpt2.evaluation.rouge`). Beside
it what the paper sets beside it in Table 4:

    rouge-1 ...          with the hint
    no-hint-rouge-1 ...  a line's end in its place
    lead-3-rouge-1 ...   the article's first three sentences
    random-3-rouge-1 ... three of its sentences by lot, in their order

An article that does not fit beside the hint and 100 tokens loses its end: news tell what matters first. A
sentence ends at a line's end, at a mark that stands alone, as in text that was cut into tokens, or where
`gpt2.evaluation.sentences` sees one. The text is read as the data has it.

    gpt2 evaluate MODEL --tasks summarization
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt2.errors import FormatError
from gpt2.evaluation.protocol import Protocol
from gpt2.evaluation.rouge import rouge
from gpt2.evaluation.rows import read_json_lines
from gpt2.evaluation.sentences import cut
from gpt2.evaluation.task import Generate, Item, Malformed, Measured, Reply, Task
from gpt2.workspace import Json

HINT = "\nTL;DR:"
NO_HINT = "\n"
LENGTH = 100
"""Tokens generated."""
TOP_K = 2
SENTENCES = 3
METRICS = {"rouge-1": "ROUGE-1", "rouge-2": "ROUGE-2", "rouge-l": "ROUGE-L", "rouge-mean": "ROUGE average"}
DRAWN = f"{LENGTH} tokens drawn among the {TOP_K} likeliest, seeded by the article's id"
FIRST = f"the first {SENTENCES} sentences"
SYSTEMS: dict[str, dict[str, Any]] = {
    "": {"prompt": "{article}" + HINT, "decoding": DRAWN, "cut": FIRST},
    "no-hint-": {"prompt": "{article}" + NO_HINT, "decoding": DRAWN, "cut": FIRST},
    "lead-3-": {"decoding": "none: a baseline", "cut": f"the article's {FIRST[4:]}"},
    "random-3-": {"decoding": "none: a baseline", "cut": f"{SENTENCES} sentences of the article by lot"},
}
"""What a name of a protocol begins with, and how its summaries come about."""
LONE_MARK = re.compile(r"(?<=\s)[.!?]+(?:\s+(?:''|['\"”’)])(?=\s|$))?(?=\s|$)")
"""The end of a sentence in text that was cut into tokens, with the quote or bracket that closes there."""


def read(path: Path) -> list[Json | Malformed]:
    """JSON lines with `article` and `highlights`; or PreSumm's JSON, `src` and `tgt` as sentences of tokens."""
    with path.open("rb") as file:
        if file.read(100).lstrip()[:1] != b"[":
            return read_json_lines(path, {"article": str, "highlights": str})
    try:
        documents = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise FormatError(f"{path} is not JSON; give a file of CNN/Daily Mail as PreSumm has it") from None
    rows = [joined(i, document) for i, document in enumerate(documents)]
    if all(isinstance(row, Malformed) for row in rows):
        raise FormatError(f"{path} has no document with 'src' and 'tgt'; give a file as PreSumm has it")
    return rows


def joined(i: int, document: Any) -> Json | Malformed:
    """A document of PreSumm's as article, its sentences, and highlights."""
    try:
        article, highlights = ([" ".join(tokens) for tokens in document[part]] for part in ("src", "tgt"))
    except (KeyError, TypeError):
        return Malformed(str(i), "no 'src' and 'tgt', each a list of lists of tokens")
    return {"article": " ".join(article), "sentences": article, "highlights": "\n".join(highlights)}


class Summarization(Task):
    """Summaries with the hint, without it, and the baselines."""

    name = "summarization"
    protocols = tuple(
        Protocol(
            "summarization",
            system + metric,
            shown,
            "cnn-dailymail",
            "percent",
            unit="article",
            start="none",
            target="F1, words stemmed"
            + {"rouge-l": ", sentence by sentence", "rouge-mean": ", mean of 1, 2 and L"}.get(metric, ""),
            denominator="articles",
            **how,
        )
        for system, how in SYSTEMS.items()
        for metric, shown in METRICS.items()
    )
    whole = 11490

    def items(self, rows: Sequence[Json | Malformed]) -> Iterator[Item | Malformed]:
        """An article, with the hint and without."""
        for i, row in enumerate(rows):
            if isinstance(row, Malformed):
                yield row
                continue
            name, article = str(row.get("id", i)), row["article"].strip()
            if not article or not row["highlights"].strip():
                yield Malformed(name, "the article is empty" if not article else "the highlights are empty")
                continue
            own = row.get("sentences") or sentences(article)
            drawn = random.Random(name).sample(range(len(own)), min(SENTENCES, len(own)))
            requests = [Generate(article, LENGTH, top_k=TOP_K, ending=end) for end in (HINT, NO_HINT)]
            facts = {
                "highlights": row["highlights"],
                "lead-3": own[:SENTENCES],
                "random-3": [own[k] for k in sorted(drawn)],
            }
            yield Item(name, requests, facts=facts)

    def measure(self, item: Item, replies: Sequence[Reply]) -> Mapping[str, Measured]:
        """ROUGE of the four summaries."""
        hinted, plain = (sentences(str(reply))[:SENTENCES] for reply in replies)
        summaries = (hinted, plain, item.facts["lead-3"], item.facts["random-3"])
        reference, out = sentences(item.facts["highlights"]), dict[str, Measured]()
        for system, summary in zip(SYSTEMS, summaries, strict=True):
            scores = rouge(summary, reference)
            scores["rouge-mean"] = (scores["rouge-1"] + scores["rouge-2"] + scores["rouge-l"]) / 3
            text = "\n".join(summary)
            out |= {system + metric: Measured(scores[metric], output=text) for metric in METRICS}
        return out


def sentences(text: str) -> list[str]:
    """The sentences of a text, whether or not it was cut into tokens."""
    found = []
    for line in text.splitlines():
        begin = 0
        for end in [*(match.end() for match in LONE_MARK.finditer(line)), len(line)]:
            found += [sentence.strip() for sentence in cut(line[begin:end]) if sentence.strip()]
            begin = end
    return found


TASKS = (Summarization(),)
