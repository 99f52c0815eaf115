"""Near duplicates among 20,000 documents with planted copies, held against the exact measure.

The documents are passages of public-domain works from `prose/` in the folder that GPT2_DATA names; half are
copies with 1 to 30 % of their words replaced, left out, put in or moved. All pairs that are alike are found by
an inverted index over word 5-grams, in code of its own (tests/near_copies.py). Then `dedupe` runs over eight
shards in a process by itself, whose memory is measured. Recall is counted three times: pairs that share a band,
pairs of which not both are kept, and documents dropped of those that the exact rule drops.

    GPT2_DATA=DATA python -m acceptance.near_duplicates
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet

from gpt2.corpus.dedupe.minhash import expected_recall
from gpt2.corpus.documents import SHARD, Document, write_documents
from gpt2.errors import InputError
from tests.near_copies import exact_pairs, plainly_kept, planted

DOCUMENTS, SHARDS = 20_000, 8
LEAST = 0.98
RUN = """
import json, re, sys, time
from pathlib import Path
from gpt2.corpus.dedupe import DedupeConfig, dedupe
shards, out, similarity, sample = json.loads(sys.argv[1])
peak = lambda: int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
at_rest = peak()
begun, spent = time.perf_counter(), time.process_time()
found = dedupe([Path(s) for s in shards], Path(out), DedupeConfig(similarity, sample=sample))
memory = peak()
took = {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - spent}
rates = [[r.cases, r.hits, *r.interval] if r else None for r in (found.recall, found.precision)]
names = ("exact", "near", "clusters", "met", "checked", "cut", "shape")
print(json.dumps({n: getattr(found, n) for n in names} | took | {"rates": rates, "memory": memory, "at_rest": at_rest}))
"""


def main() -> None:
    """Run both rules; raises `AssertionError` below 0.98 and `InputError` without data."""
    if "GPT2_DATA" not in os.environ:
        raise InputError("set GPT2_DATA to the folder of real data")
    texts = planted(Path(os.environ["GPT2_DATA"]) / "prose", DOCUMENTS, seed=2019)
    draw = random.Random(2)
    votes = [draw.choice((None, 3, 3, 5, 8, 100)) for _ in texts]
    words = sum(text.count(" ") + 1 for text in texts)
    print(f"{len(texts):,} documents of {words / len(texts):.0f} words on average, in {SHARDS} shards")
    with tempfile.TemporaryDirectory() as scratch:
        shards = []
        for shard in range(SHARDS):
            rows = [
                Document(text, id=str(i), group=str(i), url=f"http://example.org/{i}", votes=votes[i])
                for i, text in enumerate(texts)
                if i % SHARDS == shard
            ]
            shards.append(Path(scratch) / SHARD.format(shard))
            write_documents(shards[-1], rows)
        for similarity in (0.8, 0.5):
            check(texts, votes, shards, similarity, Path(scratch) / str(similarity))


def check(
    texts: list[str], votes: list[int | None], shards: list[Path], similarity: float, out: Path
) -> None:
    """Run `dedupe` at one similarity, and compare."""
    pairs = exact_pairs(texts, similarity)
    worth = {i: (-1 if v is None else v) for i, v in enumerate(votes)}
    order = sorted(range(len(texts)), key=lambda i: (-worth[i], f"http://example.org/{i}"))
    wanted = set(order) - plainly_kept(pairs, order)

    ran = run(shards, out, similarity)
    rows = pyarrow.parquet.read_table(out / "duplicates.parquet").to_pylist()
    dropped = {int(row["id"]): int(row["of"]) for row in rows}
    right = sum(pairs.get((min(pair), max(pair)), 0) >= similarity for pair in dropped.items())
    chains = sum(of in dropped for of in dropped.values())
    missed = [pair for pair in pairs if not dropped.keys() & {*pair}]
    bands, length = ran["shape"]
    met = meeting(pairs, out / "signatures")
    print(f"\nsimilarity {similarity}: {bands} bands of {length}")
    print(
        f"  {len(pairs):,} pairs so alike: {len(met) / len(pairs):.4f} share a band, "
        f"{1 - len(missed) / len(pairs):.4f} are not both kept ({len(missed)} are)"
    )
    for low in (0.5, 0.6, 0.7, 0.8, 0.9):
        among = {pair for pair, s in pairs.items() if low <= s < low + 0.1}
        if low >= similarity:
            print(
                f"    {low} to {low + 0.1:.1f}: {len(met & among) / len(among):.4f} of {len(among):,} share a band"
                f" (expected at {low}: {expected_recall(low, bands, length):.4f})"
            )
    both = len(wanted & dropped.keys())
    print(f"  dropped {len(dropped):,}, by the exact rule {len(wanted):,}: recall {both / len(wanted):.4f}, ")
    print(f"    precision {right / len(dropped):.4f} (as like the document kept as asked), {chains} chains")
    print(f"  pairs that met {ran['met']:,}, compared {ran['checked']:,}, limits bit {ran['cut']} times")
    for name, rate in zip(("recall", "precision"), ran["rates"], strict=True):
        print(f"  {name} by the run's own sample: {rate[1]} of {rate[0]} ({rate[2]:.3f} to {rate[3]:.3f})")
    for name in ("with", "without"):
        s, cpu = ran[name]["seconds"], ran[name]["cpu"]
        print(
            f"  {name} the sample: {s:.1f} s, {DOCUMENTS / s:,.0f} documents/s, {DOCUMENTS / cpu:,.0f} a core"
        )
    print(
        f"  memory at most {ran['memory'] // 1024} MB, of which {ran['at_rest'] // 1024} MB before it began"
    )
    assert len(met) / len(pairs) >= LEAST, "pairs so alike share no band"
    assert 1 - len(missed) / len(pairs) >= LEAST, "pairs so alike are both kept"
    assert both / len(wanted) >= LEAST, "documents that the exact rule drops are kept"
    assert right / len(dropped) >= LEAST and not chains, "documents are dropped that are like none kept"


def meeting(pairs: dict[tuple[int, int], float], signatures: Path) -> set[tuple[int, int]]:
    """The pairs that share a band, by the signatures on disk: document i is row i // SHARDS of shard i % SHARDS."""
    bands: list[Any] = []
    for file in sorted(signatures.glob("*.parquet")):
        table = pyarrow.parquet.read_table(file)
        columns = [name for name in table.column_names if name.startswith("band_")]
        bands.append(np.stack([table[name].to_numpy() for name in columns], axis=1))
    of = [bands[i % SHARDS][i // SHARDS] for i in range(DOCUMENTS)]
    return {(a, b) for a, b in pairs if (of[a] == of[b]).any()}


def run(shards: list[Path], out: Path, similarity: float) -> dict[str, Any]:
    """What one run of `dedupe` in a new process found, and took; and what another took without its sample."""
    found: dict[str, Any] = {}
    for name, sample, to in (("with", 1_000, out), ("without", 0, out.with_name(f"{out.name}-fast"))):
        words = json.dumps([[str(s) for s in shards], str(to), similarity, sample])
        done = subprocess.run(
            [sys.executable, "-c", RUN, words], stdout=subprocess.PIPE, text=True, check=True
        )
        took = json.loads(done.stdout)
        found = found or took
        found[name] = {key: took[key] for key in ("seconds", "cpu")}
    return found


if __name__ == "__main__":
    main()
