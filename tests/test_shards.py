"""Shard folders: what goes in comes out, held-out stays apart, damage is named, a kill leaves nothing half."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.errors import ConfigError, FormatError, InputError, TooLittleData
from gpt2.tokens import Shards, Split, Tokenizer, choose_heldout, read_llmc, shards, write_shards
from gpt2.tokens.bpe import sound
from gpt2.tokens.shards import Document
from gpt2.workspace import read_json, write_json

SMALL = Tokenizer.from_merges([(b"t", b"h"), (b" ", b"th"), (b" th", b"e")])
DOCUMENTS: list[Document] = [
    ("a/1", "a", "the first, then the other"),
    ("a/2", "a", ""),
    ("b/1", "b", "says <|endoftext|> and goes on <|endoftext|>"),
    ("c/1", "c", "<|endoftext|>"),
    ("d/\udce9", "d\udce9", "lone \ud83e surrogate, whole \ud83e\udd17 pair"),
    ("e/1", "e", ""),
    ("f/1", "f", "naïve 日本 🤗\n\n  end "),
    ("a/3", "a", "the" * 50),
    ("g/1", "g", ""),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_shards(DOCUMENTS, SMALL, tmp_path / "shards", {"b", "e", "nowhere"}, shard_tokens=100)
    return tmp_path / "shards"


def contents(split: Split, tokenizer: Tokenizer) -> list[Document]:
    texts = [tokenizer.decode(split.document(i)) for i in range(split.n_documents)]
    return list(zip(split.document_ids, split.groups, texts, strict=True))


def test_documents_come_out_as_they_went_in(folder: Path) -> None:
    """In order; text that spells the end of text is text, and empty documents are documents."""
    found = Shards.open(folder, verify=True)
    for split, chosen in ((found.train, False), (found.heldout, True)):
        wanted = [d for d in DOCUMENTS if (d[1] in {"b", "e"}) == chosen]
        assert contents(split, found.tokenizer) == [tuple(map(sound, d)) for d in wanted]
        sizes = [len(sound(text).encode()) for _, _, text in wanted]
        assert [split.n_bytes(i) for i in range(len(wanted))] == sizes
        # one <|endoftext|> before each document, and nowhere else
        row = split.read(0, split.n_tokens)
        assert np.flatnonzero(row == SMALL.end_of_text).tolist() == split.starts.tolist()
        assert split.starts.tolist()[0] == 0 and row.dtype == np.uint16
        summary = found.summary["heldout" if chosen else "train"]
        assert summary == {"documents": len(wanted), "tokens": split.n_tokens, "bytes": sum(sizes)}
    assert found.tokenizer.pairs == SMALL.pairs
    assert found.summary["fingerprint"] == SMALL.fingerprint and found.summary["n_vocab"] == SMALL.n_vocab


def test_the_summary_is_what_writing_returned(tmp_path: Path) -> None:
    written = write_shards(DOCUMENTS, SMALL, tmp_path / "s", {"c"})
    assert Shards.open(tmp_path / "s").summary == written
    train, heldout = written["train"]["tokens"], written["heldout"]["tokens"]
    assert repr(Shards.open(tmp_path / "s")).endswith(f"/s', {train} + {heldout} tokens)")


@pytest.mark.parametrize("shard_tokens", [1, 2, 7, 64])
def test_documents_may_lie_over_many_files(tmp_path: Path, shard_tokens: int) -> None:
    write_shards(DOCUMENTS, SMALL, tmp_path / "whole", {"b"})
    write_shards(DOCUMENTS, SMALL, tmp_path / "cut", {"b"}, shard_tokens=shard_tokens)
    whole, cut = Shards.open(tmp_path / "whole"), Shards.open(tmp_path / "cut", verify=True)
    assert len(whole.train.files) == 1 and len(cut.train.files) == -(-whole.train.n_tokens // shard_tokens)
    assert {file.count for file in cut.train.files[:-1]} == {shard_tokens}
    assert contents(cut.train, SMALL) == contents(whole.train, SMALL)
    n = whole.train.n_tokens
    row = whole.train.read(0, n)
    dice = np.random.default_rng(0)
    for start, stop in [*pairwise(sorted(dice.integers(0, n + 1, 60).tolist())), (0, n), (0, 0), (n, n)]:
        assert np.array_equal(cut.train.read(start, stop), row[start:stop])


def test_more_documents_than_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [(f"{i}", f"g{i % 7}", f"the {i} then " * (i % 5)) for i in range(200)]
    write_shards(documents, SMALL, tmp_path / "one", {"g3"}, shard_tokens=300)
    monkeypatch.setattr(shards, "BATCH_CHARACTERS", 4_000)
    assert len(list(shards._batches(documents))) > 40
    write_shards(iter(documents), SMALL, tmp_path / "many", {"g3"}, shard_tokens=300)
    one, many = Shards.open(tmp_path / "one"), Shards.open(tmp_path / "many")
    assert contents(many.train, SMALL) == contents(one.train, SMALL)
    for path in (tmp_path / "one").rglob("*.bin"):
        assert (tmp_path / "many" / path.relative_to(tmp_path / "one")).read_bytes() == path.read_bytes()


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_shards(DOCUMENTS, SMALL, tmp_path / name, {"b"}, shard_tokens=50)
    files = [path for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert len(files) > 8
    for path in files:
        assert (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes() == path.read_bytes()


NAMES = st.text(st.characters(exclude_categories=("Cn",)), max_size=6)
ROWS = st.lists(
    st.tuples(
        NAMES, st.sampled_from("abcd"), st.text(st.characters(exclude_categories=("Cn",)), max_size=30)
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=25, deadline=None, database=None)
@given(rows=ROWS, out=st.sets(st.sampled_from("abcd")), shard_tokens=st.integers(10, 99))
def test_any_documents_come_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Document], out: set[str], shard_tokens: int
) -> None:
    folder = tmp_path_factory.mktemp("any") / "shards"
    write_shards(rows, SMALL, folder, out, shard_tokens=shard_tokens)
    found = Shards.open(folder, verify=True)
    clean = [(sound(a), b, sound(c)) for a, b, c in rows]
    assert contents(found.train, SMALL) == [row for row in clean if row[1] not in out]
    assert contents(found.heldout, SMALL) == [row for row in clean if row[1] in out]
    shutil.rmtree(folder.parent)


def test_whole_groups_are_held_out_until_the_share_is_reached() -> None:
    groups = [f"novel {i % 40}" for i in range(1_000)]
    for fraction in (0.0, 0.01, 0.05, 0.3, 0.9):
        out = choose_heldout(groups, fraction, seed=1)
        share = sum(group in out for group in groups) / len(groups)
        assert fraction <= share < fraction + 1 / 40 + 1e-9 and len(out) == round(share * 40)


def test_heldout_is_recorded_and_apart(tmp_path: Path) -> None:
    documents = [(f"{i}", f"novel {i % 40}", f"text {i}") for i in range(400)]
    out = choose_heldout([group for _, group, _ in documents], 0.1, seed=5)
    write_shards(documents, SMALL, tmp_path / "s", out)
    found = Shards.open(tmp_path / "s")
    assert set(found.heldout.groups) == out and len(out) == 4
    assert not set(found.train.groups) & out
    assert not set(found.train.document_ids) & set(found.heldout.document_ids)
    assert found.train.n_documents + found.heldout.n_documents == 400


GROUPS = st.lists(st.text(max_size=3), min_size=1, max_size=60)


@settings(max_examples=100, deadline=None, database=None)
@given(GROUPS, st.floats(0, 0.99), st.floats(0, 0.99), st.integers(0, 9), st.randoms())
def test_what_is_held_out_depends_on_names_and_seed_alone(groups, one, other, seed, dice) -> None:  # type: ignore[no-untyped-def]
    """Not on the order; and a larger share holds out a superset."""

    def choice(share: float) -> set[str]:
        try:
            return choose_heldout(groups, share, seed)
        except TooLittleData:
            return set(groups)

    small, large = choice(min(one, other)), choice(max(one, other))
    assert small <= large <= set(groups)
    assert sum(group in small for group in groups) >= min(one, other) * len(groups)
    dice.shuffle(groups)
    assert choice(min(one, other)) == small


def test_the_seed_decides_what_is_held_out() -> None:
    groups = [str(i) for i in range(200)]
    assert choose_heldout(groups, 0.1, 1) != choose_heldout(groups, 0.1, 2)
    assert choose_heldout(groups, 0.1, 1) == choose_heldout(groups, 0.1, 1)
    assert choose_heldout(["file\udcff", "other"], 0.5, 0) <= {"file\udcff", "other"}
    assert choose_heldout([], 0.5, 0) == set()


def test_impossible_wishes_are_refused(tmp_path: Path) -> None:
    for share in (-0.1, 1.0, 5.0, float("nan")):
        with pytest.raises(ConfigError, match="give at least 0 and less than 1"):
            choose_heldout(["a", "b"], share, 0)
    with pytest.raises(TooLittleData, match="takes all 2 groups: give documents of more groups"):
        choose_heldout(["a", "b"], 0.6, 0)
    for size in (0, -5, 2**31):
        with pytest.raises(ConfigError, match=f"shard_tokens is {size:,}; a file can have 1 to"):
            write_shards(DOCUMENTS, SMALL, tmp_path / "s", set(), shard_tokens=size)
    with pytest.raises(TooLittleData, match="no documents"):
        write_shards([], SMALL, tmp_path / "s", set())
    assert list(tmp_path.iterdir()) == []


def test_a_vocabulary_too_large_for_16_bits_is_refused(tmp_path: Path) -> None:
    gpt2 = Tokenizer.gpt2()
    letters = [gpt2.ranks[bytes([b])] for b in range(97, 123)]
    taken = set(gpt2.tokens)
    pairs = gpt2.pairs + [
        (a, b) for a in range(49_000, 50_256) for b in letters if gpt2.tokens[a] + gpt2.tokens[b] not in taken
    ]
    large = Tokenizer(pairs[:65_536])
    assert large.encode_batch(["text"])[0].dtype == np.uint32
    with pytest.raises(ConfigError, match="16-bit ids, and this vocabulary has 65,793 tokens"):
        write_shards(DOCUMENTS, large, tmp_path / "s", set())


def test_a_failing_source_leaves_no_trace_and_keeps_what_was_there(folder: Path) -> None:
    def broken() -> Iterator[Document]:
        yield from DOCUMENTS
        raise RuntimeError("the source broke")

    before = contents(Shards.open(folder).train, SMALL)
    with pytest.raises(RuntimeError, match="the source broke"):
        write_shards(broken(), SMALL, folder, set())
    assert [path.name for path in folder.parent.iterdir()] == ["shards"]
    assert contents(Shards.open(folder, verify=True).train, SMALL) == before
    write_shards(DOCUMENTS[:1], SMALL, folder, set())
    assert Shards.open(folder).train.n_documents == 1


def test_a_folder_of_other_things_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "index.html").write_text("dear")
    with pytest.raises(InputError, match="letters has other files"):
        write_shards(DOCUMENTS, SMALL, tmp_path / "letters", set())
    with pytest.raises(InputError, match=r"index.html is a file"):
        write_shards(DOCUMENTS, SMALL, tmp_path / "letters" / "index.html", set())
    assert (tmp_path / "letters" / "index.html").read_text() == "dear"


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("at", [1024, -1, -40])
def test_one_flipped_bit_is_found(folder: Path, at: int) -> None:
    flip(folder / "train" / "tokens-00000.bin", at)
    Shards.open(folder)
    with pytest.raises(FormatError, match=r"tokens-00000.bin is damaged: its checksum"):
        Shards.open(folder, verify=True)


def test_a_flipped_bit_in_the_table_is_found(folder: Path) -> None:
    flip(folder / "heldout" / "documents.parquet", 20)
    with pytest.raises(FormatError, match=r"documents.parquet is missing or damaged"):
        Shards.open(folder, verify=True)


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("train/tokens-00000.bin", None, r"tokens-00000.bin cannot be read: No such file"),
        ("train/tokens-00001.bin", 0, r"has 0 bytes, fewer than a header"),
        ("train/tokens-00000.bin", 1024, r"its header says 100 tokens, and it has 0.0"),
        ("train/tokens-00000.bin", 1223, r"its header says 100 tokens, and it has 99.5"),
        ("heldout/documents.parquet", None, r"documents.parquet is missing or damaged"),
        ("train/documents.parquet", 100, r"documents.parquet is missing or damaged"),
        ("tokenizer/vocab.bpe", 22, r"vocab.bpe is not a list of merges|not number its tokens"),
        ("tokenizer", None, r"there is no vocabulary in"),
        ("index.json", 40, r"index.json is not readable JSON"),
        ("index.json", None, r"is no finished shard folder \(it has no index.json\)"),
    ],
)
def test_what_is_missing_or_cut_short_is_named(
    folder: Path, name: str, size: int | None, reason: str
) -> None:
    path = folder / name
    if size is not None:
        os.truncate(path, size)
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    with pytest.raises(InputError, match=reason) as caught:
        Shards.open(folder)
    assert "\n" not in str(caught.value)


def test_files_that_do_not_belong_together_are_refused(folder: Path, tmp_path: Path) -> None:
    write_shards(DOCUMENTS, SMALL, tmp_path / "other", set(), shard_tokens=30)
    shutil.copy(tmp_path / "other/train/tokens-00000.bin", folder / "train/tokens-00000.bin")
    with pytest.raises(FormatError, match="has 30 tokens, and the index says 100"):
        Shards.open(folder)
    Tokenizer.from_merges([(b"a", b"b")]).save(tmp_path / "other" / "tokenizer")
    with pytest.raises(FormatError, match="is not the one that its tokens were made with"):
        Shards.open(tmp_path / "other")
    write_json(folder / "index.json", read_json(folder / "index.json") | {"version": 99})
    with pytest.raises(FormatError, match="not an index of token shards, version 1"):
        Shards.open(folder)
    write_json(folder / "index.json", ["version", "splits"])
    with pytest.raises(FormatError, match="not an index of token shards"):
        Shards.open(folder)


def test_our_files_are_llmcs_files(folder: Path) -> None:
    train = Shards.open(folder).train
    row = read_llmc(*(file.path for file in train.files))
    assert np.array_equal(row.read(0, row.n_tokens), train.read(0, train.n_tokens))


def test_a_document_that_is_not_there(folder: Path) -> None:
    train = Shards.open(folder).train
    for i in (-1, train.n_documents):
        with pytest.raises(InputError, match=f"there is no document {i}; there are 7, counted from 0"):
            train.document(i)
    with pytest.raises(ValueError, match="read-only"):
        train.read(0, 5)[0] = 1


def test_killed_at_any_moment_no_folder_looks_whole_and_is_not(tmp_path: Path) -> None:
    """SIGKILL while writing: what opens is the old folder or the new one, and drafts never open."""
    script = tmp_path / "job.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        from gpt2.tokens import shards, Tokenizer
        shards.BATCH_CHARACTERS = 50_000
        tok = Tokenizer.from_merges([(b"t", b"h")])
        n = int(sys.argv[1])
        rows = ((str(i), str(i % 5), f"the {{n}} then " * 40) for i in range(n))
        print("begun", flush=True)
        shards.write_shards(rows, tok, {str(tmp_path / "shards")!r}, {{"3"}}, shard_tokens=20_000)
        """)
    )
    spent, killed = 0.0, 0
    for attempt in range(7):  # the first is left alone, to see how long it takes
        n = 2_000 + attempt
        job = subprocess.Popen([sys.executable, str(script), str(n)], stdout=subprocess.PIPE)
        assert job.stdout is not None and job.stdout.readline() == b"begun\n"
        if attempt == 0:
            begun = time.perf_counter()
            assert job.wait() == 0
            spent = time.perf_counter() - begun
        else:
            time.sleep(spent * attempt / 6)
            job.send_signal(signal.SIGKILL)
        killed += job.wait() == -signal.SIGKILL
        job.stdout.close()
        found = Shards.open(tmp_path / "shards", verify=True)
        documents = found.train.n_documents + found.heldout.n_documents
        assert 2_000 <= documents <= n
        assert found.tokenizer.decode(found.train.document(0)).startswith(f"the {documents} then ")
        for draft in tmp_path.glob(".*.part"):
            if not (draft / "index.json").exists():
                with pytest.raises(InputError, match="no finished shard folder"):
                    Shards.open(draft)
    assert killed >= 2
    subprocess.run([sys.executable, str(script), "50"], check=True, capture_output=True)
    assert Shards.open(tmp_path / "shards", verify=True).train.n_documents == 40
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.py", "shards"]
