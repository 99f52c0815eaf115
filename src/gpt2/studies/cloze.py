"""Zero-shot cloze questions against size, on a run's own held-out documents (the paper's 3.2 and 3.3).

The questions are those of `gpt2.evaluation.cloze`, asked as `gpt2 evaluate --tasks cloze` asks them. They are
made of held-out documents, of sentences that no training document has, before any size is trained, and are
the same for all sizes. Besides chance there is the word of the ten that the context has most often, which
needs no model at all (Hill et al., 2016, call it maximum frequency).

    facts = make_questions(documents, heldout_ids, folder)
    measure_questions(gpt2.load("run"), folder / "cloze.jsonl", facts, compute)
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gpt2.console import QUIET, Console
from gpt2.corpus.documents import Document
from gpt2.errors import TooLittleData
from gpt2.evaluation.asking import Asked, ask, size
from gpt2.evaluation.cloze import ClozeConfig, build, write_cloze
from gpt2.evaluation.results import aggregate
from gpt2.evaluation.sentences import WORD
from gpt2.evaluation.task import Item
from gpt2.evaluation.tasks.cloze import LAST_WORD, OwnCloze, guess, read
from gpt2.model.checkpoint import Model
from gpt2.model.device import Compute
from gpt2.workspace import Json

QUESTIONS = ClozeConfig(last_words=250, choices=200)
"""How many are asked at most."""
EXAMPLES = 2
"""Questions of each kind that the report shows."""


def make_questions(documents: Iterable[Document], heldout: set[str], folder: Path) -> Json:
    """Write questions out of the documents whose ids are held out, and tell of them.

    Without enough prose there are none, and `counts` is empty.
    """
    kept, training = [], []
    for document in documents:
        if document.id in heldout:
            kept.append(document)
        else:
            training.append(document.text)
    try:
        made = build(kept, QUESTIONS, training)
    except TooLittleData:
        return {
            "counts": {},
            "sources": {},
            "in_context": None,
            "chance": {},
            "most_frequent": {},
            "examples": [],
        }
    write_cloze(made, folder)
    asked: dict[str, list[Json]] = {}
    for i, row in enumerate(read(folder / "cloze.jsonl")):
        if isinstance(row, dict):
            asked.setdefault(row["kind"], []).append({"index": i, **row})
    rng = random.Random(QUESTIONS.seed)
    return {
        "counts": {kind: len(rows) for kind, rows in asked.items()},
        "sources": {kind: len({row["group"] for row in rows}) for kind, rows in asked.items()},
        "in_context": made.in_context,
        "chance": {
            kind: 100 * sum(guess(row["answer"], row["choices"]) for row in rows) / len(rows)
            for kind, rows in asked.items()
            if kind != LAST_WORD
        },
        "most_frequent": {
            kind: 100 * sum(map(most_frequent_is_right, rows)) / len(rows)
            for kind, rows in asked.items()
            if kind != LAST_WORD
        },
        "examples": [r for rows in asked.values() for r in rng.sample(rows, min(EXAMPLES, len(rows)))],
    }


def most_frequent_is_right(row: Json) -> float:
    """Whether the answer is the choice that the context has most often; ties share the point."""
    words = [word for sentence in row["context"] for word in WORD.findall(sentence)]
    counts = {word: words.count(word) for word in row["choices"]}
    best = [word for word, n in counts.items() if n == max(counts.values())]
    return (row["answer"] in best) / len(best)


def measure_questions(
    model: Model, path: Path, facts: Json, compute: Compute, console: Console = QUIET, title: str = "cloze"
) -> Json:
    """By protocol: value, interval over sources and number of questions; and the answers to the examples."""
    if not facts["counts"]:
        return {"results": {}, "answers": [], "cut": 0}
    task = OwnCloze()
    items = [item for item in task.items(read(path)) if isinstance(item, Item)]
    weight = sum(size(request) for item in items for request in item.requests)
    with console.progress(title, weight, "characters") as bar:
        replies = ask(model, task, items, compute, bar.advance)
    asked = [reply for reply in replies if isinstance(reply, Asked)]
    measured = [task.measure(a.item, a.replies) for a in asked]
    values = aggregate(task.protocols, measured, [a.item.group for a in asked])
    said = {a.item.id: answer(a) for a in asked}
    return {
        "results": {name: {"value": v.value, "interval": v.interval, "n": v.n} for name, v in values.items()},
        "answers": [said.get(str(row["index"]), "") for row in facts["examples"]],
        "cut": sum(a.cut for a in asked),
    }


def answer(asked: Asked) -> str:
    """What a model said: the likeliest of the ten, or the probability of the last word in percent."""
    reply: Any = asked.replies[0]
    if asked.item.facts["kind"] == LAST_WORD:
        return f"{100 * math.exp(reply.logprob):.2g} %"
    return OwnCloze().measure(asked.item, asked.replies)[asked.item.facts["kind"]].output
