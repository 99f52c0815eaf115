"""Runs broken on purpose get the right verdict, a healthy one a clean bill."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pytest
from command_line import Run

from gpt2.errors import ConfigError, InputError
from gpt2.evaluation.heldout import usual_callbacks
from gpt2.model.config import GPT2Config
from gpt2.tokens.bpe import Tokenizer
from gpt2.tokens.shards import Shards, write_shards
from gpt2.tokens.token_files import header
from gpt2.training.expected import Known, critical_batch, fit, known, reference, table_of_pairs
from gpt2.training.mixture import Data
from gpt2.training.optimizer import OptimizerConfig
from gpt2.training.plan import TrainConfig
from gpt2.training.trainer import train
from gpt2.training.verdict import Facts, Verdict, judge, judge_run
from gpt2.workspace import Json, file_digest

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = GPT2Config(n_layer=2, n_head=2, n_embd=48, vocab_size=600, n_ctx=32)
RATE = 3e-3
TOKENIZER = Tokenizer(Tokenizer.gpt2().pairs[:343])
NAMES = sorted(topics)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of a part of Python's own manual."""
    folder = tmp_path_factory.mktemp("data") / "shards"
    documents = [(name, name, topics[name]) for name in NAMES[:50]]
    write_shards(documents, TOKENIZER, folder, set(NAMES[3:50:8]))
    return folder


def judged(
    tokens: Path, out: Path, batch: int = 16, steps: int = 240, rate: float = RATE, context: int = 32
) -> Verdict:
    """Train a small model and judge the run."""
    shape, optimizer = dataclasses.replace(SHAPE, n_ctx=context), OptimizerConfig(learning_rate=rate)
    config = TrainConfig(tokens, out, shape, steps=steps, batch=batch, optimizer=optimizer, threads=1)
    config = dataclasses.replace(config, callback_every=40, dtype="float32")
    train(config, usual_callbacks(Shards.open(tokens), documents=12)[:1])
    return judge_run(out)


def causes(verdict: Verdict) -> list[str]:
    return [finding.cause for finding in verdict.findings]


@pytest.fixture(scope="module")
def healthy(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Verdict]:
    out = tmp_path_factory.mktemp("healthy") / "run"
    return out, judged(tokens, out)


def test_a_healthy_run_has_a_clean_bill(healthy: tuple[Path, Verdict]) -> None:
    _, verdict = healthy
    assert verdict.healthy is True and not verdict.findings
    assert str(verdict).startswith("verdict: healthy\nloss ") and "held-out" in str(verdict)


@pytest.mark.parametrize("times", [30, 100])
def test_a_learning_rate_far_too_high_is_named(times: int, tokens: Path, tmp_path: Path) -> None:
    verdict = judged(tokens, tmp_path / "run", rate=RATE * times)
    assert verdict.healthy is False and causes(verdict)[0] == "learning rate too high"
    assert "times the usual" in verdict.findings[0].evidence and "--tune-lr" in verdict.findings[0].advice


def test_a_learning_rate_far_too_low_is_named(tokens: Path, tmp_path: Path) -> None:
    verdict = judged(tokens, tmp_path / "run", rate=RATE / 100)
    assert causes(verdict) == ["learning rate too low"]
    assert "knowing how often each token comes gives" in verdict.findings[0].evidence


def test_shuffled_targets_are_named(tokens: Path, tmp_path: Path) -> None:
    """The same tokens in random order: each target comes as often as before, but after anything."""
    folder = tmp_path / "shuffled"
    write_shards([(name, name, topics[name]) for name in NAMES[:50]], TOKENIZER, folder, set(NAMES[3:50:8]))
    file = folder / "train" / "tokens-00000.bin"
    ids = Shards.open(folder).train.read(0, Shards.open(folder).train.n_tokens).copy()
    ids[1:] = np.random.default_rng(0).permutation(ids[1:])
    file.write_bytes(header(len(ids)) + ids.astype("<u2").tobytes())
    index = json.loads((folder / "index.json").read_text())
    index["splits"]["train"]["files"][0]["sha256"] = file_digest(file)
    (folder / "index.json").write_text(json.dumps(index))
    verdict = judged(folder, tmp_path / "run")
    assert len(causes(verdict)) == 1 and "shuffled targets" in causes(verdict)[0]
    alone = known(Data.open(folder), Data.open(folder).batches(32, 16, 0)).unigram
    assert verdict.loss == pytest.approx(alone, abs=0.15) and f"{alone:.2f}" in verdict.findings[0].evidence


def test_a_batch_of_one_short_sequence_is_named(tokens: Path, tmp_path: Path) -> None:
    verdict = judged(tokens, tmp_path / "run", batch=1, context=16)
    assert causes(verdict) == ["batch far too small"]
    assert "one batch of 16 tokens" in verdict.findings[0].evidence


def test_duplicated_data_is_named(tmp_path: Path) -> None:
    """A few texts many times under different names, seen in less than an epoch."""
    folder = tmp_path / "twice"
    few = [name for name in NAMES if 3000 < len(topics[name]) < 9000][:4]
    documents = [(f"{name}-{i}", f"{name}-{i}", topics[name]) for i in range(40) for name in few]
    others = [(name, name, topics[name]) for name in NAMES[:50:4] if name not in few]
    write_shards([*documents, *others], TOKENIZER, folder, {name for _, name, _ in others})
    verdict = judged(folder, tmp_path / "run", steps=300)
    assert "duplicated data" in causes(verdict)
    found = next(f for f in verdict.findings if f.cause == "duplicated data")
    assert "100% of the documents begin as another does" in found.evidence


def test_too_many_epochs_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    documents = [(name, name, topics[name][:4000]) for name in NAMES[:50:4]]
    write_shards(documents, TOKENIZER, folder, {documents[1][0], documents[5][0], documents[8][0]})
    verdict = judged(folder, tmp_path / "run", steps=400)
    assert causes(verdict) == [f"too many epochs ({epochs_of(tmp_path / 'run'):.1f})"]


def epochs_of(run: Path) -> float:
    return float(json.loads((run / "train.json").read_text())["epochs"])


def test_a_short_run_is_not_judged(tokens: Path, tmp_path: Path) -> None:
    verdict = judged(tokens, tmp_path / "run", steps=20)
    assert verdict.healthy is None and str(verdict) == "verdict: too short to judge"


def test_the_command_says_it_again(run: Run, healthy: tuple[Path, Verdict], tokens: Path) -> None:
    out, verdict = healthy
    assert run("judge", out).out == f"{verdict}\n"
    assert json.loads(run("judge", out, "--json").out) == json.loads(json.dumps(verdict.json()))
    assert run("judge", out, "--tokens", tokens).status == 0
    assert run("judge", tokens).refused("there is no training run in")


# By numbers alone

WEB = Known(unigram=7.6, pairs=5.6, repeated=0.0)
SMALL = Facts(GPT2Config(), OptimizerConfig(), 4000, 36_864, 0.1, gpt2_vocabulary=True, known=WEB)


def rows(losses: list[float], heldout: float | None = None) -> list[Json]:
    """Metrics of a curve."""
    found = [{"step": i, "loss": loss, "gradient_norm": 0.3} for i, loss in enumerate(losses, start=1)]
    if heldout is not None:
        found[-1]["heldout_loss"] = heldout
    return found


def smooth(end: float, steps: int, noise: float = 0.03) -> list[float]:
    """From guessing down to `end` as a power law."""
    draws = np.random.default_rng(0).normal(0, noise, steps)
    return [end + (10.8 - end) * t**-0.6 - (10.8 - end) * steps**-0.6 + x for t, x in enumerate(draws, 1)]


def test_a_loss_above_the_published_one_has_a_small_batch_for_its_cause() -> None:
    """nanoGPT's usual question: a batch of 36 thousand tokens in place of half a million."""
    steps = 30_000
    expected = reference(124_439_808, steps * 36_864)
    assert expected and 3.8 < expected[0] < 3.9
    facts = dataclasses.replace(SMALL, steps=steps)
    verdict = judge(rows(smooth(4.05, steps), heldout=4.05), facts)
    assert causes(verdict) == ["batch too small"] and verdict.healthy is False
    assert "36,864 tokens a step" in verdict.findings[0].evidence
    assert "llm.c's 124M on FineWeb" in verdict.findings[0].evidence
    as_published = judge(rows(smooth(expected[0], steps), heldout=expected[0]), facts)
    assert as_published.healthy is True
    other = dataclasses.replace(facts, gpt2_vocabulary=False)
    assert judge(rows(smooth(4.05, steps), heldout=4.05), other).healthy is True, "no such curve is known"


def test_a_loss_that_is_no_number_or_rises_is_a_rate_too_high() -> None:
    broken = rows(smooth(4.0, 400))
    broken[-1]["loss"] = math.nan
    assert causes(judge(broken, SMALL)) == ["learning rate too high"]
    rising = rows([*smooth(4.0, 2000), *np.linspace(4.0, 6.5, 400)])
    verdict = judge(rising, SMALL)
    assert (
        causes(verdict) == ["learning rate too high"] and "the loss ends at" in verdict.findings[0].evidence
    )


def test_no_warm_up_is_named_where_it_shows() -> None:
    losses = [10.8, 11.9, 13.0, 12.5, 12.0, *smooth(7.3, 400)[5:]]
    facts = dataclasses.replace(SMALL, optimizer=OptimizerConfig(warmup=0.0))
    assert causes(judge(rows(losses), facts)) == ["no warm-up"]
    assert causes(judge(rows(losses), SMALL)) == ["learning rate too high"], "there was one"


def test_a_run_that_stops_learning_breaks_its_own_promise() -> None:
    facts = dataclasses.replace(SMALL, gpt2_vocabulary=False)
    noise = np.random.default_rng(0).normal(0, 0.02, 4000).tolist()
    whole = [10.8 * t**-0.12 + x for t, x in enumerate(noise, 1)]
    assert judge(rows(whole), facts).healthy is True
    stalls = [*whole[:2000], *[10.8 * 2000**-0.12 + x for x in noise[2000:]]]
    verdict = judge(rows(stalls), facts)
    assert verdict.healthy is False and "its own first half promised" in str(verdict)


# What is known without training


def test_a_table_of_pairs_loses_what_order_leaves() -> None:
    generator = np.random.default_rng(0)
    a = generator.integers(0, 50, 200_000)
    free = generator.integers(0, 50, 200_000)
    assert table_of_pairs(a, free) == pytest.approx(math.log(50), abs=0.02)
    bound = (a * 7 + generator.integers(0, 2, 200_000)) % 50  # one of two after each
    assert table_of_pairs(a, bound) == pytest.approx(math.log(2), abs=0.06)


def test_a_power_law_is_found_again() -> None:
    t = np.arange(20, 4000)
    y = 2.5 + 8 * t**-0.4 + np.random.default_rng(0).normal(0, 0.02, len(t))
    law = fit(t.tolist(), y.tolist())
    assert law and law.at(20_000) == pytest.approx(2.5 + 8 * 20_000**-0.4, abs=0.05)
    assert fit(t[:3].tolist(), y[:3].tolist()) is None


def test_published_curves_are_read_between_their_points() -> None:
    found = reference(124_439_808, 2000 * 524_288)
    assert found and found[0] == pytest.approx(3.8585)
    assert reference(124_439_808, 1e12) is None and reference(50_000_000, 1e9) is None
    assert 500_000 < critical_batch(3.3) < 800_000


def test_the_tokens_must_be_those_of_the_run(healthy: tuple[Path, Verdict], tmp_path: Path) -> None:
    out, _ = healthy
    write_shards([("a", "a", "other text " * 500)], TOKENIZER, tmp_path / "other", set())
    with pytest.raises(ConfigError, match="not those that the run was trained on"):
        judge_run(out, [tmp_path / "other"])
    with pytest.raises(InputError, match="no finished shard folder"):
        judge_run(out, [tmp_path / "none"])
