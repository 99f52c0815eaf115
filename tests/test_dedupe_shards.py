"""Duplicates over shards: the exact rule, votes and ties, any order, kills, memory, and the command."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from command_line import Run
from near_copies import exact_pairs, plainly_kept, planted

from gpt2.corpus.dedupe import DedupeConfig, Deduped, clusters, dedupe
from gpt2.corpus.dedupe.duplicates import largest_clusters, write_kept
from gpt2.corpus.dedupe.minhash import shingles, words
from gpt2.corpus.dedupe.recall import Sampled
from gpt2.corpus.documents import SHARD, Document, read_documents, write_documents
from gpt2.errors import FormatError, InputError

BASE = [f"word{i}" for i in range(120)]


def varied(*places: int, base: Sequence[str] = BASE) -> str:
    """The base text with the words at these places changed."""
    return " ".join(f"other{i}" if i in places else word for i, word in enumerate(base))


def page(text: str, id: str, votes: int | None = 3, url: str | None = None) -> Document:
    """A document."""
    return Document(text, id=id, group=id, votes=votes, url=url or f"http://example.org/{id}")


def sharded(folder: Path, documents: Sequence[Document], count: int) -> list[Path]:
    """The documents dealt to so many shards."""
    paths = [folder / SHARD.format(shard) for shard in range(count)]
    for shard, path in enumerate(paths):
        write_documents(path, documents[shard::count])
    return paths


def listed(found: Deduped) -> list[tuple[str, str, float, int]]:
    """id, of, similarity and cluster of each document to drop."""
    rows = pyarrow.parquet.read_table(found.path).to_pylist()
    return [(row["id"], row["of"], row["similarity"], row["cluster"]) for row in rows]


def many(seed: int, count: int) -> list[Document]:
    """Random texts with near and exact copies, some votes alike, some unknown."""
    rng = random.Random(seed)
    texts: list[str] = []
    while len(texts) < count:
        base = rng.choices([f"v{i}" for i in range(2_000)], k=rng.randint(3, 120))
        texts.append(" ".join(base))
        for _ in range(rng.choice((0, 0, 1, 2, 5))):
            places = rng.sample(range(len(base)), rng.randint(0, min(len(base), 5)))
            texts.append(varied(*places, base=base).title())
    return [page(text, f"d{i:04}", rng.choice((None, 1, 2, 3))) for i, text in enumerate(texts)]


def test_the_document_with_most_votes_is_kept_then_by_address_then_by_id(tmp_path: Path) -> None:
    documents = [
        page(varied(), "low", 3),
        page(varied(60), "none", None),
        page(varied(70), "best", 10),
        page("just three words", "b", 5, "http://example.org/2"),
        page("Just three words!", "a", 5, "http://example.org/2"),
        page("JUST THREE WORDS", "c", 5, "http://example.org/1"),
        page("something else", "alone", None),
    ]
    found = dedupe(sharded(tmp_path, documents, 3), tmp_path / "out", DedupeConfig(0.7))
    rows = {(id, of): (pytest.approx(s), cluster) for id, of, s, cluster in listed(found)}
    assert rows == {
        ("a", "c"): (1.0, 1),
        ("b", "c"): (1.0, 1),
        ("low", "best"): ((116 - 5) / (116 + 5), 0),
        ("none", "best"): ((116 - 10) / (116 + 10), 0),
    }
    assert (found.documents, found.exact, found.near, found.kept) == (7, 2, 2, 3)
    assert (found.clusters, found.largest) == (2, 2)
    first, second = largest_clusters(found.path, 5)
    assert (first.kept, [id for id, _ in first.copies]) == ("best", ["low", "none"])
    assert (second.kept, second.copies) == ("c", [("a", 1.0), ("b", 1.0)])
    assert largest_clusters(found.path, 0) == []


def test_copies_of_a_near_duplicate_go_with_it(tmp_path: Path) -> None:
    documents = [page(varied(50), f"copy{i}", i) for i in range(4)] + [page(varied(), "best", 9)]
    found = dedupe(sharded(tmp_path, documents, 2), tmp_path / "out")
    near = pytest.approx((116 - 5) / (116 + 5))
    assert listed(found) == [(f"copy{i}", "best", near, 0) for i in (3, 2, 1, 0)]
    assert (found.exact, found.near) == (3, 1)


@pytest.mark.parametrize("similarity", [0.8, 0.5])
def test_the_result_is_the_exact_rules_whatever_the_order_and_the_shards(
    tmp_path: Path, similarity: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = many(1, 400)
    pairs = exact_pairs([d.text for d in documents], similarity)
    pairs |= {
        (i, j): 1.0
        for i, a in enumerate(documents)
        for j, b in enumerate(documents)
        if i < j and words(a.text) == words(b.text)
    }
    order = sorted(range(len(documents)), key=lambda i: (-(documents[i].votes or 0), documents[i].url))
    kept = {documents[i].id for i in plainly_kept(pairs, order)}
    results = []
    for seed, count, at_once in ((0, 1, 1 << 20), (1, 3, 1 << 20), (2, 7, 50)):
        monkeypatch.setattr(clusters, "AT_ONCE", at_once)
        random.Random(seed).shuffle(documents)
        folder = tmp_path / str(seed)
        shards = sharded(folder, documents, count)
        random.Random(seed).shuffle(shards)
        found = dedupe(shards, folder / "out", DedupeConfig(similarity))
        rows = listed(found)
        left = write_kept(shards, found.path, folder / "out")
        assert [path.name for path in left] == [path.name for path in shards], "shards one to one"
        ids = {document.id for document in read_documents(folder / "out")}
        assert ids == {d.id for d in documents} - {id for id, *_ in rows}
        assert len(ids ^ kept) <= 4, "all but a few that never met"
        assert not {of for _, of, *_ in rows} - ids
        results.append((rows, ids))
    assert results[0] == results[1] == results[2]
    assert results[0][0], "some were dropped"


def test_planted_copies_of_real_prose_are_found(data: Path, tmp_path: Path) -> None:
    texts = planted(data / "prose", 1_600, seed=1)
    documents = [page(text, str(i), votes=i % 5) for i, text in enumerate(texts)]
    found = dedupe(sharded(tmp_path, documents, 4), tmp_path / "out")
    pairs = exact_pairs(texts, 0.8)
    dropped = {int(id): int(of) for id, of, *_ in listed(found)}
    missed = [pair for pair in pairs if not dropped.keys() & {*pair}]
    assert len(pairs) > 200
    assert len(missed) <= 0.02 * len(pairs)
    for pair in dropped.items():
        assert pairs[min(pair), max(pair)] >= 0.8
    assert found.recall and found.precision
    low, high = found.recall.interval
    assert low <= 1 - len(missed) / len(pairs) <= high + 1e-9
    assert found.precision.rate == 1.0


def test_the_sample_sees_what_bands_miss(tmp_path: Path) -> None:
    documents = [page(d.text, d.id) for d in many(3, 500)]
    shards = sharded(tmp_path, documents, 2)
    full = dedupe(shards, tmp_path / "full")
    poor = dedupe(shards, tmp_path / "poor", DedupeConfig(bands=1, rows=60))
    assert full.recall and poor.recall and full.recall.rate
    assert full.recall.rate > 0.98
    assert poor.recall.interval[1] < 0.9
    assert poor.near < full.near
    assert dedupe(shards, tmp_path / "none", DedupeConfig(sample=0)).recall is None


def test_brute_force_through_the_index_is_all_pairs() -> None:
    texts = [d.text for d in many(4, 200)]
    rows = {i: shingles(words(text), 5) for i, text in enumerate(texts)}
    pairs = exact_pairs(texts, 0.6)
    sample = {i: rows[i] for i in range(0, len(texts), 3)}
    found = {(a, b): s for a, b, s in Sampled(sample).alike(rows.items(), 0.6)}
    both = pairs | {(b, a): s for (a, b), s in pairs.items()}
    assert found == {pair: pytest.approx(s) for pair, s in both.items() if pair[0] in sample}
    assert len(found) > 50


def test_texts_without_words_and_without_spaces(tmp_path: Path) -> None:
    japanese = "近所の人々は皆、その古い家が長い間空いていることを知っていた。" * 3
    texts = ["", "", "...", "???", "\U0001f600", "\U0001f601", japanese, japanese.replace("皆", "誰", 1)]
    documents = [page(text, str(i), votes=9 - i) for i, text in enumerate(texts)]
    found = dedupe(sharded(tmp_path, documents, 2), tmp_path / "out", DedupeConfig(0.7))
    assert [(id, of) for id, of, *_ in listed(found)] == [("1", "0"), ("7", "6")]


def test_finished_work_is_not_done_again_and_changed_work_is(tmp_path: Path) -> None:
    documents = many(5, 60)
    shards, out = sharded(tmp_path, documents, 3), tmp_path / "out"

    def marks() -> list[int]:
        return [path.stat().st_mtime_ns for path in sorted((out / "signatures").glob("*.parquet"))]

    found = dedupe(shards, out)
    before = marks()
    assert dedupe(shards, out) == found
    assert dedupe(shards, out, DedupeConfig(0.85, bands=18, rows=7)).near < found.near
    assert marks() == before, "another similarity takes the signatures there are"
    found.path.unlink()
    assert listed(dedupe(shards, out)), "a lost list is made anew"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "duplicates.parquet").write_text("my own")
    with pytest.raises(InputError, match="was not made here"):
        dedupe(shards, tmp_path / "mine")
    write_documents(shards[0], documents[:1])
    assert dedupe(shards, out).documents == 1 + len(documents) - len(documents[::3])
    assert marks() != before


@pytest.mark.parametrize("damage", ["cut", "missing", "columns", "twice", "none"])
def test_shards_that_cannot_be_used_are_refused(tmp_path: Path, damage: str) -> None:
    shards = sharded(tmp_path, many(6, 40), 2)
    if damage == "cut":
        shards[1].write_bytes(shards[1].read_bytes()[:-200])
    elif damage == "missing":
        shards[1].unlink()
    elif damage == "columns":
        pyarrow.parquet.write_table(pyarrow.table({"words": ["a"]}), shards[1])
    wrong = {"twice": [shards[0], shards[0]], "none": []}.get(damage, shards)
    said = {
        "cut": "damaged",
        "missing": "no file",
        "columns": "'text'",
        "twice": "same name",
        "none": "no shard",
    }
    with pytest.raises((FormatError, InputError), match=said[damage]):
        dedupe(wrong, tmp_path / "out")
    assert not (tmp_path / "out" / "duplicates.parquet").exists()


def test_no_run_empties_its_own_input(run: Run, tmp_path: Path) -> None:
    documents = many(8, 40)
    shards, out = sharded(tmp_path / "in", documents, 2), tmp_path / "out"
    found = dedupe(shards, out)
    left = write_kept(shards, found.path, out)
    before = [path.read_bytes() for path in (*shards, *left)]
    (tmp_path / "link").symlink_to(out)
    for folder in (out, tmp_path / "link"):
        with pytest.raises(InputError, match="lies in the output folder"):
            dedupe(left, folder)
        with pytest.raises(InputError, match="lies in the output folder"):
            write_kept(left, found.path, folder)
    for source, target in [("out", "out"), ("out", "link"), ("link/documents", "out"), ("in", "in")]:
        said = run("corpus", "dedupe", tmp_path / source, "--out", tmp_path / target)
        assert said.refused("lie in one another")
    for target in ("out/documents", "out/documents/distinct"):
        assert run("corpus", "dedupe", out, "--out", tmp_path / target).refused("lie in one another")
    assert [path.read_bytes() for path in (*shards, *left)] == before
    assert sorted(path.name for path in (out / "documents").iterdir()) == [
        *(path.name for path in left),
        "stage.json",
    ]
    assert run("corpus", "dedupe", left[0], "--out", tmp_path / "in/other", "--quiet").status == 0


def test_another_corpus_with_the_same_list_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("old", "new"):
        shards = sharded(tmp_path / name, [page(f"a text of {name}", name)], 1)
        left = write_kept(shards, dedupe(shards, out).path, out)
        assert [document.id for document in read_documents(left[0])] == [name]


def test_a_shard_may_be_empty_and_nothing_may_repeat(tmp_path: Path) -> None:
    shards = sharded(tmp_path, [page(varied(), "a"), page("short", "b")], 3)
    found = dedupe(shards, tmp_path / "out")
    assert (found.documents, found.kept, found.clusters, listed(found)) == (2, 2, 0, [])
    assert sum(len([*read_documents(p)]) for p in write_kept(shards, found.path, tmp_path / "out")) == 2
    assert dedupe(shards[2:], tmp_path / "nothing").documents == 0


def test_killed_at_any_moment_it_goes_on_to_the_same_files(tmp_path: Path) -> None:
    shards = sharded(tmp_path / "in", many(7, 1_000), 5)
    command = [sys.executable, "-m", "gpt2", "corpus", "dedupe", str(tmp_path / "in"), "--quiet", "--out"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    begun = time.monotonic()
    subprocess.run([*command, str(whole)], check=True, stdout=subprocess.DEVNULL)
    took = time.monotonic() - begun
    rng = random.Random(1)
    signed: dict[Path, int] = {}
    kills = 0
    for _ in range(4):
        job = subprocess.Popen([*command, str(killed)], stdout=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.3, 1.0) * took)
        if job.poll() is None:
            job.send_signal(signal.SIGKILL)
            kills += 1
        job.wait()
        for path, when in signed.items():
            assert path.stat().st_mtime_ns == when, "a shard that was done was not done again"
        signed = {p: p.stat().st_mtime_ns for p in (killed / "signatures").glob("signatures-*.parquet")}
    assert kills > 0
    subprocess.run([*command, str(killed)], check=True, stdout=subprocess.DEVNULL)
    for name in ("duplicates.parquet", *(f"documents/{shard.name}" for shard in shards)):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


MEASURED = """
import sys
from pathlib import Path
from gpt2.corpus.dedupe import DedupeConfig, dedupe
small, large, out = map(Path, sys.argv[1:])
def peak():
    return int(next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM")).split()[1])
dedupe(sorted(small.glob("*.parquet")), out / "small", DedupeConfig(sample=50))
before = peak()
dedupe(sorted(large.glob("*.parquet")), out / "large", DedupeConfig(sample=50))
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    vocabulary = np.array([f"word{i:05}" for i in range(5_000)])

    def write(folder: Path, shards: int) -> int:
        bases = [vocabulary[rng.integers(0, 5_000, 3_000)] for _ in range(shards * 100)]
        rows = [base.copy() for base in bases for _ in range(3)]
        for row in rows:
            row[rng.integers(0, 3_000, 20)] = "changed"
        texts = [" ".join(row) for row in rows]
        sharded(folder, [page(text, str(i)) for i, text in enumerate(texts)], shards)
        return sum(map(len, texts))

    write(tmp_path / "small", 1)
    size = write(tmp_path / "large", 6)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, tmp_path / "small", tmp_path / "large", tmp_path],
        capture_output=True, text=True, check=True, env=os.environ | {"MALLOC_ARENA_MAX": "2"},
    )  # fmt: skip
    assert size > 50e6
    assert int(done.stdout) * 1024 < size / 3


def test_the_command_writes_what_is_left_and_shows_the_largest_clusters(run: Run, tmp_path: Path) -> None:
    documents = [page(varied(i), f"d{i}", i) for i in range(10, 60, 10)] + [page("one of its own kind", "x")]
    sharded(tmp_path / "in", documents, 2)
    words_ = ["corpus", "dedupe", tmp_path / "in", "--out", tmp_path / "out", "--similarity", "0.7"]
    said = run(*words_, "--show", "3")
    assert said.status == 0
    assert "d50" in said.out and "kept        2" in said.out and "25 of 5" in said.out
    assert {d.id for d in read_documents(tmp_path / "out")} == {"d50", "x"}
    told = json.loads(run(*words_, "--json", "--quiet").out)
    assert (told["near"], told["shape"], told["recall"]["cases"]) == (4, [25, 5], 5)
    assert run(*words_[:-2], "--preset", "openwebtext", "--quiet").out.count("42 of 3") == 1
    assert run(*words_[:-1], "1.5").refused("--similarity")
    assert run("corpus", "dedupe", tmp_path / "nowhere", "--out", tmp_path / "o").refused("no file or folder")
