"""Canonical addresses, lists of links, and the rule of three votes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpt2.corpus.fetch.pages import Page, outgoing_links
from gpt2.corpus.links.address import canonical, canonical_by_parts
from gpt2.corpus.links.gathering import Link, count_votes, read_links, voted
from gpt2.errors import FormatError, InputError, TooLittleData

SAME = {
    "http://example.com/": ["HTTP://Example.COM", "http://example.com:80/#top", " http://example.com/\n"],
    "https://example.com/": ["https://user:secret@example.com:443", "https://example.com/?"],
    "http://example.com/a/c": [
        "http://example.com/a/b/../c",
        "http://example.com/%61/./c",
        "http:\n//example.com/a/c",
    ],
    "http://example.com/?a=1&b=": [
        "http://example.com?a=1&b=",
        "http://example.com/?utm_source=x&a=1&b=&UTM_Medium=y&fbclid=z&gclid=",
    ],
    "http://xn--bcher-kva.example/%C3%A9?%C3%BC": [
        "http://bücher.example/é?ü",
        "http://BÜCHER.example/%c3%a9?ü",
    ],
    "http://[2001:db8::1]:8080/": ["http://[2001:DB8:0::1]:8080"],
    "http://example.com:81/": ["http://example.com:081/"],
}

DIFFERENT = [
    *["http://example.com/", "http://example.com/A", "http://example.com/a", "http://example.com/a/"],
    *["http://example.com/a?", "http://example.com/?a", "http://example.com/?b", "http://example.com/?12345"],
    *["http://example.com/?a=", "http://example.com/?a=1&b=2", "http://example.com/?b=2&a=1"],
    *["http://example.com/?ref=2", "http://example.com/?source=a", "http://example.com/?gallery=7"],
    *["http://example.com/?keyword=a", "http://example.com/?id=1", "http://example.com/?q=%E9"],
    *[
        "http://example.com/?q=a+b",
        "http://example.com/?q=a%2Bb",
        "http://example.com/a%2Fb",
        "http://example.com/a/b",
    ],
    *["http://example.com/https://example.org/", "https://example.com/b", "http://example.com:8080/"],
]

NONE = [
    *[
        "",
        " ",
        "#",
        "/a",
        "example.com",
        "//example.com/",
        "javascript:alert(1)",
        "data:text/html,<p>",
        "mailto:a@b.c",
    ],
    *[
        "ftp://example.com/",
        "file:///etc/passwd",
        "http:",
        "http://",
        "http:///x",
        "http:example.com",
        "http://:80/",
    ],
    *[
        "http://[::1",
        "http://::1]/",
        "http://[fe80::1%25eth0]/",
        "http://[nonsense]/",
        "http://example.com:99999/",
    ],
    *[
        "http://example.com:-1/",
        "http://example.com:x/",
        "http://exa mple.com/",
        "http://\0.com/",
        "http://%31.com/",
    ],
    *[
        "http://a\u200bb.com/",
        "http://\ud800.com/",
        "http://a.com/\udfff",
        "http://a.com\\@b.com/",
        "http://<a>.com/",
    ],
    "http://example.com/" + "a" * 8_000,
]


@pytest.mark.parametrize("form", SAME)
def test_addresses_spelled_otherwise_are_one(form: str) -> None:
    assert canonical(form) == form
    for other in SAME[form]:
        assert canonical(other) == form


def test_addresses_of_different_pages_stay_different() -> None:
    forms = [canonical(url) for url in DIFFERENT if url != "http://example.com/a?"]
    assert None not in forms
    assert len(set(forms)) == len(forms)


@pytest.mark.parametrize("url", NONE)
def test_what_is_no_address_of_the_web_is_none(url: str) -> None:
    assert canonical(url) is None


def test_an_address_may_be_relative() -> None:
    base = "http://example.com/a/b?c=1"
    found = [canonical(url, base) for url in ("d", "/d", "../d", "?e", "//example.org", "#f", "", "data:,x")]
    assert found == [
        *[
            "http://example.com/a/d",
            "http://example.com/d",
            "http://example.com/d",
            "http://example.com/a/b?e",
        ],
        *["http://example.org/", base, base, None],
    ]


ADDRESSES = st.builds(
    lambda scheme, host, port, rest: f"{scheme}://{host}{port}{rest}",
    st.sampled_from(["http", "https", "HTTP"]),
    st.sampled_from(["example.com", "[::1]", "bücher.de", "1.2.3.4"]) | st.text(max_size=8),
    st.sampled_from(["", ":80", ":443", ":0", ":8080", ":"]) | st.integers(-5, 70_000).map(lambda n: f":{n}"),
    st.text(st.sampled_from("/?#&=%.;+@: aéZ\\[]{}2fF\ud800\0\n日") | st.characters(), max_size=30),
)


@settings(max_examples=100, deadline=None, database=None)
@given(st.text() | ADDRESSES, st.just("") | ADDRESSES)
@example("http://example.com/%25%32%35?%25", "")
@example("http://example.com/?&&a&", "")
def test_canonical_never_fails_and_twice_is_once(url: str, base: str) -> None:
    form = canonical(url, base)
    if form is not None:
        assert canonical(form) == form
        assert form.isascii() and form.startswith(("http://", "https://")) and not set(form) & set(" #\n\0")


@settings(max_examples=200, deadline=None, database=None)
@given(
    st.text(st.sampled_from("aZ0/?#&=%.;+:-_~,!utm@$")) | ADDRESSES,
    st.sampled_from(["", "http://b.org/x/y?z"]),
)
@example("a.org/?utm_a=1&b=/..", "")
@example("a.org//?a&&utm_b", "http://b.org/")
def test_addresses_that_are_canonical_as_they_stand_are_known_at_a_glance(rest: str, base: str) -> None:
    for url in (rest, f"http://{rest}", f"https://a.org/{rest}"):
        assert canonical(url, base) == canonical_by_parts(url, base)


@settings(max_examples=100, deadline=None, database=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), max_size=4))
def test_any_path_survives_the_form(parts: list[str]) -> None:
    from urllib.parse import quote, unquote, urlsplit

    path = "/" + "/".join(part.replace("/", "_") for part in parts if part.strip(".") and part.strip())
    form = canonical("http://example.com" + quote(path))
    assert form is not None
    assert unquote(urlsplit(form).path) == path


# Lists


def test_a_list_of_addresses_has_no_votes(tmp_path: Path) -> None:
    path = tmp_path / "links.txt"
    path.write_text("\ufeffhttp://a.org\n\n# a remark\nhttp://A.org/#x\r\nnot a link\n  https://b.org/c  \n")
    source = ("links.txt",)
    assert list(read_links(path)) == [
        Link("http://a.org/", sources=source),
        Link("https://b.org/c", sources=source),
    ]
    assert voted(read_links(path)) == list(read_links(path))


def test_a_table_has_its_scores(tmp_path: Path) -> None:
    path = tmp_path / "links.csv"
    path.write_text(
        'id,url,score\n1,http://a.org/,2\n2,"http://b.org/x,y",3\n3,http://c.org,17\n4,http://a.org,5\n'
        "5,http://d.org,\n6,http://e.org\n7,http://f.org,many\n8,http://g.org,nan\n9,http://h.org,3.9\n"
        "10,http://i.org,-4\n11,http://j.org,inf\n12,http://k.org,1e300\n13,,9\n14,no link,9\n"
    )
    votes = {link.url.split("/")[2][0]: link.votes for link in read_links(path)}
    assert votes == {
        "a": 5,
        "b": 3,
        "c": 17,
        "d": None,
        "e": None,
        "f": 0,
        "g": 0,
        "h": 3,
        "i": -4,
        "j": 0,
        "k": 0,
    }
    assert [link.url for link in voted(read_links(path))] == [
        *[
            "http://a.org/",
            "http://b.org/x,y",
            "http://c.org/",
            "http://d.org/",
            "http://e.org/",
            "http://h.org/",
        ]
    ]


def test_json_lines_have_their_scores(tmp_path: Path) -> None:
    scores = [
        3,
        "4",
        " 5 ",
        2.5,
        "x",
        None,
        [1],
        {},
        True,
        float("nan"),
        float("inf"),
        -float("inf"),
        10**300,
    ]
    path = tmp_path / "links.jsonl"
    rows = [json.dumps({"url": f"http://a.org/{i}", "score": score}) for i, score in enumerate(scores)]
    path.write_text("\n".join([*rows, '{"url": "http://b.org"}', '{"other": 1}', "[1]", '{"url": 7}', ""]))
    found = list(read_links(path))
    assert [link.votes for link in found] == [3, 4, 5, 2, 0, None, 0, 0, 0, 0, 0, 0, 0, None]
    assert [link.votes for link in voted(found)] == [3, 4, 5, None, None], (
        "without a score there is nothing to refuse it by"
    )


def test_votes_go_before_scores_and_the_best_counts(tmp_path: Path) -> None:
    path = tmp_path / "links.jsonl"
    path.write_text(
        '{"url": "http://a.org", "votes": 1, "score": 9}\n{"url": "http://a.org/#b"}\n{"url": "http://b.org"}\n'
        '{"url": "http://b.org", "score": -2}\n{"url": "http://a.org/", "votes": 4}\n'
    )
    assert [(link.url, link.votes) for link in read_links(path)] == [
        ("http://a.org/", 4),
        ("http://b.org/", -2),
    ]


def test_separators_of_lines_inside_values_do_not_cut_them(tmp_path: Path) -> None:
    row = json.dumps(
        {"title": "one\u2028two\x85three", "url": "http://a.org/", "score": 3}, ensure_ascii=False
    )
    (tmp_path / "a.jsonl").write_text(row + "\n")
    (tmp_path / "b.csv").write_text('title,url,score\n"one\u2028two\nthree\x0cfour",http://a.org/,3\n')
    for name in ("a.jsonl", "b.csv"):
        assert list(read_links(tmp_path / name)) == [Link("http://a.org/", 3, (name,))]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"url": "http://a.org"}\n{"url": ', "line 2 of .* is not JSON"),
        (b'{"url": ' + b"[" * 100_000 + b"}", "line 1 of .* is not JSON"),
        (b'{"score": ' + b"1" * 5_000 + b"}", "line 1 of .* is not JSON"),
        (b"url,title\nhttp://a.org," + b"x" * 200_000, "is not CSV after line 1"),
        (b"http://a.org/\n\0\0", "is binary"),
        (b"http://a.org/\xe9", "is not UTF-8"),
    ],
)
def test_lists_that_cannot_be_read_are_refused_in_a_sentence(
    content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "links"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message) as caught:
        list(read_links(path))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "content", ["", "\n\n", "no links here\n", "url,score\n", '{"a": 1}\n', "[1, 2]", "url\n\n"]
)
def test_a_list_without_links_is_too_little(content: str, tmp_path: Path) -> None:
    path = tmp_path / "links"
    path.write_text(content)
    with pytest.raises(TooLittleData, match="there is no link in"):
        list(read_links(path))


def test_a_list_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match="there is no file"):
            list(read_links(path))


# Votes within a site


def test_votes_are_distinct_other_pages() -> None:
    outgoing = {
        "index": ["a", "b", "c", "index"],
        "a": ["b", "b", "b", "a"],
        "b": ["a", "c"],
        "c": ["a", "b", "elsewhere"],
    }
    assert count_votes(outgoing) == {"a": 3, "b": 3, "c": 2, "elsewhere": 1}
    assert count_votes(outgoing, indexes=["index"]) == {"a": 2, "b": 2, "c": 1, "elsewhere": 1}


def test_the_rule_of_votes_has_its_border() -> None:
    links = [Link(f"http://a.org/{n}", n) for n in range(6)]
    assert [link.votes for link in voted(links)] == [3, 4, 5]
    assert [link.votes for link in voted(links, 5)] == [5]


# Links on a page


def links(html: str, url: str = "http://a.org/b/c") -> set[str]:
    return outgoing_links(Page(url, html.encode(errors="surrogatepass"), charset="utf-8"))


def test_links_are_canonical_and_distinct() -> None:
    html = """<a href="d">1</a> <a href="d#e">2</a> <a href=" D ">3</a> <a href="/d?x=1&amp;utm_source=y">4</a>
    <a href="//b.org">5</a> <a href="mailto:x@y.z">6</a> <a name="f">7</a> <a href="">8</a> <a href="#g">9</a>"""
    wanted = [
        "http://a.org/b/d",
        "http://a.org/b/D",
        "http://a.org/d?x=1",
        "http://b.org/",
        "http://a.org/b/c",
    ]
    assert links(html) == set(wanted)


def test_links_are_relative_to_the_pages_base() -> None:
    assert links('<base href="/x/"><a href="y">1</a>') == {"http://a.org/x/y"}
    assert links('<base href="http://[broken"><a href="y">1</a>') == {"http://a.org/b/y"}


@pytest.mark.parametrize(
    "html",
    [
        *["", " \n", "\0\0\0", "<!-- -->", "<", "\ufeff", "\ud800", "<a href='http://[::1'>"],
        *["<div>" * 100_000, "<a>" * 100_000, "&" * 100_000, "<" * 100_000],
    ],
    ids=range(12),
)
def test_a_page_without_links_has_none(html: str) -> None:
    assert links(html) == set()


def test_many_links_take_no_more_than_their_time() -> None:
    html = "".join(f'<a href="/{i % 1000}#{i}">x</a>' for i in range(200_000))
    assert len(links(html)) == 1000
