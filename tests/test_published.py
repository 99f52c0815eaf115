"""Verdicts: the measurements that others published, fed in as results, are named for what they are."""

from __future__ import annotations

import pytest

from gpt2.evaluation.protocol import Protocol, Statistic
from gpt2.evaluation.published import Judgement, judge, known, lines_of, size_of
from gpt2.model.checkpoint import Model
from gpt2.model.config import SIZES, GPT2Config


def protocol(name: str, metric: str = "accuracy", statistic: Statistic = "percent") -> Protocol:
    """A protocol of this full name."""
    task, _, short = name.partition("/")
    return Protocol(task, short, metric, "data", statistic)


def on_whole(name: str, value: float, size: str = "124M") -> Judgement:
    """What is said of an accuracy on the whole split."""
    return judge(size, protocol(name), value, (value - 1.4, value + 1.4), whole=True)


def perplexity(name: str, value: float, size: str = "124M") -> str:
    """What is said of a perplexity on the whole split."""
    return judge(size, protocol(name, "perplexity", "perplexity"), value, None, whole=True).verdict


@pytest.mark.parametrize("name", ["lambada/last-token", "lambada/last-word", "lambada/filtered"])
def test_46_67_is_named_the_last_token_whatever_it_was_measured_as(name: str) -> None:
    assert "46.67 is the last-token rule" in on_whole(name, 46.67).verdict


@pytest.mark.parametrize("name", ["lambada/last-word", "lambada/last-token"])
def test_32_56_is_named_the_whole_word_without_filter(name: str) -> None:
    judged = on_whole(name, 32.56)
    assert "the whole last word" in judged.verdict and "without filter" in judged.verdict
    assert judged.paper == 45.99 and "45.99 is with a stop-word filter" in judged.verdict


def test_a_rule_that_is_not_the_protocols_own_is_not_called_as_published() -> None:
    assert on_whole("lambada/last-word", 32.56).verdict.startswith("as published")
    assert not on_whole("lambada/last-token", 32.56).verdict.startswith("as published")
    assert on_whole("lambada/last-word", 32.56).reproducible == 32.56
    assert on_whole("lambada/last-token", 32.56).reproducible == 46.67


@pytest.mark.parametrize("name", ["wikitext2/harness", "wikitext2/word"])
def test_37_37_is_the_word_perplexity_of_the_community_harness(name: str) -> None:
    assert "37.37 is the word perplexity of the community harness" in perplexity(name, 37.37)


def test_a_perplexity_per_token_is_no_perplexity_per_word_however_near_it_is() -> None:
    assert "29.94 is per token, not per word" in perplexity("wikitext2/word", 29.94)
    assert "equals the paper's 29.41" in perplexity("wikitext2/word", 29.41)


@pytest.mark.parametrize("name", ["winograd/partial", "winograd/harness"])
def test_58_61_is_another_rule_for_possessives(name: str) -> None:
    assert "another rule for possessive" in on_whole(name, 100 * 160 / 273).verdict


def test_the_same_number_of_another_size_is_another_thing() -> None:
    assert "full scoring" in on_whole("winograd/partial", 58.61, "355M").verdict
    assert "last-token" not in on_whole("lambada/last-word", 46.67, "1558M").verdict


def test_every_published_measurement_is_known_again_under_its_own_protocol() -> None:
    for m in known().measured:
        statistic: Statistic = "perplexity" if m.metric == "perplexity" else "percent"
        statistic = "bits" if m.metric.startswith("bits") else statistic
        for size, value in m.values.items():
            for name in m.protocols:
                judged = judge(size, protocol(name, m.metric, statistic), value, None, whole=True)
                assert judged.reproducible == value and m.source in judged.source
                assert judged.verdict.startswith("as published") and m.rule in judged.verdict


def test_the_papers_own_values_are_known_again() -> None:
    for p in known().paper:
        statistic: Statistic = "perplexity" if p.metric == "perplexity" else "percent"
        for size, value in p.values.items():
            name = p.protocols[0] if p.protocols else f"{p.task}/any"
            judged = judge(size, protocol(name, p.metric, statistic), value, None, whole=True)
            assert judged.paper == value
            assert f"equals the paper's {value:g}" in judged.verdict


def test_a_part_of_the_data_agrees_within_its_interval_and_the_whole_only_up_to_rounding() -> None:
    last_word = protocol("lambada/last-word")
    part = judge("124M", last_word, 33.4, (32.0, 34.8), whole=False).verdict
    assert part.startswith("as published, within the interval: 32.56")
    whole = judge("124M", last_word, 33.4, (32.0, 34.8), whole=True).verdict
    assert whole.startswith("differs from 32.56")


def test_within_an_interval_all_that_cannot_be_told_apart_is_named() -> None:
    last_word = protocol("lambada/last-word")
    verdict = judge("124M", last_word, 46.67, (45.3, 48.0), whole=False).verdict
    assert "46.67 is the last-token rule" in verdict and "45.99, with a stop-word filter" in verdict
    wide = judge("124M", last_word, 40.0, (32.0, 48.0), whole=False).verdict
    assert wide.startswith("as published, within the interval: 32.56")
    assert all(value in wide for value in ("41.98", "45.99", "46.67", "46.89"))


def test_a_protocol_that_nobody_published_says_how_far_the_paper_is() -> None:
    verdict = on_whole("cbt-cn/choice", 80.0).verdict
    assert "nobody has published this protocol" in verdict and "-7.65 from the paper's 87.65" in verdict
    assert judge("124M", protocol("dpr/partial"), 60.0).verdict == "no published value"


def test_other_models_have_the_papers_column_as_context_and_no_verdict() -> None:
    for value in (46.67, 0.0):
        judged = judge(None, protocol("lambada/last-token"), value, (value, value), whole=True)
        assert judged == Judgement(paper=45.99, paper_size="124M")


def test_without_a_value_there_is_no_verdict() -> None:
    judged = judge("124M", protocol("lambada/last-word"), None)
    assert (judged.paper, judged.reproducible, judged.verdict) == (45.99, 32.56, "")


def test_a_size_is_known_by_its_whole_shape() -> None:
    class Net:
        config = GPT2Config()

    model = Model(Net(), None)  # type: ignore[arg-type]
    for name in SIZES:
        Net.config = GPT2Config.size(name)
        assert size_of(model) == name
        Net.config = GPT2Config.size(name, vocab_size=50_000)
        assert size_of(model) is None


def test_tables_of_the_paper_are_copied_right() -> None:
    """Sums over Table 3's columns, which a slip of one digit would change."""
    sums = {
        (p.task, p.metric): round(sum(p.values.values()), 3) for p in known().paper if p.source == "Table 3"
    }
    assert sums == {
        ("lambada", "perplexity"): 70.23,
        ("lambada", "accuracy"): 224.83,
        ("cbt-cn", "accuracy"): 366.75,
        ("cbt-ne", "accuracy"): 347.55,
        ("wikitext2", "perplexity"): 90.44,
        ("ptb", "perplexity"): 189.25,
        ("enwik8", "bits per byte"): 4.07,
        ("text8", "bits per character"): 4.23,
        ("wikitext103", "perplexity"): 103.4,
        ("lm1b", "perplexity"): 217.655,
    }
    assert all(f"{100 * round(v * 2.73) / 273:.2f}" == f"{v:.2f}" for p in known().paper
               if p.task == "winograd" for v in p.values.values()), "k of 273"  # fmt: skip


def test_people_and_baselines_stand_by() -> None:
    assert {line.name: line.value for line in lines_of("coqa")}["human"] == 89.8
    assert {line.value for line in lines_of("cbt-cn")} == {85.7, 96.0}


def test_what_is_published_is_of_protocols_that_there_are() -> None:
    from gpt2.evaluation.tasks import every_task

    there = {p.id: p for task in every_task() for p in task.protocols}
    for published in [*known().paper, *known().measured]:
        for name in published.protocols:
            assert name in there, f"{name} is no protocol"
            assert there[name].metric == published.metric, name


def test_a_few_items_give_no_verdict() -> None:
    name = protocol("lambada/last-word")
    assert judge("124M", name, 26.0, None, whole=False).verdict == "too few items for a verdict"
    assert judge("124M", name, 32.56, None, whole=True).verdict.startswith("as published")


def test_a_baseline_is_of_no_size() -> None:
    lead = judge(None, protocol("summarization/lead-3-rouge-1", "ROUGE-1"), 41.5)
    assert (lead.paper, lead.paper_size) == (40.38, None)
    assert judge(None, protocol("summarization/rouge-mean", "ROUGE average"), 41.5).paper_size == "124M"
