"""Links to pages: a polite, safe and restartable fetcher (paper 2.1).

Polite: robots.txt is obeyed, that of each host a redirect leads to as well, each host is asked one thing at a
time with a pause between, and the user agent says who asks. Safe: only HTTP(S), limits on size and time, and
no address inside somebody's network: an address is judged where the socket to it is made, so that no name,
number or redirect gets past. One private address and port may be allowed by name.

    FOLDER/pages.warc.gz     what came, one record a page
    FOLDER/fetched.jsonl     one line a link done: how it ended, where its record ends, the links on the page

A line is written after its record. On restart the WARC file is cut back to the last line's end and the rest
is fetched: a kill costs what was in flight. Rejected: a database for the queue, which follows from the lines.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import json
import socket
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gpt2.console import QUIET, Console
from gpt2.corpus.documents import sound
from gpt2.corpus.links import canonical, url_type
from gpt2.corpus.pages import Page, WarcWriter
from gpt2.errors import ConfigError, FetchError, need
from gpt2.workspace import Json, atomic_write

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession
    from protego import Protego

WARC, LOG = "pages.warc.gz", "fetched.jsonl"
PRIVATE = "not an address of the public internet"
LONGEST_PAUSE = 60.0
"""A host whose robots.txt asks for more seconds between two pages is left alone."""
LONGEST_ROBOTS = 512 * 1024
"""Bytes of a robots.txt that are looked at, as RFC 9309 allows."""
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")


@dataclass(frozen=True)
class FetchConfig:
    """How to ask for pages."""

    user_agent: str = "gpt2-workbench/0.1 (research crawler; see the package gpt2-workbench)"
    """What servers are told of who asks; add an address at which you can be reached."""
    delay: float = 1.0
    """Seconds between two requests to one host; robots.txt may ask for more."""
    workers: int = 32
    """Hosts asked at the same time."""
    timeout: float = 30.0
    """Seconds for a whole page."""
    max_bytes: int = 10_000_000
    """Longest page; a longer one is a failure."""
    retries: int = 2
    """Further tries after a failure that may pass."""
    redirects: int = 5
    """Redirects followed."""
    allow: frozenset[str] = field(default_factory=frozenset)
    """Private addresses that may be fetched all the same, as address:port."""

    def __post_init__(self) -> None:
        if not 0 <= self.delay < float("inf") or not 0 < self.timeout < float("inf"):
            raise ConfigError(
                f"delay {self.delay} and timeout {self.timeout} are seconds: at least 0, and above 0"
            )
        if min(self.workers, self.max_bytes) < 1 or min(self.retries, self.redirects) < 0:
            raise ConfigError("workers and max_bytes must be at least 1, retries and redirects at least 0")


@dataclass(frozen=True)
class Fetched:
    """How a link ended."""

    url: str
    """Canonical address that was asked for."""
    cause: str | None = None
    """Why there is no page; None when there is one."""
    end: int = 0
    """Bytes of the WARC file up to and with this page's record."""
    links: tuple[str, ...] = ()
    """Canonical addresses on the page, when links are followed."""


Follow = Callable[[Page], Iterable[str]]
"""Given a page, the canonical addresses on it."""


def fetch(
    links: Iterable[str],
    folder: Path,
    config: FetchConfig,
    follow: Follow | None = None,
    console: Console = QUIET,
) -> list[Fetched]:
    """Fetch links into `folder`, going on where an interrupted call stopped; one `Fetched` a link.

    With `follow`, the links it finds on a page are fetched too when they are on the host (and port) of one
    of the first links: a site's own links. Raises `FetchError` when not one page could be had; the next call
    then asks for all of them again.
    """
    fetcher = Fetcher(folder, config, follow)
    done = asyncio.run(fetcher.run(links, console))
    if done and all(f.cause for f in done):
        (folder / LOG).unlink()
        raise FetchError(
            f"none of {len(done):,} pages could be fetched; the first: {done[0].url}: {done[0].cause}"
        )
    return done


def is_public(address: str) -> bool:
    """Whether an IP address, as text, belongs to the public internet."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inside = ip.ipv4_mapped or ip.sixtofour
        return is_public(str(inside)) if inside else ip in GLOBAL_UNICAST and ip.is_global
    return ip.is_global and not ip.is_multicast


class Refused(OSError):
    """An address that may not be asked."""


def public_sockets(allow: frozenset[str]) -> Callable[[Any], socket.socket]:
    """What makes the sockets for connections: the last word on whether an address may be asked."""

    def make(info: tuple[int, int, int, str, tuple[Any, ...]]) -> socket.socket:
        family, kind, protocol, _, (host, port, *_) = info
        if not is_public(host) and (f"[{host}]:{port}" if ":" in host else f"{host}:{port}") not in allow:
            raise Refused(PRIVATE)
        return socket.socket(family, kind, protocol)

    return make


@dataclass(frozen=True)
class Answer:
    """A response, with what its WARC record needs besides."""

    page: Page
    headers: list[tuple[str, str]] = field(default_factory=list)
    reason: str = ""
    target: str | None = None
    """Where it redirects to."""


class Host:
    """What politeness needs to know of one host: whose turn it is, when it may be asked again, its rules."""

    def __init__(self, pause: float) -> None:
        self.pause = pause
        self.turn = asyncio.Lock()
        self.next_time = 0.0
        self.rules: asyncio.Task[Protego | str] | None = None


class Fetcher:
    """One crawl: its queues, its files, and what it knows of each host."""

    session: ClientSession

    def __init__(self, folder: Path, config: FetchConfig, follow: Follow | None) -> None:
        self.folder, self.config, self.follow = folder, config, follow
        self.done: dict[str, Fetched] = {}
        self.hosts: dict[str, Host] = {}
        self.waiting: dict[str, deque[str]] = {}
        self.seen: dict[str, None] = {}  # in the order in which they were found
        self.own_hosts: set[str] = set()

    async def run(self, links: Iterable[str], console: Console) -> list[Fetched]:
        """Everything, in the order in which links were found."""
        aiohttp = need("aiohttp", "corpus")
        first = [link for link in dict.fromkeys(canonical(url) for url in links) if link]
        self.own_hosts = {urlsplit(link).netloc for link in first}
        self.recover()
        self.end = max((f.end for f in self.done.values()), default=0)
        self.writer = WarcWriter(self.folder / WARC, keep=self.end)
        connector = aiohttp.TCPConnector(
            limit=self.config.workers, socket_factory=public_sockets(self.config.allow)
        )
        with (
            console.progress("fetching", len(first), "pages") as self.bar,
            (self.folder / LOG).open("a", encoding="utf-8") as self.log,
        ):
            try:
                async with aiohttp.ClientSession(
                    connector=connector,
                    headers={"User-Agent": self.config.user_agent},
                    timeout=aiohttp.ClientTimeout(total=self.config.timeout),
                    cookie_jar=aiohttp.DummyCookieJar(),
                ) as self.session:
                    for link in [*first, *(x for f in self.done.values() for x in f.links)]:
                        self.add(link)
                    await self.serve_hosts()
            finally:
                self.writer.close()
        return [self.done[link] for link in self.seen]

    def recover(self) -> None:
        """Read what an interrupted run had done, as far as its lines and records are whole."""
        path, warc = self.folder / LOG, self.folder / WARC
        self.folder.mkdir(parents=True, exist_ok=True)
        size = warc.stat().st_size if warc.exists() else 0
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        kept = []
        for line in lines:
            try:
                row: Json = json.loads(line)
                outcome = Fetched(row["url"], row["cause"], row["end"], tuple(row["links"]))
            except (ValueError, LookupError, TypeError):
                break
            if outcome.end <= size:
                self.done[outcome.url] = outcome
                kept.append(line + b"\n")
        with atomic_write(path) as stream:
            stream.writelines(kept)

    def add(self, link: str) -> None:
        """Put a link in its host's queue, once, if it is ours to fetch."""
        host = urlsplit(link).netloc
        if link in self.seen or (self.follow and host not in self.own_hosts):
            return
        self.seen[link] = None
        if link in self.done:
            self.bar.skip(1)
        else:
            self.waiting.setdefault(host, deque()).append(link)
        self.bar.total = len(self.seen)

    async def serve_hosts(self) -> None:
        """Ask up to `workers` hosts at a time, each for one page at a time."""
        free = asyncio.Semaphore(self.config.workers)

        async def serve(queue: deque[str]) -> None:
            async with free:
                while queue:
                    link = queue.popleft()
                    self.finish(link, await self.insist(link))

        while queues := [queue for queue in self.waiting.values() if queue]:
            await asyncio.gather(*map(serve, queues))

    def finish(self, link: str, answer: Answer | str) -> None:
        """Write how a link ended; follow what is on its page."""
        if isinstance(answer, str):
            outcome = Fetched(link, answer, self.end)
        else:
            page, cause = answer.page, answer.page.refusal
            found = tuple(sorted(set(self.follow(page)))) if self.follow and not cause else ()
            self.end = self.writer.write(dataclasses.replace(page, url=link), answer.headers, answer.reason)
            outcome = Fetched(link, cause, self.end, found)
        self.log.write(json.dumps(vars(outcome)) + "\n")
        self.log.flush()
        self.done[link] = outcome
        for found_link in outcome.links:
            self.add(found_link)
        self.bar.advance(1, urlsplit(link).path.rpartition("/")[2])

    async def insist(self, link: str, obey: bool = True) -> Answer | str:
        """Visit a link, and again after a failure that may pass, each time after a longer while."""
        answer = await self.visit(link, obey)
        for attempt in range(self.config.retries):
            if isinstance(answer, str):
                passing = answer.startswith("no answer")
            else:
                passing = answer.page.status in (429, 500, 502, 503, 504)
            if not passing:
                break
            await asyncio.sleep(2**attempt * min(self.config.delay, 5.0))
            answer = await self.visit(link, obey)
        return answer

    async def visit(self, link: str, obey: bool) -> Answer | str:
        """One try for a link, through its redirects, or why there is no answer.

        With `obey`, each address is asked only as the rules of its own host allow.
        """
        address = link
        for _ in range(self.config.redirects + 1):
            host = self.hosts.setdefault(urlsplit(address).netloc, Host(self.config.delay))
            if obey and (refusal := await self.refusal(host, address)):
                return refusal
            answer = await self.ask(host, address)
            if isinstance(answer, str) or answer.target is None:
                return answer
            address = answer.target
        return f"more than {self.config.redirects} redirects"

    async def refusal(self, host: Host, address: str) -> str | None:
        """Why the host does not want an address to be asked, or None."""
        if host.rules is None:
            host.rules = asyncio.create_task(self.read_robots(host, address))
        rules = await host.rules
        if isinstance(rules, str):
            return rules
        if host.pause > max(LONGEST_PAUSE, self.config.delay):
            return f"robots.txt asks for pauses of more than {LONGEST_PAUSE:g} s"
        return None if rules.can_fetch(address, self.config.user_agent) else "refused by robots.txt"

    async def read_robots(self, host: Host, address: str) -> Protego | str:
        """The host's rules; none when it has no robots.txt, a refusal when it cannot be asked (RFC 9309)."""
        protego, parts = need("protego", "corpus").Protego, urlsplit(address)
        robots = f"{parts.scheme}://{parts.netloc}/robots.txt"
        answer = await self.insist(robots, obey=False)
        if isinstance(answer, str):
            return answer if answer == PRIVATE else f"robots.txt: {answer}"
        status, body = answer.page.status, answer.page.body[:LONGEST_ROBOTS]
        if status >= 500 or status == 429:
            return f"robots.txt: status {status}"
        rules: Protego = protego.parse(body.decode("utf-8", "replace") if status < 300 else "")
        host.pause = max(host.pause, rules.crawl_delay(self.config.user_agent) or 0)
        return rules

    async def ask(self, host: Host, address: str) -> Answer | str:
        """One request, in the host's turn and after its pause."""
        import aiohttp

        loop = asyncio.get_running_loop()
        async with host.turn:
            await asyncio.sleep(max(0.0, host.next_time - loop.time()))
            try:
                url = url_type()(address, encoded=True)
                async with self.session.get(url, allow_redirects=False) as response:
                    return await self.read(response, address)
            except TimeoutError:
                return f"no answer within {self.config.timeout:g} s"
            except (aiohttp.ClientError, OSError, ValueError) as error:
                refused = isinstance(getattr(error, "os_error", error), Refused)
                return PRIVATE if refused else f"no answer: {type(error).__name__}"
            finally:
                host.next_time = loop.time() + host.pause

    async def read(self, response: ClientResponse, address: str) -> Answer | str:
        """The response with its body, up to the limit, or where it redirects to."""
        location = response.headers.get("Location")
        if location and response.status in (301, 302, 303, 307, 308):
            target = canonical(location, address)
            return (
                Answer(Page(address, b""), target=target) if target else "redirect to no address of the web"
            )
        parts: list[bytes] = []
        size = 0
        async for part in response.content.iter_chunked(1 << 16):
            size += len(part)
            if size > self.config.max_bytes:
                return f"longer than {self.config.max_bytes:,} bytes"
            parts.append(part)
        undone = ("content-encoding", "transfer-encoding", "content-length")
        headers = [(k, sound(v)) for k, v in response.headers.items() if k.lower() not in undone]
        media = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        page = Page(address, b"".join(parts), response.status, sound(media), response.charset)
        return Answer(page, [*headers, ("Content-Length", str(size))], response.reason or "")
