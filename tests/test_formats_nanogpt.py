"""nanoGPT's checkpoints: all it ever saves comes back, ours fit its network and its optimizer."""

from __future__ import annotations

import functools
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import sources
import torch
from mutations import survived
from sources import SMALL, assert_same, in_memory
from torch import Tensor, nn

from gpt2.errors import InputError
from gpt2.model.formats import Source, nanogpt, parameter_shapes
from gpt2.tokens.bpe import Tokenizer

TINY = {"n_layer": 2, "n_head": 2, "n_embd": 4, "n_ctx": 8}


@pytest.fixture(scope="module")
def source() -> Source:
    return in_memory(Tokenizer.gpt2(), **TINY)


def checkpoint(source: Source, bias: bool = True, rows: int = 50257, prefix: str = "") -> dict[str, Any]:
    """What nanoGPT's train.py saves for a source's weights."""
    model: dict[str, Tensor] = {}
    for name in parameter_shapes(source.config):
        if bias or not name.endswith(".bias"):
            model[f"{prefix}transformer.{name}"] = source.tensor(name).clone()
    wte = torch.cat([source.tensor("wte.weight"), torch.ones(rows - 50257, source.config.n_embd)])
    model[f"{prefix}transformer.wte.weight"] = model[f"{prefix}lm_head.weight"] = wte
    c = source.config
    args = {"n_layer": c.n_layer, "n_head": c.n_head, "n_embd": c.n_embd, "block_size": c.n_ctx}
    return {
        "model": model,
        "optimizer": {
            "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}},
            "param_groups": [],
        },
        "model_args": args | {"bias": bias, "vocab_size": rows, "dropout": 0.0},
        "iter_num": 5,
        "best_val_loss": torch.tensor(3.25),
        "config": {"dataset": "openwebtext", "compile": True, "learning_rate": 6e-4},
    }


class Layer(nn.Module):
    """A block with nanoGPT's names."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.ModuleDict({"c_attn": nn.Linear(width, 3 * width), "c_proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})


class NanoGPT(nn.Module):
    """A network with nanoGPT's names and its tied head."""

    def __init__(self, vocab_size: int, block_size: int, n_layer: int, n_embd: int, **_: Any) -> None:
        super().__init__()
        parts = {"wte": nn.Embedding(vocab_size, n_embd), "wpe": nn.Embedding(block_size, n_embd)}
        layers = nn.ModuleList(Layer(n_embd) for _ in range(n_layer))
        self.transformer = nn.ModuleDict(parts | {"h": layers, "ln_f": nn.LayerNorm(n_embd)})
        self.lm_head = nn.Linear(n_embd, vocab_size, bias=False)
        self.transformer["wte"].weight = self.lm_head.weight


refused = functools.partial(sources.refused, nanogpt)


@pytest.mark.parametrize("prefix", ["", "_orig_mod."], ids=["plain", "compiled"])
@pytest.mark.parametrize("rows", [50257, 50304])
def test_a_checkpoint_comes_back_to_the_bit_without_padding(
    tmp_path: Path, source: Source, rows: int, prefix: str
) -> None:
    torch.save(checkpoint(source, rows=rows, prefix=prefix), tmp_path / "ckpt.pt")
    assert nanogpt.recognise(tmp_path / "ckpt.pt")
    assert_same(nanogpt.open_source(tmp_path / "ckpt.pt"), source)


def test_missing_biases_are_zeros_where_the_checkpoint_says_so(tmp_path: Path, source: Source) -> None:
    saved = checkpoint(source, bias=False)
    torch.save(saved, tmp_path / "ckpt.pt")
    found = nanogpt.open_source(tmp_path / "ckpt.pt")
    for name, shape in parameter_shapes(source.config).items():
        wanted = torch.zeros(shape) if name.endswith(".bias") else source.tensor(name)
        assert torch.equal(found.tensor(name), wanted), name
    saved["model_args"]["bias"] = True
    torch.save(saved, tmp_path / "ckpt.pt")
    refused(tmp_path / "ckpt.pt", "lacks tensor 'h.0.attn.c_attn.bias'")


def test_masks_of_old_versions_are_passed_over(tmp_path: Path, source: Source) -> None:
    saved = checkpoint(source)
    saved["model"]["transformer.h.0.attn.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    torch.save(saved, tmp_path / "ckpt.pt")
    assert_same(nanogpt.open_source(tmp_path / "ckpt.pt"), source)


def test_ours_fits_nanogpts_network_and_its_optimizer(tmp_path: Path, source: Source) -> None:
    nanogpt.write(tmp_path / "ckpt.pt", source)
    assert_same(nanogpt.open_source(tmp_path / "ckpt.pt"), source)
    loaded = torch.load(tmp_path / "ckpt.pt", weights_only=True)
    assert loaded.keys() == checkpoint(source).keys()
    assert loaded["model_args"] == checkpoint(source)["model_args"]
    assert loaded["model"].keys() == checkpoint(source)["model"].keys()
    net = NanoGPT(**loaded["model_args"])
    net.load_state_dict(loaded["model"])  # strict
    parameters = list(dict(net.named_parameters()).values())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.0)
    optimizer.load_state_dict(loaded["optimizer"])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]


def test_ours_is_a_sound_archive_laid_out_as_torch_does(tmp_path: Path, source: Source) -> None:
    nanogpt.write(tmp_path / "ours.pt", source)
    torch.save(checkpoint(source), tmp_path / "torchs.pt")
    ours, torchs = (zipfile.ZipFile(tmp_path / name) for name in ("ours.pt", "torchs.pt"))
    with ours, torchs:
        assert ours.testzip() is None
        names = {name.partition("/")[2] for name in torchs.namelist()} - {".data/serialization_id"}
        assert {name.partition("/")[2] for name in ours.namelist()} >= {n for n in names if "data/" not in n}
        for info in ours.infolist():
            start = info.header_offset + 30 + len(info.filename) + len(info.extra)
            assert start % 64 == 0
    mapped = torch.load(tmp_path / "ours.pt", weights_only=True, mmap=True)["model"]
    head, wte = mapped["lm_head.weight"], mapped["transformer.wte.weight"]
    assert head.data_ptr() == wte.data_ptr(), "the head is stored once"


@pytest.mark.parametrize("rows", [65, 50258, 50432])
def test_a_vocabulary_that_is_not_gpt2s_is_refused(tmp_path: Path, source: Source, rows: int) -> None:
    saved = checkpoint(source)
    saved["model_args"]["vocab_size"] = rows
    torch.save(saved, tmp_path / "ckpt.pt")
    refused(tmp_path / "ckpt.pt", f"a vocabulary of {rows:,} tokens", "does not carry")


def test_what_nanogpt_has_no_place_for_is_refused_at_writing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no place for a vocabulary"):
        nanogpt.write(tmp_path / "ckpt.pt", in_memory(SMALL))
    source = in_memory(Tokenizer.gpt2(), **TINY, layer_norm_epsilon=1e-6)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="layer-norm epsilon"):
        nanogpt.write(tmp_path / "ckpt.pt", source)
    assert not list(tmp_path.iterdir())


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def test_a_hostile_checkpoint_is_refused_and_nothing_is_run(tmp_path: Path, source: Source) -> None:
    saved = checkpoint(source) | {"config": Hostile(f"touch {tmp_path / 'ran'}")}
    torch.save(saved, tmp_path / "ckpt.pt")
    assert nanogpt.recognise(tmp_path / "ckpt.pt")
    refused(tmp_path / "ckpt.pt", "system to be run when it is opened", "nothing was run")
    assert not (tmp_path / "ran").exists()


def stretched(tensor: Tensor) -> Tensor:
    """A tensor of the same shape over one number only."""
    return tensor.new_ones(1).expand(tensor.shape)


def test_tensors_that_are_none_are_refused(tmp_path: Path, source: Source) -> None:
    for name, value, words in (
        ("transformer.ln_f.bias", torch.zeros(4, dtype=torch.int64), "is no tensor of numbers"),
        ("transformer.ln_f.bias", torch.zeros(4, device="meta"), "is no tensor of numbers"),
        ("transformer.ln_f.bias", torch.zeros(4).to_sparse(), "is no tensor of numbers"),
        ("transformer.ln_f.bias", torch.zeros(1).expand(2**40), "is no tensor of numbers"),
        ("transformer.ln_f.bias", torch.zeros(5), "has the shape [5]"),
        (
            "transformer.ln_f.bias",
            torch.full((4,), torch.nan),
            "'ln_f.bias' holds values that are not numbers",
        ),
        ("lm_head.weight", torch.zeros(50257, 4), "a head that is not its token embedding"),
        ("transformer.h.2.ln_1.bias", torch.zeros(4), "unknown tensor 'h.2.ln_1.bias'"),
        (7, torch.zeros(4), "not weights by name"),
    ):
        saved = checkpoint(source)
        saved["model"][name] = value
        torch.save(saved, tmp_path / "ckpt.pt")
        refused(tmp_path / "ckpt.pt", words)


def test_model_args_that_are_none_are_refused(tmp_path: Path, source: Source) -> None:
    for args, words in (
        ([1], "model_args are no dictionary"),
        ({"n_layer": 2**31 - 1}, "more than any model has"),
        ({"n_layer": torch.ones(2)}, "n_layer must be a whole number"),
        ({"n_head": 3}, "cannot be split evenly"),
        ({"block_size": None}, "n_ctx must be a whole number"),
    ):
        saved = checkpoint(source)
        saved["model_args"] = saved["model_args"] | args if isinstance(args, dict) else args
        torch.save(saved, tmp_path / "ckpt.pt")
        with pytest.raises(InputError) as caught:
            nanogpt.open_source(tmp_path / "ckpt.pt")
        assert words in str(caught.value)


def test_only_checkpoints_are_recognised(tmp_path: Path, source: Source) -> None:
    torch.save(checkpoint(source)["model"], tmp_path / "weights.pt")
    (tmp_path / "text").write_text("model_args block_size")
    (tmp_path / "empty").touch()
    for name in ("weights.pt", "text", "empty", ".", "absent"):
        assert not nanogpt.recognise(tmp_path / name)


def test_damaged_files_are_refused_or_sound(tmp_path: Path) -> None:
    path = tmp_path / "ckpt.pt"
    nanogpt.write(path, in_memory(Tokenizer.gpt2(), n_layer=1, n_head=1, n_embd=1, n_ctx=8))
    refused_files, opened = survived("nanogpt", path, path, 500)
    assert refused_files > opened > 0
