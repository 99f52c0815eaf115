"""Every extraction method on article-extraction-benchmark's pages, whose text was marked by hand.

The measure and the speeds are those of `gpt2 corpus extract --compare`: 4-gram shingles of words, precision and
recall averaged over pages, pages a second of one process from bytes to document, the methods taking turns at each
page. Beside them stands trafilatura called by itself on the same bytes, without our title, date and language, and
an `Extractor`, whose child process and pipe are the price of a time limit.

    GPT2_DATA=... python benchmarks/extraction.py
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import trafilatura

from gpt2.corpus.extract import Extractor, document_of, installed_methods
from gpt2.corpus.gold import compare, read_gold
from gpt2.corpus.pages import Page


def main() -> None:
    """Print precision, recall, F1 and speed of each."""
    folder = Path(os.environ["GPT2_DATA"]) / "html_extraction"
    rows = compare(folder, installed_methods())
    pages = read_gold(folder)
    alone = beside = within = 0.0
    with Extractor("default") as extractor:
        extractor.document(Page("http://localhost/", pages[0].html))
        for page in pages:
            begun = time.perf_counter()
            trafilatura.extract(page.html, fast=True, include_comments=False)
            between = time.perf_counter()
            document_of(page.html, page.url)
            after = time.perf_counter()
            extractor.document(Page(page.url or "http://localhost/", page.html))
            within += time.perf_counter() - after
            alone, beside = alone + between - begun, beside + after - between
    for row in rows:
        print(
            f"{row.method:10} F1 {row.f1:.4f} ({row.low:.3f} to {row.high:.3f})  precision {row.precision:.4f}  "
            f"recall {row.recall:.4f}  {row.pages_per_second:6.1f} pages/s, "
            f"{row.pages_per_second / rows[0].pages_per_second:.2f} times the default's"
        )
    print(f"trafilatura by itself {len(pages) / alone:.1f} pages/s; default {len(pages) / beside:.1f}")
    print(f"an Extractor takes {within / beside - 1:+.1%} of the time of the default in this process")
    print(f"{len(pages)} pages")


if __name__ == "__main__":
    main()
