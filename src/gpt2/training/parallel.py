"""Several processes that train one model: DDP and FSDP2 under torchrun, and all that depends on the device.

    torchrun --nproc-per-node 8 -m gpt2 train --tokens TOKENS --out RUN --size 1558M --parallel fsdp

A step's batch is the run's, not the process's: each process learns from its share of the rows, in
`accumulate` parts one after another, and gradients are averaged. So the learning rate, the tokens of a step
and what the model becomes (to rounding) do not depend on how many processes there are. With `ddp` each holds
the whole state and shares gradients; with `fsdp` each holds its part of weights, gradients and optimizer, a
block's weights being put together when the block computes. Gloo connects processes on a processor, NCCL on
CUDA. Between machines a folder that all of them see is needed.

Process 0 alone looks at the run folder, evaluates, logs and prints; `Crew.told` tells the others what it
found, as numbers. Rejected: objects sent between processes as torch does it, by pickling.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gpt2.errors import ConfigError
from gpt2.model.transformer import GPT2

Way = Literal["ddp", "fsdp"]
PATIENCE = timedelta(hours=1)
"""How long processes wait for each other, such as for process 0 to evaluate."""


@dataclass(frozen=True)
class Crew:
    """The processes of one training, as one of them sees them."""

    rank: int = 0
    """Which process this is."""
    size: int = 1
    """Processes in all."""
    way: Way | None = None
    """How they share the model; None for a process alone."""
    device: str = "cpu"
    """Where they compute."""

    @property
    def first(self) -> bool:
        """Whether this is the process that logs and saves."""
        return self.rank == 0

    def check(self, batch: int, accumulate: int) -> None:
        """`ConfigError` unless a batch can be cut into equal parts."""
        parts = self.size * accumulate
        if batch % parts:
            shared = f"{self.size} processes" if self.size > 1 else "one process"
            raise ConfigError(
                f"a batch of {batch} sequences cannot be shared evenly by {shared} in {accumulate} parts each; "
                f"take a batch of {max(1, batch // parts) * parts} or {(batch // parts + 1) * parts}"
            )

    def share(self, ids: Tensor, accumulate: int) -> list[Tensor]:
        """This process's rows of a step's ids [B, T + 1], in parts of [B / (size accumulate), T + 1]."""
        if self.size * accumulate == 1:
            return [ids]
        return list(ids.view(self.size, accumulate, -1, ids.shape[1])[self.rank])

    def wrap(self, loss: nn.Module, net: GPT2) -> nn.Module:
        """The module whose forward is the loss, made to learn together with the other processes'."""
        if self.way == "ddp":
            from torch.nn.parallel import DistributedDataParallel

            own = [torch.cuda.current_device()] if self.device == "cuda" else None
            return DistributedDataParallel(loss, device_ids=own, gradient_as_bucket_view=True)
        if self.way == "fsdp":
            from torch.distributed.device_mesh import init_device_mesh
            from torch.distributed.fsdp import fully_shard

            mesh = init_device_mesh(self.device, (self.size,))
            for block in net.h:
                fully_shard(block, mesh=mesh)
            fully_shard(loss, mesh=mesh)
        return loss

    @contextlib.contextmanager
    def part(self, loss: nn.Module, last: bool) -> Iterator[None]:
        """Forward and backward of one part of a step: gradients are exchanged in the last one only."""
        if self.way == "ddp" and not last:
            with loss.no_sync():  # type: ignore[operator]
                yield
            return
        if self.way == "fsdp":
            loss.set_requires_gradient_sync(last)  # type: ignore[operator]
        yield

    def mean(self, *values: float) -> list[float]:
        """The means over all processes, the same on each."""
        if self.size == 1:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(numbers)
        return [float(x) for x in numbers / self.size]

    def told(self, find: Callable[[], float]) -> float:
        """What process 0 finds, told to all; where it fails, the others end without a word."""
        if self.size == 1:
            return find()
        answer = torch.zeros(2, dtype=torch.float64, device=self.device)
        try:
            if self.first:
                answer[1] = find()
        except BaseException:
            answer[0] = 1
            raise
        finally:
            dist.broadcast(answer, 0)
        if answer[0]:
            raise SystemExit(2)
        return float(answer[1])

    def whole(self, tensor: Tensor) -> Tensor:
        """A tensor with the parts that the other processes hold; all of them must ask for it at once."""
        if self.way != "fsdp":
            return tensor
        from torch.distributed.tensor import DTensor

        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor

    def own(self, tensor: Tensor) -> Tensor:
        """The part of a tensor that this process holds, sharing its memory."""
        if self.way != "fsdp":
            return tensor
        from torch.distributed.tensor import DTensor

        return tensor.to_local() if isinstance(tensor, DTensor) else tensor

    @torch.no_grad()
    def put(self, tensor: Tensor, values: Tensor) -> None:
        """Set a tensor to whole `values`; each process takes its own part and nothing is sent."""
        if self.way == "fsdp":
            from torch.distributed.tensor import DTensor, distribute_tensor

            if isinstance(tensor, DTensor):
                values = values.to(tensor.device)
                parts = distribute_tensor(values, tensor.device_mesh, tensor.placements, src_data_rank=None)
                tensor.to_local().copy_(parts.to_local())
                return
        tensor.copy_(values)

    @torch.no_grad()
    def whole_net(self, net: GPT2, keep: bool) -> GPT2:
        """A network with all weights in one place: the one that learns, or with `fsdp` a copy if `keep`."""
        if self.way != "fsdp":
            return net
        with torch.device("meta"):
            copy = GPT2(net.config)
        if keep:
            copy.to_empty(device=self.device)
        for ours, p in zip(copy.parameters(), net.parameters(), strict=True):
            values = self.whole(p.detach())
            if keep:
                ours.copy_(values)
        return copy


ALONE = Crew()
"""One process."""


@contextlib.contextmanager
def join(way: Way | None, device: str) -> Iterator[Crew]:
    """Meet the other processes that torchrun started, or work alone without torchrun.

    Raises `ConfigError` when a way to share is given and there is nobody to share with.
    """
    size = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 0
    if way is not None and not size:
        raise ConfigError(
            f"{way} needs several processes: start them with  torchrun --nproc-per-node N -m gpt2 train ..."
        )
    if size <= 1:
        yield Crew(device=device)
        return
    if device == "mps":
        raise ConfigError("several processes cannot share the device mps; take --device cpu")
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
    crew = Crew(dist.get_rank(), size, way or "ddp", device)
    try:
        yield crew
    except KeyboardInterrupt as error:  # the first process says so
        if crew.first:
            raise
        raise SystemExit(getattr(error, "status", 130)) from None
    except RuntimeError as error:
        if crew.first or not lost(error):
            raise
        raise SystemExit(1) from None
    finally:
        dist.destroy_process_group()


def lost(error: RuntimeError) -> bool:
    """Whether an error is that another process is gone, which has said why."""
    return isinstance(error, dist.DistError) or "closed by peer" in str(error) or "gloo" in str(error)


def processor(device: str) -> str:
    """What computes, as far as its rounding depends on it."""
    if device == "cuda":
        return str(torch.cuda.get_device_name())
    return str(torch.backends.cpu.get_cpu_capability()) if device == "cpu" else device


def wait_for(device: str) -> None:
    """Wait until the device has done what it was asked, so that a clock can be read."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def products(device: str) -> int:
    """Rows and columns of square matrices whose product keeps the device busy."""
    return 4096 if device == "cuda" else 1024


def generators(device: str) -> dict[str, Tensor]:
    """The states of torch's random generators."""
    states = {"cpu": torch.get_rng_state()}
    if device == "cuda":
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_generators(states: dict[str, Tensor], device: str) -> None:
    """Put back what `generators` gave."""
    if "cpu" in states:
        torch.set_rng_state(states["cpu"])
    if device == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])
