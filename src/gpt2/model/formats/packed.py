"""Low-bit weights as one of the formats; `gpt2.model.packed` says how they lie in the folder.

Written, the weights are quantised (`gpt2.model.quantize`). Opened here, they are the float32 weights that the
low-bit ones stand for: so what a scheme costs is measured by the commands for any model (`gpt2 score`,
`gpt2 evaluate`), and a machine without a compiler can generate from them. Of int4's two heads it is the one in 8
bits; what the other costs, the kernels alone show (`acceptance/generation_peers.py`). The fast engine does not
come here: it reads them as they are (`gpt2.inference.native`). Writing them back into a float32 format is allowed, for
comparison; what was rounded stays so.

    gpt2 convert reproduce small --to int8
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpt2.model.formats import SCHEMES, Source, finite, float32, vocabulary_of
from gpt2.model.packed import is_packed, matrix_shapes, open_packed, write_packed
from gpt2.model.quantize import packed_tensor, unpack, unpack_bias
from gpt2.workspace import atomic_folder, read_json, write_json

if TYPE_CHECKING:
    from torch import Tensor

KINDS = SCHEMES


def recognise(path: Path) -> bool:
    """Whether a folder has packed weights, be it of another version."""
    return is_packed(path)


def open_source(path: Path) -> Source:
    """The model as the float32 weights that its packed ones stand for; `FormatError` when it is damaged."""
    config, tensors = open_packed(path)
    matrices, C = matrix_shapes(config), config.n_embd

    def tensor(name: str) -> Tensor:
        import torch

        owner, _, part = name.rpartition(".")
        values: NDArray[np.generic]
        if owner not in matrices:
            values = tensors["wpe"][:, :C] if owner == "wpe" else tensors[owner][int(part == "bias"), :C]
        elif part == "bias":
            values = unpack_bias(tensors[owner].view(np.uint8), matrices[owner][0])
        else:
            values = unpack(tensors[owner].view(np.uint8), *matrices[owner])
        return finite(torch.from_numpy(np.array(values, np.float32)), name, path)

    return Source("packed", path, config, vocabulary_of(path, config), tensor, read_json(path / "card.json"))


def write(path: Path, source: Source, kind: str = "int8") -> None:
    """Quantise a model, a matrix at a time, and write its folder, whole or not at all."""
    from gpt2.model.checkpoint import card_text

    card = source.card or {"converted_from": {"format": source.format, "name": source.path.name}}
    card = {**card, "weights": kind}
    tensor = partial(packed_tensor, source.config, lambda name: float32(source.tensor(name)), kind)
    with atomic_folder(path, "card.json") as folder:
        write_packed(folder, source.config, kind, tensor)
        source.tokenizer.save(folder)
        write_json(folder / "card.json", card)
        (folder / "README.md").write_text(card_text(source.config, card), encoding="utf-8")
