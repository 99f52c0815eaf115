"""gpt2 evaluate and gpt2 tasks, as they are typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Run, World

import gpt2.evaluation.tasks

ROWS = [
    {"text": f"He went to the {place} and she waited at the {place}"} for place in ("sea", "hill", "fair")
]


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a few rows of one task."""
    monkeypatch.delenv("GPT2_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "lambada_test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path / "data"


def test_a_table_for_people(run: Run, world: World, rows: Path) -> None:
    said = run("evaluate", world.model, "--tasks", "lambada", "--data", rows, "--threads", 1)
    assert said.status == 0
    [header, _, first, *_] = said.out.splitlines()
    for word in ("ours", "paper", "reproducible", "protocol", "verdict"):
        assert word in header
    assert first.startswith("lambada/last-word ") and "45.99 (124M)" in first and "5,153" in first
    assert "no data: no lambada_test_plain_text.txt" in said.out, "the other copy's rows say how to get it"
    assert "unknown copy" in said.out and "3 of 5,153 items" in said.out
    assert "none of OpenAI's shapes" in said.out
    assert "lambada last-word" in said.err, "progress goes to standard error"


def test_one_object_for_programs_with_every_field(run: Run, world: World, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    words = ("evaluate", world.model, "--tasks", "lambada", "--protocol", "last-word,lambada/last-token")
    said = run(*words, "--data", rows, "--out", out, "--limit", 2, "--json", "--quiet", "--threads", 1)
    assert (said.status, said.err) == (0, "")
    found = json.loads(said.out)
    assert [row["protocol"] for row in found["rows"]] == ["lambada/last-word", "lambada/last-token"]
    for row in found["rows"]:
        assert (row["task"], row["metric"], row["n"], row["of"]) == ("lambada", "accuracy", 2, 5153)
        assert {"value", "low", "high", "paper", "reproducible", "verdict", "settings", "data"} <= set(row)
        assert row["settings"]["target"] and row["settings"]["data"] == "lambada-openai"
    assert found["model"]["size"] is None and found["model"]["dtype"] == "float32"
    assert json.loads((out / "results.json").read_text()) == found


def test_a_text_of_the_users_own(run: Run, world: World, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("The lazy dog.\n" * 20)
    said = run(
        "evaluate", world.model, "--tasks", "text", "--data", tmp_path / "mine.txt", "--json", "--quiet"
    )
    rows = {row["protocol"]: row["value"] for row in json.loads(said.out)["rows"]}
    assert rows["text/token"] > 1 and rows["text/byte"] > 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("{model}", "--tasks", "lambda"), "unknown task 'lambda' (did you mean 'lambada'?)"),
        (("{model}", "--tasks", ""), "no task"),
        (("{model}", "--tasks", "lambada", "--protocol", "last-wrod"), "did you mean 'last-word'?"),
        (("{model}", "--data", "{rows}/none"), "there is no folder"),
        (("{model}", "--limit", "0"), "limit"),
        (("{model}", "--out", "{rows}/lambada_test.jsonl", "--tasks", "lambada"), "is a file"),
        (("{rows}/none",), "there is no model"),
    ],
)
def test_bad_input_is_one_sentence(
    words: tuple[str, ...], sentence: str, run: Run, world: World, rows: Path
) -> None:
    said = run("evaluate", *(word.format(model=world.model, rows=rows) for word in words), "--quiet")
    assert said.refused(sentence), said


def test_tasks_are_listed_with_their_protocols_and_their_data(run: Run, rows: Path) -> None:
    said = run("tasks", "--data", rows)
    assert said.status == 0
    assert f"lambada-openai: {rows / 'lambada_test.jsonl'}" in said.out
    assert "ptb: no ptb.test.txt in" in said.out
    found = json.loads(run("tasks", "--data", rows, "--json").out)
    listed = {p["name"]: one for one in found["tasks"] for p in one["protocols"] if one["task"] == "lambada"}
    assert listed["last-word"]["found"] and listed["last-word"]["items"] == 5153
    assert listed["standard-last-word"]["how_to_get"]
    assert {one["task"] for one in found["tasks"]} == {t.name for t in gpt2.evaluation.tasks.every_task()}
    assert run("tasks", "--data", rows / "none").refused("there is no folder")


def test_listing_tasks_imports_nothing_heavy() -> None:
    code = (
        "import gpt2.cli, sys\n"
        "try:\n    gpt2.cli.main(['tasks', '--quiet'])\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'pyarrow', 'sacrebleu') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_every_task_runs_on_the_data_at_hand(run: Run, data: Path, tmp_path: Path) -> None:
    model = gpt2.Model(
        gpt2.GPT2(gpt2.GPT2Config(n_layer=1, n_head=1, n_embd=8, n_ctx=512), seed=0), gpt2.Tokenizer.gpt2()
    )
    model.save(tmp_path / "model")
    words = ("evaluate", tmp_path / "model", "--tasks", "all", "--data", data, "--limit", 1, "--threads", 1)
    first = run(*words, "--out", tmp_path / "out", "--json", "--quiet")
    assert first.status == 0
    rows = json.loads(first.out)["rows"]
    wanted = {t.name for t in gpt2.evaluation.tasks.every_task()} - set(gpt2.evaluation.tasks.ON_REQUEST)
    assert {row["task"] for row in rows} == wanted
    for row in rows:
        if row["value"] is None:
            assert row["verdict"].startswith("no data: no "), row
        else:
            assert row["n"] >= 1 and row["data"]
    assert run(*words, "--out", tmp_path / "out", "--json", "--quiet").out == first.out
