"""Byte-level BPE: known answers, three twins, vocabulary files, streaming."""

from __future__ import annotations

import hashlib
import itertools
import json
import multiprocessing
import pickle
import random
import unicodedata
import zlib
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.errors import FormatError, InputError, MissingExtra
from gpt2.tokens import Tokenizer
from gpt2.tokens.bpe import BYTES_IN_ORDER, GigatokenEncoder, TiktokenEncoder, sound
from gpt2.tokens.vocabulary import encoder_json, tokenizer_json, vocab_bpe

SENTINELS = {
    "hello world": [31373, 995],
    "0": [15],
    "00": [405],
    "000": [830],
    "0000": [2388],
    "0" * 5: [20483],
    "0" * 6: [10535],
    "0" * 7: [24598],
    "0" * 8: [8269],
    "0" * 9: [10535, 830],
    "0" * 16: [25645],
    "0" * 17: [8269, 10535, 830],
    "The quick brown fox.": [464, 2068, 7586, 21831, 13],
    " ": [220],
    "\t": [197],
    "This is some text": [1212, 318, 617, 2420],
    "indivisible": [521, 452, 12843],
    "hello 👋 world 🌍": [31373, 50169, 233, 995, 12520, 234, 235],
    "toString constructor hasOwnProperty valueOf": [1462, 10100, 23772, 468, 23858, 21746, 1988, 5189],
    "naïve café 你好 🤗": [2616, 38776, 40304, 220, 19526, 254, 25001, 121, 12520, 97, 245],
    "I'm I'M": [40, 1101, 314, 6, 44],
    "1234567890": [10163, 2231, 30924, 3829],
    "\n\n\n": [628, 198],
    "   a": [220, 220, 257],
    " SolidGoldMagikarp": [43453],
    "Hello, I'm a language model,": [15496, 11, 314, 1101, 257, 3303, 2746, 11],
    "<|endoftext|>": [27, 91, 437, 1659, 5239, 91, 29],
    "": [],
}
# All code points of the planes that have characters, and parts of the others.
PLANES = [range(0xD800), range(0xE000, 0x40000), range(0x8FFF0, 0x90010), range(0xE0000, 0xE0200)]
CODE_POINTS = [chr(c) for c in itertools.chain(*PLANES, range(0x10FF00, 0x110000))]
ASSIGNED = [c for c in CODE_POINTS if unicodedata.category(c) != "Cn"]
RANDOM = random.Random(7)
HARD = {
    "control bytes": "".join(map(chr, range(32))) * 40 + "\x7f\x80\x9f\ufeff\u200b",
    "white space": "".join(
        w * k + "x" for w in " \t\n\r\v\f\x1c\x85\xa0\u1680\u2003\u2028\u3000" for k in (1, 2, 3, 9)
    ),
    "white space at the ends": "   \n\n  hello   ",
    "no-break spaces": "a\xa0 b \xa0c\xa0\xa0d",
    "contractions": "I'll you've WE'RE it'S don't 'tis 're''s'' can\u2019t they'd I'm 'to 'd'd",
    "emoji with joiners": "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f1e9\U0001f1ea "
    * 50,
    "combining": "e\u0301a\u0308" * 300,
    "Chinese": "我爱北京天安门" * 100,
    "other digits": "\u00b2\u00b3\u00bd\u2167\u0967" * 50 + "0123456789" * 100,
    "replacement": b"\xff\xfe bad \xc3( \xed\xa0\x80".decode("utf-8", "replace") * 20,
    "random code points": "".join(RANDOM.choices(ASSIGNED, k=20_000)),
    "random ASCII": "".join(chr(RANDOM.randrange(32, 127)) for _ in range(20_000)),
    "punctuation": "".join(RANDOM.choices("!?.,-_=*#/\\'\" ", k=20_000)),
    "special": "a<|endoftext|>b <|endoftext|><|endoftext|>",
    "lone surrogates": "a\ud800b \udfff",
    "surrogate pair": "a \ud83e\udd17 b",
}


@pytest.fixture(scope="module")
def tok() -> Tokenizer:
    return Tokenizer.gpt2()


@pytest.fixture(scope="module")
def tiktoken_twin(tok: Tokenizer) -> TiktokenEncoder:
    return TiktokenEncoder(tok)


def test_openai_files_byte_for_byte(tok: Tokenizer) -> None:
    def sha(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()

    assert sha(encoder_json(tok)) == "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"
    assert sha(vocab_bpe(tok)) == "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
    assert tok.fingerprint == sha(vocab_bpe(tok))


def test_packed_merges_are_as_documented(data: Path) -> None:
    packed = (resources.files("gpt2.tokens") / "data" / "gpt2.merges").read_bytes()
    original = Tokenizer.load(data / "gpt2_bpe")
    assert zlib.decompress(packed) == np.array(original.pairs, "<u2").T.tobytes()


@pytest.mark.parametrize("text", SENTINELS)
def test_known_answers(tok: Tokenizer, tiktoken_twin: TiktokenEncoder, text: str) -> None:
    ids = SENTINELS[text]
    assert tok.encode(text) == tok.encode_plainly(text) == tiktoken_twin.encode(text) == ids
    assert tok.decode(ids) == text


def test_end_of_text_only_where_allowed(tok: Tokenizer) -> None:
    assert tok.encode("hello <|endoftext|>", allow_special=True) == [31373, 220, 50256]
    assert tok.encode("<|endoftext|><|endoftext|>a", allow_special=True) == [50256, 50256, 64]
    assert tok.encode("plain", allow_special=True) == tok.encode("plain")
    assert 50256 not in tok.encode("hello <|endoftext|>")
    assert tok.end_of_text == 50256 and tok.n_vocab == 50257
    assert tok.decode([50256]) == "<|endoftext|>"


@pytest.mark.parametrize("name", HARD)
def test_three_twins_on_hard_text(tok: Tokenizer, tiktoken_twin: TiktokenEncoder, name: str) -> None:
    text = HARD[name]
    fast = tok.encode(text)
    assert fast == tok.encode_plainly(text)
    assert fast == tiktoken_twin.encode(text)
    assert tok.decode(fast) == sound(text)


def test_three_twins_on_every_character(tok: Tokenizer, tiktoken_twin: TiktokenEncoder) -> None:
    texts = ["".join(CODE_POINTS), "".join(f"a{c}1 {c}" for c in CODE_POINTS)]
    ids, offsets = tok.encode_batch(texts)
    theirs, their_offsets = tiktoken_twin.encode_batch(texts)
    assert np.array_equal(ids, theirs) and np.array_equal(offsets, their_offsets)
    assert tok.decode(ids) == "".join(texts)
    sample = "".join(f"a{c}1 {c}" for c in ASSIGNED[:0x3000])
    assert tok.encode_plainly(sample) == tok.encode(sample)


ANY_TEXT = st.text(st.characters(exclude_categories=("Cn",)))


@settings(max_examples=300, deadline=None, database=None)
@given(st.one_of(ANY_TEXT, st.text("'dlmrstve \n\t\xa01.é日!")))
def test_any_text_comes_back(text: str) -> None:
    """Lone surrogates included, which come back as U+FFFD."""
    tok = Tokenizer.gpt2()
    ids = tok.encode(text)
    assert ids == tok.encode_plainly(text) == tok.encode_batch([text], parallel=False)[0].tolist()
    assert tok.decode(ids) == sound(text) and tok.decode_bytes(ids) == sound(text).encode()
    assert sound(text) == text or any("\ud800" <= c <= "\udfff" for c in text)


def test_surrogates_are_joined_or_replaced_one_by_one() -> None:
    assert sound("a\ud83e\udd17b") == "a🤗b"
    assert sound("\ud83eb\udd17 \udcff") == "\ufffdb\ufffd \ufffd"
    assert sound("\ufeff\ud83e\ud83e\udd17\ud83e") == "\ufeff\ufffd🤗\ufffd"


def test_twins_on_random_bytes(tok: Tokenizer, tiktoken_twin: TiktokenEncoder) -> None:
    texts = [RANDOM.randbytes(RANDOM.randrange(60)).decode("utf-8", "replace") for _ in range(10_000)]
    ids, offsets = tok.encode_batch(texts)
    same, same_offsets = tiktoken_twin.encode_batch(texts)
    assert ids.dtype == np.uint16 and offsets.dtype == np.int64
    assert np.array_equal(ids, same) and np.array_equal(offsets, same_offsets)
    assert ids.tolist() == [i for text in texts for i in tok.encode_plainly(text)]
    assert all(tok.decode(ids[a:b]) == t for t, a, b in zip(texts, offsets, offsets[1:], strict=False))


@pytest.mark.parametrize(
    "run", [" " * 100_000, "\n" * 100_000, "a" * 1_000_000, "ab" * 200_000, "0" * 50_000]
)
def test_fast_twins_on_long_runs(tok: Tokenizer, tiktoken_twin: TiktokenEncoder, run: str) -> None:
    assert tok.encode(run) == tiktoken_twin.encode(run)


def test_readable_twin_on_long_runs(tok: Tokenizer) -> None:
    for run in (" " * 3_000, "a" * 3_000, "-" * 3_000, "ha" * 1_000):
        assert tok.encode_plainly(run) == tok.encode(run)


def test_batch_is_the_same_on_one_thread_and_without_texts(tok: Tokenizer) -> None:
    texts = ["one", "", "two <|endoftext|>", "a\ud800"]
    ids, offsets = tok.encode_batch(texts)
    alone, _ = tok.encode_batch(texts, parallel=False)
    assert offsets[1] == offsets[2] and offsets[-1] == len(ids)
    assert np.array_equal(ids, alone)
    assert [ids[a:b].tolist() for a, b in itertools.pairwise(offsets)] == [tok.encode(t) for t in texts]
    ids, offsets = tok.encode_batch([])
    assert len(ids) == 0 and offsets.tolist() == [0]
    with pytest.raises(InputError, match="list of texts"):
        tok.encode_batch("one text")


def test_gigatoken_renewed_in_between(tok: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GigatokenEncoder, "RENEW_AFTER_CHARACTERS", 10)
    encoder = GigatokenEncoder(tok)
    engine = encoder._engine
    assert encoder.encode("The quick brown fox.") == SENTINELS["The quick brown fox."]
    assert encoder._engine is not engine


def test_threads_share_a_tokenizer(tok: Tokenizer) -> None:
    """gigatoken itself serves one thread and raises in another that comes meanwhile."""
    documents = [text for text in SENTINELS if text] * 300
    wanted = [SENTINELS[text] for text in documents]

    def work(k: int) -> bool:
        ids, offsets = tok.encode_batch(documents, parallel=k % 2 == 0)
        rows = [ids[a:b].tolist() for a, b in itertools.pairwise(offsets)]
        return rows == wanted and all(tok.encode(text) == ids for text, ids in SENTINELS.items())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(24)))


def encode_in_worker(texts: list[str]) -> list[int]:
    return [int(i) for i in Tokenizer.gpt2().encode_batch(texts)[0]]


def test_worker_processes_encode(tok: Tokenizer) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(encode_in_worker, (["hello", " world"],)) == [31373, 995]


def test_without_gigatoken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpt2.tokens.bpe.util.find_spec", lambda name: None)
    fresh = Tokenizer(Tokenizer.gpt2().pairs)
    assert fresh.encode("hello world") == [31373, 995]
    ids, offsets = fresh.encode_batch(["hello", " world"], parallel=False)
    assert ids.dtype == np.uint16 and ids.tolist() == [31373, 995] and offsets.tolist() == [0, 1, 2]


def test_decoding(tok: Tokenizer) -> None:
    assert tok.decode_bytes([220]) == b" "
    assert tok.decode([19526]) == "\ufffd"
    assert tok.decode(np.array([31373, 995], np.uint16)) == "hello world"
    for wrong in (-1, 50257):
        with pytest.raises(InputError, match=f"token {wrong} .* 0 to 50256"):
            tok.decode([31373, wrong])


def test_streaming_equals_decoding(tok: Tokenizer) -> None:
    for text in ["hello 👋 world 🌍", "naïve café 你好 🤗", HARD["emoji with joiners"]]:
        stream = tok.stream()
        parts = [stream.push(i) for i in tok.encode(text)]
        assert "\ufffd" not in "".join(parts)
        assert "".join(parts) + stream.finish() == text
    for _ in range(2_000):
        ids = [RANDOM.randrange(256) for _ in range(RANDOM.randrange(12))]
        stream = tok.stream()
        assert "".join(map(stream.push, ids)) + stream.finish() == tok.decode(ids)


def test_printable_bytes_come_first(tok: Tokenizer) -> None:
    assert BYTES_IN_ORDER[0] == ord("!") and sorted(BYTES_IN_ORDER) == list(range(256))
    assert [tok.tokens[i] for i in (0, 93, 220, 256)] == [b"!", b"~", b" ", b" t"]


def test_saved_folder_loads_everywhere(tok: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tok.save(tmp_path)
    assert Tokenizer.load(tmp_path).pairs == tok.pairs
    theirs = transformers.GPT2TokenizerFast.from_pretrained(tmp_path)
    auto = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.eos_token_id == 50256 and len(theirs) == 50257
    for name, text in HARD.items():
        if name not in ("special", "lone surrogates", "surrogate pair"):
            assert theirs(text)["input_ids"] == auto(text)["input_ids"] == tok.encode(text)
    assert theirs.decode(tok.encode("naïve café 你好")) == "naïve café 你好"
    for name in ("encoder.json", "vocab.bpe"):
        (tmp_path / name).unlink()
    assert Tokenizer.load(tmp_path).fingerprint == tok.fingerprint


def test_transformers_own_files_load(tok: Tokenizer, tmp_path: Path) -> None:
    """Files that transformers wrote itself, and the pair of files that its older versions wrote."""
    transformers = pytest.importorskip("transformers")
    tok.save(tmp_path / "ours")
    transformers.GPT2TokenizerFast.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    assert not (tmp_path / "theirs" / "encoder.json").exists()
    assert Tokenizer.load(tmp_path / "theirs").fingerprint == tok.fingerprint
    (tmp_path / "vocab.json").write_text(encoder_json(tok))
    (tmp_path / "merges.txt").write_text(vocab_bpe(tok), encoding="utf-8")
    assert Tokenizer.load(tmp_path).fingerprint == tok.fingerprint


SMALL = Tokenizer.from_merges([(b"a", b"b"), (b" ", b"ab"), (b"ab", b"c")])


def test_small_vocabulary(tmp_path: Path) -> None:
    assert SMALL.n_vocab == 260 and SMALL.end_of_text == 259
    assert SMALL.encode(" abc") == SMALL.encode_plainly(" abc") == TiktokenEncoder(SMALL).encode(" abc")
    SMALL.save(tmp_path)
    assert Tokenizer.load(tmp_path).pairs == SMALL.pairs
    copy = pickle.loads(pickle.dumps(SMALL))
    assert copy.fingerprint == SMALL.fingerprint != Tokenizer.gpt2().fingerprint


def test_unreachable_token_needs_gigatoken() -> None:
    odd = Tokenizer.from_merges([(b"a", b"b"), (b"b", b"c"), (b"a", b"bc")])
    assert odd.encode("abc") == odd.encode_plainly("abc") == [256, odd.ranks[b"c"]]
    with pytest.raises(MissingExtra, match="pip install gigatoken"):
        TiktokenEncoder(odd)


def test_impossible_merges_are_refused() -> None:
    with pytest.raises(InputError, match="not both known"):
        Tokenizer([(0, 256)])
    with pytest.raises(InputError, match="not both known"):
        Tokenizer.from_merges([(b"ab", b"c")])
    with pytest.raises(InputError, match="same token"):
        Tokenizer([(64, 65), (64, 65)])


def _changed(**changes: Any) -> str:
    definition = json.loads(tokenizer_json(SMALL))
    for path, value in changes.items():
        *outer, last = path.split("__")
        place = definition
        for key in outer:
            place = place[key]
        place[last] = value
    return json.dumps(definition)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not readable JSON"),
        ("[]", "not a tokenizer"),
        (_changed(model__type="WordPiece"), "a WordPiece model"),
        (_changed(model__byte_fallback=True), "byte_fallback"),
        (_changed(model__merges=None), "no merges"),
        (_changed(normalizer={"type": "NFC"}), "a NFC normalizer"),
        (_changed(pre_tokenizer={"type": "Metaspace"}), "type Metaspace"),
        (_changed(pre_tokenizer={"type": "ByteLevel", "add_prefix_space": True}), "a space put in front"),
        (_changed(model__merges=["a b c"]), "not two tokens"),
        (_changed(model__merges=["ab c"]), "not both known"),
        (_changed(model__vocab={"!": 0}), "is missing"),
        (_changed(model__vocab=[]), "no vocabulary"),
        (_changed(model__vocab="text"), "no vocabulary"),
        (_changed(added_tokens=[{"content": "<pad>"}]), "not a whole tokenizer"),
        (_changed(added_tokens=["<pad>"]), "not a whole tokenizer"),
        (_changed(pre_tokenizer="ByteLevel"), "not a whole tokenizer"),
        (_changed(model__merges=[7]), "not two tokens"),
        (_changed(added_tokens=[{"content": "<pad>", "id": 260}]), "'<pad>' comes neither"),
        (_changed(added_tokens=[{"content": "<|endoftext|>", "id": 0}]), "should be 259"),
    ],
)
def test_foreign_tokenizer_json_is_named(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(FormatError, match=reason):
        Tokenizer.load(tmp_path)


def test_folder_without_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no vocabulary"):
        Tokenizer.load(tmp_path)
    (tmp_path / "encoder.json").write_text("[]")
    (tmp_path / "vocab.bpe").write_bytes(b"\xff\xfe")
    with pytest.raises(FormatError, match="cannot be read as text"):
        Tokenizer.load(tmp_path)


def test_prose_equals_tiktoken(tok: Tokenizer, tiktoken_twin: TiktokenEncoder, data: Path) -> None:
    """A part of each file; the acceptance script takes all of it."""
    paths = sorted((data / "prose").rglob("*.txt"))
    texts = [path.read_text(encoding="utf-8")[-40_000:] for path in paths]
    ids, offsets = tok.encode_batch(texts)
    theirs, their_offsets = tiktoken_twin.encode_batch(texts)
    assert len(texts) > 100 and len(ids) > 500_000
    assert np.array_equal(ids, theirs) and np.array_equal(offsets, their_offsets)
    assert tok.decode(ids) == "".join(texts)
    assert tok.encode_plainly(texts[0]) == tok.encode(texts[0])


def test_tiny_shakespeare_counts(tok: Tokenizer, data: Path) -> None:
    ids = tok.encode((data / "prose" / "tinyshakespeare.txt").read_text(encoding="utf-8"))
    assert len(ids) == 338_025
    assert ids[:8] == [5962, 22307, 25, 198, 8421, 356, 5120, 597]
