"""Links and the rules that choose among them (paper 2.1).

WebText is "all outbound links from Reddit ... which received at least 3 karma": a page is wanted because
enough people vouched for it. Here links come from wherever there are any (sources.py), with the score
beside them for votes, or, within one site, the number of distinct other pages that link to them. `gather`
sifts them by named rules in this order, merges the rows of one address (the best score, the earliest day, all
sources) and asks for the votes last:

    self        a post of text                   media      a picture, film, sound or download
    address     no address of the web            wikipedia  Wikipedia and its mirrors
    site        Reddit itself                    domain     on a list of domains, subdomains too
    over 18     marked so                        ---------  duplicates are merged here
    subreddit   on a list of subreddits          votes      fewer than 3
    date        out of the limits

A row that falls to several rules counts for the first. A rule cannot fall on what it does not know: a list
without votes or days passes them, and so does a row in which they are blank. Only a submission (a row with
its subreddit) has 0 votes when it has no score. How many came to each rule, fell to it, and a sample of those
are kept in `links.json`; links with the sources they were found in are in `links.parquet`, in the order of a
hash, which is the same every time and keeps the pages of a host apart.

    gpt2 corpus links RS_2011-01.zst RS_2011-02.zst --out links
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from gpt2.console import QUIET, Bar, Console
from gpt2.corpus.documents import in_batches, parquet_rows
from gpt2.corpus.links.address import canonical
from gpt2.corpus.links.sift import Sieve, rules_of
from gpt2.errors import ConfigError, InputError, TooLittleData, need
from gpt2.workspace import Json, Workspace, atomic_write, digest, file_digest, read_json, remove, write_json

MINIMUM_VOTES = 3
"""The paper's "at least 3 karma"."""
REPORT, STAGES, ROWS = "links.json", "gathering", "rows"
ROWS_AT_ONCE = 1 << 15


@dataclass(frozen=True)
class Link:
    """A page that somebody pointed at."""

    url: str
    """Canonical address."""
    votes: int | None = None
    """How many vouched for it; unknown in a plain list."""
    sources: tuple[str, ...] = ()
    """Names of the files it was found in."""
    created: str | None = None
    """The day it was first pointed at (YYYY-MM-DD), where that is known."""


def read_links(path: Path) -> Iterator[Link]:
    """The links of a folder that `gather` wrote, as they stand; or of any one file, each once.

    Of a file, links come in the order in which they first appear, with the best of their votes; lines without
    an address of the web are passed over. It is held in memory: millions are for `gather`. Raises
    `InputError` for a file that is not there, `FormatError` for one that is damaged or of another kind,
    `TooLittleData` without any link.
    """
    dumps, sources = rooms()
    gathered = path / sources.LINKS if path.is_dir() else path
    if gathered.name == sources.LINKS and gathered.is_file():
        for row in parquet_rows(gathered, needed=[f.name for f in dataclasses.fields(Link)]):
            yield Link(row["url"], row["votes"], tuple(row["sources"]), row["created"])
        return
    best: dict[str, Link] = {}
    for row in sources.rows_of(dumps.Reading(path)):
        if (url := canonical(row.address)) is not None:
            known = best.get(url) or Link(url, None, (path.name,))
            votes = [v for v in (known.votes, row.vote_count) if v is not None]
            days = [day for day in (known.created, row.date) if day is not None]
            best[url] = Link(url, max(votes, default=None), known.sources, min(days, default=None))
    if not best:
        raise TooLittleData(f"there is no link in {path}; give addresses that begin with http:// or https://")
    yield from best.values()


def rooms() -> tuple[Any, Any]:
    """The modules that read files of links, which need the extra `corpus`."""
    need("msgspec", "corpus")
    need("zstandard", "corpus")
    from gpt2.corpus.links import dumps, sources

    return dumps, sources


def voted(links: Iterable[Link], minimum: int = MINIMUM_VOTES) -> list[Link]:
    """The links that pass the rule; in a plain list without votes every line was somebody's choice."""
    return [link for link in links if link.votes is None or link.votes >= minimum]


def count_votes(outgoing: Mapping[str, Iterable[str]], indexes: Iterable[str] = ()) -> dict[str, int]:
    """Votes within a site: for each address, how many distinct other pages link to it.

    `outgoing` gives the canonical addresses that each page links to; pages in `indexes` cast no vote.
    """
    mute = set(indexes)
    votes: dict[str, int] = {}
    for page, targets in outgoing.items():
        if page not in mute:
            for target in set(targets) - {page}:
                votes[target] = votes.get(target, 0) + 1
    return votes


@dataclass(frozen=True)
class LinksConfig:
    """Which links are wanted."""

    minimum_votes: int = MINIMUM_VOTES
    """Votes that a link needs, where votes are known."""
    after: str | None = None
    """First day of a link (YYYY-MM-DD)."""
    before: str | None = None
    """Day before which a link must be (YYYY-MM-DD)."""
    over_18: bool = False
    """Take links marked as for adults as well."""
    wikipedia: bool = False
    """Take Wikipedia and its mirrors as well."""
    blocked_subreddits: Path | None = None
    """File of subreddits to leave out, one a line."""
    blocked_domains: Path | None = None
    """File of domains to leave out with their subdomains, one a line."""
    outgoing: bool = False
    """Of WARC files, take the links out of their pages (votes: distinct pages that link) in place of their pages."""

    def __post_init__(self) -> None:
        for name in ("after", "before"):
            day = getattr(self, name)
            try:
                known = day is None or date.fromisoformat(day).isoformat() == day
            except ValueError:
                known = False
            if not known:
                raise ConfigError(f"{name} is a day such as 2017-12-31, not {day!r}")


@dataclass(frozen=True)
class Gathered:
    """What became of all rows."""

    links: Path
    """Parquet file of the links: url, votes, sources, created."""
    count: int
    """How many there are."""
    funnel: list[Json]
    """Of each rule: step, unit, came, dropped, count (of those left), note."""
    drops: list[Json]
    """What fell to each rule, the most frequent first: step, reason, count, examples."""
    sources: list[Json]
    """Of each file: name, rows, bad_lines."""
    faults: list[str]
    """What was wrong with the files, in sentences."""


def gather(
    sources: Sequence[Path], folder: Path, config: LinksConfig | None = None, console: Console = QUIET
) -> Gathered:
    """Sift and merge the links in files of any kind into `folder`, or go on where a killed run was.

    Writes `links.parquet` and, last, `links.json`; memory does not grow with the number of links. A killed
    run goes on with the first file that was not finished. Raises `InputError` for a file that is missing or
    of no kind that is known, `TooLittleData` when no link is left, `BusyError` when another process gathers
    in the same folder.
    """
    config = config or LinksConfig()
    _, kinds = rooms()
    files = named(kinds.files_of(sources))
    sieve = Sieve(rules_of(config))
    lists = [file_digest(path) for path in (config.blocked_subreddits, config.blocked_domains) if path]
    rules = {**dataclasses.asdict(config), "minimum_votes": None, "lists": lists}
    inputs = {name: [path.stat().st_size, path.stat().st_mtime_ns] for name, path in files.items()}
    asked = digest([rules, config.minimum_votes, inputs])
    target, report = folder / kinds.LINKS, folder / REPORT
    with Workspace(folder) as work:
        if report.exists() and target.exists() and (known := read_json(report)).get("asked") == asked:
            remove(folder / STAGES)
            return Gathered(target, **known["result"])
        if target.exists() and not report.exists() and not (folder / STAGES).exists():
            raise InputError(f"{target} is in the way and was not made here; give another folder")
        records: dict[str, Json] = {}
        with console.progress("links", sum(size for size, _ in inputs.values()) / 1e6, "MB") as bar:
            for name, path in files.items():
                end = bar.done + inputs[name][0] / 1e6
                settings = {"file": name, "input": inputs[name], "rules": rules}
                records[name] = work.run(
                    f"{STAGES}/{digest(name)}", settings, partial(sift, path, name, config, bar)
                )
                bar.skip(end - bar.done)
                sieve.funnel.add(records[name])
        result = merge(work.folder, records, target, config, sieve)
        write_json(report, {"asked": asked, "config": config, "result": result})
        remove(folder / STAGES)
    return Gathered(target, **result)


def named(files: Sequence[Path]) -> dict[str, Path]:
    """Files by their names, or by their whole paths where names are equal; in order of these."""
    many = Counter(path.name for path in files)
    return dict(sorted((path.name if many[path.name] == 1 else str(path), path) for path in files))


def sift(path: Path, name: str, config: LinksConfig, bar: Bar, folder: Path) -> Json:
    """The rows of a file that break no rule, into buckets on disk; returns what was counted."""
    dumps, kinds = rooms()
    from gpt2.corpus.links import buckets

    reading, sieve, alone, done = dumps.Reading(path, faults=[]), Sieve(rules_of(config)), (name,), 0
    with atomic_write(folder / ROWS) as stream:
        into = buckets.Buckets(stream, buckets.SPILL)
        for row in kinds.rows_of(reading, config.outgoing):
            url = canonical(row.address) or ""
            if sieve.takes(row, url, name):
                voter, found = (row.voter, row.sources) if isinstance(row, kinds.Entry) else (None, ())
                day = row.date
                sieve.funnel.passed("undated", day is None)
                into.add(url, row.vote_count, day, voter, found or alone)
            if sieve.funnel.passing["rows"] % 10_000 == 0:
                bar.advance((reading.position - done) / 1e6, note=name)
                done = reading.position
        spills = into.close()
    if not sieve.funnel.passing["rows"]:
        reading.faults.append(
            f"there is no link in {path}; give addresses that begin with http:// or https://"
        )
    return {**sieve.funnel.json, "bad_lines": reading.bad_lines, "faults": reading.faults, "spills": spills}


def merge(
    folder: Path,
    records: Mapping[str, Json],
    target: Path,
    config: LinksConfig,
    sieve: Sieve,
) -> Json:
    """Merge what was sifted into one file of links, hold it against the minimum of votes, and add all up."""
    import pyarrow
    import pyarrow.parquet

    from gpt2.corpus.links import buckets

    files = [(folder / STAGES / digest(name) / ROWS, record["spills"]) for name, record in records.items()]
    types = {"url": pyarrow.string(), "votes": pyarrow.int64(), "sources": pyarrow.list_(pyarrow.string())}
    schema = pyarrow.schema(types | {"created": pyarrow.string()})
    distinct = 0

    def enough(link: buckets.Merged) -> bool:
        nonlocal distinct
        distinct += 1
        if link.votes is None or link.votes >= config.minimum_votes:
            return True
        sieve.drop("votes", link.url, link.votes, link.sources)
        return False

    with atomic_write(target) as stream, pyarrow.parquet.ParquetWriter(stream, schema) as writer:
        for batch in in_batches(filter(enough, buckets.merged(files, buckets.LARGEST)), ROWS_AT_ONCE):
            writer.write_table(pyarrow.Table.from_pylist([link._asdict() for link in batch], schema=schema))
        if distinct == sieve.fallen("votes"):
            drops = [f"{row['count']:,} {row['reason']}" for row in sieve.funnel.drops()]
            raise TooLittleData(
                f"no link is left of {sieve.funnel.passing['rows']:,} rows "
                f"({', '.join(drops) or 'there was no row'}); give other links or rules"
            )
    funnel = funnel_of(sieve, distinct, config)
    return {
        "count": distinct - sieve.fallen("votes"),
        "funnel": funnel,
        "drops": sieve.funnel.drops(examples=True),
        "sources": [
            {"name": name, "rows": record["passed"].get("rows", 0), "bad_lines": record["bad_lines"]}
            for name, record in records.items()
        ],
        "faults": [fault for record in records.values() for fault in record["faults"]],
    }


def funnel_of(sieve: Sieve, distinct: int, config: LinksConfig) -> list[Json]:
    """How many rows or links came to each rule, fell to it and were left."""
    days = sieve.funnel.passing["undated"]
    undated = f"; {days:,} rows without a day passed" if days else ""
    steps = [
        (rule.name, "rows", sieve.fallen(rule.name), rule.why + undated * (rule.name == "date"))
        for rule in sieve.rules
    ]
    rows = sieve.funnel.passing["rows"] - sum(fallen for _, _, fallen, _ in steps)
    steps.append(("duplicates", "links", rows - distinct, "rows of an address that came before"))
    steps.append(("votes", "links", sieve.fallen("votes"), f"fewer than {config.minimum_votes} votes"))
    funnel: list[Json] = []
    left = sieve.funnel.passing["rows"]
    for step, unit, fallen, note in steps:
        row = {
            "step": step,
            "unit": unit,
            "came": left,
            "dropped": fallen,
            "count": left - fallen,
            "note": note,
        }
        funnel.append(row)
        left -= fallen
    return funnel
