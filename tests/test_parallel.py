"""Several processes train the model that one process trains."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from command_line import Run
from ports import free_port

from gpt2.errors import ConfigError
from gpt2.model.checkpoint import load
from gpt2.model.config import GPT2Config
from gpt2.model.device import PLAIN
from gpt2.model.transformer import GPT2
from gpt2.training.optimizer import OptimizerConfig
from gpt2.training.parallel import Crew, join
from gpt2.training.plan import TrainConfig
from gpt2.training.speed import make_learner
from gpt2.training.trainer import train

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = GPT2Config(n_layer=2, n_head=2, n_embd=32, vocab_size=400, n_ctx=32)
WORKER = """
import json, os, signal, sys
from pathlib import Path
from gpt2.model.config import GPT2Config
from gpt2.training.optimizer import OptimizerConfig
from gpt2.training.plan import TrainConfig
from gpt2.training.trainer import train
tokens, out, way, stop = sys.argv[1:]
def call(model, step):
    if stop == "stop" and step == 20:
        os.kill(os.getpid(), signal.SIGTERM)
    return {"heldout_loss": 1.0, "seen": model.net.num_parameters()}
config = TrainConfig(Path(tokens), Path(out), GPT2Config(2, 2, 32, 400, 32), steps=50, batch=8, ema=0.9,
    optimizer=OptimizerConfig(learning_rate=1e-2), callback_every=20, save_every_seconds=0.2, dtype="float32",
    threads=1, parallel=way)
try:
    train(config, [call], resume_run=True)
except KeyboardInterrupt as error:
    sys.exit(error.status)
"""


def settings(tokens: Path, out: Path) -> TrainConfig:
    """What `WORKER` trains."""
    rate = OptimizerConfig(learning_rate=1e-2)
    base = TrainConfig(tokens, out, SHAPE, steps=50, batch=8, optimizer=rate, callback_every=20, ema=0.9)
    return dataclasses.replace(base, dtype="float32", threads=1)


@pytest.fixture(scope="module")
def alone(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process in two parts a step."""
    config = settings(tokens, tmp_path_factory.mktemp("alone") / "run")
    train(dataclasses.replace(config, accumulate=2))
    return config.out


def environment() -> dict[str, str]:
    """Loopback alone, and a port that is free."""
    own = {"GLOO_SOCKET_IFNAME": "lo", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    return os.environ | own | {"OMP_NUM_THREADS": "1"}


def crew(size: int, *words: object) -> list[int]:
    """Exit statuses of `size` processes of `WORKER`, started as torchrun starts them."""
    shared = environment() | {"WORLD_SIZE": str(size)}
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, *map(str, words)],
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(size)
    ]
    try:
        return [job.wait(timeout=200) for job in jobs]
    finally:
        for job in jobs:
            job.kill()


def losses(run: Path) -> list[float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 51))
    return [row["loss"] for row in rows]


def same(a: Sequence[float], b: Sequence[float]) -> None:
    assert max(abs(x - y) for x, y in zip(a, b, strict=True)) < 1e-4


def test_torchrun_trains_by_ddp_what_one_process_does_in_two_parts(
    tokens: Path, alone: Path, tmp_path: Path
) -> None:
    words = f"--tokens {tokens} --out {tmp_path / 'run'} --layers 2 --heads 2 --channels 32 --context 32"
    words += " --steps 50 --batch 8 --learning-rate 0.01 --callback-every 20 --dtype float32 --ema 0.9"
    env = environment()
    torchrun = f"torch.distributed.run --nproc-per-node 2 --master-port {env['MASTER_PORT']} -m gpt2 train"
    done = subprocess.run(
        [sys.executable, "-m", *torchrun.split(), *words.split(), "--quiet", "--json"],
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 50, "one of the processes tells, once"
    same(losses(tmp_path / "run"), losses(alone))
    for where in (".", "average"):
        ours, theirs = (load(run / "checkpoint" / where).net for run in (tmp_path / "run", alone))
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(p, q, atol=2e-3, rtol=0)


def test_fsdp_trains_what_one_process_does(tokens: Path, alone: Path, tmp_path: Path) -> None:
    assert crew(2, tokens, tmp_path / "run", "fsdp", "go") == [0, 0]
    same(losses(tmp_path / "run"), losses(alone))
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[19]["seen"] == GPT2(SHAPE).num_parameters(), "callbacks see a whole network"


def test_two_processes_stop_and_one_or_four_go_on(tokens: Path, alone: Path, tmp_path: Path) -> None:
    two = tmp_path / "two"
    assert crew(2, tokens, two, "fsdp", "stop") == [143, 143], "SIGTERM came to one and both left"
    state = json.loads((two / "checkpoint" / "state.json").read_text())
    assert state["step"] == 21 and state["made_with"]["processes"] == 2
    four = shutil.copytree(two, tmp_path / "four")
    assert crew(4, tokens, four, "fsdp", "go") == [0] * 4
    same(losses(four), losses(alone))
    for name, average in load(four / "checkpoint" / "average").net.state_dict().items():
        expected = load(alone / "checkpoint" / "average").net.state_dict()[name]
        torch.testing.assert_close(average, expected, atol=2e-3, rtol=0, msg=name)
    train(settings(tokens, two), resume_run=True)
    same(losses(two), losses(alone))


def test_what_cannot_be_shared_is_refused(tokens: Path, tmp_path: Path, run: Run) -> None:
    with pytest.raises(ConfigError, match="ddp needs several processes: start them with  torchrun"):
        train(dataclasses.replace(settings(tokens, tmp_path / "run"), parallel="ddp"))
    said = run("train", "--tokens", tokens, "--out", tmp_path / "run", "--steps", "2", "--parallel", "fsdp")
    assert said.refused("fsdp needs several processes")
    with pytest.raises(
        ConfigError, match=r"batch of 8 .* one process in 3 parts each; take a batch of 6 or 9"
    ):
        train(dataclasses.replace(settings(tokens, tmp_path / "run"), accumulate=3))
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="4 processes in 2 parts each; take a batch of 8 or 8"):
        Crew(0, 4, "ddp").check(6, 2)


def test_torchrun_with_one_process_is_plain_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with join("fsdp", "cpu") as crew:
        assert crew == Crew(device="cpu")


def test_the_parts_of_all_processes_are_the_batch() -> None:
    ids = torch.arange(12)[:, None] * torch.ones(1, 5, dtype=torch.int64)
    rows = [part for rank in range(3) for part in Crew(rank, 3, "ddp").share(ids, 2)]
    assert [len(part) for part in rows] == [2] * 6
    assert torch.equal(torch.cat(rows), ids)


def test_recomputing_gives_the_same_gradients_to_the_bit() -> None:
    ids = torch.randint(0, 400, (4, 33), generator=torch.Generator().manual_seed(0))
    found = []
    for recompute in (False, True):
        net = GPT2(SHAPE)
        learner = make_learner(net, OptimizerConfig(), PLAIN, recompute=recompute)
        losses = [learner.gradients(ids)]
        found.append((losses, {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}))
        assert sorted(net.state_dict()) == sorted(GPT2(SHAPE).state_dict()), "names stay as they are"
    assert found[0][0] == found[1][0]
    for name, gradient in found[0][1].items():
        assert torch.equal(gradient, found[1][1][name]), name


def test_recomputing_keeps_less() -> None:
    kept = []
    ids = torch.randint(0, 400, (4, 33), generator=torch.Generator().manual_seed(0))
    for recompute in (False, True):
        learner = make_learner(GPT2(SHAPE), OptimizerConfig(), PLAIN, recompute=recompute)
        sizes: list[int] = []

        def keep(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            learner.loss(ids)
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 2
