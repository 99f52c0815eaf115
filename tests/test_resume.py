"""Checkpoints: whole at every moment, exact to resume, honest when they cannot be."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import SHAPE as OPTIONS
from command_line import Run, World, spawn
from safetensors.torch import load_file, save_file

from gpt2.console import Console
from gpt2.errors import FormatError, InputError, WorkbenchError
from gpt2.model.checkpoint import Model, load
from gpt2.model.config import GPT2Config
from gpt2.model.transformer import GPT2
from gpt2.training import resume
from gpt2.training.average import Average
from gpt2.training.optimizer import OptimizerConfig
from gpt2.training.parallel import ALONE
from gpt2.training.plan import TrainConfig
from gpt2.training.stopping import Terminated
from gpt2.training.trainer import train
from gpt2.workspace import Json, file_digest

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = GPT2Config(n_layer=2, n_head=2, n_embd=32, vocab_size=400, n_ctx=32)


@pytest.fixture
def config(tokens: Path, tmp_path: Path) -> TrainConfig:
    rate = OptimizerConfig(learning_rate=1e-2)
    return TrainConfig(
        tokens, tmp_path / "run", SHAPE, steps=30, batch=4, optimizer=rate, callback_every=10, threads=1
    )


def weights(run: Path, name: str = "checkpoint") -> bytes:
    return (run / name / "model.safetensors").read_bytes()


def state(run: Path, name: str = "checkpoint") -> Json:
    found: Json = json.loads((run / name / "state.json").read_text())
    return found


def stopped_at(config: TrainConfig, step: int, number: int = signal.SIGTERM) -> None:
    """Train until a signal comes at a step."""

    def call(model: Model, done: int) -> Json:
        if done == step:
            os.kill(os.getpid(), number)
        return {}

    with pytest.raises(Terminated if number == signal.SIGTERM else KeyboardInterrupt):
        train(config, [call], resume_run=True)


KILLED = """
import sys
from pathlib import Path
from gpt2.model.config import GPT2Config
from gpt2.training.optimizer import OptimizerConfig
from gpt2.training.plan import TrainConfig
from gpt2.training.trainer import train
tokens, out = map(Path, sys.argv[1:])
train(TrainConfig(tokens, out, GPT2Config(2, 2, 32, 400, 32), steps=400, batch=4, ema=0.99, keep_every=100,
    optimizer=OptimizerConfig(learning_rate=1e-2), callback_every=50, save_every_seconds=0.0, threads=1),
    resume_run=True)
"""


def test_a_run_killed_again_and_again_ends_in_the_same_weights(config: TrainConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(config, steps=400, callback_every=50, ema=0.99, keep_every=100)
    whole = dataclasses.replace(config, out=tmp_path / "whole")
    train(whole)
    log = config.out / "metrics.jsonl"
    for at_least in (20, 150):
        with subprocess.Popen([sys.executable, "-c", KILLED, config.tokens, config.out]) as process:
            while not (log.exists() and len(log.read_bytes().splitlines()) >= at_least):
                assert process.poll() is None, "it ended before it was killed"
                time.sleep(0.005)
            os.kill(process.pid, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
    reached = len(log.read_bytes().splitlines())
    assert 150 <= reached < 400
    with log.open("a") as stream:
        stream.write('{"step": 9')  # a line cut short by the kill
    done = train(config, resume_run=True)
    for name in ("checkpoint", "checkpoint/average", *(f"kept/step-{n}" for n in (100, 200, 300, 400))):
        assert weights(config.out, name) == weights(whole.out, name), name
    assert [row["step"] for row in done.metrics] == list(range(1, 401)), "no step twice, none lost"
    other = [json.loads(line) for line in (whole.out / "metrics.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in done.metrics] == [row["loss"] for row in other]
    again = train(config, resume_run=True)
    assert again.metrics == done.metrics and again.model.card == load(config.out).card
    for p, q in zip(again.model.net.parameters(), done.model.net.parameters(), strict=True):
        assert torch.equal(p, q)
    assert sorted(p.name for p in config.out.iterdir() if not p.name.startswith(".")) == [
        "checkpoint",
        "kept",
        "metrics.jsonl",
        "previous",
        "train.json",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_with_a_checkpoint(config: TrainConfig, tmp_path: Path, number: int) -> None:
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    stopped_at(config, 10, number)
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before
    assert state(config.out)["step"] == 11, "the step at which it was noticed was finished"
    whole = dataclasses.replace(config, out=tmp_path / "whole")
    train(config, resume_run=True)
    train(whole)
    assert weights(config.out) == weights(whole.out)


def test_sigterm_ends_the_command_with_its_status(world: World, tmp_path: Path, run: Run) -> None:
    words = ("train", "--tokens", world.shards, "--out", tmp_path / "run", *OPTIONS, "--steps", "30000")
    job = spawn(*words, "--quiet")
    log = tmp_path / "run" / "metrics.jsonl"
    while not (log.exists() and log.stat().st_size):
        assert job.poll() is None
        time.sleep(0.02)
    job.send_signal(signal.SIGTERM)
    out, err = job.communicate()
    assert (job.returncode, out) == (143, b"")
    assert err == b"gpt2: stopped; the same command with --resume goes on from the last checkpoint\n"
    step = state(tmp_path / "run")["step"]
    assert step == len(log.read_text().splitlines()), "nothing that was logged is lost"


def test_a_damaged_checkpoint_is_replaced_by_the_one_before(config: TrainConfig, tmp_path: Path) -> None:
    stopped_at(config, 10)
    stopped_at(config, 20)
    assert (state(config.out)["step"], state(config.out, "previous")["step"]) == (21, 11)
    path = config.out / "checkpoint" / "optimizer.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    said = io.StringIO()
    train(config, resume_run=True, console=Console(stream=said))
    assert (
        f"{path} is damaged or missing; going on from {config.out / 'previous'}, step 11" in said.getvalue()
    )
    train(dataclasses.replace(config, out=tmp_path / "whole"))
    assert weights(config.out) == weights(tmp_path / "whole")
    assert (config.out / "damaged").exists()
    shutil.rmtree(config.out / "checkpoint")
    assert resume.recover(config.out, Console(quiet=True)), "killed between two renames, say"
    assert not (config.out / "previous").exists()


def test_a_damaged_checkpoint_alone_is_one_sentence(config: TrainConfig) -> None:
    config = dataclasses.replace(config, steps=2)
    train(config)
    folder = config.out / "checkpoint"
    path = folder / "optimizer.safetensors"
    whole, good = load_file(path), state(config.out)
    for words, tensors in (
        ("lacks tensor 'wte.weight/exp_avg'", {k: v for k, v in whole.items() if k != "wte.weight/exp_avg"}),
        ("has the unknown tensor 'x'", whole | {"x": torch.zeros(1)}),
        ("'wpe.weight/exp_avg_sq' has the shape [3]", whole | {"wpe.weight/exp_avg_sq": torch.zeros(3)}),
    ):
        save_file(tensors, path)
        with pytest.raises(FormatError, match=r"is damaged or missing; delete .*checkpoint to start anew"):
            train(config, resume_run=True)
        sums = good["files"] | {path.name: file_digest(path)}
        (folder / "state.json").write_text(json.dumps(good | {"files": sums}))
        with pytest.raises(FormatError) as caught:
            train(config, resume_run=True)
        assert words in str(caught.value)
    for text in ("[]", '{"step": "2"}', '{"step": 0}', "{}"):
        (folder / "state.json").write_text(text)
        with pytest.raises(FormatError, match="names no step"):
            train(config, resume_run=True)
    (folder / "state.json").write_text('{"step": 2}')
    with pytest.raises(FormatError, match="lacks checksums"):
        train(config, resume_run=True)
    for text in ("[]", "{}", '{"settings": 1}', "{"):
        (config.out / "train.json").write_text(text)
        with pytest.raises(FormatError):
            train(config, resume_run=True)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_checkpoint_that_cannot_be_written_stops_the_run(
    config: TrainConfig, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_at(config, 10)
    before = weights(config.out)

    def full(tensors: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(resume, "save_file", full)
    with pytest.raises(WorkbenchError) as caught:
        train(dataclasses.replace(config, save_every_seconds=0.0), resume_run=True)
    said = str(caught.value)
    assert "could not be written" in said and ("disk is full" in said or "permission denied" in said)
    assert "go on with --resume" in said
    assert weights(config.out) == before and state(config.out)["step"] == 11
    assert not list(config.out.glob(".checkpoint*")), "what was half written is gone"
    monkeypatch.undo()
    assert train(config, resume_run=True).steps == 30


def test_a_limit_of_the_system_on_files_stops_the_run(config: TrainConfig) -> None:
    stopped_at(config, 10)
    before, limits = weights(config.out), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    try:
        with pytest.raises(WorkbenchError, match=r"could not be written .* that of step 11 is whole"):
            train(config, resume_run=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert weights(config.out) == before


def test_a_folder_that_cannot_be_written_to_is_refused(config: TrainConfig) -> None:
    with pytest.raises(InputError, match="cannot work in /proc/run"):
        train(dataclasses.replace(config, out=Path("/proc/run")))


def test_damaged_and_lost_tokens_are_found_before_training(config: TrainConfig, tmp_path: Path) -> None:
    own = dataclasses.replace(config, tokens=shutil.copytree(config.tokens, tmp_path / "own"))
    stopped_at(own, 10)
    before = weights(own.out)
    file = own.tokens / "train" / "tokens-00000.bin"
    good = file.read_bytes()
    file.write_bytes(good[:-2] + b"\x01\x00")
    with pytest.raises(FormatError, match="its checksum is not the one in the index"):
        train(own, resume_run=True)
    file.unlink()
    with pytest.raises(FormatError, match=r"tokens-00000.bin cannot be read: No such file"):
        train(own, resume_run=True)
    assert weights(own.out) == before and state(own.out)["step"] == 11
    file.write_bytes(good)
    assert train(own, resume_run=True).steps == 30


def test_tokens_that_vanish_in_the_middle_leave_the_checkpoint(config: TrainConfig, tmp_path: Path) -> None:
    own = dataclasses.replace(config, tokens=shutil.copytree(config.tokens, tmp_path / "own"))

    def vanish(model: Model, step: int) -> Json:
        shutil.rmtree(own.tokens)
        return {}

    assert train(dataclasses.replace(own, callback_every=30), [vanish]).steps == 30
    with pytest.raises(InputError, match="is no finished shard folder"):
        train(dataclasses.replace(own, callback_every=30), resume_run=True)
    assert load(own.out)


def test_a_resume_that_cannot_be_exact_says_so(config: TrainConfig) -> None:
    stopped_at(config, 10)
    said = io.StringIO()
    train(config, resume_run=True, console=Console(stream=said))
    assert "bit for bit" not in said.getvalue(), "all is as it was"
    other = dataclasses.replace(config, out=config.out.with_name("other"))
    stopped_at(other, 10)
    train(
        dataclasses.replace(other, dtype="bfloat16", accumulate=2),
        resume_run=True,
        console=Console(stream=said),
    )
    line = next(line for line in said.getvalue().splitlines() if "bit for bit" in line)
    expected = "accumulate 2 in place of 1 the run will not be, bit for bit, the one that was never stopped"
    assert line.endswith(expected)
    made = state(other.out)["made_with"]
    assert made["threads"] == 1 and made["torch"] == torch.__version__ and made["device"] == "cpu"


def test_the_best_and_every_tenth_model_are_kept(config: TrainConfig) -> None:
    losses = {10: 3.0, 20: 2.0, 30: 2.5}

    def measure(model: Model, step: int) -> Json:
        return {"heldout_loss": losses[step]}

    config = dataclasses.replace(config, keep_best=True, keep_every=15)
    train(config, [measure])
    assert load(config.out / "best").card["steps"] == "20 of 30"
    assert load(config.out / "best").card["heldout_loss"] == 2.0
    assert sorted(path.name for path in (config.out / "kept").iterdir()) == ["step-15", "step-30"]
    assert weights(config.out, "kept/step-30") == weights(config.out) != weights(config.out, "best")
    assert not (config.out / "best" / "optimizer.safetensors").exists()
    assert state(config.out)["best"] == 2.0
    with pytest.raises(InputError, match="keep_best needs held-out documents"):
        train(dataclasses.replace(config, out=config.out.with_name("none")))


def test_the_average_is_the_sum_it_is_said_to_be() -> None:
    net = GPT2(dataclasses.replace(SHAPE, n_layer=1))
    average = Average(dict(net.named_parameters()), 0.75, ALONE)
    expected = {name: p.detach().double() for name, p in net.named_parameters()}
    for step in range(1, 60):
        with torch.no_grad():
            for p in net.parameters():
                p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(step)))
        average.update(step)
        decay = min(0.75, step / (step + 9))
        for name, p in net.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * p.detach().double()
    for name, value in average.weights.items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-4, atol=1e-4)


def test_random_callbacks_go_on_where_they_were(config: TrainConfig, tmp_path: Path) -> None:
    def draw(model: Model, step: int) -> Json:
        return {"drawn": float(torch.rand(()))}

    def rows(run: Path) -> list[Json]:
        return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]

    whole = dataclasses.replace(config, out=tmp_path / "whole")
    torch.manual_seed(1)
    train(whole, [draw])
    torch.manual_seed(1)

    def stop(model: Model, step: int) -> Json:
        os.kill(os.getpid(), signal.SIGTERM)
        return draw(model, step)

    with pytest.raises(Terminated):
        train(config, [stop])
    torch.manual_seed(7)
    train(config, [draw], resume_run=True)
    assert [r.get("drawn") for r in rows(config.out)] == [r.get("drawn") for r in rows(whole.out)]
