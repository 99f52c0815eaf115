"""Main text against pages marked by hand, and pages made to break extraction."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpt2.corpus
from gpt2.corpus.documents import Document, read_documents, write_documents
from gpt2.corpus.extract.methods import Method, extract, language_of, tidy
from gpt2.errors import ConfigError

METHODS: list[Method] = ["default", "fast", "blocks"]
PROSE = [
    "It was a bright morning, and the boats had come in early with more fish than anyone could remember.",
    "Nobody in the village spoke of the storm, though all had heard it come over the hills in the night.",
    "By noon the market was full, and children ran between the stalls with bread and apples in their hands.",
]
PARAGRAPHS = "".join(f"<p>{text}</p>" for text in PROSE)
PAGE = f"""<html><head><title>Boats &amp; storms</title><style>p {{ color: red }}</style></head><body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/about">About</a></li></ul></nav>
<article><h1>Boats and storms</h1>{PARAGRAPHS}</article>
<footer><a href="/terms">Terms of use</a></footer><script>var tracking = "on";</script></body></html>"""


@pytest.mark.parametrize("method", METHODS)
def test_the_main_text_is_taken_and_its_frame_is_not(method: Method) -> None:
    found = extract(PAGE, "http://example.org/boats", method)
    assert found is not None
    assert all(text in found.text for text in PROSE)
    assert not any(word in found.text for word in ("Home", "Terms of use", "tracking", "color"))
    assert (found.title, found.language, found.url) == ("Boats & storms", "en", "http://example.org/boats")


def test_it_is_a_public_name() -> None:
    assert gpt2.corpus.extract is extract
    import gpt2 as package

    assert package.extract is extract


def test_another_method_is_refused() -> None:
    with pytest.raises(ConfigError, match="'quick'; choose default, fast"):
        extract(PAGE, method="quick")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "html",
    ["", " \n", b"", b"\0\0", "<!-- -->", "<!doctype html>", "<title>Only</title>", "<p></p>", "<frameset>"],
)
def test_a_page_without_text_has_no_document(html: str | bytes, method: Method) -> None:
    assert extract(html, method=method) is None


DEEP = 20_000
HOSTILE = {
    "deep div": "<div>" * 3_000 + PARAGRAPHS,  # resiliparse's time grows with the square of the depth
    "deep b": "<b>" * DEEP + PARAGRAPHS,
    "deep table": "<table><tr><td>" * DEEP + PARAGRAPHS,
    "deep list": "<ul><li>" * DEEP + PARAGRAPHS,
    "deep form": "<form>" * DEEP + PARAGRAPHS,
    "deep quote": "<blockquote>" * DEEP + PARAGRAPHS,
    "deep svg": "<svg><g>" * DEEP + PARAGRAPHS,
    "unclosed": "<p>" * DEEP + PARAGRAPHS,
    "closing": "</div></p></b>" * DEEP + PARAGRAPHS,
    "many attributes": "<p " + " ".join(f"a{i}=1" for i in range(5_000)) + ">" + PARAGRAPHS,
    "long attribute": "<p title='" + "x" * 1_000_000 + "'>" + PARAGRAPHS,
    "brackets": "<" * 300_000 + PARAGRAPHS,
    "entities": "&amp;&#0;&#xD800;&#x110000;&nonsense;" * 10_000 + PARAGRAPHS,
    "comment": "<!--" * 50_000 + PARAGRAPHS,
    "one line": f"<p>{'word ' * 200_000}</p>",
    "one word": f"<p>{'x' * 1_000_000}</p>",
    "blanks": f"<pre>a{' ' * 500_000}{chr(10) * 500_000}b</pre>" + PARAGRAPHS,
    "many rows": "<table>" + "<tr><td>cell of a table</td><td>1</td></tr>" * 5_000 + "</table>",
    "NULs": "\0" * 1_000 + PARAGRAPHS.replace(" ", "\0"),
    "surrogates": "\ud800" + PARAGRAPHS + "<title>\udfff</title><p>\udc80 and more of it follows here</p>",
    "XML": "<?xml version='1.0' encoding='utf-16'?><!DOCTYPE x [<!ENTITY a 'a'>]><html>" + PARAGRAPHS,
    "encoding": "<meta charset='utf-16'><meta http-equiv=content-type content='text/html; charset=x'>"
    + PARAGRAPHS,
    "script": "<script>" + "x" * 500_000 + PARAGRAPHS,
    "right to left": "<p dir=rtl>\u202e" + "שלום עולם " * 50 + "</p>",
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", HOSTILE)
def test_pages_made_to_break_extraction_do_not(name: str, method: Method, tmp_path: Path) -> None:
    found = extract(HOSTILE[name], method=method)
    if found is not None:
        assert found.text.strip()
        write_documents(tmp_path / "documents.parquet", [found])
        assert [d.text for d in read_documents(tmp_path / "documents.parquet")] == [found.text]


TAGS = st.sampled_from(
    ["p", "div", "article", "a href=x", "table", "td", "script", "!--", "/p", "/div", "/", "h1", "pre"]
)
MARKUP = st.lists(st.builds("<{}>".format, TAGS) | st.text(st.characters(), max_size=12), max_size=25).map(
    "".join
)


@settings(max_examples=60, deadline=None, database=None)
@given(MARKUP, st.sampled_from(METHODS))
def test_any_markup_gives_a_document_or_none(html: str, method: Method) -> None:
    found = extract(html + PARAGRAPHS, "http://example.org/", method)
    assert found is None or isinstance(found, Document)
    if found:
        found.text.encode()
        (found.title or "").encode()


@settings(max_examples=40, deadline=None, database=None)
@given(st.binary(max_size=200), st.sampled_from(METHODS))
def test_any_bytes_give_a_document_or_none(html: bytes, method: Method) -> None:
    found = extract(html, method=method)
    assert found is None or found.text.encode()


def test_bytes_are_decoded_by_what_the_page_says() -> None:
    html = PAGE.replace("<head>", "<head><meta charset=iso-8859-1>").replace("boats", "böats")
    found = extract(html.encode("iso-8859-1"))
    assert found is not None and "böats" in found.text


def test_utf_8_is_taken_for_it_without_a_guess() -> None:
    html = PAGE.replace("<head>", "<head><style>q::after { content: '•' }</style>" + "<!-- -->" * 20_000)
    found = extract(html.replace("boats", "böats").encode(), method="fast")
    assert found is not None and "böats" in found.text
    found = extract(
        "<p>ボートは早く戻った。村では誰も嵐の話をしなかった。</p>".encode("iso-2022-jp"), method="fast"
    )
    assert found is None or "\x1b" not in found.text


def test_blanks_are_tidied() -> None:
    assert tidy("\n\na\xa0b  \n\n\n\n c\t\n\n") == "a b\n\n c"


def test_languages_are_told_apart() -> None:
    assert language_of(" ".join(PROSE)) == "en"
    assert (
        language_of("Die Boote waren früh gekommen, und niemand sprach vom Sturm der vergangenen Nacht.")
        == "de"
    )
    assert language_of("") is None
