"""llm.c's files: the layout its own writer has, exact weights back, one sentence for all that is wrong."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mutations import survived
from torch import Tensor

from gpt2.errors import FormatError, InputError, WorkbenchError
from gpt2.model.config import GPT2Config
from gpt2.model.formats import Source, llmc, open_source
from gpt2.model.transformer import GPT2
from gpt2.tokens.bpe import Tokenizer

CONFIG = GPT2Config(n_layer=3, n_head=2, n_embd=8, vocab_size=260, n_ctx=16)
KINDS = ["ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"]


def source_of(config: GPT2Config = CONFIG, edit: Callable[[Tensor], Tensor] = lambda w: w) -> Source:
    draw = torch.Generator().manual_seed(1)
    weights = {
        name: edit(w + 0.1 * torch.randn(w.shape, generator=draw))
        for name, w in GPT2(config).state_dict().items()
    }
    tokenizer = Tokenizer(Tokenizer.gpt2().pairs[: config.vocab_size - 257])
    return Source("workbench", Path("made-up"), config, tokenizer, weights.__getitem__)


def in_order(weights: Callable[[str], Tensor], rows: int, layers: int = CONFIG.n_layer) -> list[Tensor]:
    """Weights as llm.c's train_gpt2.py writes them, one loop after the other."""
    out = [F.pad(weights("wte.weight"), (0, 0, 0, rows - 260)), weights("wpe.weight")]
    for kind in KINDS:
        for part in ("weight", "bias"):
            out += [weights(f"h.{i}.{kind}.{part}") for i in range(layers)]
    return [*out, weights("ln_f.weight"), weights("ln_f.bias")]


def octets(tensors: list[Tensor], dtype: torch.dtype = torch.float32) -> bytes:
    return b"".join(bytes(t.detach().to(dtype).contiguous().view(torch.uint8).numpy().data) for t in tensors)


def header(*fields: int) -> bytes:
    return struct.pack("<256i", *fields, *[0] * (256 - len(fields)))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    llmc.write(tmp_path / "gpt2.bin", source_of())
    return tmp_path / "gpt2.bin"


def refuse(path: Path, kind: type[WorkbenchError] = FormatError) -> str:
    """The sentence with which a file, or a weight of it, is refused."""
    with pytest.raises(kind) as caught:
        source = open_source(path)
        for name in GPT2(CONFIG).state_dict():
            source.tensor(name)
    text = str(caught.value)
    assert str(path.parent) in text and len(text) < 600 and "\n" not in text
    return text


@pytest.mark.parametrize(
    ("kind", "version", "dtype"), [("float32", 3, torch.float32), ("bfloat16", 5, torch.bfloat16)]
)
def test_the_file_is_the_one_llmc_writes(kind: str, version: int, dtype: torch.dtype, tmp_path: Path) -> None:
    source = source_of()
    llmc.write(tmp_path / "m.bin", source, kind)
    written = (tmp_path / "m.bin").read_bytes()
    assert written[:1024] == header(20240326, version, 16, 260, 3, 2, 8, 384)
    assert written[1024:] == octets(in_order(source.tensor, 384), dtype)


def test_every_weight_comes_back_to_the_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def any_bits(w: Tensor) -> Tensor:  # all finite floats: of any size, negative zero, denormals
        bits = rng.integers(0, 2**32, w.shape, dtype=np.uint32)
        bits[(bits >> 23 & 255) == 255] ^= np.uint32(1 << 30)
        return torch.from_numpy(bits.view(np.float32))

    source = source_of(edit=any_bits)
    llmc.write(tmp_path / "m", source)  # no name tells what it is
    back = open_source(tmp_path / "m")
    assert (back.format, back.config, back.tokenizer.pairs) == ("llmc", CONFIG, source.tokenizer.pairs)
    for name in GPT2(CONFIG).state_dict():
        assert torch.equal(back.tensor(name).view(torch.int32), source.tensor(name).view(torch.int32)), name


def test_bfloat16_comes_back_as_it_was(tmp_path: Path) -> None:
    source = source_of()
    llmc.write(tmp_path / "m.bin", source, "bfloat16")
    back = open_source(tmp_path / "m.bin")
    for name in GPT2(CONFIG).state_dict():
        assert back.tensor(name).dtype == torch.bfloat16
        assert torch.equal(back.tensor(name), source.tensor(name).to(torch.bfloat16))
    llmc.write(tmp_path / "again.bin", back, "bfloat16")
    assert (tmp_path / "again.bin").read_bytes() == (tmp_path / "m.bin").read_bytes()


def test_the_124m_has_as_many_numbers_as_llmc_says() -> None:
    _, numbers = llmc.layout(GPT2Config.size("124M"), 50304)
    assert numbers == 124_475_904


def test_the_tokenizer_file_is_the_one_llmc_writes(tmp_path: Path) -> None:
    import tiktoken

    tok = Tokenizer.gpt2()
    ranks = {token: i for i, token in enumerate(tok.tokens[:-1])}
    enc = tiktoken.Encoding(
        "gpt2", pat_str=r"\S+", mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 50256}
    )
    expected = header(20240328, 2, enc.max_token_value + 1, enc.eot_token)
    for i in range(enc.max_token_value + 1):
        token = enc.decode_bytes([i])
        expected += struct.pack("<B", len(token)) + token
    assert llmc.tokenizer_bytes(tok) == expected
    (tmp_path / "t.bin").write_bytes(expected)
    assert llmc.read_tokenizer(tmp_path / "t.bin") is tok


def test_merges_follow_from_tokens() -> None:
    pairs = Tokenizer.gpt2().pairs[:3000]
    assert llmc.merges_of(Tokenizer(pairs).tokens[256:-1]) == pairs


def test_without_a_tokenizer_file_the_vocabulary_is_gpt2s_or_a_folders(file: Path) -> None:
    (file.parent / "gpt2_tokenizer.bin").unlink()
    assert "put the encoder.json and vocab.bpe" in refuse(file)
    source_of().tokenizer.save(file.parent)
    assert open_source(file).tokenizer.pairs == source_of().tokenizer.pairs


def test_the_tokenizer_of_another_model_is_neither_replaced_nor_believed(file: Path) -> None:
    other = source_of(GPT2Config(1, 1, 4, 270, 4))
    with pytest.raises(InputError, match="of another vocabulary"):
        llmc.write(file.parent / "other.bin", other)
    assert not (file.parent / "other.bin").exists()
    (file.parent / "gpt2_tokenizer.bin").write_bytes(llmc.tokenizer_bytes(other.tokenizer))
    assert "has 260 tokens, but gpt2_tokenizer.bin beside it 270" in refuse(file)


@pytest.mark.parametrize(
    ("words", "change"),
    {
        "no whole tokenizer file": lambda b: b[:-1],
        "no whole tokenizer": lambda b: b[:4] + b"\x01" + b[5:],
        "no whole tokenizer file of": lambda b: b + b"\x01a",
        "does not begin as a tokenizer file": lambda b: b[:1000],
        "no byte-level BPE": lambda b: b.replace(b"\x02 a", b"\x02 t"),
        "are no byte-level BPE": lambda b: b.replace(b"\x01!", b'\x01"'),
        "no byte-level BPE in": lambda b: b.replace(b"\x02 t", b"\x03 tt"),
    }.items(),
)
def test_a_damaged_tokenizer_is_refused(words: str, change: Callable[[bytes], bytes], file: Path) -> None:
    path = file.parent / "gpt2_tokenizer.bin"
    changed = change(path.read_bytes())
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    assert words in refuse(file)


def test_a_token_too_long_for_the_file_is_refused(tmp_path: Path) -> None:
    pairs = [(64, 64)]
    pairs += [(256 + i, 256 + i) for i in range(7)]  # 2, 4, ... 256 bytes
    source = source_of(GPT2Config(1, 1, 4, 257 + len(pairs), 4))
    long = Source("workbench", tmp_path, source.config, Tokenizer(pairs), source.tensor)
    with pytest.raises(FormatError, match="up to 255 bytes"):
        llmc.write(tmp_path / "m.bin", long)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "place", "value"),
    [
        ("there is no model in", 0, 20240327),
        ("there is no model in", 0, 20240520),
        ("of version 1 of", 1, 1),
        ("of version -1 of", 1, -1),
        ("by its header it should have", 2, 17),
        ("n_ctx must be", 2, 0),
        ("n_ctx must be", 2, -16),
        ("should have", 4, 2),
        ("more than any model has", 4, 2**31 - 1),
        ("cannot be split evenly", 5, 3),
        ("should have", 6, 2**31 - 2),
        ("do not fit into", 7, 259),
        ("should have", 7, 2**31 - 1),
    ],
)
def test_a_header_that_does_not_fit_is_refused(words: str, place: int, value: int, file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[: 4 * place] + struct.pack("<i", value) + whole[4 * place + 4 :])
    assert words in refuse(file)


def test_a_file_cut_short_anywhere_is_refused(file: Path) -> None:
    whole = file.read_bytes()
    for cut in (0, 3, 4, 1000, 1023, 1024, 1025, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:cut])
        refuse(file)
    file.write_bytes(whole + b"\0")
    assert "should have" in refuse(file)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", llmc.KINDS)
def test_weights_that_are_no_numbers_are_refused(kind: str, value: float, file: Path) -> None:
    llmc.write(file, source_of(), kind)
    whole = bytearray(file.read_bytes())
    size = 4 if kind == "float32" else 2
    bad = octets([torch.tensor([value])], torch.float32 if size == 4 else torch.bfloat16)
    whole[-size:] = bad
    file.write_bytes(whole)
    assert "'ln_f.bias' holds values that are not numbers" in refuse(file)
    padding = 1024 + size * (384 * 8 - 1)  # the last number of the padding, which nobody reads
    file.write_bytes(whole[:padding] + bad + whole[padding + size : -size] + bytes(size))
    assert open_source(file).tensor("wte.weight").shape == (260, 8)


def test_what_bfloat16_cannot_hold_is_not_written(tmp_path: Path) -> None:
    source = source_of(edit=lambda w: torch.full_like(w, 3.4e38))
    with pytest.raises(FormatError, match="not numbers"):
        llmc.write(tmp_path / "m.bin", source, "bfloat16")
    assert not list(tmp_path.iterdir())


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    source = source_of()

    def tensor(name: str) -> Tensor:
        if name == "h.1.ln_1.weight":
            raise KeyboardInterrupt
        return source.tensor(name)

    with pytest.raises(KeyboardInterrupt):
        llmc.write(tmp_path / "m.bin", Source("workbench", tmp_path, CONFIG, source.tokenizer, tensor))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def state(file: Path) -> tuple[Path, GPT2, Tensor, Tensor]:
    """A debug state as llm.c's train_gpt2.py writes it, and what is in it."""
    net = GPT2(CONFIG)
    net.load_state_dict({name: source_of().tensor(name) for name in net.state_dict()})
    x, y = torch.randint(0, 260, (2, 2, 7), generator=torch.Generator().manual_seed(0))
    logits = net(x)
    loss = F.cross_entropy(logits.view(-1, 260), y.view(-1))
    loss.backward()
    gradients = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    path = file.parent / "debug_state.bin"
    path.write_bytes(
        header(20240327, 2, 2, 7)
        + octets([x, y], torch.int32)
        + octets([logits, loss[None]])
        + octets(in_order(gradients.__getitem__, 384))
    )
    return path, net, x, y


def test_a_debug_state_is_read(state: tuple[Path, GPT2, Tensor, Tensor]) -> None:
    path, net, x, y = state
    read = llmc.read_debug_state(path, CONFIG)
    assert torch.equal(read.ids, x) and torch.equal(read.targets, y)
    with torch.no_grad():
        assert torch.allclose(read.logits, net(x), atol=1e-6)
        assert read.loss == pytest.approx(float(F.cross_entropy(net(x).view(-1, 260), y.view(-1))), abs=1e-6)
    assert read.gradients.keys() == net.state_dict().keys()
    for name, p in net.named_parameters():
        assert p.grad is not None and torch.equal(read.gradients[name], p.grad), name
    assert "debug state" in refuse(path)


def test_a_debug_state_of_another_model_is_refused(state: tuple[Path, GPT2, Tensor, Tensor]) -> None:
    path = state[0]
    with pytest.raises(FormatError, match="should have"):
        llmc.read_debug_state(path, GPT2Config(2, 2, 8, 260, 16))
    with pytest.raises(FormatError, match="is no debug state of version 2"):
        llmc.read_debug_state(path, GPT2Config(3, 2, 8, 260, 4))
    with pytest.raises(FormatError, match="does not begin as a debug state"):
        llmc.read_debug_state(path.parent / "gpt2.bin", CONFIG)


@pytest.mark.parametrize(("name", "rounds"), [("gpt2.bin", 400), ("gpt2_tokenizer.bin", 150)])
def test_damaged_files_are_refused_or_sound(name: str, rounds: int, file: Path) -> None:
    refused, _ = survived("llmc", file, file.parent / name, rounds)
    assert refused > 0
