"""Both extractors on article-extraction-benchmark's pages, whose text was marked by hand.

Precision and recall of 4-gram shingles of words, averaged over pages, and their F1: the benchmark's measure
(github.com/scrapinghub/article-extraction-benchmark), written anew. Pages a second are of one process.

    GPT2_DATA=... python benchmarks/extraction.py
"""

from __future__ import annotations

import gzip
import json
import os
import re
import time
from collections import Counter
from pathlib import Path

from gpt2 import extract
from gpt2.corpus.extract import Method

METHODS: tuple[Method, ...] = ("default", "fast")


def shingles(text: str) -> Counter[tuple[str, ...]]:
    """The 4-grams of a text's words, each as often as it occurs; the whole of a shorter text."""
    words = re.findall(r"\w+", text)
    return Counter(tuple(words[i : i + 4]) for i in range(max(1, len(words) - 3)))


def main() -> None:
    """Print precision, recall, F1 and speed of each."""
    folder = Path(os.environ["GPT2_DATA"]) / "html_extraction"
    truth = json.loads((folder / "ground-truth.json").read_text())
    pages = {name: gzip.decompress((folder / "html" / f"{name}.html.gz").read_bytes()) for name in truth}
    for method in METHODS:
        precision = recall = seconds = 0.0
        for name, page in pages.items():
            begun = time.perf_counter()
            found = extract(page, method=method)
            seconds += time.perf_counter() - begun
            got, wanted = shingles(found.text if found else ""), shingles(truth[name]["articleBody"])
            common = (got & wanted).total()
            precision += common / got.total() / len(pages)
            recall += common / wanted.total() / len(pages)
        f1 = 2 * precision * recall / (precision + recall)
        speed = len(pages) / seconds
        print(f"{method:8} F1 {f1:.3f}  precision {precision:.3f}  recall {recall:.3f}  {speed:.0f} pages/s")
    print(f"{len(pages)} pages")


if __name__ == "__main__":
    main()
