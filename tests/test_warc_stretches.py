"""Parts of archives: stretches that many processes read, revisits, records without HTTP."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from archives import members, written

from gpt2.corpus.fetch.pages import read_pages
from gpt2.corpus.fetch.warc import member_after, records

# Stretches


@pytest.mark.parametrize("name", ["iana.warc.gz", "aut-example.warc.gz", "IAH-urls-wget.warc.gz"])
def test_stretches_of_a_file_give_all_pages_once(name: str, data: Path) -> None:
    path = data / "warc" / name
    size = path.stat().st_size
    starts = sorted({member_after(path, size * i // 7) for i in range(7)} - {None})  # type: ignore[type-var]
    assert len(starts) > 3 and starts[0] == 0
    parts = [page for span in pairwise([*starts, None]) for page in read_pages(path, None, span)]  # type: ignore[arg-type]
    assert parts == list(read_pages(path)), "also revisits of what an earlier stretch has"


def test_a_file_that_is_not_packed_has_no_stretches(data: Path) -> None:
    assert member_after(data / "warc" / "example-iana.org-chunked.warc", 1) is None


# Revisits and records without HTTP


def test_a_revisit_has_the_body_it_stands_for(data: Path) -> None:
    path = data / "warc" / "iana.warc.gz"
    kinds = {f"{path.name}:{record.start}": record.kind for record in records(path)}
    revisits = [page for page in read_pages(path) if kinds[page.source] == "revisit"]
    assert len(revisits) == 123
    assert sum(bool(page.body) for page in revisits) > 100
    assert {page.fault for page in revisits} == {None}


def test_a_revisit_of_what_is_elsewhere_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    data = written(path, "<p>one</p>", "<p>one</p>")
    ends = members(data)
    path.write_bytes(data[: ends[0]] + data[ends[1] :])
    [page] = read_pages(path)
    assert (page.url, page.refusal) == (
        "http://example.org/1",
        "revisit of a page that cannot be found in its file",
    )


def test_resources_and_conversions_are_pages_of_their_type(data: Path, tmp_path: Path) -> None:
    [text] = read_pages(data / "warc" / "whirlwind.warc.wet.gz")
    assert text.content_type == "text/plain" and text.refusal == "type text/plain" and text.body
    block = "<p>größer</p>".encode("latin-1")
    head = "WARC/1.0\r\nWARC-Type: resource\r\nWARC-Target-URI: http://a.org/\r\n"
    head += f"Content-Type: text/html; charset=latin-1\r\nContent-Length: {len(block)}\r\n\r\n"
    path = tmp_path / "a.warc"
    path.write_bytes(head.encode() + block + b"\r\n\r\n")
    [page] = read_pages(path)
    assert (page.text, page.refusal) == ("<p>größer</p>", None)
