"""The embedded site: what it serves and what not, that it never outlives us, and how its pages are cut."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpt2.corpus.documents import Document
from gpt2.corpus.fetch.pages import Page, outgoing_links
from gpt2.corpus.site import documentation
from gpt2.corpus.site.documentation import RULES, Site, cut, page_name, serve
from gpt2.errors import FetchError


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serve() as running:
        yield running


def ask(site: Site, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection(site.address, timeout=60)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", "replace")
    finally:
        connection.close()


def answers(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True


# The server


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/", "Index of Modules"),
        ("/index.html", 'href="textwrap.html"'),
        ("/topics.html", 'href="topic?key=FORMATTING"'),
        ("/keywords.html", 'href="topic?key=while"'),
        ("/textwrap.html", "Text&nbsp;wrapping&nbsp;and&nbsp;filling"),
        ("/email.mime.text.html", "generating&nbsp;text/*&nbsp;type&nbsp;MIME"),
        ("/topic?key=FORMATTING", "Format String Syntax"),
        ("/topic?key=while", "statement is used for repeated execution"),
    ],
)
def test_modules_and_topics_are_served(site: Site, path: str, words: str) -> None:
    status, page = ask(site, path)
    assert status == 200
    assert words in page


@pytest.mark.parametrize(
    "path",
    [
        *[
            "this",
            "antigravity",
            "test",
            "test.support",
            "idlelib",
            "idlelib.run",
            "tkinter",
            "turtle",
            "lib2to3",
        ],
        *[
            "turtledemo",
            "numpy.testing",
            "torch.testing",
            "json.tool.nothing",
            "gpt2",
            "pytest",
            "sitecustomize",
        ],
        *[
            "_thread",
            "__main__",
            "unittest.__main__",
            "nonsense",
            "textwrap.wrap",
            "../../../etc/passwd",
            "%74his",
        ],
        *[
            "getfile?key=/etc/passwd",
            "search?key=text",
            "get?key=this",
            "topic?key=NONSENSE",
            "topic?key=",
            "topic",
        ],
        *["topic?key=this", "topic?key=../x", "open?key=x", "quit", "favicon.ico", "robots.txt"],
    ],
)
def test_nothing_else_is_served(site: Site, path: str) -> None:
    for name in (path, path + ".html"):
        assert ask(site, "/" + name)[0] == 404


def test_the_site_survives_odd_requests(site: Site) -> None:
    host, _, port = site.address.partition(":")
    for rubbish in (
        b"",
        b"\0\xff\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET " + b"a" * 100_000,
    ):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(rubbish)
    assert ask(site, "/textwrap.html", "POST")[0] == 501
    assert ask(site, "/topic?key=" + "a" * 10_000)[0] == 404
    assert ask(site, "/textwrap.html")[0] == 200


def test_comments_do_not_stand_for_docstrings(site: Site) -> None:
    _, page = ask(site, "/fractions.html")
    assert "Fraction" in page
    assert "Originally contributed by" not in page


def test_it_is_gone_when_the_block_ends_and_its_port_can_be_had_again() -> None:
    with serve() as first:
        assert ask(first, "/topic?key=while")[0] == 200
    assert not answers(first.address)
    with serve(int(first.address.partition(":")[2])) as again:
        assert again == first
        assert again.indexes[0] == again.start


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(FetchError, match=f"did not start on port {port}"), serve(port):
            pass


def test_a_server_that_ends_early_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[str]] = []

    class Spy(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            started.append(self)

    monkeypatch.setattr(documentation.subprocess, "Popen", Spy)
    with pytest.raises(FetchError, match="ended before its time"), serve():
        started[0].kill()
        started[0].wait()


def test_it_does_not_outlive_a_parent_that_was_killed() -> None:
    code = """
import time
from gpt2.corpus.site.documentation import serve
with serve() as site:
    print(site.address, flush=True)
    time.sleep(100)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        address = parent.stdout.readline().strip()
        assert answers(address)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 30
    while answers(address) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not answers(address)


# Its pages


@pytest.fixture(scope="module")
def argparse_page(site: Site) -> Page:
    return Page(
        f"http://{site.address}/argparse.html", ask(site, "/argparse.html")[1].encode(), charset="utf-8"
    )


@pytest.fixture(scope="module")
def pieces(site: Site, argparse_page: Page) -> list[Document]:
    taken: Counter[str] = Counter()
    found = cut(argparse_page, 7, taken)
    assert taken.keys() == RULES.keys() and all(taken.values())
    return found


def test_pages_link_to_each_other(argparse_page: Page, site: Site) -> None:
    assert f"http://{site.address}/builtins.html" in outgoing_links(argparse_page)


def test_pieces_belong_to_their_module(pieces: list[Document], site: Site) -> None:
    assert len(pieces) > 3
    assert {p.group for p in pieces} == {"argparse"}
    assert {(p.votes, p.url) for p in pieces} == {(7, f"http://{site.address}/argparse.html")}
    assert pieces[0].id == pieces[0].title == "argparse"
    assert all(p.id == "argparse" or p.id.startswith("argparse#") for p in pieces)
    assert len({p.id for p in pieces}) == len(pieces)
    assert all(p.text.strip() for p in pieces)
    assert {p.language for p in pieces} == {"en"}


def test_what_is_documented_is_kept(pieces: list[Document]) -> None:
    whole = "\n".join(p.text for p in pieces)
    for words in (
        "Command-line parsing library",
        "Object for parsing command line strings into Python objects.",
        "Information about how to convert command line strings to Python objects.",
        "error(message: string)",
    ):
        assert words in whole


def test_what_is_inherited_or_of_this_machine_is_not_kept(
    pieces: list[Document], argparse_page: Page
) -> None:
    whole = "\n".join(p.text for p in pieces)
    assert " inherited from " in argparse_page.text and " inherited from " not in whole
    for path in (sys.prefix, sysconfig.get_path("stdlib"), str(Path.cwd()), "href", "/argparse.py"):
        assert path not in whole
    assert "Create and return a new object.  See help(type) for accurate signature." not in whole


@pytest.mark.parametrize(
    "name", ["textwrap", "collections", "json", "builtins", "logging", "unittest.mock", "typing"]
)
def test_every_page_gives_sound_pieces(name: str, site: Site) -> None:
    status, html = ask(site, f"/{name}.html")
    assert status == 200
    found = cut(Page(f"http://{site.address}/{name}.html", html.encode(), charset="utf-8"), 3, Counter())
    assert found
    assert len({p.id for p in found}) == len(found)
    for piece in found:
        assert piece.text.strip() == piece.text != ""
        assert piece.group == name
        assert not any(
            path in piece.text for path in (sys.prefix, sysconfig.get_path("stdlib"), "\t", "\xa0")
        )


def test_a_topic_is_one_group(site: Site) -> None:
    url = f"http://{site.address}/topic?key=FORMATTING"
    found = cut(Page(url, ask(site, "/topic?key=FORMATTING")[1].encode()), 3, Counter())
    assert {p.group for p in found} == {"topic FORMATTING"}
    assert "Format String Syntax" in found[0].text


def test_members_of_one_name_have_ids_of_their_own() -> None:
    member = (
        f'<dl><dt><a name="-f"><strong>f</strong></a>()</dt><dd>{"Says what it does. " * 200}</dd></dl>\n'
    )
    found = cut(Page("http://127.0.0.1:1/m.html", f"<p>Begin.</p>{member * 3}".encode()), 3, Counter())
    assert len(found) == len({p.id for p in found}) == 3
    assert [p.id for p in found[1:]] == ["m#f", "m#f~2"]


def test_a_page_without_anything_is_no_document() -> None:
    assert cut(Page("http://127.0.0.1:1/m.html", b""), 3, Counter()) == []


def test_a_page_is_named_the_same_on_every_port() -> None:
    assert (
        page_name("http://127.0.0.1:1/torch.nn.html")
        == page_name("http://127.0.0.1:2/torch.nn.html")
        == "torch.nn"
    )
    assert page_name("http://127.0.0.1:1/topic?key=A%20B") == "topic A B"


def test_the_server_is_a_file_beside_us() -> None:
    assert Path(documentation.__file__).with_name("pydoc_server.py").exists()
