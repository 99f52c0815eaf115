"""Whose turn it is: the hosts of a crawl, what waits for each, and when each may be asked again.

The host that has been due longest is next, and one not yet begun when no other is due. So a slow host
holds up only itself, every place for a request is used while there is anything to ask for, and no more hosts
are begun (each with its rules in memory) than that takes. Rejected: a worker for each host, which sleeps
through the pauses while other hosts wait; and taking turns among all hosts, which keeps the rules of all.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from dataclasses import dataclass

from gpt2.corpus.fetch.frontier import Queue
from gpt2.corpus.fetch.robots import Rules

RESTING = 1_000
"""Hosts without work whose rules are kept in memory."""


@dataclass(slots=True)
class Job:
    """A link on its way, or the robots.txt of a host."""

    trail: tuple[str, ...]
    """Addresses, from the link's own through its redirects to the one to ask for next."""
    link: int | None
    """Number of the link; None for a robots.txt."""
    rules_of: tuple[Host, str] | None = None
    """Host and scheme for which this is the robots.txt."""
    tries: int = 0


class Host:
    """One host: what waits for it, when it may be asked again, and its rules."""

    __slots__ = (
        *("active", "asking", "begun", "gone", "name", "next_time", "pause", "planned", "queue", "rules"),
        *("silent", "urgent"),
    )

    def __init__(self, name: str, pause: float) -> None:
        self.name, self.pause, self.next_time = name, pause, 0.0
        self.queue = Queue()  # links not yet asked for
        self.urgent: list[Job] = []  # jobs that are under way; those for a robots.txt first
        self.rules: dict[str, Rules] | None = None  # by scheme
        self.asking = False  # whether its rules are being asked for, so that all links wait
        self.active = 0  # requests under way
        self.begun = self.planned = False
        self.silent = 0  # links in a row without an answer
        self.gone: str | None = None

    @property
    def ready(self) -> bool:
        """Whether there is something to ask it for."""
        if self.asking:
            return bool(self.urgent) and self.urgent[0].rules_of is not None
        return bool(self.urgent or self.queue)


class Schedule:
    """All hosts that have work, and a few that had."""

    def __init__(self, delay: float, per_host: int) -> None:
        self.delay, self.per_host = delay, per_host
        self.hosts: dict[str, Host] = {}
        self.fresh: deque[Host] = deque()  # hosts not yet begun
        self.turns: list[tuple[float, int, Host]] = []  # a heap of those begun, by when they are due
        self.turn = itertools.count()
        self.resting: dict[str, None] = {}

    @property
    def work_left(self) -> bool:
        """Whether a host will have a turn without another's request ending first."""
        return bool(self.turns or self.fresh)

    def next(self, now: float) -> Host | None:
        """The host whose turn it is, or None when none is due."""
        if self.turns and self.turns[0][0] <= now:
            host = heapq.heappop(self.turns)[2]
            host.planned = False
            return host
        while self.fresh:
            host = self.fresh.popleft()
            if not host.begun:
                host.begun = True
                return host
        return None

    def wait(self, now: float) -> float | None:
        """Seconds until the next host is due; None when that depends on a request that is under way."""
        return max(0.0, self.turns[0][0] - now) if self.turns else None

    def host(self, name: str) -> Host:
        """What is known of a host."""
        host = self.hosts.get(name)
        if host is None:
            host = self.hosts[name] = Host(name, self.delay)
            self.fresh.append(host)
        return host

    def plan(self, host: Host) -> None:
        """Give a host its next turn, if there is something to ask it for and it may be asked."""
        host.begun = True
        limited = any(rules.pause for rules in (host.rules or {}).values())
        if host.planned or host.active >= (1 if limited else self.per_host):
            return
        if host.ready:
            host.planned = True
            self.resting.pop(host.name, None)
            heapq.heappush(self.turns, (host.next_time, next(self.turn), host))
        elif not host.active and not host.asking:
            self.resting[host.name] = None
            if len(self.resting) > RESTING:
                oldest = next(iter(self.resting))
                del self.resting[oldest], self.hosts[oldest]
