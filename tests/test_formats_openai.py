"""OpenAI's folder: TensorFlow's bytes, exact weights back, and one sentence for all that is wrong."""

from __future__ import annotations

import json
import random
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mutations import survived

from gpt2.errors import FormatError, InputError, WorkbenchError
from gpt2.model.config import GPT2Config
from gpt2.model.formats import Source, crc32c, open_source, openai, tensor_bundle
from gpt2.model.formats.tensor_bundle import Bundle, piece, read_table, sealed, table, varint, write_bundle
from gpt2.model.transformer import GPT2
from gpt2.tokens.bpe import Tokenizer

CONFIG = GPT2Config(n_layer=2, n_head=2, n_embd=8, vocab_size=260, n_ctx=16)
INDEX, DATA = "model.ckpt.index", "model.ckpt.data-00000-of-00001"
WORKED = [
    ("00 00 06   08 01 1a 02 08 01", "under no name: one data file, version 1"),
    ("00 01 0f   61   08 01 12 04 12 02 08 02 28 08 35 45 3f 16 88", "a: float, [2], 8 bytes, checksum"),
    (
        "01 01 15   62   08 01 12 08 12 02 08 01 12 02 08 02 20 08 28 08 35 97 82 4a 13",
        "(a)b: [1, 2], at byte 8",
    ),
    (
        "00 00 00 00 01 00 00 00   00 94 aa 65 23",
        "a name stands whole at byte 0 alone; not compressed; checksum",
    ),
    ("00 00 00 00 01 00 00 00   00 c0 f2 a1 b0", "a block of filters, of which there are none"),
    (
        "00 01 02   62   00 3d   00 00 00 00 01 00 00 00   00 c8 99 09 c2",
        'names before "b" are in bytes 0 to 61',
    ),
    (
        "42 08 4f 0e" + " 00" * 36 + " 57 fb 80 8b 24 75 47 db",
        "the last two blocks are at 66 and 79; magic number",
    ),
]
"""The index that TensorFlow 2.21 wrote for a = [1, -2] and ab = [[0.5, 3]]."""
WEIGHTS = {"a": torch.tensor([1.0, -2.0]), "ab": torch.tensor([[0.5, 3.0]])}


def source_of(
    config: GPT2Config = CONFIG, edit: Callable[[torch.Tensor], torch.Tensor] = lambda w: w
) -> Source:
    weights = {name: edit(w) for name, w in GPT2(config, seed=3).state_dict().items()}
    tokenizer = Tokenizer(Tokenizer.gpt2().pairs[: config.vocab_size - 257])
    return Source("workbench", Path("made-up"), config, tokenizer, weights.__getitem__)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    openai.write(tmp_path / "124M", source_of())
    return tmp_path / "124M"


def refuse(path: Path, kind: type[WorkbenchError] = FormatError) -> str:
    """The sentence with which a folder, or a weight of it, is refused."""
    with pytest.raises(kind) as caught:
        source = open_source(path)
        for name in GPT2(CONFIG).state_dict():
            source.tensor(name)
    text = str(caught.value)
    assert str(path) in text and len(text) < 600 and "\n" not in text
    return text


def rewrite(folder: Path, change: Callable[[dict[bytes, bytes]], dict[bytes, bytes]]) -> None:
    """Change the rows of the index, with right checksums."""
    path = folder / INDEX
    path.write_bytes(table(dict(sorted(change(read_table(path.read_bytes())).items()))))


def test_a_small_bundle_is_tensorflows_byte_for_byte(tmp_path: Path) -> None:
    write_bundle(tmp_path / "m", {n: tuple(w.shape) for n, w in WEIGHTS.items()}, WEIGHTS.__getitem__)
    assert (tmp_path / "m.index").read_bytes() == b"".join(bytes.fromhex(octets) for octets, _ in WORKED)
    numbers = bytes.fromhex("00 00 80 3f  00 00 00 c0  00 00 00 3f  00 00 40 40")
    assert (tmp_path / "m.data-00000-of-00001").read_bytes() == numbers
    bundle = Bundle(tmp_path / "m")
    assert list(bundle.entries) == ["a", "ab"]
    assert all(torch.equal(bundle.tensor(name), weight) for name, weight in WEIGHTS.items())


def crc_by_the_bit(data: bytes) -> int:
    """CRC-32C as it is defined, one bit at a time: the readable twin."""
    register = 0xFFFFFFFF
    for octet in data:
        register ^= octet
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "crc"),
    [  # RFC 3720, appendix B.4
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"", 0),
    ],
)
def test_checksums_are_the_published_ones(data: bytes, crc: int) -> None:
    assert crc32c.crc32c(data) == crc == crc_by_the_bit(data)


def test_checksums_equal_those_by_the_bit_at_every_length(monkeypatch: pytest.MonkeyPatch) -> None:
    data = random.Random(0).randbytes(5000)
    assert all(
        crc32c.crc32c(data[:n]) == crc_by_the_bit(data[:n]) for n in [*range(70), 1023, 1024, 4999, 5000]
    )
    whole = crc32c.crc32c(data)
    monkeypatch.setattr(crc32c, "CHUNK", 64)
    assert crc32c.crc32c(data) == whole and crc32c.crc32c(memoryview(data)[3:1003]) == crc_by_the_bit(
        data[3:1003]
    )


def test_every_weight_comes_back_to_the_bit(folder: Path) -> None:
    rng = np.random.default_rng(0)

    def any_bits(w: torch.Tensor) -> torch.Tensor:  # all finite floats: of any size, negative zero, denormals
        bits = rng.integers(0, 2**32, w.shape, dtype=np.uint32)
        bits[(bits >> 23 & 255) == 255] ^= np.uint32(1 << 30)
        return torch.from_numpy(bits.view(np.float32))

    source = source_of(edit=any_bits)
    shutil.rmtree(folder)
    openai.write(folder, source)
    back = open_source(folder)
    assert (back.format, back.config, back.tokenizer.pairs) == ("openai", CONFIG, source.tokenizer.pairs)
    for name, weight in GPT2(CONFIG).state_dict().items():
        found = back.tensor(name)
        assert found.shape == weight.shape
        assert torch.equal(found.contiguous().view(torch.int32), source.tensor(name).view(torch.int32)), name


def test_names_and_shapes_are_openais(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        ["checkpoint", "encoder.json", "hparams.json", DATA, INDEX, "vocab.bpe"]
    )
    assert json.loads((folder / "hparams.json").read_text()) == {
        "n_vocab": 260, "n_ctx": 16, "n_embd": 8, "n_head": 2, "n_layer": 2
    }  # fmt: skip
    shapes = {name: entry.shape for name, entry in Bundle(folder / "model.ckpt").entries.items()}
    assert len(shapes) == 4 + 12 * CONFIG.n_layer
    assert shapes["model/wte"] == (260, 8) and shapes["model/wpe"] == (16, 8)
    assert shapes["model/h1/attn/c_attn/w"] == (1, 8, 24) and shapes["model/h1/attn/c_attn/b"] == (24,)
    assert shapes["model/h0/mlp/c_fc/w"] == (1, 8, 32) and shapes["model/h0/mlp/c_proj/w"] == (1, 32, 8)
    assert shapes["model/h0/ln_1/g"] == shapes["model/ln_f/b"] == (8,)


def test_matrices_are_input_major(folder: Path) -> None:
    weight = source_of().tensor("h.1.mlp.c_fc.weight")  # [out, in]
    assert torch.equal(Bundle(folder / "model.ckpt").tensor("model/h1/mlp/c_fc/w")[0], weight.t())


def test_the_real_vocabulary_is_written_as_openai_has_it(tmp_path: Path) -> None:
    openai.write(tmp_path / "m", source_of(GPT2Config(n_layer=1, n_head=1, n_embd=1, n_ctx=4)))
    sizes = {name: (tmp_path / "m" / name).stat().st_size for name in ("encoder.json", "vocab.bpe")}
    assert sizes == {"encoder.json": 1_042_301, "vocab.bpe": 456_318}
    assert open_source(tmp_path / "m").tokenizer.n_vocab == 50257
    for name in sizes:
        (tmp_path / "m" / name).unlink()
    assert open_source(tmp_path / "m").tokenizer.pairs == Tokenizer.gpt2().pairs


def test_a_table_of_several_blocks_is_read(tmp_path: Path) -> None:
    config = GPT2Config(n_layer=400, n_head=1, n_embd=1, vocab_size=257, n_ctx=2)
    source = source_of(
        config, lambda w: torch.randn(w.shape, generator=torch.Generator().manual_seed(w.numel()))
    )
    openai.write(tmp_path / "deep", source)
    index = (tmp_path / "deep" / INDEX).read_bytes()
    assert len(read_table(index)) == 4 + 12 * 400 + 1 > tensor_bundle.ROWS
    back = open_source(tmp_path / "deep")
    assert all(
        torch.equal(back.tensor(n), source.tensor(n)) for n in ("h.0.ln_1.bias", "h.399.mlp.c_fc.weight")
    )


def test_folders_of_fine_tuning_programs_are_read(folder: Path) -> None:
    for name in (INDEX, DATA):
        (folder / name).rename(folder / name.replace("model.ckpt", "model-1000"))
    (folder / "checkpoint").write_text('model_checkpoint_path: "/content/checkpoint/run1/model-1000"\n')
    rewrite_as = folder / "model-1000.index"
    rows = read_table(rewrite_as.read_bytes())
    rewrite_as.write_bytes(table({b"": rows.pop(b""), b"global_step": b"\x08\x03\x28\x04", **rows}))
    assert open_source(folder).config == CONFIG
    (folder / "checkpoint").unlink()
    assert open_source(folder).config == CONFIG
    shutil.copy(rewrite_as, folder / "model-900.index")
    assert "has 2 files ending in .index" in refuse(folder, InputError)


@pytest.mark.parametrize(("dtype", "number"), [(torch.float16, 19), (torch.bfloat16, 14)])
def test_half_precision_is_read(dtype: torch.dtype, number: int, tmp_path: Path) -> None:
    values = torch.tensor([0.5, -3.0, 1e-3]).to(dtype)
    octets = values.view(torch.int16).numpy().tobytes()
    checksum = crc32c.masked(crc32c.crc32c(octets)).to_bytes(4, "little")
    entry = bytes([8, number]) + piece(2, piece(2, b"\x08\x03")) + b"\x28\x06\x35" + checksum
    (tmp_path / "m.index").write_bytes(table({b"": tensor_bundle.HEADER, b"x": entry}))
    (tmp_path / "m.data-00000-of-00001").write_bytes(octets)
    assert torch.equal(Bundle(tmp_path / "m").tensor("x"), values)


def test_a_bundle_in_two_files_is_read(folder: Path) -> None:
    whole = (folder / DATA).read_bytes()
    (folder / DATA).rename(folder / "model.ckpt.data-00000-of-00002")
    (folder / "model.ckpt.data-00001-of-00002").write_bytes(b"12345" + whole)  # numbers need not lie at fours

    def split(rows: dict[bytes, bytes]) -> dict[bytes, bytes]:
        entry = rows[b"model/wpe"]
        at = tensor_bundle.read_entry(entry).offset
        moved = entry.replace(b"\x20" + varint(at) + b"\x28", b"\x18\x01\x20" + varint(at + 5) + b"\x28")
        return rows | {b"": b"\x08\x02\x1a\x02\x08\x01", b"model/wpe": moved}

    rewrite(folder, split)
    back, ours = open_source(folder), source_of()
    assert all(torch.equal(back.tensor(n), ours.tensor(n)) for n in ("wpe.weight", "wte.weight"))
    (folder / "model.ckpt.data-00001-of-00002").unlink()
    assert "there is no file" in refuse(folder, InputError)


def entry(folder: Path, name: str) -> bytes:
    return read_table((folder / INDEX).read_bytes())[name.encode()]


@pytest.mark.parametrize(
    ("words", "change"),
    {
        "lacks tensor 'model/h1/ln_1/g'": lambda r: {k: v for k, v in r.items() if k != b"model/h1/ln_1/g"},
        "has the unknown tensor 'model/h2/ln_1/g'": lambda r: r | {b"model/h2/ln_1/g": r[b"model/h1/ln_1/g"]},
        "'model/wpe' has the shape [260, 8]": lambda r: r | {b"model/wpe": r[b"model/wte"]},
        "'model/wpe' is of TensorFlow's type 3, no": lambda r: (
            r | {b"model/wpe": b"\x08\x03" + r[b"model/wpe"][2:]}
        ),
        "the place of tensor 'model/wpe' does not fit": lambda r: (
            r | {b"model/wpe": r[b"model/wpe"] + b"\x18\x05"}
        ),
        "data-00000-of-00001 is cut short": lambda r: (
            r | {b"model/wpe": r[b"model/wpe"] + b"\x20\xff\xff\x7f"}
        ),
        "has another checksum": lambda r: r | {b"model/wpe": r[b"model/wpe"][:-1] + b"\x00"},
        "is kept in slices": lambda r: r | {b"model/wpe": r[b"model/wpe"] + b"\x3a\x00"},
        "more than 8 dimensions": lambda r: r | {b"model/wpe": piece(2, piece(2, b"\x08\x01") * 9)},
        "a number in it does not end": lambda r: r | {b"model/wpe": b"\xff" * 11},
        "an entry of it is cut short": lambda r: r | {b"model/wpe": b"\x12\x7f"},
        "an entry of it is damaged": lambda r: r | {b"model/wpe": b"\x0b"},
        "names no data files": lambda r: r | {b"": b""},
        "not little-endian": lambda r: r | {b"": b"\x08\x01\x10\x01"},
        "'utf-8' codec can't decode": lambda r: r | {b"model/wp\xff": r[b"model/wpe"]},
    }.items(),
)
def test_an_index_that_does_not_fit_is_refused(
    words: str, change: Callable[[dict[bytes, bytes]], dict[bytes, bytes]], folder: Path
) -> None:
    rewrite(folder, change)
    assert words in refuse(folder)


def test_a_compressed_index_is_refused(folder: Path) -> None:
    octets = bytearray((folder / INDEX).read_bytes())
    end = octets.index(bytes.fromhex("00000000 01000000 00 c0f2a1b0"))  # of the only block
    octets[end - 5] = 1
    octets[end - 4 : end] = crc32c.masked(crc32c.crc32c(octets[: end - 4])).to_bytes(4, "little")
    (folder / INDEX).write_bytes(octets)
    assert "it is compressed (snappy)" in refuse(folder)


def test_a_flipped_bit_anywhere_in_the_numbers_is_found(folder: Path) -> None:
    whole = (folder / DATA).read_bytes()
    for at in random.Random(0).sample(range(len(whole)), 30):
        (folder / DATA).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert "has another checksum" in refuse(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused(value: float, tmp_path: Path) -> None:
    def spoil(w: torch.Tensor) -> torch.Tensor:
        w.view(-1)[-1] = value
        return w

    openai.write(tmp_path / "m", source_of(edit=spoil))
    assert "holds values that are not numbers" in refuse(tmp_path / "m")


@pytest.mark.parametrize("name", [INDEX, DATA])
def test_a_missing_file_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    assert name in refuse(folder, InputError)


def test_another_networks_checkpoint_is_named(folder: Path) -> None:
    (folder / "hparams.json").unlink()
    (folder / "bert_config.json").write_text("{}")
    row = entry(folder, "model/wpe")
    rewrite(folder, lambda rows: {b"": rows[b""], b"bert/embeddings/word_embeddings": row})
    said = refuse(folder)
    assert "without hparams.json" in said and "bert/embeddings/word_embeddings" in said


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("lacks tensor", {"n_layer": 3}),
        ("has the unknown tensor", {"n_layer": 1}),
        ("more than any model has", {"n_layer": 2**31 - 1}),
        ("must be a whole number", {"n_layer": 10**400}),
        ("must be a whole number", {"n_embd": "8"}),
        ("cannot be split evenly", {"n_head": 3}),
        ("has the shape", {"n_embd": 2**31 - 2}),
        ("has the shape", {"n_vocab": 259}),
    ],
)
def test_hparams_that_do_not_fit_are_refused(words: str, fields: dict[str, object], folder: Path) -> None:
    path = folder / "hparams.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    assert words in refuse(folder)


@pytest.mark.parametrize("text", ["", "[]", '{"n_layer": 2}', "\0", "[" * 100_000])
def test_other_hparams_are_refused(text: str, folder: Path) -> None:
    (folder / "hparams.json").write_text(text)
    assert "hparams.json" in refuse(folder)


def test_another_vocabulary_is_refused(folder: Path) -> None:
    Tokenizer(Tokenizer.gpt2().pairs[:5]).save(folder)
    assert "has 260 tokens, but its vocabulary has 262" in refuse(folder)


def test_what_openais_code_cannot_compute_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="epsilon"):
        openai.write(tmp_path / "m", source_of(GPT2Config(1, 1, 8, 260, 16, layer_norm_epsilon=1e-6)))
    assert not list(tmp_path.iterdir())


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    source = source_of()

    def tensor(name: str) -> torch.Tensor:
        if name == "h.1.ln_1.weight":
            raise KeyboardInterrupt
        return source.tensor(name)

    with pytest.raises(KeyboardInterrupt):
        openai.write(tmp_path / "m", Source("workbench", tmp_path, CONFIG, source.tokenizer, tensor))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "rounds"), [(INDEX, 300), (DATA, 60), ("hparams.json", 100), ("checkpoint", 50)]
)
def test_damaged_files_are_refused_or_sound(name: str, rounds: int, folder: Path) -> None:
    refused, _ = survived("openai", folder, folder / name, rounds)
    assert refused > 0


def test_hostile_rows_under_right_checksums_are_refused_or_sound(folder: Path) -> None:
    draw, path = random.Random(0), folder / INDEX
    rows = read_table(path.read_bytes())
    names, refused = list(GPT2(CONFIG).state_dict()), 0
    tracemalloc.start()
    for _ in range(500):
        key = draw.choice(list(rows))
        value = bytearray(rows[key])
        for _ in range(draw.randint(1, 3)):
            value[draw.randrange(len(value))] = draw.choice([0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)])
        block = bytearray(sealed({**rows, key: bytes(value)}, 16)[:-5])
        if draw.random() < 0.5:  # the frame of the rows as well
            block[draw.randrange(len(block))] = draw.choice([0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)])
        trailer = crc32c.masked(crc32c.crc32c(bytes(block) + b"\0")).to_bytes(4, "little")
        whole = bytes(block) + b"\0" + trailer
        index = sealed({b"n": b"\0" + varint(len(block))}, 1)
        footer = b"\0\0" + varint(len(whole)) + varint(len(index) - 5)
        magic = tensor_bundle.MAGIC.to_bytes(8, "little")
        path.write_bytes(whole + index + footer.ljust(40, b"\0") + magic)
        try:
            source = openai.open_source(folder)
            assert all(bool(source.tensor(name).isfinite().all()) for name in names)
        except WorkbenchError:
            refused += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 300 < refused < 500 and peak < 50e6
