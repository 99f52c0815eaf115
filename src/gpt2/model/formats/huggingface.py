"""Hugging Face's folder of a GPT-2, as `save_pretrained` of transformers writes it.

    config.json, generation_config.json
    model.safetensors                        or in shards with model.safetensors.index.json,
                                             or pytorch_model.bin, or its shards with their index
    tokenizer.json, tokenizer_config.json    or vocab.json and merges.txt

Weights may be float32, float16 or bfloat16, their names bare (`wte.weight`, as in OpenAI's upload) or under
`transformer.`; masks that old versions saved among them are passed over. Four matrices are stored [in, out] and
turned. A head of its own must equal the token embedding, for GPT-2 has but one. Old `.bin` files are read by
`torch_file`, which runs nothing.

A vocabulary may have pad and unk tokens added, which no text is ever encoded to: they are left out. Rows of the
token embedding beyond the vocabulary are left out too, up to `PADDING` of them: they are those tokens', or fill
the matrix up to a round number. Rejected: leaving out any added token; a model that was trained on
`<|user|>` would silently never see it again.

What is written loads in transformers, vLLM and llama.cpp's converter (which asks for `n_ctx`), in float32.

    python -c "import gpt2; gpt2.convert('reproduce', 'for-transformers', to='huggingface')"
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gpt2.errors import ConfigError, FormatError, InputError
from gpt2.model.config import GPT2Config
from gpt2.model.formats import Shape, Source, check_shapes, finite, parameter_shapes, tied, torch_file
from gpt2.model.formats.safetensors_file import write_safetensors
from gpt2.tokens.bpe import END_OF_TEXT, Tokenizer
from gpt2.tokens.vocabulary import encoder_json, from_definition, tokenizer_json, vocab_bpe
from gpt2.workspace import Json, atomic_folder, read_json, write_json

TURNED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
"""Ends of the names of matrices that are stored [in, out]."""
MASKS = (".attn.bias", ".attn.masked_bias")
"""Ends of the names of buffers that are no weights."""
PREFIX = "transformer."
PADDING = 1024
"""Rows that a vocabulary may be padded by: trainers round up to multiples of 64 to 1,024."""
ROUND = 8
"""Without a saved vocabulary, spare rows may be tokens that were added, unless they end at a multiple of this."""
NUMBERS = {"F64", "F32", "BF16", "F16"}
ACTIVATIONS = ("gelu_new", "gelu_pytorch_tanh")
"""The tanh-approximated GELU, by the names transformers has for it."""
SETTINGS: dict[str, Any] = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "add_cross_attention": False,
}
"""Settings of other networks under GPT-2's name, with the value that GPT-2 has."""


@dataclass(frozen=True)
class Stored:
    """A tensor in a file, not read yet."""

    path: Path
    shape: Shape
    read: Callable[[], Tensor]


def recognise(path: Path) -> bool:
    """Whether a folder's `config.json` is one of transformers', of whatever model."""
    try:
        config = read_json(path / "config.json")
    except InputError:
        return False
    return (
        isinstance(config, dict)
        and "format" not in config
        and bool({"model_type", "architectures"} & set(config))
    )


def open_source(path: Path) -> Source:
    """Open a folder; names and shapes are held against `config.json` before anything is read.

    Raises `FormatError` for another kind of model, a damaged file, a vocabulary that does not fit.
    """
    padded = read_config(path / "config.json")
    tokenizer = read_tokenizer(path, padded.vocab_size)
    stored = read_weights(path)
    wanted = {name: turned(name, shape) for name, shape in parameter_shapes(padded).items()}
    head = stored.pop("lm_head.weight", None)
    check_shapes(path, {name: part.shape for name, part in stored.items()}, wanted)

    def tensor(name: str) -> Tensor:
        values = finite(stored[name].read(), name, stored[name].path)
        if name == "wte.weight":
            values = tied(values, head.read(), path) if head else values
            values = values[: tokenizer.n_vocab]
        if values.dtype == torch.float64:
            values = values.float()
        return values.t() if name.endswith(TURNED) else values

    return Source("huggingface", path, replace(padded, vocab_size=tokenizer.n_vocab), tokenizer, tensor)


def turned(name: str, shape: Shape) -> Shape:
    """The shape a weight has in these files."""
    return shape[::-1] if name.endswith(TURNED) else shape


def read_config(path: Path) -> GPT2Config:
    """The shape of the network, `vocab_size` as padded; `FormatError` unless it is GPT-2's own network."""
    config, folder = read_json(path), path.parent
    if not isinstance(config, dict):
        raise FormatError(f"{path} is no configuration of a model; get it anew")
    classes, kind = config.get("architectures"), config.get("model_type")
    named = ", ".join(map(str, classes)) if isinstance(classes, list) else ""
    if kind != "gpt2" and not (kind is None and named.startswith("GPT2")):
        raise FormatError(f"{folder} is a {named or 'model':.60} (model_type {kind!s:.40}), not a GPT-2")
    size, inner = config.get("n_embd", GPT2Config.n_embd), config.get("n_inner")
    activation = config.get("activation_function", ACTIVATIONS[0])
    strange = [
        f"{name} = {config[name]!r:.40}" for name, own in SETTINGS.items() if config.get(name, own) != own
    ]
    if activation not in ACTIVATIONS:
        strange.append(f"activation_function = {activation!r:.40} in the place of {ACTIVATIONS[0]!r}")
    if inner is not None and (type(size) is not int or inner != 4 * size):
        strange.append(f"n_inner = {inner!r:.40} in the place of 4 x n_embd")
    if strange:
        raise FormatError(f"{folder} is another network than GPT-2: it has {', '.join(strange)}")
    fields = {
        name: config.get(theirs, getattr(GPT2Config, name))
        for name, theirs in (
            *((name, name) for name in ("n_layer", "n_head", "n_embd", "vocab_size", "layer_norm_epsilon")),
            ("n_ctx", "n_positions" if "n_positions" in config else "n_ctx"),
        )
    }
    try:
        return GPT2Config(**fields)
    except ConfigError as error:
        raise FormatError(f"{path}: {error}") from None


def read_weights(folder: Path) -> dict[str, Stored]:
    """All tensors of a folder by their bare names, none of them read; `FormatError` for damaged files."""
    for name, opened in (("model.safetensors", safetensors_weights), ("pytorch_model.bin", pickled_weights)):
        index = folder / f"{name}.index.json"
        files = [folder / name] if (folder / name).exists() else shards(index) if index.exists() else []
        found: dict[str, Stored] = {}
        for file in files:
            for full, part in opened(file).items():
                bare = full.removeprefix(PREFIX)
                if bare in found:
                    raise FormatError(f"{file}: tensor {bare[:80]!r} is there twice; get the model anew")
                found[bare] = part
        if files:
            return found
    raise InputError(f"there are no weights in {folder}: it needs model.safetensors or pytorch_model.bin")


def shards(index: Path) -> list[Path]:
    """The files that an index names, all in its own folder."""
    try:
        names = sorted(set(read_json(index)["weight_map"].values()))
        if not names or any(Path(name).name != name for name in names):
            raise ValueError
    except (KeyError, TypeError, AttributeError, ValueError):
        raise FormatError(f"{index} is no index of weight files in its folder; get the model anew") from None
    for name in names:
        if not (index.parent / name).is_file():
            raise FormatError(
                f"there is no file {index.parent / name}, but the model's index names it; get it anew"
            )
    return [index.parent / name for name in names]


def safetensors_weights(path: Path) -> dict[str, Stored]:
    """The tensors of a safetensors file, which stays mapped."""
    try:
        file: Any = safe_open(path, "pt")
        slices = {name: file.get_slice(name) for name in file.keys() if not name.endswith(MASKS)}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise FormatError(f"{path} is damaged or no safetensors file ({error}); get it anew") from None
    for name, part in slices.items():
        if part.get_dtype() not in NUMBERS:
            raise FormatError(
                f"{path}: tensor {name[:80]!r} is {part.get_dtype()}, not floating-point numbers"
            )
    return {
        name: Stored(path, tuple(part.get_shape()), partial(file.get_tensor, name))
        for name, part in slices.items()
    }


def pickled_weights(path: Path) -> dict[str, Stored]:
    """The tensors of a file of `torch.save`, which stays mapped."""
    state = torch_file.weights(torch_file.read(path), path, MASKS)
    return {name: Stored(path, tuple(t.shape), partial(Tensor.detach, t)) for name, t in state.items()}


def read_tokenizer(folder: Path, rows: int) -> Tokenizer:
    """The vocabulary of a model whose token embedding has so many rows; GPT-2's own where none is saved."""
    whole = folder / "tokenizer.json"
    saved = any((folder / name).exists() for name in ("tokenizer.json", "vocab.json", "encoder.json"))
    try:
        if whole.exists():
            definition = read_json(whole)
            added = {token["content"]: token for token in definition.get("added_tokens") or []}
            own = [added[END_OF_TEXT]] if END_OF_TEXT in added else []
            tokenizer = from_definition(definition | {"added_tokens": own}, whole)
        else:
            list_of_added = folder / "added_tokens.json"
            added = dict(read_json(list_of_added)) if list_of_added.exists() else {}
            tokenizer = Tokenizer.load(folder) if saved else Tokenizer.gpt2()
        loud = sorted(added.keys() - silent_tokens(folder) - {END_OF_TEXT})
    except (AttributeError, TypeError, KeyError, ValueError):
        raise FormatError(f"the tokenizer files in {folder} are damaged; get them anew") from None
    if loud:
        raise FormatError(
            f"the vocabulary in {folder} has the added token {loud[0]!r:.60} ({len(loud)} in all), which this "
            "tokenizer has no way to read; only pad and unk tokens can be left out"
        )
    spare = rows - tokenizer.n_vocab
    if not 0 <= spare < PADDING or (spare and rows % ROUND and not saved):
        raise FormatError(
            f"the model in {folder} has {rows:,} tokens, but its vocabulary {tokenizer.n_vocab:,}: "
            "put the tokenizer.json that it was trained with beside it"
        )
    return tokenizer


def silent_tokens(folder: Path) -> set[str]:
    """Tokens that are there to pad or to be unknown and for nothing else: a model never sees them in a text."""
    silent: set[str] = set()
    heard: set[str] = set()
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        roles = read_json(folder / name) if (folder / name).exists() else {}
        for role, token in roles.items():
            text = token.get("content") if isinstance(token, dict) else token
            if role.endswith("_token") and isinstance(text, str):
                (silent if role in ("pad_token", "unk_token") else heard).add(text)
    return silent - heard


def write(path: Path, source: Source) -> None:
    """Write a folder, whole or not at all."""
    shapes = {PREFIX + name: turned(name, shape) for name, shape in parameter_shapes(source.config).items()}

    def tensor(name: str) -> Tensor:
        values = source.tensor(name.removeprefix(PREFIX))
        return values.t() if name.endswith(TURNED) else values

    end, special = source.tokenizer.end_of_text, ("bos_token", "eos_token", "unk_token")
    with atomic_folder(path, "config.json") as draft:
        write_json(draft / "config.json", config_json(source.config, end))
        write_json(draft / "generation_config.json", {"bos_token_id": end, "eos_token_id": end})
        write_safetensors(draft / "model.safetensors", shapes, tensor, {"format": "pt"})
        for name, text in (
            ("vocab.json", encoder_json(source.tokenizer)),
            ("merges.txt", vocab_bpe(source.tokenizer)),
            ("tokenizer.json", tokenizer_json(source.tokenizer)),
        ):
            (draft / name).write_text(text, encoding="utf-8")
        write_json(draft / "special_tokens_map.json", dict.fromkeys(special, END_OF_TEXT))
        settings = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, "errors": "replace"}
        settings |= {"model_max_length": source.config.n_ctx}
        write_json(draft / "tokenizer_config.json", settings | dict.fromkeys(special, END_OF_TEXT))


def config_json(config: GPT2Config, end_of_text: int) -> Json:
    """The content of `config.json`, all fields that transformers writes for a GPT-2 and `n_ctx` for llama.cpp."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_embd": config.n_embd,
        "n_inner": None,
        "n_positions": config.n_ctx,
        "n_ctx": config.n_ctx,
        "vocab_size": config.vocab_size,
        "activation_function": ACTIVATIONS[0],
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "initializer_range": 0.02,
        "attn_pdrop": 0.1,
        "embd_pdrop": 0.1,
        "resid_pdrop": 0.1,
        **SETTINGS,
        "summary_type": "cls_index",
        "summary_use_proj": True,
        "summary_activation": None,
        "summary_proj_to_labels": True,
        "summary_first_dropout": 0.1,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "use_cache": True,
    }
