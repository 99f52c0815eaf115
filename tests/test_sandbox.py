"""The child process that may hang or crash, and extraction inside it."""

from __future__ import annotations

import gzip
import json
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from mutations import mutated

from gpt2.corpus.documents import Document
from gpt2.corpus.extract import METHODS, Extractor
from gpt2.corpus.extract.sandbox import Sandbox
from gpt2.corpus.fetch.pages import Page
from gpt2.errors import ConfigError, MissingExtra

ODD = textwrap.dedent("""
    import ctypes, os, re, sys, time
    from gpt2.errors import MissingExtra

    def answering(kind):
        if kind == "missing":
            raise MissingExtra("this needs a package")
        if kind == "broken":
            raise ValueError("no such weights")

        def answer(request):
            word = request.decode()
            if word == "sleep": time.sleep(60)
            if word == "regexp": re.match("(a+)+$", "a" * 40 + "b")
            if word == "segfault": ctypes.string_at(0)
            if word == "exit": os._exit(3)
            if word == "leave": sys.exit(4)
            if word == "raise": raise KeyError("x")
            if word == "memory": return bytes(1 << 40)
            if word == "print": print("noise", flush=True); os.write(1, b"noise")
            if word == "read": return sys.stdin.read().encode()
            if word == "pid": return str(os.getpid()).encode()
            return request[::-1]

        return answer
""")


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "odd_answers.py").write_text(ODD)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "odd_answers:answering"


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def ends(pid: int, within: float = 15) -> bool:
    """Whether a process ends, sooner or later."""
    until = time.monotonic() + within
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    return not alive(pid)


@pytest.mark.parametrize(
    ("request_", "cause"),
    [
        (b"sleep", "over 2.5 seconds by the clock"),
        (b"regexp", "over 0.5 seconds"),  # holds Python's lock, so no thread or handler could end it
        (b"segfault", "crashed (SIGSEGV)"),
        (b"exit", "crashed (exit status 3)"),
        (b"leave", "failed (SystemExit)"),
        (b"raise", "failed (KeyError)"),
        (b"memory", "failed (MemoryError)"),
    ],
)
def test_a_request_that_hangs_or_crashes_gives_its_cause_and_the_next_is_answered(
    request_: bytes, cause: str, odd: str
) -> None:
    with Sandbox(odd, ("",), seconds=0.5) as box:
        assert box.call(b"abc") == b"cba"
        assert box.call(request_) == cause
        assert box.call(b"abc") == b"cba"


def test_what_a_library_prints_or_reads_does_not_disturb_the_answers(
    odd: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with Sandbox(odd, ("",)) as box:
        assert box.call(b"print") == b"tnirp"
        assert box.call(b"read") == b""
        assert box.call(b"x" * 3_000_000) == b"x" * 3_000_000
    assert capfd.readouterr() == ("", "")


def test_a_child_that_cannot_start_says_why(odd: str) -> None:
    with pytest.raises(MissingExtra, match="this needs a package"):
        Sandbox(odd, ("missing",)).call(b"")
    with pytest.raises(RuntimeError, match="no such weights"):
        Sandbox(odd, ("broken",)).call(b"")


def test_no_child_is_left_behind(odd: str) -> None:
    with Sandbox(odd, ("",), seconds=0.5) as box:
        pids = [int(box.call(b"pid"))]
        box.call(b"sleep")
        pids.append(int(box.call(b"pid")))
    assert pids[0] != pids[1]
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids), "ended, and waited for"


@pytest.mark.parametrize("word", ["abc", "regexp"])
def test_the_child_ends_with_its_parent_even_when_that_is_killed(word: str, odd: str, tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from gpt2.corpus.extract.sandbox import Sandbox\n"
        f"box = Sandbox({odd!r}, ('',), seconds=1.0 if {word!r} == 'abc' else 3.0)\n"
        f"print(box.call(b'pid').decode(), flush=True); box.call({word.encode()!r}); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.3)
        assert alive(pid)
        parent.send_signal(signal.SIGKILL)
    assert ends(pid)


def test_it_works_in_daemonic_workers_and_after_a_fork(odd: str) -> None:
    program = textwrap.dedent(f"""
        import multiprocessing, sys
        sys.path.insert(0, {str(sys.path[0])!r})
        from gpt2.corpus.extract.sandbox import Sandbox
        box = Sandbox({odd!r}, ("",))
        first = box.call(b"pid")

        def work(_):
            own = box.call(b"pid")
            assert box.call(b"abc") == b"cba"
            box.close()
            return own

        if __name__ == "__main__":
            with multiprocessing.get_context("fork").Pool(2) as pool:
                others = pool.map(work, range(4))
            assert first not in others
            assert box.call(b"pid") == first
            box.close()
    """)
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


# Extraction

WORDS = " ".join(["It was a bright morning, and the boats had come in early with more fish than ever."] * 3)


def test_the_extractor_names_a_document_by_its_canonical_address() -> None:
    page = Page(
        "HTTP://Example.org:80/a?utm_source=x#part", f"<p>{WORDS}</p>".encode(), source="crawl.warc.gz:7"
    )
    with Extractor("fast") as extractor:
        found = extractor.document(page)
    assert isinstance(found, Document)
    assert (found.id, found.group, found.source) == ("http://example.org/a",) * 2 + ("crawl.warc.gz:7",)
    assert found.text == WORDS


@pytest.mark.parametrize(
    ("page", "cause"),
    [
        (Page("http://a.org/", b"<p>x", status=404), "status 404"),
        (Page("http://a.org/", b"%PDF-1.5 ..."), "PDF, not HTML"),
        (Page("http://a.org/", b"\xef\xbb\xbf<?xml version='1.0'?><!-- a --><rss>"), "a feed, not HTML"),
        (Page("http://a.org/", b"<title>Nothing</title>"), "no text"),
    ],
)
def test_pages_without_a_document_have_a_cause(page: Page, cause: str) -> None:
    with Extractor("fast") as extractor:
        assert extractor.document(page) == cause


def test_a_page_that_would_take_minutes_costs_its_limit() -> None:
    deep = b"<div>" * 100_000 + WORDS.encode()  # resiliparse's time grows with the square of the depth
    with Extractor("fast", seconds=1) as extractor:
        assert extractor.document(Page("http://a.org/", deep)) == "over 1 seconds"
        assert isinstance(extractor.document(Page("http://a.org/", f"<p>{WORDS}".encode())), Document)


def test_an_impossible_method_or_limit_is_refused() -> None:
    with pytest.raises(ConfigError, match="above 0"):
        Extractor("fast", seconds=0)
    with pytest.raises(ConfigError, match="no extraction method"):
        Extractor("quick")  # type: ignore[arg-type]


def test_500_fuzzed_pages_neither_crash_nor_stall(data: Path) -> None:
    folder, draw = data / "html_extraction", random.Random(0)
    names = sorted(json.loads((folder / "ground-truth.json").read_text()))
    pages = [gzip.decompress((folder / "html" / f"{name}.html.gz").read_bytes()) for name in names]
    pages = sorted(pages, key=len)[:60]
    per_method = {"default": 100, "fast": 200, "blocks": 200}
    for method, rounds in per_method.items():
        assert method in METHODS
        with Extractor(method, seconds=20) as extractor:  # type: ignore[arg-type]
            for _ in range(rounds):
                page = draw.choice(pages)
                damaged = mutated(page, draw) if draw.random() < 0.7 else page[: draw.randrange(len(page))]
                found = extractor.document(Page("http://a.org/", damaged))
                if isinstance(found, Document):
                    found.text.encode()
                else:
                    assert found in ("no text", "empty") or found.endswith("not HTML"), found
