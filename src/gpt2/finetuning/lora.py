"""LoRA: a frozen matrix, and beside it a product of two thin ones that learns (Hu et al., 2021, arXiv 2106.09685).

    y = x W^T + b + (alpha / rank) x A^T B^T            W [out, in] stays, A [rank, in] and B [out, rank] learn

A begins as the paper's own code has it, evenly from -1/sqrt(in) to 1/sqrt(in), and B as zeros, so that tuning
begins from the model itself. All four matrices of a block are adapted, not the queries and values alone of the
paper's tables: at the same number of weights that has been found to learn more (Dettmers et al., 2023, arXiv
2305.14314, section 4).

`merge` puts (alpha / rank) B A into the weights, for those who read them; `unmerge` takes the frozen weights
themselves out again, bit for bit. Rejected: subtracting what was added, which leaves a rounding error behind at
each turn. While it is merged a network holds its adapted matrices twice.

What was learned is kept in a folder that `peft` reads (`adapter.py`).

    net = adapt(gpt2.load("model").net, LoraConfig(rank=8))
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt2.errors import ConfigError, InputError
from gpt2.model.transformer import GPT2

TARGETS = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
"""The matrices of a block."""
PREFIX = "base_model.model.transformer."
"""What `peft` puts before the name of a layer."""


@dataclass(frozen=True)
class LoraConfig:
    """The shape of an adapter."""

    rank: int = 8
    """Rows of A and columns of B."""
    alpha: float = 16.0
    """What the product counts, times the rank."""
    targets: tuple[str, ...] = TARGETS
    """Matrices of each block that are adapted."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"the rank of an adapter is at least 1, not {self.rank}")
        if not 0 < self.alpha < float("inf"):
            raise ConfigError(f"alpha must be above 0, not {self.alpha}")
        for name in self.targets or ("none",):
            if name not in TARGETS:
                raise ConfigError(f"{name!r} cannot be adapted; what can: {', '.join(TARGETS)}")

    @property
    def scale(self) -> float:
        """What B A is multiplied by."""
        return self.alpha / self.rank


class LoraLinear(nn.Linear):
    """A frozen layer x W^T + b with A [rank, in] and B [out, rank] beside it; `merged` when they are in its weight."""

    def __init__(self, layer: nn.Linear, config: LoraConfig, generator: torch.Generator) -> None:
        nn.Module.__init__(self)  # the matrix is the layer's own, not a new one
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        bound = layer.in_features**-0.5
        a = torch.empty(config.rank, layer.in_features).uniform_(-bound, bound, generator=generator)
        self.lora_A = nn.Parameter(a.to(layer.weight.device))
        self.lora_B = nn.Parameter(torch.zeros(layer.out_features, config.rank, device=layer.weight.device))
        self.scale = config.scale
        self.frozen: Tensor | None = None
        """W itself, while it is merged."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        y = F.linear(x, self.weight, self.bias)
        if self.frozen is not None:
            return y
        return y + F.linear(F.linear(x, self.lora_A), self.lora_B) * self.scale

    @torch.no_grad()
    def merge(self) -> None:
        """Put W + scale B A in the place of W."""
        if self.frozen is None:
            self.frozen = self.weight.data
            self.weight.data = self.frozen + self.scale * (self.lora_B @ self.lora_A)

    def unmerge(self) -> None:
        """Put W back."""
        if self.frozen is not None:
            self.weight.data, self.frozen = self.frozen, None


def adapt(net: GPT2, config: LoraConfig | None = None, seed: int = 0) -> GPT2:
    """Freeze a network and put adapters beside its matrices, in place; `InputError` where there are some already."""
    if adapted(net):
        raise InputError("the network has an adapter already; fuse it, or begin with the model itself")
    config = config or LoraConfig()
    generator = torch.Generator().manual_seed(seed)
    net.requires_grad_(False)
    for name, layer in list(net.named_modules()):
        if isinstance(layer, nn.Linear) and name.split(".", 2)[-1] in config.targets:
            put(net, name, LoraLinear(layer, config, generator))
    return net


def put(net: GPT2, name: str, layer: nn.Module) -> None:
    """Make a module the one of that name in a network."""
    parent, _, own = name.rpartition(".")
    setattr(net.get_submodule(parent), own, layer)


def adapted(net: GPT2) -> dict[str, LoraLinear]:
    """The adapted layers of a network by name; none for a network as it is."""
    return {name: layer for name, layer in net.named_modules() if isinstance(layer, LoraLinear)}


def parameters(net: GPT2) -> dict[str, Tensor]:
    """A and B of all layers, by the names that `peft` gives them."""
    return {
        f"{PREFIX}{name}.{part}.weight": getattr(layer, part)
        for name, layer in adapted(net).items()
        for part in ("lora_A", "lora_B")
    }


def merge(net: GPT2) -> GPT2:
    """Put what the adapters learned into the weights; what reads those reads the tuned network."""
    return each(net, LoraLinear.merge)


def unmerge(net: GPT2) -> GPT2:
    """Put the frozen weights back, bit for bit as they were."""
    return each(net, LoraLinear.unmerge)


def each(net: GPT2, change: Callable[[LoraLinear], None]) -> GPT2:
    """Change all adapted layers; `InputError` without any."""
    layers = adapted(net)
    if not layers:
        raise InputError("the network has no adapter; put one beside it with adapt or load_adapter")
    for layer in layers.values():
        change(layer)
    return net


@contextlib.contextmanager
def merged(net: GPT2) -> Iterator[GPT2]:
    """A network merged for a while."""
    try:
        yield merge(net)
    finally:
        unmerge(net)


def fuse(net: GPT2) -> GPT2:
    """Merge for good: a plain network again; the frozen weights are gone."""
    return plain(merge(net))


def remove(net: GPT2) -> GPT2:
    """Take the adapters away: the plain network that was there before them."""
    return plain(unmerge(net))


def plain(net: GPT2) -> GPT2:
    """A network whose adapted layers are plain ones with the weights that they have just now; all of them learn."""
    for name, layer in adapted(net).items():
        own = nn.Linear(1, 1, device="meta")
        own.in_features, own.out_features = layer.in_features, layer.out_features
        own.weight, own.bias = layer.weight, layer.bias
        put(net, name, own)
    return net.requires_grad_(True)
