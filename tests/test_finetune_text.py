"""gpt2 finetune text: from a model and a text to a model that has read it, killed and resumed."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import time
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
import torch
from command_line import Run, spawn

import gpt2
from gpt2.errors import ConfigError, InputError, TooLittleData
from gpt2.finetuning.lora import LoraConfig
from gpt2.finetuning.methods import Methods
from gpt2.finetuning.outcome import Sampling
from gpt2.finetuning.text import finetune_text
from gpt2.training.plan import Beside
from gpt2.workspace import Json

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPE = gpt2.GPT2Config(n_layer=2, n_head=2, n_embd=16, vocab_size=400, n_ctx=32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights with a vocabulary of its own."""
    folder = tmp_path_factory.mktemp("model") / "model"
    gpt2.Model(gpt2.GPT2(SHAPE, seed=7), gpt2.Tokenizer(gpt2.Tokenizer.gpt2().pairs[:143])).save(folder)
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of Python's manual in one file."""
    file = tmp_path_factory.mktemp("text") / "manual.txt"
    file.write_text("\n\n".join(topics[name] for name in sorted(topics)[:6])[:24_000])
    return file


@pytest.fixture
def config(model: Path, text: Path, tmp_path: Path) -> gpt2.TextConfig:
    return gpt2.TextConfig(
        model,
        text,
        tmp_path / "tuned",
        steps=12,
        learning_rate=1e-2,
        batch=4,
        sampling=Sampling(2, 10),
        dtype="float32",
        threads=1,
        save_every_seconds=1e-9,
    )


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def test_a_tuned_model_has_learned_the_text_and_opens_everywhere(
    config: gpt2.TextConfig, run: Run, tmp_path: Path
) -> None:
    words = ["finetune", "text", config.model, config.text, "--out", config.out, "--steps", 12, "--batch", 4]
    words += ["--learning-rate", "0.01", "--samples", 2, "--sample-tokens", 10, "--threads", 1]
    said = run(*words, "--json", "--quiet")
    assert (said.status, said.err) == (0, "")
    told = json.loads(said.out)
    assert told == json.loads((config.out / "finetune.json").read_text())
    assert told["before"]["loss"] == pytest.approx(6.0, abs=0.1), "log 400"
    assert told["after"]["loss"] < told["before"]["loss"] - 0.2
    assert told["difference"]["interval"][1] < 0
    assert (told["steps"], told["learned_weights"]) == (12, SHAPE.num_parameters())
    assert [set(sample) for sample in told["samples"]] == [
        {"prompt", "before", "after", "copied_before", "copied"}
    ] * 2
    assert set(told["longest_copy"]) == {"before", "after", "held_out_text"}
    assert told["longest_copy"]["held_out_text"] >= 1
    for folder in (config.out, config.out / "model"):
        assert torch.equal(
            gpt2.load(folder).net.wte.weight, gpt2.load(config.out / "run" / "best").net.wte.weight
        )
    assert run("generate", config.out, "The", "--max-tokens", "3", "--quiet").status == 0
    assert run("score", config.out, "The list", "--quiet").status == 0
    assert run("convert", config.out, tmp_path / "hf", "--to", "huggingface", "--quiet").status == 0
    people = run(*words, "--quiet")
    assert people.status == 0 and "held-out loss" in people.out and "longest copied run" in people.out


def test_an_adapter_is_learned_beside_weights_that_stay(
    config: gpt2.TextConfig, run: Run, tmp_path: Path
) -> None:
    config = dataclasses.replace(config, lora=LoraConfig(4, 8.0))
    before = (config.model / "model.safetensors").read_bytes()
    told = finetune_text(config)
    assert (config.model / "model.safetensors").read_bytes() == before
    assert told["after"]["loss"] < told["before"]["loss"]
    assert told["learned_weights"] == 2 * 4 * ((16 + 48) + (16 + 16) + 2 * (16 + 64))
    checkpoint = {path.name for path in (config.out / "run" / "checkpoint").iterdir()}
    assert "adapter_model.safetensors" in checkpoint and "model.safetensors" not in checkpoint
    merged = gpt2.load(config.out).net
    base = gpt2.load(config.model).net
    assert torch.equal(merged.wte.weight, base.wte.weight), "what has no adapter is as it was"
    said = run("finetune", "merge", config.model, config.out / "adapter", "--out", tmp_path / "merged")
    assert said.status == 0
    assert (tmp_path / "merged" / "model.safetensors").read_bytes() == weights(config.out)
    other = gpt2.Model(gpt2.GPT2(SHAPE, seed=8), gpt2.load(config.model).tokenizer)
    other.save(tmp_path / "other")
    said = run("finetune", "merge", tmp_path / "other", config.out / "adapter", "--out", tmp_path / "wrong")
    assert said.refused("other weights")


@pytest.mark.parametrize("lora", [False, True], ids=["weights", "adapter"])
def test_killed_again_and_again_it_ends_in_the_same_model(
    lora: bool, config: gpt2.TextConfig, tmp_path: Path
) -> None:
    whole = dataclasses.replace(
        config,
        out=tmp_path / "whole",
        lora=LoraConfig() if lora else None,
        methods=Methods(2.6, slanted=True, unfreeze=True),
    )
    told = finetune_text(whole)
    words = ["finetune", "text", config.model, config.text, "--out", config.out, "--steps", 12, "--batch", 4]
    words += ["--learning-rate", "0.01", "--samples", 2, "--sample-tokens", 10, "--threads", 1]
    words += [
        "--layer-factor",
        "2.6",
        "--slanted",
        "--unfreeze",
        "--dtype",
        "float32",
        "--save-every",
        "1e-9",
    ]
    words += ["--lora"] if lora else []
    log = config.out / "run" / "metrics.jsonl"
    for step in (3, 7):
        process = spawn(*words)
        while not log.exists() or f'"step": {step}' not in log.read_text():
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert not (config.out / "finetune.json").exists()
    again = finetune_text(dataclasses.replace(whole, out=config.out))
    assert weights(config.out) == weights(tmp_path / "whole")
    for name in ("before", "after", "samples", "longest_copy", "best_step"):
        assert again[name] == told[name], name


def test_the_same_call_again_does_nothing_and_another_is_refused(config: gpt2.TextConfig) -> None:
    config = dataclasses.replace(config, steps=2)
    told = finetune_text(config)
    before = weights(config.out)
    assert finetune_text(config) == told and weights(config.out) == before
    for changes in ({"learning_rate": 0.5}, {"methods": Methods(slanted=True)}, {"lora": LoraConfig()}):
        with pytest.raises(ConfigError, match="begun with"):
            finetune_text(dataclasses.replace(config, **changes))  # type: ignore[arg-type]


def test_the_best_model_is_kept_when_the_loss_rises_again(
    config: gpt2.TextConfig, text: Path, tmp_path: Path
) -> None:
    (tmp_path / "little.txt").write_text(text.read_text()[:4000])
    told = finetune_text(
        dataclasses.replace(config, text=tmp_path / "little.txt", steps=150, learning_rate=0.03, patience=2)
    )
    assert told["best_step"] < told["steps"] < told["planned_steps"] == 150
    best, last = (
        json.loads((config.out / "run" / n / "card.json").read_text()) for n in ("best", "checkpoint")
    )
    assert best["heldout_loss"] < last["heldout_loss"]
    assert weights(config.out) == (config.out / "run" / "best" / "model.safetensors").read_bytes()


def test_what_is_learned_beside_is_looked_at(config: gpt2.TextConfig, model: Path, tmp_path: Path) -> None:
    from gpt2.tokens.shards import write_shards

    rows = [(name, name, topics[name][:1500]) for name in sorted(topics)[20:30]]
    write_shards(rows, gpt2.load(model).tokenizer, tmp_path / "other", {rows[0][0]})
    told = finetune_text(dataclasses.replace(config, steps=3, beside=Beside(tmp_path / "other", 1.0)))
    assert told["beside"][-1][0] == 3 and told["beside"][-1][1] < 6.5


def test_without_held_out_text_the_last_model_is_taken(config: gpt2.TextConfig) -> None:
    told = finetune_text(dataclasses.replace(config, steps=2, heldout=0.0))
    assert (
        told["before"] is None
        and told["difference"] is None
        and told["longest_copy"]["held_out_text"] is None
    )
    assert weights(config.out) == (config.out / "run" / "checkpoint" / "model.safetensors").read_bytes()
    assert all(sample["prompt"] == "" for sample in told["samples"])


def test_the_command_holds_nothing_out(config: gpt2.TextConfig, run: Run) -> None:
    words = ["finetune", "text", config.model, config.text, "--out", config.out, "--steps", 2, "--batch", 4]
    words += ["--heldout", 0, "--samples", 1, "--sample-tokens", 5, "--threads", 1, "--quiet"]
    said = run(*words)
    assert (said.status, said.err) == (0, "")
    assert "longest copied run" in said.out and "held-out loss" not in said.out


def test_what_cannot_be_tuned_is_refused_and_leaves_nothing(
    config: gpt2.TextConfig, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "short.txt").write_text("Too short.")
    (tmp_path / "empty.jsonl").write_text("")
    cases: list[tuple[Json, Any, str]] = [
        ({"text": tmp_path / "short.txt"}, TooLittleData, "training tokens"),
        ({"text": tmp_path / "empty.jsonl"}, TooLittleData, "empty"),
        ({"text": tmp_path / "nothing"}, InputError, "no file or folder"),
        ({"model": tmp_path / "nothing"}, InputError, "no model"),
        ({"context": 33}, ConfigError, "context of 33"),
    ]
    for changes, kind, words in cases:
        with pytest.raises(kind, match=words):
            finetune_text(dataclasses.replace(config, **changes))
        shutil.rmtree(config.out, ignore_errors=True)
    for changes in ({"epochs": 1.0}, {"steps": 0}, {"patience": 0}, {"batch": 0}):
        with pytest.raises(ConfigError):
            dataclasses.replace(config, **changes)
    said = run("finetune", "text", config.model, tmp_path / "short.txt", "--out", config.out, "--quiet")
    assert said.refused("training tokens")
