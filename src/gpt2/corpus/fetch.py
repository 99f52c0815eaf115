"""Links to pages: a polite, safe and restartable fetcher (paper 2.1).

Polite: robots.txt is obeyed, each host is asked one thing at a time with a pause between, and the user agent
says who asks. Safe: only HTTP(S), limits on size and time, and no address inside somebody's network: what a
name resolves to is checked by the very resolver whose answer is connected to, so neither a rebinding name
nor a redirect gets past it. One private address and port may be allowed by name.

    FOLDER/pages.warc.gz     what came, one record a page
    FOLDER/fetched.jsonl     one line a link done: how it ended, where its record ends, the links on the page

A line is written after its record. On restart the WARC file is cut back to the last line's end and the rest
is fetched: a kill costs what was in flight. Rejected: a database for the queue, which follows from the lines.
"""

from __future__ import annotations

import asyncio
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
from gpt2.corpus.links import canonical
from gpt2.corpus.pages import Page, WarcWriter
from gpt2.errors import ConfigError, FetchError, need
from gpt2.workspace import Json, atomic_write

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession
    from protego import Protego

WARC, LOG = "pages.warc.gz", "fetched.jsonl"


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
            raise ConfigError(f"delay {self.delay} and timeout {self.timeout} must be seconds, 0 or more")
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
    of the first links: a site's own links. Raises `FetchError` when not one page could be had.
    """
    fetcher = Fetcher(folder, config, follow)
    done = asyncio.run(fetcher.run(links, console))
    if done and all(f.cause for f in done):
        raise FetchError(
            f"none of {len(done):,} pages could be fetched; the first: {done[0].url}: {done[0].cause}"
        )
    return done


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None)
    return ip.is_global and not ip.is_multicast and (mapped is None or mapped.is_global)


class Fetcher:
    """One crawl: its queue, its files, and what it knows of each host."""

    def __init__(self, folder: Path, config: FetchConfig, follow: Follow | None) -> None:
        self.folder, self.config, self.follow = folder, config, follow
        self.done: dict[str, Fetched] = {}
        self.hosts: dict[str, Host] = {}
        self.waiting: dict[str, deque[str]] = {}
        self.seen: set[str] = set()
        self.own_hosts: set[str] = set()

    async def run(self, links: Iterable[str], console: Console) -> list[Fetched]:
        """Everything, in the order in which links were found."""
        aiohttp = need("aiohttp", "corpus")
        first = [link for link in dict.fromkeys(canonical(url) for url in links) if link]
        self.own_hosts = {urlsplit(link).netloc for link in first}
        self.recover()
        self.end = max((f.end for f in self.done.values()), default=0)
        self.writer = WarcWriter(self.folder / WARC, keep=self.end)
        connector = aiohttp.TCPConnector(resolver=resolver(self.config.allow), limit=self.config.workers)
        session: ClientSession = aiohttp.ClientSession(
            connector=connector,
            headers={"User-Agent": self.config.user_agent},
            timeout=aiohttp.ClientTimeout(total=self.config.timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        with (
            console.progress("fetching", len(first), "pages") as self.bar,
            (self.folder / LOG).open("a") as self.log,
        ):
            try:
                async with session:
                    for link in [*first, *(x for f in self.done.values() for x in f.links)]:
                        self.add(link)
                    await self.serve_hosts(session)
            finally:
                self.writer.close()
        return list(self.done.values())

    def recover(self) -> None:
        """Read what an interrupted run had done, as far as its records are whole."""
        path, warc = self.folder / LOG, self.folder / WARC
        self.folder.mkdir(parents=True, exist_ok=True)
        size = warc.stat().st_size if warc.exists() else 0
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
        kept = []
        for line in lines:
            row: Json = json.loads(line)
            if row["end"] <= size:
                self.done[row["url"]] = Fetched(row["url"], row["cause"], row["end"], tuple(row["links"]))
                kept.append(line + "\n")
        with atomic_write(path, "w") as stream:
            stream.writelines(kept)

    def add(self, link: str) -> None:
        """Put a link in its host's queue, once, if it is ours to fetch."""
        host = urlsplit(link).netloc
        if link in self.seen or (self.follow and host not in self.own_hosts):
            return
        self.seen.add(link)
        if link in self.done:
            self.bar.skip(1)
        else:
            self.waiting.setdefault(host, deque()).append(link)
        self.bar.total = len(self.seen)

    async def serve_hosts(self, session: ClientSession) -> None:
        """Ask up to `workers` hosts at a time, each for one page at a time."""
        free = asyncio.Semaphore(self.config.workers)

        async def serve(name: str) -> None:
            async with free:
                host = self.hosts.setdefault(name, Host(self.config))
                while self.waiting[name]:
                    link = self.waiting[name].popleft()
                    self.finish(*await host.page(session, link))

        while self.waiting:
            names = [name for name, queue in self.waiting.items() if queue]
            if not names:
                break
            await asyncio.gather(*(serve(name) for name in names))

    def finish(self, link: str, answer: Answer | str) -> None:
        """Write how a link ended; follow what is on its page."""
        if isinstance(answer, str):
            outcome = Fetched(link, answer, self.end)
        else:
            found = tuple(sorted(set(self.follow(answer.page)))) if self.follow else ()
            self.end = self.writer.write(answer.page, answer.headers, answer.reason)
            outcome = Fetched(link, answer.page.refusal, self.end, found)
        self.log.write(json.dumps(vars(outcome)) + "\n")
        self.log.flush()
        self.done[link] = outcome
        for found_link in outcome.links:
            self.add(found_link)
        self.bar.advance(1, urlsplit(link).path.rpartition("/")[2])


@dataclass(frozen=True)
class Answer:
    """A page with what its WARC record needs besides."""

    page: Page
    headers: list[tuple[str, str]]
    reason: str


class Host:
    """What politeness needs to know of one host: its rules, and when it was last asked."""

    def __init__(self, config: FetchConfig) -> None:
        self.config = config
        self.robots: Protego | str | None = None
        self.next_time = 0.0

    async def page(self, session: ClientSession, link: str) -> tuple[str, Answer | str]:
        """The answer for a link, or why there is none."""
        if self.robots is None:
            self.robots = await self.read_robots(session, link)
        if isinstance(self.robots, str):
            return link, self.robots
        if not self.robots.can_fetch(link, self.config.user_agent):
            return link, "refused by robots.txt"
        answer: Answer | str = ""
        for attempt in range(self.config.retries + 1):
            await self.wait(attempt)
            answer = await self.ask(session, link)
            if not isinstance(answer, str) and answer.page.status not in (429, 500, 502, 503, 504):
                break
            if isinstance(answer, str) and not answer.startswith("no answer"):
                break
        return link, answer

    async def wait(self, attempt: int) -> None:
        """Keep the pause this host is due; longer after each failure."""
        delay = self.config.delay
        if self.robots is not None and not isinstance(self.robots, str):
            delay = max(delay, self.robots.crawl_delay(self.config.user_agent) or 0)
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self.next_time - loop.time()) + (2**attempt - 1) * min(delay, 5.0))
        self.next_time = loop.time() + delay

    async def ask(self, session: ClientSession, link: str) -> Answer | str:
        """One request, with its redirects."""
        import aiohttp

        address = link
        try:
            for _ in range(self.config.redirects + 1):
                if problem := self.forbidden(address):
                    return problem
                async with session.get(address, allow_redirects=False) as response:
                    target = canonical(response.headers.get("Location", ""), address)
                    if response.status not in (301, 302, 303, 307, 308) or target is None:
                        return await self.read(response, link)
                    address = target
            return f"more than {self.config.redirects} redirects"
        except Refused as error:
            return str(error)
        except TimeoutError:
            return f"no answer within {self.config.timeout:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return refused_in(error) or f"no answer: {type(error).__name__}"

    def forbidden(self, address: str) -> str | None:
        """Why a literal address may not be asked, which no resolver ever sees."""
        parts = urlsplit(address)
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            public = is_public(parts.hostname or "")
        except ValueError:
            return None  # a name: the resolver will judge
        if public or f"{parts.hostname}:{port}" in self.config.allow:
            return None
        return f"{parts.hostname} is not an address of the public internet"

    async def read(self, response: ClientResponse, link: str) -> Answer | str:
        """The body, up to the limit."""
        parts: list[bytes] = []
        size = 0
        async for part in response.content.iter_chunked(1 << 16):
            size += len(part)
            if size > self.config.max_bytes:
                return f"longer than {self.config.max_bytes:,} bytes"
            parts.append(part)
        kept = ("content-encoding", "transfer-encoding", "content-length")
        headers = [(k, v) for k, v in response.headers.items() if k.lower() not in kept]
        media = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        page = Page(link, b"".join(parts), response.status, media, response.charset)
        return Answer(page, [*headers, ("Content-Length", str(size))], response.reason or "")

    async def read_robots(self, session: ClientSession, link: str) -> Protego | str:
        """The host's rules; none when it has no robots.txt, a refusal when it cannot be asked (RFC 9309)."""
        protego = need("protego", "corpus").Protego
        parts = urlsplit(link)
        await self.wait(0)
        answer = await self.ask(session, f"{parts.scheme}://{parts.netloc}/robots.txt")
        if isinstance(answer, str):
            return answer if "public internet" in answer else f"robots.txt: {answer}"
        if answer.page.status >= 500:
            return f"robots.txt: status {answer.page.status}"
        rules: Protego = protego.parse(
            answer.page.body.decode("utf-8", "replace") if answer.page.status < 300 else ""
        )
        return rules


class Refused(Exception):
    """A name resolved to an address that may not be fetched."""


def refused_in(error: BaseException) -> str | None:
    """The refusal that a connection error was raised for."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, Refused):
            return str(link)
        link = link.__cause__ or link.__context__
    return None


def resolver(allow: frozenset[str]) -> Any:
    """An aiohttp resolver that answers with addresses of the public internet alone."""
    import aiohttp

    class PublicResolver(aiohttp.ThreadedResolver):
        async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> Any:
            found = await super().resolve(host, port, family)
            able = [x for x in found if is_public(x["host"]) or f"{x['host']}:{port}" in allow]
            if not able:
                raise Refused(f"{host} does not resolve to an address of the public internet")
            return able

    return PublicResolver()
