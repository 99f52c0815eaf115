"""The recipe of a corpus: where the text comes from, its stages, and the funnel that counts them.

    embedded site, or a list of links -> votes -> fetched pages -> main text -> rules -> no duplicates
    WARC files                                    ->               main text -> rules -> no duplicates
    a user's own text                             ->                            rules -> no duplicates

The stages `pages` and `documents` each leave a mark; a build that was killed goes on, page by page within
the first. Nothing is dropped in silence: `Built.drops` counts each reason, and duplicates are listed with
what they repeat in `documents/duplicates.jsonl`.

    built = build(BuildConfig(pages=(Path("crawl.warc.gz"),)), Path("corpus"))
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from gpt2.console import QUIET, Console, count
from gpt2.corpus import documentation
from gpt2.corpus.clean import mend, refuse, shared_lines
from gpt2.corpus.dedupe import SIMILARITY, duplicates
from gpt2.corpus.documents import Document, cut_text, read_text, write_documents
from gpt2.corpus.extract import Method, extract
from gpt2.corpus.fetch import LOG, Crawl, FetchConfig, fetch, read_outcomes, warc_files
from gpt2.corpus.links import MINIMUM_VOTES, count_votes, read_links, voted
from gpt2.corpus.pages import LONGEST_BODY, Page, outgoing_links, read_pages
from gpt2.errors import ConfigError, FetchError, InputError, TooLittleData, need
from gpt2.workspace import Json, Workspace, atomic_write, digest, read_json, write_json


@dataclass(frozen=True)
class BuildConfig:
    """Where documents come from (one of text, pages and links; none is the embedded site) and the rules."""

    text: Path | None = None
    """File or folder of the user's own text."""
    pages: tuple[Path, ...] = ()
    """WARC or ARC files."""
    links: Path | None = None
    """List of links to fetch."""
    minimum_votes: int = MINIMUM_VOTES
    """Votes that a link needs."""
    similarity: float = SIMILARITY
    """Share of common word 5-grams from which two documents are one; below 0.8 not all such are found."""
    method: Method = "default"
    """How the main text of a page is taken: default or fast."""
    fetch: FetchConfig = field(default_factory=FetchConfig)
    """How links are fetched."""

    def __post_init__(self) -> None:
        if sum(bool(x) for x in (self.text, self.pages, self.links)) > 1:
            raise ConfigError("give only one of text, pages and links")
        if not 0 < self.similarity <= 1:
            raise ConfigError(f"similarity is a share above 0 and up to 1, not {self.similarity}")

    @property
    def kind(self) -> str:
        """text, pages, links or site."""
        return "text" if self.text else "pages" if self.pages else "links" if self.links else "site"

    @property
    def given(self) -> list[Path]:
        """The user's own files and folders."""
        return [path for path in (self.text, self.links, *self.pages) if path is not None]


@dataclass(frozen=True)
class Built:
    """A finished corpus."""

    documents: Path
    """Parquet file of the documents."""
    kind: str
    """text, pages, links or site."""
    description: str
    """What it was made from, in a sentence."""
    funnel: list[Json]
    """How many came through each step: step, count, unit, note."""
    drops: list[Json]
    """What was dropped or taken out: step, reason, count."""


class Funnel:
    """Counts what comes through each step and why the rest does not."""

    def __init__(self) -> None:
        self.steps: list[Json] = []
        self.reasons: Counter[tuple[str, str]] = Counter()

    def passed(self, step: str, n: int, unit: str, note: str = "") -> None:
        """`n` came through a step."""
        self.steps.append({"step": step, "count": n, "unit": unit, "note": note})

    def dropped(self, step: str, reason: str, n: int = 1) -> None:
        """A step dropped or took out `n` for a reason."""
        self.reasons[step, reason] += n

    @property
    def drops(self) -> list[Json]:
        """Reasons by step, the most frequent first."""
        return [{"step": s, "reason": r, "count": n} for (s, r), n in self.reasons.most_common() if n]


def build(config: BuildConfig, out: str | Path, console: Console = QUIET) -> Built:
    """Build a corpus in folder `out`, or go on with the build that was interrupted there.

    Raises `InputError` for input that is missing or unusable, `TooLittleData` when no document is left,
    `FetchError` when nothing could be fetched, `BusyError` when another process builds in the same folder.
    """
    for path in config.given:
        if not path.exists():
            raise InputError(f"there is no file or folder {path}; check the path")
    key: Json = {"source": config, "input": input_digest(config)}
    with Workspace(Path(out)) as work:
        if config.kind in ("site", "links"):
            asked = {"votes": config.minimum_votes, "fetch": config.fetch} if config.links else {}
            asked |= {"kind": config.kind, "links": config.links, "input": key["input"]}
            fetched = work.run("pages", asked, lambda folder: fetch_pages(config, folder, console))
            key = {**key, "pages": digest(fetched)}
        result = work.run(
            "documents", key, lambda folder: make_documents(config, work.folder / "pages", folder, console)
        )
    return Built(Path(out) / "documents" / "documents.parquet", **result)


def input_digest(config: BuildConfig) -> str:
    """What tells changed input from the same: the user's files, or the packages that are documented."""
    if config.kind == "site":
        installed = {name: metadata.version(name) for name in ("numpy", "torch", "pyarrow")}
        return digest([platform.python_version(), installed])
    files = sorted(f for p in config.given for f in ([p] if p.is_file() else p.rglob("*")) if f.is_file())
    return digest([(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files])


# Links to pages


def fetch_pages(config: BuildConfig, folder: Path, console: Console) -> Json:
    """Fetch the embedded site or the links of a list into a WARC file."""
    if config.kind == "site":
        done = fetch_site(folder, console)
    else:
        assert config.links is not None
        wanted = voted(read_links(config.links), config.minimum_votes)
        if not wanted:
            raise TooLittleData(f"no link in {config.links} has {config.minimum_votes} votes or more")
        done = fetch((link.url for link in wanted), folder, config.fetch, console=console)
    return {"links": done.links, "pages": done.pages}


def fetch_site(folder: Path, console: Console) -> Crawl:
    """Fetch all of the embedded site, on the port that an interrupted fetch had used."""
    note = folder / "site.json"
    port = int(read_json(note)["port"]) if note.exists() else 0
    try:
        return crawl_site(folder, port, console)
    except FetchError:
        for path in (folder / LOG, *warc_files(folder), note):
            path.unlink(missing_ok=True)
        if not port:
            raise
    # the port was taken by another program, and so all addresses change
    return crawl_site(folder, 0, console)


def crawl_site(folder: Path, port: int, console: Console) -> Crawl:
    """Follow the site's links from its index until none is new."""
    with documentation.serve(port) as site:
        write_json(folder / "site.json", {"port": int(site.address.rpartition(":")[2])})
        config = FetchConfig(
            delay=0.0,
            allow=frozenset({site.address}),
            timeout=120.0,
            idle=120.0,
            retries=0,
            max_bytes=LONGEST_BODY,
        )
        return fetch([site.start], folder, config, outgoing_links, console)


# Pages to documents


def make_documents(config: BuildConfig, pages: Path, folder: Path, console: Console) -> Json:
    """Text, rules and duplicates: writes `documents.parquet` and `duplicates.jsonl`."""
    funnel = Funnel()
    if config.kind == "text":
        assert config.text is not None
        found = list(read_text(config.text))
        description = f"the user's own text, {config.text.name}"
        if len(found) == 1:
            found = cut_text(found[0])
            description += ", one text cut at empty lines into pieces that are held out one by one"
        funnel.passed("texts", len(found), "documents", f"in {config.text.name}")
    elif config.kind == "site":
        found = site_documents(config, pages, funnel, console)
        description = "the documentation that this Python carries, as pydoc serves it"
    else:
        found = page_documents(config, pages, funnel, console)
        names = ", ".join(path.name for path in config.given)
        description = f"pages fetched from the links in {names}" if config.links else f"pages out of {names}"
    documents = cleaned(found, funnel, frames=config.kind != "text")
    if not documents:
        raise TooLittleData(f"no document is left of {description}; give more text")
    documents = distinct(documents, config.similarity, funnel, folder / "duplicates.jsonl")
    console.say(f"{len(documents):,} documents of {count(sum(len(d.text) for d in documents))} characters")
    write_documents(folder / "documents.parquet", documents)
    return {"kind": config.kind, "description": description, "funnel": funnel.steps, "drops": funnel.drops}


def site_documents(config: BuildConfig, pages: Path, funnel: Funnel, console: Console) -> list[Document]:
    """The embedded site's pages that enough other pages link to, cut into documents."""
    outcomes = list(read_outcomes(pages))
    indexes = documentation.Site(f"127.0.0.1:{read_json(pages / 'site.json')['port']}").indexes
    got = [f for f in outcomes if f.cause is None]
    able = [f.url for f in got if f.url not in indexes]
    votes = count_votes({f.url: f.links for f in got}, indexes)
    chosen = {url for url in able if votes.get(url, 0) >= config.minimum_votes}
    funnel.passed("links", len(outcomes), "addresses", "distinct, found by following links from the index")
    funnel.passed("pages", len(got), "pages", "fetched into WARC")
    for f in outcomes:
        if f.cause:
            funnel.dropped("fetch", f.cause)
    few = f"fewer than {config.minimum_votes} other pages link to it"
    funnel.dropped("votes", few, len(able) - len(chosen))
    funnel.dropped("votes", "index page, which only lists others", len(got) - len(able))
    rule = f"{config.minimum_votes} or more distinct other pages link to it; index pages cast no vote"
    funnel.passed("voted pages", len(chosen), "pages", rule)
    documents: list[Document] = []
    taken: Counter[str] = Counter()
    with console.progress("extracting", len(chosen), "pages") as bar:
        for path in warc_files(pages):
            for page in read_pages(path):
                if page.url in chosen:
                    documents += documentation.cut(page, votes[page.url], taken)
                    bar.advance()
    for rule, n in taken.items():
        funnel.dropped("cutting", f"{rule} taken out", n)
    documents.sort(key=lambda d: (-(d.votes or 0), d.group))  # of two copies, the better-known page's is kept
    funnel.passed("texts", len(documents), "documents", "pages cut at classes and functions")
    return documents


def page_documents(config: BuildConfig, pages: Path, funnel: Funnel, console: Console) -> list[Document]:
    """The main text of each page in WARC files, or of each page fetched from a list of links."""
    votes: dict[str, int | None] = {}
    if config.links:
        links = list(read_links(config.links))
        wanted = voted(links, config.minimum_votes)
        votes = {link.url: link.votes for link in wanted}
        funnel.passed("links", len(links), "addresses", f"distinct, in {config.links.name}")
        funnel.passed(
            "voted links", len(wanted), "addresses", f"{config.minimum_votes} votes or more, or without any"
        )
        funnel.dropped("votes", f"fewer than {config.minimum_votes} votes", len(links) - len(wanted))
        for f in read_outcomes(pages):
            if f.cause:
                funnel.dropped("fetch", f.cause)
    able: dict[str, Page] = {}
    responses = 0
    for path in warc_files(pages) if config.links else config.pages:
        for page in read_pages(path):
            responses += 1
            if page.refusal or page.url in able:
                funnel.dropped("pages", page.refusal or "address seen before")
            else:
                able[page.url] = page
    funnel.passed("responses", responses, "records")
    funnel.passed("pages", len(able), "pages", "HTML that came with status 2xx")
    documents = []
    for page, found in zip(able.values(), extract_all([*able.values()], config.method, console), strict=True):
        if found is None:
            funnel.dropped("extraction", "no text")
        else:
            vote = votes.get(page.url)
            documents.append(
                dataclasses.replace(found, id=page.url, group=page.url, votes=vote, source=page.source)
            )
    funnel.passed("texts", len(documents), "documents", f"main text by the {config.method} extractor")
    return documents


def extract_all(pages: list[Page], method: Method, console: Console = QUIET) -> list[Document | None]:
    """The documents of pages, made in processes beside this one when there are many."""
    documents: list[Document | None] = []
    with console.progress("extracting", len(pages), "pages") as bar, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed file", ResourceWarning)  # pipes that Daft leaves open
        for document in (extracted if len(pages) < 64 else extracted_beside)(pages, method):
            documents.append(document)
            bar.advance()
    return documents


def extracted(pages: list[Page], method: Method) -> Iterator[Document | None]:
    """The documents of pages, one after another."""
    for page in pages:
        yield extract(page.text, page.url, method)


def extracted_beside(pages: list[Page], method: Method) -> Iterator[Document | None]:
    """The same by Daft's worker processes."""
    daft: Any = need("daft", "corpus")
    text = daft.DataType.string()
    fields = daft.DataType.struct({"text": text, "title": text, "language": text})

    class Extractor:
        """`extract` in a worker."""

        @daft.method(return_dtype=fields)  # type: ignore[untyped-decorator]
        def extract(self, html: str, url: str) -> Json | None:
            found = extract(html, url, method)
            return {"text": found.text, "title": found.title, "language": found.language} if found else None

    worker = daft.cls(Extractor, use_process=True, max_concurrency=os.cpu_count() or 1)()
    columns = {"html": [page.text for page in pages], "url": [page.url for page in pages]}
    frame = daft.from_pydict(columns).into_batches(32)
    rows = frame.select(worker.extract(frame["html"], frame["url"]).alias("document")).iter_rows()
    for row, page in zip(rows, pages, strict=True):
        yield Document(url=page.url, **row["document"]) if row["document"] else None


def cleaned(documents: list[Document], funnel: Funnel, frames: bool) -> list[Document]:
    """Documents mended by the rules, without those that a rule refuses; `frames`: they are web pages."""
    shared = shared_lines(documents) if frames else set()
    kept: list[Document] = []
    for document in documents:
        text, taken = mend(document.text, shared)
        for rule, n in taken.items():
            funnel.dropped("cleaning", f"{rule} taken out", n)
        reason = None if text.strip() else "empty"
        if frames and not reason:
            reason = refuse(text)
        if reason:
            funnel.dropped("cleaning", reason)
        else:
            kept.append(dataclasses.replace(document, text=text))
    funnel.passed("clean texts", len(kept), "documents", "after the named rules")
    return kept


def distinct(documents: list[Document], similarity: float, funnel: Funnel, log: Path) -> list[Document]:
    """Documents without those that repeat an earlier one; what was dropped is written to `log`."""
    repeats = duplicates([d.text for d in documents], similarity)
    with atomic_write(log, "w") as stream:
        for i, found in repeats.items():
            row = {
                "id": documents[i].id,
                "of": documents[found.of].id,
                "similarity": round(found.similarity, 4),
            }
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            same = found.similarity == 1.0
            funnel.dropped(
                "duplicates", "the same words" if same else f"{similarity:.0%} or more of 5-grams in common"
            )
    left = [d for i, d in enumerate(documents) if i not in repeats]
    funnel.passed("documents", len(left), "documents", "no two alike")
    return left
