"""What a training begins with: a model's weights and vocabulary in place of random ones.

    gpt2 train --from MODEL --tokens TOKENS --out RUN --steps 2000

The tokens must be of the model's own vocabulary. The run's record has a checksum of the first weights, so that
it cannot be resumed from others. Rejected: the model's path as that mark, which a moved folder breaks and a
changed one does not.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from gpt2.errors import ConfigError
from gpt2.model.checkpoint import Model, load
from gpt2.model.config import GPT2Config
from gpt2.model.formats import open_source
from gpt2.model.transformer import GPT2
from gpt2.training.mixture import Data


def shape_of(start: str | Path, data: Data) -> GPT2Config:
    """The shape of the model to begin with; `ConfigError` when the tokens are of another vocabulary."""
    source = open_source(start)
    if source.tokenizer.fingerprint != data.tokenizer.fingerprint:
        raise ConfigError(
            f"the tokens in {data.folders[0].folder} are of another vocabulary than the model {start}; write them "
            "with the model's, with  gpt2 tokens write --vocabulary, or give the text itself to  gpt2 finetune text"
        )
    return source.config


def first_model(start: str | Path, data: Data, shape: GPT2Config) -> Model:
    """The model to begin with; `ConfigError` when neither it nor the general default has this shape."""
    found = shape_of(start, data)
    if shape not in (found, GPT2Config()):
        fields = [
            f.name for f in dataclasses.fields(shape) if getattr(shape, f.name) != getattr(found, f.name)
        ]
        raise ConfigError(
            f"the model {start} has {fields[0]} {getattr(found, fields[0])}, not {getattr(shape, fields[0])}; "
            "leave the shape out: it is the model's"
        )
    return load(start)


def weights_digest(net: GPT2) -> str:
    """The sha256 of all weights in the order of `state_dict()`, as float32, in hexadecimal."""
    found = hashlib.sha256()
    for weight in net.state_dict().values():
        found.update(weight.detach().float().cpu().contiguous().numpy().data)
    return found.hexdigest()


def beside_data(tokens: Path, data: Data) -> Data:
    """The tokens of a second loss; `ConfigError` when they are of another vocabulary than the first's."""
    other = Data.open(tokens)
    if other.tokenizer.fingerprint != data.tokenizer.fingerprint:
        raise ConfigError(
            f"the tokens in {tokens}, to be learned beside, are of another vocabulary than those in "
            f"{data.folders[0].folder}; write them with the same one, with  gpt2 tokens write --vocabulary"
        )
    return other
