"""Every form in which GPT-2s are kept, read and written.

    workbench.py         ours: safetensors, OpenAI's parameter names, Linear orientation
    openai.py            OpenAI's checkpoint folder, without TensorFlow
    huggingface.py       Hugging Face's folder: safetensors, sharded safetensors, old `.bin`
    nanogpt.py           nanoGPT's `ckpt.pt`
    llmc.py              llm.c's `.bin`, with its tokenizer file
    gguf.py              GGUF in f32, f16 and q8_0
    packed.py            ours in int8, int4 or bfloat16, for the fast engine
    hub.py               models by their name on the Hugging Face hub
    tensor_bundle.py, crc32c.py, torch_file.py, gguf_header.py, safetensors_file.py
                         the containers that those are kept in

Each format has the same three functions: `recognise(path)` looks at content and never at names,
`open_source(path)` reads shape and vocabulary but no weights, `write(path, source)` writes tensor by tensor.
Between them stands `Source`: our names, our orientation ([out, in]), one tensor at a time, so that converting
a model needs little more memory than its largest tensor. Rejected: a converter for each pair of formats.

    python -c "import gpt2; gpt2.convert('reproduce', 'for-transformers', to='huggingface')"
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from gpt2.errors import ConfigError, FormatError, InputError, nearest
from gpt2.model.config import GPT2Config
from gpt2.tokens.bpe import Tokenizer
from gpt2.workspace import Json, read_json, recover_folder

if TYPE_CHECKING:
    from torch import Tensor

NAMES = ("workbench", "openai", "huggingface", "nanogpt", "llmc", "gguf")
"""The formats that lose nothing, in the order in which a path is tried."""
SCHEMES = ("int8", "int4", "bfloat16")
"""Our packed weights (`packed.py`), which are tried first; to convert to one is to round."""

MOST_LAYERS = 10_000

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Source:
    """An opened model: shape and vocabulary are known, weights are read one at a time."""

    format: str
    """Name of the format it was found in: workbench, openai, huggingface, nanogpt, llmc, gguf, packed."""
    path: Path
    """The file or folder it was opened from."""
    config: GPT2Config
    """Shape of the network; `vocab_size` without padding."""
    tokenizer: Tokenizer
    """Its vocabulary; GPT-2's own where the format carries none."""
    tensor: Callable[[str], Tensor]
    """Weights by our name, as `GPT2(config).state_dict()` has them: [out, in], finite, float32 or shorter.
    It may be a view of the mapped file, transposed: nothing is in memory before it is used."""
    card: Json = field(default_factory=dict)
    """What is known of its making."""


class Format(Protocol):
    """What the module of each format does; some also have `KINDS`, the number formats they can write."""

    def recognise(self, path: Path) -> bool:
        """Whether a path is meant to be of this format, GPT-2 or not; never raises."""

    def open_source(self, path: Path) -> Source:
        """The model there; `FormatError` when it is damaged, or none that GPT-2's network can be."""

    def write(self, path: Path, source: Source, *kind: str) -> None:
        """Write a model, whole or not at all."""


def formats() -> dict[str, Format]:
    """The formats by name, each imported when asked for."""
    return {name: cast(Format, importlib.import_module(f"gpt2.model.formats.{name}")) for name in NAMES}


def open_source(path_or_name: str | Path) -> Source:
    """Open a model of any format, found by its content, or by its name on the hub (`owner/name`).

    Raises `InputError` when there is nothing, `FormatError` when it is no GPT-2 that can be read.
    """
    path = located(path_or_name)
    for name in ("packed", *NAMES):
        module = cast(Format, importlib.import_module(f"gpt2.model.formats.{name}"))
        if module.recognise(path):
            try:
                return module.open_source(path)
            except ConfigError as error:
                raise FormatError(f"{path}: {error}") from None
    raise FormatError(f"there is no model in {path}: {content(path)}; known formats are {', '.join(NAMES)}")


def located(path_or_name: str | Path) -> Path:
    """Where a model is: the path itself, or that of a hub model's files, fetched if need be."""
    path = Path(path_or_name)
    recover_folder(path)
    if path.exists():
        return path
    name_like = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(path_or_name), re.ASCII)
    if not name_like or path.parent.exists():
        raise InputError(
            f"there is no model at {path}; give a folder or file of one, or its name on the hub (owner/name)"
        )
    from gpt2.model.formats.hub import download

    return download(str(path_or_name))


def convert(
    source: str | Path, target: str | Path, to: str = "huggingface", kind: str | None = None
) -> Source:
    """Write a model in another format, one tensor at a time; returns what was read.

    `to` is one of `NAMES` or `SCHEMES`; `kind` the number format, where there is a choice: for llmc float32
    (the usual) or bfloat16, for gguf f32 (the usual), f16 or q8_0. Nothing that exists is ever replaced:
    `InputError`.
    """
    if to in SCHEMES and kind is None:
        to, kind = "packed", to
    elif to not in NAMES:
        names = (*NAMES, *SCHEMES)
        raise ConfigError(f"there is no format {to!r}{nearest(to, names)}; known are {', '.join(names)}")
    module: Any = importlib.import_module(f"gpt2.model.formats.{to}")
    kinds = getattr(module, "KINDS", ())
    if kind is not None and kind not in kinds:
        raise ConfigError(
            f"{to} has no kind {kind!r}{nearest(kind, kinds)}; it has {', '.join(kinds) or 'none'}"
        )
    path = Path(target)
    if path.exists() or path.is_symlink():
        raise InputError(f"{path} is there already and stays as it is; give a new path, or delete it")
    opened = open_source(source)
    module.write(path, opened, *([kind] if kind else []))
    return opened


def parameter_shapes(config: GPT2Config) -> dict[str, Shape]:
    """Name and shape of each weight of a network, in the order of its `state_dict()`.

    `ConfigError` for more than `MOST_LAYERS`: a damaged file must not fill the memory with names.
    """
    if config.n_layer > MOST_LAYERS:
        raise ConfigError(f"n_layer {config.n_layer:,} is more than any model has; is the file damaged?")
    C, V, T = config.n_embd, config.vocab_size, config.n_ctx
    shapes: dict[str, Shape] = {"wte.weight": (V, C), "wpe.weight": (T, C)}
    for i in range(config.n_layer):
        for part, shape in (
            ("ln_1", (C,)),
            ("attn.c_attn", (3 * C, C)),
            ("attn.c_proj", (C, C)),
            ("ln_2", (C,)),
            ("mlp.c_fc", (4 * C, C)),
            ("mlp.c_proj", (C, 4 * C)),
        ):
            shapes[f"h.{i}.{part}.weight"] = shape
            shapes[f"h.{i}.{part}.bias"] = shape[:1]
    return shapes | {"ln_f.weight": (C,), "ln_f.bias": (C,)}


def check_shapes(path: Path, found: Mapping[str, Shape], wanted: Mapping[str, Shape]) -> None:
    """`FormatError` unless a file has exactly the tensors wanted, by the file's own names."""
    for problem, names in (
        ("lacks", wanted.keys() - found.keys()),
        ("has the unknown", found.keys() - wanted.keys()),
    ):
        if names:
            raise FormatError(f"{path} {problem} tensor {min(names)[:80]!r} ({len(names)} in all)")
    for name, shape in wanted.items():
        if tuple(found[name]) != shape:
            raise FormatError(
                f"{path}: tensor {name!r} has the shape {list(found[name])}, "
                f"but a GPT-2 of its size has {list(shape)} there"
            )


def finite(tensor: Tensor, name: str, path: Path) -> Tensor:
    """The tensor itself, if all its values are finite numbers; reads it without a copy."""
    import torch

    if tensor.numel() and not all(bool(end.isfinite()) for end in torch.aminmax(tensor)):
        raise FormatError(f"{path}: tensor {name!r} holds values that are not numbers; get or make it anew")
    return tensor


def check_epsilon(source: Source, to: str) -> None:
    """`FormatError` when a format cannot say the layer-norm epsilon that a model has: its code has 1e-5."""
    if not math.isclose(source.config.layer_norm_epsilon, 1e-5, rel_tol=1e-6):
        raise FormatError(
            f"{source.path} has layer-norm epsilon {source.config.layer_norm_epsilon:g}, and {to} knows only 1e-5; "
            "take huggingface or gguf, which say it"
        )


def tied(embedding: Tensor, head: Tensor, path: Path) -> Tensor:
    """The token embedding, if a head that is stored beside it is the same matrix to the bit."""
    import torch

    if embedding.dtype != head.dtype or not torch.equal(embedding, head):
        raise FormatError(
            f"{path} has a head that is not its token embedding; GPT-2 has one matrix for both, so this is "
            "another network"
        )
    return embedding


def float32(tensor: Tensor) -> npt.NDArray[np.float32]:
    """A tensor's values as float32, in order, ready to be written; copied only if it must be."""
    import torch

    return tensor.detach().to("cpu", torch.float32).contiguous().numpy()


def vocabulary_of(folder: Path, config: GPT2Config) -> Tokenizer:
    """The vocabulary in a model's folder; GPT-2's own when there is none and the model has 50,257 tokens."""
    if any((folder / name).exists() for name in ("encoder.json", "tokenizer.json", "vocab.json")):
        tokenizer = Tokenizer.load(folder)
    else:
        tokenizer = Tokenizer.gpt2()
    if tokenizer.n_vocab != config.vocab_size:
        raise FormatError(
            f"the model in {folder} has {config.vocab_size:,} tokens, but its vocabulary has {tokenizer.n_vocab:,}: "
            "put the encoder.json and vocab.bpe that it was trained with beside it"
        )
    return tokenizer


def content(path: Path) -> str:
    """What an unknown path is, in words."""
    if path.is_dir() and (path / "config.json").exists():
        read_json(path / "config.json")  # whose own sentence is better when it is damaged
        return "its config.json describes none"
    if path.is_dir():
        names = sorted(p.name for p in path.iterdir())
        others = f"only {', '.join(names[:4])}{' ...' * (len(names) > 4)}" if names else "nor anything else"
        return f"there is no config.json or hparams.json in it, {others}"
    if any((path.parent / name).exists() for name in ("config.json", "hparams.json")):
        return "it is a file of a model's folder, so give that folder"
    with path.open("rb") as stream:
        start = stream.read(16)
    for beginning, what in BEGINNINGS.items():
        if start.startswith(beginning):
            return f"it is {what}"
    return f"it is a file that begins with {start!r}" if start else "it is an empty file"


BEGINNINGS = {
    (20240327).to_bytes(4, "little"): "llm.c's debug state, which has no weights",
    (20240328).to_bytes(4, "little"): "llm.c's tokenizer file, which has no weights",
    (20240520).to_bytes(4, "little"): "llm.c's token file, which has no weights",
    b"\x89HDF": "an HDF5 file, as Keras writes them",
    b"PK\x03\x04": "a zip archive",
    b"\x80": "a pickle, which could run code when it is opened",
}
"""How other files begin that people take for models."""
