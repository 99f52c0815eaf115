"""Winograd schemas: equal to lm-evaluation-harness under its rule, and to a plain scorer under ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import measured, ours
from trained_model import Trained

from gpt2.errors import FormatError
from gpt2.evaluation.task import Item
from gpt2.evaluation.tasks.winograd import (
    TASKS,
    Winograd,
    fitted,
    read_dpr,
    read_pdp60,
    read_substituted,
    read_wsc273,
)

pytestmark = pytest.mark.usefixtures("one_thread")
WSC, DPR, PDP = TASKS

OWN = """\
The baker waved at the miller. He was covered in flour.
He
the baker,the miller
the baker

My uncle lent my cousin the map because his journey was longer.
his
My uncle,My cousin
My cousin

The gardener asked the twins about their shoes.
their
The gardener,The twins
The twins

Agnes heard Maud and made her laugh.
her
Agnes,Maud
Maud

Agnes wrote to Maud about her garden.
her
Agnes,Maud
Maud
"""


@pytest.fixture(scope="module")
def wsc(data: Path) -> list[Any]:
    return read_wsc273(data / "winograd" / "wsc273.txt")


@pytest.fixture(scope="module")
def dpr(data: Path) -> list[Any]:
    return read_dpr(data / "winograd" / "dpr_test.c.txt")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    file = tmp_path_factory.mktemp("winograd") / "test.c.txt"
    file.write_text(OWN)
    return read_dpr(file)


def as_the_harness_gets_it(row: dict[str, Any]) -> dict[str, Any]:
    """A row in the form of the hub's `winograd_wsc`."""
    return {
        "text": row["before"] + row["pronoun"] + row["after"],
        "pronoun": row["pronoun"],
        "pronoun_loc": len(row["before"]),
        "options": row["candidates"],
        "label": row["candidates"].index(row["answer"]),
    }


@pytest.mark.parametrize("name", ["wsc", "dpr"])
def test_its_rule_equals_lm_evaluation_harness(
    name: str, wsc: list[Any], dpr: list[Any], own: list[Any], trained: Trained, harness: Any, tmp_path: Path
) -> None:
    """WSC as at hand; of DPR, where the pronoun is known, every problem with a possessive, and some others."""
    special = [row for row in dpr if row["pronoun"] in ("his", "her", "their")]
    rows = wsc if name == "wsc" else [*own, *special, *dpr[:60]]
    theirs, samples = measured(
        harness, "wsc273/default.yaml", [as_the_harness_gets_it(row) for row in rows], tmp_path
    )
    found = ours(trained.model, Winograd("winograd", "wsc273", 273, harness=True), rows)
    for asked, sample in zip(found.asked, samples, strict=True):
        scores: Any = asked.replies[-1]
        request: Any = asked.item.requests[-1]
        assert [tuple(pair) for pair in request.pairs] == [tuple(args) for args in sample["arguments"]]
        for score, ((logprob, _),) in zip(scores, sample["resps"], strict=True):
            assert score.logprob == pytest.approx(float(logprob), rel=1e-5, abs=1e-4)
    right = sum(m["harness"].numerator for m in found.measured)
    assert right == round(theirs["acc,none"] * len(rows))
    assert 0.2 < theirs["acc,none"] < 0.8


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_partial_and_full_scoring_equal_a_plain_scorer(task: Winograd, data: Path, trained: Trained) -> None:
    from transformers import GPT2LMHeadModel, GPT2TokenizerFast

    net = GPT2LMHeadModel.from_pretrained(trained.huggingface).eval()
    tok = GPT2TokenizerFast.from_pretrained(trained.huggingface)
    file, read = {
        "winograd": ("wsc273.txt", read_wsc273),
        "dpr": ("dpr_test.c.txt", read_dpr),
        "pdp": ("PDP60.txt", read_pdp60),
    }[task.name]
    rows: list[Any] = read(data / "winograd" / file)[:60]
    right = dict.fromkeys(("partial", "full", "partial-as-given", "full-as-given"), 0)
    for row in rows:
        values: dict[str, list[float]] = {name: [] for name in right}
        for end, spell in (("", fitted), ("-as-given", lambda row, candidate: candidate)):
            for candidate in row["candidates"]:
                head = tok(row["before"] + spell(row, candidate)).input_ids
                ids = torch.tensor([tok.eos_token_id, *head, *tok(row["after"]).input_ids])
                with torch.inference_mode():
                    logprobs = net(ids[None, :-1]).logits[0].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
                values["full" + end].append(float(logprobs.sum()))
                values["partial" + end].append(float(logprobs[len(head) :].sum()))
        answer = row["candidates"].index(row["answer"])
        for name, some in values.items():
            right[name] += all(v < some[answer] for k, v in enumerate(some) if k != answer)
    found = ours(trained.model, task, rows)
    for name, count in right.items():
        assert sum(m[name].numerator for m in found.measured) == count, name
        assert sum(m[name].denominator for m in found.measured) == len(rows)
    assert all(0 < count < len(rows) for count in right.values())


def test_every_problem_at_hand_is_read(data: Path, wsc: list[Any], dpr: list[Any]) -> None:
    pdp = read_pdp60(data / "winograd" / "PDP60.txt")
    assert [len(rows) for rows in (wsc, dpr, pdp)] == [182, 564, 60]
    assert all(isinstance(row, dict) for row in [*wsc, *dpr, *pdp])
    assert sum(row["pronoun"] == "their" for row in pdp if isinstance(row, dict)) == 14
    assert not any(row["pronoun"] == "their" for row in wsc), "possessives come later in the whole set"


def test_both_forms_of_wsc273_ask_for_the_same(data: Path, wsc: list[Any]) -> None:
    """But for a pair of twins, where the other form has a small letter after an exclamation mark."""
    other = read_substituted(data / "winograd" / "winograd_wsc.jsonl")
    differing = set()
    for a, b in zip(WSC.items(wsc), WSC.items(other), strict=True):
        assert isinstance(a, Item) and isinstance(b, Item)
        for k in (0, 1, 4):  # partial, what full adds, harness
            pairs: list[Any] = [sorted(request.pairs) for request in (a.requests[k], b.requests[k])]  # type: ignore[union-attr]
            if pairs[0] != pairs[1]:
                differing.add((a.id, k))
        answers = [item.facts["candidates"].index(item.facts["answer"]) for item in (a, b)]
        right: list[Any] = [
            item.requests[4].pairs[k]  # type: ignore[union-attr]
            for item, k in zip((a, b), answers, strict=True)
        ]
        assert right[0] == right[1]
    assert differing == {("172", 0), ("172", 1), ("173", 0), ("173", 1)}


def test_candidates_are_written_as_the_sentence_needs_them(own: list[Any]) -> None:
    written = [[fitted(row, candidate) for candidate in row["candidates"]] for row in own]
    assert written == [
        ["The baker", "The miller"],
        ["my uncle's", "my cousin's"],
        ["the gardener's", "the twins'"],
        ["Agnes", "Maud"],
        ["Agnes'", "Maud's"],
    ]
    assert fitted({"before": "He said: ", "pronoun": "it", "after": " fell."}, "The map") == "the map"


def test_twins_are_one_unit(wsc: list[Any], dpr: list[Any]) -> None:
    groups = [item.group for item in DPR.items(dpr) if isinstance(item, Item)]
    assert len(set(groups)) == 564 / 2
    groups = [item.group for item in WSC.items(wsc) if isinstance(item, Item)]
    assert len(set(groups)) == 182 / 2
    three = [dict(wsc[0]), dict(wsc[1]), dict(wsc[0])]
    assert len({item.group for item in WSC.items(three) if isinstance(item, Item)}) == 2


def test_rows_that_cannot_be_asked_are_named(trained: Trained, tmp_path: Path) -> None:
    file = tmp_path / "test.c.txt"
    problems = [
        b"The fox saw the hen and it ran.\nit\nThe fox,the hen\nthe hen",
        b"The fox saw the hen and it ran.\nit\nThe fox,the hen",
        b"The fox saw the hen.\nit\nThe fox,the hen\nthe hen",
        b"The fox saw the hen and it ran.\nit\nThe fox\nThe fox",
        b"The fox saw the hen and it ran.\nit\nThe fox,the hen\nthe dog",
        b"The fox saw the hen and chased it\nit\nThe fox,the hen\nthe hen",
        b"The caf\xe9 saw the hen and it ran.\nit\nThe fox,the hen\nthe hen",
        b"The fox saw the hen and it" + b" ran and ran" * 600 + b".\nit\nThe fox,the hen\nthe hen",
    ]
    file.write_bytes(b"\n\n".join(problems))
    found = ours(trained.model, DPR, read_dpr(file))
    assert [asked.item.id for asked in found.asked] == ["0"]
    assert {bad.id: bad.reason for bad in found.malformed} == {
        "1": "3 lines instead of 4",
        "2": "the pronoun 'it' is not in the sentence",
        "3": "not two different candidates",
        "4": "the answer is none of the candidates",
        "5": "nothing follows the pronoun",
        "6": "not UTF-8: byte 0xe9 where no character begins",
        "7": "the target has more tokens than the model's context of 512",
    }
    with pytest.raises(FormatError, match="no problem of four lines"):
        file.write_text("some text\n")
        read_dpr(file)
    rows = [
        {"context_options": ["The fox", "The hen"], "continuation": "ran.", "gold": 2},
        {"context_options": ["The fox", "The hen"], "continuation": "ran.", "gold": 1},
    ]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    bad, good = read_substituted(file)
    assert bad.reason == "'gold' is the place of none of the texts in 'context_options'"  # type: ignore[union-attr]
    assert good["before"] + good["answer"] + good["after"] == "The hen ran."  # type: ignore[index]
