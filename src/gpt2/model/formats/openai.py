"""OpenAI's checkpoint folder, as `gpt-2/models/124M` of its release has it.

    hparams.json               n_vocab, n_ctx, n_embd, n_head, n_layer
    encoder.json, vocab.bpe    the vocabulary
    checkpoint                 the name of the bundle, here model.ckpt
    model.ckpt.index, model.ckpt.data-00000-of-00001    the weights: a TensorFlow bundle

Matrices are [1, in, out]: OpenAI's code makes them width-1 convolutions. Folders of gpt-2-simple and of the
nshepperd fork are the same with another name of the bundle (`model-1000`), which `checkpoint` tells.

A release also has `model.ckpt.meta`, the graph that trained it. It is neither read nor written: OpenAI's own
`src/` builds its graph anew and takes the numbers by name, as `tf.train.load_checkpoint` does, and a graph
made up here would describe no training that took place. Rejected: reading through TensorFlow, as every other
converter does, which installs 500 MB and fails on new Pythons.

    gpt2 convert reproduce like-openai --to openai
"""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from gpt2.errors import ConfigError, FormatError, InputError
from gpt2.model.config import GPT2Config
from gpt2.model.formats import (
    Shape,
    Source,
    check_epsilon,
    check_shapes,
    finite,
    parameter_shapes,
    vocabulary_of,
)
from gpt2.model.formats.tensor_bundle import MAGIC, Bundle, write_bundle
from gpt2.tokens.vocabulary import encoder_json, vocab_bpe
from gpt2.workspace import atomic_folder, read_json, write_json

HPARAMS = {
    "n_vocab": "vocab_size",
    "n_ctx": "n_ctx",
    "n_embd": "n_embd",
    "n_head": "n_head",
    "n_layer": "n_layer",
}
"""OpenAI's names in hparams.json, and ours."""


def recognise(path: Path) -> bool:
    """Whether a folder has a TensorFlow bundle, or the hparams.json that belongs to one."""
    try:
        return path.is_dir() and (
            (path / "hparams.json").is_file() or any(is_index(file) for file in path.glob("*.index"))
        )
    except OSError:
        return False


def is_index(path: Path) -> bool:
    """Whether a file ends as the index of a bundle does."""
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - 8))
        return stream.read(8) == MAGIC.to_bytes(8, "little")


def open_source(path: Path) -> Source:
    """The model in a folder; names, shapes and sizes are checked, weights not read.

    Raises `FormatError` when it is damaged or of another network, `InputError` when a file is missing.
    """
    if not (path / "hparams.json").is_file():
        raise FormatError(
            f"{path} is a TensorFlow checkpoint without hparams.json, so not a GPT-2 of OpenAI's release "
            f"(it holds {', '.join(sorted(Bundle(prefix(path)).entries)[:2])} ...); give a folder of one"
        )
    config = read_hparams(path / "hparams.json")
    bundle = Bundle(prefix(path))
    places = {name: stored(name, shape) for name, shape in parameter_shapes(config).items()}
    found = {name: bundle.entries[name].shape for name in bundle.entries if name.startswith("model/")}
    check_shapes(bundle.index, found, dict(places.values()))
    for name, _ in places.values():
        bundle.check(name)

    def tensor(name: str) -> Tensor:
        values = finite(bundle.tensor(places[name][0]), name, path)
        return values[0].t() if values.dim() == 3 else values

    return Source("openai", path, config, vocabulary_of(path, config), tensor)


def write(path: Path, source: Source) -> None:
    """Write OpenAI's folder, whole or not at all; `FormatError` for what its code cannot compute."""
    check_epsilon(source, "openai")
    places = {name: stored(name, shape) for name, shape in parameter_shapes(source.config).items()}
    ours = {theirs: name for name, (theirs, _) in places.items()}

    def tensor(theirs: str) -> Tensor:
        shape, values = places[ours[theirs]][1], source.tensor(ours[theirs])
        return values.t()[None] if len(shape) == 3 else values

    with atomic_folder(path, "hparams.json") as folder:
        write_json(folder / "hparams.json", {n: getattr(source.config, our) for n, our in HPARAMS.items()})
        (folder / "encoder.json").write_text(encoder_json(source.tokenizer), encoding="utf-8")
        (folder / "vocab.bpe").write_text(vocab_bpe(source.tokenizer), encoding="utf-8")
        (folder / "checkpoint").write_text(
            'model_checkpoint_path: "model.ckpt"\nall_model_checkpoint_paths: "model.ckpt"\n'
        )
        write_bundle(folder / "model.ckpt", dict(places.values()), tensor)


def stored(name: str, shape: Shape) -> tuple[str, Shape]:
    """OpenAI's name and shape of a weight: h.0.attn.c_attn.weight is model/h0/attn/c_attn/w [1, C, 3C]."""
    place, kind = re.sub(r"^h\.", "h", name).replace(".", "/").rsplit("/", 1)
    if place in ("wte", "wpe"):
        return f"model/{place}", shape
    if len(shape) == 2:
        return f"model/{place}/w", (1, *reversed(shape))
    return f"model/{place}/{'g' if kind == 'weight' else 'b'}", shape


def read_hparams(path: Path) -> GPT2Config:
    """The network's shape from hparams.json; `FormatError` when it describes none."""
    values = read_json(path)
    if not isinstance(values, dict) or not values.keys() >= HPARAMS.keys():
        raise FormatError(f"{path} does not describe a GPT-2: it needs {', '.join(HPARAMS)}")
    try:
        return GPT2Config(**{ours: values[name] for name, ours in HPARAMS.items()})
    except ConfigError as error:
        raise FormatError(f"{path}: {error}") from None


def prefix(folder: Path) -> Path:
    """The name that the files of the bundle share: the one in `checkpoint`, or that of the only index."""
    try:
        said = (folder / "checkpoint").read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        said = ""
    if match := re.match(r'model_checkpoint_path: *"(?:[^"]*/)?([^"/\0]{1,200})"', said):
        return folder / match[1]
    there = sorted(folder.glob("*.index"))
    if len(there) != 1:
        raise InputError(
            f"{folder} has {len(there)} files ending in .index, and no file named checkpoint that chooses one; "
            "get the files of the model anew"
        )
    return there[0].with_suffix("")
