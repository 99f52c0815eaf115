"""Serves the documentation that this Python carries, as pydoc's own pages, on one loopback port.

It runs as a script in a process of its own, because pydoc imports what it documents: isolated (`-I`), with
no input, in an empty folder, and with a time limit for each page. Served are the public modules of the
standard library, of numpy, torch and pyarrow (the largest packages that are always installed beside this
one), and pydoc's topics and keywords. Left out are modules that print, open windows or run tests when they
are imported, and the comments that pydoc shows where a docstring is missing: licences and notes, 0.5 % of the
pages for a third of the time. The process ends when the pipe it was given is closed, so it never outlives who
started it.

    python -I pydoc_server.py PORT PIPE
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import inspect
import io
import os
import pkgutil
import pydoc
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer
from typing import Any

PACKAGES = ("numpy", "torch", "pyarrow")
LEFT_OUT = {"test", "tests", "testing", "conftest", "setup", "idlelib", "lib2to3", "tkinter", "turtle"}
LEFT_OUT |= {"turtledemo", "this", "antigravity", "benchmark"}
PAGE_SECONDS = 90
"""Enough for the import of torch on a busy machine, which must not be broken off: it cannot be done twice."""


def submodules(folder: Path, prefix: str) -> Iterator[str]:
    """Names of the public modules in a folder, found without importing any."""
    for module in pkgutil.iter_modules([str(folder)]):
        if not module.name.startswith("_") and module.name not in LEFT_OUT:
            yield prefix + module.name
            if module.ispkg:
                yield from submodules(folder / module.name, f"{prefix}{module.name}.")


def allowed_modules() -> set[str]:
    """Names of all modules that are served."""
    names: set[str] = set()
    library = Path(os.__file__).parent
    for name in sys.stdlib_module_names:
        if not name.startswith("_") and name not in LEFT_OUT:
            names |= {name, *submodules(library / name, name + ".")}
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            names |= {name, *submodules(Path(next(iter(spec.submodule_search_locations))), name + ".")}
    return names


def allowed_pages() -> set[str]:
    """Names of all pages that are served; pydoc would import whatever else it is asked for, by any path."""
    topics = [*pydoc.Helper.topics, *pydoc.Helper.keywords]
    pages = {f"{name}.html" for name in ("index", "topics", "keywords", *allowed_modules())}
    return pages | {f"topic?key={topic}" for topic in topics}


class Server(TCPServer):
    """Not http.server's, which asks the network's name servers for the name of this machine."""

    allow_reuse_address = True


class Handler(BaseHTTPRequestHandler):
    """Answers with one of pydoc's pages, or 404."""

    timeout = PAGE_SECONDS
    names: frozenset[str] = frozenset()

    def do_GET(self) -> None:
        """One page."""
        name = self.path.lstrip("/") or "index.html"
        if name not in self.names:
            self.send_error(404)
            return
        try:
            body = render(name).encode("utf-8", "replace")
        except FileNotFoundError:
            self.send_error(404)
            return
        except TimeoutError:
            self.send_error(504)
            return
        except BaseException:  # whatever a module raises on import, SystemExit too, costs its own page alone
            self.send_error(500)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def render(name: str) -> str:
    """pydoc's page, made within the time limit and with the module's own output swallowed."""

    def stop(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, PAGE_SECONDS)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            page: str = pydoc._url_handler(name)  # type: ignore[attr-defined]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if "<title>Pydoc: Error" in page:
        raise FileNotFoundError(name)
    return page


def main(port: int, pipe: int) -> None:
    """Serve until the pipe is closed."""
    warnings.simplefilter("ignore")
    # pydoc reloads each module that it shows, which numpy and torch do not survive.
    locate = pydoc.locate
    pydoc.locate = lambda path, forceload=0: locate(path)  # noqa: ARG005
    inspect.getcomments = lambda _: None  # type: ignore[assignment]
    pydoc.replace = functools.lru_cache(1 << 16)(pydoc.replace)  # called for each word of each page
    Handler.names = frozenset(allowed_pages())
    server = Server(("127.0.0.1", port), Handler)

    def wait_for_the_end() -> None:
        os.read(pipe, 1)
        os._exit(0)

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads what modules may print
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
