"""The shape of a GPT-2 and the paper's four sizes, without torch.

The network is in `transformer.py`; this much of it is also what programs need that never import torch, which
takes two seconds.

    python -c "import gpt2; print(gpt2.GPT2Config.size('124M').num_parameters())"
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gpt2.errors import ConfigError, nearest

# The paper's sizes (Table 2), by the paper's own names and by the corrected parameter counts.
SIZES = {
    "124M": (12, 12, 768),
    "355M": (24, 16, 1024),
    "774M": (36, 20, 1280),
    "1558M": (48, 25, 1600),
}
PAPER_NAMES = {"117M": "124M", "345M": "355M", "762M": "774M", "1542M": "1558M"}


LARGEST = 2**31 - 1


@dataclass(frozen=True)
class GPT2Config:
    """The shape of a GPT-2."""

    n_layer: int = 12
    """Blocks in the stack."""
    n_head: int = 12
    """Attention heads in a block; must divide the channels."""
    n_embd: int = 768
    """Channels."""
    vocab_size: int = 50257
    """Token ids the network knows."""
    n_ctx: int = 1024
    """Longest text in tokens."""
    layer_norm_epsilon: float = 1e-5
    """Added to the variance in layer norms."""

    def __post_init__(self) -> None:
        for name in ("n_layer", "n_head", "n_embd", "vocab_size", "n_ctx"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= LARGEST:
                raise ConfigError(f"{name} must be a whole number from 1 to {LARGEST}, not {value!r:.40}")
        epsilon = self.layer_norm_epsilon
        if type(epsilon) not in (int, float) or not 0 < epsilon < 1:
            raise ConfigError(f"layer_norm_epsilon must be a number between 0 and 1, not {epsilon!r:.40}")
        if self.n_embd % self.n_head:
            raise ConfigError(f"n_embd {self.n_embd} cannot be split evenly over n_head {self.n_head} heads")

    @classmethod
    def size(cls, name: str, **changes: int) -> GPT2Config:
        """One of the paper's four sizes, by either name ("117M" or "124M"); `changes` replace single fields."""
        known = PAPER_NAMES.get(name, name)
        if known not in SIZES:
            names = [*SIZES, *PAPER_NAMES]
            raise ConfigError(
                f"there is no GPT-2 of size {name!r}{nearest(name, names)}; known are {', '.join(names)}"
            )
        n_layer, n_head, n_embd = SIZES[known]
        return replace(cls(n_layer=n_layer, n_head=n_head, n_embd=n_embd), **changes)

    def num_parameters(self, embeddings: bool = True) -> int:
        """Weights in the network, the tied head counted once; without `embeddings`, those of the stack."""
        C = self.n_embd
        stack = self.n_layer * (12 * C * C + 13 * C) + 2 * C
        return stack + (self.vocab_size + self.n_ctx) * C if embeddings else stack
