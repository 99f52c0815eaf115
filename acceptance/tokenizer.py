"""The tokenizer on all the prose there is: equal to tiktoken, to Hugging Face's trainer and to transformers.

Encodes every `.txt` file and every text of every `.jsonl` file of `prose/` in the folder that GPT2_DATA names,
all code points of Unicode and 10,000 random byte strings; then learns 8,192 tokens from the same prose and
gives them to the other programs. Raises at the first difference.

    GPT2_DATA=DATA python -m acceptance.tokenizer
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import tokenizers
import transformers

import gpt2
from gpt2.errors import InputError
from gpt2.tokens.bpe import TiktokenEncoder
from gpt2.tokens.learn import Merge, learn_merges, learn_plainly
from gpt2.tokens.vocabulary import unspell

VOCABULARY = 8_192
SLICE = 400
"""documents whose ids are held against transformers, which is slow"""


def main() -> None:
    """Run all checks; raises `AssertionError` when one fails and `InputError` without data."""
    if "GPT2_DATA" not in os.environ:
        raise InputError("set GPT2_DATA to the folder of real data")
    texts = read_prose(Path(os.environ["GPT2_DATA"]) / "prose")
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    print(f"{len(texts):,} documents, {megabytes:.1f} MB")
    encoding_equals_tiktoken(texts)
    every_code_point_comes_back()
    random_bytes_come_back()
    learned_vocabulary_is_everyones(texts)


def read_prose(folder: Path) -> list[str]:
    """The texts of all `.txt` and `.jsonl` files under a folder."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.txt"))]
    for path in sorted(folder.rglob("*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            texts += [json.loads(line)["text"] for line in lines]
    if not texts:
        raise InputError(f"there is no prose in {folder}")
    return texts


def encoding_equals_tiktoken(texts: list[str]) -> None:
    """Equal ids for each document, with a batch, one by one and on one thread; decoding gives the text."""
    tok = gpt2.Tokenizer.gpt2()
    twin = TiktokenEncoder(tok)
    ids, offsets = tok.encode_batch(texts)
    alone, alone_offsets = tok.encode_batch(texts, parallel=False)
    assert np.array_equal(ids, alone) and np.array_equal(offsets, alone_offsets), "threads change ids"
    for text, (begin, end) in zip(texts, pairwise(offsets), strict=True):
        row = ids[begin:end].tolist()
        assert row == twin.encode(text) == tok.encode(text), f"other ids than tiktoken's: {text[:80]!r}"
        assert tok.decode(row) == text, f"decoding changes {text[:80]!r}"
        assert tok.end_of_text not in row
    print(f"ids equal tiktoken's and decode to the text: {len(ids):,} tokens of {len(texts):,} documents")


def every_code_point_comes_back() -> None:
    """Every code point alone and among letters, digits and spaces; surrogates cannot be in UTF-8."""
    tok = gpt2.Tokenizer.gpt2()
    twin = TiktokenEncoder(tok)
    points = [chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
    for text in ("".join(points), "".join(f"a{c}1 {c}" for c in points)):
        ids = tok.encode(text)
        assert ids == twin.encode(text), "other ids than tiktoken's on some code point"
        assert tok.decode(ids) == text, "decoding changes some code point"
    print(f"{len(points):,} code points: ids equal tiktoken's and decode to the text")


def random_bytes_come_back() -> None:
    """10,000 random byte strings, read as UTF-8 with replacement, through all three encoders."""
    tok = gpt2.Tokenizer.gpt2()
    twin = TiktokenEncoder(tok)
    dice = random.Random(2019)
    texts = [dice.randbytes(dice.randrange(200)).decode("utf-8", "replace") for _ in range(10_000)]
    for text in texts:
        ids = tok.encode(text)
        assert ids == twin.encode(text) == tok.encode_plainly(text), f"the encoders differ on {text!r}"
        assert tok.decode(ids) == text, f"decoding changes {text!r}"
    raw = [dice.choices(range(tok.n_vocab), k=20) for _ in range(10_000)]
    for ids in raw:
        stream = tok.stream()
        shown = "".join(stream.push(i) for i in ids) + stream.finish()
        assert shown == tok.decode(ids) == tok.decode_bytes(ids).decode("utf-8", "replace")
    print(f"{len(texts):,} random byte strings and {len(raw):,} random rows of ids come back")


def learned_vocabulary_is_everyones(texts: list[str]) -> None:
    """Merges as Hugging Face's trainer and the readable twin learn them; ids as transformers gives them."""
    wanted = VOCABULARY - 257
    begun = time.perf_counter()
    merges = learn_merges(texts, VOCABULARY)
    ours = time.perf_counter() - begun
    begun = time.perf_counter()
    theirs = huggingface_merges(texts, wanted)
    spent = time.perf_counter() - begun
    assert_same_merges(merges, theirs, "Hugging Face's trainer")
    assert_same_merges(merges, learn_plainly(texts, wanted), "the readable twin")
    print(
        f"{wanted:,} merges equal Hugging Face's and the readable twin's; {ours:.1f} s, theirs {spent:.1f} s"
    )

    tok = gpt2.Tokenizer.from_merges(merges)
    slice_ = [text[:20_000] for text in texts[:: max(1, len(texts) // SLICE)]]
    ids, offsets = tok.encode_batch(slice_)
    rows = [ids[begin:end].tolist() for begin, end in pairwise(offsets)]
    with tempfile.TemporaryDirectory() as folder:
        tok.save(folder)
        assert gpt2.Tokenizer.load(folder).pairs == tok.pairs
        reader = transformers.AutoTokenizer.from_pretrained(folder)
    assert reader(slice_)["input_ids"] == rows, "transformers gives other ids with our tokenizer.json"
    assert len(reader) == VOCABULARY and reader.eos_token_id == VOCABULARY - 1
    twin = TiktokenEncoder(tok)
    assert all(twin.encode(text) == row for text, row in zip(slice_, rows, strict=True)), "tiktoken differs"
    print(f"transformers and tiktoken give our ids with the learned vocabulary: {len(ids):,} tokens")


def huggingface_merges(texts: list[str], wanted: int) -> list[Merge]:
    """What `tokenizers` learns from the same texts with GPT-2's words and all bytes to begin with."""
    words = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = words
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=256 + wanted, initial_alphabet=words.alphabet(), show_progress=False
    )
    model.train_from_iterator(texts, trainer)
    return [(unspell(left), unspell(right)) for left, right in json.loads(model.to_str())["model"]["merges"]]


def assert_same_merges(ours: list[Merge], theirs: list[Merge], who: str) -> None:
    """Equal, or an `AssertionError` that lists the first differences."""
    different = [(i, a, b) for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b]
    assert ours == theirs, f"{len(different)} merges are not those of {who}, first {different[:5]}"


if __name__ == "__main__":
    main()
