"""The fetcher against servers on this machine: what it keeps, how polite it is, and how it fails."""

from __future__ import annotations

import gzip
import socket
import time
from collections import Counter
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from local_server import FINE, ROBOTS, LocalServer, Reply, Script, causes, get, pages_of

from gpt2.corpus.fetch import FetchConfig, fetch, warc_files
from gpt2.errors import ConfigError, FetchError

# What is kept


def test_a_page_is_kept_as_it_came_with_its_encoding_undone(tmp_path: Path) -> None:
    packed = gzip.compress("<p>gepackt: äöü</p>".encode())
    site = {
        "/plain": Reply("<p>caf\xe9</p>".encode("latin-1"), type="Text/HTML; Charset=ISO-8859-1"),
        "/packed": Reply(packed, headers={"Content-Encoding": "gzip"}),
    }
    with LocalServer(dict(site)) as server:
        done = get(server, tmp_path, "/plain", "/packed")
        assert [f.cause for f in done] == [None, None]
        pages = pages_of(tmp_path)
        assert [pages[server.url(path)].text for path in site] == ["<p>café</p>", "<p>gepackt: äöü</p>"]
        assert pages[server.url("/plain")].content_type == "text/html"


def test_the_warc_file_reads_in_other_tools(tmp_path: Path) -> None:
    from fastwarc.warc import ArchiveIterator as FastIterator
    from fastwarc.warc import WarcRecordType
    from warcio.archiveiterator import ArchiveIterator

    bodies = {f"/{i}": f"<p>Page {i}, with some text.</p>" for i in range(5)}
    with LocalServer({path: Reply(body) for path, body in bodies.items()}) as server:
        get(server, tmp_path, *bodies, "/absent")
        wanted = {server.url(path): body for path, body in bodies.items()}
    [warc] = warc_files(tmp_path)
    with warc.open("rb") as stream:
        found = [
            (r.rec_headers.get_header("WARC-Target-URI"), r.content_stream().read().decode())
            for r in ArchiveIterator(stream, check_digests="raise")
            if r.rec_type == "response"
        ]
    assert found == list(wanted.items())
    records = FastIterator(str(warc), record_types=WarcRecordType.response, verify_digests=True)
    assert {r.headers["WARC-Target-URI"]: r.reader.read().decode() for r in records} == wanted


def test_no_cookie_is_sent_back_and_the_user_agent_is_named(tmp_path: Path) -> None:
    pages: dict[str, Script] = {f"/{i}": Reply(headers={"Set-Cookie": "who=you; Path=/"}) for i in range(3)}
    with LocalServer(pages) as server:
        get(server, tmp_path, *pages, user_agent="Tester/1.0 (someone@example.org)")
        assert not any("cookie" in r.headers for r in server.requests)
        assert {r.headers["user-agent"] for r in server.requests} == {"Tester/1.0 (someone@example.org)"}


def test_a_name_and_password_in_a_link_are_not_sent(tmp_path: Path) -> None:
    with LocalServer(dict(FINE)) as server:
        get(server, tmp_path, f"http://user:secret@{server.address}/fine")
        assert not any("authorization" in r.headers for r in server.requests)


def test_headers_of_any_bytes_are_kept(tmp_path: Path) -> None:
    def odd(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(
            b"HTTP/1.1 200 Sch\xf6n\r\nX-Odd: \xff\xfe\r\nContent-Type: text/html; charset=\xff\r\n"
            b"Content-Length: 14\r\n\r\n<p>so odd.</p>"
        )

    with LocalServer({"/odd": odd}) as server:
        assert [f.cause for f in get(server, tmp_path, "/odd")] == [None]
        assert pages_of(tmp_path)[server.url("/odd")].text == "<p>so odd.</p>"


# Politeness


def test_robots_txt_is_obeyed(tmp_path: Path) -> None:
    rules = Reply("User-agent: *\nDisallow: /private\n", type="text/plain")
    with LocalServer({ROBOTS: rules, "/private/a": Reply()}) as server:
        assert causes(server, tmp_path, "/private/a") == ["refused by robots.txt"]
        assert server.asked() == {"/fine": 1}
        assert [r.path for r in server.requests] == [ROBOTS, "/fine"]


def test_the_pause_robots_txt_asks_for_is_kept(tmp_path: Path) -> None:
    rules = Reply("User-agent: *\nCrawl-delay: 0.2\n", type="text/plain")
    with LocalServer({ROBOTS: rules, "/a": Reply(), "/b": Reply()}) as server:
        get(server, tmp_path, "/a", "/b")
        times = [r.time for r in server.requests]
    assert len(times) == 3
    assert times[2] - times[1] >= 0.2


def test_the_configured_pause_holds_for_each_request_to_a_host(tmp_path: Path) -> None:
    pages: dict[str, Script] = {"/a": Reply(status=302, headers={"Location": "/b"}), "/b": Reply()}
    with LocalServer(pages) as server:
        get(server, tmp_path, "/a", delay=0.1)
        times = [r.time for r in server.requests]
    assert len(times) == 3
    assert min(b - a for a, b in pairwise(times)) >= 0.1


def test_several_hosts_are_asked_at_once_and_each_one_thing_at_a_time(tmp_path: Path) -> None:
    busy: Counter[str] = Counter()
    most: list[tuple[int, int]] = []

    def watched(handler: BaseHTTPRequestHandler) -> Reply:
        name = handler.headers["Host"]
        busy[name] += 1
        time.sleep(0.02)
        most.append((busy[name], sum(busy.values())))
        busy[name] -= 1
        return Reply()

    with ExitStack() as stack:
        servers = [stack.enter_context(LocalServer({f"/{i}": watched for i in range(6)})) for _ in range(4)]
        for i, server in enumerate(servers):  # each also leads to the next one
            server.pages["/next"] = Reply(status=302, headers={"Location": servers[i - 1].url("/0")})
        links = [server.url(path) for path in servers[0].pages for server in servers]
        allow = frozenset(server.address for server in servers)
        crawl = fetch(links, tmp_path, FetchConfig(delay=0, retries=0, allow=allow))
    assert (crawl.links, crawl.pages, crawl.causes) == (28, 28, {})
    assert max(own for own, _ in most) == 1
    assert max(together for _, together in most) > 1
    assert sorted(pages_of(tmp_path)) == sorted(links)


def test_a_host_that_asks_for_very_long_pauses_is_left_alone(tmp_path: Path) -> None:
    rules = Reply("User-agent: *\nCrawl-delay: 3600\n", type="text/plain")
    with LocalServer({ROBOTS: rules, "/a": Reply()}) as server:
        with pytest.raises(FetchError, match="pauses of more than 60 s"):
            get(server, tmp_path, "/a")
        assert not server.asked()


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_site_without_rules_allows_all(status: int, tmp_path: Path) -> None:
    with LocalServer({ROBOTS: Reply("User-agent: *\nDisallow: /", status)}) as server:
        assert causes(server, tmp_path) == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_site_whose_rules_cannot_be_had_is_left_alone(status: int, tmp_path: Path) -> None:
    with LocalServer({ROBOTS: Reply("", status), "/a": Reply()}) as server:
        with pytest.raises(FetchError, match=f"robots.txt: status {status}"):
            get(server, tmp_path, "/a")
        assert not server.asked()


def test_a_redirect_is_asked_only_as_the_rules_of_its_host_allow(tmp_path: Path) -> None:
    rules = Reply("User-agent: *\nDisallow: /closed\n", type="text/plain")
    with LocalServer({ROBOTS: rules, "/closed": Reply(), "/open": Reply()}) as other, LocalServer() as server:
        for name in ("closed", "open"):
            server.pages[f"/{name}"] = Reply(status=302, headers={"Location": other.url(f"/{name}")})
        both = frozenset({server.address, other.address})
        assert causes(server, tmp_path, "/closed", "/open", allow=both) == ["refused by robots.txt", None]
        assert other.asked() == {"/open": 1}


# Failures


def test_failures_have_their_cause(tmp_path: Path) -> None:
    def slow(handler: BaseHTTPRequestHandler) -> Reply:
        time.sleep(1.0)
        return Reply()

    def dropped(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 1000\r\n\r\n<p>")

    def hung_up(handler: BaseHTTPRequestHandler) -> None:
        return None

    def nonsense(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"\x00\xff this is not HTTP at all\r\n\r\n")

    bomb = Reply(gzip.compress(b"a" * 20_000_000), headers={"Content-Encoding": "gzip"})
    false = Reply(b"this is not gzip", headers={"Content-Encoding": "gzip"})
    wanted: dict[str, tuple[Script, str]] = {
        "/absent": (Reply(status=404), "status 404"),
        "/broken": (Reply(status=500), "status 500"),
        "/picture": (Reply(b"\x89PNG", type="image/png"), "type image/png"),
        "/invented": (Reply(b"...", type="image/of-my-own"), "another type"),
        "/typeless": (Reply(type=""), "type unknown"),
        "/blank": (Reply(" \n "), "empty"),
        "/large": (Reply(b"a" * 100_001), "longer than 100,000 bytes"),
        "/bomb": (bomb, "longer than 100,000 bytes"),
        "/false": (false, "encoding gzip is damaged"),
        "/slow": (slow, "no answer within 0.5 s"),
        "/dropped": (dropped, "no answer: ClientPayloadError"),
        "/hung-up": (hung_up, "no answer: ServerDisconnectedError"),
        "/nonsense": (nonsense, "no answer: ClientResponseError"),
    }
    with LocalServer({path: script for path, (script, _) in wanted.items()}) as server:
        found = causes(server, tmp_path, *wanted, timeout=0.5, max_bytes=100_000)
        assert dict(zip(wanted, found, strict=True)) == {path: cause for path, (_, cause) in wanted.items()}
        assert list(pages_of(tmp_path)) == [server.url("/fine")], "no failure is kept as a page"


def test_a_failure_that_may_pass_is_tried_again(tmp_path: Path) -> None:
    answers = iter([503, 500, 200])
    pages: dict[str, Script] = {
        "/busy": lambda _: Reply(status=next(answers)),
        "/down": Reply(status=503),
        "/gone": Reply(status=404),
    }
    with LocalServer(pages) as server:
        assert causes(server, tmp_path, *pages, retries=2) == [None, "status 503", "status 404"]
        assert server.asked() == {"/busy": 3, "/down": 3, "/gone": 1, "/fine": 1}
    assert len(pages_of(tmp_path)) == 2, "one record a page, however often it was asked for"


def test_when_no_page_can_be_had_the_next_call_asks_again(tmp_path: Path) -> None:
    with LocalServer({"/a": Reply(status=500)}) as server:
        with pytest.raises(FetchError, match=r"none of 1 pages could be fetched.*/a: status 500"):
            get(server, tmp_path, "/a")
        server.pages["/a"] = Reply()
        assert [f.cause for f in get(server, tmp_path, "/a")] == [None]


def test_a_host_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(FetchError, match=r"robots\.txt: no answer: ClientConnectorError"):
        fetch(
            [f"http://127.0.0.1:{port}/"],
            tmp_path,
            FetchConfig(allow=frozenset({f"127.0.0.1:{port}"}), delay=0),
        )


@pytest.mark.parametrize(
    "settings",
    [
        {"delay": -1},
        {"delay": float("nan")},
        {"timeout": 0},
        {"timeout": float("inf")},
        {"workers": 0},
        {"max_bytes": 0},
        {"retries": -1},
        {"redirects": -1},
    ],
)
def test_settings_without_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        FetchConfig(**settings)


# Following a site's own links


def test_a_sites_own_links_are_followed_and_no_others(tmp_path: Path) -> None:
    pages: dict[str, Script] = {
        "/": Reply(
            '<a href="a">a</a> <a href="/b#part">b</a> <a href="http://other.example/">o</a> <a>x</a>'
        ),
        "/a": Reply('<a href="/b">b</a> <a href="mailto:a@b.c">m</a> <a href="/moved">moved</a>'),
        "/b": Reply('<base href="/deep/"><a href="c">c</a> <a href="javascript:void(0)">j</a>'),
        "/deep/c": Reply("<p>no links</p>"),
        "/moved": Reply(status=302, headers={"Location": "/deep/other/"}),
        "/deep/other/": Reply('<a href="d">relative to where the page is</a>'),
        "/deep/other/d": Reply('<a href="/absent">absent</a> <a href="/data">data</a>'),
        "/absent": Reply('<a href="/from-an-error">e</a>', 404),
        "/data": Reply('<a href="/from-data">e</a>', type="text/plain"),
    }
    with LocalServer(pages) as server:
        done = {f.url.removeprefix(server.origin): f for f in get(server, tmp_path, "/", follow=True)}
        assert set(done) == set(pages) - {"/deep/other/"}
        assert done["/"].links == tuple(sorted([server.url("/a"), server.url("/b"), "http://other.example/"]))
        assert done["/absent"].links == done["/data"].links == ()
        assert max(server.asked().values()) == 1
        assert not {"/from-an-error", "/from-data"} & set(server.asked())
