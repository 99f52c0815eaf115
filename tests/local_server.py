"""A web server on this machine for tests of the fetcher: scripted replies, and a log of what was asked."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

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
