"""Hugging Face's folders: transformers loads ours, we load all that it ever wrote, and the rest is one sentence."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from mutations import survived
from safetensors.torch import load_file, save_file
from sources import SMALL, assert_same, failing, in_memory, network
from torch import Tensor

from gpt2.errors import FormatError, InputError
from gpt2.model.formats import huggingface
from gpt2.tokens.bpe import Tokenizer

TEXTS = ["Hello, I'm a language model,", "  naïve café 你好\n\n\n1234", "one<|endoftext|>two", " 's 'S"]
State = dict[str, Tensor]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    huggingface.write(tmp_path / "model", in_memory())
    return tmp_path / "model"


def theirs(folder: Path) -> transformers.GPT2LMHeadModel:
    model, report = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    return model.eval()


def change(folder: Path, name: str = "config.json", **values: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refused(folder: Path, *words: str, kind: type[InputError] = FormatError) -> None:
    with pytest.raises(kind) as caught:
        source = huggingface.open_source(folder)
        source.tensor("wte.weight")
    for word in words:
        assert word in str(caught.value)


def test_transformers_computes_and_generates_the_same_from_our_folder(tmp_path: Path) -> None:
    source = in_memory(Tokenizer.gpt2())
    huggingface.write(tmp_path / "model", source)
    model, net = theirs(tmp_path / "model"), network(source)
    ids = torch.randint(0, 50257, (3, 8), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.allclose(model(ids).logits, net(ids), atol=1e-4, rtol=0)
        settings = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 50256}
        longer = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
        for _ in range(8):
            ids = torch.cat([ids, net(ids)[:, -1:].argmax(-1)], 1)
    assert torch.equal(longer, ids)


@pytest.mark.parametrize("tokenizer", [Tokenizer.gpt2(), SMALL], ids=["gpt2", "small"])
def test_transformers_tokenizer_gives_equal_ids(tmp_path: Path, tokenizer: Tokenizer) -> None:
    huggingface.write(tmp_path / "model", in_memory(tokenizer, n_embd=2))
    peer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    assert peer.model_max_length == 16
    assert peer.eos_token_id == tokenizer.end_of_text
    for text in TEXTS:
        ids = tokenizer.encode(text, allow_special=True)
        assert peer(text)["input_ids"] == ids
        assert peer.decode(ids) == text


def test_our_configuration_has_every_field_of_theirs_and_the_one_that_llama_cpp_asks_for(
    folder: Path,
) -> None:
    theirs(folder).config.save_pretrained(folder / "again")
    there, here = (json.loads((f / "config.json").read_text()) for f in (folder / "again", folder))
    assert there.pop("dtype") == here.pop("torch_dtype") == "float32"
    missing = there.keys() - here.keys() - {"transformers_version", "pad_token_id"}
    assert not missing
    assert all(here[name] == there[name] for name in here)
    assert here["n_ctx"] == here["n_positions"]


def save_shards(model: transformers.GPT2LMHeadModel, folder: Path) -> None:
    model.save_pretrained(folder, max_shard_size="30KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2


def save_half(model: transformers.GPT2LMHeadModel, folder: Path) -> None:
    model.half().save_pretrained(folder)


def save_bfloat16(model: transformers.GPT2LMHeadModel, folder: Path) -> None:
    model.to(torch.bfloat16).save_pretrained(folder)


def save_without_head(model: transformers.GPT2LMHeadModel, folder: Path) -> None:
    model.transformer.save_pretrained(folder)


def with_masks(state: State) -> State:
    bare = {name.removeprefix("transformer."): tensor for name, tensor in state.items()}
    bare["h.0.attn.bias"] = torch.ones(1, 1, 16, 16, dtype=torch.uint8)
    bare["h.0.attn.masked_bias"] = torch.tensor(-1e4)
    return bare


def save_bin(model: transformers.GPT2LMHeadModel, folder: Path) -> None:
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


def save_bin_of_2019(model: transformers.GPT2LMHeadModel, folder: Path) -> None:
    model.config.save_pretrained(folder)
    state = with_masks(model.state_dict())
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def save_bin_shards(model: transformers.GPT2LMHeadModel, folder: Path) -> None:
    model.config.save_pretrained(folder)
    parts: list[State] = [{}, {}]
    for i, (name, tensor) in enumerate(model.state_dict().items()):
        parts[i % 2][name] = tensor
    for i, part in enumerate(parts):
        torch.save(part, folder / f"pytorch_model-{i}.bin")
    index = {name: f"pytorch_model-{i}.bin" for i, part in enumerate(parts) for name in part}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))


def save_as_openai_uploaded(model: transformers.GPT2LMHeadModel, folder: Path) -> None:
    model.config.save_pretrained(folder)
    state = {name: t for name, t in model.state_dict().items() if name != "lm_head.weight"}
    save_file(with_masks(state), folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("save", "dtype"),
    [
        (lambda model, folder: model.save_pretrained(folder), torch.float32),
        (save_shards, torch.float32),
        (save_half, torch.float16),
        (save_bfloat16, torch.bfloat16),
        (save_without_head, torch.float32),
        (save_bin, torch.float32),
        (save_bin_of_2019, torch.float32),
        (save_bin_shards, torch.float32),
        (save_as_openai_uploaded, torch.float32),
    ],
)
def test_every_form_of_weights_comes_back_to_the_bit(
    folder: Path, save: Callable[[Any, Path], None], dtype: torch.dtype
) -> None:
    (folder / "model.safetensors").rename(folder / "old")
    model = theirs_of(folder)
    save(model, folder)
    assert huggingface.recognise(folder)
    assert_same(huggingface.open_source(folder), in_memory(), dtype)


def theirs_of(folder: Path) -> transformers.GPT2LMHeadModel:
    """The model of a folder whose weights are in a file `old`, which is gone then."""
    whole = folder.with_name("whole")
    shutil.copytree(folder, whole)
    (whole / "old").rename(whole / "model.safetensors")
    (folder / "old").unlink()
    return theirs(whole)


@pytest.mark.parametrize(
    "missing", [["tokenizer.json"], ["vocab.json", "merges.txt"], ["vocab.json", "tokenizer.json"]]
)
def test_the_vocabulary_is_read_from_either_form(folder: Path, missing: list[str]) -> None:
    for name in missing:
        (folder / name).unlink()
    if "merges.txt" in missing or missing == ["tokenizer.json"]:
        assert_same(huggingface.open_source(folder), in_memory())
    else:
        refused(folder, "has 280 tokens, but its vocabulary 50,257")


def test_a_model_saved_without_a_vocabulary_has_gpt2s_own(tmp_path: Path) -> None:
    source = in_memory(Tokenizer.gpt2(), n_embd=2)
    huggingface.write(tmp_path / "model", source)
    for name in (
        "tokenizer.json",
        "vocab.json",
        "merges.txt",
        "tokenizer_config.json",
        "special_tokens_map.json",
    ):
        (tmp_path / "model" / name).unlink()
    assert_same(huggingface.open_source(tmp_path / "model"), source)
    change(tmp_path / "model", vocab_size=50258)
    refused(tmp_path / "model", "has 50,258 tokens, but its vocabulary 50,257")
    change(tmp_path / "model", vocab_size=50264)
    refused(tmp_path / "model", "'wte.weight' has the shape [50257, 2]")


def with_added_token(folder: Path, **roles: Any) -> None:
    """A fine-tuned model, as transformers saves it after tokens were added to its vocabulary."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens(roles)
    model = theirs(folder)
    model.resize_token_embeddings(288, mean_resizing=False)
    model.save_pretrained(folder)
    for name in ("vocab.json", "merges.txt", "special_tokens_map.json"):
        (folder / name).unlink()
    tokenizer.save_pretrained(folder)


def test_a_pad_token_and_padded_rows_are_left_out(folder: Path) -> None:
    with_added_token(folder, pad_token="<pad>")
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == 288
    assert_same(huggingface.open_source(folder), in_memory())


@pytest.mark.parametrize("role", [{"bos_token": "<s>"}, {"additional_special_tokens": ["<|user|>"]}])
def test_an_added_token_that_texts_have_is_refused_by_name(folder: Path, role: dict[str, Any]) -> None:
    with_added_token(folder, pad_token="<pad>", **role)
    token = role.get("bos_token", "<|user|>")
    refused(folder, f"the added token {token!r}", "only pad and unk tokens can be left out")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"activation_function": "relu"}, "activation_function = 'relu'"),
        ({"n_inner": 64}, "n_inner = 64"),
        ({"scale_attn_weights": False}, "scale_attn_weights = False"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True"),
        ({"reorder_and_upcast_attn": True}, "reorder_and_upcast_attn = True"),
        ({"add_cross_attention": True}, "add_cross_attention = True"),
        ({"n_layer": 3}, "lacks tensor 'h.2."),
        ({"n_layer": 1}, "unknown tensor 'h.1."),
        ({"n_layer": 2**40}, "n_layer must be a whole number"),
        ({"n_head": 5}, "cannot be split evenly"),
        ({"n_embd": "32"}, "n_embd must be a whole number"),
        ({"n_positions": 17}, "has the shape [16, 32]"),
        ({"layer_norm_epsilon": 0}, "layer_norm_epsilon must be"),
        ({"vocab_size": 279}, "has 279 tokens, but its vocabulary 280"),
        ({"vocab_size": 2000}, "has 2,000 tokens, but its vocabulary 280"),
    ],
)
def test_another_network_or_a_wrong_shape_is_refused_by_name(
    folder: Path, values: dict[str, Any], words: str
) -> None:
    change(folder, **values)
    with pytest.raises(InputError) as caught:
        huggingface.open_source(folder)
    assert words in str(caught.value)


def test_settings_that_mean_the_same_network_are_read(folder: Path) -> None:
    change(folder, n_inner=128, activation_function="gelu_pytorch_tanh", layer_norm_epsilon=1e-6)
    assert huggingface.open_source(folder).config.layer_norm_epsilon == 1e-6


@pytest.mark.parametrize("name", ["Bert", "Llama", "GPTJ", "GPTNeo", "OPT"])
def test_another_model_is_refused_by_what_it_is(tmp_path: Path, name: str) -> None:
    config = getattr(transformers, f"{name}Config")()
    config.architectures = [f"{name}ForCausalLM"]
    config.save_pretrained(tmp_path)
    assert huggingface.recognise(tmp_path)
    refused(tmp_path, f"is a {name}ForCausalLM (model_type {config.model_type}), not a GPT-2")


def test_a_head_of_its_own_is_refused_and_a_copy_of_the_embedding_is_not(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    head = weights["transformer.wte.weight"].clone()
    save_file(weights | {"lm_head.weight": head}, folder / "model.safetensors")
    assert_same(huggingface.open_source(folder), in_memory())
    head[3, 4] += 1
    save_file(weights | {"lm_head.weight": head}, folder / "model.safetensors")
    refused(folder, "a head that is not its token embedding")


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_pickle_is_refused_and_nothing_is_run(folder: Path, tmp_path: Path, zipped: bool) -> None:
    (folder / "model.safetensors").unlink()
    state = {"wte.weight": torch.zeros(280, 32), "run": Hostile(f"touch {tmp_path / 'ran'}")}
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    refused(folder, "system to be run when it is opened", "nothing was run")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["../old", "/etc/hostname", 3])
def test_an_index_can_name_only_files_beside_it(folder: Path, name: Any) -> None:
    (folder / "model.safetensors").rename(folder.parent / "old")
    index = {"weight_map": {"wte.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder, "is no index of weight files in its folder")


def test_missing_and_damaged_weights_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    whole = load_file(path)
    for damage, words in (
        (
            whole | {"transformer.wte.weight": whole["transformer.wte.weight"] / 0},
            "'wte.weight' holds values",
        ),
        ({k: v.int() for k, v in whole.items()}, "is I32, not floating-point numbers"),
        (whole | {"wte.weight": torch.zeros(280, 32)}, "is there twice"),
        (whole | {"score.weight": torch.zeros(2, 32)}, "unknown tensor 'score.weight'"),
    ):
        save_file(damage, path)
        refused(folder, words)
    path.write_bytes(path.read_bytes()[:-1])
    refused(folder, "damaged or no safetensors file")
    path.unlink()
    refused(folder, "there are no weights", kind=InputError)


def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path) -> None:
    source = in_memory()

    broken = failing(source)
    with pytest.raises(FormatError, match="the rest"):
        huggingface.write(tmp_path / "model", broken)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "pytorch_model.bin"])
def test_damaged_files_are_refused_or_sound(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    huggingface.write(folder, in_memory(n_layer=1))
    if name.endswith(".bin"):
        torch.save(load_file(folder / "model.safetensors"), folder / name)
        (folder / "model.safetensors").unlink()
    refused_files, opened = survived("huggingface", folder, folder / name, 200)
    assert refused_files > opened > 0
