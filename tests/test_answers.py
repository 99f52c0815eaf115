"""What answers are worth: against hand-worked cases, SQuAD's script, rouge-score, NLTK and sacrebleu."""

from __future__ import annotations

import itertools
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
from nltk.stem.porter import PorterStemmer
from rouge_score.rouge_scorer import RougeScorer
from squad_script import compute_exact, compute_f1, harness_coqa, normalize_answer

from gpt2.errors import MissingExtra
from gpt2.evaluation.answers import bleu, coqa_f1, exact_match, f1, normalized
from gpt2.evaluation.porter import stem
from gpt2.evaluation.rouge import rouge, words


@pytest.fixture(scope="module")
def articles(data: Path) -> list[dict[str, Any]]:
    lines = (data / "cnn_dailymail" / "cnndm_test_sample.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("answer", "plain"),
    [
        ("The  White\tKitten.", "white kitten"),
        ("an apple a day", "apple day"),
        ("theatre and another", "theatre and another"),
        ("A.B.C.", "abc"),
        ("the-end", "theend"),
        ("U.S.", "us"),
        ("“quoted”", "“quoted”"),
        ("the", ""),
        ("", ""),
        ("  ?! ", ""),
        ("It's 4,000 (about)", "its 4000 about"),
        ("Ünïcode the É", "ünïcode é"),
    ],
)
def test_what_does_not_count_is_left_out(answer: str, plain: str) -> None:
    assert normalized(answer) == plain == normalize_answer(answer)


def test_exact_match_is_with_any_reference() -> None:
    assert exact_match("the Nile!", ["Amazon", "Nile"]) == 1.0
    assert exact_match("Nile river", ["Amazon", "Nile"]) == 0.0
    assert exact_match("", ["Amazon"]) == 0.0


@pytest.mark.parametrize(
    ("answer", "references", "worked"),
    [
        # One reference: 2 of our 3 words, 2 of its 2: 2 * 2 / (3 + 2).
        ("small white kitten", ["white kitten"], 4 / 5),
        # Two: without the first the best is 0, without the second 1; their mean.
        ("white", ["white", "orange"], (0 + 1) / 2),
        # Four: one agrees wholly and stands aside once, when 2 * 1 / (1 + 2) is left; else 1.
        ("white", ["white", "white kitten", "orange", "grey"], (2 / 3 + 1 + 1 + 1) / 4),
        # The same reference twice: it always agrees, as two people did.
        ("white", ["white", "White.", "orange"], 1.0),
        # No answer: nothing in common, but with an answer that has no words either.
        ("", ["white", "orange"], 0.0),
        ("", ["the", "orange"], (0 + 1) / 2),
        ("the", ["a"], 1.0),
        # A word counts as often as both have it: 1 of 3 and 1 of 1.
        ("no no no", ["no"], 2 / 4),
    ],
)
def test_coqa_f1_equals_cases_worked_by_hand(answer: str, references: list[str], worked: float) -> None:
    assert coqa_f1(answer, references) == pytest.approx(worked)
    assert coqa_f1(answer, references) == pytest.approx(
        harness_coqa().compute_scores(references, answer)["f1"]
    )


def test_f1_equals_squads_script_on_real_answers(data: Path) -> None:
    story = json.loads((data / "coqa" / "coqa-dev-v1.0.head.json").read_text(encoding="utf-8"))["data"][0]
    people = [story["answers"], *story["additional_answers"].values()]
    answers = [answer["input_text"] for own in people for answer in own]
    for a, b in itertools.product(answers, answers):
        assert f1(a, b) == pytest.approx(compute_f1(b, a))
        assert exact_match(a, [b]) == compute_exact(b, a)


def sentences(text: str) -> list[str]:
    return re.split(r"(?<= \.) ", text)


@pytest.mark.parametrize("stemmed", [True, False])
def test_rouge_equals_rouge_score_on_real_summaries(articles: list[dict[str, Any]], stemmed: bool) -> None:
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=stemmed)
    names = {"rouge-1": "rouge1", "rouge-2": "rouge2", "rouge-l-whole": "rougeL", "rouge-l": "rougeLsum"}
    seen = 0.0
    for row in articles[:40]:
        reference = sentences(row["highlights"])
        for summary in (sentences(row["article"])[:3], sentences(row["references"][-1]), ["", "¿ ?"], []):
            ours = rouge(summary, reference, stemmed)
            theirs = scorer.score("\n".join(reference), "\n".join(summary))
            for name, their_name in names.items():
                assert ours[name] == pytest.approx(theirs[their_name].fmeasure, abs=1e-12), (name, summary)
            seen += ours["rouge-2"]
    assert seen > 1


def test_stems_equal_nltks_on_the_words_of_real_articles(articles: list[dict[str, Any]]) -> None:
    theirs = PorterStemmer()
    known = {word for row in articles for word in words(row["article"], stemmed=False)}
    for word in known:
        assert stem(word) == theirs.stem(word)
    assert len(known) > 5000
    endings = (
        "ational",
        "alli",
        "logi",
        "fulli",
        "ies",
        "ied",
        "eed",
        "ing",
        "ed",
        "sses",
        "ion",
        "ment",
        "y",
        "ll",
    )
    for begin in ("", "b", "ab", "tr", "oat", "yy", "hopp", "controll", "fizz", "aba"):
        for word in (begin + end for end in endings):
            assert stem(word) == theirs.stem(word), word
    for word in ("skies", "dying", "innings", "news", "proceed", "is", "a", "2015", ""):
        assert stem(word) == theirs.stem(word)


def test_bleu_equals_sacrebleus_and_has_its_signature(data: Path) -> None:
    lines = (data / "wmt_enfr" / "newstest2014.fr").read_text(encoding="utf-8").split("\n")[:300]
    guesses = [" ".join(line.split()[: 3 + i % 20]).replace("le", "la") for i, line in enumerate(lines)]
    found = bleu(guesses, lines)
    assert found.score == sacrebleu.corpus_bleu(guesses, [lines]).score
    assert 5 < found.score < 95
    theirs = sacrebleu.metrics.BLEU().corpus_score(guesses, [lines], n_bootstrap=1000)
    assert found.interval is not None
    low, high = found.interval
    assert (low + high) / 2 == pytest.approx(theirs._mean, rel=0.02)
    assert (high - low) / 2 == pytest.approx(theirs._ci, rel=0.15), "sacrebleu's own bootstrap, other draws"
    assert bleu(guesses[:1], lines[:1]).interval is None
    poor = [line[::-1] if i % 3 else line[:12] for i, line in enumerate(lines)]  # hardly a 4-gram is right
    found = bleu(poor, lines)
    assert found.interval is not None
    assert 0 < found.interval[0] <= found.score <= found.interval[1], "draws are smoothed as the score is"
    assert re.fullmatch(r"nrefs:1\|case:mixed\|eff:no\|tok:13a\|smooth:exp\|version:[\d.]+", found.signature)


def test_bleu_without_sacrebleu_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("sacrebleu")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(MissingExtra, match=r"pip install 'gpt2-workbench\[evaluate\]'"):
        bleu(["a"], ["a"])
