"""Whose turn it is: hosts at once, a slow one alone, waits that servers ask for, hosts that are gone, rules."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_server import ROBOTS, LocalServer, Reply, causes, get, lines_of, pages_of

from gpt2.corpus.fetch import robots, schedule
from gpt2.corpus.fetch.client import seconds
from gpt2.corpus.fetch.crawl import SILENT, FetchConfig, fetch, read_outcomes, warc_files
from gpt2.corpus.fetch.frontier import Frontier, Queue
from gpt2.corpus.fetch.robots import read_rules
from gpt2.errors import ConfigError, InputError


def crawl(servers: list[LocalServer], folder: Path, **given: Any) -> None:
    """Fetch all pages of some servers."""
    links = [server.url(path) for server in servers for path in server.pages if path != ROBOTS]
    allow = frozenset(server.address for server in servers)
    fetch(links, folder, FetchConfig(**{"delay": 0.0, "retries": 0, "allow": allow, **given}))


def test_a_slow_host_holds_up_only_itself(tmp_path: Path) -> None:
    quick: list[LocalServer] = []
    waited: list[bool] = []

    def slow(_: BaseHTTPRequestHandler) -> Reply:
        last = time.monotonic() + 20
        while sum(server.asked().total() for server in quick) < 40 and time.monotonic() < last:
            time.sleep(0.01)
        waited.append(time.monotonic() < last)
        return Reply()

    with ExitStack() as stack:
        tardy = stack.enter_context(LocalServer({f"/{i}": slow for i in range(8)}))
        quick += [stack.enter_context(LocalServer({f"/{i}": Reply() for i in range(8)})) for _ in range(5)]
        crawl([tardy, *quick], tmp_path, workers=2, delay=0.001)
    assert waited == [True] * 8, "all of the others was done while the first page of the slow one came"


def test_requests_to_one_host_at_once_are_as_many_as_is_set(tmp_path: Path) -> None:
    busy: Counter[str] = Counter()
    most: list[int] = []

    def watched(_: BaseHTTPRequestHandler) -> Reply:
        busy["now"] += 1
        most.append(busy["now"])
        time.sleep(0.05)
        busy["now"] -= 1
        return Reply()

    with LocalServer({f"/{i}": watched for i in range(12)}) as server:
        crawl([server], tmp_path / "three", per_host=3)
        assert max(most) == 3
        most.clear()
        server.pages[ROBOTS] = Reply("User-agent: *\nCrawl-delay: 0.01\n", type="text/plain")
        crawl([server], tmp_path / "one", per_host=3)
        assert max(most) == 1, "a host that asks for pauses is asked one thing at a time"


@pytest.mark.parametrize("status", [429, 503])
def test_a_host_is_left_in_peace_as_long_as_it_says(status: int, tmp_path: Path) -> None:
    busy = Reply("busy", status, {"Retry-After": "1"})
    answers = iter([busy, Reply()])
    with LocalServer({"/a": lambda _: next(answers), "/b": Reply()}) as server:
        crawl([server], tmp_path, retries=1)
        times = [(r.path, r.time) for r in server.requests]
    assert [path for path, _ in times] == [ROBOTS, "/a", "/a", "/b"]
    assert times[2][1] - times[1][1] >= 1.0


def test_how_long_to_wait_is_read_as_seconds_and_as_a_date() -> None:
    assert seconds(None, 300) is None
    assert seconds("7", 300) == 7 and seconds(" 900 ", 300) == 300
    assert 50 < (seconds(formatdate(time.time() + 60, usegmt=True), 300) or 0) <= 60
    assert seconds(formatdate(time.time() + 9_999, usegmt=True), 300) == 300
    assert seconds(formatdate(time.time() - 60, usegmt=True), 300) == 0
    for nonsense in ("", "soon", "-5", "1e9", "٣", "Mon, 99 Zzz 9999 99:99:99 GMT"):
        assert seconds(nonsense, 300) in (None, 3.0)


def test_a_host_that_gives_no_answer_many_times_is_left_alone(tmp_path: Path) -> None:
    def hung_up(_: BaseHTTPRequestHandler) -> None:
        return None

    with (
        LocalServer({f"/{i:02d}": hung_up for i in range(30)}) as server,
        LocalServer({"/a": Reply()}) as other,
    ):
        crawl([server, other], tmp_path)
        assert len(server.asked()) == SILENT
        ends = Counter(outcome.cause for outcome in read_outcomes(tmp_path))
    gone = f"no answer to {SILENT} links of the host in a row"
    assert ends == {"no answer: ServerDisconnectedError": SILENT, gone: 30 - SILENT, None: 1}


def test_an_answer_in_between_keeps_a_host_in_favour(tmp_path: Path) -> None:
    def hung_up(_: BaseHTTPRequestHandler) -> None:
        return None

    pages = {f"/{i:02d}": Reply() if i % SILENT == 5 else hung_up for i in range(30)}
    with LocalServer(dict(pages)) as server:
        crawl([server], tmp_path)
        assert len(server.asked()) == 30


def test_rules_are_read_once_and_again_when_they_are_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(_: BaseHTTPRequestHandler) -> Reply:
        time.sleep(0.3)
        return Reply()

    with LocalServer({f"/{i}": slow for i in range(4)}) as server:
        crawl([server], tmp_path / "a")
        assert sum(r.path == ROBOTS for r in server.requests) == 1
        server.requests.clear()
        monkeypatch.setattr(robots, "LIFE", 0.2)
        crawl([server], tmp_path / "b")
        assert sum(r.path == ROBOTS for r in server.requests) >= 4


def test_rules_of_resting_hosts_are_forgotten_and_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "RESTING", 1)
    with ExitStack() as stack:
        servers = [stack.enter_context(LocalServer({"/a": Reply(), "/b": Reply()})) for _ in range(4)]
        for one, other in pairwise(servers):
            one.pages["/b"] = Reply(status=302, headers={"Location": other.url("/b")})
        crawl(servers, tmp_path, workers=1)
        assert all(outcome.cause is None for outcome in read_outcomes(tmp_path))


def test_rules_are_googles() -> None:
    text = b"User-agent: *\nDisallow: /\nUser-agent: gpt2-workbench\nDisallow: /a*z$\nAllow: /a-long-z\nCrawl-delay: 2"
    rules = read_rules(200, text, "gpt2-workbench")
    assert rules.pause == 2.0
    verdicts = [
        rules.refuse(f"http://a.org/{path}", "gpt2-workbench") for path in ("", "abz", "abzc", "a-long-z")
    ]
    assert verdicts == [None, "refused by robots.txt", None, None]
    assert read_rules(200, text, "another").refuse("http://a.org/x", "another") == "refused by robots.txt"
    rate = b"User-agent: *\nRequest-rate: 1/5\n"
    assert read_rules(200, rate, "x").pause == 5.0
    assert read_rules(200, b"\xff\xfe\0 nonsense \x00" * 99, "x").refuse("http://a.org/", "x") is None
    late = b"# " + b"x" * robots.LONGEST_ROBOTS + b"\nUser-agent: *\nDisallow: /\n"
    assert read_rules(200, late, "x").refuse("http://a.org/", "x") is None, (
        "what comes after 512 KiB does not count"
    )


def test_a_robots_txt_that_redirects_without_end_is_none(tmp_path: Path) -> None:
    with LocalServer({ROBOTS: Reply(status=302, headers={"Location": ROBOTS})}) as server:
        assert causes(server, tmp_path) == []


# What is told and kept


def test_every_redirect_is_in_the_outcome(tmp_path: Path) -> None:
    hop = Reply(status=301, headers={"Location": "/b"})
    with LocalServer(
        {"/a": hop, "/b": Reply(status=307, headers={"Location": "/c"}), "/c": Reply()}
    ) as server:
        [outcome] = get(server, tmp_path, "/a")
        assert outcome.chain == (server.url("/b"), server.url("/c"))
        assert (outcome.final, outcome.status) == (server.url("/c"), 200)
        page = pages_of(tmp_path)[server.url("/a")]
        assert (page.url, page.final) == (server.url("/a"), server.url("/c"))


def test_who_asks_can_be_reached_and_what_was_sent_can_be_kept(tmp_path: Path) -> None:
    with LocalServer({"/a": Reply()}) as server:
        get(server, tmp_path, "/a", contact="someone@example.org", keep_requests=True)
        agents = {r.headers["user-agent"] for r in server.requests}
    assert agents == {"gpt2-workbench/0.1 (+someone@example.org)"}
    from gpt2.corpus.fetch.warc import records

    [path] = warc_files(tmp_path)
    [request] = [record for record in records(path) if record.kind == "request"]
    assert request.block.startswith(b"GET /a HTTP/1.1\r\n") and b"someone@example.org" in request.block


def test_failures_that_may_pass_are_asked_for_again_when_told_to(tmp_path: Path) -> None:
    pages = {"/down": Reply(status=503), "/gone": Reply(status=404), "/fine": Reply()}
    with LocalServer(dict(pages)) as server:
        get(server, tmp_path, *pages)
        server.pages["/down"], server.pages["/gone"] = Reply("<p>Up again.</p>"), Reply("<p>Too late.</p>")
        server.requests.clear()
        allow = frozenset({server.address})
        crawl = fetch(map(server.url, pages), tmp_path, FetchConfig(delay=0, allow=allow), again=True)
        assert server.asked() == {"/down": 1}
    assert (crawl.pages, crawl.causes) == (2, {"status 404": 1})
    assert len(lines_of(tmp_path)) == 3 and len(pages_of(tmp_path)) == 2


def test_what_is_not_wanted_is_not_read(tmp_path: Path) -> None:
    sent = []

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n\r\n")
        for _ in range(2_000):
            handler.wfile.write(b"\0" * 100_000)
            sent.append(1)

    with LocalServer({"/film": endless}) as server:
        assert causes(server, tmp_path, "/film") == ["type video/mp4"]
    assert len(sent) < 200


def test_files_of_another_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "pages-00000.warc.gz").write_bytes(b"precious")
    with LocalServer({"/a": Reply()}) as server, pytest.raises(InputError, match="no crawl made"):
        get(server, tmp_path, "/a")
    assert (tmp_path / "pages-00000.warc.gz").read_bytes() == b"precious"


@pytest.mark.parametrize(
    "given",
    [{"contact": "a\r\nCookie: x"}, {"user_agent": ""}, {"contact": "ü"}, {"idle": 0}, {"per_host": 0}]
    + [
        {"allow": frozenset({name})}
        for name in ("localhost:80", "10.0.0.0/33", "example.org", ":80", "1.2.3.4:x")
    ],
)
def test_settings_that_cannot_be_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        FetchConfig(**given)


# Links in little memory


@settings(max_examples=50, deadline=None, database=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=300))
def test_the_frontier_is_a_dictionary_with_queues(links: list[str]) -> None:
    frontier, numbers = Frontier(), dict[str, int]()
    queues, plain = {0: Queue(), 1: Queue()}, {0: list[str](), 1: list[str]()}
    for link in links:
        number, new = frontier.add(link)
        assert new == (link not in numbers)
        assert number == numbers.setdefault(link, len(numbers))
        if new:
            host = len(link) % 2
            queues[host].put(number, frontier)
            plain[host].append(link)
    assert list(frontier) == list(numbers)
    for host, queue in queues.items():
        for link in plain[host]:
            assert queue and frontier[queue.take(frontier)] == link
        assert not queue


def test_the_frontier_grows(tmp_path: Path) -> None:
    frontier = Frontier()
    for i in range(20_000):
        frontier.add(f"http://a.org/{i}")
    assert len(frontier) == 20_000
    assert all(frontier.add(f"http://a.org/{i}") == (i, False) for i in range(20_000))
