"""Recipes say what their sources say, and learning rates are found by short runs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from command_line import SHAPE, Run, World

from gpt2.errors import ConfigError
from gpt2.model.checkpoint import Model
from gpt2.model.config import GPT2Config
from gpt2.training.optimizer import OptimizerConfig
from gpt2.training.plan import TrainConfig
from gpt2.training.recipes import RECIPES, kaplan, recipe
from gpt2.training.tuning import Trial, best, tune
from gpt2.workspace import Json

pytestmark = pytest.mark.usefixtures("one_thread")

NANO = GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=300, n_ctx=16)


@pytest.mark.parametrize(
    ("size", "rate"), [("124M", 6e-4), ("355M", 3e-4), ("774M", 2.5e-4), ("1558M", 2e-4)]
)
def test_the_papers_sizes_have_gpt3s_learning_rates(size: str, rate: float) -> None:
    for each in RECIPES.values():
        assert each.learning_rate(GPT2Config.size(size)) == rate
        # A vocabulary of one's own does not change the size that a table means, nor does the context.
        assert each.learning_rate(GPT2Config.size(size, vocab_size=8192, n_ctx=256)) == rate


def test_between_and_below_the_tables_rates_fall_with_size() -> None:
    shapes = [GPT2Config(n, 1, 64 * n, 8192, 256) for n in range(2, 30)]
    rates = [recipe("gpt2").learning_rate(shape) for shape in shapes]
    assert rates == sorted(rates, reverse=True) and rates[0] > 1e-3 and rates[-1] == 2e-4
    assert kaplan(85_000_000) == pytest.approx(7e-4, rel=0.03), "near GPT-3's 6e-4"


def test_settings_are_those_of_the_sources() -> None:
    small = GPT2Config.size("124M")
    nano = recipe("nanogpt").optimizer(small, 491_520)
    steps = 600_000
    assert (nano.warm(steps), nano.schedule, nano.matrices) == (2000, "cosine", "adamw")
    assert (nano.beta1, nano.beta2, nano.weight_decay, nano.clip) == (0.9, 0.95, 0.1, 1.0)
    assert nano.rate(1999, steps) == 6e-4 and nano.rate(steps - 1, steps) == pytest.approx(6e-5)
    gpt3 = recipe("gpt3").optimizer(small, 524_288)
    assert gpt3.warm(572_205) == 716, "375 M tokens"
    llmc = recipe("gpt2").optimizer(small, 524_288)
    assert llmc.warm(19_073) == 700
    modern = recipe("modern").optimizer(small, 524_288)
    assert (modern.matrices, modern.schedule, modern.rate(999, 1000)) == ("muon", "linear", 0.0)
    for each in RECIPES.values():
        assert each.optimizer(small, 1024).warm(1000) == 50, "a short run's warm-up is 5 % of it"
        assert each.optimizer(small, 1024, learning_rate=1e-2).learning_rate == 1e-2
        assert each.batch * each.context in (491_520, 524_288) and len(each.source) > 60


def test_a_straight_line_and_a_trapezoid() -> None:
    line = OptimizerConfig(learning_rate=1.0, warmup=0.1, schedule="linear", final=0.0)
    rates = [line.rate(step, 100) for step in range(100)]
    assert rates[9] == 1.0 and rates[54] == pytest.approx(0.5) and rates[99] == 0.0
    trapezoid = dataclasses.replace(line, schedule="trapezoid")
    rates = [trapezoid.rate(step, 100) for step in range(100)]
    assert rates[9:64] == [1.0] * 55 and rates[81] == pytest.approx(0.5) and rates[99] == 0.0
    with pytest.raises(ConfigError, match="schedule is one of cosine, linear, trapezoid, not 'step'"):
        dataclasses.replace(line, schedule="step")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="longest_warmup must be at least 1"):
        OptimizerConfig(longest_warmup=0)


def test_unknown_recipes_are_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"there is no recipe 'gpt-3' .did you mean 'gpt3'"):
        recipe("gpt-3")


# Tuning


@pytest.fixture
def config(world: World, tmp_path: Path) -> TrainConfig:
    rate = OptimizerConfig(learning_rate=1e-2)
    return TrainConfig(world.shards, tmp_path / "run", NANO, steps=50, batch=2, optimizer=rate)


def losing(by_rate: dict[float, float], seen: list[float], config: TrainConfig) -> Sequence[object]:
    """A callback that says what a rate loses, in place of measuring."""

    def measure(model: Model, step: int) -> Json:
        folder = sorted((config.out / "tuning").iterdir(), key=lambda p: p.stat().st_mtime_ns)[-1]
        seen.append(float(folder.name))
        return {"heldout_loss": by_rate[float(folder.name)]}

    return [measure]


def test_rates_are_tried_until_the_best_has_worse_neighbours(config: TrainConfig) -> None:
    seen: list[float] = []
    by_rate = {5e-3: 5.0, 1e-2: 4.0, 2e-2: 3.0, 4e-2: 2.5, 8e-2: 3.5}
    trials = tune(config, 2, losing(by_rate, seen, config))  # type: ignore[arg-type]
    assert trials == [Trial(rate, loss) for rate, loss in by_rate.items()]
    assert best(trials).learning_rate == 4e-2 and seen == list(by_rate)
    again = tune(config, 2, losing({}, seen, config))  # type: ignore[arg-type]
    assert again == trials and len(seen) == 5, "what is done is not done again"


def test_a_rate_that_diverges_is_only_worse(config: TrainConfig) -> None:
    wild = dataclasses.replace(config, optimizer=OptimizerConfig(learning_rate=1e30, warmup=0.0))
    calls: list[int] = []

    def measure(model: Model, step: int) -> Json:
        calls.append(step)
        return {"heldout_loss": 9.0}

    with pytest.raises(ConfigError, match=r"no learning rate from .* gave a loss that is a number"):
        tune(wild, 6, [measure])
    with pytest.raises(ConfigError, match="compared on held-out documents"):
        tune(config, 2, [])


def test_the_command_takes_recipes_tunes_and_mixes(run: Run, world: World, tmp_path: Path) -> None:
    base = ("train", "--tokens", world.shards, *SHAPE, "--steps", "4", "--batch", "2", "--quiet", "--json")
    said = run(*base, "--out", tmp_path / "a", "--recipe", "modern")
    assert said.status == 0, said.err
    record = json.loads((tmp_path / "a" / "train.json").read_text())["settings"]
    assert record["optimizer"]["matrices"] == "muon" and json.loads(said.out)["recipe"] == "modern"
    said = run(*base, "--out", tmp_path / "b", "--tune-lr", "3")
    found = json.loads(said.out)
    rates = {trial["learning_rate"]: trial["heldout_loss"] for trial in found["trials"]}
    record = json.loads((tmp_path / "b" / "train.json").read_text())["settings"]
    assert len(rates) >= 3 and record["optimizer"]["learning_rate"] == min(rates, key=rates.__getitem__)
    two = ("--tokens", world.shards, "--weights", "3", "1")
    said = run(*base, *two, "--out", tmp_path / "c")
    assert said.status == 0 and "heldout_loss_2" in json.loads(said.out), said.err
    said = run("batch", tmp_path / "c", "2", "--json")
    passages = json.loads(said.out)["passages"]
    assert len(passages) == 2 and all(p["documents"][0]["id"].startswith("d") for p in passages)
    assert run(*base, "--out", tmp_path / "d", "--recipe", "nano").refused("nanogpt")
