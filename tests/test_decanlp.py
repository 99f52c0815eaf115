"""decaNLP: readers on real files and on fixtures in the published formats, metrics, curricula, one model."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

import gpt2
from gpt2.errors import ConfigError, FormatError, InputError, TooLittleData
from gpt2.finetuning.decanlp import (
    DecaConfig,
    answer_loss,
    answered,
    finetune_decanlp,
    lesson,
    prompt,
    teach,
    timetable,
)
from gpt2.finetuning.decanlp_files import (
    Query,
    read_multinli,
    read_records,
    read_schemas,
    read_srl,
    read_sst,
    read_summaries,
    read_translation,
    read_woz,
    read_zre,
)
from gpt2.finetuning.decanlp_scores import METRICS, MQAN, deca_score, measure
from gpt2.finetuning.decanlp_tasks import find_task
from gpt2.finetuning.decanlp_wikisql import logical_form, read_wikisql
from gpt2.finetuning.supervised import GPT1, SupervisedConfig

pytestmark = pytest.mark.usefixtures("one_thread")
TOK = gpt2.Tokenizer([])
SHAPE = gpt2.GPT2Config(1, 2, 16, TOK.n_vocab, 96)
QUICK = SupervisedConfig(batch=4, optimizer=dataclasses.replace(GPT1, learning_rate=1e-2))


def file(folder: Path, name: str, text: str) -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


# Tasks whose data is not at hand: fixtures of our own in the published formats.


def test_fixture_of_our_own_multinli(tmp_path: Path) -> None:
    rows = [
        {"sentence1": "It rained.", "sentence2": "It was wet.", "gold_label": "neutral"},
        {"sentence1": "A", "sentence2": "B", "gold_label": "-"},
    ]
    path = file(tmp_path, "multinli_1.0_train.jsonl", "\n".join(map(json.dumps, rows)))
    asked = 'Hypothesis: "It was wet." -- entailment, neutral, or contradiction?'
    assert read_multinli(path) == [Query('Premise: "It rained."', asked, "neutral")]


def test_fixture_of_our_own_zre(tmp_path: Path) -> None:
    path = file(
        tmp_path,
        "train.0",
        "owner\tWho owns XXX?\tThe Mill\tTwo sisters own the Mill.\tTwo sisters\n"
        "owner\tWho owns XXX?\tThe Inn\tThe Inn is old.\n",
    )
    found = read_zre(path)
    assert [(q.question, q.answer) for q in found] == [
        ("Who owns The Mill?", "Two sisters"),
        ("Who owns The Inn?", "Unanswerable"),
    ]
    with pytest.raises(FormatError, match="line 1 has 2 columns"):
        read_zre(file(tmp_path, "other", "a\tb\n"))


def test_fixture_of_our_own_schemas(tmp_path: Path) -> None:
    text = (
        "The hen left the nest because it was too [cold/shy].\nWhat was too [cold/shy]?\nthe nest/the hen\n"
    )
    found = read_schemas(file(tmp_path, "schema.txt", f"{text}\n{text}"))
    assert len(found) == 4
    assert found[1] == Query(
        "The hen left the nest because it was too shy.",
        "What was too shy? the nest or the hen?",
        "the hen",
    )
    with pytest.raises(FormatError, match="not followed by a question and two answers"):
        read_schemas(file(tmp_path, "other.txt", "one line\n"))


def test_fixture_of_our_own_wikisql(tmp_path: Path) -> None:
    row = {
        "question": "How many picks?",
        "table_id": "1",
        "sql": {"sel": 0, "agg": 3, "conds": [[1, 0, "Oakland"]]},
    }
    path = file(tmp_path, "train.jsonl", json.dumps(row))
    tables = file(tmp_path, "train.tables.jsonl", json.dumps({"id": "1", "header": ["Pick", "Team"]}))
    (found,) = read_wikisql(path, tables)
    assert found.answer == "SELECT COUNT Pick FROM table WHERE Team = Oakland"
    assert found.context.startswith(
        "The table has columns Pick, Team and key words MAX, MIN, COUNT, SUM, AVG, =, >"
    )
    assert found.context.endswith("QUESTION, AGG, AGGOPS, CONDOPS -- How many picks?")


def test_fixture_of_our_own_iwslt_training_text(tmp_path: Path) -> None:
    ours = file(tmp_path, "train.tags.en-de.en", "<title>Talk</title>\nThank you.\n\n")
    theirs = file(tmp_path, "train.tags.en-de.de", "<title>Rede</title>\nDanke.\n\n")
    assert read_translation(ours, theirs) == [
        Query("Thank you.", "Translate from English to German", "Danke.")
    ]
    with pytest.raises(FormatError, match=r"1 sentences and .* 2;"):
        read_translation(ours, file(tmp_path, "long.de", "Danke.\nBitte."))


def test_decanlps_own_records_are_read(tmp_path: Path) -> None:
    row = {"context": "C", "question": "Q", "answer": "A", "all_answers": ["A", "B"], "type": "wiki"}
    path = file(tmp_path, "srl_dev.jsonl", json.dumps(row))
    assert read_records(path) == [Query("C", "Q", "A", ("A", "B"), {"type": "wiki"})]
    with pytest.raises(FormatError, match="line 1: a record needs context, question and answer"):
        read_records(file(tmp_path, "x.jsonl", '{"context": "C"}'))


# Real files.

AT_HAND = {"squad": 217, "cnn_dailymail": 26, "sst": 872, "woz.en": 830, "wikisql": 96}


@pytest.mark.parametrize("name", METRICS)
def test_tasks_whose_data_is_at_hand_are_found_and_the_right_answers_score_100(name: str, data: Path) -> None:
    found = find_task(name, [data])
    assert (found is not None) == (name in AT_HAND)
    if found:
        queries = found.dev
        assert len(queries) == AT_HAND[name]
        assert measure(name, [q.answer for q in queries], queries) == pytest.approx(100)
        assert measure(name, ["!"] * len(queries), queries) < 25
        assert len(found.train) > len(queries)
        if "our own split" in found.data:
            assert not {q.context for q in found.train} & {q.context for q in queries}


def test_twins_of_a_schema_are_of_one_split(tmp_path: Path) -> None:
    block = "Hen {0} is [cold/shy].\nWhat is [cold/shy]?\nnest {0}/hen {0}\n"
    path = file(tmp_path, "schema.txt", "\n".join(block.format(i) for i in range(100)))
    found = find_task("schema", [tmp_path])
    assert found and "decaNLP's split" in found.data and found.paths == (path,)
    assert (len(found.train), len(found.dev)) == (80, 20)
    assert found.train[-1].context == "Hen 39 is shy." and found.dev[0].context == "Hen 40 is cold."


def test_one_file_without_a_split_is_divided_or_not_taken(tmp_path: Path) -> None:
    def squad(name: str, count: int) -> None:
        parts = [
            {"context": f"{name} {i}", "qas": [{"question": "q", "answers": [{"text": "a"}]}]}
            for i in range(count)
        ]
        file(tmp_path, name, json.dumps({"data": [{"paragraphs": parts}]}))

    squad("xquad.en.json", 30)
    squad("dev-v1.1.json", 25)
    found = find_task("squad", [tmp_path])
    assert found and {q.context.split()[0] for q in [*found.train, *found.dev]} == {"xquad.en.json"}
    assert not {q.context for q in found.train} & {q.context for q in found.dev}
    squad("train-v1.1.json", 40)
    found = find_task("squad", [tmp_path])
    assert found and (len(found.train), len(found.dev), found.data) == (40, 25, "dev-v1.1.json")


def test_the_development_set_of_multinli_is_matched_and_mismatched(tmp_path: Path) -> None:
    row = json.dumps({"sentence1": "a", "sentence2": "b", "gold_label": "neutral"})
    for name in ("train", "dev_matched"):
        file(tmp_path, f"multinli_1.0_{name}.jsonl", "\n".join([row] * 20))
    assert find_task("multinli.in.out", [tmp_path]) is None
    file(tmp_path, "multinli_1.0_dev_mismatched.jsonl", "\n".join([row] * 21))
    found = find_task("multinli.in.out", [tmp_path])
    assert found and (len(found.train), len(found.dev)) == (20, 41)


def test_a_summary_is_one_line(tmp_path: Path) -> None:
    row = {"article": "One.\nTwo.", "highlights": "Three .\nFour ."}
    path = file(tmp_path, "cnndm_train.jsonl", json.dumps(row))
    assert read_summaries(path) == [Query("One. Two.", "What is the summary?", "Three . Four .")]


def test_real_samples_of_formats_are_read(data: Path) -> None:
    folder = data / "decanlp"
    one, other = read_srl(folder / "qasrl_wiki1.train.qa")
    assert one.question == "what marks something?" and len(one.references) == 4
    assert (other.question, other.answer) == ("what does something mark?", "the snake's heart")
    assert other.context.startswith("The brightest star in Serpens, Alpha Serpentis, or Unukalhai, is")
    sides = [folder / f"IWSLT17.TED.tst2013.en-de.{code}.head.xml" for code in ("en", "de")]
    found = read_translation(*sides)
    assert len(found) == 7 and found[0].context.startswith("When I was 11")


def test_a_turn_of_woz_is_what_changed(data: Path) -> None:
    turns = {q.facts["turn"]: q for q in read_woz(data / "decanlp" / "woz_train_en.json")}
    assert turns["en_0_0"].answer == "food: eritrean;"
    assert turns["en_0_1"].answer == "food: chinese;"
    assert turns["en_0_2"].answer == "area: east;"
    assert turns["en_0_2"].context == "area -- I would like the East part of town."
    assert turns["en_0_3"].answer == "; postcode, phone, address"
    assert turns["en_0_4"].answer == "None"


def test_the_middle_grade_of_sst_is_left_out(tmp_path: Path) -> None:
    path = file(tmp_path, "fine.csv", 'label,sentence\n0,bad\n2,so so\n4,"good, very"\n')
    assert [(q.context, q.answer) for q in read_sst(path)] == [
        ("bad", "negative"),
        ("good, very", "positive"),
    ]
    binary = file(tmp_path, "binary.csv", "label,sentence\n0,bad\n1,good\n")
    assert [q.answer for q in read_sst(binary)] == ["negative", "positive"]
    with pytest.raises(FormatError, match="the label '7'"):
        read_sst(file(tmp_path, "c.csv", "label,sentence\n7,x\n"))


# Metrics.


def test_logical_forms_are_what_a_query_says_not_how() -> None:
    header = ["Pick", "Pick Team", "Year (from)"]
    form = logical_form("SELECT  max Pick FROM table WHERE Pick Team = A and B AND Year (from) > 3", header)
    assert form == (0, 1, ((1, 0, "a and b"), (2, 1, "3")))
    assert logical_form("select pick team from table", header) == (1, 0, ())
    for wrong in ("", "SELECT Nothing FROM table", "SELECT Pick FROM table WHERE x = 3", "Pick"):
        assert logical_form(wrong, header) is None


def test_joint_goals_add_up_over_a_dialogue() -> None:
    right = ["food: thai;", "area: west; phone", "None", "food: thai;"]
    queries = [
        Query("", "", answer, facts={"turn": f"en_{i // 3}_{i % 3}"}) for i, answer in enumerate(right)
    ]
    assert measure("woz.en", right, queries) == 100
    assert measure("woz.en", ["food: thai;", "area: east;", "None", "food: thai;"], queries) == 50
    assert measure("woz.en", ["food: x;", "food: thai, area: west;", "nonsense", ""], queries) == 50
    assert measure("woz.en", ["food: x;", *right[1:]], queries) == 25
    assert measure("woz.en", [answer.title() for answer in right], queries) == 100


def test_turns_are_taken_in_their_order_not_in_that_of_their_names() -> None:
    queries = [Query("", "", f"food: {i};", facts={"turn": f"en_0_{i}"}) for i in range(12)]
    assert measure("woz.en", [q.answer for q in queries], queries) == 100
    late = [q.answer if i < 11 else "food: x;" for i, q in enumerate(queries)]
    assert measure("woz.en", late, queries) == pytest.approx(100 * 11 / 12)


def test_corpus_f1_counts_what_is_answered() -> None:
    queries = [Query("", "", a) for a in ("Ann and Bob", "Unanswerable", "Unanswerable", "the mill")]
    said = ["bob ann", "Unanswerable", "something", "nothing at all"]
    assert measure("zre", said, queries) == pytest.approx(100 * 2 * 1 / (3 + 2))
    assert measure("zre", ["unanswerable"] * 4, queries) == 0


def test_other_metrics() -> None:
    queries = [Query("", "", "The red house", ("The red house", "house"))]
    assert measure("squad", ["a house"], queries) == 100
    assert measure("squad", ["red car"], queries) == pytest.approx(100 * 2 / 4)
    assert measure("sst", ["house "], queries) == 0 and measure("sst", ["HOUSE"], queries) == 100
    assert measure("cnn_dailymail", ["The red house."], queries) == pytest.approx(100)
    pytest.importorskip("sacrebleu")
    line = [Query("", "", "the quick brown fox jumps over it")]
    assert measure("iwslt.en.de", ["The QUICK brown fox jumps over it"], line) == pytest.approx(100)


def test_the_sum_of_mqans_scores_is_its_published_deca_score() -> None:
    assert deca_score(MQAN) == (pytest.approx(609.0, abs=0.15), [])
    assert deca_score({"sst": 80.0})[1][:2] == ["squad", "iwslt.en.de"]


# One model.


def test_only_context_is_cut_and_only_answers_are_learned() -> None:
    query = Query("c" * 200, "q?", "yes")
    ids, begin = lesson(TOK, query, 60)
    assert len(ids) == 60 and TOK.decode(ids[begin:-1]) == " yes" and ids[-1] == TOK.end_of_text
    assert TOK.decode(ids[:begin]).endswith("ccc\nQ: q?\nA:") and ids[:begin] == prompt(TOK, query, begin)
    long, begin = lesson(TOK, Query("c" * 200, "q?", "a" * 200), 60)
    assert len(long) - begin == 20 and TOK.decode(long[:begin]).endswith("\nQ: q?\nA:")
    model = gpt2.Model(gpt2.GPT2(SHAPE), TOK)
    lessons = [lesson(TOK, q, 60) for q in (query, Query("ab", "q?", "no"))]
    scores = gpt2.score(
        model, [(TOK.decode(row[:at]), TOK.decode(row[at:-1])) for row, at in lessons], start="none"
    )
    ends = []
    for row, _ in lessons:
        logits = model.net(torch.tensor([row[:-1]]))[0, -1].detach()
        ends.append(float(logits.log_softmax(-1)[TOK.end_of_text]))
    tokens = sum(len(row) - at for row, at in lessons)
    wanted = -(sum(s.logprob for s in scores) + sum(ends)) / tokens
    assert float(answer_loss(model, lessons).detach()) == pytest.approx(wanted, abs=1e-4)


def test_curricula() -> None:
    lengths = {"sst": [5] * 60, "squad": [5] * 20, "woz.en": [5] * 20}
    turn = timetable(lengths, 30, 4, "round-robin", 0)
    assert [name for name, _ in turn[:4]] == ["sst", "squad", "woz.en", "sst"]
    seen = Counter(i for name, rows in turn if name == "squad" for i in rows)
    assert set(seen) == set(range(20)) and max(seen.values()) == min(seen.values()) == 2
    first = timetable(lengths, 30, 4, "squad-first", 0)
    assert [name for name, _ in first[:10]] == ["squad"] * 10
    assert Counter(name for name, _ in first[10:]) == {"sst": 7, "squad": 7, "woz.en": 6}
    drawn = Counter(name for name, _ in timetable(lengths, 1000, 4, "sampling", 0))
    assert 540 < drawn["sst"] < 660 and drawn["squad"] > 120
    assert turn == timetable(lengths, 30, 4, "round-robin", 0) != timetable(lengths, 30, 4, "round-robin", 1)
    with pytest.raises(InputError, match="squad-first needs the data of SQuAD"):
        timetable({"sst": [5]}, 3, 1, "squad-first", 0)


def test_a_model_learns_to_answer(tmp_path: Path) -> None:
    model = gpt2.Model(gpt2.GPT2(SHAPE), TOK)
    asked = {
        "sst": [Query(w, "?", "yes" if w == "good" else "no") for w in ("good", "bad")] * 8,
        "schema": [Query("it", "!", "ok")] * 4,
    }
    config = DecaConfig(120, supervised=QUICK, answer_tokens=8)
    teach(model, asked, config, tmp_path)
    for name, queries in asked.items():
        assert answered(model, queries[:2], config) == [q.answer for q in queries[:2]], name


@pytest.fixture
def world_of_deca(tmp_path: Path) -> tuple[Path, Path]:
    """A model, and three tasks as decaNLP's own records."""
    gpt2.Model(gpt2.GPT2(SHAPE), TOK).save(tmp_path / "model")
    for name in ("sst", "squad", "multinli.in.out"):
        rows = [{"context": f"c{i}", "question": "q", "answer": f"a{i % 2}"} for i in range(8)]
        for split in ("train", "dev"):
            file(tmp_path / "data", f"{name}_{split}.jsonl", "\n".join(map(json.dumps, rows)))
    return tmp_path / "model", tmp_path / "data"


def test_one_joint_model_beside_zero_shot_with_missing_tasks_named(
    world_of_deca: tuple[Path, Path], tmp_path: Path
) -> None:
    model, data = world_of_deca
    config = DecaConfig(6, data=data, curriculum="squad-first", supervised=QUICK, answer_tokens=4, limit=5)
    found = finetune_decanlp(model, tmp_path / "out", config)
    assert [(r["task"], r["trained_on"], r["items"]) for r in found.rows] == [
        ("squad", 8, 5),
        ("multinli.in.out", 8, 5),
        ("sst", 8, 5),
    ]
    assert found.missing == ["iwslt.en.de", "cnn_dailymail", "srl", "zre", "woz.en", "wikisql", "schema"]
    assert "3 of decaNLP's 10 tasks; missing: iwslt.en.de" in found.table() and "77.0" in found.table()
    assert set(found.json()["deca_score"]) == {"zero_shot", "tuned"}
    tuned = gpt2.load(tmp_path / "out" / "tuned" / "model")
    before = gpt2.load(model)
    assert not torch.equal(tuned.net.wte.weight, before.net.wte.weight)
    assert gpt2.generate(tuned, ["c0\nQ: q\nA:"], max_tokens=2, temperature=0)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.jsonl")}
    assert finetune_decanlp(model, tmp_path / "out", config).rows == found.rows
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.jsonl")}
    changed = data / "sst_train.jsonl"
    changed.write_text(changed.read_text().replace("a1", "other"))
    finetune_decanlp(model, tmp_path / "out", config)
    assert all(path.stat().st_mtime_ns > time for path, time in times.items()), "the data is another"


def test_the_command_talks(world_of_deca: tuple[Path, Path], tmp_path: Path, run: Any) -> None:
    model, data = world_of_deca
    out = tmp_path / "out"
    words = ["--data", data, "--out", out, "--steps", 2, "--batch", 2]
    words += ["--limit", 2, "--quiet", "--threads", 1]
    said = run("finetune", "decanlp", model, *words, "--json")
    assert said.status == 0, said.err
    assert len(json.loads(said.out)["missing"]) == 7
    assert run("finetune", "decanlp", model, *words, "--tasks", "ssst").refused("did you mean 'sst'")
    assert run("finetune", "decanlp", model, *words, "--tasks", "zre").refused("no data of decaNLP's zre")


def test_no_data_at_all_is_refused(
    world_of_deca: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(TooLittleData, match="no task of decaNLP has its data at hand"):
        finetune_decanlp(world_of_deca[0], tmp_path / "out", DecaConfig(1, data=tmp_path / "empty"))


@pytest.mark.parametrize("changes", [{"steps": 0}, {"curriculum": "x"}, {"max_tokens": 4}, {"limit": 0}])
def test_settings_out_of_range_are_refused(changes: Any) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        DecaConfig(**({"steps": 1} | changes))
