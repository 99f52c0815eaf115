"""Running tasks: a toy task in every condition, killed and gone on with, on several processes."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from ports import free_port
from scipy.stats import binomtest

import gpt2
import gpt2.evaluation.asking
import gpt2.evaluation.run
import gpt2.evaluation.tasks
from gpt2.errors import ConfigError, FormatError, InputError
from gpt2.evaluation.datasets import DATA_SETS, Copy, DataSet
from gpt2.evaluation.protocol import Protocol
from gpt2.evaluation.results import Results, aggregate
from gpt2.evaluation.run import evaluate, evaluation_callback
from gpt2.evaluation.task import (
    Choices,
    Generate,
    Item,
    LogLikelihood,
    Malformed,
    Measured,
    Reply,
    Request,
    Rolling,
    Task,
)

pytestmark = pytest.mark.usefixtures("one_thread")
ROWS = 24
TEXTS = [f"row {i}: the {'lazy ' * (i % 5)}dog jumps over fox number {i * i}" for i in range(ROWS)]


class Toy(Task):
    """Every kind of request, a second round, groups, rows that cannot be asked."""

    name = "toy"
    whole = ROWS
    protocols = (
        Protocol("toy", "right", "accuracy", "toy", "percent", unit="pair"),
        Protocol("toy", "word", "perplexity", "toy", "perplexity"),
        Protocol("toy", "byte", "bits per byte", "toy", "bits"),
        Protocol("toy", "said", "length", "toy", "mean"),
        Protocol("toy", "sure", "accuracy", "toy", "percent", most_confident=0.25),
    )

    def items(self, rows: Sequence[Any]) -> Iterator[Item | Malformed]:
        """A row `bad` cannot be asked; one `empty` has no target, which shows only when it is put."""
        for i, text in enumerate(rows):
            if text == "bad":
                yield Malformed(str(i), "the row says bad")
                continue
            requests: list[Request] = [
                Choices([(text, " fox"), (text, " dog")]),
                Rolling(text, stride=5),
                LogLikelihood(text, "" if text == "empty" else " end" * (40 if text == "long" else 1)),
                Generate(text, 4, ["\n"], top_k=20),
            ]
            yield Item(str(i), requests, f"pair {i // 2}", {"answer": " dog", "row": i})

    def follow(self, item: Item, replies: Sequence[Reply]) -> Sequence[Request]:
        """Asks once more, for what was said."""
        return [LogLikelihood("", f"{replies[3]}.")] if len(replies) == 4 else []

    def measure(self, item: Item, replies: Sequence[Reply]) -> Mapping[str, Measured]:
        """One value a protocol."""
        choices: Any
        choices, text, _, said, again = replies  # type: ignore[misc]
        right = float(choices[1].logprob > choices[0].logprob)
        return {
            "right": Measured(right, output="dog" if right else "fox"),
            "word": Measured(-text.logprob, len(TEXTS[0].split())),  # type: ignore[union-attr]
            "byte": Measured(-text.logprob, 30.0),  # type: ignore[union-attr]
            "said": Measured(float(len(said)), output=str(said)),  # type: ignore[arg-type]
            "sure": Measured(right, confidence=math.exp(again.logprob)),  # type: ignore[union-attr]
        }

    def remarks(self, rows: Sequence[Any], done: Sequence[tuple[Item, Mapping[str, Measured]]]) -> list[str]:
        """Says what it was given."""
        return [f"{len(rows)} rows, {len(done)} done, last {done[-1][0].id}"] if done else []


def read_toy(path: Path) -> list[str]:
    """A text a line."""
    lines = path.read_text().splitlines()
    if lines and lines[0] == "foreign":
        raise FormatError(f"{path} is not the toy's")
    return lines


def install(patch: pytest.MonkeyPatch) -> None:
    """Make the toy the only task there is."""
    module = ModuleType("gpt2.evaluation.tasks.toy")
    vars(module).update(TASKS=(Toy(),), read=read_toy)
    patch.setitem(sys.modules, module.__name__, module)
    patch.setattr(gpt2.evaluation.tasks, "FILES", ("toy",))
    copy = Copy("toy.read", ("*/toy.txt",))
    patch.setitem(DATA_SETS, "toy", DataSet("toy", "a toy", (copy,), "toy.txt from the toy shop"))
    patch.setattr(gpt2.evaluation.run, "CHARACTERS_AT_ONCE", 2000)


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the toy's data."""
    monkeypatch.delenv("GPT2_DATA", raising=False)
    install(monkeypatch)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "toy.txt").write_text("\n".join(TEXTS))
    return tmp_path / "data"


def tiny(seed: int = 0, context: int = 32) -> gpt2.Model:
    """A model of another vocabulary than GPT-2's."""
    tok = gpt2.Tokenizer.learn(TEXTS, 300)
    config = gpt2.GPT2Config(n_layer=1, n_head=2, n_embd=16, n_ctx=context, vocab_size=300)
    return gpt2.Model(gpt2.GPT2(config, seed=seed), tok)


def values(results: Results) -> dict[str, float | None]:
    """By protocol."""
    return {row.protocol: row.value for row in results.rows}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The items that are put to the model, as they are."""
    asked: list[str] = []
    real = gpt2.evaluation.run.ask

    def ask(model: Any, task: Any, items: Sequence[Item], *rest: Any) -> Any:
        asked.extend(item.id for item in items)
        return real(model, task, items, *rest)

    monkeypatch.setattr(gpt2.evaluation.run, "ask", ask)
    return asked


def test_a_row_has_the_number_and_all_that_belongs_to_it(toy: Path) -> None:
    m = tiny()
    results = evaluate(m, "toy", toy)
    right, word, byte, *_ = results.rows
    scores = gpt2.score(m, TEXTS, stride=5)
    nats = -sum(s.logprob for s in scores)
    assert word.value == pytest.approx(math.exp(nats / (ROWS * len(TEXTS[0].split()))))
    assert byte.value == pytest.approx(nats / math.log(2) / (ROWS * 30))
    pairs = gpt2.score(m, [(t, e) for t in TEXTS for e in (" fox", " dog")])
    k = sum(pairs[2 * i + 1].logprob > pairs[2 * i].logprob for i in range(ROWS))
    assert right.value == pytest.approx(100 * k / ROWS)
    assert (right.task, right.protocol, right.metric, right.n, right.of) == (
        "toy",
        "toy/right",
        "accuracy",
        24,
        24,
    )
    assert right.settings["unit"] == "pair" and right.settings["version"] == 1
    assert "unknown copy" in right.data and "all 24 items" in right.data
    assert right.remarks == ("24 rows, 24 done, last 23",)
    assert "24 rows, 24 done" in results.table() and "toy/right" in results.table()


def test_the_most_confident_share_alone_counts(toy: Path) -> None:
    assert next(row for row in evaluate(tiny(), "toy", toy).rows if row.protocol == "toy/sure").n == ROWS // 4


def test_the_same_twice_and_whatever_the_parts_and_the_others_are(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate(tiny(), "toy", toy)
    assert evaluate(tiny(), "toy", toy).rows == first.rows
    monkeypatch.setattr(gpt2.evaluation.run, "CHARACTERS_AT_ONCE", 10**9)
    for row, other in zip(evaluate(tiny(), "toy", toy).rows, first.rows, strict=True):
        assert row.value == pytest.approx(other.value, rel=1e-6)
    assert values(evaluate(tiny(seed=1), "toy", toy)) != values(first)


def test_every_item_is_kept_with_what_was_asked_and_said(toy: Path, tmp_path: Path) -> None:
    results = evaluate(tiny(), "toy", toy, out=tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "items" / "toy.toy.right").sort_by("group").to_pylist()
    assert Counter(row["id"] for row in rows) == Counter(str(i) for i in range(ROWS))
    assert results.rows[0].value == pytest.approx(100 * np.mean([row["right.numerator"] for row in rows]))
    row = next(row for row in rows if row["id"] == "3")
    assert (row["group"], row["answer"], json.loads(row["facts"])["row"]) == ("pair 1", " dog", 3)
    assert row["said.numerator"] == len(row["said.output"])
    saved = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [r["value"] for r in saved["rows"]] == [r.value for r in results.rows]
    assert (tmp_path / "out" / "results.txt").read_text().rstrip() == results.table().rstrip()


def test_a_finished_item_is_not_asked_again(toy: Path, tmp_path: Path, counted: list[str]) -> None:
    out = tmp_path / "out"
    first = evaluate(tiny(), "toy", toy, out=out)
    assert len(counted) == ROWS
    parts = sorted((out / "items" / "toy.toy.right").glob("*.parquet"))
    assert len(parts) > 2
    kept = pq.read_table(parts[1])["id"].to_pylist()
    parts[1].unlink()
    (parts[1].parent / f".{parts[1].name}.1.part").write_bytes(b"half a file")
    counted.clear()
    assert evaluate(tiny(), "toy", toy, out=out).rows == first.rows
    assert counted == kept


def test_what_was_made_from_anything_else_is_made_anew(toy: Path, tmp_path: Path, counted: list[str]) -> None:
    out = tmp_path / "out"
    evaluate(tiny(), "toy", toy, out=out)
    for change in ("model", "data", "damage"):
        counted.clear()
        if change == "data":
            (toy / "toy.txt").write_text("\n".join(reversed(TEXTS)))
        if change == "damage":
            part = sorted((out / "items" / "toy.toy.right").glob("*.parquet"))[0]
            part.write_bytes(part.read_bytes()[:100])
        evaluate(tiny(seed=7), "toy", toy, out=out)
        assert len(counted) == (ROWS if change != "damage" else pq.read_table(part).num_rows)


def test_a_limit_takes_the_first_and_a_larger_one_goes_on(
    toy: Path, tmp_path: Path, counted: list[str]
) -> None:
    out = tmp_path / "out"
    results = evaluate(tiny(), "toy", toy, out=out, limit=10)
    assert counted == [str(i) for i in range(10)]
    assert (results.rows[0].n, results.rows[0].of) == (10, ROWS)
    assert "10 of 24 items, limited to the first 10" in results.rows[0].data
    counted.clear()
    more = evaluate(tiny(), "toy", toy, out=out)
    assert counted == [str(i) for i in range(10, ROWS)], "only what was missing"
    counted.clear()
    assert more.rows == evaluate(tiny(), "toy", toy, out=out).rows
    assert evaluate(tiny(), "toy", toy, out=out, limit=10).rows == results.rows
    assert evaluate(tiny(), "toy", toy, out=out).rows == more.rows, "fewer items take nothing away"
    assert counted == []


def test_bytes_damaged_within_a_part_are_found_and_its_items_asked_anew(
    toy: Path, tmp_path: Path, counted: list[str]
) -> None:
    out = tmp_path / "out"
    first = evaluate(tiny(), "toy", toy, out=out)
    part = sorted((out / "items" / "toy.toy.right").glob("*.parquet"))[0]
    ids = pq.read_table(part)["id"].to_pylist()
    content = bytearray(part.read_bytes())
    content[4:300] = bytes(296)
    part.write_bytes(content)
    counted.clear()
    assert evaluate(tiny(), "toy", toy, out=out).rows == first.rows
    assert counted == ids


def test_results_of_other_tasks_stay_in_the_folder(toy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    evaluate(tiny(), "toy", toy, protocols=["toy/right"], out=out)
    evaluate(tiny(), "toy", toy, protocols=["toy/word"], out=out)
    held = json.loads((out / "results.json").read_text())["rows"]
    assert [row["protocol"] for row in held] == ["toy/right", "toy/word"]
    evaluate(tiny(seed=3), "toy", toy, protocols=["toy/word"], out=out)
    held = json.loads((out / "results.json").read_text())["rows"]
    assert [row["protocol"] for row in held] == ["toy/word"], "those of another model do not"


def test_rows_that_cannot_be_asked_are_counted_and_named(
    toy: Path, tmp_path: Path, counted: list[str]
) -> None:
    (toy / "toy.txt").write_text("\n".join([*TEXTS[:5], "bad", "empty", "long", "bad"]))
    for _ in range(2):
        row = evaluate(tiny(), "toy", toy, out=tmp_path / "out").rows[0]
        assert (row.n, row.malformed) == (5, 4)
        assert row.reasons == {
            "the row says bad": 2,
            "nothing to score: the target is empty": 1,
            "the target has more tokens than the model's context of 32": 1,
        }
    assert len(counted) == 7, "what could not be asked is not tried again"
    said = Results([row]).table()
    assert "4 rows could not be asked" in said and "2 the row says bad" in said


def test_a_context_that_does_not_fit_loses_its_beginning_and_is_counted(toy: Path) -> None:
    (toy / "toy.txt").write_text("short\n" + "beginning " * 60)
    row = evaluate(tiny(), "toy", toy).rows[0]
    assert (row.n, row.cut, row.malformed) == (2, 1, 0)


def test_nothing_but_bad_rows_is_a_row_without_value(toy: Path) -> None:
    (toy / "toy.txt").write_text("bad\nbad")
    results = evaluate(tiny(), "toy", toy)
    assert {(row.value, row.n, row.malformed) for row in results.rows} == {(None, 0, 2)}
    assert "no item could be asked" in results.rows[0].verdict and "2 the row says bad" in results.table()


def test_data_that_is_not_there_is_a_row_that_says_how_to_get_it(toy: Path) -> None:
    (toy / "toy.txt").unlink()
    for row in evaluate(tiny(), "toy", toy).rows:
        assert (row.value, row.n) == (None, 0)
        assert "no toy.txt in" in row.verdict and "get toy.txt from the toy shop" in row.verdict


def test_data_of_another_format_is_a_row_that_says_so(toy: Path) -> None:
    (toy / "toy.txt").write_text("foreign")
    assert "is not the toy's" in evaluate(tiny(), "toy", toy).rows[0].verdict
    (toy / "toy.txt").write_bytes(b"\xff\xfe\xff")
    assert "not measured" in evaluate(tiny(), "toy", toy).rows[0].verdict


def test_names_that_are_none_are_refused_with_the_nearest(toy: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown task 'toi'.*'toy'"):
        evaluate(tiny(), ["toi"], toy)
    with pytest.raises(ConfigError, match=r"no protocol 'wrod'.*'word'"):
        evaluate(tiny(), ["toy"], toy, protocols=["wrod"])
    with pytest.raises(ConfigError, match="limit"):
        evaluate(tiny(), ["toy"], toy, limit=0)
    with pytest.raises(InputError, match="no folder"):
        evaluate(tiny(), ["toy"], toy / "nowhere")


def test_protocols_can_be_chosen_by_either_name(toy: Path) -> None:
    for name in ("toy/word", "word"):
        assert list(values(evaluate(tiny(), "all", toy, protocols=[name]))) == ["toy/word"]


def test_a_task_on_request_is_left_out_unless_named(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Toy, "on_request", True)
    assert evaluate(tiny(), "toy", toy).rows == []
    assert len(evaluate(tiny(), "toy", toy, protocols=["word"]).rows) == 1


def test_intervals_are_drawn_over_units_and_cover_what_they_should() -> None:
    rng = np.random.default_rng(0)
    percent = Protocol("t", "p", "accuracy", "d", "percent")
    right = [{"p": Measured(float(x))} for x in rng.random(400) < 0.4]
    found = aggregate([percent], right, [str(i) for i in range(400)])["p"]
    assert found.interval is not None
    half = 100 * 1.96 * math.sqrt(0.4 * 0.6 / 400)  # of a binomial's normal approximation
    assert found.interval[0] == pytest.approx(found.value - half, abs=0.6)
    assert found.interval[1] == pytest.approx(found.value + half, abs=0.6)
    twins = aggregate(
        [percent], [m for m in right for _ in range(4)], [str(i) for i in range(400) for _ in range(4)]
    )
    assert twins["p"].interval == pytest.approx(found.interval, abs=1e-9), "four alike know no more than one"
    assert aggregate([percent], right[:1], ["0"])["p"].interval is None


def test_a_protocol_that_an_item_says_nothing_of_leaves_it_out() -> None:
    protocols = [Protocol("t", n, "loss", "d", "mean") for n in "ab"]
    measured = [{"a": Measured(1.0)}, {"a": Measured(3.0), "b": Measured(8.0, 4.0)}, {}]
    found = aggregate(protocols, measured, ["x", "y", "z"])
    assert (found["a"].value, found["a"].n) == (2.0, 2)
    assert (found["b"].value, found["b"].n, found["b"].interval) == (2.0, 1, None)


def test_evaluation_while_training_is_a_callback(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = values(evaluate(tiny(), ["toy"], toy, limit=4))
    monkeypatch.setenv("WORLD_SIZE", "2")  # of the training: the others do not take part
    facts = evaluation_callback(["toy"], toy, limit=4)(tiny(), 7)
    assert facts == wanted


CHILD = """
import pytest, sys
sys.path.insert(0, {tests!r})
import torch, test_run
torch.set_num_threads(1)
patch = pytest.MonkeyPatch()
test_run.install(patch)
results = test_run.evaluate(test_run.tiny(), "toy", {data!r}, out={out!r})
print(test_run.values(results))
"""


def child(toy: Path, out: Path, **environment: str) -> subprocess.Popen[str]:
    """A process of its own that runs the toy."""
    code = CHILD.format(tests=str(Path(__file__).parent), data=str(toy), out=str(out))
    how: dict[str, Any] = {"env": os.environ | environment, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], **how)


def test_killed_at_any_moment_it_goes_on_to_the_same_result(
    toy: Path, tmp_path: Path, counted: list[str]
) -> None:
    out = tmp_path / "out"
    (toy / "toy.txt").write_text("\n".join(TEXTS * 10))
    job = child(toy, out)
    folder = out / "items" / "toy.toy.right"
    while len(list(folder.glob("[0-9]*.parquet"))) < 3 and job.poll() is None:
        time.sleep(0.01)
    job.send_signal(signal.SIGKILL)
    job.wait()
    assert job.stdout is not None
    job.stdout.close()
    done = {i for part in folder.glob("[0-9]*.parquet") for i in pq.read_table(part)["id"].to_pylist()}
    assert done, "it was killed too early"
    rows = evaluate(tiny(), "toy", toy, out=out).rows
    assert set(counted).isdisjoint(done) and len(counted) + len(done) == ROWS * 10
    assert rows == evaluate(tiny(), "toy", toy).rows


def test_processes_share_the_items_and_agree(toy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    store = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
    }
    jobs = [child(toy, out, RANK=str(rank), **store) for rank in range(2)]
    said = [job.communicate()[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0]
    assert said[0] == said[1] == f"{values(evaluate(tiny(), 'toy', toy))}\n"


def test_processes_without_a_folder_to_share_are_refused(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="--out DIR"):
        evaluate(tiny(), "toy", toy)


def test_none_or_all_right_has_the_exact_binomial_interval() -> None:
    accuracy = Protocol("toy", "right", "accuracy", "toy", "percent")
    for n in (2, 40):
        for value in (0.0, 1.0):
            units = [str(i) for i in range(n)]
            found = aggregate([accuracy], [{"right": Measured(value)} for _ in units], units)["right"]
            theirs = binomtest(int(value * n), n).proportion_ci(0.95, "exact")
            assert found.interval == pytest.approx((100 * theirs.low, 100 * theirs.high))
