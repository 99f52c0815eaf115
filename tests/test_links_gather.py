"""Gathering links: every kind of source, what cannot be gathered, the command."""

from __future__ import annotations

import csv
import gzip
import json
import lzma
import random
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from command_line import Run

from gpt2.corpus.links import LinksConfig, canonical, gather, read_links
from gpt2.corpus.links.dumps import Reading
from gpt2.corpus.links.sources import entry, rows_of
from gpt2.errors import BusyError, FormatError, InputError, TooLittleData, WorkbenchError
from gpt2.workspace import Workspace, file_digest


def votes(folder: Path) -> dict[str, int | None]:
    return {link.url: link.votes for link in read_links(folder)}


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# Kinds of sources


def test_a_list_packed_in_xz_is_read(tmp_path: Path) -> None:
    """As the addresses of OpenWebText are published: a line each, in xz."""
    lines = "http://a.org/\nhttps://b.org/x?y=1&amp;z=2\n\n# a remark\nnonsense\nhttp://a.org#part\n"
    gathered = gather([write(tmp_path / "urls.xz", lzma.compress(lines.encode()))], tmp_path / "out")
    assert votes(tmp_path / "out") == {"http://a.org/": None, "https://b.org/x?y=1&z=2": None}
    assert [row["dropped"] for row in gathered.funnel if row["step"] == "address"] == [1]
    assert gathered.drops == [
        {
            "step": "links",
            "reason": "address",
            "count": 1,
            "examples": [{"id": "nonsense", "detail": "votes unknown, in urls.xz", "text": ""}],
        }
    ]


def test_tables_json_lines_and_parquet_say_the_same(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"url": "http://a.org/", "score": 5, "created_utc": 1119552233, "over_18": False},
        {"url": "http://b.org/", "score": 2, "created_utc": 1119552233, "over_18": False},
        {"url": "http://c.org/", "score": 9, "created_utc": 1119552233, "over_18": True},
    ]
    with (tmp_path / "a.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, [*rows[0], "title"])
        table.writeheader()
        table.writerows({**row, "title": 'two\nlines, "quoted"\u2028 and \r\nmore'} for row in rows)
    write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        gather([tmp_path / name], tmp_path / f"{name}.out")
        found = list(read_links(tmp_path / f"{name}.out"))
        assert [(r.url, r.votes, r.created, r.sources) for r in found] == [
            ("http://a.org/", 5, "2005-06-23", (name,))
        ]


@pytest.mark.parametrize(
    ("row", "day", "name", "count"),
    [
        ({"created": "1119552233"}, "2005-06-23", None, None),
        ({"created_utc": "", "created": 1119552233.0}, "2005-06-23", None, None),
        ({"created": 1119657600, "created_utc": 1119657599}, "2005-06-24", None, None),
        ({"permalink": "http://www.reddit.com/r/Art/comments/1/a/"}, None, "art", 0),
        ({"permalink": "/r/Art/", "subreddit": "", "score": "7"}, None, "art", 7),
        ({"permalink": "/r/Art", "subreddit": "Pics"}, None, "pics", 0),
        *[({"permalink": value}, None, None, None) for value in (None, "", "/user/a", ["/r/a"])],
    ],
)
def test_columns_of_reddits_own_interface_are_understood(
    row: dict[str, Any], day: str | None, name: str | None, count: int | None
) -> None:
    made = entry(dict(row))
    assert (made.date, made.community, made.vote_count) == (day, name, count)


def sitemap(urls: Iterable[str], kind: str = "url", root: str = "urlset") -> str:
    places = "".join(f"<{kind}><loc> {url} </loc><lastmod>2020-01-01</lastmod></{kind}>" for url in urls)
    return (
        f'<?xml version="1.0"?><{root} xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{places}</{root}>'
    )


def test_a_sitemap_and_an_index_of_sitemaps_are_read(tmp_path: Path) -> None:
    image = (
        '<image:image xmlns:image="http://www.google.com/schemas/sitemap-image/1.1"><image:loc>http://i.org/'
    )
    page = sitemap(["http://a.org/1?x&amp;y"]).replace("</url>", f"{image}</image:loc></image:image></url>")
    write(tmp_path / "one.xml", page)
    write(
        tmp_path / "two.xml.gz",
        gzip.compress(sitemap([f"http://a.org/{n}" for n in range(2, 2000)]).encode()),
    )
    places = [
        f"https://a.org/maps/{name}" for name in ("one.xml", "two.xml.gz", "index.xml", "three%2f..xml")
    ]
    index = write(tmp_path / "index.xml", sitemap(places, "sitemap", "sitemapindex"))
    gathered = gather([index], tmp_path / "out")
    assert set(votes(tmp_path / "out")) == {
        "http://a.org/1?x&y",
        *(f"http://a.org/{n}" for n in range(2, 2000)),
    }
    assert (
        len(gathered.faults) == 1
        and "names https://a.org/maps/three%2f..xml, but there is no" in gathered.faults[0]
    )


def test_hostile_xml_reaches_nothing(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret", "http://secret.org/")
    entities = f'<!DOCTYPE urlset [<!ENTITY a "http://b.org/"><!ENTITY f SYSTEM "file://{secret}">'
    entities += "".join(f'<!ENTITY x{n} "{f"&x{n - 1};" * 20}">' for n in range(1, 12)) + "]>"
    body = sitemap(["http://a.org/", "&f;", "&x11;"]).replace('<?xml version="1.0"?>', entities)
    gathered = gather([write(tmp_path / "a.xml", body)], tmp_path / "out")
    assert set(votes(tmp_path / "out")) == {"http://a.org/"}
    assert not gathered.faults or "damaged" in gathered.faults[0]
    cut = sitemap(["http://a.org/1", "http://a.org/2"])[:-30]
    gathered = gather([write(tmp_path / "b.xml", cut)], tmp_path / "cut")
    assert set(votes(tmp_path / "cut")) == {"http://a.org/1"} | set(votes(tmp_path / "cut"))
    assert "is damaged or cut short" in gathered.faults[0]
    with pytest.raises(FormatError, match="is no sitemap"):
        gather([write(tmp_path / "c.xml", "<html><body>x</body></html>")], tmp_path / "html")


def test_pages_of_a_warc_and_the_links_out_of_them(data: Path, tmp_path: Path) -> None:
    from gpt2.corpus.fetch.pages import outgoing_links, read_pages

    path = data / "warc" / "iana.warc.gz"
    pages = [page for page in read_pages(path) if not page.refusal]
    gather([path], tmp_path / "pages")
    assert set(votes(tmp_path / "pages")) == {canonical(page.url) for page in pages}
    voters: dict[str, set[str]] = {}
    for page in pages:
        for url in outgoing_links(page) - {canonical(page.url) or ""}:
            voters.setdefault(url, set()).add(canonical(page.url) or "")
    gathered = gather([path], tmp_path / "links", LinksConfig(outgoing=True))
    kept = {url: len(pages) for url, pages in voters.items() if len(pages) >= 3}
    found = votes(tmp_path / "links")
    assert found and found.items() <= kept.items()
    fallen = sum(row["dropped"] for row in gathered.funnel if row["step"] not in ("duplicates", "votes"))
    assert len(kept) - len(found) <= fallen


def test_pages_captured_twice_have_one_vote(data: Path, tmp_path: Path) -> None:
    path = data / "warc" / "iana.warc.gz"
    shutil.copy(path, tmp_path / "again.warc.gz")
    gather([path], tmp_path / "once", LinksConfig(outgoing=True))
    gather([path, tmp_path / "again.warc.gz"], tmp_path / "twice", LinksConfig(outgoing=True))
    assert votes(tmp_path / "once") == votes(tmp_path / "twice")


def test_the_folder_of_a_crawl_stands_for_its_pages(data: Path, tmp_path: Path) -> None:
    shutil.copy(data / "warc" / "iana.warc.gz", tmp_path / "pages-00000.warc.gz")
    write(tmp_path / "fetched.jsonl", '{"url": "http://not.a.link/", "cause": "status 404"}')
    assert [row["name"] for row in gather([tmp_path], tmp_path / "out").sources] == ["pages-00000.warc.gz"]


def test_gathered_links_can_be_gathered_again_with_their_sources(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", '{"url":"http://a.org","score":4,"created_utc":1119552233}')
    write(tmp_path / "b.jsonl", '{"url":"http://a.org/","score":7}\n{"url":"http://b.org","score":3}')
    gather([tmp_path / "a.jsonl"], tmp_path / "a")
    gather([tmp_path / "b.jsonl"], tmp_path / "b")
    gather([tmp_path / "a", tmp_path / "b"], tmp_path / "both")
    gather([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], tmp_path / "at once")
    assert list(read_links(tmp_path / "both")) == list(read_links(tmp_path / "at once"))
    assert (tmp_path / "both/links.parquet").read_bytes() == (tmp_path / "at once/links.parquet").read_bytes()
    assert {r.url: r.sources for r in read_links(tmp_path / "both")}["http://a.org/"] == (
        "a.jsonl",
        "b.jsonl",
    )


def test_votes_that_are_unknown_stay_unknown_when_gathered_again(tmp_path: Path) -> None:
    write(tmp_path / "urls.txt", "http://a.org/\nhttp://b.org/\n")
    write(
        tmp_path / "links.csv",
        "url,score,subreddit\nhttp://c.org/,,\nhttp://d.org/,,pics\nhttp://e.org/,4,\n",
    )
    wanted = {"http://a.org/": None, "http://b.org/": None, "http://c.org/": None, "http://e.org/": 4}
    gather([tmp_path / "urls.txt", tmp_path / "links.csv"], tmp_path / "once")
    gather([tmp_path / "once"], tmp_path / "twice")
    assert votes(tmp_path / "once") == votes(tmp_path / "twice") == wanted


def test_folders_stand_for_their_files_and_files_count_once(tmp_path: Path) -> None:
    folder = tmp_path / "lists"
    (folder / "inner").mkdir(parents=True)
    write(folder / "a", "http://a.org")
    write(folder / "b", "http://b.org")
    write(folder / ".hidden", "http://c.org")
    gathered = gather([folder / "b", folder, tmp_path / "lists" / "a"], tmp_path / "out")
    assert [(row["name"], row["rows"]) for row in gathered.sources] == [("a", 1), ("b", 1)]
    write(folder / "inner" / "a", "http://a.org")
    gathered = gather([folder / "a", folder / "inner"], tmp_path / "out2")
    assert [row["name"] for row in gathered.sources] == [str(folder / "a"), str(folder / "inner/a")]


# What cannot be gathered


def test_what_cannot_be_gathered_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file or folder"):
        gather([tmp_path / "absent"], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="there is no file in"):
        gather([tmp_path / "empty"], tmp_path / "out")
    with pytest.raises(FormatError, match="is binary"):
        gather([write(tmp_path / "binary", b"a\0b")], tmp_path / "out")
    with pytest.raises(TooLittleData, match=r"no link is left of 2 rows \(1 site, 1 votes\)"):
        few = '{"url":"http://a.org","score":2}\n{"url":"http://reddit.com/a","score":9}'
        gather([write(tmp_path / "few", few)], tmp_path / "out")
    with pytest.raises(TooLittleData, match="no link is left of 0 rows"):
        gather([write(tmp_path / "nothing", "\n")], tmp_path / "out")
    mine = write(tmp_path / "links.parquet", b"mine")
    with pytest.raises(InputError, match="was not made here"):
        gather([write(tmp_path / "a", "http://a.org")], tmp_path)
    assert mine.read_bytes() == b"mine"
    with Workspace(tmp_path / "busy"), pytest.raises(BusyError):
        gather([tmp_path / "a"], tmp_path / "busy")


def test_one_empty_or_damaged_file_does_not_stop_the_others(tmp_path: Path) -> None:
    write(tmp_path / "a", "")
    write(tmp_path / "b.gz", gzip.compress(b"http://b.org/\n" * 9)[:-9])
    write(tmp_path / "c", '{"url":"http://c.org"}\n{"url":\n')
    gathered = gather([tmp_path / name for name in ("a", "b.gz", "c")], tmp_path / "out")
    assert set(votes(tmp_path / "out")) >= {"http://c.org/"}
    assert [fault.partition(";")[0] for fault in gathered.faults] == [
        f"there is no link in {tmp_path / 'a'}",
        f"{tmp_path / 'b.gz'} is cut short: what it is packed in has no end",
    ]
    assert [row["bad_lines"] for row in gathered.sources] == [0, 0, 1]


@pytest.mark.parametrize("kind", ["dump", "export", "list", "sitemap", "warc", "parquet"])
def test_a_file_damaged_anywhere_gives_rows_or_a_sentence(kind: str, data: Path, tmp_path: Path) -> None:
    table = pyarrow.Table.from_pylist(
        [{"url": f"http://a.org/{n}", "score": n, "sources": ["a"]} for n in range(99)]
    )
    pyarrow.parquet.write_table(table, tmp_path / "whole.parquet")
    whole = {
        "dump": lzma.decompress((data / "reddit/RS_v2_2005-06.xz").read_bytes())[:50_000],
        "export": (data / "reddit/top/linguistics.csv").read_bytes()[:50_000],
        "list": b"".join(b"http://a.org/%d\n" % n for n in range(900)),
        "sitemap": sitemap(f"http://a.org/{n}" for n in range(300)).encode(),
        "warc": (data / "warc/IAH-urls-wget.warc.gz").read_bytes(),
        "parquet": (tmp_path / "whole.parquet").read_bytes(),
    }[kind]
    numbers = random.Random(kind)
    for turn in range(40):
        damaged = bytearray(gzip.compress(whole, 1) if turn % 3 == 0 else whole)
        for _ in range(numbers.choice([1, 1, 4, 20])):
            place = numbers.randrange(len(damaged))
            damaged[place : place + numbers.choice([0, 1, 1, 100])] = numbers.randbytes(
                numbers.choice([0, 1, 1, 9])
            )
        path = write(
            tmp_path / "damaged", bytes(damaged[: None if turn % 4 else numbers.randrange(len(damaged))])
        )
        for reading in (Reading(path, faults=[]), Reading(path)):
            try:
                for row in rows_of(reading):
                    _ = row.address, row.vote_count, row.date, row.community, row.is_text, row.is_adult
            except WorkbenchError as error:
                assert "\n" not in str(error)


# The command


def test_the_command_prints_the_funnel(run: Run, tmp_path: Path) -> None:
    rows = [
        ("http://a.org", 5),
        ("http://a.org/#b", 7),
        ("http://i.imgur.com/a.png", 90),
        ("http://b.org", 2),
    ]
    write(tmp_path / "a.csv", "url,score\n" + "\n".join(f"{url},{score}" for url, score in rows))
    said = run("corpus", "links", tmp_path / "a.csv", "--out", tmp_path / "out")
    assert said.status == 0
    lines = [line.split() for line in said.out.splitlines()]
    assert ["media", "rows", "4", "1", "3"] in [line[:5] for line in lines]
    assert ["duplicates", "links", "3", "1", "2"] in [line[:5] for line in lines]
    assert ["votes", "links", "2", "1", "1"] in [line[:5] for line in lines]
    again = run("corpus", "links", tmp_path / "a.csv", "--out", tmp_path / "out", "--json", "--quiet")
    told = json.loads(again.out)
    assert again.err == "" and told["count"] == 1
    assert told["drops"][0]["examples"][0]["id"] in [url for url, _ in rows]
    assert votes(tmp_path / "out") == {"http://a.org/": 7}
    digest = file_digest(tmp_path / "out/links.parquet")
    assert run("corpus", "links", tmp_path / "a.csv", "--out", tmp_path / "out2").status == 0
    assert file_digest(tmp_path / "out2/links.parquet") == digest


def test_the_command_refuses_in_a_sentence(run: Run, tmp_path: Path) -> None:
    assert run("corpus", "links", "--out", tmp_path).refused("nothing to gather")
    assert run("corpus", "links", tmp_path / "absent", "--out", tmp_path).refused("absent")
    source = write(tmp_path / "a", "http://a.org")
    assert run("corpus", "links", source, "--out", tmp_path / "o", "--before", "soon").refused("soon")
    for option in ("--blocked-domains", "--blocked-subreddits"):
        assert run("corpus", "links", source, "--out", tmp_path / "o", option, tmp_path / "no").refused(
            "no file"
        )
