"""Own text as training and held-out tokens: every kind of file, few documents and many, too little and no text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

import gpt2
from gpt2.errors import ConfigError, FormatError, InputError, TooLittleData
from gpt2.finetuning.own_text import cut_after, sequence_length, write_tokens
from gpt2.tokens.shards import Shards, Split

TOK = gpt2.Tokenizer(gpt2.Tokenizer.gpt2().pairs[:143])
BOOK = "\n\n".join(
    f"Paragraph {i}. " + " ".join(f"word{i}x{j}" for j in range(20)) + f"\nIts second line is {i * i}."
    for i in range(100)
)


def texts(split: Split) -> list[str]:
    return [TOK.decode(split.document(i).tolist()) for i in range(split.n_documents)]


def written(text: Path, folder: Path, heldout: float = 0.1, seed: int = 0) -> Shards:
    write_tokens(text, TOK, folder, heldout, seed)
    return Shards.open(folder, verify=True)


def test_a_stretch_of_a_single_book_is_held_out_between_paragraphs(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(BOOK)
    shards = written(tmp_path / "book.txt", tmp_path / "tokens")
    before, after = texts(shards.train)
    pieces = texts(shards.heldout)
    assert len(pieces) > 1 and shards.train.document_ids == ["book.txt before", "book.txt after"]
    whole = " ".join([before, *pieces, after])
    assert whole.split() == BOOK.split(), "every word once, in order"
    share = sum(map(len, pieces)) / len(BOOK)
    assert 0.08 < share < 0.2
    assert pieces[0].startswith("Paragraph") and after.startswith("Paragraph")
    again = written(tmp_path / "book.txt", tmp_path / "again")
    assert texts(again.heldout) == pieces
    other = written(tmp_path / "book.txt", tmp_path / "other", seed=1)
    assert texts(other.heldout) != pieces


def test_the_name_of_a_file_holds_nothing_out(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    for name in ("held out", "held out book.txt#1", "book.txt held out"):
        (tmp_path / "notes" / f"{name}.txt").write_text("A short note.")
    (tmp_path / "notes" / "book.txt").write_text(BOOK)
    shards = written(tmp_path / "notes", tmp_path / "tokens")
    assert texts(shards.train).count("A short note.") == 3
    assert shards.heldout.n_documents > 1


def test_many_documents_are_held_out_whole(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    parts = BOOK.split("\n\n")[:20]
    for i, part in enumerate(parts):
        (tmp_path / "notes" / f"{i:02d}.md").write_text(part)
    shards = written(tmp_path / "notes", tmp_path / "tokens")
    assert sorted(texts(shards.train) + texts(shards.heldout)) == sorted(parts)
    assert shards.heldout.n_documents == 2


def test_json_lines_and_parquet_give_the_same_tokens(tmp_path: Path) -> None:
    rows = [{"text": part, "label": i} for i, part in enumerate(BOOK.split("\n\n")[:20])]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = [written(tmp_path / f"a.{kind}", tmp_path / kind, heldout=0.0) for kind in ("jsonl", "parquet")]
    assert texts(found[0].train) == texts(found[1].train) == [row["text"] for row in rows]


def test_with_nothing_held_out_a_book_stays_whole(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(BOOK)
    shards = written(tmp_path / "book.txt", tmp_path / "tokens", heldout=0.0)
    assert texts(shards.train) == [BOOK] and shards.heldout.n_documents == 0


def test_a_text_without_lines_is_cut_between_words(tmp_path: Path) -> None:
    words = " ".join(f"w{i}" for i in range(3000))
    (tmp_path / "words.txt").write_text(words)
    shards = written(tmp_path / "words.txt", tmp_path / "tokens")
    parts = [*texts(shards.train)[:1], *texts(shards.heldout), *texts(shards.train)[1:]]
    assert " ".join(parts).split() == words.split()
    assert cut_after("abcdef", 3) == 3


def test_short_texts_are_not_cut(tmp_path: Path) -> None:
    (tmp_path / "short").mkdir()
    (tmp_path / "short" / "a.txt").write_text("hm")
    assert texts(written(tmp_path / "short", tmp_path / "one").train) == ["hm"], "then nothing is held out"
    (tmp_path / "short" / "b.txt").write_text("well")
    two = written(tmp_path / "short", tmp_path / "two")
    assert sorted(texts(two.train) + texts(two.heldout)) == ["hm", "well"] and two.heldout.n_documents == 1


@pytest.mark.parametrize(
    ("name", "content", "kind", "words"),
    [
        ("a.txt", b"", TooLittleData, "its files are empty"),
        ("a.jsonl", b"\n\n", TooLittleData, "its files are empty"),
        ("a.txt", "caf\xe9 au lait".encode("latin-1"), FormatError, "not UTF-8 text.*0xe9.*convert"),
        ("a.txt", "wide".encode("utf-16"), FormatError, "binary|not UTF-8"),
        ("a.jsonl", b'{"content": "x"}\n', FormatError, "no field 'text'.*its fields: content"),
        ("a.jsonl", b'{"text": 3}\n', FormatError, "no field 'text' with a string"),
        ("a.jsonl", b"{oh\n", FormatError, "line 1 .* is not JSON"),
        ("a.parquet", b"PAR1", FormatError, "damaged or not a Parquet file"),
        ("a.docx", b"x", InputError, "not one of the kinds of text"),
    ],
)
def test_what_is_no_text_is_refused_in_a_sentence(
    name: str, content: bytes, kind: type[Exception], words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(kind, match=words):
        write_tokens(tmp_path / name, TOK, tmp_path / "tokens", 0.1, 0)
    assert not (tmp_path / "tokens").exists()


def test_parquet_without_the_column_names_those_it_has(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"body": ["x"], "n": [1]}), tmp_path / "a.parquet")
    with pytest.raises(FormatError, match="no column 'text'; it has body, n"):
        write_tokens(tmp_path / "a.parquet", TOK, tmp_path / "tokens", 0.1, 0)


@pytest.mark.parametrize("share", [1.0, -0.1, float("nan")])
def test_impossible_shares_are_refused(share: float, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(BOOK)
    with pytest.raises(ConfigError, match="held-out"):
        write_tokens(tmp_path / "book.txt", TOK, tmp_path / "tokens", share, 0)


@pytest.mark.parametrize(
    ("tokens", "length"),
    [(10**6, 1024), (8 * 1024 + 1, 1024), (8 * 1024, 512), (2000, 128), (300, 32), (33, 32)],
)
def test_short_texts_are_learned_in_short_sequences(tokens: int, length: int) -> None:
    assert sequence_length(tokens, 8, 1024) == length


def test_too_little_text_is_refused() -> None:
    with pytest.raises(TooLittleData, match="32 training tokens, and at least 33"):
        sequence_length(32, 8, 1024)


def test_a_text_longer_than_the_context_is_learned_whole(tmp_path: Path) -> None:
    from gpt2.training.batches import Batches

    (tmp_path / "book.txt").write_text(BOOK)
    shards = written(tmp_path / "book.txt", tmp_path / "tokens", heldout=0.0)
    batches: Any = Batches(shards.train, 64, 1)
    n = batches.n_blocks
    seen = sorted(row.begin for step in range(n) for row in batches.rows(step))
    assert seen == [64 * i for i in range(n)] and n == (shards.train.n_tokens - 1) // 64
