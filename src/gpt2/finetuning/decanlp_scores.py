"""decaNLP's metrics, as its predict.py maps them to tasks, and the decaScore, their sum.

All from 0 to 100. Exact match and joint goals are of texts in small letters, as by decaNLP's `lower`; nF1 of words
in small letters, without punctuation and articles, the best of the references; corpus F1 of QA-ZRE over all answers
that are not "Unanswerable"; BLEU is sacrebleu's in small letters; ROUGE the mean of ROUGE-1, 2 and L with stems and
sentences that end at a full stop, our own reckoning and not the ROUGE-1.5.5 that decaNLP calls; of WOZ the share of
turns after which all goals so far are right (`joint_goal_em`; the code has `avg_dialogue` too, which other papers
report); of WikiSQL the share of queries whose column, aggregate and conditions are right.

One slip of the published metrics.py is not kept: whether a reference is "unanswerable" there depends on the number
of words in the last prediction. The decaScore of fewer than ten tasks is told with those that are missing.

    measure("sst", ["positive"], [query])
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from gpt2.errors import need
from gpt2.evaluation.answers import normalized
from gpt2.evaluation.rouge import rouge
from gpt2.finetuning.decanlp_files import Query
from gpt2.finetuning.decanlp_wikisql import logical_form

Said = Sequence[str]
MQAN = {
    "squad": 77.0,
    "iwslt.en.de": 21.4,
    "cnn_dailymail": 24.4,
    "multinli.in.out": 74.0,
    "sst": 86.5,
    "srl": 80.9,
    "zre": 40.9,
    "woz.en": 84.8,
    "wikisql": 70.2,
    "schema": 48.8,
}
"""MQAN with sampling and CoVe, from decaNLP's README; decaScore 609.0."""


def exact_match(said: Said, queries: Sequence[Query]) -> float:
    """Share of answers that are one of the right ones, in small letters."""
    pairs = zip(said, queries, strict=True)
    return mean(float(answer.lower() in map(str.lower, query.right)) for answer, query in pairs)


def normalized_f1(said: Said, queries: Sequence[Query]) -> float:
    """F1 over words, with the best of the right answers."""
    return mean(max(shared(a, r) for r in q.right) for a, q in zip(said, queries, strict=True))


def shared(answer: str, reference: str) -> float:
    """F1 over words of two answers; 0 when they have none in common."""
    ours, theirs = normalized(answer).split(), normalized(reference).split()
    common = (Counter(ours) & Counter(theirs)).total()
    return 2 * common / (len(ours) + len(theirs)) if common else 0.0


def corpus_f1(said: Said, queries: Sequence[Query]) -> float:
    """F1 over all answers that name something."""
    ours = [named(answer) for answer in said]
    theirs = [[named(answer) for answer in query.right] for query in queries]
    right = sum(a is not None and a in refs for a, refs in zip(ours, theirs, strict=True))
    given = sum(a is not None for a in ours)
    wanted = sum(any(r is not None for r in refs) for refs in theirs)
    return 100 * 2 * right / (given + wanted) if right else 0.0


def named(answer: str) -> Counter[str] | None:
    """The words of an answer without "and"; None for "unanswerable"."""
    words = [word for word in normalized(answer).split() if word != "and"]
    return None if words == ["unanswerable"] else Counter(words)


def bleu(said: Said, queries: Sequence[Query]) -> float:
    """Corpus BLEU in small letters; `MissingExtra` without sacrebleu."""
    sacrebleu = need("sacrebleu", "evaluate")
    return float(sacrebleu.corpus_bleu(list(said), [[q.answer for q in queries]], lowercase=True).score)


def mean_rouge(said: Said, queries: Sequence[Query]) -> float:
    """The mean of ROUGE-1, 2 and L."""
    found = [rouge(sentences(a), sentences(q.answer)) for a, q in zip(said, queries, strict=True)]
    return mean(sum(f[name] for name in ("rouge-1", "rouge-2", "rouge-l")) / 3 for f in found)


def sentences(text: str) -> list[str]:
    """What stands between full stops."""
    return [part for part in text.strip().split(".") if part.strip()]


def joint_goal(said: Said, queries: Sequence[Query]) -> float:
    """Share of turns after which every goal of the dialogue so far is right; turns in the order of their names."""
    right, dialogue = 0, ""
    ours: dict[str, str] = {}
    theirs: dict[str, str] = {}
    turns = sorted(zip(queries, said, strict=True), key=lambda pair: placed(str(pair[0].facts["turn"])))
    for query, answer in turns:
        name = str(query.facts["turn"]).rpartition("_")[0]
        if name != dialogue:
            ours, theirs, dialogue = {}, {}, name
        ours |= goals(answer)
        theirs |= goals(query.answer)
        right += ours == theirs
    return 100 * right / len(turns)


def placed(turn: str) -> tuple[str, int, int]:
    """'en_3_11' as what sorts in the order of turns; as text, turn 10 would stand before turn 2."""
    language, dialogue, number = turn.split("_")
    return language, int(dialogue), int(number)


def goals(answer: str) -> dict[str, str]:
    """The goals that an answer such as 'food: thai, area: west; phone' names; none of what is no answer."""
    if answer.count(";") != 1:
        return {}
    pairs = [part.split(":") for part in answer.lower().split(";")[0].split(",")]
    return {pair[0].strip(): pair[1].strip() for pair in pairs if len(pair) == 2}


def logical_match(said: Said, queries: Sequence[Query]) -> float:
    """Share of queries that say what the right one says."""

    def right(answer: str, query: Query) -> float:
        wanted = logical_form(query.answer, query.facts["header"])
        return float(wanted is not None and logical_form(answer, query.facts["header"]) == wanted)

    return mean(right(a, q) for a, q in zip(said, queries, strict=True))


def mean(values: Iterable[float]) -> float:
    """The mean of shares, times 100."""
    found = list(values)
    return 100 * sum(found) / len(found)


METRICS: dict[str, tuple[str, Callable[[Said, Sequence[Query]], float]]] = {
    "squad": ("nF1", normalized_f1),
    "iwslt.en.de": ("BLEU", bleu),
    "cnn_dailymail": ("mean ROUGE", mean_rouge),
    "multinli.in.out": ("exact match", exact_match),
    "sst": ("exact match", exact_match),
    "srl": ("nF1", normalized_f1),
    "zre": ("corpus F1", corpus_f1),
    "woz.en": ("joint goal EM", joint_goal),
    "wikisql": ("logical form EM", logical_match),
    "schema": ("exact match", exact_match),
}
"""Name of the metric and how it is reckoned, by task."""


def measure(task: str, said: Said, queries: Sequence[Query]) -> float:
    """What answers are worth, from 0 to 100, by the metric of their task."""
    return METRICS[task][1](said, queries)


def deca_score(scores: Mapping[str, float]) -> tuple[float, list[str]]:
    """The sum over the tasks there are, and the names of those that are missing."""
    return sum(scores.values()), [name for name in METRICS if name not in scores]
