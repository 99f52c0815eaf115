"""A corpus built on a Ray cluster of this machine while its workers and the build itself are killed.

4,000 pages in ten archives: the marked pages of `html_extraction` in the folder that GPT2_DATA names, each
several times with other words, and made ones. They are built once in this process, once by Daft's own engine
with two workers, and once on a cluster with two workers, of which one is killed with SIGKILL at each of 8
random moments, and the build itself twice. All three must have the same documents to the byte, the same
counts and the same reasons.

    GPT2_DATA=DATA python -m acceptance cluster
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.corpus import copied
from gpt2.corpus import BuildConfig, build
from gpt2.corpus.engine import Engine
from gpt2.corpus.extract.gold import read_gold
from gpt2.corpus.fetch.warc_writer import Response, WarcWriter
from gpt2.errors import InputError
from tests.corpora import html
from tests.ray_cluster import ENVIRONMENT, Cluster, cluster

PAGES, ARCHIVES, WORKERS_KILLED, BUILDS_KILLED = 4_000, 10, 8, 2
BUILD = """
import sys
from pathlib import Path
from gpt2.corpus import BuildConfig, build
from gpt2.corpus.engine import Engine
config = BuildConfig(pages=(Path(sys.argv[1]),), method="fast")
build(config, sys.argv[2], engine=Engine(cluster=sys.argv[3]))
"""


def main() -> None:
    """Build three times and compare; raises `AssertionError` at the first difference."""
    if "GPT2_DATA" not in os.environ:
        raise InputError("set GPT2_DATA to the folder of real data")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        crawl = folder / "crawl"
        print(f"{write_crawl(crawl):,} pages in {len(list(crawl.iterdir()))} archives")
        config = BuildConfig(pages=(crawl,), method="fast")
        outcomes = {}
        for name, workers in (("one process", 1), ("two workers of Daft's own engine", 2)):
            begun = time.time()
            built = build(config, folder / name, engine=Engine(workers))
            outcomes[name] = (files(folder / name), built.funnel, built.drops)
            print(f"{name}: {built.funnel[-1]['count']:,} documents in {time.time() - begun:.0f} s")
        begun = time.time()
        with cluster() as ray:
            killed = build_with_kills(crawl, folder / "cluster", ray)
        built = build(config, folder / "cluster")  # which finds all done
        outcomes["the cluster"] = (files(folder / "cluster"), built.funnel, built.drops)
        print(
            f"two workers of a cluster: {built.funnel[-1]['count']:,} documents in {time.time() - begun:.0f} s, its "
            f"start among them, with {killed} workers and {BUILDS_KILLED} builds killed"
        )
        assert killed == WORKERS_KILLED, "the build ended before all workers were killed"
        first, *others = outcomes.values()
        assert all(other == first for other in others), "the documents differ"
        print(f"all three: the same {len(first[0])} shards to the byte, the same counts and reasons")


def write_crawl(folder: Path) -> int:
    """The pages in archives of one crawl; returns how many."""
    folder.mkdir()
    drawn = random.Random(7)
    gold = read_gold(Path(os.environ["GPT2_DATA"]) / "html_extraction")
    writer = WarcWriter(folder, longest=8_000_000)
    for i in range(PAGES):
        page = gold[i % len(gold)]
        body = copied(page.html, i // len(gold), drawn) if i % 3 else html(f"page{i}").encode()
        writer.write(
            Response(f"http://h{i % 97}.example.org/{i}", body, headers=(("Content-Type", "text/html"),))
        )
    writer.close()
    return PAGES


def build_with_kills(crawl: Path, out: Path, ray: Cluster) -> int:
    """Build on a cluster, killing workers and the build itself; returns how many workers were killed."""
    drawn, killed = random.Random(11), 0
    for attempt in range(BUILDS_KILLED + 1):
        command = [sys.executable, "-c", BUILD, str(crawl), str(out), ray.address]
        quiet = {
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
        }  # Ray tells of each killed worker
        process = subprocess.Popen(command, env=os.environ | ENVIRONMENT, **quiet)
        share = WORKERS_KILLED * (attempt + 1) // (BUILDS_KILLED + 1)
        while killed < share and process.poll() is None:
            time.sleep(drawn.uniform(0.3, 1.5))
            workers = ray.workers()
            if workers and list(out.glob("texts/.*.part")):  # one is writing
                os.kill(drawn.choice(workers), signal.SIGKILL)
                killed += 1
        if attempt < BUILDS_KILLED:
            process.send_signal(signal.SIGKILL)
        status = process.wait()
        assert status == (-signal.SIGKILL if attempt < BUILDS_KILLED else 0), f"the build ended with {status}"
    return killed


def files(out: Path) -> dict[str, bytes]:
    """The shards of a build."""
    return {path.name: path.read_bytes() for path in sorted((out / "documents").glob("documents-*.parquet"))}


if __name__ == "__main__":
    main()
