"""One request for one page, within limits: what the fetcher sends out, and what it takes in.

HTTP(S) only, no cookies, no proxy, no redirect followed by itself. The body of what is no page (another
status than 2xx, a type that is not wanted, too long by its own account) is not read, and one that is read is
unpacked as it comes, so that neither an endless page nor a gzip bomb costs more than the limit. Rejected:
aiohttp's own unpacking, whose limit is on a piece and not on the whole.
"""

from __future__ import annotations

import asyncio
import email.utils
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpt2.corpus.documents import sound
from gpt2.corpus.fetch.addresses import PRIVATE, Allowed, Refused, public_sockets
from gpt2.corpus.fetch.outcomes import NO_ANSWER, PASSING
from gpt2.corpus.fetch.pages import Page, Unpacking, charset_in, status_told, too_long, type_told
from gpt2.corpus.fetch.robots import LONGEST_ROBOTS
from gpt2.corpus.fetch.warc_writer import Response
from gpt2.corpus.links.address import canonical, url_type
from gpt2.errors import need

if TYPE_CHECKING:
    from aiohttp import ClientResponse

    from gpt2.corpus.fetch.crawl import FetchConfig

NOWHERE = "redirect to no address of the web"


@dataclass(frozen=True)
class Answer:
    """What came of a request."""

    cause: str | None = None
    """Why it gave no page and leads to none."""
    status: int | None = None
    """HTTP status, when there was one."""
    target: str | None = None
    """Where it redirects to."""
    wait: float | None = None
    """Seconds after which the server wants to be asked again."""
    response: Response | None = None
    """What to keep of a page, or a robots.txt."""
    page: Page | None = None
    """The page."""

    @property
    def may_pass(self) -> bool:
        """Whether asking again may give a page."""
        return self.status in PASSING or (self.cause or "").startswith(NO_ANSWER)


class Client:
    """Makes requests, each on its own; open it within `async with`."""

    def __init__(self, config: FetchConfig) -> None:
        self.config = config

    async def __aenter__(self) -> Client:
        aiohttp = need("aiohttp", "corpus")
        config = self.config

        class Answered(aiohttp.ClientResponse):  # type: ignore[name-defined, misc]
            """A response that remembers who gave it, as its connection may be gone when it is looked at."""

            ip = ""

            async def start(self, connection: Any) -> Any:
                peer = connection.transport and connection.transport.get_extra_info("peername")
                self.ip = peer[0] if peer else ""
                return await super().start(connection)

        # names are looked up in threads; one that hangs must not hold up the others
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(min(config.workers, 256)))
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, socket_factory=public_sockets(Allowed(config.allow))),
            headers={
                "User-Agent": config.agent,
                "Accept": ", ".join(sorted(config.types)) + ", */*;q=0.1",
                "Accept-Encoding": "gzip, deflate, br",
            },
            timeout=aiohttp.ClientTimeout(
                total=config.timeout, sock_connect=config.idle, sock_read=config.idle
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            response_class=Answered,
            auto_decompress=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def ask(self, address: str, robots: bool = False) -> Answer:
        """Ask for a page, or for a robots.txt, of which any type and the first part will do."""
        import aiohttp

        config = self.config
        try:
            url = url_type()(address, encoded=True)
            async with self.session.get(url, allow_redirects=False) as response:
                return await self.read(response, address, robots)
        except aiohttp.SocketTimeoutError:
            return Answer(f"{NO_ANSWER}: silent for {config.idle:g} s")
        except aiohttp.ConnectionTimeoutError:
            return Answer(f"{NO_ANSWER}: no connection within {config.idle:g} s")
        except TimeoutError:
            return Answer(f"{NO_ANSWER} within {config.timeout:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            refused = isinstance(getattr(error, "os_error", error), Refused)
            return Answer(PRIVATE if refused else f"{NO_ANSWER}: {type(error).__name__}")

    async def read(self, response: ClientResponse, address: str, robots: bool) -> Answer:
        """The response with its body, up to the limit, or where it redirects to, or why it is no page."""
        config, status, headers = self.config, response.status, response.headers
        if status in (301, 302, 303, 307, 308) and "Location" in headers:
            target = canonical(quoted(headers["Location"]), address)
            return Answer(None if target else NOWHERE, status, target)
        wait = seconds(headers.get("Retry-After"), config.longest_wait) if status in PASSING else None
        media, _, parameters = headers.get("Content-Type", "").partition(";")
        media, limit = sound(media.strip().lower()), LONGEST_ROBOTS if robots else config.max_bytes
        if not 200 <= status < 300:
            return Answer(status_told(status), status, wait=wait)
        if not robots and media not in config.types:
            return Answer(type_told(media), status)
        if not robots and (response.content_length or 0) > limit:
            return Answer(too_long(limit), status)
        unpacking, size = Unpacking(headers.get("Content-Encoding", ""), limit), 0
        async for part in response.content.iter_any():
            unpacking.add(part)
            size += len(part)
            if unpacking.full or size > limit:
                if robots:
                    break
                return Answer(too_long(limit), status)
        body, fault = unpacking.result()
        charset = charset_in(sound(parameters))
        page = Page(address, body, status, media, charset, fault=fault)
        named = tuple((k, sound(v)) for k, v in headers.items())
        sent = tuple(response.request_info.headers.items()) if config.keep_requests else None
        kept = Response(
            address,
            body,
            status,
            response.reason or "",
            named,
            ip=getattr(response, "ip", ""),
            request=sent,
        )
        cause = fault or (None if robots or body.strip() else "empty")
        return Answer(cause, status, response=kept, page=page)


def quoted(location: str) -> str:
    """An address out of a header, in which servers put bytes of any encoding."""
    data = location.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if byte < 128 else f"%{byte:02X}" for byte in data)


def seconds(wish: str | None, most: float) -> float | None:
    """How long a Retry-After asks to wait, in seconds or as a date; `most` at most, None when it says nothing."""
    if wish is None:
        return None
    if wish.strip().isdecimal():
        return min(float(wish), most)
    try:
        when = email.utils.parsedate_to_datetime(wish).timestamp()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, when - time.time()), most)
