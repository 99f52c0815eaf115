"""The main job on a small text: every stage once, in order, with honest figures."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from gpt2 import reproduce as module
from gpt2.corpus.documents import read_documents
from gpt2.errors import ConfigError, InputError
from gpt2.evaluation.rows import read_json_lines
from gpt2.model.checkpoint import load
from gpt2.model.config import GPT2Config
from gpt2.reproduce import ReproduceConfig, command, reproduce, too_little
from gpt2.studies import samples, scaling
from gpt2.tokens.shards import Shards
from gpt2.workspace import Json, plain, read_json

WORDS = (
    "the",
    "a",
    "of",
    "to",
    "in",
    "is",
    "it",
    "sea",
    "ship",
    "wind",
    "captain",
    "sailed",
    "home",
    "storm",
)


def sentence(draw: random.Random) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randrange(4, 12))).capitalize() + "."


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 documents of a made-up language with something to learn."""
    folder = tmp_path_factory.mktemp("text")
    for i in range(120):
        draw = random.Random(i)
        (folder / f"{i:03}.txt").write_text("\n".join(sentence(draw) for _ in range(60)))
    return folder


@contextmanager
def tiny() -> Iterator[None]:
    """The job in seconds: two tiny sizes, a small vocabulary, a low bar."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FEWEST_TOKENS", 10_000)
        patch.setattr(module, "FEWEST_HELDOUT", 10)
        patch.setattr(scaling, "LADDERS", [(0, 300, [(1, 1, 8, 1e-2), (1, 2, 32, 5e-3)])])
        patch.setattr(scaling, "FEWEST_STEPS", 12)
        patch.setattr(scaling, "seconds_per_step", lambda *_: 1e6)  # so that the plan is the fewest steps
        yield


@pytest.fixture
def small() -> Iterator[None]:
    """`tiny` around a test."""
    with tiny():
        yield


@pytest.fixture(scope="module")
def done(text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Json]:
    """A finished run: its folder and results."""
    out = tmp_path_factory.mktemp("out") / "run"
    with tiny():
        return out, reproduce(ReproduceConfig(out=out, text=text))


def test_the_results_say_what_was_done(done: tuple[Path, Json]) -> None:
    out, results = done
    assert json.loads(json.dumps(results, default=plain)) == read_json(out / "results.json")
    assert Path(results["report"]).read_text().startswith("<!doctype html>")
    assert results["documents"] == 120 and results["heldout_documents"] >= 10
    assert results["training_documents_in_both_splits"] == 0
    shards = Shards.open(out / "tokens/shards", verify=True)
    assert results["tokens"] == shards.train.n_tokens
    assert not set(shards.train.groups) & set(shards.heldout.groups)
    small, large = results["ladder"]
    assert small["tokens"] == large["tokens"] == 12 * scaling.BATCH * scaling.CONTEXT
    assert small["parameters"] < large["parameters"]
    for rung in results["ladder"]:
        low, high = rung["heldout_interval"]
        assert low < rung["heldout_perplexity"] < high
        assert rung["heldout_perplexity"] == pytest.approx(np.exp(rung["heldout_loss"]))
    assert large["versus_previous"]["documents"] == results["heldout_documents"]
    assert {s["name"] for s in results["stages"]} >= {"corpus", "tokens", "plan", "samples"}


def test_a_rung_lost_what_its_model_loses(done: tuple[Path, Json]) -> None:
    out, results = done
    name = results["ladder"][0]["name"]
    losses = scaling.read_losses(out / "measured" / name, "heldout")
    shards = Shards.open(out / "tokens/shards")
    assert losses.n_bytes.sum() == sum(len(d.text.encode()) for d in heldout_texts(out, shards))
    assert losses.tokens.sum() == shards.heldout.n_tokens - shards.heldout.n_documents
    assert losses.loss == pytest.approx(results["ladder"][0]["heldout_loss"])


def heldout_texts(out: Path, shards: Shards) -> list[module.Document]:
    ids = set(shards.heldout.document_ids)
    return [d for d in read_documents(out / "corpus/documents") if d.id in ids]


def test_both_samples_go_on_from_the_same_unseen_text(done: tuple[Path, Json]) -> None:
    _, results = done
    assert len(results["samples"]) == samples.SAMPLES
    for sample in results["samples"]:
        assert sample["context"] and sample["smallest"] and sample["largest"] and sample["original"]


def test_each_size_is_asked_the_same_questions_of_unseen_text(done: tuple[Path, Json]) -> None:
    out, results = done
    made = results["cloze"]
    assert made["counts"]["last-word"] >= 50 and made["sources"]["last-word"] >= 10
    asked = read_json_lines(out / "questions" / "cloze.jsonl", {"group": str})
    shards = Shards.open(out / "tokens/shards")
    assert {row["group"] for row in asked if isinstance(row, dict)} <= set(shards.heldout.groups)
    for rung in results["ladder"]:
        found = rung["cloze"]["results"]
        assert found["last-word"]["n"] == made["counts"]["last-word"]
        low, high = found["last-word-perplexity"]["interval"]
        assert low < found["last-word-perplexity"]["value"] < high
        assert len(rung["cloze"]["answers"]) == len(made["examples"])
    assert {f"cloze/{r['name']}" for r in results["ladder"]} < {s["name"] for s in results["stages"]}


def test_with_the_papers_data_the_largest_size_is_measured_on_it(
    done: tuple[Path, Json], text: Path, small: None, tmp_path: Path
) -> None:
    out, first = done
    shutil.copytree(out, tmp_path / "run")
    (tmp_path / "data").mkdir()
    rows = [
        {"text": f"The ship sailed home to the sea. It is the wind, the storm {i} and the sea"}
        for i in range(9)
    ]
    (tmp_path / "data" / "lambada_test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    results = reproduce(ReproduceConfig(out=tmp_path / "run", text=text, data=tmp_path / "data"))
    assert results["ladder"] == first["ladder"] and first["tables"] == []
    found = {row["protocol"]: row for row in results["tables"]}
    assert found["lambada/last-word"]["n"] == 9 and found["lambada/last-word"]["paper"] is not None
    assert found["cbt-cn/rest"]["value"] is None and "no data" in found["cbt-cn/rest"]["verdict"]
    page = Path(results["report"]).read_text()
    assert "The paper&#x27;s tables" in page and "lambada/last-word-perplexity" in page
    assert "gpt2 reproduce --minutes 10 --text text0 --data data" in page
    with pytest.raises(InputError, match="no file or folder"):
        reproduce(ReproduceConfig(out=tmp_path / "new", text=text, data=tmp_path / "missing"))


def test_run_again_nothing_runs(done: tuple[Path, Json], text: Path, small: None) -> None:
    out, first = done
    before = {path: path.read_text() for path in out.rglob("stage.json")}
    again = reproduce(ReproduceConfig(out=out, text=text))
    assert {path: path.read_text() for path in out.rglob("stage.json")} == before
    assert again["ladder"] == first["ladder"] and again["stages"] == first["stages"]


def test_the_largest_model_opens_from_the_folder(done: tuple[Path, Json]) -> None:
    out, results = done
    assert load(out).net.num_parameters() == results["ladder"][-1]["parameters"]


def test_changed_text_is_taken_up(text: Path, small: None, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for path in sorted(text.iterdir())[:40]:
        (mine / path.name).write_text(path.read_text())
    first = reproduce(ReproduceConfig(out=tmp_path / "out", text=mine))
    (mine / "more.txt").write_text("\n".join(sentence(random.Random(999)) for _ in range(60)))
    second = reproduce(ReproduceConfig(out=tmp_path / "out", text=mine))
    assert (first["documents"], second["documents"]) == (40, 41)


def test_too_little_text_gives_a_report_and_no_ladder(text: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FEWEST_TOKENS", 10**9)
        results = reproduce(ReproduceConfig(out=tmp_path / "out", text=text))
    assert results["ladder"] == [] and "give more text" in results["remarks"][0]
    assert Path(results["report"]).exists() and not (tmp_path / "out/plan").exists()


def test_the_bar_for_an_honest_ladder() -> None:
    enough = {"heldout_documents": 60, "heldout_groups": 10, "train_tokens": 1_500_000}
    assert too_little(enough) is None
    for key in enough:
        assert "at least 60, 10 and 1,500,000" in str(too_little(enough | {key: enough[key] - 1}))


def test_what_cannot_be_done_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for minutes in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="minutes"):
            ReproduceConfig(minutes=minutes)
    with pytest.raises(ConfigError, match="only one"):
        ReproduceConfig(text=tmp_path, links=tmp_path)
    with pytest.raises(InputError, match="no file or folder"):
        reproduce(ReproduceConfig(out=tmp_path / "out", text=tmp_path / "missing"))
    assert not (tmp_path / "out").exists()


def test_the_report_names_the_command_without_the_machines_folders(tmp_path: Path) -> None:
    assert command(ReproduceConfig(minutes=5)) == "gpt2 reproduce --minutes 5"
    assert (
        command(ReproduceConfig(text=tmp_path / "my texts"))
        == "gpt2 reproduce --minutes 10 --text 'my texts'"
    )


@pytest.mark.parametrize("minutes", [1, 10, 44, 45, 359, 360, 5000])
def test_each_size_has_three_times_the_parameters_of_the_one_below(minutes: float) -> None:
    shapes, n_vocab = scaling.shapes_for(minutes)
    assert len(shapes) == 4
    sizes = [GPT2Config(L, H, C, n_vocab, scaling.CONTEXT).num_parameters() for L, H, C, _ in shapes]
    assert all(b >= 3 * a for a, b in pairwise(sizes)), sizes


def test_the_plan_is_json_and_ends_within_the_time(done: tuple[Path, Json]) -> None:
    out, _ = done
    shards = Shards.open(out / "tokens/shards")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling, "seconds_per_step", lambda *_: 0.01)
        patch.setattr(scaling, "MOST_EPOCHS", 10**6)
        shapes, _ = scaling.shapes_for(10)
        plan = scaling.plan_ladder(shapes, shards, 100.0, 0, module.choose())
    assert json.loads(json.dumps(plan)) == plan
    assert 0 < plan["steps"] * 0.01 * len(shapes) <= 100.0


def test_curves_are_thinned_from_the_end() -> None:
    points = [[float(i), 0.0] for i in range(1000)]
    thinned = scaling.thin(points, 600)
    assert len(thinned) == 500 and thinned[-1] == points[-1]
    assert scaling.thin(points[:5], 600) == points[:5]
