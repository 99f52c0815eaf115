"""The embedded corpus: the documentation that every installation carries, as a site with real links.

`serve` starts pydoc's own pages in a process beside this one (`pydoc_server.py`); they are fetched as any
site's would be. `cut` makes documents of a page. A module's page may be a megabyte long, most of it lists of
members inherited from elsewhere, so those blocks, the lists of names and the header with this machine's
paths are taken out by name, and what is left is cut at classes and functions; all pieces of a module belong
to one group, so that none is held out from its neighbours. Text is taken by the quick extractor: on these
pages the usual one, made for articles, keeps 37 % of what this one does, in fifteen times the time
(`benchmarks/documentation_extractors.py`, 288 pages).

    python -c "from gpt2.corpus.site.documentation import serve
    with serve() as site: input(site.start)"
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gpt2.corpus.documents import Document
from gpt2.corpus.extract.methods import by_resiliparse, language_of, tidy
from gpt2.corpus.fetch.pages import Page
from gpt2.errors import FetchError

INDEXES = ("index.html", "", "topics.html", "keywords.html")  # the first two are one page
WHOLE, LONG = 600, 3_000
"""Characters from which a piece stands alone before a class, and before a function."""

RULES = {
    "page headers": re.compile(r'<body>.*?<table class="heading">.*?</table>', re.S),
    "inherited members": re.compile(r"<hr>\n[^<\n]* inherited from .*?(?=<hr>\n|</td></tr></table>)", re.S),
    "lists of names": re.compile(
        r'<table class="section">\n<tr class="decor (?:pkg-content|data|author|credits)-decor.*?(?=<p>\n|</div>)'
        r'|<strong class="bigsection">Classes</strong>.*?</dl>\n(?= <p>\n)',
        re.S,
    ),
}
"""What is taken out of a page before it is cut, by name."""
CLASS = re.compile(r'<table class="section">\n<tr class="decor title-decor')
MEMBER = re.compile(r'<dl><dt><a name="')
CELLS = re.compile(r"^[ \t]*\t[ \t]*", re.M)
"""What the extractor puts before the text of a table's cell."""
CUTS = re.compile(f"(?={CLASS.pattern})|(?={MEMBER.pattern})")


@dataclass(frozen=True)
class Site:
    """A running server of documentation."""

    address: str
    """Host and port, as `127.0.0.1:8000`."""

    @property
    def start(self) -> str:
        """Where the site begins."""
        return f"http://{self.address}/index.html"

    @property
    def indexes(self) -> list[str]:
        """Pages that list all others, whose links are no votes."""
        return [f"http://{self.address}/{name}" for name in INDEXES]


@contextlib.contextmanager
def serve(port: int = 0) -> Iterator[Site]:
    """Serve the documentation on loopback (on a free port, or on the one given) until the block ends.

    Raises `FetchError` when the server does not start, for instance because the port is taken, or does not
    live as long as the block.
    """
    script = Path(__file__).with_name("pydoc_server.py")
    read_end, write_end = os.pipe()  # its closing, by us or by our death, ends the server
    with tempfile.TemporaryDirectory() as empty:
        process = subprocess.Popen(
            [sys.executable, "-I", str(script), str(port), str(read_end)],
            cwd=empty,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[read_end],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            text=True,
        )
        os.close(read_end)
        try:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            if not line.isdigit():
                raise FetchError(f"the documentation server did not start on port {port}; try again")
            yield Site(f"127.0.0.1:{line}")
            if process.poll() is not None:
                raise FetchError("the documentation server ended before its time; try again")
        finally:
            os.close(write_end)
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()


def page_name(url: str) -> str:
    """What a page is about: 'torch.nn' or 'topic FORMATTING'; the same on every port."""
    parts = urlsplit(url)
    if parts.query:
        return "topic " + unquote(parts.query.partition("=")[2])
    return parts.path.strip("/").removesuffix(".html")


def cut(page: Page, votes: int | None, taken: Counter[str]) -> list[Document]:
    """A page's documents; `taken` counts the blocks that each rule took out."""
    html, name = page.text, page_name(page.url)
    for rule, pattern in RULES.items():
        html, n = pattern.subn("", html)
        taken[rule] += n
    pieces: list[tuple[str, str]] = []
    used = Counter[str]()
    for part in CUTS.split(html):
        text = by_resiliparse(part, None)
        text = unescape(CELLS.sub("", tidy(text))).strip()  # pydoc escapes some signatures twice
        at_class = CLASS.match(part) is not None
        if not pieces or len(pieces[-1][1]) >= (WHOLE if at_class else LONG):
            found = re.search(r'<a name="-?([^"]+)', part)
            anchor = found.group(1) if found and pieces else ""
            used[anchor] += 1  # pydoc may show a method twice
            pieces.append((f"{anchor}~{used[anchor]}" if used[anchor] > 1 else anchor, text))
        elif text:
            pieces[-1] = (pieces[-1][0], f"{pieces[-1][1]}\n\n{text}".strip())
    return [
        Document(
            text,
            id=f"{name}#{anchor}" if anchor else name,
            group=name,
            title=f"{name}.{anchor}" if anchor else name,
            language=language_of(text),
            url=page.url,
            votes=votes,
            source=page.source,
        )
        for anchor, text in pieces
        if text
    ]
