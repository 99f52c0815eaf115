"""Safetensors written tensor by tensor.

A file is the length of its header (8 bytes, little-endian), the header (JSON: type, shape and place of each
tensor) and the numbers. The library `safetensors` reads these files everywhere here, but writes only what is
in memory as a whole; this writer asks for one tensor at a time, so that a model of 6 GB is converted in the
memory of its largest tensor.

    write_safetensors(path, shapes, source.tensor, {"format": "pt"})
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from gpt2.model.formats import Shape, float32


def write_safetensors(
    path: Path, shapes: Mapping[str, Shape], tensor: Callable[[str], Tensor], metadata: Mapping[str, str]
) -> None:
    """Write `tensor(name)` for each name as float32, in the order of `shapes`.

    The file is written in place: call it within `atomic_folder`. `metadata` is the header's own; transformers
    asks for {"format": "pt"} there.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": (begin, end)}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # numbers begin at a multiple of 8, so that they can be mapped
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            values = float32(tensor(name))
            assert values.shape == shape, name
            stream.write(values.data)
