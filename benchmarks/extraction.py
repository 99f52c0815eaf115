"""Every extraction method on article-extraction-benchmark's pages, whose text was marked by hand.

The measure and the speeds are those of `gpt2 corpus extract --compare`: 4-gram shingles of words, precision and
recall averaged over pages, pages a second of one process from bytes to document, the methods taking turns at each
page. Beside them stands trafilatura called by itself on the same bytes, without our title, date and language, and
the default in an `Extractor`, whose child process and pipe are the price of a time limit.

    GPT2_DATA=... python benchmarks/extraction.py
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import trafilatura

from gpt2.corpus.extract import Extractor, document_of, installed_methods
from gpt2.corpus.extract.gold import Gold, compare, read_gold
from gpt2.corpus.fetch.pages import Page


def main() -> None:
    """Print precision, recall, F1 and speed of each."""
    folder = Path(os.environ["GPT2_DATA"]) / "html_extraction"
    rows = compare(folder, installed_methods())
    pages = read_gold(folder)
    with Extractor("default") as extractor:
        ways: dict[str, Callable[[Gold], object]] = {
            "alone": lambda page: trafilatura.extract(page.html, fast=True, include_comments=False),
            "here": lambda page: document_of(page.html, page.url),
            "beside": lambda page: extractor.document(Page(page.url or "http://localhost/", page.html)),
        }
        seconds = dict.fromkeys(ways, 0.0)
        for _ in range(3):
            for name, way in ways.items():
                begun = time.perf_counter()
                for page in pages:
                    way(page)
                seconds[name] += time.perf_counter() - begun
    for row in rows:
        print(
            f"{row.method:10} F1 {row.f1:.4f} ({row.low:.3f} to {row.high:.3f})  precision {row.precision:.4f}  "
            f"recall {row.recall:.4f}  {row.pages_per_second:6.1f} pages/s, "
            f"{row.pages_per_second / rows[0].pages_per_second:.2f} times the default's"
        )
    speed = {name: 3 * len(pages) / s for name, s in seconds.items()}
    print(f"trafilatura by itself {speed['alone']:.1f} pages/s; the default {speed['here']:.1f}")
    print(
        f"the default in an Extractor {speed['beside']:.1f}, its time {seconds['beside'] / seconds['here'] - 1:+.1%}"
    )
    print(f"{len(pages)} pages")


if __name__ == "__main__":
    main()
