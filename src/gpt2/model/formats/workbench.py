"""Our own folder as one of the formats; `gpt2.model.checkpoint` says what is in it.

Also the folder of a training run or of `gpt2 reproduce`, which have such a folder inside.

    gpt2 convert openai-community/gpt2 mine --to workbench
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from torch import Tensor

from gpt2.errors import FormatError, WorkbenchError
from gpt2.model.checkpoint import (
    FORMAT,
    check_tensors,
    find_model,
    opened,
    read_card,
    read_config,
    write_files,
)
from gpt2.model.formats import Source, finite, parameter_shapes
from gpt2.tokens.bpe import Tokenizer
from gpt2.workspace import atomic_folder, read_json


def recognise(path: Path) -> bool:
    """Whether a folder, or a folder in it, has a config.json of ours, be it of another version."""
    try:
        config = read_json(find_model(path) / "config.json")
    except (WorkbenchError, OSError):
        return False
    return isinstance(config, dict) and str(config.get("format")).startswith(FORMAT.split()[0])


def open_source(path: Path) -> Source:
    """The model in a folder; names, shapes and sizes are checked, weights not read.

    Raises `InputError` when a file is missing, `FormatError` when files are damaged or of two models.
    """
    folder = find_model(path)
    config, weights = read_config(folder / "config.json"), folder / "model.safetensors"
    with opened(weights) as file:
        check_tensors(file, weights, parameter_shapes(config))

    def tensor(name: str) -> Tensor:
        with opened(weights) as file:
            return finite(cast(Tensor, file.get_tensor(name)), name, weights)

    tokenizer = Tokenizer.load(folder)
    if tokenizer.n_vocab != config.vocab_size:
        raise FormatError(
            f"the tokenizer in {folder} has {tokenizer.n_vocab} tokens, but its model has {config.vocab_size}; "
            "the files are of two different models"
        )
    return Source("workbench", folder, config, tokenizer, tensor, read_card(folder / "card.json"))


def write(path: Path, source: Source) -> None:
    """Write our folder, whole or not at all; its card says what it was made from."""
    card = source.card or {"converted_from": {"format": source.format, "name": source.path.name}}
    with atomic_folder(path, "card.json") as folder:
        write_files(folder, source.config, source.tensor, source.tokenizer, card)
