"""How much memory, time and disk a training will take, before it begins.

    gpt2 forecast --size 124M --tokens 10B

Memory comes from two sources. A dry run takes a step on tensors that have shapes but no contents (torch's fake
tensors) and adds up what is alive at once, for a few sequences; from there it is a straight line.
That needs no memory, so it says whether a run fits before anything is tried. If it does, a trial takes a few
real steps of the real shape in a process of its own, and what that process holds at most is the truth, with
what an allocator keeps and libraries take. A checkpoint's copy comes on top of both. The dry run takes attention as a
processor does; on CUDA, whose attention keeps less, it says a little too much.

Time is that of the trial's steps, of parts of a batch as they will be, times their number; with the looks at
held-out text, at a third of the cost of learning from as much. Rejected: operations divided by the rate of a
data sheet, which is off by a factor of two on processors.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gpt2.errors import ConfigError, WorkbenchError
from gpt2.model.config import GPT2Config
from gpt2.model.device import Compute
from gpt2.model.transformer import GPT2
from gpt2.training.loss import slice_rows
from gpt2.training.optimizer import OptimizerConfig, fresh, make_optimizer
from gpt2.training.parallel import wait_for
from gpt2.training.speed import make_learner, operations
from gpt2.training.step import NextTokenLoss, recomputed

STEPS, LONGEST = 3, 20.0
"""Steps of a trial that are timed, after one that is not; fewer when they take so many seconds."""
LOOKED_AT = 64 * 256
"""Tokens of a look at held-out text, as `gpt2 train` takes it."""
LIBRARIES = 380_000_000
"""Bytes that a process holds with torch, Arrow and a vocabulary, before there is a network."""


@dataclass(frozen=True)
class Asked:
    """A training to be forecast."""

    model: GPT2Config
    optimizer: OptimizerConfig
    tokens: int
    """Tokens to train on."""
    batch: int
    """Sequences in a step."""
    accumulate: int = 1
    """Parts in which they are taken."""
    recompute: bool = False
    """Whether activations are computed again."""
    ema: bool = False
    """Whether an average of the weights is kept."""
    callback_every: int = 100
    """Steps between two looks at held-out text."""

    @property
    def steps(self) -> int:
        """Steps it makes."""
        return -(-self.tokens // (self.batch * self.model.n_ctx))


@dataclass(frozen=True)
class Forecast:
    """What a training will take."""

    parameters: int
    steps: int
    memory: dict[str, int]
    """Bytes by part, at the moment when they are most."""
    available: int
    """Bytes of memory that this machine has left."""
    operations: float
    """Floating-point operations in all."""
    disk: int
    """Bytes of the run's folder at its largest, and of tokens if none is seen twice."""
    seconds_per_step: float | None = None
    """None when it does not fit, and nothing was tried."""
    seconds: float | None = None
    """Of all steps and looks at held-out text."""
    tokens_per_second: float | None = None
    fitting: int | None = None
    """Parts of a batch with which it would fit, when it does not."""

    @property
    def total(self) -> int:
        """Bytes of memory in all."""
        return sum(self.memory.values())

    @property
    def fits(self) -> bool:
        """Whether memory suffices."""
        return self.total < self.available

    def json(self) -> dict[str, Any]:
        """As it stands in a JSON file."""
        return asdict(self) | {"total_memory": self.total, "fits": self.fits}


def forecast(asked: Asked, compute: Compute) -> Forecast:
    """Say what a training will take on this machine; a trial of some seconds is a part of it, if it fits.

    Raises `ConfigError` for a batch that cannot be cut into so many equal parts.
    """
    if asked.batch % asked.accumulate:
        raise ConfigError(
            f"a batch of {asked.batch} sequences cannot be cut into {asked.accumulate} equal parts; "
            "take a number of parts that divides it"
        )
    parts = memory_of(asked, compute)
    copies = 4 if asked.ema else 3  # weights and two moments, half of one less with Muon
    found = Forecast(
        parameters=asked.model.num_parameters(),
        steps=asked.steps,
        memory=parts,
        available=available(compute.device),
        operations=float(asked.steps * asked.batch * asked.model.n_ctx) * operations(asked.model),
        disk=2 * copies * parts["weights"] + 2 * asked.tokens,
    )
    if not found.fits:
        return replace(found, fitting=fitting(asked, compute, found.available))
    tried = trial(asked, compute)
    held = found.total - parts["checkpoint copy"]
    parts = parts | {"kept by the allocator": max(0, tried["peak"] - held)}
    per_step = tried["gradients"] * asked.accumulate / tried["parts"] + tried["update"]
    per_token = per_step / (asked.batch * asked.model.n_ctx)
    looks = asked.steps // asked.callback_every + 1
    return replace(
        found,
        memory=parts,
        seconds_per_step=per_step,
        tokens_per_second=1 / per_token,
        seconds=asked.steps * per_step + looks * LOOKED_AT * per_token / 3,
    )


# Memory, by a dry run


def memory_of(asked: Asked, compute: Compute) -> dict[str, int]:
    """Bytes by part, at the moment of a step when they are most; of device memory, for another device than cpu."""
    weights = 4 * asked.model.num_parameters()
    with torch.device("meta"):
        net = GPT2(asked.model)
    optimizer = make_optimizer(net, asked.optimizer)
    state = sum(t.numel() * 4 for p in net.parameters() for t in fresh(optimizer, p).values())
    step = at_once(asked, replace(compute, device="cpu"))
    gradients = weights if asked.accumulate > 1 else min(weights, step["peak"] - step["forward"])
    copy = weights + state + (weights if asked.ema else 0) if compute.device == "cpu" else 0
    return {
        "weights": weights * (2 if asked.ema else 1),
        "optimizer": state,
        "gradients": gradients,
        "activations": step["hidden"],
        "logits and loss": max(0, step["peak"] - step["hidden"] - min(gradients, step["peak"])),
        "checkpoint copy": copy,
        "libraries": LIBRARIES,
    }


def at_once(asked: Asked, compute: Compute) -> dict[str, int]:
    """What `lively` says of a part of a batch; beyond a few sequences, by a straight line."""
    n, slice_of = asked.batch // asked.accumulate, slice_rows(asked.model.vocab_size, asked.model.n_embd)
    few = max(2, 1 + 2 * slice_of // asked.model.n_ctx)  # as many as fill two slices of the loss
    if n <= few + 1:
        return lively(asked.model, asked.recompute, compute, n)
    one, more = (lively(asked.model, asked.recompute, compute, i) for i in (few, few + 1))
    return {name: one[name] + (n - few) * (more[name] - one[name]) for name in one}


@lru_cache(maxsize=8)
def lively(model: GPT2Config, recompute: bool, compute: Compute, sequences: int) -> dict[str, int]:
    """Bytes beside the weights: of activations, after the forward pass with the loss, and at the peak."""
    with FakeTensorMode():
        net = GPT2(model)
        loss = NextTokenLoss(recomputed(net) if recompute else net, compute)
        ids = torch.zeros(sequences, model.n_ctx + 1, dtype=torch.int64)
        with Alive() as alive:
            with compute.autocast(ids):
                hidden = net.hidden(ids[:, :-1])
            activations = alive.now
            del hidden
            alive.peak = alive.now
            lost = loss(ids)
            forward = alive.now
            lost.backward()
    return {"hidden": activations, "forward": forward, "peak": alive.peak}


class Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts bytes of the tensors that are alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {
            tensor.untyped_storage()._cdata
            for tensor in tree_leaves((args, kwargs))
            if isinstance(tensor, Tensor)
        }
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in self._known and key not in before:
                    self._known.add(key)
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._gone, key, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return out

    def _gone(self, key: int, n_bytes: int) -> None:
        self._known.discard(key)
        self.now -= n_bytes


def fitting(asked: Asked, compute: Compute, room: int) -> int | None:
    """The fewest parts of a batch with which it fits into `room` bytes; None when not even one by one."""
    for parts in range(asked.accumulate + 1, asked.batch + 1):
        part = replace(asked, accumulate=parts)
        if asked.batch % parts == 0 and sum(memory_of(part, compute).values()) < room:
            return parts
    return None


def available(device: str) -> int:
    """Bytes of memory that are left: of the device, or of this machine within its control group."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    memory = Path("/proc/meminfo")
    if memory.exists():
        fields = dict(line.split(":") for line in memory.read_text().splitlines())
        left = int(fields["MemAvailable"].split()[0]) * 1024
    else:
        left = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and limit.read_text().strip().isdigit():
        left = min(left, int(limit.read_text()) - int(used.read_text()))
    return left


# Time, by a trial


def trial(asked: Asked, compute: Compute) -> dict[str, Any]:
    """A few steps in a process of their own: seconds of gradients and of the update, parts taken, peak bytes."""
    job = {
        "model": asdict(asked.model),
        "optimizer": asdict(asked.optimizer),
        "sequences": asked.batch // asked.accumulate,
        "parts": min(2, asked.accumulate),
        "recompute": asked.recompute,
        "ema": asked.ema,
        "compute": asdict(compute),
    }
    words = [sys.executable, "-c", "from gpt2.training.forecast import work; work()"]
    done = subprocess.run(words, input=json.dumps(job), capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it was killed, likely for want of memory"])[-1]
        raise WorkbenchError(f"the trial did not end well: {last}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def work() -> None:
    """What the process of a trial does: a job on standard input, what it measured on standard output."""
    import pyarrow.parquet  # noqa: F401, a training holds it too

    from gpt2.tokens.bpe import Tokenizer
    from gpt2.training.average import Average
    from gpt2.training.parallel import ALONE

    job = json.load(sys.stdin)
    model, compute = GPT2Config(**job["model"]), Compute(**job["compute"])
    torch.set_num_threads(compute.threads)
    vocabulary = Tokenizer.gpt2()
    net = GPT2(model).to(compute.device)
    optimizer = OptimizerConfig(**job["optimizer"])
    learner = make_learner(net, optimizer, compute, ALONE, job["parts"], job["recompute"])
    average = Average(dict(net.named_parameters()), 0.999, ALONE) if job["ema"] else None
    shape = (job["sequences"] * job["parts"], model.n_ctx + 1)
    times = []
    for step in range(STEPS + 1):
        ids = torch.randint(0, model.vocab_size, shape, generator=torch.Generator().manual_seed(step))
        begun = time.perf_counter()
        learner.gradients(ids)
        wait_for(compute.device)
        half = time.perf_counter()
        learner.update(0.0)
        wait_for(compute.device)
        times.append((half - begun, time.perf_counter() - half))
        if step and sum(map(sum, times)) > LONGEST:
            break
    gradients, update = (statistics.median(column) for column in zip(*times[1:], strict=True))
    found = {"gradients": gradients, "update": update, "parts": job["parts"], "peak": peak(compute.device)}
    del vocabulary, average
    sys.stdout.write(json.dumps(found) + "\n")


def peak(device: str) -> int:
    """The most bytes that this process has held: of the device, or resident.

    Linux's `ru_maxrss` would not do: a process begins with what the one that started it has held.
    """
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def lines(found: Forecast, rows: Sequence[str] = ()) -> list[str]:
    """The forecast in words."""
    from gpt2.console import count, duration

    said = [f"{count(found.parameters)} parameters, {found.steps:,} steps, {found.operations:.2e} operations"]
    said += list(rows)
    said += [f"  {name:22} {size / 1e9:7.2f} GB" for name, size in found.memory.items() if size]
    fits = "fits" if found.fits else "DOES NOT FIT"
    said.append(f"memory {found.total / 1e9:.2f} GB of {found.available / 1e9:.2f} GB that are left: {fits}")
    if found.seconds is not None and found.tokens_per_second and found.seconds_per_step:
        said.append(
            f"time {duration(found.seconds)}: {found.seconds_per_step:.3g} s a step, "
            f"{found.tokens_per_second:,.0f} tokens/s"
        )
    elif found.fitting:
        said.append(f"it fits with --accumulate {found.fitting}, which leaves the step as it is")
    else:
        said.append(
            "not even one sequence at a time fits; take --recompute, a shorter context or a smaller size"
        )
    said.append(f"disk {found.disk / 1e9:.2f} GB with the tokens, if none is seen twice")
    return said
