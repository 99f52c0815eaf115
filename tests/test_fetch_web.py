"""The short form of the crawl of a local web: every link ends as foretold, politely, and the same after kills."""

from __future__ import annotations

import gzip
from pathlib import Path

from local_web import LocalWeb
from warc_checker import check_warc
from web_crawl import (
    check_nothing_done_is_asked_for_again,
    check_politeness,
    config,
    crawl_with_kills,
    endings,
    settings,
)

from gpt2.corpus.fetch import fetch, read_outcomes, warc_files


def real_pages(data: Path) -> list[bytes]:
    """A few real pages."""
    paths = sorted((data / "html_extraction" / "html").glob("*.gz"))[:40]
    return [page for page in (gzip.decompress(path.read_bytes()) for path in paths) if len(page) < 100_000]


def test_a_crawl_ends_as_foretold_and_the_same_after_kills(data: Path, tmp_path: Path) -> None:
    real, found = real_pages(data), []
    for name, kills in (("quiet", 0), ("killed", 4)):
        with LocalWeb(240, 60, real) as web:
            given = settings(web, delay=0.05, file_bytes=200_000)
            lives = crawl_with_kills(web, tmp_path / name, given, kills, 0.9, 2.0)
            assert len(lives) == 1 + kills
            check_nothing_done_is_asked_for_again(web, lives)
            ended = endings(tmp_path / name)
            assert {url: cause for url, (cause, *_) in ended.items()} == web.causes
            check_politeness(web, 0.05, lives)
            found.append({url.replace(f":{web.port}/", "/"): how for url, how in ended.items()})
        files = warc_files(tmp_path / name)
        assert len(files) > 1
        for path in files:
            check_warc(path)
    assert found[0] == found[1]


def test_nothing_is_asked_for_again_when_all_is_done(tmp_path: Path) -> None:
    with LocalWeb(60, 20) as web:
        given = config(settings(web, delay=0.0, retries=0, idle=0.5, timeout=1.0))
        first = fetch(web.links, tmp_path, given)
        assert (first.links, first.before) == (60, 0)
        asked = len(web.log)
        again = fetch(web.links, tmp_path, given)
        assert (again.links, again.pages, again.causes, again.before) == (60, first.pages, first.causes, 60)
        assert len(web.log) == asked
        assert sum(1 for _ in read_outcomes(tmp_path)) == 60
