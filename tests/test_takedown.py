"""Taking documents out of a corpus for good, and tracing them to the tokens that were made of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import Run
from corpora import archive, check, counts, documents, html, reasons

from gpt2 import Shards, Tokenizer
from gpt2.corpus import BuildConfig, build, jobs, read_documents
from gpt2.corpus.build import takedown
from gpt2.corpus.build.statistics import measure
from gpt2.corpus.build.takedown import Removals, asked, read_removals, remove, still_held, to_rewrite
from gpt2.corpus.documents import Document, write_documents
from gpt2.corpus.engine import Engine
from gpt2.errors import BusyError, InputError
from gpt2.tokens import trace
from gpt2.tokens.shards import write_shards
from gpt2.workspace import Workspace


def built(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[BuildConfig, Path]:
    """A corpus of three sites in several shards."""
    monkeypatch.setattr(jobs, "SMALLEST", 10_000)
    for site in ("one.org", "sub.one.org", "two.org"):
        pages = {f"{i}": html(f"{site[:4]}x{i}") for i in range(20)}
        archive(folder / "crawl" / f"{site}.warc.gz", pages, f"http://{site}/")
    config = BuildConfig(pages=(folder / "crawl",), method="fast")
    assert len(documents(build(config, folder / "out", engine=Engine(1)))) == 60
    return config, folder / "out"


def test_what_was_removed_is_gone_and_stays_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, out = built(tmp_path, monkeypatch)
    before = {path: path.read_bytes() for path in (out / "documents").glob("*.parquet")}
    changed = remove(out, asked([" HTTP://two.org:80/3#part"], []))
    assert [row["ids"] for row in changed] == [["http://two.org/3"]]
    after = {path: path.read_bytes() for path in before}
    assert [path.name for path in before if before[path] != after[path]] == [changed[0]["shard"]]
    assert sum(len(row["ids"]) for row in remove(out / "documents", asked([], ["ONE.org."]))) == 40
    left = [d.id for d in read_documents(out)]
    assert sorted(left) == sorted(f"http://two.org/{i}" for i in range(20) if i != 3)
    sheet = json.loads((out / "documents" / "datasheet.json").read_text())
    assert sheet["documents"] == 19 and sheet["removals"]["documents"] == 41
    assert sheet["removals"]["domains"] == ["one.org"] and "one.org" not in {
        d.url for d in read_documents(out)
    }
    again = build(config, out, engine=Engine(1))
    check(again)
    assert [d.id for d in documents(again)] == left
    assert reasons(again)[("removals", "asked to be removed")] == 41
    assert counts(again)["distinct texts"] == 60
    assert again.digest == sheet["digest"], "built again it is the same to the byte"
    assert [path.name for path in still_held(out)] == ["texts", "clean", "duplicates"]


def agrees(out: Path, distinct: int) -> None:
    """The datasheet and the report say of the funnel and the drops what is there."""
    sheet = json.loads((out / "documents" / "datasheet.json").read_text())
    left = len(list(read_documents(out)))
    n = {row["step"]: row["count"] for row in sheet["funnel"]}
    assert (n["distinct texts"], n["documents"], sheet["documents"]) == (distinct, left, left)
    gone = [row["count"] for row in sheet["drops"] if row["step"] == "removals"]
    assert gone == [distinct - left] * (left < distinct)
    assert sheet["removals"]["documents"] == distinct - left
    page = (out / "documents" / "datasheet.md").read_text()
    assert f"{left:,} documents of" in page and f"| documents | {left:,} | documents |" in page
    said = measure(out)["corpus"]
    assert said["funnel"] == sheet["funnel"]
    assert [{k: row[k] for k in ("step", "reason", "count")} for row in said["drops"]] == sheet["drops"]


def test_the_datasheet_agrees_with_what_is_left_after_every_removal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = built(tmp_path, monkeypatch)
    agrees(out, 60)
    remove(out, asked(["http://two.org/3"], []))
    agrees(out, 60)
    real = takedown.write_shard

    def killed(shard: Path, *others: Any) -> None:
        if shard.name == rewritten[1]:
            raise KeyboardInterrupt
        real(shard, *others)

    files = sorted((out / "documents").glob("*.parquet"))
    rewritten = [f.name for f in files if any("one.org" in d.id for d in read_documents(f))]
    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(takedown, "write_shard", killed)
        remove(out, asked([], ["one.org"]))
    assert 19 < len(list(read_documents(out))) < 59, "some of them are gone"
    remove(out, asked([], ["one.org"]))
    agrees(out, 60)
    assert len(list(read_documents(out))) == 19
    build(config, out, engine=Engine(1))
    agrees(out, 60)


REMOVE = """
import sys
from pathlib import Path
from gpt2.corpus.build.takedown import Removals, remove
remove(Path(sys.argv[1]), Removals(domains=("one.org",)))
"""


def test_a_removal_that_was_killed_is_ended_by_the_next_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = built(tmp_path, monkeypatch)
    process = subprocess.Popen([sys.executable, "-c", REMOVE, str(out)])
    while not (out / "removals.json").exists() and process.poll() is None:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(list(read_documents(out))) >= 20, "each shard is whole"
    assert {d.url for d in documents(build(config, out, engine=Engine(1)))} == {
        f"http://two.org/{i}" for i in range(20)
    }


def test_documents_without_a_build_can_be_removed_from_too(tmp_path: Path) -> None:
    rows = [Document(f"text {i}", id=f"d{i}", group="g", url=f"https://a.example/{i}") for i in range(4)]
    write_documents(tmp_path / "documents-00000.parquet", rows)
    assert remove(tmp_path, Removals(urls=("https://a.example/2",)))[0]["ids"] == ["d2"]
    assert [d.id for d in read_documents(tmp_path)] == ["d0", "d1", "d3"]
    assert read_removals(tmp_path) == Removals(urls=("https://a.example/2",))
    assert remove(tmp_path, Removals(urls=("https://a.example/2",))) == []
    with Workspace(tmp_path), pytest.raises(BusyError):
        remove(tmp_path, Removals(urls=("https://a.example/1",)))


@pytest.mark.parametrize(
    ("urls", "domains", "message"),
    [
        (["example.org/page"], [], "is no address"),
        (["ftp://example.org/"], [], "is no address"),
        ([], ["http://example.org/"], "is no domain"),
        ([], ["two words"], "is no domain"),
        ([], [""], "is no domain"),
        *[([], [name], "is no domain") for name in ("com", "*.com", ".org.", "localhost")],
        ([], [], "say what to remove"),
    ],
)
def test_what_names_nothing_is_refused(urls: list[str], domains: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        asked(urls, domains)


def test_a_domain_covers_its_subdomains_and_no_other() -> None:
    what = asked([], ["*.example.org", "Bücher.example"])
    assert what.domains == ("example.org", "xn--bcher-kva.example")
    for url, covered in {
        "http://example.org/": True,
        "https://www.EXAMPLE.org:8080/a?b": True,
        "http://a.b.example.org": True,
        "http://badexample.org/": False,
        "http://example.org.evil.com/": False,
        "http://com/?http://example.org/": False,
        "http://[broken/": False,
        "example.org": False,
    }.items():
        assert what.covers_any((None, url)) == covered, url


# Tokens


@pytest.fixture
def tokens(tmp_path: Path) -> Shards:
    rows = [
        ("a", "a", "One text. " * 30, "http://one.org/a"),
        ("b", "b", "Another text. " * 30, None),
        ("held", "h", "Held out. " * 30, "http://www.two.org/h"),
        ("c", "c", "A third one. " * 60, "http://two.org/c"),
        ("d", "d", "short", "http://one.org/d"),
    ]
    write_shards(rows, Tokenizer.gpt2(), tmp_path / "tokens", {"h"}, shard_tokens=100)
    return Shards.open(tmp_path / "tokens")


def test_every_token_names_the_document_and_address_it_came_from(tokens: Shards) -> None:
    ids = dict(zip("abcd", tokens.train.starts, strict=True))
    for name, start in ids.items():
        for at in (int(start), int(start) + 1):
            place = trace.token(tokens, at)
            assert (place.id, place.start, place.split) == (name, start, "train")
        text = tokens.tokenizer.decode(tokens.train.read(place.start + 1, place.stop).tolist())
        assert place.text.removeprefix("<|endoftext|>").strip()[:4] in text
    assert trace.token(tokens, tokens.train.n_tokens - 1).url == "http://one.org/d"
    assert trace.token(tokens, int(ids["c"]) - 1).url is None
    assert trace.token(tokens, 5, "heldout").url == "http://www.two.org/h"
    with pytest.raises(InputError, match=r"there is no token 10,000: train has"):
        trace.token(tokens, 10_000)


def test_a_document_is_found_by_id_or_address_with_its_files(tokens: Shards) -> None:
    place = trace.document(tokens, "http://two.org/c")
    assert place == trace.document(tokens, "c")
    first, last = place.start // 100, (place.stop - 1) // 100
    assert place.files == tuple(f"train/tokens-{i:05d}.bin" for i in range(first, last + 1))
    assert trace.document(tokens, "held").split == "heldout"
    with pytest.raises(InputError, match=r"no document of .* has the id or address 'x'"):
        trace.document(tokens, "x")


def test_a_removal_says_which_token_files_must_be_written_anew(tokens: Shards) -> None:
    found = to_rewrite(tokens.folder, Removals(domains=("two.org",)))
    assert [row["id"] for row in found["documents"]] == ["c", "held"]
    assert "heldout/tokens-00000.bin" in found["files"] and "train/tokens-00000.bin" not in found["files"]
    assert to_rewrite(tokens.folder, Removals(urls=("http://x.org/",))) == {"documents": [], "files": []}


def test_from_build_to_token_and_back_by_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    _, out = built(tmp_path, monkeypatch)
    shards = tmp_path / "tokens"
    assert run("tokens", "write", out, shards).status == 0
    first = json.loads(run("tokens", "inspect", shards, "--at", 7, "--json").out)
    assert first["url"] in {d.url for d in read_documents(out)} and first["split"] == "train"
    found = json.loads(run("tokens", "inspect", shards, "--document", first["url"], "--json").out)
    assert found["start"] == first["start"] == 0
    said = run("corpus", "remove", out, "--url", first["url"], "--tokens", shards, "--json", "--quiet")
    done = json.loads(said.out)
    assert done["removed"] == 1 and done["tokens"]["files"] == ["train/tokens-00000.bin"]
    assert first["url"] not in {d.url for d in read_documents(out)}
    assert run("corpus", "remove", out).refused("say what to remove")
    assert run("tokens", "inspect", shards, "--at", 1, "--document", "x").refused("either --at or --document")
