"""Reading a dump of submissions: ours against the usual loop of TextIOWrapper and json.loads.

The dump is made of the rows of real ones, as often as needed, each with an id, a score and letters of its
address and texts of its own, so that it packs no better than a real one does, in zstd with a window of 2 GB
(level 3). Both readers give the same list: address and score of each post that is no text and has 3 votes.
They run in turn, in processor time of one core; the figures are medians. By default the rows are more than
2 GB, for below that the system's share in filling the window for the first time counts against both alike.
Last, all of `gather` with its canonical addresses, rules and merge, on the same dump. A few minutes.

    GPT2_DATA=... python benchmarks/dumps.py [ROWS]
"""

from __future__ import annotations

import io
import json
import lzma
import os
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import zstandard

from gpt2.corpus.links import gather
from gpt2.corpus.links.dumps import Reading, submissions

ROUNDS = 5
Links = list[tuple[str, int]]


def make_dump(months: list[Path], path: Path, rows: int) -> tuple[int, int]:
    """Write a dump of so many rows; returns its bytes unpacked and packed."""
    real = [json.loads(line) for month in months for line in lzma.decompress(month.read_bytes()).splitlines()]
    numbers = random.Random(2019)
    words = [w for row in real for w in re.findall(r"\w+", row["title"])]
    how = zstandard.ZstdCompressionParameters.from_level(3, window_log=31, enable_ldm=True)
    size = 0
    with (
        path.open("wb") as raw,
        zstandard.ZstdCompressor(compression_params=how).stream_writer(raw) as stream,
    ):
        for i in range(rows):
            row = dict(numbers.choice(real))
            title = " ".join(numbers.choices(words, k=8))
            slug = re.sub(r"\W+", "_", title.lower())
            row |= {
                "id": f"{i:x}",
                "name": f"t3_{i:x}",
                "title": title,
                "score": int(numbers.paretovariate(0.8)),
            }
            row |= {
                "url": f"{row['url']}/{numbers.getrandbits(60):x}",
                "author": f"a{numbers.getrandbits(20)}",
            }
            row |= {"permalink": f"/r/reddit.com/comments/{i:x}/{slug}/", "created_utc": 1119552233 + 3 * i}
            row |= {
                "num_comments": int(numbers.paretovariate(0.7)),
                "selftext": row["selftext"] and title * 9,
            }
            row["thumbnail"] = f"https://b.thumbs.redditmedia.com/{numbers.getrandbits(200):x}.jpg"
            size += stream.write((json.dumps(row) + "\n").encode())
    return size, path.stat().st_size


def usual(path: Path) -> Links:
    """The loop that scripts for these dumps have."""
    links = []
    with path.open("rb") as raw:
        reader = zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(raw)
        for line in io.TextIOWrapper(reader, encoding="utf-8"):
            row = json.loads(line)
            if row["score"] >= 3 and not row["is_self"]:
                links.append((row["url"].replace("&amp;", "&"), row["score"]))
    return links


def ours(path: Path) -> Links:
    """The same through `submissions`."""
    links: Links = []
    for rows in submissions(Reading(path, faults=[])):
        for row in rows:
            votes = row.vote_count
            if votes is not None and votes >= 3 and not row.is_text:
                links.append((row.address, votes))
    return links


def timed(read: Callable[[Path], Links], path: Path) -> tuple[float, Links]:
    """Seconds of processor time, and the links."""
    begun = time.process_time()
    links = read(path)
    return time.process_time() - begun, links


def measure(dump: Path, rows: int, size: int, folder: Path) -> None:
    """Print rows a second of both and their ratio, and of all that `gather` does."""
    times: dict[str, list[float]] = {"usual": [], "ours": []}
    for _ in range(ROUNDS):
        seconds, theirs = timed(usual, dump)
        times["usual"].append(seconds)
        seconds, mine = timed(ours, dump)
        times["ours"].append(seconds)
        assert mine == theirs, "both must give the same links"
    middle = {name: statistics.median(found) for name, found in times.items()}
    for name, seconds in middle.items():
        spread = f"{min(times[name]):.2f} to {max(times[name]):.2f} s"
        print(f"{name:6} {rows / seconds:9,.0f} rows/s  {size / seconds / 1e6:5.0f} MB/s  ({spread})")
    print(f"{len(mine):,} links; ours / usual: {middle['usual'] / middle['ours']:.2f}")
    begun = time.process_time()
    found = gather([dump], folder / "links")
    seconds = time.process_time() - begun
    print(f"gather {rows / seconds:9,.0f} rows/s to {found.count:,} links, merged and in order")


def main() -> None:
    """Make a dump and read it."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_400_000
    months = sorted((Path(os.environ["GPT2_DATA"]) / "reddit").glob("RS_*.xz"))
    with tempfile.TemporaryDirectory() as folder:
        dump = Path(folder) / "RS.zst"
        size, packed = make_dump(months, dump, rows)
        print(f"{rows:,} rows, {size / 1e6:.0f} MB, packed {size / packed:.1f} to 1, window 2^31")
        measure(dump, rows, size, Path(folder))


if __name__ == "__main__":
    main()
