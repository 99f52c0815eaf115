"""WARC and ARC files: read whole, refused when cut anywhere, or read past all damage with a count of it."""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path

import pytest
from archives import ARCHIVES, members, record_ends, written
from hypothesis import given, settings
from hypothesis import strategies as st
from warcio.archiveiterator import ArchiveIterator

from gpt2.corpus.fetch import warc
from gpt2.corpus.fetch.pages import read_pages
from gpt2.corpus.fetch.warc import records
from gpt2.errors import FormatError, InputError, WorkbenchError


def check_cuts(path: Path, data: bytes) -> None:
    """Cut at every byte: refused in one sentence, but for cuts between records, which leave those before."""
    path.write_bytes(data)
    whole, ends = list(read_pages(path)), record_ends(data)
    assert ends[-1] <= len(data) and whole
    read_at = []
    for n in reversed(range(len(data))):
        os.truncate(path, n)
        try:
            found = list(read_pages(path))
        except FormatError as error:
            assert "\n" not in str(error) and str(path) in str(error)
        else:
            assert found == whole[: len(found)]
            read_at.append(n)
    if path.suffix == ".arc":  # whose records are parted by newlines that belong to none
        assert all(any(end <= n and not data[end:n].strip() for end in ends) for n in read_at)
    else:
        assert sorted(read_at) == ends[:-1]


@pytest.mark.parametrize(
    "name", ["example.warc.gz", "cc.warc.gz", "example-iana.org-chunked.warc", "example.arc"]
)
def test_a_real_file_cut_at_any_byte_is_refused(name: str, data: Path, tmp_path: Path) -> None:
    check_cuts(tmp_path / name, (data / "warc" / name).read_bytes())


@pytest.mark.parametrize("name", ["example.warc.gz"])
def test_a_real_file_without_compression_cut_at_any_byte_is_refused(
    name: str, data: Path, tmp_path: Path
) -> None:
    check_cuts(tmp_path / "example.warc", gzip.decompress((data / "warc" / name).read_bytes()))


@pytest.mark.parametrize("packed", [True, False])
def test_a_file_of_ours_cut_at_any_byte_is_refused(packed: bool, tmp_path: Path) -> None:
    whole = written(tmp_path / "a.warc.gz", "<p>one</p>", "", "<p>three\r\n\r\n</p>\r\n\r\n")
    check_cuts(tmp_path / "b.warc", whole if packed else gzip.decompress(whole))


@pytest.mark.parametrize("name", ARCHIVES)
def test_real_files_read_as_warcio_reads_them(name: str, data: Path) -> None:
    path = data / "warc" / name
    wanted = []
    with path.open("rb") as stream:
        for record in ArchiveIterator(stream, arc2warc=True):
            url = (record.rec_headers.get_header("WARC-Target-URI") or "").strip("<>")
            if record.rec_type == "response" and url.startswith("http"):
                status = int(record.http_headers.get_statuscode())
                wanted.append((url, status, record.content_stream().read()))
    responses = {f"{name}:{record.start}" for record in records(path) if record.kind == "response"}
    found = [page for page in read_pages(path) if page.source in responses]
    assert [(page.url, page.status, page.body) for page in found] == wanted


def test_real_files_read_as_fastwarc_reads_them(data: Path) -> None:
    from fastwarc.warc import ArchiveIterator as FastIterator
    from fastwarc.warc import WarcRecordType

    path = data / "warc" / "aut-example.warc.gz"
    responses = FastIterator(str(path), record_types=WarcRecordType.response, auto_decode="all")
    wanted = [(r.headers["WARC-Target-URI"], r.reader.read()) for r in responses]
    found = [(page.url, page.body) for page in read_pages(path)]
    assert found == [(url, body) for url, body in wanted if url.startswith("http")]


def test_a_file_packed_as_one_member_reads_the_same(data: Path, tmp_path: Path) -> None:
    for name in ("example.warc.gz", "example.arc"):
        original = data / "warc" / name
        content = original.read_bytes()
        again = tmp_path / f"{name}.packed"
        again.write_bytes(gzip.compress(gzip.decompress(content) if name.endswith("gz") else content))
        found = [p.body for p in read_pages(again) if not p.fault]
        assert found and found == [p.body for p in read_pages(original)][: len(found)]


def test_a_flipped_bit_is_found_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    data = written(path, "<p>one</p>" * 50, "<p>two</p>")
    whole = [(page.url, page.body) for page in read_pages(path)]
    for at in range(len(data)):
        broken = bytearray(data)
        broken[at] ^= 0x10
        path.write_bytes(broken)
        try:
            assert [(page.url, page.body) for page in read_pages(path)] == whole
        except FormatError as error:
            assert "\n" not in str(error)


# Damage that reading goes past

BODIES = ["<p>one</p>" * 30, "<p>two</p>", "<p>three</p>" * 9, "<p>two</p>", "<p>five</p>"]


def some_pages(path: Path) -> tuple[list[tuple[str, bytes]], list[str]]:
    """Address and body of the pages that can be had, and what is told of the others."""
    faults: list[str] = []
    found = [(page.url, page.body) for page in read_pages(path, faults) if not page.fault]
    assert all(fault.startswith(path.name) and "\n" not in fault for fault in faults)
    return found, faults


def test_a_flipped_byte_costs_the_record_it_is_in_and_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    data = written(path, *BODIES)
    whole, _ = some_pages(path)
    assert len(whole) == 5
    second = whole[3]  # a revisit of whole[1], lost with it
    counted = 0
    for at in range(len(data)):
        broken = bytearray(data)
        broken[at] ^= 0xFF
        path.write_bytes(broken)
        found, faults = some_pages(path)
        lost = [page for page in whole if page not in found]
        assert set(found) <= set(whole)
        assert len(lost) <= 1 or lost == [whole[1], second]
        assert len(faults) <= 1 and (faults or not lost)
        counted += len(faults)
    assert counted > len(data) * 0.9


def test_a_flipped_byte_of_a_plain_file_is_seen_by_the_digest(tmp_path: Path) -> None:
    path = tmp_path / "a.warc"
    data = gzip.decompress(written(tmp_path / "a.warc.gz", *BODIES))
    path.write_bytes(data)
    whole, _ = some_pages(path)
    for at in range(0, len(data), 3):
        broken = bytearray(data)
        broken[at] ^= 0x01
        path.write_bytes(broken)
        found, faults = some_pages(path)
        assert {body for _, body in found} <= {body for _, body in whole}
        assert len(found) >= 3 and len(faults) <= 1
    blocks = [m.start() for m in re.finditer(b"<p>", data)][::5]
    for at in blocks:
        path.write_bytes(data[:at] + b"?" + data[at + 1 :])
        found, faults = some_pages(path)
        assert len(found) < 5 and len(faults) == 1 and "digest" in faults[0]


@pytest.mark.parametrize("packed", [True, False])
def test_of_a_file_cut_anywhere_the_whole_records_are_had(packed: bool, tmp_path: Path) -> None:
    data = written(tmp_path / "b.warc.gz", *BODIES)
    path = tmp_path / "a.warc"
    data = data if packed else gzip.decompress(data)
    path.write_bytes(data)
    whole, _ = some_pages(path)
    ends = record_ends(data)
    for n in sorted({*range(ends[0], len(data), 5), *(n for n in ends[:-1]), len(data) - 1}):
        path.write_bytes(data[:n])
        found, faults = some_pages(path)
        assert found == whole[: sum(end <= n for end in ends) - 1]
        assert len(faults) == (n not in ends)
        assert not faults or "has no end" in faults[0]


@pytest.mark.parametrize("name", ["iana.warc.gz", "aut-example.warc.gz", "IAH-urls-wget.warc.gz"])
@settings(max_examples=6, deadline=None, database=None)
@given(data_=st.data())
def test_of_a_real_file_with_holes_every_record_without_one_is_had(
    name: str, data_: st.DataObject, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    original = data / "warc" / name
    content = original.read_bytes()
    ends = members(content)
    holes = data_.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=6))
    broken = bytearray(content)
    for at in holes:
        broken[at : at + 3] = b"\0\xff\0"
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(broken[: len(content)])
    changed = [i for i in range(len(content)) if broken[i] != content[i]]
    begins = [0, *ends[:-1]]
    hit = {b for b, end in zip(begins, ends, strict=True) if any(b <= i < end for i in changed)}
    faults: list[str] = []
    found = {page.source: page for page in read_pages(path, faults)}
    lost = {page.source for page in read_pages(original)} - set(found)
    assert lost <= {f"{name}:{start}" for start in hit}
    assert len(faults) <= len(hit) and (faults or not lost)
    for page in read_pages(original):
        if page.source in found and not found[page.source].fault:
            assert found[page.source].body == page.body


@pytest.mark.parametrize(
    "rubbish", [b"\0" * 700, b"rubbish" * 99, b"\x1f\x8b\x08", gzip.compress(b"no record", mtime=0)]
)
def test_rubbish_between_records_costs_none(rubbish: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    data = written(path, *BODIES)
    whole, _ = some_pages(path)
    for end in members(data):
        path.write_bytes(data[:end] + rubbish + data[end:])
        found, faults = some_pages(path)
        assert found == whole
        assert len(faults) == (rubbish[:1] != b"\0")  # zeros may stand between members


def test_a_wrong_length_does_not_swallow_what_follows(tmp_path: Path) -> None:
    path = tmp_path / "a.warc"
    data = gzip.decompress(written(tmp_path / "a.warc.gz", *BODIES))
    data = re.sub(rb"WARC-Block-Digest: \S+\r\n", b"", data)
    path.write_bytes(data)
    whole, _ = some_pages(path)
    second = [m.span(1) for m in re.finditer(rb"\r\nContent-Length: (\d+)\r\n\r\nHTTP", data)][1]
    for wrong in (b"1", b"99", b"5000", b"99999999999"):
        path.write_bytes(data[: second[0]] + wrong + data[second[1] :])
        found, faults = some_pages(path)
        assert found == [page for page in whole if page[1] != whole[1][1]], "the revisit goes with it"
        assert len(faults) == 1


def test_an_arc_file_with_a_hole_gives_the_rest(data: Path, tmp_path: Path) -> None:
    content = (data / "warc" / "example.arc").read_bytes()
    head, record = content[: record_ends(content)[0]], content[record_ends(content)[0] :].lstrip(b"\n")
    path = tmp_path / "a.arc"
    path.write_bytes(head + b"\n" + record + b"\n" + record.replace(b" ", b"_", 5) + b"\n" + record)
    found, faults = some_pages(path)
    assert len(found) == 2 and len(faults) == 1
    packed = [gzip.compress(part) for part in (head + b"\n", record, record)]
    path.write_bytes(packed[0] + packed[1] + b"rubbish" + packed[2])
    found, faults = some_pages(path)
    assert len(found) == 2 and len(faults) == 1


def test_a_record_longer_than_any_page_costs_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warc, "LONGEST_BLOCK", 200_000)
    path = tmp_path / "zeros"
    path.write_bytes(b"\0" * 5_000_000 + b"next")
    with path.open("rb") as raw:
        source = warc.Source(raw, 0, zipped=False)
        assert len(source.take(5_000_000, None)) < 1_000_000
        assert source.readline() == b"next"


# What is no archive


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n\n",
        b"<html><p>Hello</p></html>",
        b"Just a line of text.\n" * 100,
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 10,
        gzip.compress(b"Just a line of text.\n", mtime=0),
        gzip.compress(b"", mtime=0),
        b"\x1f\x8b",
        b"\x1f\x8b" + b"\0" * 100,
        b"filedesc:\n",
        b"filedesc://a 0.0.0.0 2008 text/plain -5\nabc\n",
        b"WARC/1.0\r\n\r\n\r\n\r\n",
        b"WARC/1.0\r\nContent-Length: many\r\n\r\n\r\n\r\n",
        b"WARC/1.0\r\nContent-Length: -1\r\n\r\n\r\n\r\n",
        b"WARC/1.0\r\nContent-Length: 999999999999999999999\r\n\r\nabc\r\n\r\n",
        b"WARC/1.0\r\nContent-Length: 3\r\n\r\nabc\r\n\r\nrubbish\r\n",
        b"WARC/1.0\r\n" + b"X" * 3_000_000,
    ],
)
def test_what_is_no_archive_is_refused_in_a_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        list(read_pages(path))
    assert "\n" not in str(caught.value)


def test_a_path_without_a_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.warc.gz"):
        with pytest.raises(InputError, match="there is no file"):
            list(read_pages(path))


@settings(max_examples=150, deadline=None, database=None)
@given(st.sampled_from([b"WARC/1.0\r\n", b"WARC/1.1\n", b"filedesc://", b""]), st.binary(max_size=300))
def test_rubbish_never_gives_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, start: bytes, rest: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "rubbish.warc"
    path.write_bytes(start + rest)
    try:
        list(read_pages(path))
    except WorkbenchError as error:
        assert "\n" not in str(error)


def test_lines_may_end_in_a_bare_newline_and_fields_have_any_case(tmp_path: Path) -> None:
    block = b"HTTP/1.0 200 OK\nContent-Type: text/html\n\n<p>old</p>"
    head = (
        f"WARC/0.18\nwarc-type: Response\nWARC-TARGET-URI: <http://a.org/>\ncontent-length: {len(block)}\n\n"
    )
    path = tmp_path / "a.warc"
    path.write_bytes((head.encode() + block + b"\n\n") * 2)
    found = list(read_pages(path))
    assert [(p.url, p.body, p.refusal) for p in found] == [("http://a.org/", b"<p>old</p>", None)] * 2
    assert [p.source for p in found] == ["a.warc:0", f"a.warc:{len(head) + len(block) + 2}"]
