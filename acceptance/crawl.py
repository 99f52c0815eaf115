"""A crawl of a local web of 5,000 pages: polite by the server's own log, and the same after 20 kills.

The web is 400 hosts on loopback addresses with the real pages of `html_extraction` in the folder that GPT2_DATA
names, made pages, and every trouble that tests/local_web.py knows; how each link must end is known beforehand.
It is crawled once undisturbed, and once killed with SIGKILL at 20 random moments; causes, bodies and extracted
texts must be the same, and no link that had ended may be asked for again.

    GPT2_DATA=DATA python -m acceptance crawl
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from local_web import LocalWeb
from warc_checker import check_warc
from web_crawl import (
    Ending,
    check_nothing_done_is_asked_for_again,
    check_politeness,
    crawl_with_kills,
    endings,
    settings,
)

from gpt2.corpus.fetch import read_outcomes, warc_files
from gpt2.corpus.fetch.warc import records
from gpt2.errors import InputError

PAGES, HOSTS, KILLS, DELAY, WORKERS = 5_000, 400, 20, 0.25, 64
LONGEST_PAGE = 190_000
"""Bytes: a little less than the crawl's limit."""


def main() -> None:
    """Crawl twice and compare; raises `AssertionError` at the first difference."""
    if "GPT2_DATA" not in os.environ:
        raise InputError("set GPT2_DATA to the folder of real data")
    folder = Path(os.environ["GPT2_DATA"]) / "html_extraction" / "html"
    real = [gzip.decompress(path.read_bytes()) for path in sorted(folder.glob("*.gz"))]
    real = [page for page in real if len(page) < LONGEST_PAGE]
    with tempfile.TemporaryDirectory() as scratch:
        quiet, killed = (
            crawled(Path(scratch) / name, real, n) for name, n in (("quiet", 0), ("killed", KILLS))
        )
    assert quiet == killed, "the killed crawl ended otherwise"
    print(f"\nboth crawls: the same {len(quiet):,} links with the same causes, bodies and extracted texts")
    causes = Counter(cause or "a page" for cause, *_ in quiet.values())
    for cause, n in causes.most_common():
        print(f"{n:6,}  {cause}")


def crawled(folder: Path, real: list[bytes], kills: int) -> dict[str, Ending]:
    """Crawl a web of its own, judge it, print figures, and say how each link ended (without ports)."""
    with LocalWeb(PAGES, HOSTS, real) as web:
        given = settings(web, delay=DELAY, workers=WORKERS, file_bytes=1_000_000)
        begun = time.monotonic()
        lives = crawl_with_kills(web, folder, given, kills, 0.5, 5.0)
        seconds = time.monotonic() - begun
        found = endings(folder)
        figures = check_politeness(web, DELAY, lives)
        anew = check_nothing_done_is_asked_for_again(web, lives)
        port = f":{web.port}/"
        wrong = {url: cause for url, (cause, *_) in found.items() if web.causes[url] != cause}
    assert set(found) == set(web.causes), "links without an outcome"
    assert not wrong, f"other causes than foretold: {list(wrong.items())[:3]}"
    assert len(lives) == 1 + kills, f"the crawl ended after {len(lives) - 1} kills"
    print(f"\n{folder.name}: {len(found):,} links of {HOSTS} hosts in {seconds:.0f} s, {kills} kills")
    for name, figure in figures.items():
        print(f"  {name}: {figure:,}")
    if kills:
        print(
            f"  links begun anew after a kill: {anew:,}, {anew / kills:.0f} a kill with {WORKERS} requests at once"
        )
        print("  links that had ended and were asked for again: 0")
    check_files(folder)
    return {url.replace(port, "/"): ending for url, ending in found.items()}


def check_files(folder: Path) -> None:
    """The WARC files pass our checker and warcio's, and hold what the outcomes say."""
    files = warc_files(folder)
    kinds = Counter(record.kind for path in files for record in records(path))
    for path in files:
        check_warc(path)
    warcio = [str(Path(sys.executable).with_name("warcio")), "check", *map(str, files)]
    done = subprocess.run(warcio, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = sum(outcome.cause is None for outcome in read_outcomes(folder))
    assert kinds["response"] + kinds["revisit"] == pages
    size = sum(path.stat().st_size for path in files)
    print(
        f"  {len(files)} WARC files of {size / 1e6:.1f} MB, {dict(kinds)}; sound by our checker and by warcio"
    )


if __name__ == "__main__":
    main()
