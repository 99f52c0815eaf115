"""A corpus in numbers: each against a count in a few lines, and the page that shows them."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from command_line import Run
from corpora import archive, html, prose, short

from gpt2.corpus import BuildConfig, Document, build, write_documents
from gpt2.corpus.build.statistics import domain_name, measure, published_domains, read_published
from gpt2.corpus.engine import Engine
from gpt2.errors import FormatError, InputError, TooLittleData
from gpt2.report.corpus import page, write_corpus_report

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Documents of known domains, languages, days and lengths."""
    rows = []
    for i, host in enumerate(
        ["www.bbc.co.uk"] * 5 + ["news.bbc.com"] * 2 + ["a.blogspot.com", "x.example"] * 2
    ):
        text = "é" * (10 * 2 ** (i % 5)) if i % 3 else "a" * 1_000
        rows.append(
            Document(
                text,
                id=f"{i}",
                group=f"{i}",
                url=f"http://{host}/{i}",
                language="fr" if i % 3 else "en",
                date=f"20{10 + i % 3}-01-0{1 + i % 9}" if i % 2 else None,
                votes=i,
            )
        )
    rows.append(Document("no address", id="z", group="z"))
    write_documents(tmp_path / "documents-00000.parquet", rows[:7])
    write_documents(tmp_path / "documents-00001.parquet", rows[7:])
    return tmp_path


def test_the_numbers_are_those_of_the_documents(corpus: Path, tmp_path: Path) -> None:
    published = tmp_path / "domains.txt"
    published.write_text("900 google\n300 bbc\n20\n10 blogspot")
    found = measure(corpus, published)
    assert found["documents"] == 12
    assert found["domains"]["different"] == 3 and found["domains"]["with_address"] == 11
    largest = [(row["domain"], row["documents"], row["webtext_rank"]) for row in found["domains"]["largest"]]
    assert largest == [("bbc", 7, 2), ("blogspot", 2, 3), ("x.example", 2, None)]
    beside = found["domains"]["webtext"]
    assert (beside["domains"], beside["ours"], beside["documents"]) == (3, 2, 9)
    assert [(r["domain"], r["documents"], r["rank"]) for r in beside["largest"]] == [
        ("google", 0, None),
        ("bbc", 7, 1),
        ("blogspot", 2, 2),
    ]
    languages = {row["language"]: (row["documents"], row["bytes"]) for row in found["languages"]}
    assert languages["en"] == (4, 4_000) and languages["unknown"] == (1, 10)
    assert found["bytes"] == sum(size for _, size in languages.values())
    assert languages["fr"][1] == 2 * (found["characters"] - 4_010)
    lengths = [10 * 2 ** (i % 5) if i % 3 else 1_000 for i in range(11)] + [10]
    bins = Counter(n.bit_length() - 1 for n in lengths)
    assert {row["from"]: row["documents"] for row in found["lengths"]["bins"] if row["documents"]} == {
        2**b: n for b, n in bins.items()
    }
    assert found["lengths"]["mean"] == pytest.approx(sum(lengths) / 12)
    assert sum(row["documents"] for row in found["years"]) == 12
    assert found["votes"] == {"least": 0, "quarter": 2, "median": 5, "three quarters": 8, "most": 10}


def test_a_domain_is_named_as_openai_named_it(data: Path) -> None:
    known = read_published(data / "webtext" / "domains.txt")
    assert len(known) == 999 and known["google"] == 1_542_261  # one of the 1,000 lines has no name
    for host in (
        "www.bbc.co.uk",
        "github.com",
        "foo.blogspot.com",
        "en.wikia.com",
        "www.goo.ne.jp",
        "nih.gov",
    ):
        assert domain_name(host) in known, host
    assert domain_name("10.0.0.1") == "10.0.0.1" and domain_name("localhost") == "localhost"


def test_the_published_list_is_found_or_missed_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GPT2_DATA", raising=False)
    assert published_domains(None) is None
    with pytest.raises(InputError, match=r"there is no file .*domains.txt"):
        published_domains(tmp_path)
    (tmp_path / "webtext").mkdir()
    (tmp_path / "webtext" / "domains.txt").write_text("12 a\nwhat\n")
    monkeypatch.setenv("GPT2_DATA", str(tmp_path))
    with pytest.raises(FormatError, match=r"line 2 of .* is not a number and a domain"):
        read_published(published_domains(None) or tmp_path)


def test_nothing_can_be_said_of_no_documents(tmp_path: Path) -> None:
    write_documents(tmp_path / "documents-00000.parquet", [])
    with pytest.raises(TooLittleData, match="has no documents"):
        measure(tmp_path)


def test_a_build_is_shown_with_its_funnel_and_examples_and_nothing_breaks_out_of_the_page(
    tmp_path: Path, run: Run
) -> None:
    pages = {f"{i}": html(f"page{i}") for i in range(4)} | {"short": short("short"), "copy": html("page0")}
    pages["evil"] = f"<p>{EVIL.replace('<', '&lt;')} {prose('evil', 40)}</p>"
    path = archive(tmp_path / f"{EVIL[:8]}.warc.gz".replace("/", ""), pages)
    out = tmp_path / "out"
    built = build(BuildConfig(pages=(path,), method="fast"), out, engine=Engine(1))
    said = run("corpus", "report", out, "--json", "--quiet")
    found = json.loads(said.out)
    assert found["corpus"]["funnel"] == built.funnel and found["corpus"]["drops"] == built.drops
    text = (out / "report.html").read_text()
    assert "Shortx" in text and "fewer than 128" in text and built.digest in text
    assert EVIL not in text and "&lt;script&gt;" in text
    assert not re.search(r"<(script|img|iframe|a href=\"http)", text)
    assert run("corpus", "report", out).out.startswith("step")
    write_corpus_report(measure(out), tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == page(measure(out))
