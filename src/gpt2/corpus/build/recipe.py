"""The whole recipe of a corpus, shard by shard: what WebText's makers did and never released (paper 2.1).

    embedded site, or lists of links -> votes -> pages -> texts -> clean texts -> no duplicates -> documents
    WARC files                                   ->       texts -> clean texts -> no duplicates -> documents
    a user's own text                                     ->       clean texts -> no duplicates -> documents

    OUT/links/      links that are wanted             OUT/duplicates/  what repeats what
    OUT/pages/      pages that were fetched, as WARC  OUT/documents/   the corpus, and its datasheet
    OUT/texts/      main texts                        OUT/removals.json  what nobody may build again (takedown.py)
    OUT/clean/      those that the rules left

Each folder is a stage with a completion mark, and each shard in it has one of its own: a build that was killed
goes on with what its workers were at, and other settings begin at the first stage that they change; pages
that were fetched stay, and only links that are new are asked for. The shards
follow from the input, never from the number of workers, and so do the documents, to the byte. Nothing is
dropped in silence: `Built.drops` counts each reason, and each dropped document has a row with its reason.

    built = build(BuildConfig(pages=(Path("crawl.warc.gz"),)), Path("corpus"), engine=Engine(workers=8))
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gpt2.console import QUIET, Console, count
from gpt2.corpus import jobs, shards
from gpt2.corpus.build.datasheet import REMOVED, SHEET, write_datasheet
from gpt2.corpus.build.takedown import read_removals
from gpt2.corpus.clean.cleaning import clean_shards
from gpt2.corpus.clean.rule_lists import OWN_TEXT, SITE, read_rules, settings_of
from gpt2.corpus.clean.rules import Rules
from gpt2.corpus.dedupe.duplicates import Keeping, one_per_address
from gpt2.corpus.dedupe.search import DUPLICATES, DedupeConfig, dedupe
from gpt2.corpus.documents import corpus_files, parquet_rows
from gpt2.corpus.engine import HERE, Engine
from gpt2.corpus.extract.archives import Extraction
from gpt2.corpus.extract.methods import SECONDS, Method, method_named
from gpt2.corpus.fetch.crawl import FetchConfig, fetch
from gpt2.corpus.fetch.outcomes import read_outcomes
from gpt2.corpus.fetch.warc import warc_files
from gpt2.corpus.funnel import Funnel, Step
from gpt2.corpus.links.gathering import LinksConfig, gather, read_links
from gpt2.corpus.links.votes import Votes
from gpt2.corpus.site import voted
from gpt2.errors import ConfigError, InputError
from gpt2.workspace import Json, Workspace, clear_drafts, digest, file_digest, read_json


@dataclass(frozen=True)
class BuildConfig:
    """Where documents come from (one of text, pages and links; none is the embedded site) and the rules."""

    text: Path | None = None
    """File or folder of the user's own text, or a corpus."""
    pages: tuple[Path, ...] = ()
    """WARC or ARC files, or folders of them."""
    links: tuple[Path, ...] = ()
    """Lists of links to fetch: dumps, exports, URL lists, sitemaps, or folders of them."""
    wanted: LinksConfig = field(default_factory=LinksConfig)
    """Which links are wanted; of the embedded site, the votes that a page needs."""
    fetch: FetchConfig = field(default_factory=FetchConfig)
    """How links are fetched."""
    method: Method = "default"
    """How the main text of a page is taken."""
    seconds: float = SECONDS
    """What the text of a page may take."""
    rules: Path | None = None
    """File of rules that mend and drop; as `gpt2 corpus clean --show-rules` prints when not given."""
    dedupe: DedupeConfig = field(default_factory=DedupeConfig)
    """What makes two documents one."""

    def __post_init__(self) -> None:
        if sum(bool(x) for x in (self.text, self.pages, self.links)) > 1:
            raise ConfigError("give only one of text, pages and links")
        method_named(self.method)

    @property
    def kind(self) -> str:
        """text, pages, links or site."""
        return "text" if self.text else "pages" if self.pages else "links" if self.links else "site"

    @property
    def given(self) -> list[Path]:
        """The user's own files and folders."""
        return [path for path in (self.text, *self.links, *self.pages) if path is not None]

    @property
    def chosen_rules(self) -> Rules:
        """The rules of the file, or those of this kind of source."""
        by_kind = {"site": SITE, "text": OWN_TEXT}
        return by_kind[self.kind] if self.rules is None and self.kind in by_kind else read_rules(self.rules)


@dataclass(frozen=True)
class Built:
    """A finished corpus."""

    documents: Path
    """Folder of the documents, for `read_documents`."""
    kind: str
    """text, pages, links or site."""
    description: str
    """What it was made from, in a sentence."""
    funnel: list[Json]
    """How many came through each step: step, count, unit, note."""
    drops: list[Json]
    """What was dropped: step, reason, count, examples. Those of a step add up to what it did not pass on."""
    digest: str
    """Of all documents: the same for the same corpus."""
    taken: list[Json] = field(default_factory=list)
    """What was taken out of texts, or lost before it could be counted: step, what, count."""


def build(config: BuildConfig, out: str | Path, console: Console = QUIET, engine: Engine = HERE) -> Built:
    """Build a corpus in folder `out`, or go on with the build that was interrupted there.

    Raises `InputError` for input that is missing or unusable, `TooLittleData` when no document is left,
    `FetchError` when nothing could be fetched, `BusyError` when another process builds in the same folder.
    """
    for path in config.given:
        if not path.exists():
            raise InputError(f"there is no file or folder {path}; check the path")
        if path.is_dir() and Path(out).resolve().is_relative_to(path.resolve()):
            raise InputError(
                f"{out} lies inside {path}, where it would become its own input; give another folder"
            )
    rules = config.chosen_rules
    with Workspace(Path(out).absolute()) as work, engine.aside():
        return Build(config, rules, work, console, engine).run()


def input_digest(config: BuildConfig) -> str:
    """What tells changed input from the same: the user's files, or the packages that are documented."""
    if config.kind == "site":
        return voted.installed()
    if config.pages:
        files = [file for path in config.pages for file in jobs.archives(path)]
    else:
        files = sorted(f for p in config.given for f in ([p] if p.is_file() else p.rglob("*")) if f.is_file())
    lists = [config.wanted.blocked_subreddits, config.wanted.blocked_domains]
    files += [path for path in lists if path and config.links]
    return digest([(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files])


class Build:
    """One build: its stages in order, each a method that does its work once."""

    def __init__(
        self, config: BuildConfig, rules: Rules, work: Workspace, console: Console, engine: Engine
    ) -> None:
        self.config, self.rules, self.work, self.console, self.engine = config, rules, work, console, engine
        self.kind, self.folder = config.kind, work.folder

    def run(self) -> Built:
        """All stages."""
        config = self.config
        made: Json = {"kind": self.kind, "input": input_digest(config)}
        told = []
        if self.kind == "links":
            told.append(self.stage("links", made | {"wanted": config.wanted}, self.gather_links))
            made["links"] = told[-1]["digest"]
            told.append(self.work.run("pages", {"kind": self.kind}, self.fetch_links, again=True))
            made["pages"] = told[-1]["digest"]
        if self.kind == "site":
            made["pages"] = self.stage("pages", made, lambda folder: voted.fetch_site(folder, self.console))
            made["votes"] = config.wanted.minimum_votes
        made |= {"method": config.method, "seconds": config.seconds, "cut": jobs.cut()}
        told.append(self.stage("texts", made, self.make_texts))
        made = {"texts": told[-1], "rules": settings_of(self.rules), "order": [r.name for r in self.rules]}
        told.append(self.stage("clean", made, self.clean_texts))
        made = {"clean": told[-1]["digest"], "dedupe": config.dedupe}
        told.append(self.stage("duplicates", made, self.find_duplicates))
        made = {"told": digest(told), "removals": read_removals(self.folder), "settings": self.settings}
        done = self.stage("documents", made, lambda folder: self.finish(folder, told))
        sheet = read_json(self.folder / "documents" / SHEET)
        return Built(self.folder / "documents", digest=sheet["digest"], **done)

    def stage(self, name: str, settings: Json, work: Callable[[Path], Json]) -> Json:
        """Do a stage once, and clear what killed workers left in its folder."""

        def do(folder: Path) -> Json:
            result = work(folder)
            clear_drafts(folder)
            return result

        return self.work.run(name, settings, do)

    # Links to pages

    def gather_links(self, folder: Path) -> Json:
        """Choose the links that are wanted, and put their votes where workers can look them up."""
        found = gather(self.config.links, folder, self.config.wanted, self.console)
        Votes.write(folder, read_links(folder))
        funnel = Funnel()
        came = found.funnel[0]["came"] if found.funnel else found.count
        funnel.passed("links", came)
        funnel.passed("wanted links", found.count)
        notes = {row["step"]: row["note"] for row in found.funnel}
        drops = [row | {"reason": f"{row['reason']}: {notes[row['reason']]}"} for row in found.drops]
        for row in found.funnel:
            if row["step"] == "duplicates" and row["dropped"]:
                funnel.dropped("links", f"duplicates: {row['note']}", row["dropped"])
        funnel.add({"passed": {}, "drops": drops})
        funnel.took("links", "line without a row", sum(row["bad_lines"] for row in found.sources))
        funnel.took("links", "damaged file, or stretch of one", len(found.faults))
        return funnel.json | {"digest": file_digest(found.links), "faults": found.faults}

    def fetch_links(self, folder: Path) -> Json:
        """Fetch the wanted links that were not fetched yet: a crawl that is there stays, whatever was changed."""
        wanted = (link.url for link in read_links(self.folder / "links"))
        fetch(wanted, folder, self.config.fetch, console=self.console)
        funnel, votes = Funnel(), Votes(self.folder / "links")
        for outcome in read_outcomes(folder):
            if outcome.url not in votes:
                continue  # wanted by an earlier build
            if outcome.cause:
                funnel.dropped("fetch", outcome.cause, id=outcome.url)
            else:
                funnel.passed("fetched")
        sizes = [[path.name, path.stat().st_size] for path in warc_files(folder)]
        return funnel.json | {"digest": digest([sizes, funnel.json])}

    # Pages to documents

    def make_texts(self, folder: Path) -> Json:
        """The main text of each page, or the user's own texts."""
        if self.kind == "site":
            pages, least = self.folder / "pages", self.config.wanted.minimum_votes
            texts = partial(voted.site_texts, pages, least, self.console)
            shards.make_shard(folder, {"number": 0}, lambda making: texts(making.funnel))
            return shards.added_up(folder, 1)
        if self.config.text:
            todo = jobs.text_jobs(self.config.text.absolute() if self.engine.cluster else self.config.text)
        else:
            given = [self.folder / "pages"] if self.kind == "links" else self.config.pages
            todo = jobs.page_jobs([p.absolute() for path in given for p in jobs.archives(path)])
        votes = self.folder / "links" if self.kind == "links" else None
        work = Extraction(folder, self.config.method, self.config.seconds, votes)
        title = "reading" if self.config.text else "extracting"
        shards.through(work, todo, self.engine, self.console, title)
        return shards.added_up(folder, len(todo))

    def clean_texts(self, folder: Path) -> Json:
        """The texts that the rules leave, mended."""
        return clean_shards(
            corpus_files(self.folder / "texts"), folder, self.rules, self.engine, self.console
        )

    def find_duplicates(self, folder: Path) -> Json:
        """The documents that repeat others, by address and by words."""
        funnel = Funnel()
        distinct = one_per_address(corpus_files(self.folder / "clean"), folder / "shards", funnel)
        found = dedupe(distinct, folder, self.config.dedupe, self.console, self.engine)
        near = f"{self.config.dedupe.similarity:.0%} or more of {self.config.dedupe.ngram}-grams in common"
        for row in parquet_rows(found.path, ["id", "of", "similarity"]):
            reason = "the same words" if row["similarity"] == 1.0 else near
            funnel.dropped("duplicates", reason, id=row["id"], detail=f"{row['similarity']:.2f} {row['of']}")
        funnel.passed("distinct texts", found.kept)
        anew = [path.name for path in distinct if path.parent == folder / "shards"]
        return funnel.json | {"digest": file_digest(found.path), "anew": anew}

    def finish(self, folder: Path, told: list[Json]) -> Json:
        """The documents that stay, the funnel and the datasheet."""
        removals = read_removals(self.folder)
        clean, found = self.folder / "clean", self.folder / "duplicates"
        distinct = [
            found / "shards" / path.name if path.name in told[-1]["anew"] else path
            for path in corpus_files(clean)
        ]
        work, todo = Keeping(folder, found / DUPLICATES, removals), shards.shard_jobs(distinct)
        made = shards.through(work, todo, self.engine, self.console, "documents")
        funnel = Funnel()
        for stage in told:
            funnel.add(stage)
        documents = sum(shard["documents"] for shard in made)
        funnel.passed("documents", documents)
        funnel.dropped(**REMOVED, n=funnel.passing["distinct texts"] - documents)
        rows = funnel.rows(STEPS[self.kind], self.notes)
        result = {"kind": self.kind, "description": self.description, "funnel": rows}
        result |= {"drops": funnel.drops(examples=True), "taken": funnel.taken()}
        faults = [fault for stage in told for fault in stage.get("faults", [])]
        write_datasheet(folder, result, made, self.settings, self.config.given, removals, faults)
        characters = sum(shard["characters"] for shard in made)
        self.console.say(f"{documents:,} documents of {count(characters)} characters")
        return result

    @property
    def settings(self) -> Json:
        """What the datasheet says of the settings: those that had a part in it."""
        unused = {"text", "pages", "links"} | UNUSED[self.kind]
        settings = {k: v for k, v in dataclasses.asdict(self.config).items() if k not in unused}
        return settings | {"rules": settings_of(self.rules)}

    @property
    def description(self) -> str:
        """What the corpus was made from, in a sentence."""
        names = ", ".join(path.name for path in self.config.given)
        return {
            "site": "the documentation that this Python carries, as pydoc serves it",
            "text": f"the user's own text, {names}",
            "pages": f"pages out of {names}",
            "links": f"pages fetched from the links in {names}",
        }[self.kind]

    @property
    def notes(self) -> dict[str, str]:
        """What the funnel says beside some steps."""
        votes, names = self.config.wanted.minimum_votes, ", ".join(path.name for path in self.config.given)
        return {
            "links": "distinct, found by following links from the index"
            if self.kind == "site"
            else f"in {names}",
            "wanted links": f"{votes} votes or more, or without any, and no rule against them",
            "voted pages": f"{votes} or more distinct other pages link to it; index pages cast no vote",
            "texts": {"text": f"in {names}", "site": "pages cut at classes and functions"}.get(
                self.kind, f"main text by the {self.config.method} extractor"
            ),
        }


LAST = [
    Step("clean texts", "documents", "after the named rules"),
    Step("distinct texts", "documents", "no two alike"),
    Step("documents", "documents", "without those that were asked to be removed"),
]
RESPONSES = [Step("responses", "records"), Step("pages", "pages", "HTML that came with status 2xx")]
STEPS = {
    "text": [Step("texts", "documents"), *LAST],
    "pages": [*RESPONSES, Step("texts", "documents"), *LAST],
    "links": [
        Step("links", "links"),
        Step("wanted links", "addresses"),
        Step("fetched", "pages", "fetched into WARC"),
        *RESPONSES,
        Step("texts", "documents"),
        *LAST,
    ],
    "site": [
        Step("links", "addresses"),
        Step("pages", "pages", "fetched into WARC"),
        Step("voted pages", "pages"),
        Step("texts", "documents"),
        *LAST,
    ],
}
"""The steps of each kind of source, as its funnel shows them."""
UNUSED = {
    "text": {"wanted", "fetch", "method", "seconds"},
    "pages": {"wanted", "fetch"},
    "links": set[str](),
    "site": {"fetch", "method", "seconds"},
}
"""Settings that say nothing of a kind of source."""
