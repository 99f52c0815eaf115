"""Learning a vocabulary: three programs agree, the paper's rule holds, other programs load what was learned."""

from __future__ import annotations

import itertools
import json
import os
import random
import threading
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.errors import ConfigError, InputError, TooLittleData
from gpt2.tokens import Tokenizer, learn
from gpt2.tokens.bpe import BYTES_IN_ORDER, TiktokenEncoder, sound
from gpt2.tokens.learn import Merge, learn_merges, learn_plainly
from gpt2.tokens.vocabulary import unspell

learn_fast = learn._learn_fast


def huggingface_merges(texts: list[str], wanted: int) -> list[Merge]:
    """What the trainer of Hugging Face's `tokenizers` learns: the referee."""
    pieces = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = pieces
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=256 + wanted, initial_alphabet=pieces.alphabet(), show_progress=False
    )
    theirs.train_from_iterator(texts, trainer)
    return [(unspell(a), unspell(b)) for a, b in json.loads(theirs.to_str())["model"]["merges"]]


def generated(seed: int, n: int) -> list[str]:
    """Texts of made-up words, as often as words of a language are, with digits and marks between them."""
    dice = random.Random(seed)
    words = ["".join(dice.choices("etaoinshrdlué", k=dice.randint(1, 9))) for _ in range(3_000)]
    words += ["12", "1984", "I'm", "don't", "they'd", "…", "\n\n", "(see", "dog.", "dog!", "dog?", "日本"]
    weights = [1 / (i + 3) for i in range(len(words))]
    dice.shuffle(words)
    return [" ".join(dice.choices(words, weights, k=400)) + "\n" for _ in range(n)]


@pytest.fixture(scope="module")
def prose() -> list[str]:
    """A slice of real prose where there is real data, generated text elsewhere."""
    if "GPT2_DATA" not in os.environ:
        return generated(1, 200)
    folder = Path(os.environ["GPT2_DATA"]) / "prose"
    texts = [path.read_text(encoding="utf-8")[:4_000] for path in sorted(folder.rglob("*.txt"))]
    with (folder / "bbc_news.jsonl").open(encoding="utf-8") as stream:
        return texts + [json.loads(next(stream))["text"] for _ in range(100)]


# Characters that Unicode added lately are letters to one library and not yet to another: "Cn" leaves them out.
TEXTS = st.lists(
    st.one_of(
        st.text("ab 1.'s\n", max_size=60),
        st.text(st.characters(exclude_categories=("Cn",)), max_size=20),
        st.text(st.characters(categories=("Cs", "Ll", "Zs")), max_size=20),
    ),
    max_size=8,
)


@settings(max_examples=150, deadline=None, database=None)
@given(TEXTS, st.integers(0, 400))
def test_three_learners_agree_on_random_texts_until_nothing_is_left(texts: list[str], wanted: int) -> None:
    merges = learn_fast(texts, wanted)
    assert merges == learn_plainly(texts, wanted)
    assert merges == huggingface_merges([sound(text) for text in texts], wanted)


def test_three_learners_agree_on_prose(prose: list[str]) -> None:
    merges = learn_merges(prose, 257 + 2_000)
    assert merges == learn_plainly(prose, 2_000)
    assert merges == huggingface_merges(prose, 2_000)


def test_one_long_text_is_learned_as_many_short_ones_are(prose: list[str]) -> None:
    """gigatoken cuts files between threads; the cut must not fall into a word."""
    text = "".join(prose) * 5
    assert learn_merges([text], 2_000) == huggingface_merges([text], 1_743)


def test_merges_made_up_by_the_fast_learner_are_cut_off() -> None:
    """Each word is one token after these, and gigatoken would go on with pairs that are nowhere."""
    assert learn_fast(["aab aab"], 40) == [(b"a", b"a"), (b"aa", b"b"), (b" ", b"aab")]
    assert learn_fast(["0000"], 40) == [(b"0", b"0"), (b"00", b"00")]
    assert learn_fast(["0000", "x"], 1) == [(b"0", b"0")]
    assert learn_fast(["a", "", "b"], 40) == learn_fast([], 40) == learn_fast([""], 40) == []


def test_numbering_is_gpt2s() -> None:
    tok = Tokenizer.learn(generated(2, 20), 600)
    assert tok.n_vocab == 600 and tok.end_of_text == 599
    assert tok.tokens[599] == b"<|endoftext|>"
    assert tok.tokens[:256] == Tokenizer.gpt2().tokens[:256] == [bytes([b]) for b in BYTES_IN_ORDER]
    assert [tok.tokens[left] + tok.tokens[right] for left, right in tok.pairs] == tok.tokens[256:599]
    assert all(left < 256 + i and right < 256 + i for i, (left, right) in enumerate(tok.pairs))


def test_equally_frequent_pairs_go_by_their_ids() -> None:
    assert learn_merges(["ba", "ab", "éa"], 259) == [(b"a", b"b"), (b"b", b"a")]
    assert learn_merges(["xy" * 3, "ab"], 258) == [(b"x", b"y")]


CONTRACTIONS = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'r", "'v", "'l"}


def kind(character: str) -> str:
    """Letter, number, white space or other, as GPT-2's pattern sorts characters."""
    category = unicodedata.category(character)[0]
    return category if category in "LN" else "Z" if character.isspace() else "other"


def test_no_merge_crosses_kinds_of_characters_except_one_leading_space(prose: list[str]) -> None:
    tok = Tokenizer.learn(prose + generated(3, 50), 4_000)
    told = 0
    for token in tok.tokens[256 : tok.end_of_text]:
        try:
            text = token.decode()
        except UnicodeDecodeError:
            continue  # part of a character
        told += 1
        rest = text[1:] if text[0] == " " and text.strip() else text
        assert len(set(map(kind, rest))) == 1 or rest in CONTRACTIONS, repr(text)
    assert told > 3_000
    assert b" the" in tok.ranks or b" e" in tok.ranks


def test_dog_with_three_marks_takes_one_place() -> None:
    """The paper's own example."""
    texts = ["dog.", "dog!", "dog?"] * 100
    with pytest.raises(TooLittleData, match=r"these texts have 2 pairs to learn.*ask for 259 or fewer"):
        Tokenizer.learn(texts, 260)
    assert Tokenizer.learn(texts, 259).tokens[256:258] == [b"do", b"dog"]


def test_nothing_is_learned_across_texts() -> None:
    with pytest.raises(TooLittleData, match="these texts have 0 pairs"):
        Tokenizer.learn(["x", "y"] * 500, 258)
    ends = ["a ", " b", "c\n", "\n d", "  ", "e"] * 50
    assert learn_fast(ends, 50) == learn_plainly(ends, 50) == huggingface_merges(ends, 50)


def test_no_text_can_forge_the_border_between_texts() -> None:
    """The byte 0xFF, as a lone surrogate from a file name and as the letter of that number."""
    texts = ["a\udcffb", "\udcff\udcff", "aÿb", "ÿÿ", "a\ufffdb", "\ud83e\udd17", "\ud83e", "\udd17"] * 20
    merges = learn_fast(texts, 100)
    assert merges == learn_plainly(texts, 100)
    assert merges == huggingface_merges([sound(text) for text in texts], 100)
    assert learn_fast(["a\udcffb"], 100) == learn_fast(["a\ufffdb"], 100)


@pytest.mark.parametrize("size", [0, 256, 65_537, -1])
def test_a_size_that_cannot_be_is_refused(size: int) -> None:
    with pytest.raises(ConfigError, match=rf"a vocabulary of {size:,} tokens cannot be: give 257 to 65,536"):
        Tokenizer.learn(["text"], size)


def test_the_smallest_vocabulary_is_bytes_alone() -> None:
    tok = Tokenizer.learn([], 257)
    assert tok.n_vocab == 257 and tok.pairs == []
    assert tok.encode("é") == tok.encode_plainly("é") == [127, 102]
    assert tok.decode(tok.encode("日本 ok")) == "日本 ok"


def test_too_little_text_is_refused_with_what_there_is() -> None:
    with pytest.raises(TooLittleData, match=r"ask for 257 or fewer"):
        Tokenizer.learn([], 300)
    with pytest.raises(TooLittleData, match=r"have 4 pairs to learn, too few for a vocabulary of 65,536"):
        Tokenizer.learn(["hello"] * 1_000, 65_536)
    with pytest.raises(InputError, match="many texts, not one"):
        Tokenizer.learn("hello", 300)


def test_texts_are_read_once_and_in_passing() -> None:
    def stream() -> Iterator[str]:
        yield from generated(4, 10)

    assert learn_merges(stream(), 400) == learn_merges(generated(4, 10), 400)


def test_without_gigatoken_the_readable_learner_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = generated(5, 10)
    merges = learn_merges(texts, 400)
    monkeypatch.setattr("gpt2.tokens.learn.util.find_spec", lambda name: None)
    monkeypatch.setattr("gpt2.tokens.learn._learn_fast", None)
    assert learn_merges(texts, 400) == merges


def test_learning_says_nothing_and_gives_the_outputs_back(capfd: pytest.CaptureFixture[str]) -> None:
    """Native code writes past Python; threads that learn at once must not lose the caller's outputs."""
    texts = generated(6, 5)
    threads = [threading.Thread(target=learn_merges, args=(texts, 300)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(1, b"still")
    os.write(2, b"here")
    assert capfd.readouterr() == ("still", "here")


def test_a_learned_vocabulary_is_the_same_everywhere(prose: list[str], tmp_path: Path) -> None:
    """Saved files: transformers, tiktoken, the plain twin and a second reading give the same ids."""
    transformers = pytest.importorskip("transformers")
    texts = prose[:40] + generated(7, 20) + ["", " ", "I'm  here\n\n", "naïve 日本 🤗 2019!"]
    tok = Tokenizer.learn(prose, 3_000)
    tok.save(tmp_path)
    ids, offsets = tok.encode_batch(texts)
    assert ids.max() > 2_500
    rows = [ids[a:b].tolist() for a, b in itertools.pairwise(offsets)]
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(theirs) == 3_000 and theirs.eos_token_id == tok.end_of_text == 2_999
    assert theirs(texts)["input_ids"] == rows
    file = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert [encoding.ids for encoding in file.encode_batch(texts)] == rows
    twin, twin_offsets = TiktokenEncoder(tok).encode_batch(texts)
    assert np.array_equal(twin, ids) and np.array_equal(twin_offsets, offsets)
    assert [tok.encode_plainly(text) for text in texts] == rows
    again = Tokenizer.load(tmp_path)
    assert again.pairs == tok.pairs and again.fingerprint == tok.fingerprint
    assert [tok.decode(row) for row in rows] == texts == [theirs.decode(row) for row in rows]


@settings(max_examples=40, deadline=None, database=None)
@given(st.lists(st.text("abcd 12.'s\n", min_size=1, max_size=80), min_size=1, max_size=6), st.data())
def test_a_learned_vocabulary_encodes_any_text_alike(texts: list[str], data: st.DataObject) -> None:
    """Each token is in reach of the merges, so that tiktoken's way gives the same ids."""
    tok = Tokenizer.from_merges(learn_fast(texts, 60))
    twin = TiktokenEncoder(tok)
    for token, i in tok.ranks.items():
        assert tok.merge_word(token) == [i]
    text = data.draw(st.text("abcd 12.'s\n", max_size=80))
    for each in (*texts, text):
        assert tok.encode(each) == tok.encode_plainly(each) == twin.encode(each)
        assert tok.decode(tok.encode(each)) == each
