"""lm-evaluation-harness over our models: the same answers as over the same weights in transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from harness import reader
from lm_eval.api.instance import Instance
from trained_model import Trained

from gpt2.errors import ConfigError
from gpt2.evaluation.harness import Harness, how
from gpt2.inference.sampling import Sampling

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def instances(kind: str, arguments: list[tuple[Any, ...]]) -> list[Instance]:
    """Requests as the harness makes them."""
    return [Instance(kind, {}, one, i) for i, one in enumerate(arguments)]


@pytest.fixture(scope="module")
def both(trained: Trained) -> tuple[Harness, Any]:
    """Ours and the harness's own, of the same weights."""
    return Harness(trained.folder, threads=1, quiet=True), reader(trained.huggingface)


def test_continuations_are_as_likely_and_as_greedy(both: tuple[Harness, Any], trained: Trained) -> None:
    words = trained.heldout[20_000:60_000].split(" ")
    pairs = [(" ".join(words[i : i + 40]), " " + words[i + 40]) for i in range(0, 1200, 40)]
    pairs += [
        ("", "The moor"),
        ("ends with a space ", "and"),
        (" ".join(words[:900]), " far"),
        ("a", "b c d"),
    ]
    prompts = [context for context, _ in pairs[:12]]
    asked = instances("generate_until", [(p, {"max_gen_toks": 2, "until": []}) for p in prompts])
    pairs += zip(prompts, both[1].generate_until(asked, disable_tqdm=True), strict=True)
    ours, theirs = (lm.loglikelihood(instances("loglikelihood", pairs), disable_tqdm=True) for lm in both)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    assert {greedy for _, greedy in ours} == {True, False}
    for (mine, _), (other, _) in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(other, abs=2e-4)


def test_whole_texts_are_as_likely(both: tuple[Harness, Any], trained: Trained) -> None:
    texts = [(trained.heldout[:6000],), ("Short.",), (trained.heldout[9000:9900],)]
    ours, theirs = (lm.loglikelihood_rolling(instances("loglikelihood_rolling", texts)) for lm in both)
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_greedy_text_is_the_same_up_to_its_stop_string(both: tuple[Harness, Any], trained: Trained) -> None:
    prompts = [trained.heldout[i : i + 200] for i in range(30_000, 36_000, 1000)] + [trained.heldout[:4000]]
    settings = {"until": ["\n", ". "], "max_gen_toks": 24, "do_sample": False}
    asked = instances("generate_until", [(prompt, settings) for prompt in prompts])
    ours, theirs = (lm.generate_until(asked, disable_tqdm=True) for lm in both)
    assert ours == theirs
    assert len(set(ours)) > 3


def test_settings_of_the_harness_are_ours_or_refused() -> None:
    assert how({"until": "\n", "max_gen_toks": 5}) == (5, ("\n",), Sampling(0.0))
    assert how({"do_sample": False, "temperature": 0.0, "top_p": 0.9})[2] == Sampling(0.0)
    sampled = how({"until": [], "do_sample": True, "temperature": 0.7, "top_k": 5, "num_beams": 1})
    assert sampled == (256, (), Sampling(0.7, 5))
    controls = {"top_p": 0.9, "min_p": 0.1, "repetition_penalty": 1.2}
    assert how({"do_sample": True, "temperature": 1.0, **controls})[2] == Sampling(1.0, None, 0.9, 0.1, 1.2)
    assert how({"repetition_penalty": 1.2})[2] == Sampling(0.0, repetition_penalty=1.2)
    with pytest.raises(ConfigError, match="no num_beams"):
        how({"num_beams": 4})


def test_the_harness_finds_our_models_by_name_and_evaluates_them(trained: Trained, tmp_path: Path) -> None:
    rows = [{"text": trained.heldout[i : i + 300].rpartition(" ")[0]} for i in range(5000, 9000, 400)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mine.yaml").write_text(
        "task: mine\ndataset_path: json\noutput_type: loglikelihood\ntest_split: test\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path / 'rows.jsonl'}}}, cache_dir: {tmp_path / 'cache'}}}\n"
        "doc_to_text: \"{{text.split(' ')[:-1]|join(' ')}}\"\n"
        "doc_to_target: \"{{' '+text.split(' ')[-1]}}\"\n"
        "metric_list: [{metric: perplexity}, {metric: acc}]\n"
    )
    manager = lm_eval.tasks.TaskManager(include_path=str(tmp_path), include_defaults=False)
    found = {
        name: lm_eval.simple_evaluate(
            model=name,
            model_args=arguments,
            tasks=["mine"],
            task_manager=manager,
            bootstrap_iters=0,
            device="cpu",
        )["results"]["mine"]
        for name, arguments in (
            ("gpt2", f"path={trained.folder},threads=1,quiet=True"),
            ("hf", f"pretrained={trained.huggingface},dtype=float32"),
        )
    }
    assert found["gpt2"]["acc,none"] == found["hf"]["acc,none"]
    assert found["gpt2"]["perplexity,none"] == pytest.approx(found["hf"]["perplexity,none"], rel=1e-5)
