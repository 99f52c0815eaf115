"""A model on disk: safetensors for the weights, JSON for the shape, the tokenizer, and a card.

    folder/
      config.json            the network's shape
      model.safetensors      float32, OpenAI's parameter names; the head is the token embedding, so it is absent
      encoder.json, vocab.bpe, tokenizer.json
      card.json, README.md   what it was trained on, for how long, how good it is, with which versions

`load` also takes the folder of a training run or of `gpt2 reproduce` and finds the model in it, and every
other format (`gpt2.model.formats`). Before memory is taken, the shape that a file claims is held against the
weights that are there. Nothing is ever unpickled. Rejected: one `.pt` file, which runs code when opened.

    python -c "import gpt2; print(gpt2.load('reproduce').card)"
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gpt2.errors import ConfigError, FormatError, InputError
from gpt2.model.config import GPT2Config
from gpt2.model.formats import Shape, check_shapes, finite, open_source, parameter_shapes
from gpt2.model.formats.safetensors_file import write_safetensors
from gpt2.model.transformer import GPT2
from gpt2.tokens.bpe import Tokenizer
from gpt2.workspace import Json, atomic_folder, read_json, recover_folder, write_json

FORMAT = "gpt2-workbench 1"
NUMBERS = ("F32", "BF16", "F16")
"""What weights may be stored as, by safetensors' names."""


@dataclass
class Model:
    """A network and the tokenizer it was trained with, ready to use."""

    net: GPT2
    tokenizer: Tokenizer
    card: Json = field(default_factory=dict)

    def save(self, folder: str | Path) -> None:
        """Write the model as a folder that appears whole or not at all; only another model is replaced."""
        with atomic_folder(Path(folder), "card.json") as draft:
            write_model(self, draft)


def write_model(model: Model, folder: Path) -> None:
    """Write a model's files into an existing folder."""
    weights = model.net.state_dict()
    write_files(folder, model.net.config, weights.__getitem__, model.tokenizer, model.card)


def write_files(
    folder: Path, config: GPT2Config, tensor: Callable[[str], Tensor], tokenizer: Tokenizer, card: Json
) -> None:
    """Write the files of a model whose weights are given one at a time, by name, into an existing folder."""
    write_json(folder / "config.json", {"format": FORMAT, **dataclasses.asdict(config)})
    write_safetensors(folder / "model.safetensors", parameter_shapes(config), tensor, {"format": FORMAT})
    tokenizer.save(folder)
    write_json(folder / "card.json", card)
    (folder / "README.md").write_text(card_text(config, card), encoding="utf-8")


def load(path_or_name: str | Path) -> Model:
    """Open a model: a folder of ours, a training run, `gpt2 reproduce`'s, any known format, a name on the hub.

    Raises `InputError` when there is none, `FormatError` when files are foreign, damaged or do not fit.
    """
    source = open_source(path_or_name)
    with torch.device("meta"):
        net = GPT2(source.config)
    net.to_empty(device="cpu")
    with torch.no_grad():
        for name, weight in net.state_dict().items():
            weight.copy_(source.tensor(name))
    return Model(net.eval(), source.tokenizer, source.card)


def find_model(path: Path) -> Path:
    """The model folder at `path` or just inside it."""
    recover_folder(path)
    if not path.exists():
        raise InputError(f"there is no model at {path}; give the folder of a model or of a training run")
    if path.is_file():
        raise InputError(f"{path} is a file; give the folder that holds config.json and model.safetensors")
    for folder in (path, path / "checkpoint", path / "model"):
        recover_folder(folder)
        if is_model(folder):
            return folder
    raise InputError(f"there is no config.json in {path}; is it the folder of a model or of a training run?")


def is_model(folder: Path) -> bool:
    """Whether a folder is meant to be a model."""
    return (folder / "config.json").exists()


def read_config(path: Path) -> GPT2Config:
    """The network's shape from its file; unknown fields and absurd values are refused."""
    values = read_json(path)
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise FormatError(f'{path} does not describe a model of this package (no "format": "{FORMAT}")')
    fields = {f.name for f in dataclasses.fields(GPT2Config)}
    unknown = sorted(set(values) - fields - {"format"})
    if unknown or fields - set(values):
        raise FormatError(
            f"{path} has unknown or missing fields: {', '.join(unknown or sorted(fields - set(values)))}"
        )
    try:
        return GPT2Config(**{name: values[name] for name in fields})
    except ConfigError as error:
        raise FormatError(f"{path}: {error}") from None


def read_card(path: Path) -> Json:
    """What is known of a model's making; a model without a card is one too."""
    if not path.exists():
        return {}
    card = read_json(path)
    if not isinstance(card, dict):
        raise FormatError(f"{path} is not a model's card: it is no JSON object; restore or delete it")
    return card


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A safetensors file, open; `FormatError` when it is cut short, damaged or not one."""
    if not path.exists():
        raise InputError(
            f"there is no file {path}; the model in this folder is not whole: restore or make it anew"
        )
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise FormatError(
            f"{path} is damaged or not a safetensors file ({error}); restore or make it anew"
        ) from None


def check_tensors(file: Any, path: Path, shapes: Mapping[str, Shape]) -> None:
    """`FormatError` unless an opened file has exactly these tensors, as floats; none of them is read."""
    parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    check_shapes(path, {name: tuple(part.get_shape()) for name, part in parts.items()}, shapes)
    for name, part in parts.items():
        if part.get_dtype() not in NUMBERS:
            raise FormatError(
                f"{path}: tensor {name!r} is {part.get_dtype()}, and weights are {', '.join(NUMBERS)}"
            )


@torch.no_grad()
def fill(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Fill tensors from a safetensors file that must hold exactly these names, in these shapes.

    Everything is checked before anything is read; `FormatError` says what does not fit.
    """
    with opened(path) as file:
        check_tensors(file, path, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
        for name, tensor in tensors.items():
            tensor.copy_(finite(file.get_tensor(name), name, path))


def card_text(c: GPT2Config, card: Json) -> str:
    """The card as a person reads it."""
    lines = [
        "# A GPT-2 made with gpt2-workbench",
        "",
        f"{c.n_layer} layers, {c.n_head} heads, {c.n_embd} channels, context {c.n_ctx}, vocabulary {c.vocab_size:,}: "
        f"{c.num_parameters():,} parameters.",
        "",
        "| | |",
        "|---|---|",
    ]
    for name, value in card.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        lines.append(f"| {name.replace('_', ' ')} | {shown} |")
    return "\n".join([*lines, "", "Open it with `gpt2 generate FOLDER` or `gpt2.load(FOLDER)`.", ""])
