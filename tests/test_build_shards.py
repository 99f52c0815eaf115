"""Building over shards: the same documents by any number of workers, on a cluster, and after any number of kills."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from corpora import archive, check, documents, html, prose, reasons, short
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.corpus import BuildConfig, Document, build, jobs
from gpt2.corpus.dedupe.duplicates import one_per_address
from gpt2.corpus.documents import read_text, write_documents
from gpt2.corpus.engine import Engine
from gpt2.corpus.fetch.pages import read_pages
from gpt2.corpus.funnel import EXAMPLES, Funnel
from gpt2.corpus.links import Link
from gpt2.corpus.links.votes import Votes
from gpt2.errors import ConfigError, FormatError, InputError
from gpt2.workspace import Json

PAGES = 60


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two archives of one crawl, with duplicates within and between them, and a page in both."""
    folder = tmp_path_factory.mktemp("crawl")
    for name in ("a", "b"):
        pages = {f"{name}/{i}": html(f"{name}page{i}") for i in range(PAGES)}
        pages |= {f"{name}/short{i}": short(f"{name}s{i}") for i in range(9)}
        pages |= {f"{name}/copy{i}": html(f"apage{i}") for i in range(9)} | {"both": html(f"both{name}")}
        archive(folder / f"{name}.warc.gz", pages)
    return folder


@pytest.fixture(autouse=True)
def small_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "SMALLEST", 12_000)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("documents-*.parquet"))}


def test_the_documents_are_the_same_to_the_byte_by_one_process_and_by_many(
    crawl: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = BuildConfig(pages=(crawl,), method="fast")
    one = build(config, tmp_path / "one", engine=Engine(workers=1))
    many = build(config, tmp_path / "many", engine=Engine(workers=3))
    check(one)
    assert len(files(one.documents)) > 4
    assert files(one.documents) == files(many.documents)
    assert (one.funnel, one.drops, one.digest) == (many.funnel, many.drops, many.digest)
    assert len(documents(one)) == 2 * PAGES + 1
    fell = reasons(one)
    assert fell[("duplicates", "the same words")] == 18
    assert fell[("cleaning", "tokens")] == 18
    assert fell[("duplicates", "address seen before, in another shard")] == 1
    assert capfd.readouterr() == ("", "")


BUILD = """
import sys
from pathlib import Path
from gpt2.corpus import BuildConfig, build, jobs
from gpt2.corpus.engine import Engine
jobs.SMALLEST = 12_000
build(BuildConfig(pages=(Path(sys.argv[1]),), method="fast"), sys.argv[2], engine=Engine(int(sys.argv[3])))
"""


def test_a_build_killed_at_any_moment_ends_with_the_same_documents(crawl: Path, tmp_path: Path) -> None:
    config = BuildConfig(pages=(crawl,), method="fast")
    whole = build(config, tmp_path / "whole", engine=Engine(workers=1))
    drawn, out = random.Random(5), tmp_path / "killed"
    for workers in ("1", "2", "1"):
        process = subprocess.Popen(
            [sys.executable, "-c", BUILD, str(crawl), str(out), workers], start_new_session=True
        )
        wanted = len(list(out.glob("*/*.parquet"))) + drawn.randint(1, 9)
        while len(list(out.glob("*/*.parquet"))) < wanted and process.poll() is None:
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    built = build(config, out)
    assert files(built.documents) == files(whole.documents)
    assert built.funnel == whole.funnel and built.drops == whole.drops
    assert not list(out.rglob(".*.part")), "what killed writers left is gone"


def test_a_shard_that_is_done_is_not_done_again(
    crawl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = BuildConfig(pages=(crawl / "a.warc.gz",), method="fast"), tmp_path / "out"
    with monkeypatch.context() as broken:
        from gpt2.corpus import shards

        real, made = shards.write_documents, []

        def failing(path: Path, found: Any) -> int:
            made.append(path)
            return real(path, found if len(made) < 3 else iter(lambda: 1 / 0, None))

        broken.setattr(shards, "write_documents", failing)
        with pytest.raises(ZeroDivisionError):
            build(config, out, engine=Engine(workers=1))
    before = {path: path.stat().st_mtime_ns for path in out.glob("texts/documents-*.json")}
    assert len(before) == 2
    build(config, out, engine=Engine(workers=1))
    assert {path: path.stat().st_mtime_ns for path in before} == before


# Jobs


def test_stretches_of_an_archive_have_each_record_once(crawl: Path) -> None:
    whole = [page.url for page in read_pages(crawl / "a.warc.gz")]
    for smallest in (1, 5_000, 10**9):
        jobs.SMALLEST, before = smallest, jobs.SMALLEST
        made = jobs.page_jobs([crawl / "a.warc.gz"])
        jobs.SMALLEST = before
        found = [
            page.url
            for job in made
            for path, *span in job["stretches"]
            for page in read_pages(path, [], (*span,))
        ]
        assert found == whole
        assert [job["number"] for job in made] == list(range(len(made)))
    assert len(made) == 1


def test_small_archives_share_a_job(tmp_path: Path) -> None:
    paths = [archive(tmp_path / f"{i}.warc.gz", {str(i): html(f"p{i}")}) for i in range(30)]
    made = jobs.page_jobs(paths)
    assert 1 < len(made) < 10
    assert [s[0] for job in made for s in job["stretches"]] == [str(path) for path in paths]


def test_a_users_text_of_any_kind_is_dealt_out_without_loss(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    lines = [f'{{"text": "{prose(f"line{i}", 30)}", "id": {i}}}' for i in range(700)]
    (folder / "many.jsonl").write_text("\n".join(lines))
    for i in range(40):
        (folder / f"{i:02d}.txt").write_text(prose(f"file{i}"))
    made = jobs.text_jobs(folder)
    assert sum("part" in job for job in made) > 3 and not all("part" in job for job in made)
    found = sorted(d.id for job in made for d in jobs.texts_of(job))
    assert found == sorted([f"{i:02d}.txt" for i in range(40)] + [f"many.jsonl:{i}" for i in range(700)])
    built = build(BuildConfig(text=folder), tmp_path / "out", engine=Engine(workers=1))
    assert len(documents(built)) == 740
    again = build(BuildConfig(text=built.documents), tmp_path / "again", engine=Engine(workers=1))
    assert sorted(d.id for d in documents(again)) == found, "a corpus may be built anew, by other rules"


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "one group"])
def test_each_row_of_a_large_table_is_read_by_one_job_alone(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpt2.corpus import documents as room

    drawn = random.Random(3)
    rows = [
        {"text": prose(f"row{i}", drawn.randint(1, 60))} | ({"id": i} if i % 3 else {}) for i in range(900)
    ]
    path = tmp_path / ("rows.jsonl" if kind == "jsonl" else "rows.parquet")
    if kind == "jsonl":
        ends = [drawn.choice(["\n", "\r\n", "\n\n", "\n \t\n\n"]) for _ in rows[1:]] + [""]
        lines = [json.dumps(row) + end for row, end in zip(rows, ends, strict=True)]
        path.write_text("".join(lines), newline="")
    else:
        table = pyarrow.Table.from_pylist([{"id": None} | row for row in rows])
        pyarrow.parquet.write_table(table, path, row_group_size=900 if kind == "one group" else 70)
    whole = list(read_text(path))
    assert [d.id for d in whole] == [
        f"rows.{path.suffix[1:]}:{r.get('id', i)}" for i, r in enumerate(rows, 1)
    ]
    read: list[int] = []
    real_loads, real_batches = room.json.loads, room.parquet_batches

    def loads(line: bytes) -> Any:
        read.append(1)
        return real_loads(line)

    def batches(*given: Any) -> Any:
        for batch in real_batches(*given):
            read.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(room.json, "loads", loads)
    monkeypatch.setattr(room, "parquet_batches", batches)
    for smallest in (1_000, 20_000):
        monkeypatch.setattr(jobs, "SMALLEST", smallest)
        made = jobs.text_jobs(path)
        assert len(made) >= 3
        read.clear()
        assert [d for job in made for d in jobs.texts_of(json_copy(job, real_loads))] == whole
        assert sum(read) == len(rows)


def json_copy(job: Json, loads: Callable[[str], Json]) -> Json:
    """A job as it comes to a worker."""
    return loads(json.dumps(job))


def test_a_line_that_is_no_json_is_named_by_its_number_in_the_whole_table(tmp_path: Path) -> None:
    lines = ["", *(f'{{"text": "{prose(str(i), 30)}"}}' for i in range(400)), "broken"]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    made = jobs.text_jobs(tmp_path / "rows.jsonl")
    assert len(made) > 3
    with pytest.raises(FormatError, match=r"line 402 of .*rows.jsonl is not JSON"):
        list(jobs.texts_of(made[-1]))


# What is counted


def test_funnels_of_shards_add_up_whatever_the_order() -> None:
    def funnel(numbers: list[int]) -> Funnel:
        one = Funnel()
        for i in numbers:
            one.passed("texts")
            one.dropped("cleaning", f"rule {i % 2}", id=str(i), text="x" * 999, detail=f"because of {i}")
        return one

    whole, parts, turned = funnel([*range(60)]), Funnel(), Funnel()
    told = [funnel([*range(k, k + 20)]).json for k in (0, 20, 40)]
    for row in told:
        parts.add(row)
    for row in told[::-1]:
        turned.add(row)
    assert whole.json == parts.json == turned.json
    assert [len(row["examples"]) for row in whole.json["drops"]] == [EXAMPLES, EXAMPLES]
    assert len(whole.json["drops"][0]["examples"][0]["text"]) < 400


@settings(max_examples=30, deadline=None, database=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2)), max_size=60), st.randoms())
def test_examples_are_the_same_in_whatever_order_and_parts_drops_come(
    drops: list[tuple[int, int]], random: Any
) -> None:
    def told(parts: list[list[tuple[int, int]]]) -> Json:
        whole = Funnel()
        for part in parts:
            one = Funnel()
            for n, detail in part:
                one.dropped("links", "rule", id=f"http://a.org/{n}", detail=f"{detail} votes")
            whole.add(one.json)
        return whole.json

    mixed, cut = random.sample(drops, len(drops)), random.randint(0, len(drops))
    assert told([drops]) == told([mixed[:cut], mixed[cut:]])
    for row in told([drops])["drops"]:
        assert len({e["id"] for e in row["examples"]}) == min(EXAMPLES, len({n for n, _ in drops}))


def test_of_one_address_in_several_shards_the_best_is_kept(tmp_path: Path) -> None:
    votes = [[("x", 1), ("y", None)], [("x", 5), ("z", 2), ("y", 0)], [("x", 5), ("w", None)]]
    shards = []
    for number, rows in enumerate(votes):
        shards.append(tmp_path / f"documents-{number:05d}.parquet")
        write_documents(shards[-1], [Document(f"{number}{id}", id=id, group=id, votes=v) for id, v in rows])
    funnel = Funnel()
    found = one_per_address(shards, tmp_path / "out", funnel)
    from gpt2.corpus import read_documents

    assert [d.text for path in found for d in read_documents(path)] == ["1x", "1z", "1y", "2w"]
    assert [path.parent.name for path in found] == ["out", tmp_path.name, "out"]
    assert funnel.drops()[0]["count"] == 3


def test_votes_are_found_by_address(tmp_path: Path) -> None:
    links = [Link(f"http://example.org/{i}", None if i % 3 == 0 else i - 50) for i in range(1_000)]
    assert Votes.write(tmp_path, links) == 1_000
    votes = Votes(tmp_path)
    assert [votes.get(link.url) for link in links] == [link.votes for link in links]
    assert votes.get("http://example.org/") is None
    Votes.write(tmp_path, [])
    assert Votes(tmp_path).get("http://example.org/1") is None


# Where it is done


def test_no_worker_and_no_cluster_are_refused_in_a_sentence(crawl: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="0 workers can do nothing"):
        Engine(workers=0)
    code = BUILD.replace("Engine(int(sys.argv[3]))", "Engine(cluster=sys.argv[3])")
    command = [sys.executable, "-c", code, str(crawl), str(tmp_path / "out"), "127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert InputError.__name__ in done.stderr and "there is no Ray cluster at 127.0.0.1:1" in done.stderr
