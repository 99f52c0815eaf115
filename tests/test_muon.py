"""Muon: orthogonal updates of the hidden matrices, resumed to the bit, the same in parts and processes."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ports import free_port
from safetensors.torch import load_file

from gpt2.model.checkpoint import Model
from gpt2.model.config import GPT2Config
from gpt2.model.device import PLAIN
from gpt2.model.transformer import GPT2
from gpt2.training.muon import Muon, by_svd, newton_schulz
from gpt2.training.optimizer import OptimizerConfig, make_optimizer
from gpt2.training.plan import TrainConfig
from gpt2.training.step import train_step
from gpt2.training.stopping import Terminated
from gpt2.training.trainer import train
from gpt2.workspace import Json

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = GPT2Config(n_layer=2, n_head=2, n_embd=32, vocab_size=400, n_ctx=32)
MUON = OptimizerConfig(learning_rate=1e-2, schedule="linear", final=0.0, matrices="muon")
WORKER = """
import sys
from pathlib import Path
from gpt2.model.config import GPT2Config
from gpt2.training.optimizer import OptimizerConfig
from gpt2.training.plan import TrainConfig
from gpt2.training.trainer import train
tokens, out, way = sys.argv[1:]
rate = OptimizerConfig(learning_rate=1e-2, schedule="linear", final=0.0, matrices="muon")
train(TrainConfig(Path(tokens), Path(out), GPT2Config(2, 2, 32, 400, 32), steps=20, batch=4, optimizer=rate,
    dtype="float32", threads=1, parallel=way))
"""


@pytest.fixture
def config(tokens: Path, tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        tokens, tmp_path / "run", SHAPE, steps=20, batch=4, optimizer=MUON, dtype="float32", threads=1
    )


@pytest.mark.parametrize("shape", [(64, 128), (128, 64), (3, 40, 80), (2, 5, 96, 32)])
def test_newton_schulz_makes_the_singular_values_near_1_and_keeps_the_directions(
    shape: tuple[int, ...],
) -> None:
    g = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 17
    for dtype in (torch.float32, torch.bfloat16):
        near = newton_schulz(g, dtype)
        values = torch.linalg.svdvals(near)
        assert values.min() > 0.65 and values.max() < 1.2
        # In the base of the singular vectors it is a diagonal matrix: the directions are the SVD's own.
        u, _, vt = torch.linalg.svd(g, full_matrices=False)
        base = u.mT @ near @ vt.mT
        beside = base - torch.diag_embed(base.diagonal(dim1=-2, dim2=-1))
        assert beside.abs().max() < (1e-4 if dtype == torch.float32 else 0.06)
    exact = by_svd(g)
    torch.testing.assert_close(torch.linalg.svdvals(exact), torch.ones(*shape[:-2], min(shape[-2:])))
    assert (newton_schulz(g) - exact).norm() / exact.norm() < 0.3


def test_small_directions_are_learned_from_as_much_as_large_ones() -> None:
    u, v = (
        torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(i)))[0] for i in (0, 1)
    )
    g = u @ torch.diag(torch.logspace(0, -2, 64)) @ v.mT
    values = torch.linalg.svdvals(newton_schulz(g))
    assert values.min() > 0.3, "a hundredth of the largest before"


def test_a_step_is_muon_as_published_on_matrices_and_adamw_on_the_rest() -> None:
    net, twin, adam_net = GPT2(SHAPE, seed=1), GPT2(SHAPE, seed=1), GPT2(SHAPE, seed=1)
    muon = make_optimizer(net, MUON)
    adam = make_optimizer(adam_net, dataclasses.replace(MUON, matrices="adamw"))
    assert isinstance(muon, Muon) and not isinstance(adam, Muon)
    ids = torch.randint(0, 400, (3, 17), generator=torch.Generator().manual_seed(0))
    hidden = [n for n, p in net.named_parameters() if p.dim() == 2 and not n.startswith("w")]
    assert len(hidden) == 8
    momentum = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    for rate in (0.01, 0.02, 0.015):
        logits = net(ids[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        gradients = dict(
            zip(momentum, torch.autograd.grad(loss, list(net.parameters())), strict=True)
        )  # all below the clip
        twin.load_state_dict(net.state_dict())
        adam_net.load_state_dict(net.state_dict())
        train_step(net, muon, ids, rate, 1e9, PLAIN)
        train_step(adam_net, adam, ids, rate, 1e9, PLAIN)
        for name, p in twin.named_parameters():
            if name not in hidden:
                torch.testing.assert_close(
                    dict(net.named_parameters())[name], dict(adam_net.named_parameters())[name], msg=name
                )
                continue
            m, g = momentum[name], gradients[name]
            m.mul_(0.95).add_(0.05 * g)
            update = 0.05 * g + 0.95 * m
            # Queries, keys and values apart.
            parts = update.chunk(3) if name.endswith("c_attn.weight") else [update]
            scale = 0.2 * max(parts[0].shape) ** 0.5
            update = torch.cat([newton_schulz(part) for part in parts]) * scale
            expected = p * (1 - rate * 0.1) - rate * update
            torch.testing.assert_close(
                dict(net.named_parameters())[name], expected, atol=1e-5, rtol=1e-4, msg=name
            )
            assert update.square().mean().sqrt() == pytest.approx(0.2, rel=0.3), "as large as AdamW's"


def test_it_keeps_half_of_adamws_state_for_matrices() -> None:
    net = GPT2(SHAPE)
    optimizer = make_optimizer(net, MUON)
    ids = torch.randint(0, 400, (2, 9), generator=torch.Generator().manual_seed(0))
    train_step(net, optimizer, ids, 0.01, 1.0, PLAIN)
    for name, p in net.named_parameters():
        keys = (
            {"momentum"} if p.dim() == 2 and not name.startswith("w") else {"step", "exp_avg", "exp_avg_sq"}
        )
        assert set(optimizer.state[p]) == keys, name


def test_a_stopped_run_ends_in_the_weights_of_the_undisturbed_one(
    config: TrainConfig, tmp_path: Path
) -> None:
    config = dataclasses.replace(config, callback_every=7, accumulate=2)
    train(config)

    def stop(model: Model, step: int) -> Json:
        if step == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return {}

    stopped = dataclasses.replace(config, out=tmp_path / "stopped")
    with pytest.raises(Terminated):
        train(stopped, [stop])
    saved = load_file(stopped.out / "checkpoint" / "optimizer.safetensors")
    assert "h.0.attn.c_attn.weight/momentum" in saved and "wte.weight/exp_avg" in saved
    train(stopped, resume_run=True)
    for name in ("model", "optimizer"):
        files = [run / "checkpoint" / f"{name}.safetensors" for run in (config.out, stopped.out)]
        assert files[0].read_bytes() == files[1].read_bytes(), name


def test_parts_of_a_batch_and_parts_of_a_matrix_on_two_processes_change_nothing(
    config: TrainConfig, tmp_path: Path
) -> None:
    expected = [row["loss"] for row in train(config).metrics]
    assert expected[-1] < expected[0] - 0.5
    parts = train(dataclasses.replace(config, out=tmp_path / "parts", accumulate=4)).metrics
    assert [row["loss"] for row in parts] == pytest.approx(expected, abs=1e-3)
    shared = {"GLOO_SOCKET_IFNAME": "lo", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    shared |= {"OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    words = [sys.executable, "-c", WORKER, str(config.tokens), str(tmp_path / "two"), "fsdp"]
    jobs = [
        subprocess.Popen(words, env=os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank}) for rank in "01"
    ]
    assert [job.wait(timeout=120) for job in jobs] == [0, 0]
    rows = (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["loss"] for row in rows] == pytest.approx(expected, abs=1e-3)
