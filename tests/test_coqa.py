"""CoQA: both histories, the official averaging, lm-evaluation-harness's form, and its files as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from harness import ours
from squad_script import harness_coqa
from trained_model import Trained

from gpt2.errors import FormatError
from gpt2.evaluation.answers import coqa_f1
from gpt2.evaluation.generation import answer
from gpt2.evaluation.task import Generate, Item, Malformed
from gpt2.evaluation.tasks.coqa import TASKS, read

pytestmark = pytest.mark.usefixtures("one_thread")
(COQA,) = TASKS
FILES = {
    "coqa-dev-v1.0.head.json": (1, 12),
    "coqa-train-v1.0.head.json": (1, 20),
    "coqa_train_original_examples.json": (5, 75),
}


def story(**changes: Any) -> dict[str, Any]:
    """A made-up story in the original form, with two questions and three people's answers."""
    return {
        "id": "made-up",
        "story": "Ann has a red ball.",
        "questions": [{"input_text": q, "turn_id": i + 1} for i, q in enumerate(("Who?", "What?"))],
        "answers": [{"input_text": a, "turn_id": i + 1} for i, a in enumerate(("Ann", "a red ball"))],
        "additional_answers": {
            "0": [{"input_text": a, "turn_id": i + 1} for i, a in enumerate(("ann", "ball"))],
            "1": [{"input_text": a, "turn_id": i + 1} for i, a in enumerate(("a girl", "A red ball"))],
        },
        **changes,
    }


def made_up(tmp_path: Path, *stories: Any) -> list[Any]:
    path = tmp_path / "coqa-dev-v1.0.json"
    path.write_text(json.dumps({"version": "1.0", "data": stories}), encoding="utf-8")
    return read(path)


@pytest.mark.parametrize("name", FILES)
def test_the_files_at_hand_are_read_as_they_are(data: Path, name: str) -> None:
    path = data / "coqa" / name
    content = json.loads(path.read_text(encoding="utf-8"))
    stories = content["data"] if isinstance(content, dict) else content
    rows = read(path)
    assert (len(rows), sum(len(row["questions"]) for row in rows)) == FILES[name]
    for row, original in zip(rows, stories, strict=True):
        assert row["passage"] == original["story"]
        people = [original["answers"], *original.get("additional_answers", {}).values()]
        assert row["references"] == [
            [p[i]["input_text"] for p in people] for i in range(len(row["questions"]))
        ]
        assert {len(own) for own in row["references"]} == {4 if "dev" in name else 1}


def test_a_question_stands_after_the_passage_and_peoples_answers(tmp_path: Path) -> None:
    (item,) = COQA.items(made_up(tmp_path, story()))
    assert isinstance(item, Item)
    first, second, harness = item.requests
    assert first == Generate("Ann has a red ball.\n\nQ: Who?\nA:", 32, ["\n"])
    assert second == Generate("Ann has a red ball.\n\nQ: Who?\nA: Ann\nQ: What?\nA:", 32, ["\n"])
    assert isinstance(harness, Generate)
    assert harness.prompt == "Ann has a red ball.\n\nQ: Who?\n\nA: Ann\n\nQ: What?\n\nA:"


def test_with_own_history_a_turn_waits_for_the_one_before(tmp_path: Path) -> None:
    (item,) = COQA.items(made_up(tmp_path, story()))
    assert isinstance(item, Item)
    replies: list[Any] = [" the girl", " red", " ball\n\nA: blue"]
    (more,) = COQA.follow(item, replies)
    assert more == Generate("Ann has a red ball.\n\nQ: Who?\nA: the girl\nQ: What?\nA:", 32, ["\n"])
    replies.append(" a ball")
    assert not COQA.follow(item, replies)
    found = COQA.measure(item, replies)
    references = [["Ann", "ann", "a girl"], ["a red ball", "ball", "A red ball"]]
    # "the girl": without "a girl" 0, else 1. "red": 2/3 with "red ball", whoever stands aside.
    assert coqa_f1("the girl", references[0]) == pytest.approx((1 + 1 + 0) / 3)
    assert found["gold"].numerator == pytest.approx(2 / 3 + 2 / 3)
    # "a ball": 1 with "ball", 2/3 with the others; without "ball" 2/3.
    assert found["own"].numerator == pytest.approx(2 / 3 + (1 + 2 / 3 + 1) / 3)
    assert found["gold"].denominator == found["own"].denominator == 2
    assert (found["gold"].output, found["own"].output) == ("the girl\nred", "the girl\na ball")
    # The harness counts "A red ball" once: without "ball" 2/3, without the other 1.
    assert found["harness"].numerator == pytest.approx((2 / 3 + 1) / 2)


def test_a_whole_conversation_goes_on_by_the_models_own_words(data: Path, trained: Trained) -> None:
    rows = read(data / "coqa" / "coqa_train_original_examples.json")[:2]
    found = ours(trained.model, COQA, rows)
    for row, asked, measured in zip(rows, found.asked, found.measured, strict=True):
        history, said = f"{row['passage']}\n\n", []
        for question in row["questions"]:
            history += f"Q: {question}\nA:"
            said.append(answer(trained.model, [Generate(history, 32, ["\n"])], [0])[0].strip())
            history += f" {said[-1]}\n"
        assert measured["own"].output == "\n".join(said)
        assert len(asked.replies) == 2 * len(row["questions"])
        assert measured["own"].denominator == len(row["questions"])


def test_prompts_and_scores_equal_lm_evaluation_harness(data: Path) -> None:
    theirs = harness_coqa()
    original = json.loads((data / "coqa" / "coqa-dev-v1.0.head.json").read_text(encoding="utf-8"))["data"][0]

    def columns(turns: list[dict[str, Any]]) -> dict[str, list[Any]]:
        """Turns in the form that the harness reads."""
        return {name: [turn[name] for turn in turns] for name in ("input_text", "turn_id")}

    document = {
        "story": original["story"],
        "questions": columns(original["questions"]),
        "answers": columns(original["answers"]),
        "additional_answers": {k: columns(v) for k, v in original["additional_answers"].items()},
    }
    (row,) = read(data / "coqa" / "coqa-dev-v1.0.head.json")
    for last in range(1, len(row["questions"]) + 1):  # each question as if it were the last
        short = {**row, "questions": row["questions"][:last], "references": row["references"][:last]}
        shorter = {**document, "questions": columns(original["questions"][:last])}
        shorter["answers"] = columns(original["answers"][:last])
        (item,) = COQA.items([short])
        assert isinstance(item, Item)
        asked = item.requests[-1]
        assert isinstance(asked, Generate)
        assert asked.prompt == theirs.doc_to_text(shorter)
        assert asked.until == ["\nQ:"]
        for reply in (*row["references"][last - 1], " white kitten\nIt is", "", "in a barn, in the barn"):
            replies = ["?"] * last + [reply] + ["?"] * (last - 1)
            found = COQA.measure(item, replies)["harness"].numerator
            assert found == pytest.approx(theirs.process_results(shorter, [reply])["f1"]), reply


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"story": " "}, "the passage is empty"),
        (
            {"answers": [{"input_text": "Ann", "turn_id": 1}]},
            "questions and answers do not have the same turns",
        ),
        ({"questions": []}, "questions and answers do not have the same turns"),
        ({"questions": [{"input_text": "Who?"}]}, "a story without 'turn_id'"),
        ({"questions": None}, "no story"),
        (
            {"answers": [{"input_text": None, "turn_id": 1}, {"input_text": "b", "turn_id": 2}]},
            "a question or answer is not text",
        ),
    ],
)
def test_a_broken_story_is_counted_and_named(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    rows = made_up(tmp_path, story(), story(**changes))
    assert [type(item) for item in COQA.items(rows)] == [Item, Malformed]
    assert rows[1].reason == reason


def test_turns_are_put_in_order_and_stories_may_lack_a_key(tmp_path: Path) -> None:
    mixed = story(questions=story()["questions"][::-1])
    without = story()
    del without["story"]
    first, second, third = made_up(tmp_path, mixed, without, "text")
    assert first["questions"] == ["Who?", "What?"]
    assert (second.reason, third.reason) == ("a story without 'story'", "no story")


@pytest.mark.parametrize("content", ["not JSON", '{"a": 1}', '{"data": []}', '{"data": [{"id": 1}]}', "7"])
def test_a_file_of_another_format_is_one_sentence(tmp_path: Path, content: str) -> None:
    path = tmp_path / "coqa.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(FormatError, match="give CoQA's file as it was published"):
        read(path)
