"""What LoRA learned, as a folder that `peft` reads and writes.

    adapter_model.safetensors    A and B of each matrix, by `peft`'s names, float32
    adapter_config.json          rank, alpha and which matrices; GPT-2's are [in, out] there (`fan_in_fan_out`)
    card.json                    how it was made, and the checksum of the weights that it belongs to

It is a few megabytes beside a model of hundreds; with another model of the same shape it would work without a word
and talk nonsense, hence the checksum. While adapters are trained such a folder is the checkpoint. Adapters of
`peft` that are more than A and B (DoRA, ranks of their own for some layers, trained biases) are refused by name.

    gpt2 finetune text MODEL my_texts/ --out tuned --lora        then  tuned/adapter  is one
    gpt2 finetune merge MODEL tuned/adapter --out merged
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from gpt2.errors import ConfigError, FormatError, InputError
from gpt2.finetuning.lora import PREFIX, TARGETS, LoraConfig, adapt, adapted, fuse, merged, parameters
from gpt2.finetuning.methods import Gentle, Methods
from gpt2.model.checkpoint import check_tensors, opened, read_card
from gpt2.model.config import GPT2Config
from gpt2.model.formats import finite, parameter_shapes
from gpt2.model.formats.safetensors_file import write_safetensors
from gpt2.model.transformer import GPT2
from gpt2.tokens.bpe import Tokenizer
from gpt2.training.beginning import weights_digest
from gpt2.workspace import Json, atomic_folder, read_json, write_json

WEIGHTS, CONFIG, CARD = "adapter_model.safetensors", "adapter_config.json", "card.json"


def save_adapter(net: GPT2, folder: str | Path, base: str | Path = "", card: Json | None = None) -> None:
    """Write the adapter of a network as a folder that `peft` reads; `base` is the model it stands beside."""
    layers = adapted(net)
    if not layers or any(layer.frozen is not None for layer in layers.values()):
        raise InputError("there is no adapter to save, or it is merged; unmerge first")
    first = next(iter(layers.values()))
    rank = first.lora_A.shape[0]
    targets = tuple(t for t in TARGETS if any(name.endswith(f".{t}") for name in layers))
    with atomic_folder(Path(folder), CARD) as draft:
        config = LoraConfig(rank, first.scale * rank, targets)
        write_adapter(draft, config, parameters(net), base, {"base": weights_of(net), **(card or {})})


def write_adapter(
    folder: Path, config: LoraConfig, tensors: Mapping[str, Tensor], base: str | Path, card: Json
) -> None:
    """Write the files of an adapter into an existing folder."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    write_safetensors(folder / WEIGHTS, shapes, tensors.__getitem__, {"format": "pt"})
    described = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base),
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": 0.0,
        "target_modules": list(config.targets),
        "fan_in_fan_out": True,
        "bias": "none",
        "inference_mode": True,
    }
    write_json(folder / CONFIG, described)
    write_json(folder / CARD, card)


def weights_of(net: GPT2) -> str:
    """The checksum of a network's own weights, without its adapters."""
    with torch.device("meta"):
        bare = GPT2(net.config)
    own = dict(net.named_parameters())
    bare.load_state_dict({name: own[name].detach() for name in bare.state_dict()}, assign=True)
    return weights_digest(bare)


def load_adapter(net: GPT2, folder: str | Path, merge: bool = False) -> GPT2:
    """Put an adapter that we or `peft` wrote beside a network, in place; with `merge`, into its weights.

    Raises `InputError` where there is none, `FormatError` when it is damaged, of another shape, of a kind that is
    more than A and B, or when its card says that it belongs to other weights.
    """
    folder = Path(folder)
    if not (folder / CONFIG).exists():
        raise InputError(f"there is no adapter in {folder}; it would have a file {CONFIG}")
    config = read_config(folder / CONFIG)
    base = read_card(folder / CARD).get("base")
    if base is not None and base != weights_of(net):
        raise FormatError(
            f"the adapter in {folder} belongs to other weights than this model's; give its own model"
        )
    path = folder / WEIGHTS
    with opened(path) as file:
        found = set(file.keys())
        targets = tuple(t for t in TARGETS if any(f".{t}.lora_A" in name for name in found))
        if not targets:
            raise FormatError(f"{path} has no adapter of a GPT-2; give another")
        config = dataclasses.replace(config, targets=targets)
        check_tensors(file, path, shapes_of(net.config, config))
        values = {name: finite(file.get_tensor(name), name, path) for name in found}
    for name, own in parameters(adapt(net, config)).items():
        own.data.copy_(values[name])
    return fuse(net) if merge else net


def shapes_of(shape: GPT2Config, config: LoraConfig) -> dict[str, tuple[int, ...]]:
    """The tensors of an adapter, by the names that `peft` gives them."""
    sizes = {
        name.split(".", 2)[-1].removesuffix(".weight"): size
        for name, size in parameter_shapes(dataclasses.replace(shape, n_layer=1)).items()
    }
    found: dict[str, tuple[int, ...]] = {}
    for i in range(shape.n_layer):
        for target in config.targets:
            out, into = sizes[target]
            found[f"{PREFIX}h.{i}.{target}.lora_A.weight"] = (config.rank, into)
            found[f"{PREFIX}h.{i}.{target}.lora_B.weight"] = (out, config.rank)
    return found


MORE = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save", "layers_to_transform")
"""What `peft` can do besides A and B, by its names."""


def read_config(path: Path) -> LoraConfig:
    """Rank and alpha of an adapter; `FormatError` for another kind, or one that is more than A and B."""
    values = read_json(path)
    if not isinstance(values, dict) or values.get("peft_type") != "LORA":
        raise FormatError(f"{path} does not describe a LoRA adapter; give another folder")
    more = [name for name in MORE if values.get(name)]
    if values.get("bias", "none") != "none":
        more.append("bias")
    if more:
        raise FormatError(
            f"{path} asks for {', '.join(more)}, which is not plain LoRA; merge it with `peft` first"
        )
    rank, alpha = values.get("r"), values.get("lora_alpha")
    if type(rank) is not int or not isinstance(alpha, int | float):
        raise FormatError(f"{path} lacks the numbers r and lora_alpha; restore or make it anew")
    try:
        return LoraConfig(rank, float(alpha))
    except ConfigError as error:
        raise FormatError(f"{path}: {error}") from None


class Lora(Gentle):
    """Adapters learn in place of the weights; with it go rates of their own for layers, and unfreezing."""

    file = WEIGHTS

    def __init__(self, lora: LoraConfig, methods: Methods, base: str | Path = "", seed: int = 0) -> None:
        super().__init__(methods)
        self.lora, self.base, self.seed = lora, base, seed
        self.settings |= {"lora": {**vars(lora), "targets": list(lora.targets)}}
        self.card: Json = {}

    def prepare(self, net: GPT2) -> None:
        """Put fresh adapters beside the network's matrices."""
        self.card = {"base": weights_of(net), "model": str(self.base)}
        adapt(net, self.lora, self.seed)
        super().prepare(net)

    def kept(self, net: GPT2) -> dict[str, Tensor]:
        """A and B."""
        return parameters(net)

    def merged(self, net: GPT2) -> contextlib.AbstractContextManager[object]:
        """The tuned weights, for a while."""
        return merged(net)

    def finish(self, net: GPT2) -> GPT2:
        """The tuned weights, for good."""
        return fuse(net)

    def write(
        self,
        folder: Path,
        config: GPT2Config,  # noqa: ARG002
        kept: Mapping[str, Tensor],
        tokenizer: Tokenizer,  # noqa: ARG002
        card: Json,
    ) -> None:
        """An adapter that `peft` reads."""
        write_adapter(folder, self.lora, kept, self.base, {**card, **self.card})
