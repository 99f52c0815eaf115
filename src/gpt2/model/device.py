"""Where a model computes: device, number format and threads, chosen once.

`auto` takes CUDA, then Apple's MPS, then the processor; and bfloat16 only where the hardware multiplies it
(on a processor without such instructions it is emulated, and slower than float32). Weights
stay in float32; a lower format applies to the matrix products alone, through torch's autocast.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from gpt2.errors import ConfigError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Compute:
    """A resolved choice: a torch device, the format of matrix products, processor threads."""

    device: str
    dtype: str
    threads: int

    def autocast(self, tensor: torch.Tensor) -> AbstractContextManager[object]:
        """Matrix products in `dtype` inside this context, on the device where `tensor` is."""
        if self.dtype == "float32":
            return nullcontext()
        return torch.autocast(tensor.device.type, DTYPES[self.dtype])


PLAIN = Compute("cpu", "float32", 0)
"""What functions that take a `Compute` do without one: float32, wherever the network is."""


def choose(device: str = "auto", dtype: str = "auto", threads: int | None = None) -> Compute:
    """Resolve `auto`, set torch's threads, and refuse what this machine does not have."""
    found = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if found[name])
    if device not in found:
        raise ConfigError(f"unknown device {device!r}; choose auto, cpu, cuda or mps")
    if not found[device]:
        raise ConfigError(f"this machine has no {device} device that torch can use; choose auto or cpu")
    if dtype == "auto":
        dtype = "bfloat16" if multiplies_bfloat16(device) else "float32"
    if dtype not in DTYPES:
        raise ConfigError(f"unknown number format {dtype!r}; choose auto, {' or '.join(DTYPES)}")
    if threads is not None:
        if threads < 1:
            raise ConfigError(f"threads must be at least 1, not {threads}")
        torch.set_num_threads(threads)
    return Compute(device, dtype, torch.get_num_threads())


def multiplies_bfloat16(device: str) -> bool:
    """Whether the hardware itself multiplies bfloat16 matrices."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "cpu":
        able = torch.cpu.get_capabilities()
        return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return False
