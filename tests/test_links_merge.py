"""Merging links: buckets against a plain dict, one and the same result, memory, kills."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from command_line import spawn
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.corpus.links import buckets
from gpt2.corpus.links import gathering as links
from gpt2.corpus.links.buckets import Buckets, Merged, hash_of, merged
from gpt2.corpus.links.gathering import LinksConfig, gather, read_links

ANY = LinksConfig(minimum_votes=0)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


ROWS = st.lists(
    st.tuples(
        st.integers(0, 12).map(lambda n: f"http://a.org/{n}"),
        st.none() | st.integers(-3, 9),
        st.none() | st.sampled_from(["2005-06-23", "2005-07-01", "2013-01-01"]),
        st.none() | st.sampled_from(["http://v.org/1", "http://v.org/2", "http://v.org/3"]),
        st.sampled_from(["one", "two", "three"]).map(lambda name: (name,)),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None, database=None)
@given(ROWS, st.integers(0, 60), st.sampled_from([1, 100, 10_000]), st.sampled_from([1, 200, 10_000]))
def test_merging_by_buckets_is_merging_in_a_dict(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], cut: int, spill: int, largest: int
) -> None:
    folder = tmp_path_factory.mktemp("merge")
    files = []
    for name, part in (("a", rows[:cut]), ("b", rows[cut:])):
        with (folder / name).open("wb") as stream:
            into = Buckets(stream, spill)
            for row in part:
                into.add(*row)
            files.append((folder / name, into.close()))
    wanted: dict[str, Merged] = {}
    voters: dict[str, set[str]] = {}
    for url, count, day, voter, sources in rows:
        known = wanted.get(url) or Merged(url, None, None, [])
        voters.setdefault(url, set()).update([voter] if voter else [])
        wanted[url] = Merged(
            url,
            max((v for v in (known.votes, count) if v is not None), default=None),
            min((d for d in (known.created, day) if d is not None), default=None),
            sorted({*known.sources, *sources}),
        )
    for url, found in voters.items():
        if found:
            wanted[url] = wanted[url]._replace(votes=max(len(found), wanted[url].votes or 0))
    assert list(merged(files, largest)) == sorted(wanted.values(), key=lambda link: hash_of(link.url))


def test_the_result_is_one_and_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = random.Random(1)
    rows = [
        {"url": f"http://{numbers.randrange(50)}.org/{numbers.randrange(40)}", "score": numbers.randrange(9)}
        for _ in range(5000)
    ]
    write(tmp_path / "all.jsonl", "\n".join(map(json.dumps, rows)))
    once = gather([tmp_path / "all.jsonl"], tmp_path / "once")
    monkeypatch.setattr(buckets, "SPILL", 1000)
    monkeypatch.setattr(buckets, "LARGEST", 1000)
    numbers.shuffle(rows)
    write(tmp_path / "all.jsonl", "\n".join(map(json.dumps, rows)))
    again = gather([tmp_path / "all.jsonl"], tmp_path / "again")
    assert (once.links.read_bytes(), once.funnel, once.drops) == (
        again.links.read_bytes(),
        again.funnel,
        again.drops,
    )
    hosts = [link.url.split("/")[2] for link in read_links(tmp_path / "once")]
    assert sum(a == b for a, b in pairwise(hosts)) < len(hosts) / 10, "hosts stand apart"


MEASURE = """
import json, resource, sys
from pathlib import Path
from gpt2.corpus.links import gathering as links
from gpt2.corpus.links import buckets
buckets.SPILL, buckets.LARGEST, links.ROWS_AT_ONCE = 1 << 20, 1 << 20, 1 << 12
folder = Path(sys.argv[1])
for n in (30_000, 300_000):
    with (folder / f"{n}.jsonl").open("w") as stream:
        for i in range(n):
            url = f"http://{i % 9973}.example.org/{i * 7919 % n:x}/a-title-of-some-length-as-links-have-it"
            stream.write(json.dumps({"url": url, "score": i % 50}) + "\\n")
    found = links.gather([folder / f"{n}.jsonl"], folder / str(n))
    print(found.count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_memory_does_not_grow_with_the_number_of_links(tmp_path: Path) -> None:
    made = [sys.executable, "-c", MEASURE, str(tmp_path)]
    done = subprocess.run(made, capture_output=True, text=True, check=True)
    (few, before), (many, after) = (map(int, line.split()) for line in done.stdout.splitlines())
    assert (few, many) == (30_000 * 47 // 50, 300_000 * 47 // 50)
    assert after < before + 80, "MB; all at once they take 214 more"


# Kills


def test_a_finished_gathering_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "a", "http://a.org")
    once = gather([source], tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"links.parquet", "links.json", ".lock"}
    with monkeypatch.context() as patch:
        patch.setattr(links, "sift", None)
        assert gather([source], tmp_path / "out") == once
    assert gather([source], tmp_path / "out", ANY).count == 1, "with other rules it is done anew"
    time.sleep(0.01)
    write(source, "http://a.org\nhttp://b.org")
    assert gather([source], tmp_path / "out", ANY).count == 2, "and with other input"
    blocked = write(tmp_path / "blocked", "b.org")
    assert gather([source], tmp_path / "out", LinksConfig(blocked_domains=blocked)).count == 1
    write(blocked, "c.org")
    assert gather([source], tmp_path / "out", LinksConfig(blocked_domains=blocked)).count == 2


def test_a_killed_run_goes_on_with_the_file_it_was_at(tmp_path: Path) -> None:
    names = [f"{n}.jsonl" for n in range(3)]
    for name in names:
        rows = (json.dumps({"url": f"http://{name}.org/{n % 9_000}", "score": n % 9}) for n in range(18_000))
        write(tmp_path / name, "\n".join(rows))
    whole = gather([tmp_path / name for name in names], tmp_path / "whole")
    words = ["corpus", "links", *(tmp_path / name for name in names), "--out", tmp_path / "out"]
    finished = kills = 0
    while True:
        child = spawn(*words)
        stages = tmp_path / "out" / "gathering"
        while child.poll() is None and not (marks(stages) > finished):
            time.sleep(0.01)
        if child.poll() is not None:
            break
        child.kill()
        child.communicate()
        assert marks(stages) >= finished, "no finished file is lost"
        finished, kills = marks(stages), kills + 1
        assert not (tmp_path / "out" / "links.json").exists()
        if finished == len(names):
            break
    assert kills >= 2
    last = spawn(*words)
    last.communicate()
    assert last.returncode == 0
    assert (tmp_path / "out/links.parquet").read_bytes() == whole.links.read_bytes()
    said = json.loads((tmp_path / "out/links.json").read_text())["result"]
    assert (said["funnel"], said["drops"]) == (whole.funnel, whole.drops)


def marks(stages: Path) -> int:
    """How many files were finished."""
    try:
        return sum(json.loads(mark.read_text())["done"] for mark in stages.glob("*/stage.json"))
    except OSError:
        return 0
