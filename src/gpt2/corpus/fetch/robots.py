"""What a site asks of crawlers in its robots.txt, as RFC 9309 says, read by protego's rules (Google's).

A site without one (any 4xx but 429) allows all; one that cannot be asked allows nothing; rules are read anew
after a day, and of a file that never ends the first 512 KiB count. Beyond the RFC the pauses that sites ask for
are kept: `Crawl-delay`, and `Request-rate` as the seconds it leaves between two requests. Rejected: Python's
own urllib.robotparser, which knows neither wildcards nor the rule that the longest match wins.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gpt2.errors import need

if TYPE_CHECKING:
    from protego import Protego

LONGEST_ROBOTS = 512 * 1024
"""Bytes of a robots.txt that are looked at; the RFC asks for at least 500 KiB."""
LONGEST_PAUSE = 60.0
"""A host that asks for more seconds between two pages is left alone."""
LIFE = 24 * 3600.0
"""Seconds for which rules hold, as the RFC has it."""


@dataclass(frozen=True)
class Rules:
    """The rules of one site: a robots.txt, or why there is nothing to be had from it."""

    robots: Protego | None = None
    refusal: str | None = None
    """Why no page of the site may be asked for."""
    pause: float = 0.0
    """Seconds between two requests that the site asks for."""
    read: float = field(default_factory=time.monotonic)

    @property
    def stale(self) -> bool:
        """Whether they must be read anew."""
        return time.monotonic() - self.read > LIFE

    def refuse(self, address: str, agent: str) -> str | None:
        """Why a crawler of this name may not ask for an address, or None."""
        if self.refusal or not self.robots:
            return self.refusal
        return None if self.robots.can_fetch(address, agent) else "refused by robots.txt"


def read_rules(status: int, body: bytes, agent: str) -> Rules:
    """Rules out of what came for a request for robots.txt; `agent` is the crawler's name."""
    if status >= 500 or status == 429:
        return Rules(refusal=f"robots.txt: status {status}")
    text = body[:LONGEST_ROBOTS].decode("utf-8-sig", "replace") if 200 <= status < 300 else ""
    robots: Protego = need("protego", "corpus").Protego.parse(text)
    rate = robots.request_rate(agent)
    pause = max(
        robots.crawl_delay(agent) or 0.0, rate.seconds / rate.requests if rate and rate.requests else 0.0
    )
    if pause > LONGEST_PAUSE:
        return Rules(refusal=f"robots.txt asks for pauses of more than {LONGEST_PAUSE:g} s")
    return Rules(robots, None, pause)
