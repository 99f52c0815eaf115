"""Memory and time that the links of a crawl take: ours beside a dictionary of strings with a queue a host.

    python benchmarks/frontier.py [MILLIONS]

Each way runs in a process of its own; what it took is the growth of its peak memory. The links are made: a
million on 100,000 hosts, 82 characters on average.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from urllib.parse import urlsplit

from gpt2.corpus.fetch.frontier import Frontier
from gpt2.corpus.fetch.schedule import Schedule

LINKS, HOSTS = 1_000_000, 100_000


def links(millions: float) -> Iterator[str]:
    """Made links."""
    for i in range(round(millions * LINKS)):
        host = hash((i, 1)) % round(millions * HOSTS)
        yield f"http://www.a-site-{host}.example.org/{i % 1_000}/a-page-whose-name-is-long-{i}.html?id={i}"


def ours(millions: float) -> int:
    """Into the fetcher's own structures."""
    frontier, schedule = Frontier(), Schedule(1.0, 1)
    for link in links(millions):
        number, _ = frontier.add(link)
        schedule.host(urlsplit(link).netloc).queue.put(number, frontier)
    return len(frontier)


def plainly(millions: float) -> int:
    """Into a dictionary, and a queue for each host."""
    seen: dict[str, None] = {}
    waiting: dict[str, deque[str]] = {}
    for link in links(millions):
        seen[link] = None
        waiting.setdefault(urlsplit(link).netloc, deque()).append(link)
    return len(seen)


def measure(name: str, millions: float) -> None:
    """Print what one way takes, in this process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.process_time()
    kept = {"ours": ours, "plainly": plainly}[name](millions)
    seconds = time.process_time() - begun
    bytes_ = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(
        f"{name:8} {kept:,} links: {bytes_ / 1e6:,.0f} MB, {bytes_ / kept:.0f} bytes a link, {seconds:.1f} s"
    )


def main() -> None:
    """Both ways, one after the other."""
    if len(sys.argv) > 2:
        measure(sys.argv[1], float(sys.argv[2]))
        return
    millions = sys.argv[1] if len(sys.argv) > 1 else "1"
    average = sum(map(len, links(0.01))) / (0.01 * LINKS)
    print(f"{average:.0f} characters a link on average, {LINKS // HOSTS} links a host")
    for name in ("ours", "plainly"):
        subprocess.run([sys.executable, __file__, name, millions], check=True)


if __name__ == "__main__":
    main()
