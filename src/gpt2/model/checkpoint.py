"""A model on disk: safetensors for the weights, JSON for the shape, the tokenizer, and a card.

    folder/
      config.json            the network's shape
      model.safetensors      float32, OpenAI's parameter names; the head is the token embedding, so it is absent
      encoder.json, vocab.bpe, tokenizer.json
      card.json, README.md   what it was trained on, for how long, how good it is, with which versions

`load` also takes the folder of a training run or of `gpt2 reproduce` and finds the model in it. Nothing is
ever unpickled. Rejected: one `.pt` file, which runs code when opened.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gpt2.errors import ConfigError, FormatError, InputError
from gpt2.model.transformer import GPT2, GPT2Config
from gpt2.tokens.bpe import Tokenizer
from gpt2.workspace import Json, atomic_folder, read_json, recover_folder, write_json

FORMAT = "gpt2-workbench 1"
MODEL_FOLDERS = ("", "checkpoint", "model")


@dataclass
class Model:
    """A network and the tokenizer it was trained with, ready to use."""

    net: GPT2
    tokenizer: Tokenizer
    card: Json = field(default_factory=dict)

    def save(self, folder: str | Path) -> None:
        """Write the model as a folder that appears whole or not at all."""
        folder = Path(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(folder, "config.json") as draft:
            write_model(self, draft)


def write_model(model: Model, folder: Path) -> None:
    """Write a model's files into an existing folder."""
    write_json(folder / "config.json", {"format": FORMAT, **dataclasses.asdict(model.net.config)})
    save_file(
        {name: p.detach().float().contiguous().cpu() for name, p in model.net.state_dict().items()},
        folder / "model.safetensors",
        {"format": FORMAT},
    )
    model.tokenizer.save(folder)
    write_json(folder / "card.json", model.card)
    (folder / "README.md").write_text(card_text(model), encoding="utf-8")


def load(path: str | Path) -> Model:
    """Open a model folder, a training run or the folder of `gpt2 reproduce`.

    Raises `InputError` when there is none, `FormatError` when files are foreign, damaged or do not fit.
    """
    folder = find_model(Path(path))
    config = read_config(folder / "config.json")
    net = GPT2(config)
    load_weights(net, folder / "model.safetensors")
    tokenizer = Tokenizer.load(folder)
    if tokenizer.n_vocab != config.vocab_size:
        raise FormatError(
            f"the tokenizer in {folder} has {tokenizer.n_vocab} tokens, but its model has {config.vocab_size}; "
            "the files are of two different models"
        )
    card = folder / "card.json"
    return Model(net.eval(), tokenizer, read_json(card) if card.exists() else {})


def find_model(path: Path) -> Path:
    """The model folder at `path` or just inside it."""
    if not path.exists():
        raise InputError(f"there is no model at {path}; give the folder of a model or of a training run")
    if path.is_file():
        raise InputError(f"{path} is a file; give the folder that holds config.json and model.safetensors")
    for inner in MODEL_FOLDERS:
        recover_folder(path / inner) if inner else None
        if (path / inner / "config.json").exists():
            return path / inner
    raise InputError(f"there is no config.json in {path}; is it the folder of a model or of a training run?")


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


def load_weights(net: torch.nn.Module, path: Path) -> None:
    """Copy the tensors of a safetensors file into a network whose names and shapes they must match."""
    found = read_tensors(path)
    wanted: Mapping[str, Any] = net.state_dict()
    for problem, names in (
        ("lacks", wanted.keys() - found.keys()),
        ("has the unknown", found.keys() - wanted.keys()),
    ):
        if names:
            raise FormatError(f"{path} {problem} tensor {min(names)!r} ({len(names)} in all)")
    for name, p in wanted.items():
        if p.shape != found[name].shape:
            raise FormatError(
                f"{path}: tensor {name!r} has shape {list(found[name].shape)}, "
                f"but config.json asks for {list(p.shape)}"
            )
    net.load_state_dict(found)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file; `FormatError` when it is cut short or not one."""
    if not path.exists():
        raise InputError(f"there is no file {path}")
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise FormatError(
            f"{path} is damaged or not a safetensors file ({error}); restore or make it anew"
        ) from None


def card_text(model: Model) -> str:
    """The card as a person reads it."""
    c, facts = model.net.config, dict(model.card)
    lines = [
        "# A GPT-2 made with gpt2-workbench",
        "",
        f"{c.n_layer} layers, {c.n_head} heads, {c.n_embd} channels, context {c.n_ctx}, vocabulary {c.vocab_size:,}: "
        f"{model.net.num_parameters():,} parameters.",
        "",
        "| | |",
        "|---|---|",
    ]
    for name, value in facts.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        lines.append(f"| {name.replace('_', ' ')} | {shown} |")
    return "\n".join([*lines, "", "Open it with `gpt2 generate FOLDER` or `gpt2.load(FOLDER)`.", ""])
