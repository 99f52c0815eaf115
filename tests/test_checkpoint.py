"""Models on disk: what was saved comes back, and what is damaged, foreign or hostile is one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from gpt2.errors import FormatError, InputError, WorkbenchError
from gpt2.model import checkpoint
from gpt2.model.checkpoint import Model, load
from gpt2.model.config import GPT2Config
from gpt2.model.transformer import GPT2
from gpt2.tokens.bpe import Tokenizer

CONFIG = GPT2Config(n_layer=2, n_head=2, n_embd=8, vocab_size=280, n_ctx=16)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(
        GPT2(CONFIG, seed=2).eval(),
        Tokenizer(Tokenizer.gpt2().pairs[:23]),
        {"steps": "3 of 3", "data": {"documents": 2}},
    )


@pytest.fixture
def folder(model: Model, tmp_path: Path) -> Path:
    model.save(tmp_path / "model")
    return tmp_path / "model"


def refuse(path: Path, kind: type[InputError] = FormatError) -> str:
    """The sentence with which a folder is refused."""
    with pytest.raises(kind) as caught:
        load(path)
    text = str(caught.value)
    assert str(path) in text and len(text) < 600 and "\n" not in text
    return text


def change(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_what_was_saved_comes_back(model: Model, folder: Path) -> None:
    back = load(folder)
    assert back.net.config == CONFIG and not back.net.training
    for (name, p), (other, q) in zip(model.net.named_parameters(), back.net.named_parameters(), strict=True):
        assert name == other and torch.equal(p, q) and q.requires_grad and q.dtype == torch.float32
    assert back.tokenizer.pairs == model.tokenizer.pairs
    assert back.card == model.card
    card = (folder / "README.md").read_text()
    assert f"{CONFIG.num_parameters():,} parameters" in card and "| steps | 3 of 3 |" in card


def test_the_file_does_not_change_when_the_loaded_model_does(folder: Path) -> None:
    before = (folder / "model.safetensors").read_bytes()
    with torch.no_grad():
        for p in load(folder).net.parameters():
            p.add_(1.0)
    assert (folder / "model.safetensors").read_bytes() == before


def test_loading_draws_no_random_numbers(folder: Path) -> None:
    torch.manual_seed(0)
    load(folder)
    drawn = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(3))


def test_a_model_is_found_in_a_run_and_where_it_was_set_aside(folder: Path, tmp_path: Path) -> None:
    for inner in ("checkpoint", "model"):
        run = tmp_path / f"run-{inner}"
        shutil.copytree(folder, run / inner)
        assert load(run).net.config == CONFIG
        (run / inner).rename(run / f".{inner}.old")  # a kill in the middle of replacing it
        assert load(run).net.config == CONFIG
    assert "there is no model at" in refuse(tmp_path / "nowhere", InputError)
    assert "is a file" in refuse(folder / "config.json", InputError)
    (tmp_path / "empty").mkdir()
    assert "there is no config.json" in refuse(tmp_path / "empty", InputError)


def test_only_a_model_is_replaced(model: Model, folder: Path, tmp_path: Path) -> None:
    model.save(folder)
    assert load(folder).net.config == CONFIG
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "config.json").write_text('{"model_type": "gpt2"}')
    for path in (foreign, tmp_path, foreign / "config.json"):
        with pytest.raises(InputError):
            model.save(path)
    assert [p.name for p in foreign.iterdir()] == ["config.json"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "encoder.json"])
def test_a_missing_file_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    if name == "encoder.json":
        (folder / "tokenizer.json").unlink()
    assert name in refuse(folder, InputError)


def test_a_model_without_a_card_is_one_too(folder: Path) -> None:
    (folder / "card.json").unlink()
    assert load(folder).card == {}
    (folder / "card.json").write_text("[1]")
    assert "not a model's card" in refuse(folder)


def test_weights_cut_short_anywhere_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    cuts = [0, 1, 7, 8, 9, header // 2, header - 1, header, header + 1, len(whole) // 2, len(whole) - 1]
    for cut in cuts:
        path.write_bytes(whole[:cut])
        assert "damaged" in refuse(folder), cut
    path.write_bytes(whole + b"\0")
    assert "damaged" in refuse(folder)
    path.write_bytes(b"PK\x03\x04" + whole)
    assert "damaged" in refuse(folder)
    path.unlink()
    path.mkdir()
    assert "damaged" in refuse(folder)


def test_bytes_changed_in_the_header_never_end_in_a_traceback(folder: Path) -> None:
    path = folder / "model.safetensors"
    whole = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(whole[:8], "little")
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        broken = bytearray(whole)
        for at in rng.integers(0, header, rng.integers(1, 4)):
            broken[at] = (
                rng.integers(0, 256) if rng.random() < 0.5 else rng.choice(list(b'0123456789,:"[]{}F'))
            )
        path.write_bytes(broken)
        try:
            load(folder)
        except WorkbenchError:
            refused += 1
    assert refused > 250


@pytest.mark.parametrize(
    ("words", "edit"),
    [
        ("has the unknown tensor 'extra'", lambda t: t | {"extra": torch.zeros(3)}),
        (
            "lacks tensor 'ln_f.bias'",
            lambda t: {k: v for k, v in t.items() if k != "ln_f.bias"} | {"z": torch.ones(8)},
        ),
        (
            "'wpe.weight' has the shape [8, 16]",
            lambda t: t | {"wpe.weight": t["wpe.weight"].t().contiguous()},
        ),
        ("'wpe.weight' is I64", lambda t: t | {"wpe.weight": t["wpe.weight"].long()}),
        ("values that are not numbers", lambda t: t | {"ln_f.bias": torch.full((8,), float("nan"))}),
        ("values that are not numbers", lambda t: t | {"ln_f.bias": torch.full((8,), float("inf"))}),
    ],
)
def test_foreign_weights_are_refused(words: str, edit: Any, folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file(edit(load_file(path)), path)
    assert words in refuse(folder)


def test_half_precision_weights_are_read(model: Model, folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file({k: v.to(torch.bfloat16) for k, v in load_file(path).items()}, path)
    for p, q in zip(model.net.parameters(), load(folder).net.parameters(), strict=True):
        assert q.dtype == torch.float32 and torch.equal(p.to(torch.bfloat16).float(), q)


@pytest.mark.parametrize("value", [2**31 - 1, 2**31, 10**12, 10**400, 0, -1, 1.5, "12", None, True, [2]])
@pytest.mark.parametrize("field", ["n_layer", "n_head", "n_embd", "vocab_size", "n_ctx"])
def test_absurd_shapes_are_refused_before_a_network_is_made(
    field: str, value: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(folder, **{field: value})
    monkeypatch.delattr(checkpoint, "GPT2")
    refuse(folder)


def test_a_shape_of_as_many_weights_is_refused_too(folder: Path) -> None:
    change(folder, vocab_size=CONFIG.n_ctx, n_ctx=CONFIG.vocab_size)
    assert "'wte.weight' has the shape [280, 8]" in refuse(folder)


@pytest.mark.parametrize("value", [0, -1e-5, 1e9, "1e-5", None, float("nan"), float("inf")])
def test_absurd_epsilons_are_refused(value: Any, folder: Path) -> None:
    change(folder, layer_norm_epsilon=value)
    assert "layer_norm_epsilon" in refuse(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        '{"model_type": "gpt2"}',
        "\x00",
        "[" * 100_000,
        '{"format": "gpt2-workbench 1"}',
    ],
)
def test_foreign_configs_are_refused(text: str, folder: Path) -> None:
    (folder / "config.json").write_text(text)
    refuse(folder)


def test_unknown_fields_are_named(folder: Path) -> None:
    change(folder, dropout=0.1)
    assert "dropout" in refuse(folder)


def test_a_tokenizer_of_another_size_is_refused(folder: Path) -> None:
    Tokenizer(Tokenizer.gpt2().pairs[:22]).save(folder)
    assert "two different models" in refuse(folder)
