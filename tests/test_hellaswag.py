"""HellaSwag: equal to lm-evaluation-harness, and to llm.c's rule in a plain scorer; rows of our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import measured, ours
from trained_model import Trained

from gpt2.errors import FormatError
from gpt2.evaluation.tasks.hellaswag import TASKS, read

pytestmark = pytest.mark.usefixtures("one_thread")
(TASK,) = TASKS


def scene(activity: str, a: str, b: str, endings: list[str], label: int) -> dict[str, Any]:
    """A row in the true format."""
    parts = {"ctx_a": a, "ctx_b": b, "ctx": f"{a} {b}".strip()}
    return {"ind": 1, "activity_label": activity, **parts, "endings": endings, "label": label}


SCENES = [
    scene(
        "Rowing",
        "Two men sit in a boat on the river.",
        "the older man",
        [
            "takes the oars and rows.",
            "is a lamp on the table and then on the floor of the house.",
            "sings to the oars of the town, which are two.",
            "rows.",
        ],
        0,
    ),
    scene(
        "Baking bread",
        "[header] How to bake bread [title] Mix the flour with water. [step] Use warm water.",
        "",
        [
            "[substeps] Let it rest for an hour.",
            "Throw it  out of the window at once [title] and go away.",
            "[step] Read a book to it.",
            "Water is made of flour. [title] Mix.",
        ],
        3,
    ),
    scene(
        "Reading",
        "A woman opens a book at the window.",
        "she",
        [
            "turns the page and reads on until the evening.",
            "turns.",
            "eats it with a spoon, and the spoon with a fork, and the fork with a knife.",
            "was not there.",
        ],
        1,
    ),
    scene(
        "Horses",
        "The horse comes out of the stable.",
        "the horse",
        ["goes to the field.", "said that he would not.", "of the and the of.", "reads."],
        2,
    ),
]


@pytest.fixture
def rows(tmp_path: Path) -> list[Any]:
    file = tmp_path / "hellaswag_val.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in SCENES))
    return read(file)


def test_its_rule_equals_lm_evaluation_harness(
    rows: list[Any], trained: Trained, harness: Any, tmp_path: Path
) -> None:
    theirs, samples = measured(harness, "hellaswag/hellaswag.yaml", rows, tmp_path)
    found = ours(trained.model, TASK, rows)
    for asked, sample in zip(found.asked, samples, strict=True):
        scores: Any = asked.replies[1]
        for score, ((logprob, _),) in zip(scores, sample["resps"], strict=True):
            assert score.logprob == pytest.approx(float(logprob), rel=1e-5, abs=1e-4)
    for measure, sample in zip(found.measured, samples, strict=True):
        assert measure["harness"].numerator == sample["acc"]
        assert measure["harness-norm"].numerator == sample["acc_norm"]
    assert found.values["harness"] == theirs["acc,none"]
    assert found.values["harness-norm"] == theirs["acc_norm,none"]


def test_llm_c_s_rule_equals_a_plain_scorer(rows: list[Any], trained: Trained) -> None:
    from transformers import GPT2LMHeadModel, GPT2TokenizerFast

    net = GPT2LMHeadModel.from_pretrained(trained.huggingface).eval()
    tok = GPT2TokenizerFast.from_pretrained(trained.huggingface)
    found = ours(trained.model, TASK, rows)
    outputs = set()
    for row, measure in zip(rows, found.measured, strict=True):
        sums, means = [], []
        for ending in row["endings"]:
            context, rest = tok(row["ctx"]).input_ids, tok(" " + ending).input_ids
            ids = torch.tensor([context + rest])
            with torch.inference_mode():
                losses = torch.nn.functional.cross_entropy(
                    net(ids).logits[0, :-1], ids[0, 1:], reduction="none"
                )
            own = losses[-len(rest) :]
            sums.append(float(own.sum()))
            means.append(float(own.mean()))
        for name, losses_of in (("llmc", sums), ("llmc-norm", means)):
            place = losses_of.index(min(losses_of))
            assert measure[name].output == row["endings"][place]
            assert measure[name].numerator == (place == row["label"])
        outputs.add((measure["llmc"].output, measure["llmc-norm"].output))
    assert any(a != b for a, b in outputs), "length matters in some scene"


def test_rows_that_cannot_be_asked_are_named(tmp_path: Path) -> None:
    good = SCENES[0]
    lines = [
        good,
        {k: v for k, v in good.items() if k != "label"},
        good | {"label": 4},
        good | {"endings": ["one", "two", "three"]},
        good | {"endings": ["one", "", "three", "four"]},
        good | {"endings": ["one", "[title]", "three", "four"]},
        good | {"ctx": " "},
        good | {"label": True},
    ]
    file = tmp_path / "hellaswag_val.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in lines))
    items = list(TASK.items(read(file)))
    assert [getattr(item, "reason", "") for item in items] == [
        "",
        "no 'label'",
        "'label' is the place of no ending",
        "not 4 endings",
        "not 4 endings",
        "an ending has nothing but marks in brackets",
        "the context is empty",
        "'label' is no number",
    ]
    with pytest.raises(FormatError, match="no line that is a JSON object with ctx"):
        file.write_text("ind,ctx\n1,A man\n")
        read(file)
