"""Extraction measured on pages marked by hand, and the command that does it."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from gpt2.corpus.extract import Method, extract
from gpt2.corpus.extract.gold import compare, counts, interval, read_gold, scores
from gpt2.errors import FormatError, InputError

LEAST: dict[Method, float] = {"default": 0.96, "fast": 0.905, "blocks": 0.963}


def score(pairs: list[tuple[str, str]]) -> float:
    """F1 of taken and wanted texts by 4-gram shingles of words as multisets, written independently."""
    precision = recall = 0.0
    for taken, wanted in pairs:
        lists = []
        for text in (taken, wanted):
            words = re.findall(r"\w+", text)
            lists.append(sorted(" ".join(words[i : i + 4]) for i in range(max(1, len(words) - 3))))
        common, (a, b) = 0, lists
        i = j = 0
        while i < len(a) and j < len(b):
            if a[i] == b[j]:
                common, i, j = common + 1, i + 1, j + 1
            elif a[i] < b[j]:
                i += 1
            else:
                j += 1
        precision, recall = precision + common / len(a), recall + common / len(b)
    precision, recall = precision / len(pairs), recall / len(pairs)
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("method", LEAST)
def test_each_method_takes_the_marked_text(method: Method, data: Path) -> None:
    folder = data / "html_extraction"
    truth = json.loads((folder / "ground-truth.json").read_text())
    assert len(truth) == 121
    pairs = []
    for name, entry in sorted(truth.items()):
        html = gzip.decompress((folder / "html" / f"{name}.html.gz").read_bytes())
        found = extract(html, entry.get("url"), method)
        pairs.append((found.text if found else "", entry["articleBody"]))
    assert score(pairs) >= LEAST[method]


def test_the_measure_by_hand() -> None:
    assert counts("a b c d e", "a b c d x") == (1, 2, 2)
    assert counts("a b", "a b") == (1, 1, 1), "a short text is one shingle"
    assert counts("", "a b c d") == (0, 0, 1)
    assert counts("a a a a a", "a a a a a a") == (2, 2, 3), "as often as it occurs"


def small(folder: Path) -> Path:
    (folder / "html").mkdir(parents=True)
    text = (
        "It was a bright morning and the boats had come in early with more fish than anyone could remember."
    )
    (folder / "html" / "a.html").write_text(f"<article><p>{text}</p></article>")
    (folder / "html" / "b.html.gz").write_bytes(gzip.compress(b"<title>none</title>"))
    truth = {"a": {"articleBody": text, "url": "http://a.org/"}, "b": {"articleBody": text}}
    (folder / "ground-truth.json").write_text(json.dumps(truth))
    return folder


def test_a_page_without_text_costs_recall_and_not_precision(tmp_path: Path) -> None:
    (row,) = compare(small(tmp_path / "gold"), ["fast"])
    assert (row.pages, row.without_text) == (2, 1)
    assert (row.precision, row.recall) == (1.0, 0.5)
    assert row.f1 == pytest.approx(2 / 3)
    assert 0 <= row.low <= row.f1 <= row.high <= 1
    assert row.pages_per_second > 0


def test_the_interval_holds_the_value_and_is_the_same_each_time() -> None:
    import numpy as np

    table = np.random.default_rng(1).integers(50, 100, size=(100, 1)) * np.array([[1.0, 1.1, 1.2]])
    assert interval(table) == interval(table)
    assert interval(table)[0] <= scores(table)[2] <= interval(table)[1]


@pytest.mark.parametrize("content", ["[]", "{", '{"a": {}}', '{"a": 3}'])
def test_a_foreign_labelled_set_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "ground-truth.json").write_text(content)
    with pytest.raises(FormatError, match="does not give each id its articleBody"):
        read_gold(tmp_path)


def test_a_labelled_set_that_lacks_something_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no labelled set"):
        read_gold(tmp_path)
    folder = small(tmp_path / "gold")
    (folder / "html" / "b.html.gz").write_bytes(b"\x1f\x8bnonsense")
    with pytest.raises(FormatError, match="damaged"):
        read_gold(folder)
    (folder / "html" / "b.html.gz").unlink()
    with pytest.raises(InputError, match="neither"):
        read_gold(folder)
