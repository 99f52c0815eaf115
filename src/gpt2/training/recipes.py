"""Settings that are known to work, each with its source: `gpt2 train --recipe NAME`.

    gpt2      the paper's sizes; what it leaves open from llm.c's reproduction and GPT-3 (the default)
    gpt3      GPT-3's table for small models
    nanogpt   nanoGPT's 124M on OpenWebText
    modern    what has since been shown to reach the same loss in fewer tokens: Muon, and a straight line to zero

A recipe decides the learning rate of a size, warm-up, decay, weight decay and optimizer. Batch and length stay
the user's: half a million tokens a step is right for a cluster and hopeless on two cores; `gpt2 forecast` tells
what a recipe's own would take. The network is GPT-2 in all of them. Nothing is mixed: each is what its source
says, but for two rules that make it fit shorter runs and smaller models than its own. A warm-up takes as many
tokens as the recipe's, but at most 5 % of the run; and below 125M parameters, where the tables end, learning
rates grow as Kaplan et al. found (`kaplan`).

    gpt2 train --tokens TOKENS --out RUN --size 124M --recipe modern --minutes 60
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from gpt2.errors import ConfigError, nearest
from gpt2.model.config import GPT2Config
from gpt2.training.optimizer import OptimizerConfig

GPT3_RATES = ((124_439_808, 6e-4), (354_823_168, 3e-4), (774_030_080, 2.5e-4), (1_300_000_000, 2e-4))
"""Parameters and learning rate of 125M, 350M, 760M and 1.3B in Brown et al. (2020, arXiv 2005.14165), table 2.1;
the first three counted as the paper's sizes next to them are."""


@dataclass(frozen=True)
class Recipe:
    """One way to train."""

    name: str
    """What it is called."""
    source: str
    """Where its settings are from."""
    batch: int
    """Sequences in a step, as its source has them."""
    context: int
    """Tokens of a sequence there."""
    tokens: int
    """Tokens trained on there."""
    warmup_tokens: int
    """Tokens of its warm-up."""
    schedule: Literal["cosine", "linear", "trapezoid"] = "cosine"
    """How its learning rate falls."""
    final: float = 0.1
    """Last learning rate, as a share of the highest."""
    matrices: Literal["adamw", "muon"] = "adamw"
    """What changes the hidden matrices."""
    rates: tuple[tuple[int, float], ...] = GPT3_RATES
    """Learning rates by number of parameters."""

    def learning_rate(self, model: GPT2Config) -> float:
        """The highest learning rate for a shape: that of the tables' nearest sizes, to three digits."""
        # Tables count sizes with GPT-2's vocabulary, so a small one must not make a model look small.
        n = replace(model, vocab_size=50_257, n_ctx=1024).num_parameters()
        first, last = self.rates[0], self.rates[-1]
        if n <= first[0]:
            least = GPT2Config().num_parameters(embeddings=False)
            small = kaplan(model.num_parameters(embeddings=False)) / kaplan(least)
            return rounded(first[1] * max(1.0, small))
        for (a, rate), (b, next_rate) in zip(self.rates, self.rates[1:], strict=False):
            if n <= b:
                part = math.log(n / a) / math.log(b / a)
                return rounded(rate * (next_rate / rate) ** part)
        return last[1]

    def optimizer(
        self, model: GPT2Config, tokens_per_step: int, learning_rate: float | None = None
    ) -> OptimizerConfig:
        """Its settings for a shape and a batch; `learning_rate` takes the place of its own."""
        return OptimizerConfig(
            learning_rate=learning_rate or self.learning_rate(model),
            longest_warmup=max(1, math.ceil(self.warmup_tokens / tokens_per_step)),
            schedule=self.schedule,
            final=self.final,
            matrices=self.matrices,
        )


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "gpt2",
            "Radford et al. (2019): batch of 512 x 1,024 tokens, learning rate of each size tuned by hand, the "
            "rest not stated; learning rates and warm-up of llm.c's reproductions of the paper's sizes, decay to "
            "a tenth, betas, weight decay and clipping of GPT-3",
            batch=512,
            context=1024,
            tokens=10_000_000_000,
            warmup_tokens=700 * 524_288,
        ),
        Recipe(
            "gpt3",
            "Brown et al. (2020), table 2.1 and appendix B: 0.5 M tokens a step, 375 M tokens of warm-up, cosine "
            "to a tenth",
            batch=256,
            context=2048,
            tokens=300_000_000_000,
            warmup_tokens=375_000_000,
        ),
        Recipe(
            "nanogpt",
            "nanoGPT, config/train_gpt2.py: 491,520 tokens a step, 2,000 steps of warm-up, cosine to a tenth over "
            "600,000 steps; loss 2.85 on OpenWebText (its biases are off, which changes the network: not here)",
            batch=480,
            context=1024,
            tokens=600_000 * 491_520,
            warmup_tokens=2_000 * 491_520,
        ),
        Recipe(
            "modern",
            "Muon on hidden matrices (Jordan et al., 2024, with the scale of Liu et al., 2025, arXiv 2502.16982), "
            "and a straight line to zero (Bergsma et al., 2025, arXiv 2502.15938)",
            batch=512,
            context=1024,
            tokens=5_000_000_000,
            warmup_tokens=256 * 524_288,
            schedule="linear",
            final=0.0,
            matrices="muon",
        ),
    )
}
DEFAULT = "gpt2"


def recipe(name: str) -> Recipe:
    """A recipe by its name; `ConfigError` for one that is none."""
    if name not in RECIPES:
        raise ConfigError(f"there is no recipe {name!r}{nearest(name, RECIPES)}; known: {', '.join(RECIPES)}")
    return RECIPES[name]


def kaplan(n: int) -> float:
    """A good learning rate for n parameters without embeddings (Kaplan et al., 2020, arXiv 2001.08361, eq. D.1)."""
    return 0.003239 - 0.0001395 * math.log(n)


def rounded(x: float) -> float:
    """Three digits."""
    return float(f"{x:.3g}")
