"""Known answers: those computed by transformers pass, and each fault fails with the answer that it leads to."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from command_line import Run, World
from huggingface import to_huggingface
from their_answers import (
    BATCH,
    PLAY,
    SMALL,
    TOKENIZER,
    WIDTHS,
    lively,
    of_width,
    pair,
    their_answers,
    their_pass,
    write_state,
)
from torch import nn
from transformers import GPT2LMHeadModel
from transformers.activations import ACT2FN

import gpt2.evaluation.verify
from gpt2.errors import FormatError, InputError
from gpt2.evaluation.questions import KINDS
from gpt2.evaluation.verify import agrees, shape_of, summary, verify
from gpt2.model.checkpoint import Model
from gpt2.model.config import GPT2Config
from gpt2.model.transformer import GPT2

pytestmark = pytest.mark.usefixtures("one_thread")

OF_SHAPE_AND_TEXT = {"shape", "vocabulary", "tokens", "batch_ids"}
"""Kinds of answers that a fault in the network cannot change."""
SENSITIVE = {"loss", "hidden", "batch_logits", "gradient h.0.attn.c_proj.weight", "adamw"}
"""Answers that each of the faults changes."""


@pytest.fixture(scope="module")
def plays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder of data, with the text somewhere in it."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "drama").mkdir()
    (folder / "drama" / "play.txt").write_text(PLAY)
    return folder


@pytest.mark.parametrize("width", WIDTHS)
def test_a_model_passes_against_what_transformers_computes_of_its_weights(width: int, plays: Path) -> None:
    net, _, answers = pair(of_width(width))
    assert {a.kind for a in answers} == {"shape", *KINDS}, "every kind of question is asked"
    checks = verify(Model(net, TOKENIZER), answers, plays)
    assert [c for c in checks[:-1] if c.status != "passed"] == []
    assert checks[-1].status == "not run" and "--debug-state" in checks[-1].reason
    assert summary(checks).startswith(f"{len(answers)} passed, 0 failed, 1 could not run: these are OpenAI's")


def transposed(ours: GPT2, theirs: GPT2LMHeadModel, m: pytest.MonkeyPatch) -> None:
    """A square matrix is stored in the other order."""
    for weight in (ours.h[0].attn.c_proj.weight, theirs.transformer.h[0].attn.c_proj.weight):
        weight.copy_(weight.t().clone())


def without_bias(ours: GPT2, theirs: GPT2LMHeadModel, m: pytest.MonkeyPatch) -> None:
    """One bias is zero."""
    ours.h[0].mlp.c_proj.bias.zero_()
    theirs.transformer.h[0].mlp.c_proj.bias.zero_()


def other_epsilon(ours: GPT2, theirs: GPT2LMHeadModel, m: pytest.MonkeyPatch) -> None:
    """Layer norms add 1e-6 in place of 1e-5."""
    for net in (ours, theirs):
        for module in net.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = 1e-6


def exact_gelu(ours: GPT2, theirs: GPT2LMHeadModel, m: pytest.MonkeyPatch) -> None:
    """GELU by the normal distribution itself, not by the tanh near it."""
    for block in theirs.transformer.h:
        block.mlp.act = ACT2FN["gelu"]
    gelu = F.gelu
    m.setattr(F, "gelu", lambda x, approximate: gelu(x))


def shifted_positions(ours: GPT2, theirs: GPT2LMHeadModel, m: pytest.MonkeyPatch) -> None:
    """Each position has the embedding of the one before it."""
    for wpe in (ours.wpe.weight, theirs.transformer.wpe.weight):
        wpe.copy_(wpe.roll(1, 0))


FAULTS = [transposed, without_bias, other_epsilon, exact_gelu, shifted_positions]
Fault = Callable[[GPT2, GPT2LMHeadModel, pytest.MonkeyPatch], None]


@pytest.mark.parametrize(
    ("width", "fault"),
    [
        *((768, fault) for fault in FAULTS),
        (1024, other_epsilon),
        (1024, exact_gelu),
        (1280, shifted_positions),
        (1600, transposed),
    ],
)
def test_a_fault_fails_with_what_transformers_computes_under_the_same_fault(
    width: int, fault: Fault, plays: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, theirs, right = pair(of_width(width))
    net, theirs = copy.deepcopy(net), copy.deepcopy(theirs)
    with torch.no_grad():
        fault(net, theirs, monkeypatch)
    wrong = their_answers(theirs)
    checks = verify(Model(net, TOKENIZER), right, plays)
    for check, known, faulty in zip(checks, right, wrong, strict=False):
        assert agrees(faulty.expected, check.got, known.tolerance), (
            f"{check.name} has failed for another reason"
        )
        if not agrees(known.expected, faulty.expected, 2 * known.tolerance):
            assert check.status == "failed", f"{check.name} does not see it"
        if known.kind in OF_SHAPE_AND_TEXT:
            assert check.status == "passed", f"{check.name} cannot see it"
    assert {c.name for c in checks if c.status == "failed"} >= SENSITIVE
    assert "these are not OpenAI's weights, or they are not loaded and computed right" in summary(checks)


def test_verifying_leaves_the_model_as_it_was(plays: Path) -> None:
    net = lively(SMALL)
    net.wpe.weight.requires_grad_(False)
    net.ln_f.bias.grad = torch.ones(32)
    before = {name: p.clone() for name, p in net.state_dict().items()}
    checks = verify(Model(net, TOKENIZER), pair(SMALL)[2], plays)
    assert all(c.status == "passed" for c in checks[:-1]), "frozen weights are verified too"
    assert all(torch.equal(p, before[name]) for name, p in net.state_dict().items())
    assert {name for name, p in net.named_parameters() if p.grad is not None} == {"ln_f.bias"}
    assert torch.equal(net.ln_f.bias.grad, torch.ones(32)) and not net.wpe.weight.requires_grad
    assert not net.training


def test_weights_held_in_a_lower_format_are_computed_in_float32(plays: Path) -> None:
    net = lively(SMALL).bfloat16()
    answers = their_answers(to_huggingface(copy.deepcopy(net).float()))
    checks = verify(Model(net, TOKENIZER), answers, plays)
    assert all(c.status == "passed" for c in checks[:-1]) and net.wte.weight.dtype == torch.bfloat16


def test_without_its_text_the_debug_batch_is_not_run_and_says_what_to_give(
    plays: Path, tmp_path: Path
) -> None:
    net, _, answers = pair(SMALL)
    of_batch = [a.name for a in answers if "batch" in a.given]
    (tmp_path / "play.txt").write_text(PLAY.replace("one", "One"))
    for data, words in (
        (None, f"A Play (play.txt, {len(PLAY)} bytes); give a folder that has it (--data DIR"),
        (tmp_path, f"with sha256 {BATCH.sha256}, which is nowhere in {tmp_path}"),
    ):
        checks = verify(Model(net, TOKENIZER), answers, data)
        left = [c for c in checks[:-1] if c.status == "not run"]
        assert [c.name for c in left] == of_batch and all(words in c.reason for c in left)
        assert {c.status for c in checks[:-1] if c not in left} == {"passed"}
    with pytest.raises(InputError, match="there is no folder"):
        verify(Model(net, TOKENIZER), answers, plays / "nowhere")


def test_a_debug_state_holds_all_logits_and_gradients_against_the_model(tmp_path: Path) -> None:
    net, theirs, answers = pair(SMALL)
    x, y = torch.randint(0, 1000, (2, 3, 8), generator=torch.Generator().manual_seed(0))
    found, path = their_pass(theirs, x, y), tmp_path / "state.bin"
    write_state(path, found, x, y)

    def state_checks(net: GPT2) -> dict[str, str]:
        checks = verify(Model(net, TOKENIZER), answers, debug_state=path)
        return {c.name.removeprefix("debug state: "): c.status for c in checks if c.kind == "debug_state"}

    statuses = state_checks(net)
    assert len(statuses) == 2 + 16 and set(statuses.values()) == {"passed"}
    for name in found.gradients:  # a single gradient that is otherwise is found, in whatever layer
        spoilt = found.gradients[name].clone()
        spoilt[(-1,) * spoilt.dim()] += spoilt.norm()
        write_state(path, found._replace(gradients=found.gradients | {name: spoilt}), x, y)
        failed = [n for n, status in state_checks(net).items() if status == "failed"]
        assert failed == [f"gradient of {name.replace('h.0.', 'h.*.').replace('h.1.', 'h.*.')}, relative"]
    spoilt = found.logits.clone()
    spoilt[2, 7, 999] += 0.1
    write_state(path, found._replace(logits=spoilt, loss=found.loss + 0.01), x, y)
    failed = [n for n, status in state_checks(net).items() if status == "failed"]
    assert failed == ["loss", "logits, largest difference"]
    write_state(path, found, x + 1000, y)
    with pytest.raises(FormatError, match="tokens that are not in the vocabulary"):
        state_checks(net)


@pytest.fixture
def command(world: World, monkeypatch: pytest.MonkeyPatch, plays: Path, tmp_path: Path) -> Path:
    """A model on disk that gives the answers which are known in place of OpenAI's."""
    net, _, answers = pair(SMALL)
    Model(net, TOKENIZER).save(tmp_path / "model")
    monkeypatch.setattr(gpt2.evaluation.verify, "known_answers", lambda: answers)
    monkeypatch.setenv("GPT2_DATA", str(plays))
    return tmp_path / "model"


def test_the_command_ends_with_0_when_nothing_failed_and_counts(command: Path, run: Run) -> None:
    said = run("verify", command, "--quiet", "--threads", "1")
    n = len(pair(SMALL)[2])
    assert (said.status, said.err) == (0, "")
    assert "Computed in float32." in said.out
    assert said.out.splitlines()[-1].startswith(f"{n} passed, 0 failed, 1 could not run: these are OpenAI's")
    rows = [line for line in said.out.splitlines() if line.endswith(("passed", "failed", "not run"))]
    assert len(rows) == n + 1


def test_the_command_ends_with_1_when_a_check_failed(
    command: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [replace(a, expected=a.expected + 1.0) if a.kind == "logit" else a for a in pair(SMALL)[2]]
    monkeypatch.setattr(gpt2.evaluation.verify, "known_answers", lambda: answers)
    monkeypatch.delenv("GPT2_DATA")
    said = run("verify", command, "--json", "--quiet")
    result = json.loads(said.out)
    assert said.status == 1 and (result["failed"], result["dtype"]) == (1, "float32")
    assert result["passed"] + result["failed"] + result["not_run"] == len(result["checks"])
    by_name = {c["name"]: c for c in result["checks"]}
    failed = by_name["logit"]
    assert failed["status"] == "failed" and failed["got"] == pytest.approx(failed["expected"] - 1, abs=1e-4)
    assert failed["tolerance"] == 2e-5 and failed["source"] == "transformers"
    assert by_name["batch_loss"]["status"] == "not run" and "GPT2_DATA" in by_name["batch_loss"]["reason"]


def test_a_model_of_another_shape_is_told_so(world: World, run: Run) -> None:
    said = run("verify", world.model, "--quiet")
    assert said.status == 1
    c = GPT2Config(1, 1, 8, 300, 32)
    assert f"the model has none of OpenAI's shapes: it has {shape_of(GPT2(c))}" in said.out
    assert "the model's vocabulary of 300 tokens is not GPT-2's" in said.out
    assert "these are not OpenAI's weights" in said.out.splitlines()[-1]


def test_what_the_command_cannot_use_is_refused(
    command: Path, run: Run, world: World, tmp_path: Path
) -> None:
    assert run("verify", tmp_path / "nothing").refused("there is no model at")
    assert run("verify", command, "--quiet", "--data", tmp_path / "nothing").refused("there is no folder")
    state = world.texts / "00.txt"
    refusal = "does not begin as a debug state of llm.c does"
    assert run("verify", command, "--quiet", "--debug-state", state).refused(refusal)
    assert run("verify", command, "--quiet", "--debug-state", tmp_path / "x").refused("no such file")
