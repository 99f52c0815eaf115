"""The ways of training that stand above this room, as the loop sees them.

`Method` is the plain way: all weights learn at one rate, the optimizer's own, and a checkpoint keeps them as a
model. Fine-tuning makes others of it (`gpt2.finetuning`): layers that learn at rates of their own or begin
later, adapters that learn in place of the weights. What a method decides at a step must follow from the step
alone, so that a run goes on exactly after a kill; `settings` stands in the run's record, and a resumed run
must have the same.

    train(config, method=Method())

Rejected: a second loop for language models, which would have to learn to survive kills anew. Classifiers, whose
examples are no stream of tokens, have their own in `gpt2.finetuning.supervised`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from gpt2.model.checkpoint import write_files
from gpt2.model.config import GPT2Config
from gpt2.model.transformer import GPT2
from gpt2.tokens.bpe import Tokenizer
from gpt2.training.optimizer import OptimizerConfig
from gpt2.workspace import Json


class Method:
    """All weights learn, at one rate."""

    settings: Json
    """What distinguishes it from the plain way, as it stands in a JSON file."""
    file = "model.safetensors"
    """The file of a checkpoint that has what was learned, by the names of `kept`."""

    def __init__(self) -> None:
        self.settings = {}

    def prepare(self, net: GPT2) -> None:
        """Make a network ready, before its optimizer is made."""

    def share(self, name: str) -> float:  # noqa: ARG002
        """Share of the rate at which the parameter of this name learns."""
        return 1.0

    def rate(self, optimizer: OptimizerConfig, step: int, steps: int) -> float:
        """The learning rate of step 0 ... steps - 1."""
        return optimizer.rate(step, steps)

    def thaw(self, net: GPT2, step: int, steps: int) -> None:
        """Set which parameters need a gradient at this step; the others stay as they are."""

    def kept(self, net: GPT2) -> dict[str, Tensor]:
        """The parameters that a checkpoint keeps, by the names that they have there."""
        return dict(net.named_parameters())

    def merged(self, net: GPT2) -> contextlib.AbstractContextManager[object]:  # noqa: ARG002
        """Within it the network's own weights are what was learned, for those who read them."""
        return contextlib.nullcontext()

    def finish(self, net: GPT2) -> GPT2:
        """The network that was trained, with weights of its own alone."""
        return net

    def write(
        self, folder: Path, config: GPT2Config, kept: Mapping[str, Tensor], tokenizer: Tokenizer, card: Json
    ) -> None:
        """Write what a checkpoint keeps into an existing folder: `file`, and what belongs to it."""
        write_files(folder, config, kept.__getitem__, tokenizer, card)


PLAIN = Method()
