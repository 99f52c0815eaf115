"""GLUE: files in all their forms, official figures beside scikit-learn's and scipy's, runs, submissions, refusals."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpt2
from gpt2.errors import ConfigError, FormatError, InputError, TooLittleData
from gpt2.finetuning import glue_files
from gpt2.finetuning.classifier import TextClassifier
from gpt2.finetuning.glue import GlueConfig, finetune_glue, purpose_of
from gpt2.finetuning.glue_files import Example, fetch, read_file, read_split, write_submission
from gpt2.finetuning.glue_scores import difference, interval, loss, score
from gpt2.finetuning.glue_tasks import TASKS, glue_task
from gpt2.finetuning.supervised import GPT1, SupervisedConfig

pytestmark = pytest.mark.usefixtures("one_thread")
TOK = gpt2.Tokenizer([])

# The first lines of each file as GLUE has it, with sentences of our own.
FILES = {
    "CoLA/train.tsv": "gj04\t1\t\tA cat sat.\ngj04\t0\t*\tCat a sat.\n",
    "CoLA/test.tsv": "index\tsentence\n0\tA dog ran.\n1\tRan dog a.\n",
    "SST-2/train.tsv": "sentence\tlabel\na fine film \t1\na dull film \t0\n",
    "SST-2/test.tsv": "index\tsentence\n0\ta film\n",
    "MRPC/train.tsv": "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    '1\t7\t8\tHe said "no.\tHe said no.\n0\t9\t3\tA\tB\n',
    "MRPC/test.tsv": "\ufeffindex\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t7\t8\tA\tB\n",
    "QQP/train.tsv": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    "5\t1\t2\tWhy?\tHow?\t0\n6\t1\t2\tWhy?\tWhy so?\t1\n",
    "QQP/test.tsv": "id\tquestion1\tquestion2\n0\tWhy?\tHow?\n",
    "STS-B/train.tsv": "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
    "0\tm\tf\t2012\t1\tn\tn\tA cat.\tOne cat.\t4.8\n1\tm\tf\t2012\t2\tn\tn\tA cat.\tA car.\t0.5\n",
    "MNLI/train.tsv": "index\tpromptID\tpairID\tgenre\t"
    "sentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\t"
    "sentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label\n0\t3\t3n\tfiction\t( )\t( )\t(R)\t(R)\tIt rained.\t"
    "It was wet.\tneutral\tneutral\n"
    "1\t3\t3e\tfiction\t( )\t( )\t(R)\t(R)\tIt rained.\tRain fell.\tentailment\tentailment\n",
    "QNLI/train.tsv": "index\tquestion\tsentence\tlabel\n"
    "0\tWho?\tHe did.\tentailment\n1\tWhen?\tHe did.\tnot_entailment\n",
    "RTE/train.tsv": "index\tsentence1\tsentence2\tlabel\n0\tA b.\tB.\tentailment\n1\tA b.\tC.\tnot_entailment\n",
    "WNLI/train.tsv": "index\tsentence1\tsentence2\tlabel\n0\tA b.\tB.\t1\n1\tA b.\tC.\t0\n",
    "AX/diagnostic.tsv": "index\tsentence1\tsentence2\n0\tA b.\tB.\n",
}
LABELS = {
    "cola": [1, 0],
    "sst2": [1, 0],
    "mrpc": [1, 0],
    "qqp": [0, 1],
    "stsb": [4.8, 0.5],
    "mnli": [1, 0],
    "qnli": [0, 1],
    "rte": [0, 1],
    "wnli": [1, 0],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("name", LABELS)
def test_every_task_is_read_in_glues_own_form(name: str, folder: Path) -> None:
    found = read_split(name, "train", folder)
    assert found is not None and found.labels == LABELS[name] and found.left_out == 0
    assert all((second is not None) == TASKS[name].pair for _, second in found.texts)


@pytest.mark.parametrize("name", ["cola", "sst2", "mrpc", "qqp", "ax"])
def test_test_files_have_no_labels(name: str, folder: Path) -> None:
    found = read_split(name, "test", folder)
    assert found is not None and found.examples[0].id == "0"
    with pytest.raises(InputError, match="without a label"):
        _ = found.labels


def test_quotes_are_characters_and_a_byte_order_mark_is_none(folder: Path) -> None:
    found = read_split("mrpc", "train", folder)
    assert found is not None and found.texts[0] == ('He said "no.', "He said no.")


REAL = {
    "cola": (8551, 1043),
    "sst2": (6920, 872),
    "mrpc": (4076, 1725),
    "stsb": (5749, 1500),
    "rte": (2490, 277),
    "wnli": (459, 53),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files_are_read_whole(name: str, data: Path) -> None:
    found = [read_split(name, split, data) for split in ("train", "dev")]
    assert [len(split.labels) for split in found if split] == list(REAL[name])
    assert [split.left_out for split in found if split] == [0, 0]


def test_json_lines_are_read(data: Path) -> None:
    examples, left_out = read_file(TASKS["rte"], data / "glue" / "rte_train.jsonl")
    assert len(examples) == 32 and left_out == 0 and {e.label for e in examples} == {0.0, 1.0}
    assert all(first and second for first, second in (e.texts for e in examples))


def written(folder: Path, text: str, name: str = "file.tsv") -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize(
    ("task", "text", "words"),
    [
        ("sst2", "text\tclass\nx\t1\n", "unknown label 'class'"),
        ("mrpc", "a\tb\n", r"has the columns a, b; MRPC needs #1 String, #2 String and Quality"),
        ("sst2", "sentence\tlabel\nx\t7\n", "row 1: unknown label '7'; SST-2 has 0, 1"),
        ("rte", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tmaybe\n", "unknown label 'maybe'"),
        ("stsb", "index\tsentence1\tsentence2\tscore\n0\ta\tb\t5.1\n", "'5.1' is no score from 0 to 5"),
        ("stsb", "index\tsentence1\tsentence2\tscore\n0\ta\tb\tnan\n", "'nan' is no score"),
        ("qqp", "id\tquestion1\tquestion2\tis_duplicate\n1\ta\n2\ta\tb\t1\n", "1 of 2 rows lack a column"),
    ],
)
def test_other_files_are_refused_in_one_sentence(task: str, text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=words):
        read_file(TASKS[task], written(tmp_path, text))


@pytest.mark.parametrize("text", ["", "\n", "sentence\tlabel\n"])
def test_empty_splits_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(TooLittleData, match="has no rows"):
        read_file(TASKS["sst2"], written(tmp_path, text))


def test_a_few_broken_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = "".join(f"{i}\ta\tb\t{i % 2}\n" for i in range(150))
    path = written(tmp_path, f"id\tquestion1\tquestion2\tis_duplicate\n{rows}150\tshort\n")
    examples, left_out = read_file(TASKS["qqp"], path)
    assert (len(examples), left_out) == (150, 1)


def test_a_broken_row_of_a_test_stays_in_the_submission(tmp_path: Path) -> None:
    path = written(tmp_path, "id\tquestion1\tquestion2\n0\tWhy?\tHow?\n1\tshort\n2\tWhy?\tWho?\n")
    examples, left_out = read_file(TASKS["qqp"], path)
    assert [e.id for e in examples] == ["0", "1", "2"] and left_out == 0
    assert examples[1] == Example("1", ("short", ""), None)


def test_minus_one_is_no_label(tmp_path: Path) -> None:
    examples, left_out = read_file(TASKS["sst2"], written(tmp_path, "sentence\tlabel\nfine\t-1\ndull\t-1\n"))
    assert [e.label for e in examples] == [None, None] and left_out == 0


def test_texts_are_read_in_both_orders_with_marks_alone() -> None:
    examples = [Example(str(i), ("a", "b"), float(i % 2)) for i in range(4)]
    assert purpose_of(TASKS["mrpc"], examples, "gpt1", 64).both
    assert not purpose_of(TASKS["mrpc"], examples, "plain", 64).both


def test_losses_are_cross_entropy_or_squared_error() -> None:
    logits = np.log(np.array([[0.25, 0.75], [0.5, 0.5]])) + 3
    assert loss(logits, ("no", "yes"), np.array([1.0, 0.0])) == pytest.approx(-np.log(0.75 * 0.5) / 2)
    assert loss(np.array([[1.0], [4.0]]), (), np.array([2.0, 4.0])) == 0.5


def test_one_class_alone_is_refused() -> None:
    examples = [Example(str(i), ("text", None), 1.0) for i in range(5)]
    with pytest.raises(TooLittleData, match="all 5 training items of SST-2 are labelled 'positive'"):
        purpose_of(TASKS["sst2"], examples, "gpt1", 64)


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no task 'clo' \(did you mean 'cola'\?\)"):
        glue_task("clo")
    assert glue_task("STS-B").name == "stsb"


@pytest.mark.parametrize("seed", range(4))
def test_figures_are_those_of_scikit_learn_and_scipy(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(seed)
    wanted = rng.integers(0, 2, 200)
    said = np.where(rng.random(200) < 0.7, wanted, rng.integers(0, 2, 200))
    assert score("accuracy", said, wanted) == pytest.approx(metrics.accuracy_score(wanted, said), abs=1e-12)
    assert score("f1", said, wanted) == pytest.approx(metrics.f1_score(wanted, said), abs=1e-12)
    assert score("matthews", said, wanted) == pytest.approx(
        metrics.matthews_corrcoef(wanted, said), abs=1e-12
    )
    three, guess = rng.integers(0, 3, 200), rng.integers(0, 3, 200)
    assert score("matthews", guess, three) == pytest.approx(
        metrics.matthews_corrcoef(three, guess), abs=1e-12
    )
    x = np.round(rng.random(200) * 5, 1)  # with ties
    y = x + rng.normal(size=200)
    assert score("pearson", y, x) == pytest.approx(stats.pearsonr(y, x).statistic, abs=1e-12)
    assert score("spearman", y, x) == pytest.approx(stats.spearmanr(y, x).statistic, abs=1e-12)


def test_who_always_says_the_same_has_no_correlation() -> None:
    for metric in ("matthews", "pearson", "spearman"):
        assert score(metric, [1, 1, 1, 1], [1, 0, 1, 0]) == 0.0
    assert score("f1", [0, 0], [0, 0]) == 0.0
    with pytest.raises(TooLittleData, match="of no items"):
        score("accuracy", [], [])


def test_differences_are_paired_over_items() -> None:
    rng = np.random.default_rng(0)
    wanted = rng.integers(0, 2, 300).astype(float)
    weak = np.where(rng.random(300) < 0.7, wanted, 1 - wanted)
    strong = np.where((weak != wanted) & (rng.random(300) < 0.25), wanted, weak)  # mends some, breaks none
    found = difference("accuracy", [strong], [weak], wanted)
    assert found.value == pytest.approx(score("accuracy", strong, wanted) - score("accuracy", weak, wanted))
    assert found.interval[0] > 0
    low, high = interval("accuracy", [weak], wanted)
    assert low < score("accuracy", weak, wanted) < high
    assert high - low > 1.3 * (found.interval[1] - found.interval[0]), "paired, less is left to chance"
    same = difference("matthews", [weak, weak], [weak], wanted)
    assert same.value == 0 and same.interval == (0.0, 0.0)


def test_submissions_are_as_the_leaderboard_takes_them(tmp_path: Path) -> None:
    outputs = np.array([[0.1, 0.9], [0.8, 0.2]])
    assert write_submission(tmp_path, "SST-2", TASKS["sst2"], ["0", "1"], outputs).read_text() == (
        "index\tprediction\n0\t1\n1\t0\n"
    )
    assert (
        "0\tnot_entailment\n"
        in write_submission(tmp_path, "RTE", TASKS["rte"], ["0", "1"], outputs).read_text()
    )
    scores = np.array([[5.7], [-1.0], [2.34567]])
    assert write_submission(tmp_path, "STS-B", TASKS["stsb"], list("012"), scores).read_text() == (
        "index\tprediction\n0\t5.000\n1\t0.000\n2\t2.346\n"
    )


HUB = {
    "mrpc": [{"sentence1": "A\tb", "sentence2": "C", "label": 1, "idx": 4}],
    "mnli": [{"premise": "A", "hypothesis": "B", "label": 2, "idx": 0}],
    "stsb": [{"sentence1": "A", "sentence2": "B", "label": 3.75, "idx": 0}],
    "cola": [{"sentence": "A", "label": 0, "idx": 0}],
}


@pytest.mark.parametrize("name", HUB)
def test_rows_of_the_hub_become_files_that_are_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpt2.evaluation import download

    asked = []

    def take(_: str, source: download.Source, folder: Path) -> None:
        for target, (split, write) in source.files.items():
            asked.append((source.repository, split))
            (folder / "glue").mkdir(parents=True)
            (folder / "glue" / target).write_text("".join(write(HUB[name])))

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("GPT2_DATA", raising=False)
    monkeypatch.setattr(download, "download_source", take)
    split = "dev_matched" if name == "mnli" else "dev"
    found = read_split(name, split, None, download=True)
    assert found is not None and found.labels == [HUB[name][0]["label"]]
    assert asked == [("nyu-mll/glue", f"{name}/{split.replace('dev', 'validation')}")]
    assert glue_files.fetch is fetch


@pytest.fixture
def world_of_glue(folder: Path) -> tuple[Path, Path]:
    """A model, and GLUE with SST-2, CoLA and MNLI that can be learned."""
    net = gpt2.GPT2(gpt2.GPT2Config(1, 1, 8, TOK.n_vocab, 64))
    gpt2.Model(net, TOK).save(folder / "model")
    data = folder / "data"
    for name in ("SST-2", "MNLI"):
        (data / name).mkdir(parents=True)
    rows = [(f"a {'good' if i % 3 else 'bad'} film {i}", int(i % 3 > 0)) for i in range(24)]
    for split in ("train", "dev"):
        text = "".join(f"{text}\t{label}\n" for text, label in rows)
        (data / "SST-2" / f"{split}.tsv").write_text(f"sentence\tlabel\n{text}")
    (data / "SST-2" / "test.tsv").write_text("index\tsentence\n0\ta good film\n1\ta bad film\n")
    kinds = ("entailment", "neutral", "contradiction")
    text = "".join(f"{i}\tIt rained {i}.\tIt was wet.\t{kinds[i % 3]}\n" for i in range(12))
    for split in ("train", "dev_matched", "dev_mismatched"):
        (data / "MNLI" / f"{split}.tsv").write_text(f"index\tsentence1\tsentence2\tgold_label\n{text}")
    return folder / "model", data


QUICK = SupervisedConfig(epochs=1, batch=8, optimizer=dataclasses.replace(GPT1, learning_rate=3e-3))


def test_runs_over_tasks_and_seeds_end_in_a_table_and_submissions(
    world_of_glue: tuple[Path, Path], tmp_path: Path
) -> None:
    model, data = world_of_glue
    out = tmp_path / "out"
    config = GlueConfig(("sst2", "mnli"), data, 2, QUICK)
    found = finetune_glue(model, out, config)
    assert [(row["task"], row["metric"], row["items"]) for row in found.rows] == [
        ("SST-2", "accuracy", 24),
        ("MNLI-m", "accuracy", 12),
        ("MNLI-mm", "accuracy", 12),
    ]
    assert found.rows[0]["majority"] == pytest.approx(16 / 24) and len(found.rows[0]["seeds"]) == 2
    assert "GPT-1" in found.table() and "91.3" in found.table()
    assert (out / "submission" / "SST-2.tsv").read_text().startswith("index\tprediction\n0\t")
    assert json.loads((out / "results.json").read_text())["rows"][0]["task"] == "SST-2"
    opened = TextClassifier.load(out / "sst2" / "seed-1")
    assert opened.predict([("a good film", None)])[0]["label"] in ("negative", "positive")
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.npy")}
    assert finetune_glue(model, out, config).rows == found.rows
    assert times == {path: path.stat().st_mtime_ns for path in out.rglob("*.npy")}, "nothing is done twice"
    changed = data / "SST-2" / "train.tsv"
    changed.write_text(changed.read_text().replace("film 3", "tale 3"))
    finetune_glue(model, out, config)
    again = {path for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert again == {path for path in times if "sst2" in path.parts}, "the data of one task is another"


def test_fresh_weights_are_another_run(world_of_glue: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = world_of_glue
    config = GlueConfig(("sst2",), data, 1, QUICK)
    ours = finetune_glue(model, tmp_path / "a", config)
    fresh = finetune_glue(model, tmp_path / "b", dataclasses.replace(config, from_scratch=True))
    assert ours.rows[0]["items"] == fresh.rows[0]["items"]
    one, other = (np.load(tmp_path / name / "sst2" / "seed-0" / "SST-2.npy") for name in "ab")
    assert one.shape == other.shape == (24, 2)


def test_data_that_is_not_there_is_named(world_of_glue: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = world_of_glue
    with pytest.raises(InputError, match=r"there is no CoLA/train\.tsv in"):
        finetune_glue(model, tmp_path / "out", GlueConfig(("cola",), data, 1, QUICK))


@pytest.mark.parametrize("changes", [{"seeds": 0}, {"limit": 1}, {"max_tokens": 4}])
def test_settings_out_of_range_are_refused(changes: Any) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        GlueConfig(**changes)


def test_the_commands_talk(world_of_glue: tuple[Path, Path], tmp_path: Path, run: Any) -> None:
    model, data = world_of_glue
    out = tmp_path / "out"
    words = ["--epochs", "1", "--seeds", "1", "--learning-rate", "0.003", "--quiet", "--threads", "1"]
    said = run("finetune", "glue", model, "--tasks", "sst2", "--data", data, "--out", out, *words, "--json")
    assert said.status == 0, said.err
    assert json.loads(said.out)["rows"][0]["title"] == "SST-2"
    one = run("finetune", "predict", out / "sst2" / "seed-0", "a good film", "--json")
    many = run("finetune", "predict", out / "sst2" / "seed-0", "--json", given=b"a good film\na bad film\n")
    assert json.loads(many.out)[0]["probabilities"] == pytest.approx(
        json.loads(one.out)[0]["probabilities"], abs=1e-5
    )
    assert run("finetune", "predict", out / "sst2" / "seed-0", "a", "b").refused("judges one text")
    assert run("finetune", "predict", model, "a").refused("no classifier.json")
    assert run("finetune", "glue", model, "--tasks", "xyz", "--out", out).refused("no task 'xyz'")
