"""Pages out of records: encodings undone, bombs refused, text in any charset."""

from __future__ import annotations

import gzip
import zlib

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.corpus.fetch import pages
from gpt2.corpus.fetch.pages import Page, Unpacking, decode_html, http_page

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
    assert (
        response(b"\x1f\x8b\x08 and no more", Content_Encoding="gzip").refusal == "encoding gzip is damaged"
    )


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


def test_servers_do_not_choose_the_reasons() -> None:
    types = [
        "application/pdf",
        "image/png",
        "",
        *(f"application/x-{i}" for i in range(99)),
        "image/" + "x" * 99,
    ]
    reasons = {Page("http://a.org/", b"x", content_type=kind).refusal for kind in types}
    assert reasons == {"type application/pdf", "type image/png", "type unknown", "another type"}
    reasons = {
        Page("http://a.org/", b"x", status).refusal for status in (100, 404, 599, 0, 99, 600, 999, 10**9)
    }
    assert reasons == {"status 100", "status 404", "status 599", "another status"}


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


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
@settings(max_examples=40, deadline=None, database=None)
@given(cuts=st.lists(st.integers(1, 60), max_size=8))
def test_a_body_that_comes_in_pieces_is_the_same(coding: str, cuts: list[int]) -> None:
    unpacking, packed = Unpacking(coding, 10_000), PACKED[coding]
    for cut in cuts:
        unpacking.add(packed[:cut])
        packed = packed[cut:]
    unpacking.add(packed)
    assert unpacking.result() == (HTML, None)


def test_a_gzip_body_of_several_members_is_whole() -> None:
    packed = gzip.compress(HTML[:100]) + gzip.compress(HTML[100:])
    assert response(packed, Content_Encoding="gzip").body == HTML


def test_a_piece_of_a_bomb_gives_no_more_than_the_limit() -> None:
    unpacking = Unpacking("gzip", 1_000)
    unpacking.add(gzip.compress(b"\0" * 10_000_000))
    assert unpacking.full and len(unpacking.body) == 1_001
