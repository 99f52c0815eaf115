"""The recipe from links and from a site: votes, what is fetched anew, and no stage done twice."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from corpora import check, counts, documents, html, reasons, short
from local_server import ROBOTS, LocalServer, Reply, Script

from gpt2.corpus import BuildConfig, build
from gpt2.corpus.build import recipe
from gpt2.corpus.dedupe import DedupeConfig
from gpt2.corpus.fetch import FetchConfig
from gpt2.corpus.links import LinksConfig
from gpt2.corpus.site import voted
from gpt2.corpus.site.documentation import Site
from gpt2.errors import FetchError, TooLittleData
from gpt2.workspace import Json

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

        monkeypatch.setattr(voted.documentation, "serve", serve)
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
        real = getattr(recipe.Build, name)

        def watched(*args: Any, name: str = name, real: Any = real) -> Json:
            done.append(name)
            result: Json = real(*args)
            return result

        monkeypatch.setattr(recipe.Build, name, watched)

    def did(**settings: Any) -> list[str]:
        done.clear()
        build(BuildConfig(**known | settings), out)
        return done

    with LocalServer({f"/{i}": Reply(html(f"page{i}")) for i in range(4)}) as server:
        links, out = tmp_path / "links.txt", tmp_path / "out"
        links.write_text("\n".join(map(server.url, server.pages)))
        known: dict[str, Any] = {"links": (links,), "fetch": fetching(server)}
        with monkeypatch.context() as broken:
            broken.setattr(recipe, "dedupe", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                build(BuildConfig(**known), out)
        every = ["make_texts", "clean_texts", "find_duplicates", "finish"]
        assert done == every[:3]
        assert did() == every[2:], "what was done before the failure is kept"
        assert did() == [], "all was done"
        assert did(dedupe=DedupeConfig(similarity=0.9)) == every[2:]
        assert did(method="fast") == every, "another method needs all of them anew"
        (tmp_path / "rules.toml").write_text("[tokens]\n")
        again = ["clean_texts", "finish"]
        assert did(method="fast", rules=tmp_path / "rules.toml") == again, "no text is new"
        (tmp_path / "rules.toml").write_text("[tokens]\nfewest = 100\n")
        assert did(method="fast", rules=tmp_path / "rules.toml") == again
        links.write_text(links.read_text() + "\n")
        asked = len(server.requests)
        assert did() == every and len(server.requests) == asked, "another list of the same pages"
