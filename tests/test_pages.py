"""WARC and ARC files: read whole, refused when cut anywhere, and written so that other tools agree."""

from __future__ import annotations

import gzip
import io
import os
import re
import zlib
from pathlib import Path

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from warcio.archiveiterator import ArchiveIterator

from gpt2.corpus import pages
from gpt2.corpus.pages import Page, WarcWriter, decode_html, http_page, read_pages
from gpt2.errors import FormatError, InputError, WorkbenchError

ARCHIVES = [
    *["IAH-urls-wget.warc.gz", "aut-example.warc.gz", "cc.warc.gz", "example-iana.org-chunked.warc"],
    *["example.arc", "example.warc.gz", "iana.warc.gz", "whirlwind.warc.gz", "whirlwind.warc.wet.gz"],
]


def written(path: Path, *bodies: str) -> bytes:
    """A WARC file of ours with these pages."""
    writer = WarcWriter(path)
    for i, body in enumerate(bodies):
        writer.write(Page(f"http://example.org/{i}", body.encode()), [("Content-Type", "text/html")], "OK")
    writer.close()
    return path.read_bytes()


def members(data: bytes) -> list[int]:
    """Where each member of a gzip file ends."""
    ends, at = [], 0
    while at < len(data):
        inflate = zlib.decompressobj(31)
        inflate.decompress(data[at:])
        at = len(data) - len(inflate.unused_data)
        ends.append(at)
    return ends


def record_ends(data: bytes) -> list[int]:
    """Where each record of a WARC or ARC file ends."""
    if data.startswith(b"\x1f\x8b"):
        return members(data)
    if data.startswith(b"WARC/"):
        return [*[m.start() for m in re.finditer(rb"WARC/1\.\d\r\nWARC-", data)][1:], len(data)]
    heads = re.finditer(rb"^(filedesc|https?)://\S+ .* (\d+)\n", data, re.M)
    return [m.end() + int(m[2]) for m in heads]


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
    assert [(page.url, page.status, page.body) for page in read_pages(path)] == wanted


def test_real_files_read_as_fastwarc_reads_them(data: Path) -> None:
    from fastwarc.warc import ArchiveIterator as FastIterator
    from fastwarc.warc import WarcRecordType

    path = data / "warc" / "aut-example.warc.gz"
    records = FastIterator(str(path), record_types=WarcRecordType.response, auto_decode="all")
    wanted = [(r.headers["WARC-Target-URI"], r.reader.read()) for r in records]
    found = [(page.url, page.body) for page in read_pages(path)]
    assert found == [(url, body) for url, body in wanted if url.startswith("http")]


def test_a_file_packed_as_one_member_reads_the_same(data: Path, tmp_path: Path) -> None:
    for name in ("example.warc.gz", "example.arc"):
        original = data / "warc" / name
        content = original.read_bytes()
        again = tmp_path / f"{name}.packed"
        again.write_bytes(gzip.compress(gzip.decompress(content) if name.endswith("gz") else content))
        assert [p.body for p in read_pages(again)] == [p.body for p in read_pages(original)]


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


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n\n",
        b"<html><p>Hello</p></html>",
        b"Just a line of text.\n" * 100,
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 10,
        gzip.compress(b"Just a line of text.\n"),
        gzip.compress(b""),
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
    assert [p.source for p in found] == ["a.warc:1", "a.warc:2"]


# Bodies


def response(body: bytes, **headers: str) -> Page:
    named = {"Content-Type": "text/html"} | {k.replace("_", "-"): v for k, v in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return http_page(f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode() + body, "http://a.org/", "a.warc:1")


HTML = b"<p>Plain words.</p>" * 40
RAW = zlib.compressobj(wbits=-15)
PACKED = {
    "gzip": gzip.compress(HTML),
    "x-gzip": gzip.compress(HTML),
    "GZip": gzip.compress(HTML),
    "deflate": zlib.compress(HTML),
    " deflate ": RAW.compress(HTML) + RAW.flush(),
    "br": brotli.compress(HTML),
    "identity": HTML,
    "utf-8": HTML,
    "": HTML,
}


@pytest.mark.parametrize("coding", PACKED)
def test_content_encodings_are_undone(coding: str) -> None:
    page = response(PACKED[coding], Content_Encoding=coding)
    assert page.body == HTML
    assert page.refusal is None


def test_chunks_are_undone_and_may_be_absent() -> None:
    packed = gzip.compress(HTML)
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in (packed[:7], packed[7:])) + b"0\r\n\r\n"
    assert response(chunks, Content_Encoding="gzip", Transfer_Encoding="chunked").body == HTML
    assert response(packed, Content_Encoding="gzip", Transfer_Encoding="chunked").body == HTML


def test_of_a_damaged_body_what_comes_before_is_kept() -> None:
    noise = bytes(range(256)) * 2_000
    packed = gzip.compress(noise)
    cut = response(packed[: len(packed) * 3 // 4], Content_Encoding="gzip").body
    assert noise.startswith(cut) and len(cut) > len(noise) // 2
    assert response(HTML, Content_Encoding="gzip").body == HTML, "the header is wrong, the page is not"
    assert response(b"\x1f\x8b\x08 and no more", Content_Encoding="gzip").refusal == "empty"


def test_an_encoding_we_cannot_undo_is_named() -> None:
    assert response(b"(\xb5/\xfd", Content_Encoding="zstd").refusal == "encoding zstd"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", ""])
def test_a_bomb_is_refused_before_it_is_unpacked(coding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "LONGEST_BODY", 200_000)
    content = b"<p>" + b"\0" * 30_000_000
    pack = {"gzip": gzip.compress, "deflate": zlib.compress, "br": lambda b: brotli.compress(b, quality=1)}
    packed = pack.get(coding, bytes)(content)
    assert response(packed, Content_Encoding=coding).refusal == "longer than 200,000 bytes"
    if coding:
        assert len(pages.unpacked(packed, coding)[0]) <= 200_000 + 2 * pages.PIECE + 200_000


def test_a_record_longer_than_any_page_costs_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "LONGEST_BODY", 200_000)
    stream = io.BytesIO(b"\0" * 5_000_000 + b"next")
    assert len(pages.take(stream, 5_000_000)) < 1_000_000
    assert stream.read() == b"next"


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\nx",
        b"ICY 200 OK\r\n\r\nhi",
        b"HTTP/1.1 -20 OK\r\n\r\nx",
        b"\xff\xfe\x00" * 100,
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Type: \xff\xfe; charset=\xff\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc",
    ],
)
def test_odd_responses_are_pages_that_may_be_refused(block: bytes) -> None:
    page = http_page(block, "http://a.org/", "a.warc:1")
    assert page.refusal
    page.text.encode()


# Text


@pytest.mark.parametrize(
    "charset",
    [
        *[
            "utf-8",
            "UTF8",
            "latin-1",
            "x-user-defined",
            "replacement",
            "iso-8859-8-i",
            "utf-7",
            "utf-32",
            "hex",
        ],
        *["nonsense", "", "\0", "\ud800", "é", "a" * 100_000, "rot13", "zip", "idna", "undefined", "mbcs"],
        *["unicode_escape", "utf-16", "csunicode", "gb18030", "euc-jp", "iso-2022-jp", "hz-gb-2312"],
    ],
)
def test_any_charset_gives_text_that_can_be_written(charset: str) -> None:
    for data in (b"caf\xe9 \xff\xfe\0\xed\xa0\x80 \x1b$B", b"", b"\xd8", "日本語".encode("shift-jis")):
        Page("http://a.org/", data, charset=charset).text.encode()


def test_the_charset_is_the_servers_or_the_pages_own_or_guessed() -> None:
    text = "<p>Größe, Mädchen, schön: ein paar Wörter mit Umlauten.</p>"
    assert decode_html(text.encode("iso-8859-1"), "iso-8859-1") == text
    named = "<meta charset=iso-8859-1>" + text
    assert decode_html(named.encode("iso-8859-1")) == named
    assert decode_html(text.encode("utf-8")) == text
    assert decode_html(text.encode("utf-16"), "utf-8") == text, "a byte-order mark outdoes the server"
    assert decode_html(text.encode("utf-8-sig"), "utf-8") == text


# Writing


def test_writing_goes_on_after_the_part_that_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    writer = WarcWriter(path)
    ends = [writer.write(Page(f"http://a.org/{i}", b"<p>x"), [], "OK") for i in range(3)]
    writer.close()
    assert path.stat().st_size == ends[-1]
    writer = WarcWriter(path, keep=ends[0])
    writer.write(Page("http://a.org/new", b"<p>y"), [], "OK")
    writer.close()
    assert [page.url for page in read_pages(path)] == ["http://a.org/0", "http://a.org/new"]


@settings(max_examples=60, deadline=None, database=None)
@given(
    bodies=st.lists(st.binary(max_size=200), min_size=1, max_size=4),
    status=st.integers(200, 599),
    media=st.sampled_from(
        ["text/html", "text/html; charset=latin-1", "", "image/png", "text/html; charset=é"]
    ),
    reason=st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, bodies: list[bytes], status: int, media: str, reason: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "written.warc.gz"
    writer = WarcWriter(path)
    for i, body in enumerate(bodies):
        headers = [("Content-Type", media), ("Content-Length", str(len(body)))]
        end = writer.write(Page(f"http://a.org/{i}", body, status), headers, reason)
    writer.close()
    assert path.stat().st_size == end
    found = list(read_pages(path))
    assert [(p.url, p.body, p.status) for p in found] == [
        (f"http://a.org/{i}", body, status) for i, body in enumerate(bodies)
    ]
    with path.open("rb") as stream:
        records = [r for r in ArchiveIterator(stream, check_digests="raise") if r.rec_type == "response"]
    assert len(records) == len(bodies)
