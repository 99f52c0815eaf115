"""How a trained network is tuned gently: which layers learn, when, and at what rates.

Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification" (2018, arXiv 1801.06146):

    discriminative rates      a layer learns at 1/2.6 of the rate of the layer above it (section 3.2)
    slanted triangular        the rate rises for the first tenth of the steps and falls for the rest (equation 3)
    gradual unfreezing        the top layer learns alone at first, then the two top ones, and so on (section 3.3)

and the auxiliary language-modelling loss of Radford et al. (GPT-1, 2018, section 3.2), which adds half of the
loss of predicting the text itself; Ramachandran, Liu and Le (2017, arXiv 1611.02683) weight both losses the same.

Layers are counted from below: 0 the embeddings, 1 to n_layer the blocks, n_layer + 1 the last layer norm and
whatever head stands on it. The head of a language model is the token embedding, which is therefore counted with
the head while a language model is tuned, as in Howard and Ruder's own program (fastai, `awd_lstm_lm_split`), and
with the embeddings while a classifier is.

All is a function of the step alone, so a resumed run goes on exactly. Rejected: unfreezing when a loss stops
falling, which a resumed run would have to remember.

    python -c "from gpt2.finetuning.methods import *; print([round(slanted_triangular(t, 20), 3) for t in range(20)])"
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gpt2.errors import ConfigError
from gpt2.model.transformer import GPT2
from gpt2.training.method import Method
from gpt2.training.optimizer import OptimizerConfig

FACTOR, CUT, RATIO = 2.6, 0.1, 32
"""Howard and Ruder's: rate of a layer to that of the one below, share of the steps in which the rate rises, and
highest rate to lowest."""
AUXILIARY = 0.5
"""GPT-1's weight of the language-modelling loss beside the task's."""


def layer_of(name: str, n_layer: int) -> int:
    """The layer that a parameter belongs to, by its name: 0 embeddings, 1 .. n_layer blocks, n_layer + 1 the rest.

    The embeddings of GPT-1's marks (`wte.marks`) are of the rest: as new as the head, they learn with it.
    Names may have the prefix of a module around the network (`net.h.0.ln_1.weight` is in layer 1 too).
    """
    if block := re.search(r"(?:^|\.)h\.(\d+)\.", name):
        return int(block[1]) + 1
    return 0 if re.search(r"(?:^|\.)w[tp]e\.(?!marks$)", name) else n_layer + 1


def layer_rates(n_layer: int, factor: float = FACTOR) -> list[float]:
    """Share of the rate at which each layer learns, 0 .. n_layer + 1: the top one 1, each below 1/factor of it."""
    if not 1 <= factor < float("inf"):
        raise ConfigError(
            f"a layer learns at 1/factor of the rate above it: factor is 1 or more, not {factor}"
        )
    return [factor ** (layer - n_layer - 1) for layer in range(n_layer + 2)]


def slanted_triangular(step: int, steps: int, cut_fraction: float = CUT, ratio: float = RATIO) -> float:
    """Share of the highest rate at step 0 .. steps - 1 (Howard and Ruder, equation 3).

    With cut = floor(steps cut_fraction), p is step / cut before the cut and 1 - (step - cut) / (cut (1 /
    cut_fraction - 1)) after it, and the share (1 + p (ratio - 1)) / ratio. Where the floor makes the cut come
    early, p would end below 0 and the rate too: p is then 0. A cut of less than a step is one step.
    """
    if not 0 < cut_fraction < 1:
        raise ConfigError(f"cut_fraction is a share between 0 and 1, not {cut_fraction}")
    if not ratio >= 1:
        raise ConfigError(f"ratio is the highest rate to the lowest, 1 or more, not {ratio}")
    cut = max(1, int(steps * cut_fraction))
    p = step / cut if step < cut else 1 - (step - cut) / (cut * (1 / cut_fraction - 1))
    return (1 + max(0.0, p) * (ratio - 1)) / ratio


def thawed(step: int, steps: int, n_layer: int, stage: int | None = None) -> set[int]:
    """The layers that learn at step 0 .. steps - 1: the top one, and one more below it with each stage.

    A stage is `stage` steps long, an epoch with Howard and Ruder; None divides all steps evenly, so that the
    whole network learns in the last of n_layer + 2 stages. With fewer steps than stages the lowest layers never
    learn.
    """
    return top_layers(step, steps, list(range(n_layer + 2)), stage)


def top_layers(step: int, steps: int, layers: list[int], stage: int | None = None) -> set[int]:
    """The same of any layers, given from below: those without a weight that learns are left out by the caller."""
    done = step // stage if stage else step * len(layers) // steps
    return set(layers[-min(done + 1, len(layers)) :])


@dataclass(frozen=True)
class Methods:
    """Which of Howard and Ruder's methods a tuning has; they combine."""

    layer_factor: float | None = None
    """How many times the rate of the layer below a layer's is, such as 2.6; None for one rate."""
    slanted: bool = False
    """Whether the rate follows slanted triangles, in place of the optimizer's own schedule."""
    unfreeze: bool = False
    """Whether layers are thawed one by one, from the top, in stages that share the steps evenly; in fewer steps than
    there are layers the lowest stay as they are."""

    def __post_init__(self) -> None:
        if self.layer_factor is not None:
            layer_rates(1, self.layer_factor)


class Gentle(Method):
    """A language model tuned by these methods, as the training loop sees it.

    Layers are those that have weights which learn, the top one of them at the full rate.
    """

    def __init__(self, methods: Methods) -> None:
        super().__init__()
        self.methods = methods
        if methods != Methods():
            self.settings = dict(vars(methods))
        self.layers: dict[str, int] = {}
        """The layer of each parameter that learns."""

    def prepare(self, net: GPT2) -> None:
        """Find the layers of all weights that learn."""
        top = net.config.n_layer + 1
        self.layers = {
            name: top if name == "wte.weight" else layer_of(name, net.config.n_layer)
            for name, p in net.named_parameters()
            if p.requires_grad
        }

    def share(self, name: str) -> float:
        """1 for the top layer, and 1/layer_factor of the one above for each below it."""
        if self.methods.layer_factor is None:
            return 1.0
        return float(self.methods.layer_factor ** (self.layers[name] - max(self.layers.values())))

    def rate(self, optimizer: OptimizerConfig, step: int, steps: int) -> float:
        """The highest rate at that step."""
        if self.methods.slanted:
            return optimizer.learning_rate * slanted_triangular(step, steps)
        return optimizer.rate(step, steps)

    def thaw(self, net: GPT2, step: int, steps: int) -> None:
        """Let the layers of that step's stage learn, and no others."""
        if self.methods.unfreeze:
            learning = top_layers(step, steps, sorted(set(self.layers.values())))
            for name, p in net.named_parameters():
                if name in self.layers:
                    p.requires_grad_(self.layers[name] in learning)
