"""The recipe from each of its sources: the same documents, counts that add up, and no work done twice."""

from __future__ import annotations

import contextlib
import importlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from corpora import archive, check, counts, documents, dropped, html, prose, reasons, short, taken
from local_server import ROBOTS, LocalServer, Reply, Script

from gpt2.corpus import BuildConfig, build
from gpt2.corpus.dedupe import DedupeConfig
from gpt2.corpus.fetch import FetchConfig
from gpt2.corpus.links import LinksConfig
from gpt2.corpus.site.documentation import Site
from gpt2.errors import BusyError, ConfigError, FetchError, FormatError, InputError, TooLittleData
from gpt2.workspace import Json, Workspace

steps, site = (importlib.import_module(f"gpt2.corpus.{name}") for name in ("build.recipe", "site.voted"))


# A user's own text


def test_one_text_in_three_forms_gives_the_same_documents(tmp_path: Path) -> None:
    texts = [prose(f"text{i}") for i in range(6)]
    texts += [texts[0].upper(), texts[1].replace(" ", "\r\n"), "with a \0 control character", "\x07"]
    for name in ("plain", "lines", "table"):
        (tmp_path / name).mkdir()
    for i, text in enumerate(texts):
        (tmp_path / "plain" / f"{i}.txt").write_text(text.replace("\0", "\1"))
    lines = [json.dumps({"text": text}) + "\n" for text in texts]
    (tmp_path / "lines" / "a.jsonl").write_text("".join(lines))
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "table" / "a.parquet")
    built = [
        build(BuildConfig(text=tmp_path / n), tmp_path / f"{n}-out") for n in ("plain", "lines", "table")
    ]
    for one in built:
        check(one)
        assert [d.text for d in documents(one)] == [*texts[:6], "with a  control character"]
        assert reasons(one) == {
            ("duplicates", "the same words"): 2,
            ("cleaning", "empty"): 1,
        }
        assert taken(one) == {("cleaning", "control-characters"): 2}
        repeats = pyarrow.parquet.read_table(one.documents.parent / "duplicates" / "duplicates.parquet")
        assert repeats.column("similarity").to_pylist() == [1.0, 1.0]


def test_one_long_text_is_cut_into_documents_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("\n\n".join(prose(f"chapter{i}") for i in range(40)))
    built = build(BuildConfig(text=tmp_path / "book.txt"), tmp_path / "out")
    check(built)
    found = documents(built)
    assert len(found) > 5
    assert len({d.group for d in found}) == len(found)
    assert "book.txt" in built.description


def test_nothing_but_empty_texts_is_too_little(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "\\u0001"}\n{"text": "\\u0002 \\u0003"}\n')
    with pytest.raises(TooLittleData, match="no document is left"):
        build(BuildConfig(text=tmp_path / "a.jsonl"), tmp_path / "out")


def test_surrogates_control_characters_and_huge_ids_come_through(tmp_path: Path) -> None:
    rows = [
        {"text": prose("a") + " \ud800", "id": "\udfff"},
        {"text": prose("b"), "id": 10**100, "group": [1]},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    built = build(BuildConfig(text=tmp_path / "a.jsonl"), tmp_path / "out")
    check(built)
    assert documents(built)[0].text.endswith("\ufffd")


# WARC files


def test_real_archives_give_documents(data: Path, tmp_path: Path) -> None:
    names = ["iana.warc.gz", "IAH-urls-wget.warc.gz", "whirlwind.warc.gz", "example.arc", "cc.warc.gz"]
    built = build(BuildConfig(pages=tuple(data / "warc" / name for name in names)), tmp_path / "out")
    check(built)
    assert counts(built)["responses"] == 48 + 123 + 16 + 1 + 1 + 1  # 123 are revisits
    found = {d.url: d for d in documents(built)}
    assert "http://www.iana.org/time-zones" in found
    assert all(d.source.startswith(tuple(names)) for d in found.values())
    assert {d.id == d.group for d in found.values()} == {True}
    fell = {reason for _, reason in reasons(built)}
    assert "type image/png" in fell and any(reason.startswith("status 3") for reason in fell)


def test_the_drops_of_each_step_add_up_to_what_it_did_not_pass_on(data: Path, tmp_path: Path) -> None:
    whole = data / "warc" / "iana.warc.gz"
    cut = tmp_path / "cut.warc.gz"
    cut.write_bytes((data / "warc" / "aut-example.warc.gz").read_bytes()[:-100])
    built = build(BuildConfig(pages=(whole, cut), method="fast"), tmp_path / "out")
    check(built)
    by_step = ["pages", "extraction", "cleaning", "duplicates", "removals"]
    numbers = [row["count"] for row in built.funnel]
    lost = [before - after for before, after in pairwise(numbers)]
    assert [dropped(built, step) for step in by_step] == lost
    assert sum(row["count"] for row in built.drops) == numbers[0] - numbers[-1]
    pieces = taken(built)
    assert pieces[("reading", "damaged stretch of an archive")] == 1
    assert {step for step, _ in pieces} == {"reading", "cleaning"}
    page = (built.documents / "datasheet.md").read_text()
    dropped_part, _, taken_part = page.partition("What was taken out of texts")
    assert "| pages | status " in dropped_part and "damaged stretch" not in dropped_part
    assert "damaged stretch" in taken_part


def test_pages_are_taken_once_and_by_either_method(tmp_path: Path) -> None:
    pages = {str(i): html(f"page{i}") for i in range(3)} | {"none": "<title>x</title>"}
    pages["short"] = short("short")
    one, two = archive(tmp_path / "a.warc.gz", pages), archive(tmp_path / "b.warc.gz", {"1": html("other")})
    for method in ("default", "fast"):
        built = build(BuildConfig(pages=(one, two), method=method), tmp_path / method)  # type: ignore[arg-type]
        check(built)
        assert [d.id for d in documents(built)] == [f"http://example.org/{i}" for i in range(3)]
        assert reasons(built) == {
            ("pages", "address seen before"): 1,
            ("cleaning", "tokens"): 1,
            ("extraction", "no text"): 1,
        }


def test_a_folder_of_archives_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b", "a/c"):
        archive(tmp_path / "crawl" / f"{name}.warc.gz", {name: html(name)})
    (tmp_path / "crawl" / "notes.txt").write_text("no archive")
    built = build(BuildConfig(pages=(tmp_path / "crawl",)), tmp_path / "out")
    assert [d.id for d in documents(built)] == ["http://example.org/a/c", "http://example.org/b"]
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="there is no WARC file"):
        build(BuildConfig(pages=(tmp_path / "none",)), tmp_path / "other")


def test_of_an_archive_that_was_cut_the_good_pages_are_taken(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.warc.gz", {str(i): html(f"page{i}") for i in range(3)})
    path.write_bytes(path.read_bytes()[:-20])
    built = build(BuildConfig(pages=(path,)), tmp_path / "out")
    check(built)
    assert len(documents(built)) == 2
    assert reasons(built) == {} and taken(built) == {("reading", "damaged stretch of an archive"): 1}
    sheet = json.loads((built.documents / "datasheet.json").read_text())
    assert len(sheet["faults"]) == 1 and "has no end" in sheet["faults"][0]
    (tmp_path / "b.warc.gz").write_text("no archive")
    with pytest.raises(FormatError, match="neither a WARC nor an ARC"):
        build(BuildConfig(pages=(tmp_path / "b.warc.gz",)), tmp_path / "other")


def test_rules_of_a_file_are_used_and_leave_the_texts_as_they_were(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.warc.gz", {str(i): html(f"page{i}") for i in range(3)})
    rules = tmp_path / "rules.toml"
    rules.write_text("[words]\nfewest = 1_000\n")
    with pytest.raises(TooLittleData, match=r"no document is left of pages out of a.warc.gz \(3 words"):
        build(BuildConfig(pages=(path,), rules=rules), tmp_path / "out")
    before = (tmp_path / "out" / "texts" / "stage.json").read_text()
    rules.write_text("[words]\nfewest = 10\n")
    assert len(documents(build(BuildConfig(pages=(path,), rules=rules), tmp_path / "out"))) == 3
    assert (tmp_path / "out" / "texts" / "stage.json").read_text() == before


def test_each_drop_has_a_row_with_its_reason_and_some_an_example(tmp_path: Path) -> None:
    pages = {"good": html("good"), "short": short("short")}
    path = archive(tmp_path / "a.warc.gz", pages)
    built = build(BuildConfig(pages=(path,)), tmp_path / "out")
    rows = pyarrow.parquet.read_table(tmp_path / "out" / "clean" / "drops-00000.parquet").to_pylist()
    assert [(row["id"], row["rule"]) for row in rows] == [("http://example.org/short", "tokens")]
    assert "fewer than 128" in rows[0]["reason"]
    (drop,) = built.drops
    assert drop["examples"][0]["text"].startswith("Shortx ") and "tokens" in drop["examples"][0]["detail"]


# A list of links


def fetching(server: LocalServer, **settings: Any) -> FetchConfig:
    return FetchConfig(**{"delay": 0.0, "retries": 0, "allow": frozenset({server.address})} | settings)


def test_links_with_votes_become_documents(tmp_path: Path) -> None:
    pages: dict[str, Script] = {f"/{i}": Reply(html(f"page{i}")) for i in range(6)}
    pages |= {"/é": Reply(html("accent"))}
    pages["/%C3%A9"] = pages["/é"]
    pages["/short"] = Reply(short("short"))
    pages["/copy"] = Reply(html("page0"))
    pages["/moved"] = Reply(status=301, headers={"Location": "/5"})
    pages["/private"] = Reply(html("private"))
    pages[ROBOTS] = Reply("User-agent: *\nDisallow: /private", type="text/plain")
    with LocalServer(pages) as server:
        others = ["/é", "/short", "/copy", "/moved", "/private", "/absent", "http://10.0.0.1/"]
        scores = {f"/{i}": i for i in range(5)} | dict.fromkeys(others, 9)
        rows = [{"url": p if "//" in p else server.url(p), "score": s} for p, s in scores.items()]
        links = tmp_path / "links.jsonl"
        links.write_text("\n".join(map(json.dumps, rows)))
        config = BuildConfig(
            links=(links,), wanted=LinksConfig(minimum_votes=2), method="fast", fetch=fetching(server)
        )
        built = build(config, tmp_path / "out")
        check(built)
        found = {d.id.removeprefix(server.origin): d.votes for d in documents(built)}
    assert found == {"/2": 2, "/3": 3, "/4": 4, "/%C3%A9": 9, "/copy": 9, "/moved": 9}
    assert reasons(built) == {
        ("links", "votes: fewer than 2 votes"): 2,
        ("fetch", "refused by robots.txt"): 1,
        ("fetch", "not an address of the public internet"): 1,
        ("fetch", "status 404"): 1,
        ("cleaning", "tokens"): 1,
    }


def test_pages_that_were_fetched_stay_whatever_is_changed(tmp_path: Path) -> None:
    pages: dict[str, Script] = {f"/{i}": Reply(html(f"page{i}")) for i in range(8)}
    links, out = tmp_path / "links.csv", tmp_path / "out"

    def asked(n: int, votes: int, delay: float) -> tuple[set[str], list[str]]:
        links.write_text("url,score\n" + "".join(f"{server.url(f'/{i}')},{i}\n" for i in range(n)))
        before = len(server.requests)
        wanted, how = LinksConfig(minimum_votes=votes), fetching(server, delay=delay)
        built = build(BuildConfig(links=(links,), wanted=wanted, method="fast", fetch=how), out)
        check(built)
        found = {d.id.removeprefix(server.origin) for d in documents(built)}
        return found, sorted(r.path for r in server.requests[before:] if r.path != ROBOTS)

    with LocalServer(pages) as server:
        found, requests = asked(6, 2, 0.0)
        assert found == {"/2", "/3", "/4", "/5"} and requests == sorted(found)
        assert asked(6, 2, 0.001) == (found, []), "another pause is no reason to ask again"
        assert asked(6, 4, 0.0) == ({"/4", "/5"}, []), "pages that are no longer wanted make no documents"
        assert asked(8, 2, 0.0) == (found | {"/6", "/7"}, ["/6", "/7"]), (
            "only links that are new are asked for"
        )


def test_of_several_captures_the_first_with_a_text_counts(tmp_path: Path) -> None:
    archive(tmp_path / "a.warc.gz", [("a", "<p></p>"), ("a", html("one")), ("a", html("two"))])
    built = build(BuildConfig(pages=(tmp_path / "a.warc.gz",), method="fast"), tmp_path / "out")
    (found,) = documents(built)
    assert "one" in found.text
    assert reasons(built) == {("extraction", "no text"): 1, ("pages", "address seen before"): 1}


def test_a_folder_for_a_corpus_inside_its_own_input_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a.txt").write_text(prose("a"))
    with pytest.raises(InputError, match="lies inside"):
        build(BuildConfig(text=tmp_path / "own"), tmp_path / "own" / "corpus")


def test_links_without_enough_votes_are_too_little(tmp_path: Path) -> None:
    (tmp_path / "links.csv").write_text("url,score\nhttp://example.org/,2\n")
    with pytest.raises(TooLittleData, match=r"no link is left of 1 rows \(1 votes\)"):
        build(BuildConfig(links=(tmp_path / "links.csv",)), tmp_path / "out")


def test_a_build_that_failed_for_want_of_a_network_works_when_there_is_one(tmp_path: Path) -> None:
    with LocalServer({"/a": Reply(html("a"), 503)}) as server:
        (tmp_path / "links.txt").write_text(server.url("/a"))
        config = BuildConfig(links=(tmp_path / "links.txt",), fetch=fetching(server))
        with pytest.raises(FetchError, match="status 503"):
            build(config, tmp_path / "out")
        server.pages["/a"] = Reply(html("a"))
        assert len(documents(build(config, tmp_path / "out"))) == 1


# Votes within a site


def voted_site(names: str) -> tuple[dict[str, Script], dict[str, int]]:
    """A site with index pages, where page n of `names` is linked to by n of the others, and its votes."""
    votes = dict(zip(names, range(len(names)), strict=True))
    linking: dict[str, list[str]] = {name: [] for name in names}
    for name, n in votes.items():
        for other in [x for x in names if x != name][:n]:
            linking[other] += [name, f"{name}#part", name]  # many links from one page are one vote
        linking[name] += [name]  # and its own is none
    everything = "".join(f'<a href="{name}.html">{name}</a> ' for name in names)
    pages: dict[str, Script] = {
        "/index.html": Reply(everything + '<a href=".">home</a> <a href="topics.html">t</a>'),
        "/": Reply(everything),
        "/topics.html": Reply(everything + '<a href="absent.html">absent</a> <a href="data.html">data</a>'),
        "/data.html": Reply("{}", type="application/json"),
    }
    for name in names:
        to = "".join(
            f'<a href="{t.partition("#")[0]}.html#{t.partition("#")[2]}">{t}</a> ' for t in linking[name]
        )
        pages[f"/{name}.html"] = Reply(html(f"module{name}", to + '<a href="index.html">index</a>'))
    return pages, votes


@pytest.fixture
def small_site(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LocalServer, dict[str, int]]]:
    pages, votes = voted_site("abcdef")
    with LocalServer(pages) as server:

        @contextlib.contextmanager
        def serve(port: int = 0) -> Iterator[Site]:
            yield Site(server.address)

        monkeypatch.setattr(site.documentation, "serve", serve)
        yield server, votes


def test_three_distinct_other_pages_must_link_to_a_page(
    small_site: tuple[LocalServer, dict[str, int]], tmp_path: Path
) -> None:
    server, votes = small_site
    built = build(BuildConfig(), tmp_path / "out")
    check(built)
    assert {d.group: d.votes for d in documents(built)} == {n: v for n, v in votes.items() if v >= 3}
    wanted = {"links": 11, "pages": 9, "voted pages": 3, "texts": 3, "clean texts": 3}
    assert counts(built) == wanted | {"distinct texts": 3, "documents": 3}
    fell = reasons(built)
    assert fell[("votes", "fewer than 3 other pages link to it")] == 3
    assert fell[("votes", "index page, which only lists others")] == 3
    assert fell[("fetch", "status 404")] == fell[("fetch", "type application/json")] == 1
    asked = sum(server.asked().values())
    more = build(BuildConfig(wanted=LinksConfig(minimum_votes=1)), tmp_path / "out")
    check(more)
    assert {d.group for d in documents(more)} == set("bcdef")
    assert sum(server.asked().values()) == asked, "another number of votes needs no other pages"


# Interruption

BUILD = """
import sys
from pathlib import Path
from gpt2.corpus import BuildConfig, build
from gpt2.corpus.fetch import FetchConfig
fetch = FetchConfig(delay=0, allow=frozenset({sys.argv[1]}))
build(BuildConfig(links=(Path(sys.argv[2]),), fetch=fetch), sys.argv[3])
"""


def test_a_build_killed_while_it_fetches_goes_on(tmp_path: Path) -> None:
    def slowly(i: int) -> Script:
        def script(handler: BaseHTTPRequestHandler) -> Reply:
            time.sleep(0.01)
            return Reply(html(f"page{i}"))

        return script

    with LocalServer({f"/{i}": slowly(i) for i in range(60)}) as server:
        links, out = tmp_path / "links.txt", tmp_path / "out"
        links.write_text("\n".join(map(server.url, server.pages)))
        command = [sys.executable, "-c", BUILD, server.address, str(links), str(out)]
        process = subprocess.Popen(command)
        while sum(server.asked().values()) < 25 and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (out / "documents").exists()
        fetch = FetchConfig(delay=0, allow=frozenset({server.address}))
        built = build(BuildConfig(links=(links,), fetch=fetch), out)
        check(built)
        assert len(documents(built)) == 60
        assert sum(server.asked().values()) <= 61


def test_no_stage_is_done_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    for name in ("make_texts", "clean_texts", "find_duplicates", "finish"):
        real = getattr(steps.Build, name)

        def watched(*args: Any, name: str = name, real: Any = real) -> Json:
            done.append(name)
            result: Json = real(*args)
            return result

        monkeypatch.setattr(steps.Build, name, watched)

    def did(**settings: Any) -> list[str]:
        done.clear()
        build(BuildConfig(**known | settings), out)
        return done

    with LocalServer({f"/{i}": Reply(html(f"page{i}")) for i in range(4)}) as server:
        links, out = tmp_path / "links.txt", tmp_path / "out"
        links.write_text("\n".join(map(server.url, server.pages)))
        known: dict[str, Any] = {"links": (links,), "fetch": fetching(server)}
        with monkeypatch.context() as broken:
            broken.setattr(steps, "dedupe", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                build(BuildConfig(**known), out)
        every = ["make_texts", "clean_texts", "find_duplicates", "finish"]
        assert done == every[:3]
        assert did() == every[2:], "what was done before the failure is kept"
        assert did() == [], "all was done"
        assert did(dedupe=DedupeConfig(similarity=0.9)) == every[2:]
        assert did(method="fast") == every, "another method needs all of them anew"
        (tmp_path / "rules.toml").write_text("[tokens]\n")
        again = ["make_texts", "clean_texts", "finish"]
        assert did(method="fast", rules=tmp_path / "rules.toml") == again, (
            "lines are not counted; no text is new"
        )
        (tmp_path / "rules.toml").write_text("[tokens]\nfewest = 100\n")
        assert did(method="fast", rules=tmp_path / "rules.toml") == again[1:]
        links.write_text(links.read_text() + "\n")
        asked = len(server.requests)
        assert did() == every and len(server.requests) == asked, "another list of the same pages"


def test_changed_text_is_built_anew(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text(prose("a"))
    (folder / "b.txt").write_text(prose("b"))
    assert len(documents(build(BuildConfig(text=folder), tmp_path / "out"))) == 2
    (folder / "c.txt").write_text(prose("c"))
    assert len(documents(build(BuildConfig(text=folder), tmp_path / "out"))) == 3


def test_two_builds_in_one_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(prose("a"))
    with Workspace(tmp_path / "out"), pytest.raises(BusyError):
        build(BuildConfig(text=tmp_path / "a.txt"), tmp_path / "out")


# The rest


def test_nothing_is_said_on_standard_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pages = {str(i): html(f"page{i}") for i in range(70)} | {"none": "<p></p>"}
    archive(tmp_path / "a.warc.gz", pages)
    assert len(documents(build(BuildConfig(pages=(tmp_path / "a.warc.gz",)), tmp_path / "out"))) == 70
    assert capfd.readouterr() == ("", "")


def test_only_one_source_may_be_given() -> None:
    with pytest.raises(ConfigError, match="only one of text, pages and links"):
        BuildConfig(text=Path("a"), links=(Path("b"),))
    with pytest.raises(ConfigError, match="there is no extraction method 'magic'"):
        BuildConfig(method="magic")  # type: ignore[arg-type]


@pytest.mark.parametrize("source", ["text", "pages", "links"])
def test_a_source_that_is_not_there_is_refused(source: str, tmp_path: Path) -> None:
    path = tmp_path / "absent"
    config = BuildConfig(**{source: path if source == "text" else (path,)})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="there is no file or folder"):
        build(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()
