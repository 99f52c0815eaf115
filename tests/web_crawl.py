"""Crawling a local web, killing the crawl, and judging it by what the server saw and what was kept."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from local_web import IDLE, LONGEST, TIMEOUT, LocalWeb

from gpt2.corpus.extract import extract
from gpt2.corpus.fetch import LOG, FetchConfig, read_outcomes, warc_files
from gpt2.corpus.fetch.pages import Page, read_pages

CRAWL = """
import json, sys
from pathlib import Path
from gpt2.corpus.fetch import FetchConfig, fetch
given = json.loads(sys.argv[2])
given["allow"] = frozenset(given["allow"])
fetch(Path(sys.argv[1]).read_text().split(), Path(sys.argv[3]), FetchConfig(**given))
"""
CONTACT = "someone@example.org"
Ending = tuple[str | None, str, str]
"""How a link ended: cause, digest of the body, digest of the text that was extracted."""


def settings(web: LocalWeb, **given: Any) -> dict[str, Any]:
    """Settings of a crawl for which outcomes are foretold."""
    known = {"contact": CONTACT, "idle": IDLE, "timeout": TIMEOUT, "max_bytes": LONGEST, "retries": 1}
    return {**known, "workers": 64, "file_bytes": 2_000_000, "allow": [web.allowed], **given}


def config(given: dict[str, Any]) -> FetchConfig:
    """The same as an object."""
    return FetchConfig(**{**given, "allow": frozenset(given["allow"])})


def start(web: LocalWeb, folder: Path, given: dict[str, Any]) -> subprocess.Popen[bytes]:
    """A crawl in a process of its own, or its going on."""
    links = folder.with_suffix(".txt")
    if not links.exists():
        links.write_text("\n".join(web.links))
    return subprocess.Popen([sys.executable, "-c", CRAWL, str(links), json.dumps(given), str(folder)])


@dataclass(frozen=True)
class Life:
    """One process of a crawl."""

    begun: float
    """When, by the server's clock."""
    done: frozenset[str]
    """Links that had ended before."""


def crawl_with_kills(
    web: LocalWeb,
    folder: Path,
    given: dict[str, Any],
    kills: int,
    shortest: float,
    longest: float,
    seed: int = 0,
) -> list[Life]:
    """Crawl to the end, killed with SIGKILL at random moments of its life; its lives, one more than kills."""
    draw, lives = random.Random(seed), [Life(time.monotonic(), frozenset())]
    process = start(web, folder, given)
    while len(lives) <= kills:
        try:
            process.wait(draw.uniform(shortest, longest))
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            begun = (folder / LOG).exists()
            done = frozenset(f.url for f in read_outcomes(folder)) if begun else frozenset[str]()
            lives.append(Life(time.monotonic(), done))
            process = start(web, folder, given)
    assert process.wait() == 0
    return lives


def endings(folder: Path) -> dict[str, Ending]:
    """How each link ended, through extraction."""
    pages: dict[str, Page] = {}
    for path in warc_files(folder):
        for page in read_pages(path):
            assert page.url not in pages, f"{page.url} is there twice"
            assert page.fault is None
            pages[page.url] = page
    found: dict[str, Ending] = {}
    for outcome in read_outcomes(folder):
        assert outcome.url not in found, f"{outcome.url} has two outcomes"
        body = text = ""
        if outcome.cause is None:
            page = pages.pop(outcome.url)
            document = extract(page.text, page.url, "fast")
            body = hashlib.sha256(page.body).hexdigest()
            text = hashlib.sha256((document.text if document else "").encode()).hexdigest()
        found[outcome.url] = outcome.cause, body, text
    assert not pages, "a page without an outcome"
    return found


def check_politeness(web: LocalWeb, delay: float, lives: list[Life]) -> dict[str, Any]:
    """What the server saw, judged: rules, pauses, one request at a time, an honest name; figures of it."""
    forbidden = [r for r in web.log if r.path.startswith("/private/")]
    assert not forbidden, f"robots.txt forbids {forbidden[0].path}"
    gaps, between = [], 0
    for host, requests in web.requests_by_host().items():
        site = web.sites[host]
        if site.refusal:
            assert {r.path for r in requests} == {"/robots.txt"}, f"{host} wants nothing asked"
        for one, other in pairwise(requests):
            if any(one.begun < life.begun <= other.begun for life in lives[1:]):
                between += 1  # a new process does not know when the last one asked
                continue
            needed = delay if other.path == "/rules" else max(delay, site.pause)
            gaps.append((other.begun - one.begun) - needed)
            assert one.ended <= other.begun, f"{host} was asked two things at once: {one}, {other}"
    assert min(gaps) >= 0, f"a host was asked {-min(gaps):.3f} s too early"
    assert all(CONTACT in r.agent for r in web.log)
    return {
        "requests": len(web.log),
        "pauses measured": len(gaps),
        "shortest pause less what was asked for, s": round(min(gaps), 4),
        "requests after a kill": between,
    }


def check_nothing_done_is_asked_for_again(web: LocalWeb, lives: list[Life]) -> int:
    """A link that had ended is not begun again; how many were begun anew because they had not."""
    again = 0
    for life, after in pairwise([*lives, None]):
        ends = after.begun if after else float("inf")
        asked = {web.link(r.host, r.path) for r in web.log if life.begun <= r.begun < ends}
        assert not asked & life.done, "a link that had ended was asked for again"
        before = {web.link(r.host, r.path) for r in web.log if r.begun < life.begun}
        again += len(asked & before & set(web.causes))
    return again
