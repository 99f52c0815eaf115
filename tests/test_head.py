"""Title, day of publication and canonical address, as pages name them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.corpus.extract.head import day, head_of


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2019-03-04T05:06:07+01:00", "2019-03-04"),
        ("2019-03-04", "2019-03-04"),
        ("20190304", "2019-03-04"),
        ("2019/03/04 10:00", "2019-03-04"),
        ("Mon, 04 Mar 2019 23:30:00 -0500", "2019-03-04"),
        ("2019-02-30", None),
        ("1889-02-03", None),
        ("2019-03", None),
        ("201903045", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_days_are_read_as_they_are_written(text: str, found: str | None) -> None:
    assert day(text) == found


META = '<meta {}="{}" content="{}">'
PUBLISHED = META.format("itemprop", "datePublished", "2016-01-02")
LD = '<script type="application/ld+json">{"@type": "Article", "datePublished": "2017-05-06T01:00Z"}</script>'


@pytest.mark.parametrize(
    ("html", "url", "found"),
    [
        (META.format("property", "article:published_time", "2016-01-02"), None, "2016-01-02"),
        (META.format("name", "DC.date.issued", "2016-01-02"), None, "2016-01-02"),
        (META.format("name", "date", "2015-01-01") + PUBLISHED, None, "2016-01-02"),
        (META.format("property", "article:modified_time", "2016-01-02"), None, None),
        (META.format("name", "date", "soon") + "<body>" + LD, None, "2017-05-06"),
        ('<body><time datetime="2018-02-03" pubdate>today</time>', None, "2018-02-03"),
        ('<body><time datetime="2018-02-03">of a comment</time>', None, None),
        ("<body>", "http://a.org/2014/7/8/title", "2014-07-08"),
        ("<body>", "http://a.org/item/2014/77/8/title", None),
    ],
)  # fmt: skip
def test_the_day_of_publication(html: str, url: str | None, found: str | None) -> None:
    assert head_of("<html><head>" + html, url).date == found


@pytest.mark.parametrize(
    ("href", "found"),
    [
        ("http://m.example.org/a?utm_source=x", "http://m.example.org/a"),
        ("/a#part", "http://www.example.org/a"),
        ("http://other.org/a", None),
        ("javascript:0", None),
        ("", None),
    ],
)
def test_a_page_names_an_address_of_its_own_site_only(href: str, found: str | None) -> None:
    html = f'<link rel="canonical" href="{href}"><body>'
    assert head_of(html, "http://www.example.org/b").link in {
        found,
        None if href else "http://www.example.org/b",
    }


def test_the_title_is_the_heads_and_else_the_one_for_others() -> None:
    assert head_of("<title>A &amp;\n b</title><body><svg><title>no</title></svg>", None).title == "A & b"
    assert head_of(META.format("property", "og:title", "B") + "<body>", None).title == "B"
    assert head_of("<body>", None).title is None


@settings(max_examples=150, deadline=None, database=None)
@given(st.text(max_size=200))
def test_any_head_is_read(text: str) -> None:
    html = f"<title>{text}</title><meta name=date content={text!r}><link rel=canonical href={text!r}>"
    found = head_of(html.encode("utf-8", "replace").decode(), "http://a.org/")
    assert found.date is None or day(found.date) == found.date
