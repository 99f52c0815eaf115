"""Where links come from: each kind of file as rows.

    {"url": ..., "score": ...}      JSON lines: dumps of submissions, links with votes
    url,score,...                   CSV with a column `url`, such as an export of a subreddit's top posts
    http://...                      one address a line, such as the published lists of OpenWebText; # is a remark
    <urlset>, <sitemapindex>        a sitemap, and an index of sitemaps that lie beside it
    WARC/1.1, filedesc:             addresses of the pages in a WARC or ARC file; or the links out of them, each
                                    with the page it stands on, so that votes are distinct pages that link
    PAR1                            Parquet with a column `url`: links gathered before, a table of one's own

Any of them may be packed (zstd, xz, bz2, gzip). What a file is, its first bytes say; rejected: names, which
lie (`RS_2011-01`, `urls.txt.xz`). Rows without an address come too: it is for the rules to count them.

    python -c "from gpt2.corpus.links.sources import files_of; from pathlib import Path; print(files_of([Path('.')]))"
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from gpt2.corpus.documents import parquet_rows
from gpt2.corpus.links.dumps import FIELDS, Reading, Row, submissions
from gpt2.errors import FormatError, InputError, need
from gpt2.workspace import Json

LINKS = "links.parquet"
"""The file of a folder of gathered links."""
HEAD = 1 << 16
SPACE = b" \t\r\n\v\f"
COLUMNS = FIELDS | {"created", "permalink"}
SUBREDDIT = re.compile(r"(?:https?://[^/]*)?/r/([^/?#]+)")


class Entry(Row):
    """A row that says more than a line of a dump can."""

    voter: str | None = None
    """The page that links there, when each page has one vote."""
    sources: tuple[str, ...] = ()
    """Where the link was found, when not in this very file."""


def files_of(sources: Sequence[Path]) -> list[Path]:
    """The files that are meant, each once: of a folder, its gathered links, a crawl's pages, or else every file."""
    from gpt2.corpus.fetch.warc import warc_files

    found: dict[Path, Path] = {}
    for path in sources:
        if not path.exists():
            raise InputError(f"there is no file or folder {path}; give files of links")
        inside = [path]
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
            inside = [path / LINKS] if path / LINKS in inside else warc_files(path) or inside
        for file in inside:
            found.setdefault(file.resolve(), file)
    if not found:
        raise InputError(f"there is no file in {', '.join(map(str, sources))}; give files of links")
    return list(found.values())


def rows_of(reading: Reading, outgoing: bool = False) -> Iterator[Row]:
    """The rows of a file of any kind; `outgoing` takes the links out of a WARC file's pages.

    Raises `InputError` when there is no file, `FormatError` when it is of no kind that is known.
    """
    path = reading.path
    head = head_of(path)
    text = head.removeprefix(codecs.BOM_UTF8).lstrip(SPACE)
    if head.startswith(b"PAR1"):
        yield from parquet(path)
    elif head.startswith((b"WARC/", b"filedesc:")):
        yield from pages(reading, outgoing)
    elif b"\0" in head:
        raise FormatError(f"{path} is binary, not text; take it away or give another file")
    elif text.startswith(b"<"):
        yield from sitemap(reading, {path.resolve()})
    elif text.startswith(b"{"):
        for rows in submissions(reading):
            yield from rows
    else:
        names = [
            name.strip('" \r').lower()
            for name in text.partition(b"\n")[0].decode(errors="replace").split(",")
        ]
        yield from table(reading, names) if "url" in names else plain(reading)


def head_of(path: Path) -> bytes:
    """The first bytes of what is in a file, unpacked."""
    head = b""
    for piece in Reading(path, []).pieces():
        head += piece
        if len(head.lstrip(SPACE)) >= HEAD:
            break
    return head


def lines_of(reading: Reading) -> Iterator[str]:
    """The lines of a text, ends included; bytes that are not UTF-8 become U+FFFD, or are refused."""
    for chunk in reading.chunks():
        for line in chunk.removeprefix(codecs.BOM_UTF8).splitlines(keepends=True):
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                if reading.faults is None:
                    reading.bad(f"{reading.path} is not UTF-8 text ({error}); convert it to UTF-8")
                yield line.decode(errors="replace")


def plain(reading: Reading) -> Iterator[Row]:
    """An address a line."""
    for line in lines_of(reading):
        if line.strip() and not line.lstrip().startswith("#"):
            yield Row(url=line.strip())


def table(reading: Reading, names: Sequence[str]) -> Iterator[Row]:
    """CSV whose first line has these names; values may hold line ends."""
    places = [(i, name) for i, name in enumerate(names) if name in COLUMNS]
    reader = csv.reader(line for line in lines_of(reading))
    first, good = True, 0
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reading.bad(f"{reading.path} is not CSV after line {good}: {error}")
            continue
        good = reader.line_num
        if cells and not first:
            yield entry({name: cells[i] if i < len(cells) else None for i, name in places})
        first = first and not cells


def parquet(path: Path) -> Iterator[Row]:
    """A Parquet file's rows."""
    for row in parquet_rows(path, needed=["url"], taken=[*(COLUMNS - {"url"}), "sources"]):
        sources = row.pop("sources", None)
        yield entry(row, tuple(map(str, sources)) if isinstance(sources, list) else ())


def entry(row: Json, sources: tuple[str, ...] = ()) -> Entry:
    """A row of a table, whose columns may be those of Reddit's own interface."""
    created, permalink = row.pop("created", None), row.pop("permalink", None)
    if row.get("created_utc") in (None, ""):
        row["created_utc"] = created
    if not row.get("subreddit"):
        match = SUBREDDIT.match(permalink) if isinstance(permalink, str) else None
        row["subreddit"] = match[1] if match else None
    return Entry(**row, sources=sources)


def pages(reading: Reading, outgoing: bool) -> Iterator[Row]:
    """The pages of a WARC or ARC file, or where their links lead."""
    from gpt2.corpus.fetch.pages import outgoing_links, read_pages
    from gpt2.corpus.links.address import canonical

    for page in read_pages(reading.path, reading.faults):
        if page.refusal:
            continue
        if not outgoing:
            yield Row(url=page.url)
            continue
        here = canonical(page.url) or page.url
        for link in sorted(outgoing_links(page) - {here}):
            yield Entry(url=link, voter=here)


def sitemap(reading: Reading, seen: set[Path]) -> Iterator[Row]:
    """The addresses in a sitemap, or in the sitemaps that an index names and that lie beside it."""
    for kind, address in places_in(reading):
        if kind == "url":
            yield Row(url=address)
            continue
        name = PurePosixPath(unquote(urlsplit(address).path)).name
        beside = reading.path.parent / name
        if not name or not beside.is_file():
            reading.fault(f"{reading.path} names {address}, but there is no {beside}; fetch it as well")
        elif beside.resolve() not in seen:
            seen.add(beside.resolve())
            yield from sitemap(Reading(beside, reading.faults), seen)


def places_in(reading: Reading) -> Iterator[tuple[str, str]]:
    """What a sitemap names: ("url", address of a page) or ("sitemap", address of a sitemap)."""
    etree = need("lxml.etree", "corpus")
    # neither entities nor anything outside the file: it is foreign
    parser = etree.XMLPullParser(("start", "end"), resolve_entities=False, no_network=True, load_dtd=False)
    root = ""
    try:
        for piece in reading.pieces():
            parser.feed(piece)
            for event, element in parser.read_events():
                name = etree.QName(element).localname if isinstance(element.tag, str) else ""
                if not root:
                    root = name
                    if root not in ("urlset", "sitemapindex"):
                        raise FormatError(
                            f"{reading.path} is no sitemap (its root is <{root}>); give a list of links"
                        )
                elif event == "end" and name in ("url", "sitemap"):
                    yield name, (element.findtext("{*}loc") or "").strip()
                    element.clear()
                    while element.getprevious() is not None:
                        del element.getparent()[0]
        parser.close()
    except etree.XMLSyntaxError as error:
        reading.fault(f"{reading.path} is damaged or cut short ({error}); get it anew")
