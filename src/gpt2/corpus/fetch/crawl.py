"""Links to pages: a polite, safe and restartable fetcher (paper 2.1).

Polite: robots.txt is obeyed, that of each host a redirect leads to as well; between two requests to a host
there is a pause, longer when the host asks for it (Crawl-delay, Retry-After) or gives no answer; the user agent
says who asks and where to reach them. Safe: see client.py (limits) and addresses.py (nobody's network).
Restartable: see outcomes.py; a kill costs what was in flight.

Every request is a job in the queue of its host, also for a robots.txt, a redirect's target or another try; the
host that is due first has the next turn, and a host not yet begun has one when no other is due. So a slow
host holds up only itself, and no more hosts (with their rules) are in memory than keep `workers` requests
under way. Rejected: a worker for each host, which sleeps through the pauses while others wait.

    gpt2 corpus fetch links/ --out crawl --contact you@example.org
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from gpt2.console import QUIET, Console
from gpt2.corpus.fetch.addresses import Allowed
from gpt2.corpus.fetch.client import Answer, Client
from gpt2.corpus.fetch.frontier import Frontier
from gpt2.corpus.fetch.outcomes import LOG, NO_ANSWER, Fetched, forget, read_outcomes, recover
from gpt2.corpus.fetch.pages import HTML_TYPES, Page
from gpt2.corpus.fetch.robots import Rules, read_rules
from gpt2.corpus.fetch.schedule import Host, Job, Schedule
from gpt2.corpus.fetch.warc import warc_files
from gpt2.corpus.fetch.warc_writer import Kept, WarcWriter
from gpt2.corpus.links.address import canonical
from gpt2.errors import ConfigError, FetchError, InputError
from gpt2.workspace import Json, Workspace

__all__ = ["LOG", "Crawl", "FetchConfig", "Fetched", "fetch", "read_outcomes", "warc_files"]

SILENT = 10
"""After so many links in a row that gave no answer, a host is left alone."""
AT_ONCE = 100
"""Links of a host that may end without a request before others have their turn."""


@dataclass(frozen=True)
class FetchConfig:
    """How to ask for pages."""

    user_agent: str = "gpt2-workbench/0.1"
    """Name and version told to servers; robots.txt is read for the name."""
    contact: str = ""
    """Web or mail address at which who crawls can be reached, told to servers too."""
    delay: float = 1.0
    """Seconds between two requests to one host; robots.txt may ask for more."""
    workers: int = 64
    """Requests under way at the same time."""
    per_host: int = 1
    """Requests to one host under way at the same time; one where robots.txt asks for pauses."""
    timeout: float = 30.0
    """Seconds for a whole page."""
    idle: float = 15.0
    """Seconds without a byte, or until there is a connection."""
    max_bytes: int = 10_000_000
    """Longest page, unpacked; a longer one is a failure."""
    types: frozenset[str] = frozenset(HTML_TYPES | {"text/plain"})
    """Media types that are read; others are failures."""
    retries: int = 2
    """Further tries after a failure that may pass."""
    longest_wait: float = 300.0
    """Seconds waited at most when a server says when to ask again."""
    redirects: int = 5
    """Redirects followed."""
    file_bytes: int = 1_000_000_000
    """Size at which a new WARC file is begun."""
    keep_requests: bool = False
    """Keep what was sent, too, in `request` records."""
    allow: frozenset[str] = field(default_factory=frozenset)
    """Private addresses that may be fetched all the same: 127.0.0.1:8000, 10.1.2.3 or 10.1.0.0/16."""

    def __post_init__(self) -> None:
        if not 0 <= self.delay < float("inf") or not 0 <= self.longest_wait < float("inf"):
            raise ConfigError(
                f"delay {self.delay} and longest_wait {self.longest_wait} are seconds, at least 0"
            )
        if not 0 < self.timeout < float("inf") or not 0 < self.idle < float("inf"):
            raise ConfigError(f"timeout {self.timeout} and idle {self.idle} are seconds, above 0")
        if min(self.workers, self.per_host, self.max_bytes, self.file_bytes) < 1:
            raise ConfigError("workers, per_host, max_bytes and file_bytes must be at least 1")
        if min(self.retries, self.redirects) < 0:
            raise ConfigError("retries and redirects must be at least 0")
        if not self.agent.isascii() or not self.agent.isprintable() or not self.user_agent.strip():
            raise ConfigError(f"{self.agent!r} cannot be sent as a user agent; give printable ASCII")
        Allowed(self.allow)

    @property
    def agent(self) -> str:
        """The user agent."""
        return f"{self.user_agent} (+{self.contact})" if self.contact else self.user_agent

    @property
    def name(self) -> str:
        """The crawler's name, for which rules are looked up."""
        return self.user_agent.partition("/")[0].strip()


@dataclass(frozen=True)
class Crawl:
    """What a crawl came to, with what earlier calls had done in the same folder."""

    links: int
    pages: int
    causes: dict[str, int]
    """Why links gave no page, and how many, the most frequent first."""
    before: int
    """Links that earlier calls had done."""
    files: tuple[Path, ...]
    """The WARC files."""


Follow = Callable[[Page], Iterable[str]]
"""Given a page, the canonical addresses on it."""


def fetch(
    links: Iterable[str],
    folder: Path,
    config: FetchConfig,
    follow: Follow | None = None,
    console: Console = QUIET,
    again: bool = False,
) -> Crawl:
    """Fetch links into `folder`, going on where an interrupted call stopped.

    With `follow`, the links it finds on a page are fetched too when they are on the host (and port) of one
    of the first links: a site's own links. With `again`, links whose failure may pass are asked for once
    more. Raises `FetchError` when not one page could be had; the next call then asks for all of them again.
    """
    with Workspace(folder):
        if warc_files(folder) and not (folder / LOG).exists():
            raise InputError(f"{folder} has WARC files that no crawl made; give another folder")
        (folder / LOG).touch()
        if again:
            forget(folder)
        fetcher = Fetcher(folder, config, follow)
        asyncio.run(fetcher.run(links, console))
        tally = fetcher.tally
        pages = tally.pop(None, 0)
        if tally and not pages:
            first = next(read_outcomes(folder))
            (folder / LOG).replace(folder / "failed.jsonl")
            for path in warc_files(folder):
                path.unlink()
            raise FetchError(f"none of {tally.total():,} pages could be fetched; {first.url}: {first.cause}")
        causes = {str(cause): n for cause, n in tally.most_common()}
        return Crawl(pages + tally.total(), pages, causes, fetcher.before, tuple(warc_files(folder)))


class Fetcher:
    """One crawl: its queues, its files, and what it knows of each host."""

    def __init__(self, folder: Path, config: FetchConfig, follow: Follow | None) -> None:
        self.folder, self.config, self.follow = folder, config, follow
        self.frontier = Frontier()
        self.schedule = Schedule(config.delay, config.per_host)
        self.own_hosts: set[str] = set()
        self.tally: Counter[str | None] = Counter()  # outcomes by cause
        self.before = 0

    async def run(self, links: Iterable[str], console: Console) -> None:
        """Go on with the crawl until every link has its outcome."""
        last: Kept | None = None
        known: dict[str, tuple[str, str]] = {}
        for outcome in recover(self.folder):
            self.frontier.add(outcome.url)
            self.tally[outcome.cause] += 1
            self.before += 1
            if kept := outcome.kept:
                known = known if last and kept.file == last.file else {}
                known.setdefault(kept.digest, (outcome.final, kept.date))
                last = kept
        self.writer = WarcWriter(self.folder, self.config.file_bytes, last, self.config.agent)
        self.writer.bodies |= known
        with (
            console.progress("fetching", 0, "links") as self.bar,
            (self.folder / LOG).open("ab") as self.log,
        ):
            self.bar.skip(self.before)
            for url in links:
                if link := canonical(url):
                    if self.follow:
                        self.own_hosts.add(urlsplit(link).netloc)
                    self.add(link)
            if self.follow:
                for outcome in read_outcomes(self.folder):
                    self.follow_links(outcome.links)
            self.bar.total = len(self.frontier)
            try:
                async with Client(self.config) as self.client:
                    await self.take_turns()
            finally:
                self.writer.close()

    def add(self, link: str) -> None:
        """Put a link in its host's queue, once."""
        number, new = self.frontier.add(link)
        if new:
            host = self.schedule.host(urlsplit(link).netloc)
            host.queue.put(number, self.frontier)
            if host.begun:
                self.schedule.plan(host)

    def follow_links(self, links: Iterable[str]) -> None:
        """Add the links that are on one of the first hosts."""
        for link in links:
            if urlsplit(link).netloc in self.own_hosts:
                self.add(link)
        self.bar.total = len(self.frontier)

    async def take_turns(self) -> None:
        """Keep as many requests under way as there may be, until there is nothing left to ask for."""
        loop = asyncio.get_running_loop()
        under_way: set[asyncio.Task[None]] = set()
        try:
            while True:
                free = len(under_way) < self.config.workers
                if free and (found := self.next_job(loop.time())):
                    under_way.add(asyncio.create_task(self.serve(*found)))
                    continue
                if not under_way and not self.schedule.work_left:
                    return
                due = self.schedule.wait(loop.time()) if free else None
                if not under_way:
                    await asyncio.sleep(due or 0.0)
                    continue
                first = asyncio.FIRST_COMPLETED
                done, under_way = await asyncio.wait(under_way, timeout=due, return_when=first)
                for task in done:
                    task.result()
        finally:  # before the client is closed, which would look like servers that hang up
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    def next_job(self, now: float) -> tuple[Host, Job] | None:
        """The host whose turn it is and what to ask it for, or None when none is due."""
        host = self.schedule.next(now)
        if host is None:
            return None
        job = self.take(host)
        if job:
            host.active += 1
            host.next_time = max(host.next_time, now + host.pause)
        self.schedule.plan(host)
        return (host, job) if job else None

    def take(self, host: Host) -> Job | None:
        """The next job of a host that its rules allow; those they refuse end here."""
        for _ in range(AT_ONCE):
            if not host.ready:
                return None
            if host.urgent:
                job = host.urgent.pop(0)
            else:
                number = host.queue.take(self.frontier)
                job = Job((self.frontier[number],), number)
            if job.rules_of:
                return job
            address = job.trail[-1]
            scheme = address.partition(":")[0]
            rules = (host.rules or {}).get(scheme)
            if rules is None or rules.stale:
                host.urgent.insert(0, job)
                host.asking = True
                return Job((f"{scheme}://{host.name}/robots.txt",), None, (host, scheme))
            refusal = host.gone or rules.refuse(address, self.config.name)
            if refusal is None:
                return job
            self.finish(job, Answer(refusal))
        return None

    async def serve(self, host: Host, job: Job) -> None:
        """Do a job, and what follows from it."""
        answer = await self.client.ask(job.trail[-1], robots=job.rules_of is not None)
        now = asyncio.get_running_loop().time()
        host.active -= 1
        wait = answer.wait or 0.0
        again = answer.may_pass and job.tries < self.config.retries
        if again and answer.wait is None:
            wait = 2**job.tries * min(self.config.delay, 5.0)
        host.next_time = max(host.next_time, now + max(wait, 0.0 if host.active else host.pause))
        if again:
            job.tries += 1
            host.urgent.insert(0, job)
        elif answer.target:
            self.move(job, answer)
        else:
            if job.link is not None:
                self.judge(host, answer)
            self.finish(job, answer)
        self.schedule.plan(host)

    def move(self, job: Job, answer: Answer) -> None:
        """Send a job on to where it was redirected."""
        assert answer.target
        if answer.target in job.trail:
            self.finish(job, Answer("redirects in a circle", answer.status))
        elif len(job.trail) > self.config.redirects:
            self.finish(job, Answer(f"more than {self.config.redirects} redirects", answer.status))
        else:
            job.trail, job.tries = (*job.trail, answer.target), 0
            host = self.schedule.host(urlsplit(answer.target).netloc)
            host.urgent.insert(0 if job.rules_of else len(host.urgent), job)
            self.schedule.plan(host)

    def judge(self, host: Host, answer: Answer) -> None:
        """Leave a host alone that has given no answer too often."""
        host.silent = host.silent + 1 if answer.may_pass else 0
        if host.silent >= SILENT:
            host.gone = f"{NO_ANSWER} to {SILENT} links of the host in a row"

    def finish(self, job: Job, answer: Answer) -> None:
        """Write how a link ended and follow what is on its page, or learn a host's rules."""
        if job.rules_of:
            host, scheme = job.rules_of
            host.rules = (host.rules or {}) | {scheme: self.rules(answer)}
            pause = max(self.config.delay, *(rules.pause for rules in host.rules.values()))
            host.next_time += max(0.0, pause - host.pause)
            host.pause = pause
            host.asking = False
            self.schedule.plan(host)
            return
        assert job.link is not None
        outcome = Fetched(job.trail[0], answer.cause, answer.status, job.trail[1:])
        if answer.cause is None:
            assert answer.response and answer.page
            page = replace(answer.page, url=outcome.url, final=outcome.final if outcome.chain else "")
            found = set(self.follow(page)) if self.follow and not page.refusal else set()
            asked = outcome.url if outcome.chain else ""
            kept: Json = vars(self.writer.write(replace(answer.response, asked=asked)))
            outcome = replace(outcome, **kept, links=tuple(sorted(found)))
        self.log.write(outcome.line())
        self.log.flush()
        self.tally[outcome.cause] += 1
        self.follow_links(outcome.links)
        self.bar.advance(1, urlsplit(outcome.url).netloc)

    def rules(self, answer: Answer) -> Rules:
        """The rules in what came for a robots.txt."""
        if answer.response:
            return read_rules(answer.status or 200, answer.response.body, self.config.name)
        if answer.status is None:
            cause = answer.cause or ""
            return Rules(refusal=f"robots.txt: {cause}" if cause.startswith(NO_ANSWER) else cause)
        return read_rules(answer.status if answer.status >= 400 else 404, b"", self.config.name)
