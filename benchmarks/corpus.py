"""Claim: WARC files become cleaned, de-duplicated documents at least three times as fast as with datatrove.

Both get the same archives: `--copies` copies of each of the 121 marked pages of article-extraction-benchmark, in
all but the first of which 30 % of the words of the text have been put out of place, so that they are no
duplicates, and one in ten pages once more as it is. Each record names its payload's type, without which datatrove's
reader drops pages; what each program read is printed. Filters are alike: Gopher's quality and repetition rules and
C4's on both sides. De-duplication is MinHash with 14 bands of 8 over 5-grams in both, with an exact check in ours.

    ours        gpt2 corpus build --pages ... --method default | fast | blocks --rules ...
    datatrove   WarcReader, Trafilatura (favour_precision, 10 s a page), Gopher's and C4's filters, MinHash in its
                four stages, 2 tasks on 2 workers (github.com/huggingface/datatrove, 0.10.1)

Each is a process of its own, timed whole, with two worker processes; they take turns and medians are printed.
Extraction is measured on the 121 marked pages as they are (gpt2.corpus.extract.gold). datatrove is installed by itself:

    python -m venv peer && peer/bin/pip install 'datatrove[io,processing]==0.10.1' 'trafilatura<2' lxml_html_clean \\
        python-magic faust-cchardet spacy
    GPT2_DATA=... python benchmarks/corpus.py --datatrove peer/bin/python
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from gpt2.corpus import read_documents
from gpt2.corpus.extract import METHODS, document_of
from gpt2.corpus.extract.gold import Gold, counts, read_gold, scores
from gpt2.errors import need

PEER = """
import glob, gzip, json, os, sys, time
os.environ["HF_HUB_OFFLINE"] = "1"
from datatrove.executor import LocalPipelineExecutor as Executor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.filters import C4QualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.readers import JsonlReader, WarcReader
from datatrove.pipeline.writers import JsonlWriter

def extract(folder):
    extractor = Trafilatura(favour_precision=True, timeout=10.0)
    texts = {}
    for path in sorted(glob.glob(folder + "/*.html")):
        try:
            texts[os.path.basename(path)[:-5]] = extractor.extract(open(path, encoding="utf-8").read()) or ""
        except Exception as error:
            texts[os.path.basename(path)[:-5]] = ""
    print(json.dumps(texts))

def build(warc, out):
    config, seconds = MinhashConfig(), {}
    def run(name, steps, tasks=2):
        begun = time.time()
        Executor(pipeline=steps, tasks=tasks, workers=2, logging_dir=f"{out}/logs/{name}").run()
        seconds[name] = round(time.time() - begun, 2)
    clean = [WarcReader(warc, glob_pattern="*.warc.gz"), Trafilatura(favour_precision=True, timeout=10.0),
             GopherRepetitionFilter(), GopherQualityFilter(), C4QualityFilter(filter_no_terminal_punct=False),
             JsonlWriter(f"{out}/clean")]
    run("extract and filter", clean)
    run("signatures", [JsonlReader(f"{out}/clean"), MinhashDedupSignature(f"{out}/sig", config)])
    run("buckets", [MinhashDedupBuckets(f"{out}/sig", f"{out}/buckets", config=config)], config.num_buckets)
    run("clusters", [MinhashDedupCluster(f"{out}/buckets", f"{out}/remove", config=config)], 1)
    run("filter", [JsonlReader(f"{out}/clean"), MinhashDedupFilter(f"{out}/remove"), JsonlWriter(f"{out}/kept")])
    lines = lambda name: sum(1 for path in glob.glob(f"{out}/{name}/*.gz") for _ in gzip.open(path))
    stats = json.load(open(f"{out}/logs/extract and filter/stats.json"))
    print(json.dumps({"read": stats[0]["stats"].get("documents", {}).get("total", 0),
                      "clean": lines("clean"), "kept": lines("kept"), "seconds": seconds}))

if __name__ == "__main__":
    {"extract": extract, "build": build}[sys.argv[1]](*sys.argv[2:])
"""
RULES = """
[notices]
[long-words]
[words]
[word-length]
[symbols]
[bullets]
[ellipses]
[alphabetic-words]
[stop-words]
[repeated-lines]
[repeated-paragraphs]
[top-ngrams]
[repeated-ngrams]
[lorem-ipsum]
[curly-brackets]
[sentences]
"""
BETWEEN_TAGS = re.compile(r">[^<>]{20,}<")
WORD = re.compile(r"[A-Za-z]{3,}")


def main() -> None:
    """Make the archives, measure both, print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datatrove", type=Path, help="Python of an environment that has datatrove")
    parser.add_argument("--copies", type=int, default=36)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--methods", nargs="+", default=[m for m in ("default", "fast", "blocks") if m in METHODS]
    )
    chosen = parser.parse_args()
    chosen.datatrove = chosen.datatrove and chosen.datatrove.absolute()
    gold = read_gold(Path(os.environ["GPT2_DATA"]) / "html_extraction")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        records = write_archives(gold, scratch / "warc", chosen.copies)
        (scratch / "rules.toml").write_text(RULES)
        (scratch / "peer.py").write_text(PEER)
        size = sum(path.stat().st_size for path in (scratch / "warc").iterdir())
        print(
            f"{records:,} pages in 2 archives, {size / 1e6:.1f} MB; F1 of extraction on {len(gold)} marked pages"
        )
        f1 = {m: scored(gold, [text_of(m, page) for page in gold]) for m in chosen.methods}
        if chosen.datatrove:
            f1["datatrove"] = scored(gold, texts_of_peer(chosen.datatrove, gold, scratch))
        names = [*(["datatrove"] if chosen.datatrove else []), *chosen.methods]
        runs: dict[str, list[tuple[float, dict[str, Any]]]] = {name: [] for name in names}
        for i in range(chosen.rounds):
            for name in names:
                runs[name].append(timed(name, chosen.datatrove, scratch, scratch / f"{name}{i}"))
                print(f"  {name:10} {runs[name][-1][0]:6.1f} s  {runs[name][-1][1]}", flush=True)
        report(runs, f1, records)


def report(runs: dict[str, list[tuple[float, dict[str, Any]]]], f1: dict[str, float], records: int) -> None:
    """A line for each program: medians of pages a second, and their ratio to datatrove's."""
    rates = {name: statistics.median(records / seconds for seconds, _ in took) for name, took in runs.items()}
    print(f"\n{'':10} {'pages/s':>8} {'ratio':>6} {'F1':>6} {'read':>6} {'clean':>6} {'kept':>6}")
    for name, rate in rates.items():
        ratio = f"{rate / rates['datatrove']:.1f}" if "datatrove" in rates else ""
        last = runs[name][-1][1]
        print(
            f"{name:10} {rate:8.1f} {ratio:>6} {f1[name]:6.3f} {last['read']:6,} {last['clean']:6,} {last['kept']:6,}"
        )


def write_archives(gold: list[Gold], folder: Path, copies: int) -> int:
    """Two archives of the pages and their copies, every record with its payload's type; returns how many."""
    StatusAndHeaders = need("warcio.statusandheaders", "corpus").StatusAndHeaders
    WARCWriter = need("warcio.warcwriter", "corpus").WARCWriter
    folder.mkdir()
    drawn = random.Random(0)
    bodies = [
        (f"http://{i}.example.org/{n}", copied(page.html, n, drawn))
        for n in range(copies)
        for i, page in enumerate(gold)
    ]
    bodies += [(f"{url}?again", body) for url, body in drawn.sample(bodies, len(bodies) // 10)]
    drawn.shuffle(bodies)
    for half in (0, 1):
        with (folder / f"{half}.warc.gz").open("wb") as stream:
            writer = WARCWriter(stream, gzip=True, warc_version="1.1")
            for url, body in bodies[half::2]:
                head = StatusAndHeaders(
                    "200 OK", [("Content-Type", "text/html; charset=utf-8")], protocol="HTTP/1.1"
                )
                names = {"WARC-Identified-Payload-Type": "text/html"}
                payload = io_of(body)
                writer.write_record(
                    writer.create_warc_record(
                        url, "response", payload=payload, http_headers=head, warc_headers_dict=names
                    )
                )
    return len(bodies)


def io_of(body: bytes) -> Any:
    """Bytes as a stream."""
    import io

    return io.BytesIO(body)


def copied(html: bytes, n: int, drawn: random.Random) -> bytes:
    """A page as UTF-8, and from the second copy on with 30 % of the words of its text put elsewhere in it."""
    text = html.decode("utf-8", "replace")
    if not n:
        return text.encode()
    words = [word for part in BETWEEN_TAGS.findall(text) for word in WORD.findall(part)] or ["word"]

    def other(match: re.Match[str]) -> str:
        return drawn.choice(words) if drawn.random() < 0.3 else match[0]

    return BETWEEN_TAGS.sub(lambda part: WORD.sub(other, part[0]), text).encode()


def text_of(method: Any, page: Gold) -> str:
    """The text of a marked page by one of our methods."""
    found = document_of(page.html, page.url, method)
    return "" if isinstance(found, str) else found.text


def texts_of_peer(python: Path, gold: list[Gold], scratch: Path) -> list[str]:
    """The texts of the marked pages by datatrove's extractor."""
    folder = scratch / "gold"
    folder.mkdir()
    for page in gold:
        (folder / f"{page.id}.html").write_text(page.html.decode("utf-8", "replace"), encoding="utf-8")
    command = [python, scratch / "peer.py", "extract", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=scratch)
    texts = json.loads(done.stdout.splitlines()[-1])
    return [texts[page.id] for page in gold]


def scored(gold: list[Gold], texts: list[str]) -> float:
    """F1 of texts on the marked pages."""
    return scores(
        np.array([counts(text, page.text) for text, page in zip(texts, gold, strict=True)], np.float64)
    )[2]


def timed(name: str, python: Path, scratch: Path, out: Path) -> tuple[float, dict[str, Any]]:
    """Seconds of a whole process that makes documents of the archives, and what it read and kept."""
    warc, rules = scratch / "warc", scratch / "rules.toml"
    if name == "datatrove":
        command: list[Any] = [python, scratch / "peer.py", "build", warc, out]
    else:
        command = [
            sys.executable,
            "-m",
            "gpt2",
            "corpus",
            "build",
            "--pages",
            warc,
            "--out",
            out,
            "--method",
            name,
        ]
        command += ["--rules", rules, "--processes", "2", "--quiet", "--json"]
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, cwd=scratch)
    seconds = time.perf_counter() - begun
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
    said = json.loads(done.stdout.splitlines()[-1])
    if name == "datatrove":
        return seconds, said
    passed = {row["step"]: row["count"] for row in said["funnel"]}
    stages = {p.parent.name: json.loads(p.read_text())["seconds"] for p in out.glob("*/stage.json")}
    with contextlib.suppress(StopIteration):
        assert next(read_documents(out)).text
    return seconds, {
        "read": passed["responses"],
        "clean": passed["clean texts"],
        "kept": passed["documents"],
        "seconds": stages,
    }


if __name__ == "__main__":
    main()
