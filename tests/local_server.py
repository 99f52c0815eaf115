"""A web server on this machine for tests of the fetcher: scripted replies, a log of what was asked, and fetching."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from gpt2.corpus.fetch import LOG, FetchConfig, Fetched, fetch, read_outcomes, warc_files
from gpt2.corpus.fetch.pages import Page, outgoing_links, read_pages
from gpt2.corpus.links import canonical

ROBOTS = "/robots.txt"


@dataclass
class Reply:
    """What is answered."""

    body: bytes | str = b"<p>Hello.</p>"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    type: str = "text/html; charset=utf-8"


Script = Reply | Callable[[BaseHTTPRequestHandler], Reply | None]
"""A reply, or what makes one; None when it has written to the connection itself."""


@dataclass
class Request:
    """What was asked, and when."""

    path: str
    headers: dict[str, str]
    time: float


class LocalServer:
    """Serves `pages` (path to script) on 127.0.0.1 within a `with` block; other paths are 404."""

    def __init__(self, pages: dict[str, Script] | None = None) -> None:
        self.pages = pages or {}
        self.requests: list[Request] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                headers = {k.lower(): v for k, v in self.headers.items()}
                outer.requests.append(Request(self.path, headers, time.monotonic()))
                script = outer.pages.get(self.path, Reply("<p>nothing</p>", 404))
                reply = script if isinstance(script, Reply) else script(self)
                if reply is None:
                    self.close_connection = True
                    return
                body = reply.body if isinstance(reply.body, bytes) else reply.body.encode()
                self.send_response(reply.status)
                for name, value in {"Content-Type": reply.type, **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that hangs up is part of the tests

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        self.origin = f"http://{self.address}"

    def __enter__(self) -> LocalServer:
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def url(self, path: str) -> str:
        """The address of a path."""
        return self.origin + path

    def asked(self) -> Counter[str]:
        """How often each path but robots.txt was asked for."""
        return Counter(r.path for r in self.requests if r.path != ROBOTS)


FINE = {"/fine": Reply("<p>This one is fine.</p>")}


def get(site: LocalServer, folder: Path, *paths: str, follow: bool = False, **settings: Any) -> list[Fetched]:
    """Fetch paths of a site that may be fetched; how they ended, and then what was followed."""
    known = {"delay": 0.0, "retries": 0, "allow": frozenset({site.address})} | settings
    links = [path if "://" in path else site.url(path) for path in paths]
    fetch(links, folder, FetchConfig(**known), outgoing_links if follow else None)
    done = {outcome.url: outcome for outcome in read_outcomes(folder)}
    first = [link for link in map(canonical, links) if link]
    return [done.pop(link) for link in dict.fromkeys(first)] + [*done.values()]


def causes(site: LocalServer, folder: Path, *paths: str, **settings: Any) -> list[str | None]:
    """How each path ended, beside one that is fine, so that not all fail."""
    site.pages |= FINE
    done = get(site, folder, *paths, "/fine", **settings)
    assert done[-1].cause is None
    return [f.cause for f in done[:-1]]


def pages_of(folder: Path) -> dict[str, Page]:
    """The pages in a fetch's WARC files, by address."""
    return {page.url: page for path in warc_files(folder) for page in read_pages(path)}


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of a fetch's log."""
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
