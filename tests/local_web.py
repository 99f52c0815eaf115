"""A web of many hosts on loopback addresses 127.x.y.z, of real and made pages and every trouble a crawler meets.

What each address answers follows from a seed, so the outcome of every link is known beforehand: `LocalWeb.wanted`
maps each link to the cause why there is no page, or None. One event loop in a thread serves all hosts and logs
each request with when it came and when its answer ended.
"""

from __future__ import annotations

import asyncio
import gzip
import random
import threading
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

import brotli

WORDS = [word for word in (Path(__file__).parents[1] / "LICENSE").read_text().split() if word.isalpha()]
LONGEST = 200_000
"""The `max_bytes` for which outcomes are foretold."""
IDLE, TIMEOUT = 2.0, 5.0
"""The limits in seconds for which outcomes are foretold."""


@dataclass(frozen=True)
class Reply:
    """What is answered, and how: whole, cut short, never, without an end, byte by byte, or as no HTTP at all."""

    body: bytes = b""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "text/html; charset=utf-8"),)
    manner: str = "whole"


Script = Callable[[int], Reply]
"""Given how often the address was asked for before, the answer."""


@dataclass
class Asked:
    """One request in the server's log."""

    host: str
    path: str
    begun: float
    ended: float = 0.0
    agent: str = ""


@dataclass
class Site:
    """One host."""

    pages: dict[str, Script] = field(default_factory=dict)
    pause: float = 0.0
    """Seconds its robots.txt asks for."""
    refusal: str | None = None
    """Cause of all its links, when its robots.txt cannot be had or forbids all."""


def html(*headers: tuple[str, str], type: str = "text/html; charset=utf-8") -> tuple[tuple[str, str], ...]:
    """Headers of a page."""
    return (("Content-Type", type), *headers)


def made_page(draw: random.Random, title: str) -> bytes:
    """A page of words."""
    text = "".join(f"<p>{' '.join(draw.choices(WORDS, k=60)).capitalize()}.</p>\n" for _ in range(6))
    return f"<!DOCTYPE html><html><head><title>{title}</title></head><body>{text}</body></html>".encode()


def always(reply: Reply) -> Script:
    """The same answer every time."""
    return lambda _: reply


def first(reply: Reply, then: Reply) -> Script:
    """One answer the first time, another from then on."""
    return lambda before: then if before else reply


class LocalWeb:
    """`hosts` sites with `pages` links in all, served within a `with` block."""

    def __init__(self, pages: int, hosts: int, real: Sequence[bytes] = (), seed: int = 0) -> None:
        self.draw, self.real = random.Random(seed), list(real)
        self.names = [f"127.{1 + i // 250}.{1 + i % 250}.1" for i in range(hosts)]
        self.sites = {name: Site() for name in self.names}
        self.wanted: dict[tuple[str, str], str | None] = {}  # host and path -> cause
        self.log: list[Asked] = []
        self.times: Counter[tuple[str, str]] = Counter()
        self.port = 0
        self.add_rules()
        weights = [20.0 if i % 40 == 0 else 1.0 for i in range(hosts)]  # a few hosts have far more pages
        while len(self.wanted) < pages:
            self.add_page(self.draw.choices(self.names, weights)[0], len(self.wanted))

    def add_rules(self) -> None:
        """The robots.txt of each host, most of which have an ordinary one."""
        plain = html(type="text/plain")
        for i, site in enumerate(self.sites.values()):
            rules = "User-agent: *\nDisallow: /private/\nAllow: /private/open\n"
            if i % 23 == 1:
                site.pause = 0.3
                rules += "Crawl-delay: 0.3\n"
            reply = Reply(rules.encode(), headers=plain)
            if i % 31 == 2:
                reply = Reply(b"down", 500, plain)
                site.refusal = "robots.txt: status 500"
            elif i % 37 == 3:
                reply = Reply(b"User-agent: *\nDisallow: /\n", headers=plain)
                site.refusal = "refused by robots.txt"
            elif i % 29 == 4:
                reply = Reply(b"\xef\xbb\xbf" + rules.encode() * 2_000, headers=plain)
            elif i % 19 == 5:
                site.pages["/rules"] = always(reply)
                reply = Reply(b"", 301, (("Location", "/rules"),))
            site.pages["/robots.txt"] = always(reply)

    def add_page(self, host: str, number: int) -> None:
        """One more link: mostly a page, else one of the troubles."""
        kind = self.draw.choice(["page"] * 22 + sorted(TROUBLES) if number % 60 else sorted(RARE))
        path, cause = f"/{kind}/{number}", None
        if kind == "page":
            self.sites[host].pages[path] = always(self.some_page(number))
        else:
            cause = (TROUBLES | RARE)[kind](self, host, path, number)
        self.wanted[host, path] = self.sites[host].refusal or cause

    def some_page(self, number: int) -> Reply:
        """A real page, or a made one: new, equal to an earlier one, or nearly so."""
        body = made_page(self.draw, f"Page {number}")
        if self.real and number % 3 == 0:
            body = self.draw.choice(self.real)  # the same ones come again and again
        elif number % 7 == 1:
            again = made_page(random.Random(number // 70), "Copy")
            body = again if number % 2 else again.replace(b"</p>", f" {number}</p>".encode(), 1)
        way = self.draw.choice(["", "", "gzip", "br", "deflate"])
        pack: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
        pack["br"] = lambda b: brotli.compress(b, quality=3)
        if not way:
            return Reply(body, headers=html(type="text/html"))
        return Reply(pack[way](body), headers=html(("Content-Encoding", way), type="text/html"))

    def link(self, host: str, path: str) -> str:
        """The address of a page."""
        return f"http://{host}:{self.port}{path}"

    @property
    def links(self) -> list[str]:
        """The addresses of all links, in an order of their own."""
        found = [self.link(*place) for place in self.wanted]
        random.Random(1).shuffle(found)
        return found

    @property
    def causes(self) -> dict[str, str | None]:
        """How each link should end."""
        return {self.link(*place): cause for place, cause in self.wanted.items()}

    @property
    def allowed(self) -> str:
        """What a crawler must be allowed."""
        return "127.0.0.0/8"

    def requests_by_host(self) -> dict[str, list[Asked]]:
        """The log, host by host."""
        found: dict[str, list[Asked]] = defaultdict(list)
        for asked in self.log:
            found[asked.host].append(asked)
        return found

    # Serving

    def __enter__(self) -> LocalWeb:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        asyncio.run_coroutine_threadsafe(self.listen(), self.loop).result(60)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.end(), self.loop).result(60)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    async def listen(self) -> None:
        """One port, on all addresses."""
        probe = await asyncio.start_server(self.serve, self.names[0], 0)
        self.port = probe.sockets[0].getsockname()[1]
        self.servers = [probe]
        for name in self.names[1:]:
            self.servers.append(await asyncio.start_server(self.serve, name, self.port, limit=1 << 20))
        self.open: set[asyncio.Task[None]] = set()

    async def end(self) -> None:
        """Stop listening and drop all connections."""
        for server in self.servers:
            server.close()
        for task in list(self.open):
            task.cancel()
        await asyncio.gather(*self.open, return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        task = asyncio.current_task()
        assert task
        self.open.add(task)
        host = writer.get_extra_info("sockname")[0]
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self.answer(host, reader, writer):
                    pass
        finally:
            self.open.discard(task)
            writer.close()

    async def answer(self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection goes on."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        asked = Asked(host, head[0].split()[1], time.monotonic())
        asked.agent = next((h.split(": ")[1] for h in head if h.lower().startswith("user-agent")), "")
        before = self.times[host, asked.path]
        self.times[host, asked.path] += 1
        self.log.append(asked)
        script = self.sites[host].pages.get(asked.path, always(Reply(b"<p>nothing</p>", 404)))
        try:
            return await send(script(before), writer, asked)
        finally:
            asked.ended = asked.ended or time.monotonic()


async def send(reply: Reply, writer: asyncio.StreamWriter, asked: Asked) -> bool:
    """Write an answer in its manner; whether the connection goes on."""
    if reply.manner in ("stalled", "endless", "dripping"):
        asked.ended = time.monotonic()  # from now on the client may hang up
    if reply.manner == "stalled":
        await asyncio.sleep(30)
    if reply.manner == "nonsense":
        writer.write(b"\x00\xff this is not HTTP at all\r\n\r\n")
        await writer.drain()
        return False
    lines = [f"HTTP/1.1 {reply.status} X", *(f"{k}: {v}" for k, v in reply.headers)]
    endless = reply.manner in ("endless", "dripping")
    length = len(reply.body) + (1_000 if reply.manner == "cut" else 0)
    lines.append("Connection: close" if endless else f"Content-Length: {length}")
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
    while endless:
        writer.write(b"<p>on and on</p>" * (1 if reply.manner == "dripping" else 4_000))
        await writer.drain()
        await asyncio.sleep(0.2 if reply.manner == "dripping" else 0)
    if reply.manner == "late":
        await asyncio.sleep(0.3)
    asked.ended = asked.ended or time.monotonic()
    writer.write(reply.body)
    await writer.drain()
    return reply.manner != "cut"


# Troubles: each adds what answers for a path, and gives the cause that its link should have

Trouble = Callable[[LocalWeb, str, str, int], str | None]
PLAIN = Reply(b"<p>A page that is reached in the end.</p>")


def answers(reply: Reply, cause: str | None, then: Reply | None = None) -> Trouble:
    """A trouble that is one answer; `then`: and another from the second time on."""

    def add(web: LocalWeb, host: str, path: str, _: int) -> str | None:
        web.sites[host].pages[path] = always(reply) if then is None else first(reply, then)
        return cause

    return add


def redirected(web: LocalWeb, host: str, path: str, number: int) -> str | None:
    """Through one to four addresses to a page, of this host and of another."""
    other = web.draw.choice([name for name in web.names if not web.sites[name].refusal])
    web.sites[host].pages[path] = lambda _: moved(f"http://{other}:{web.port}/target/{number}/0")
    last = number % 4
    for i in range(last):
        web.sites[other].pages[f"/target/{number}/{i}"] = always(moved(f"{i + 1}"))
    web.sites[other].pages[f"/target/{number}/{last}"] = always(PLAIN)
    return None


def moved(where: str) -> Reply:
    """A redirect."""
    return Reply(b"elsewhere", 302, (("Location", where), ("Content-Type", "text/html")))


def circle(web: LocalWeb, host: str, path: str, _: int) -> str | None:
    """Two addresses that lead to each other."""
    web.sites[host].pages[path] = always(moved(f"{path}/back"))
    web.sites[host].pages[f"{path}/back"] = always(moved(path))
    return "redirects in a circle"


def endless_redirects(web: LocalWeb, host: str, path: str, _: int) -> str | None:
    """Each address leads to a new one."""
    web.sites[host].pages[path] = always(moved(f"{path}/0"))
    for i in range(8):
        web.sites[host].pages[f"{path}/{i}"] = always(moved(f"{path}/{i + 1}"))
    return "more than 5 redirects"


def forbidden(web: LocalWeb, host: str, path: str, number: int) -> str | None:
    """What robots.txt forbids, asked for by way of a redirect: the link itself is allowed."""
    web.sites[host].pages[path] = always(moved(f"/private/{number}"))
    web.sites[host].pages[f"/private/{number}"] = always(PLAIN)
    return "refused by robots.txt"


def date_in(seconds: float) -> str:
    """An HTTP date a little from now, as some servers say when to come back."""
    return formatdate(time.time() + seconds, usegmt=True)


def busy_till_a_date(web: LocalWeb, host: str, path: str, _: int) -> str | None:
    """A page that is there at a date that it gives."""

    def script(before: int) -> Reply:
        return PLAIN if before else Reply(b"busy", 429, html(("Retry-After", date_in(2))))

    web.sites[host].pages[path] = script
    return None


BUSY = Reply(b"busy", 429, html(("Retry-After", "1")))
TROUBLES: dict[str, Trouble] = {
    "absent": answers(Reply(b"<p>nothing</p>", 404), "status 404"),
    "broken": answers(Reply(b"<p>trouble</p>", 500), "status 500"),
    "wobbly": answers(Reply(b"<p>trouble</p>", 503), None, PLAIN),
    "busy": answers(BUSY, None, PLAIN),
    "image": answers(
        Reply(b"\x89PNG" * 9, headers=html(type="image/png"), manner="endless"), "type image/png"
    ),
    "typeless": answers(Reply(b"<p>what?</p>", headers=()), "type unknown"),
    "blank": answers(Reply(b" \n "), "empty"),
    "large": answers(Reply(b"a" * (LONGEST + 1)), f"longer than {LONGEST:,} bytes"),
    "bomb": answers(
        Reply(gzip.compress(b"\0" * 30_000_000), headers=html(("Content-Encoding", "gzip"))),
        f"longer than {LONGEST:,} bytes",
    ),
    "endless": answers(Reply(manner="endless"), f"longer than {LONGEST:,} bytes"),
    "late": answers(Reply(b"<p>Late, but here.</p>", manner="late"), None),
    "cut": answers(Reply(b"<p>not all", manner="cut"), "no answer: ClientPayloadError"),
    "nonsense": answers(Reply(manner="nonsense"), "no answer: ClientResponseError"),
    "charset": answers(Reply("<p>Größe, schön: Wörter</p>".encode("latin-1")), None),
    "charset8": answers(
        Reply("<p>Größe</p>".encode(), headers=html(type="text/html; charset=latin-1")), None
    ),
    "text": answers(Reply(b"Plain words.", headers=html(type="text/plain")), None),
    "redirect": redirected,
    "circle": circle,
    "onward": endless_redirects,
    "forbidden": forbidden,
}
RARE: dict[str, Trouble] = {
    "stalled": answers(Reply(manner="stalled"), f"no answer: silent for {IDLE:g} s"),
    "dripping": answers(Reply(manner="dripping"), f"no answer within {TIMEOUT:g} s"),
    "busy-till": busy_till_a_date,
}
"""Those that take seconds."""
