"""Adapters: what they add, merged and taken out again, and as folders that peft reads and writes."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import gpt2
from gpt2.errors import ConfigError, FormatError, InputError
from gpt2.finetuning.adapter import load_adapter, save_adapter, weights_of
from gpt2.finetuning.lora import (
    TARGETS,
    LoraConfig,
    adapt,
    adapted,
    fuse,
    merge,
    merged,
    parameters,
    remove,
    unmerge,
)
from gpt2.model.transformer import GPT2
from gpt2.training.beginning import weights_digest

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPE = gpt2.GPT2Config(n_layer=2, n_head=2, n_embd=32, vocab_size=300, n_ctx=24)


def ids() -> Tensor:
    return torch.randint(0, 300, (2, 24), generator=torch.Generator().manual_seed(1))


def learned(config: LoraConfig | None = None) -> GPT2:
    """A network whose adapter is not nothing."""
    net = adapt(GPT2(SHAPE, seed=3), config or LoraConfig(rank=4, alpha=6.0), seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for tensor in parameters(net).values():
            tensor.normal_(0, 0.3, generator=generator)
    return net


@torch.no_grad()
def logits(net: GPT2) -> Tensor:
    found: Tensor = net.eval()(ids())
    return found


def test_a_fresh_adapter_changes_nothing_and_learns_alone() -> None:
    base = GPT2(SHAPE, seed=3)
    net = adapt(GPT2(SHAPE, seed=3))
    assert torch.equal(logits(net), logits(base))
    net(ids()).sum().backward()
    learning = {name for name, p in net.named_parameters() if p.grad is not None}
    assert learning == {n for n, p in net.named_parameters() if p.requires_grad}
    assert len(learning) == 2 * 2 * len(TARGETS) and all("lora_" in name for name in learning)
    numbers = sum(p.numel() for p in net.parameters() if p.requires_grad)
    assert numbers == 2 * 8 * ((32 + 96) + (32 + 32) + (32 + 128) + (128 + 32))


def test_an_adapted_layer_is_the_formula() -> None:
    net = learned()
    layer = adapted(net)["h.1.mlp.c_fc"]
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    delta = 6.0 / 4 * (layer.lora_B @ layer.lora_A)
    torch.testing.assert_close(layer(x), x @ (layer.weight + delta).t() + layer.bias)


def test_merging_changes_no_answer_and_unmerging_gives_back_every_bit() -> None:
    net = learned()
    own = weights_of(net)
    assert own == weights_digest(GPT2(SHAPE, seed=3))
    before = logits(net)
    for _ in range(3):
        merge(merge(net))
        assert weights_of(net) != own
        torch.testing.assert_close(logits(net), before, rtol=0, atol=2e-5)
        unmerge(unmerge(net))
        assert weights_of(net) == own and torch.equal(logits(net), before)
    with pytest.raises(RuntimeError, match="in between"), merged(net):
        assert weights_of(net) != own
        raise RuntimeError("in between")
    assert weights_of(net) == own, "given back whatever happened"


def test_a_fused_network_is_a_plain_one_and_a_removed_adapter_leaves_no_trace() -> None:
    before = logits(learned())
    net = fuse(learned())
    assert not adapted(net) and net.state_dict().keys() == GPT2(SHAPE).state_dict().keys()
    assert all(p.requires_grad for p in net.parameters())
    torch.testing.assert_close(logits(net), before, rtol=0, atol=2e-5)
    assert weights_digest(remove(learned())) == weights_digest(GPT2(SHAPE, seed=3))


def test_only_the_chosen_matrices_are_adapted() -> None:
    net = learned(LoraConfig(2, 4.0, ("attn.c_attn",)))
    assert list(adapted(net)) == ["h.0.attn.c_attn", "h.1.attn.c_attn"]
    assert net.h[0].attn.c_attn.lora_A.shape == (2, 32) and net.h[0].attn.c_attn.lora_B.shape == (96, 2)


@pytest.mark.parametrize("changes", [{"rank": 0}, {"alpha": 0.0}, {"targets": ("wte",)}, {"targets": ()}])
def test_impossible_adapters_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        LoraConfig(**changes)


def test_a_network_has_one_adapter_or_none() -> None:
    with pytest.raises(InputError, match="already"):
        adapt(learned())
    for change in (merge, unmerge, fuse):
        with pytest.raises(InputError, match="no adapter"):
            change(GPT2(SHAPE))


def test_an_adapter_is_small_and_comes_back_the_same(tmp_path: Path) -> None:
    net = learned(LoraConfig(2, 3.0, ("attn.c_attn", "mlp.c_proj")))
    save_adapter(net, tmp_path / "adapter", "a model", {"note": "x"})
    size = (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size
    assert size < 4 * sum(t.numel() for t in parameters(net).values()) + 2000
    again = load_adapter(GPT2(SHAPE, seed=3), tmp_path / "adapter")
    assert torch.equal(logits(again), logits(net))
    card = json.loads((tmp_path / "adapter" / "card.json").read_text())
    assert card == {"base": weights_digest(GPT2(SHAPE, seed=3)), "note": "x"}
    fused = load_adapter(GPT2(SHAPE, seed=3), tmp_path / "adapter", merge=True)
    assert not adapted(fused)
    torch.testing.assert_close(logits(fused), logits(net), rtol=0, atol=2e-5)
    with pytest.raises(InputError, match="unmerge"):
        save_adapter(merge(net), tmp_path / "other")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_adapter(learned(), tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapter_of_other_weights_is_refused(folder: Path) -> None:
    net = GPT2(SHAPE, seed=4)
    with pytest.raises(FormatError, match="other weights"):
        load_adapter(net, folder)
    (folder / "card.json").unlink()
    assert adapted(load_adapter(net, folder)), "one of peft's says nothing of its weights"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"rank_pattern": {"c_fc": 2}}, "rank_pattern"),
        ({"peft_type": "IA3"}, "LoRA"),
        ({"r": "8"}, "numbers r"),
        ({"r": 0}, "rank"),
        ({"r": 3}, "shape"),
    ],
)
def test_other_kinds_of_adapters_are_refused_by_name(
    folder: Path, change: dict[str, Any], words: str
) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    net = GPT2(SHAPE, seed=3)
    with pytest.raises(FormatError, match=words):
        load_adapter(net, folder)
    assert not adapted(net), "nothing was begun"


def test_damaged_and_missing_adapters_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no adapter"):
        load_adapter(GPT2(SHAPE, seed=3), tmp_path)
    with pytest.raises(FormatError, match="shape"):
        (folder / "card.json").unlink()
        load_adapter(GPT2(gpt2.GPT2Config(2, 2, 16, 300, 24)), folder)
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(FormatError, match="damaged"):
        load_adapter(GPT2(SHAPE, seed=3), folder)


def test_peft_reads_our_adapters_and_we_read_its_own(tmp_path: Path) -> None:
    peft: Any = pytest.importorskip("peft")
    transformers: Any = pytest.importorskip("transformers")
    tok = gpt2.Tokenizer(gpt2.Tokenizer.gpt2().pairs[:43])
    shape = gpt2.GPT2Config(2, 2, 32, tok.n_vocab, 24)
    net = adapt(GPT2(shape, seed=3), LoraConfig(4, 6.0), seed=1)
    with torch.no_grad():
        for tensor in parameters(net).values():
            tensor.normal_(0, 0.3, generator=torch.Generator().manual_seed(5))
    gpt2.Model(GPT2(shape, seed=3), tok).save(tmp_path / "model")
    gpt2.convert(tmp_path / "model", tmp_path / "huggingface", to="huggingface")
    save_adapter(net, tmp_path / "adapter", tmp_path / "huggingface")
    x = torch.randint(0, tok.n_vocab, (2, 24), generator=torch.Generator().manual_seed(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations between peft and transformers
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "huggingface")
        theirs = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter", is_trainable=True).eval()
        with torch.no_grad():
            expected = net.eval()(x)
            torch.testing.assert_close(theirs(x).logits, expected, rtol=0, atol=1e-5)
            plain = GPT2(shape, seed=3).eval()(x)
            assert (expected - plain).abs().max() > 0.1, "the adapter must matter"
            for name, p in theirs.named_parameters():
                if "lora_" in name:
                    p.mul_(-0.5)
            expected = theirs(x).logits
        theirs.save_pretrained(tmp_path / "theirs")
    assert not (tmp_path / "theirs" / "card.json").exists()
    again = load_adapter(GPT2(shape, seed=3), tmp_path / "theirs").eval()
    with torch.no_grad():
        torch.testing.assert_close(again(x), expected, rtol=0, atol=1e-5)
