"""The rules of links on real rows: two months of submissions and the top posts of 15 subreddits.

Each count before and after a rule is held against the same count by duckdb, which reads the files itself.
"""

from __future__ import annotations

import json
import lzma
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest

from gpt2.corpus.links import Gathered, LinksConfig, canonical, gather, read_links
from gpt2.corpus.links.blocklist import MEDIA_ENDINGS, MEDIA_HOSTS, REDDIT, host_of, under, wikipedia
from gpt2.corpus.links.sift import Sieve, rules_of
from gpt2.corpus.links.sources import COLUMNS, entry
from gpt2.errors import ConfigError, FormatError, InputError

SUBREDDITS = "# no fiction\nr/Books\n/r/worldnews/\nnone_of_these\n\n  ART  # as it is written\n"
DOMAINS = "nytimes.com\n*.BBC.co.uk # with its subdomains\nhttp://www.wired.com/\nbücher.example\n"
ALL_RULES = {"after": "2005-07-01", "before": "2013-01-01", "minimum_votes": 100}


def ends_with(hosts: Any) -> str:
    """SQL: whether the host is one of these or below one."""
    return f"regexp_matches(host, '(^|\\.)({'|'.join(sorted(hosts)).replace('.', chr(92) + '.')})$')"


@pytest.fixture(scope="module")
def real(data: Path) -> list[Path]:
    """Two dumps and a folder of 15 exports."""
    return [*sorted((data / "reddit").glob("RS_*.xz")), data / "reddit" / "top"]


@pytest.fixture(scope="module")
def counted(real: list[Path], tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    """A table of all real rows as duckdb reads them: what their address is made of, and their marks."""
    months = tmp_path_factory.mktemp("months") / "rows.json"
    months.write_bytes(b"".join(lzma.decompress(path.read_bytes()) for path in real[:2]))
    base = duckdb.connect()
    base.execute(f"""
        create table given as
        select url, score::bigint score, over_18::bool adult, is_self::bool self, lower(subreddit) subreddit,
               created_utc::bigint made from read_json('{months}', format='newline_delimited')
        union all
        select url, score::bigint, over_18::bool, is_self::bool,
               lower(regexp_extract(permalink, '/r/([^/]+)', 1)), created_utc::double::bigint
        from read_csv('{real[2]}/*.csv', header=true, all_varchar=true, delim=',', quote='"', escape='"',
                      strict_mode=false)""")
    base.execute("""
        create table rows as
        with plain as (select *, regexp_replace(replace(url, '&amp;', '&'), '#.*', '') link from given),
        parts as (select *, regexp_extract(link, '^(?i)(https?)://([^/?]+)([^?]*)\\??(.*)$', ['s', 'h', 'p', 'q']) x
                  from plain)
        select *, regexp_replace(lower(x.h), ':80$', '') host,
            strftime(to_timestamp(made) at time zone 'UTC', '%Y-%m-%d') as day,
            list_filter(string_split(x.q, '&'), lambda p: not regexp_matches(p, '^(utm_|fbclid|gclid)')) as query,
            url_decode(lower(x.s) || '://' || host || if(x.p = '', '/', x.p) || '?' ||
            coalesce(list_aggregate(query, 'string_agg', '&'), '')) as page
        from parts""")
    return base


def independent(
    base: duckdb.DuckDBPyConnection, cases: dict[str, str], votes: int
) -> list[tuple[str, int, int]]:
    """Rule, how many came and how many fell to it, by duckdb."""
    when = " ".join(f"when {test} then '{rule}'" for rule, test in cases.items())
    base.execute(f"create or replace table judged as select *, case {when} end as rule from rows")
    fallen = dict(
        base.execute("select rule, count(*) from judged where rule is not null group by rule").fetchall()
    )
    best = "select max(score) best from judged where rule is null group by page"
    pages, few = (
        base.execute(f"select count(*), count(*) filter (best < {votes}) from ({best})").fetchone() or ()
    )
    rows = base.execute("select count(*) from rows").fetchone()
    assert rows
    counts, left = [], rows[0]
    for rule in cases:
        counts.append((rule, left, fallen.get(rule, 0)))
        left -= fallen.get(rule, 0)
    return [*counts, ("duplicates", left, left - pages), ("votes", pages, few)]


MEDIA = f"regexp_matches(x.p, '(?i)[^/]\\.({'|'.join(MEDIA_ENDINGS)})$') or {ends_with(MEDIA_HOSTS)}"
USUAL = {
    "self": "self",
    "address": "not regexp_matches(link, '^(?i)https?://[^/]')",
    "site": ends_with(REDDIT),
    "over 18": "adult",
    "media": MEDIA,
    "wikipedia": ends_with(wikipedia()),
}


def funnel(gathered: Gathered) -> list[tuple[str, int, int]]:
    return [(row["step"], row["came"], row["dropped"]) for row in gathered.funnel]


def test_the_usual_rules_count_what_duckdb_counts(
    real: list[Path], counted: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    gathered = gather(real, tmp_path)
    assert funnel(gathered) == independent(counted, USUAL, 3)
    assert gathered.funnel[0]["came"] == 16_182
    assert gathered.count == gathered.funnel[-1]["count"] == len(list(read_links(tmp_path)))
    assert gathered.faults == [] and {row["bad_lines"] for row in gathered.sources} == {0}
    assert len(gathered.sources) == 17


def test_all_rules_together_count_what_duckdb_counts(
    real: list[Path], counted: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    (tmp_path / "subreddits.txt").write_text(SUBREDDITS)
    (tmp_path / "domains.txt").write_text(DOMAINS)
    lists = {f"blocked_{name}": tmp_path / f"{name}.txt" for name in ("subreddits", "domains")}
    gathered = gather(real, tmp_path / "links", LinksConfig(**ALL_RULES, **lists))
    cases = {
        **{rule: USUAL[rule] for rule in ("self", "address", "site", "over 18")},
        "subreddit": "subreddit in ('books', 'worldnews', 'art')",
        "date": "not day between '2005-07-01' and '2012-12-31'",
        **{rule: USUAL[rule] for rule in ("media", "wikipedia")},
        "domain": ends_with(["nytimes.com", "bbc.co.uk", "www.wired.com"]),
    }
    assert funnel(gathered) == independent(counted, cases, 100)
    assert all(dropped for rule, _, dropped in funnel(gathered) if rule != "address")


def test_votes_and_days_are_duckdbs_as_well(
    real: list[Path], counted: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    gather(real, tmp_path)
    independent(counted, USUAL, 3)
    best = "select max(score), min(day) from judged where rule is null group by page having max(score) >= 3"
    ours = Counter((link.votes, link.created) for link in read_links(tmp_path))
    assert ours == Counter(counted.execute(best).fetchall())


# Each rule on real rows


@pytest.fixture(scope="module")
def rows(real: list[Path]) -> list[dict[str, Any]]:
    """All real rows, as Python's own readers give them."""
    import csv

    found: list[dict[str, Any]] = []
    for path in real[:2]:
        found += [json.loads(line) for line in lzma.decompress(path.read_bytes()).splitlines()]
    for path in sorted(real[2].glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as stream:
            found += list(csv.DictReader(stream))
    return found


def fallen(rows: list[dict[str, Any]], rule: str, config: LinksConfig | None = None) -> list[dict[str, Any]]:
    """The rows that fall to a rule when it is the only one."""
    config = config or LinksConfig()
    sieve = Sieve([r for r in rules_of(config) if r.name == rule])
    made = [entry({name: row[name] for name in COLUMNS if name in row}) for row in rows]
    return [
        row
        for row, one in zip(rows, made, strict=True)
        if not sieve.takes(one, canonical(one.address) or "", "rows")
    ]


def test_posts_of_text_are_out(rows: list[dict[str, Any]]) -> None:
    found = fallen(rows, "self")
    assert len(found) == 1009
    assert {row["is_self"] for row in found} == {"True"}
    assert all(row["domain"].startswith("self.") and "reddit.com/r/" in row["url"] for row in found)


def test_reddit_itself_is_out_and_sites_about_it_are_not(rows: list[dict[str, Any]]) -> None:
    found = fallen(rows, "site")
    domains = {row["domain"] for row in found if row["is_self"] != "True"}
    assert {"reddit.com", "blog.reddit.com", "redd.it", "programming.reddit.com"} <= domains
    about = {"redditgifts.com", "codereddit.com", "redditenhancementsuite.com", "redditsnapshot.sweyla.com"}
    assert about <= {row["domain"] for row in rows} and not about & domains


def test_what_is_marked_for_adults_is_out_by_default(rows: list[dict[str, Any]]) -> None:
    found = fallen(rows, "over 18")
    assert len(found) == 108 and all(row["over_18"] == "True" for row in found)
    assert "over 18" not in [rule.name for rule in rules_of(LinksConfig(over_18=True))]


def test_pictures_films_and_sound_are_out(rows: list[dict[str, Any]]) -> None:
    found = Counter(row["domain"] for row in fallen(rows, "media"))
    lacking = [host for host in ("i.imgur.com", "youtube.com", "youtu.be", "vimeo.com", "upload.wikimedia.org")
               if found[host] != sum(row["domain"] == host for row in rows)]  # fmt: skip
    assert not lacking
    for host in ("nytimes.com", "guardian.co.uk", "wikileaks.org", "en.wikipedia.org", "github.com"):
        articles = [
            row["url"] for row in rows if row["domain"] == host and not row["url"].endswith((".pdf", ".jpg"))
        ]
        assert articles and found[host] == sum(row["domain"] == host for row in rows) - len(articles)


def test_few_of_the_hosts_are_among_openais_top_domains(data: Path) -> None:
    lines = (data / "webtext" / "domains.txt").read_text().splitlines()
    names = {line.split()[-1] for line in lines}
    hosts = {host for host in MEDIA_HOSTS | REDDIT | wikipedia() if host.count(".") == 1}
    left_in = {host.partition(".")[0] for host in hosts} & names
    assert left_in == {"flic", "ibb", "postimg", "prnt", "vid", "vidble", "wikiwand"}


def test_wikipedia_is_out_in_every_language_and_its_sisters_are_not(rows: list[dict[str, Any]]) -> None:
    found = Counter(row["domain"] for row in fallen(rows, "wikipedia"))
    assert {"en.wikipedia.org", "simple.wikipedia.org", "fr.wikipedia.org", "wikipedia.org"} <= set(found)
    assert found["en.wikipedia.org"] == sum(row["domain"] == "en.wikipedia.org" for row in rows) == 94
    others = {"en.wikiquote.org", "wikileaks.org", "wikihow.com", "emacswiki.org", "blog.wikimedia.org"}
    assert others <= {row["domain"] for row in rows} and not others & set(found)
    assert under("en.m.wikipedia.org", wikipedia()) and not under("notwikipedia.org", wikipedia())


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("https://a.example.org:8080/b?c=//d", "a.example.org"),
        ("https://a.org", "a.org"),
        ("http://en.wikipedia.org./wiki/A", "en.wikipedia.org"),
        ("http://A.org.:80?b", "a.org"),
        ("http://me:secret@a.org/", "a.org"),
        ("http://a.org/@b.org", "a.org"),
        ("http://[2001:db8::1]:8080/a", "2001:db8::1"),
        ("ftp://a.org/", "a.org"),
        *[(text, "") for text in (None, "", "a text", "a.org", "//", "http://", "http://[broken/")],
    ],
)
def test_hosts_are_read_off_addresses(address: str | None, host: str) -> None:
    assert host_of(address) == host


def test_subreddits_on_a_list_are_out_whether_named_or_in_the_permalink(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "list").write_text("reddit.com\nMUSIC\n")
    found = fallen(rows, "subreddit", LinksConfig(blocked_subreddits=tmp_path / "list"))
    assert len(found) == 1182 + 1000
    assert all(row.get("subreddit", "reddit.com") == "reddit.com" for row in found)


def test_domains_on_a_list_are_out_with_their_subdomains(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "list").write_text("bbc.co.uk\nnews.yahoo.com # not mail\n*.nature.com\n")
    found = Counter(
        row["domain"] for row in fallen(rows, "domain", LinksConfig(blocked_domains=tmp_path / "list"))
    )
    assert {"news.bbc.co.uk", "bbc.co.uk", "news.yahoo.com", "nature.com", "blogs.nature.com"} <= set(found)
    assert all(domain.endswith(("bbc.co.uk", "news.yahoo.com", "nature.com")) for domain in found)


def test_days_have_their_borders(rows: list[dict[str, Any]]) -> None:
    june = [
        row for row in rows if row.get("subreddit") == "reddit.com" and row["created_utc"] < 1_120_176_000
    ]
    assert len(june) == 103, "midnight of the first of July 2005, in UTC"
    assert fallen(june, "date", LinksConfig(before="2005-07-01")) == []
    assert fallen(june, "date", LinksConfig(after="2005-07-01")) == june
    last = max(row["created_utc"] for row in june)
    assert fallen(
        [{"url": "http://a.org", "created_utc": str(last)}], "date", LinksConfig(before="2005-06-30")
    )
    assert not fallen([{"url": "http://a.org"}], "date", LinksConfig(before="2005-06-30")), "no day is known"


# Lists of a user, settings


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("blocked_domains", "a.org\nnot a domain\n", "line 2 of .* is no domain"),
        ("blocked_domains", "a.org/path\n", "line 1 of .* is no domain"),
        ("blocked_domains", "ftp://a.org\n", "line 1 of .* is no domain"),
        ("blocked_subreddits", "pics\nr/two words\n", "line 2 of .* is no subreddit"),
        ("blocked_subreddits", "pics\0", "is binary"),
    ],
)
def test_lists_that_are_none_are_refused(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(content)
    with pytest.raises(FormatError, match=message):
        rules_of(LinksConfig(**{name: tmp_path / "list"}))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="there is no file"):
        rules_of(LinksConfig(**{name: tmp_path / "absent"}))  # type: ignore[arg-type]


@pytest.mark.parametrize("day", ["2005", "2005-7-1", "yesterday", "2005-02-30", "20050701", ""])
def test_days_that_are_none_are_refused(day: str) -> None:
    with pytest.raises(ConfigError, match="is a day such as"):
        LinksConfig(after=day)
