"""Summaries of real articles: the hint stays, the baselines score as rouge-score says, both formats are read."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from harness import ours
from rouge_score.rouge_scorer import RougeScorer
from trained_model import CONTEXT, Trained

from gpt2.errors import FormatError
from gpt2.evaluation.generation import prompt_ids
from gpt2.evaluation.task import Generate, Item, Malformed
from gpt2.evaluation.tasks.summarization import TASKS, read, sentences

pytestmark = pytest.mark.usefixtures("one_thread")
(SUMMARIES,) = TASKS


@pytest.fixture(scope="module")
def rows(data: Path) -> list[Any]:
    return read(data / "cnn_dailymail" / "cnndm_test_sample.jsonl")


def items(rows: list[Any]) -> list[Item]:
    return [item for item in SUMMARIES.items(rows) if isinstance(item, Item)]


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("He met Mr. Smith. Then J. Doe came.", ["He met Mr. Smith.", "Then J. Doe came."]),
        ("it fell . he said 'no . ' then left .", ["it fell .", "he said 'no . '", "then left ."]),
        ("A line\nand another.\n\nA third", ["A line", "and another.", "A third"]),
        ("It cost 3.50 pounds in the U.S. today.", ["It cost 3.50 pounds in the U.S. today."]),
        ("  \n ", []),
    ],
)
def test_sentences_of_plain_text_and_of_tokens(text: str, cut: list[str]) -> None:
    assert sentences(text) == cut


def test_sentences_lose_no_word_of_real_articles(rows: list[Any]) -> None:
    for row in rows:
        found = sentences(row["article"])
        assert " ".join(found).split() == row["article"].split()
        assert 3 < len(found) < 200
        assert 1 <= len(sentences(row["highlights"])) <= 12


def test_the_hint_stays_and_a_long_article_loses_its_end(rows: list[Any], trained: Trained) -> None:
    tok, cut = trained.model.tokenizer, 0
    for item in items(rows):
        hinted, plain = (r for r in item.requests if isinstance(r, Generate))
        assert (hinted.max_tokens, hinted.top_k, hinted.until) == (100, 2, ())
        for request, end in ((hinted, "\nTL;DR:"), (plain, "\n")):
            ids, article = prompt_ids(trained.model, request), tok.encode(request.prompt)
            ending = tok.encode(end)
            assert len(ids) <= CONTEXT - 100
            assert ids[-len(ending) :] == ending
            assert ids[: -len(ending)] == article[: len(ids) - len(ending)]
            cut += len(article) > CONTEXT - 100
    assert cut > 100


@pytest.mark.parametrize("system", ["lead-3-", "random-3-"])
def test_baselines_equal_rouge_score(rows: list[Any], system: str) -> None:
    scorer = RougeScorer(["rouge1", "rouge2", "rougeLsum"], use_stemmer=True)
    for item in items(rows)[:40]:
        found = SUMMARIES.measure(item, ["", ""])
        summary = item.facts[system[:-1]]
        assert len(summary) == 3
        theirs = scorer.score("\n".join(sentences(item.facts["highlights"])), "\n".join(summary))
        expected = [score.fmeasure for score in theirs.values()]
        expected.append(statistics.mean(expected))
        measured = [found[f"{system}rouge-{kind}"].numerator for kind in ("1", "2", "l", "mean")]
        assert measured == pytest.approx(expected, abs=1e-12)


def test_sentences_by_lot_are_the_articles_in_their_order_and_always_the_same(rows: list[Any]) -> None:
    once, again = items(rows), items(rows[::-1])[::-1]
    assert [item.facts["random-3"] for item in once] == [item.facts["random-3"] for item in again]
    assert sum(item.facts["random-3"] != item.facts["lead-3"] for item in once) > 100
    for item, row in zip(once, rows, strict=True):
        places = [row["article"].find(sentence) for sentence in item.facts["random-3"]]
        assert -1 not in places


def test_a_run_scores_the_models_first_three_sentences(rows: list[Any], trained: Trained) -> None:
    found = ours(trained.model, SUMMARIES, rows[:6])
    assert len(found.values) == 16
    for asked, measured in zip(found.asked, found.measured, strict=True):
        for system, reply in zip(("", "no-hint-"), asked.replies, strict=True):
            said = measured[f"{system}rouge-1"].output.split("\n") if str(reply).strip() else []
            assert said == sentences(str(reply))[:3]
            assert len(trained.model.tokenizer.encode(str(reply))) <= 110
    assert found.values["lead-3-rouge-1"] > found.values["rouge-1"] > 0
    assert found.values == ours(trained.model, SUMMARIES, rows[:6]).values


def test_presumms_form_keeps_its_own_sentences(data: Path) -> None:
    path = data / "cnn_dailymail" / "cnndm_sample.train.0.json"
    documents = json.loads(path.read_text(encoding="utf-8"))
    rows = read(path)
    assert len(rows) == len(documents) == 6
    for row, document, item in zip(rows, documents, items(rows), strict=True):
        assert row["article"].split() == [token for s in document["src"] for token in s]
        assert item.facts["lead-3"] == [" ".join(s) for s in document["src"][:3]]
        assert row["highlights"].split("\n") == [" ".join(s) for s in document["tgt"]]


def test_broken_rows_are_counted_and_named(tmp_path: Path) -> None:
    path = tmp_path / "cnndm_test.jsonl"
    good = {"id": "a", "article": "One. Two.", "highlights": "One."}
    bad = [{**good, "article": " "}, {**good, "highlights": ""}, {"article": "One."}, {**good, "article": 7}]
    path.write_text("".join(json.dumps(row) + "\n" for row in [good, *bad]), encoding="utf-8")
    found = list(SUMMARIES.items(read(path)))
    assert [item.reason for item in found if isinstance(item, Malformed)] == [
        "the article is empty",
        "the highlights are empty",
        "no 'highlights'",
        "'article' is no text",
    ]
    (item,) = (item for item in found if isinstance(item, Item))
    assert item.facts["random-3"] == ["One.", "Two."], "an article of two sentences has no third"
    path.write_text('[{"src": [["a"]], "tgt": [["b"]]}, {"src": 1}, 7]', encoding="utf-8")
    assert [isinstance(row, Malformed) for row in read(path)] == [False, True, True]


@pytest.mark.parametrize("content", ["[not JSON", "[]", '[{"a": 1}]', "text", ""])
def test_a_file_of_another_format_is_one_sentence(tmp_path: Path, content: str) -> None:
    path = tmp_path / "cnndm_test.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(FormatError):
        read(path)
