"""How good extraction is: every method on pages whose text people marked.

A labelled set is a folder in the form of article-extraction-benchmark: `ground-truth.json`, which gives for each
id the `articleBody` and perhaps the `url`, and `html/ID.html` or `html/ID.html.gz`. The measure is that
benchmark's too: 4-gram shingles of `\\w+` words as multisets (the whole of a text that has fewer words), precision
and recall of each page, their means over pages, and F1 of the means; a page from which nothing was taken has no
precision and a recall of 0. Intervals come from resampling pages. Speed is of one process, from bytes to
document; the methods take turns at each page, so that a busy machine slows them alike.

    gpt2 corpus extract --compare html_extraction
"""

from __future__ import annotations

import gzip
import json
import re
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpt2.console import QUIET, Console
from gpt2.corpus.extract.methods import METHODS, Method, document_of
from gpt2.errors import FormatError, InputError, TooLittleData

TRUTH = "ground-truth.json"
WORD = re.compile(r"\w+")
SHINGLE = 4
RESAMPLES = 2_000
SEED = 0


@dataclass(frozen=True)
class Gold:
    """A page whose text was marked."""

    id: str
    html: bytes
    text: str
    url: str | None = None


@dataclass(frozen=True)
class Measured:
    """A method on a labelled set."""

    method: Method
    """The method."""
    pages: int
    """How many pages the set has."""
    precision: float
    """Mean share of what was taken that should have been."""
    recall: float
    """Mean share of what should have been taken that was."""
    f1: float
    """Harmonic mean of the two."""
    low: float
    """F1's 95 % interval over pages: from here"""
    high: float
    """to here."""
    pages_per_second: float
    """Of one process."""
    without_text: int
    """Pages from which nothing was taken."""


def read_gold(folder: Path) -> list[Gold]:
    """The pages of a labelled set, in the order of their ids; `FormatError` when it is not one."""
    file = folder / TRUTH
    if not file.is_file():
        raise InputError(f"{folder} is no labelled set: it has no {TRUTH} beside a folder html")
    try:
        truth = json.loads(file.read_bytes())
        rows = sorted((str(id), row["articleBody"], row.get("url")) for id, row in truth.items())
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
        raise FormatError(f"{file} does not give each id its articleBody ({error!r})") from None
    if not rows:
        raise TooLittleData(f"{file} has no pages")
    return [Gold(id, html_of(folder / "html", id), text, url) for id, text, url in rows]


def html_of(folder: Path, id: str) -> bytes:
    """The source of a page of a labelled set."""
    plain, packed = folder / f"{id}.html", folder / f"{id}.html.gz"
    if plain.is_file():
        return plain.read_bytes()
    if not packed.is_file():
        raise InputError(f"{folder} has neither {plain.name} nor {packed.name}")
    try:
        return gzip.decompress(packed.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError(f"{packed} is damaged ({error}); get it anew") from None


def shingles(text: str) -> Counter[tuple[str, ...]]:
    """The 4-grams of a text's words, each as often as it occurs."""
    words = WORD.findall(text)
    if not words:
        return Counter()
    return Counter(tuple(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1)))


def counts(taken: str, wanted: str) -> tuple[int, int, int]:
    """Shingles in common, in what was taken, and in what was wanted."""
    a, b = shingles(taken), shingles(wanted)
    return (a & b).total(), a.total(), b.total()


def scores(table: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Precision, recall and F1 from the counts [pages, 3] of pages."""
    common, taken, wanted = table.T
    some, due = taken > 0, wanted > 0
    precision = float(np.mean(common[some] / taken[some])) if some.any() else 0.0
    recall = float(np.mean(common[due] / wanted[due])) if due.any() else 0.0
    both = precision + recall
    return precision, recall, 2 * precision * recall / both if both else 0.0


def interval(table: npt.NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of F1 by bootstrap over pages."""
    draw = np.random.default_rng(SEED)
    n = len(table)
    again = [scores(table[draw.integers(n, size=n)])[2] for _ in range(RESAMPLES)]
    low, high = np.quantile(again, (0.025, 0.975))
    return float(low), float(high)


def compare(folder: Path, methods: Sequence[Method] = METHODS, console: Console = QUIET) -> list[Measured]:
    """Each method on a labelled set; raises `MissingExtra` for a method whose package is not installed."""
    pages = read_gold(folder)
    found: dict[Method, list[tuple[int, int, int]]] = {method: [] for method in methods}
    seconds = dict.fromkeys(methods, 0.0)
    for method in methods:  # what a method imports is not timed
        document_of(pages[0].html, pages[0].url, method)
    with console.progress("comparing", len(pages), "pages") as bar:
        for page in pages:
            for method in methods:
                begun = time.perf_counter()
                document = document_of(page.html, page.url, method)
                seconds[method] += time.perf_counter() - begun
                text = "" if isinstance(document, str) else document.text
                found[method].append(counts(text, page.text))
            bar.advance()
    rows = []
    for method in methods:
        table = np.array(found[method], np.float64)
        speed = len(pages) / seconds[method]
        without = int((table[:, 1] == 0).sum())
        rows.append(Measured(method, len(pages), *scores(table), *interval(table), speed, without))
    return rows
