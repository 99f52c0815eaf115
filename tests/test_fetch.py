"""The fetcher against servers on this machine: polite, safe, and whole after any kill."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from local_server import ROBOTS, LocalServer, Reply, Script

pytest.importorskip("aiohttp")
pytest.importorskip("warcio")

from gpt2.corpus.fetch import LOG, PRIVATE, WARC, FetchConfig, Fetched, fetch, is_public
from gpt2.corpus.pages import Page, outgoing_links, read_pages
from gpt2.errors import ConfigError, FetchError

FINE = {"/fine": Reply("<p>This one is fine.</p>")}


def get(site: LocalServer, folder: Path, *paths: str, follow: bool = False, **settings: Any) -> list[Fetched]:
    """Fetch paths of a site that may be fetched."""
    known = {"delay": 0.0, "retries": 0, "allow": frozenset({site.address})} | settings
    links = [path if "://" in path else site.url(path) for path in paths]
    return fetch(links, folder, FetchConfig(**known), outgoing_links if follow else None)


def causes(site: LocalServer, folder: Path, *paths: str, **settings: Any) -> list[str | None]:
    """How each path ended, beside one that is fine, so that not all fail."""
    site.pages |= FINE
    done = get(site, folder, *paths, "/fine", **settings)
    assert done[-1].cause is None
    return [f.cause for f in done[:-1]]


def pages_of(folder: Path) -> dict[str, Page]:
    return {page.url: page for page in read_pages(folder / WARC)}


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


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
        wanted[server.url("/absent")] = "<p>nothing</p>"
    with (tmp_path / WARC).open("rb") as stream:
        found = [
            (r.rec_headers.get_header("WARC-Target-URI"), r.content_stream().read().decode())
            for r in ArchiveIterator(stream, check_digests="raise")
            if r.rec_type == "response"
        ]
    assert found == list(wanted.items())
    records = FastIterator(str(tmp_path / WARC), record_types=WarcRecordType.response, verify_digests=True)
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
        "/typeless": (Reply(type=""), "type unknown"),
        "/blank": (Reply(" \n "), "empty"),
        "/large": (Reply(b"a" * 100_001), "longer than 100,000 bytes"),
        "/bomb": (bomb, "longer than 100,000 bytes"),
        "/false": (false, "no answer: ClientPayloadError"),
        "/slow": (slow, "no answer within 0.5 s"),
        "/dropped": (dropped, "no answer: ClientPayloadError"),
        "/hung-up": (hung_up, "no answer: ServerDisconnectedError"),
        "/nonsense": (nonsense, "no answer: ClientResponseError"),
    }
    with LocalServer({path: script for path, (script, _) in wanted.items()}) as server:
        found = causes(server, tmp_path, *wanted, timeout=0.5, max_bytes=100_000)
        assert dict(zip(wanted, found, strict=True)) == {path: cause for path, (_, cause) in wanted.items()}
        refused = [page.refusal for page in read_pages(tmp_path / WARC)]
    assert refused == ["status 404", "status 500", "type image/png", "type unknown", "empty", None]


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
    assert len(list(read_pages(tmp_path / WARC))) == 4, "one record a page, however often it was asked for"


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


# Redirects


def test_redirects_are_followed_to_where_they_lead(tmp_path: Path) -> None:
    def to(where: str) -> Reply:
        return Reply("elsewhere", 302, {"Location": where})

    pages: dict[str, Script] = {
        "/relative": to("fine"),
        "/absolute": to("/relative"),
        "/loop": to("/loop"),
        "/file": to("file:///etc/passwd"),
        "/script": to("javascript:alert(1)"),
        "/broken": to("http://[::1"),
        "/nowhere": Reply("<p>moved, but where?</p>", 302),
    }
    with LocalServer(dict(pages)) as server:
        found = dict(zip(pages, causes(server, tmp_path, *pages), strict=True))
        kept = pages_of(tmp_path)
        assert kept[server.url("/absolute")].text == "<p>This one is fine.</p>"
        assert server.asked()["/loop"] == 6
    nowhere = "redirect to no address of the web"
    assert found == {
        "/relative": None,
        "/absolute": None,
        "/loop": "more than 5 redirects",
        "/file": nowhere,
        "/script": nowhere,
        "/broken": nowhere,
        "/nowhere": "status 302",
    }


def test_a_redirect_into_the_network_is_refused(tmp_path: Path) -> None:
    with LocalServer({"/secret": Reply("<p>secret</p>")}) as other, LocalServer() as server:
        inside = [other.url("/secret"), "http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/"]
        inside += [f"http://localhost:{other.address[10:]}/secret", "http://[::ffff:10.0.0.1]/"]
        for i, target in enumerate(inside):
            server.pages[f"/{i}"] = Reply(status=301, headers={"Location": target})
        found = causes(server, tmp_path, *(f"/{i}" for i in range(len(inside))))
        assert found == [PRIVATE] * len(inside)
        assert other.requests == []


# Addresses inside somebody's network


@pytest.mark.parametrize(
    "host",
    [
        *[
            "127.0.0.1",
            "localhost",
            "127.1",
            "0x7f000001",
            "2130706433",
            "0177.0.0.1",
            "127.0.0.1.",
            "0.0.0.0",
        ],
        *["[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::]", "①②⑦.0.0.1", "user@127.0.0.1"],
    ],
)
def test_no_spelling_of_loopback_gets_past(host: str, tmp_path: Path) -> None:
    with LocalServer(dict(FINE)) as server:
        port = server.address.partition(":")[2]
        with pytest.raises(FetchError, match=r"not an address of the public internet|no answer: "):
            fetch([f"http://{host}:{port}/fine"], tmp_path, FetchConfig(delay=0, retries=0, timeout=5))
        assert server.requests == []


def test_a_name_that_leads_into_the_network_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def lookup(host: Any, *args: Any, **settings: Any) -> Any:
        return real("127.0.0.1" if host == "innocent.example" else host, *args, **settings)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    with LocalServer(dict(FINE)) as server:
        port = server.address.partition(":")[2]
        with pytest.raises(FetchError, match=PRIVATE):
            fetch([f"http://innocent.example:{port}/fine"], tmp_path, FetchConfig(delay=0, retries=0))
        assert server.requests == []


def test_an_allowed_address_may_have_another_name_but_no_other_port(tmp_path: Path) -> None:
    with LocalServer(dict(FINE)) as server, LocalServer(dict(FINE)) as other:
        port = server.address.partition(":")[2]
        named = f"http://localhost:{port}/fine"
        assert causes(server, tmp_path, named, other.url("/fine")) == [None, PRIVATE]
        assert other.requests == []


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.215.14", "2606:2800:21f:cb07::1", "::ffff:1.1.1.1"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *["127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1"],
        *["169.254.169.254", "100.64.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.1.1"],
        *["240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1"],
        *["::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:0:127.0.0.1"],
        *[
            "64:ff9b::7f00:1",
            "64:ff9b:1::a00:1",
            "2002:7f00:1::",
            "2002:a00:1::",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:db8::1",
        ],
        *["fe80::1", "fe80::1%eth0", "fc00::1", "fd12:3456::1", "fec0::1", "ff02::1"],
        *["4000::1", "127.1", "2130706433", "0x7f000001", "localhost"],
    ],
)
def test_addresses_inside_somebodys_network_are_not_public(address: str) -> None:
    assert not is_public(address)


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


# Interruption

CRAWL = """
import sys
from pathlib import Path
from gpt2.corpus.fetch import FetchConfig, fetch
from gpt2.corpus.pages import outgoing_links
fetch([sys.argv[1] + "/"], Path(sys.argv[2]), FetchConfig(delay=0, allow=frozenset({sys.argv[1][7:]})), outgoing_links)
"""


def chain(n: int) -> dict[str, Script]:
    """A site whose pages each lead to the next ones, and answer after a little while."""

    def page(i: int) -> Script:
        def script(handler: BaseHTTPRequestHandler) -> Reply:
            time.sleep(0.01)
            links = "".join(f'<a href="/{k}">{k}</a>' for k in (i + 1, 2 * i + 1) if k < n)
            return Reply(links + f"<p>Page {i}. " + os.urandom(2_000).hex() + "</p>")

        return script

    return {"/" if i == 0 else f"/{i}": page(i) for i in range(n)}


def test_a_killed_crawl_goes_on_where_it_was(tmp_path: Path) -> None:
    from warcio.archiveiterator import ArchiveIterator

    kills = 0
    with LocalServer(chain(100)) as server:
        command = [sys.executable, "-c", CRAWL, server.origin, str(tmp_path)]
        for stop in (15, 45, 75):
            process = subprocess.Popen(command)
            while sum(server.asked().values()) < stop and process.poll() is None:
                time.sleep(0.002)
            assert process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        subprocess.run(command, check=True)
        asked = server.asked()
        assert set(asked) == set(server.pages)
        assert sum(asked.values()) <= len(server.pages) + kills, "a kill costs the one page in flight"
        assert max(asked.values()) <= 1 + kills
    urls = Counter(row["url"] for row in lines_of(tmp_path))
    assert set(urls.values()) == {1}
    pages = [page.url for page in read_pages(tmp_path / WARC)]
    assert sorted(pages) == sorted(urls)
    with (tmp_path / WARC).open("rb") as stream:
        kinds = Counter(r.rec_type for r in ArchiveIterator(stream, check_digests="raise"))
    assert kinds == {"warcinfo": 1, "response": 100}


def test_a_log_cut_anywhere_costs_no_more_than_its_last_lines(tmp_path: Path) -> None:
    paths = [f"/{i}" for i in range(4)]
    with LocalServer({path: Reply(f"<p>Page {path}</p>") for path in paths}) as server:
        get(server, tmp_path, *paths)
        log, warc = (tmp_path / LOG).read_bytes(), (tmp_path / WARC).read_bytes()
        ends = [i + 1 for i, byte in enumerate(log) if byte == ord("\n")]
        for cut in {
            0,
            1,
            len(log) - 1,
            len(log) - 20,
            *ends,
            *(end - 1 for end in ends),
            *(e + 7 for e in ends[:-1]),
        }:
            (tmp_path / LOG).write_bytes(log[:cut])
            (tmp_path / WARC).write_bytes(warc)
            server.requests.clear()
            done = get(server, tmp_path, *paths)
            whole = sum(end <= cut for end in ends)
            assert sum(server.asked().values()) == 4 - whole
            assert sorted(f.url for f in done) == sorted(pages_of(tmp_path)) == sorted(map(server.url, paths))
            assert len(lines_of(tmp_path)) == 4


def test_a_warc_file_shorter_than_its_log_is_filled_up(tmp_path: Path) -> None:
    paths = [f"/{i}" for i in range(4)]
    with LocalServer({path: Reply(f"<p>Page {path}</p>") for path in paths}) as server:
        get(server, tmp_path, *paths)
        second = lines_of(tmp_path)[1]["end"]
        (tmp_path / WARC).write_bytes((tmp_path / WARC).read_bytes()[: second + 3])
        server.requests.clear()
        get(server, tmp_path, *paths)
        assert server.asked() == {"/2": 1, "/3": 1}
        assert list(pages_of(tmp_path)) == list(map(server.url, paths))


def test_a_damaged_line_in_the_log_is_where_it_begins_anew(tmp_path: Path) -> None:
    paths = [f"/{i}" for i in range(4)]
    with LocalServer({path: Reply(f"<p>Page {path}</p>") for path in paths}) as server:
        get(server, tmp_path, *paths)
        lines = (tmp_path / LOG).read_bytes().splitlines(keepends=True)
        (tmp_path / LOG).write_bytes(lines[0] + b"\0\0\0\xff\n" + b"".join(lines[2:]))
        server.requests.clear()
        get(server, tmp_path, *paths)
        assert sum(server.asked().values()) == 3
        assert sorted(pages_of(tmp_path)) == sorted(map(server.url, paths))
