"""What a corpus looks like in numbers: domains beside WebText's, languages, lengths, days, and its funnel.

OpenAI published the 1,000 domains with most documents in WebText (domains.txt of its gpt-2 repository), each by
its name without the ending: `bbc` for bbc.co.uk and bbc.com alike. Addresses are brought to the same names by
the public suffix list. The paper found 10 MB of French in its 40 GB (3.7), and 8 million documents (2.1).

    print(measure(Path("corpus"), Path("webtext/domains.txt"))["languages"][:3])
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpt2.console import QUIET, Console
from gpt2.corpus.build.datasheet import SHEET
from gpt2.corpus.documents import corpus_files, parquet_batches
from gpt2.corpus.links.blocklist import host_of
from gpt2.errors import FormatError, InputError, TooLittleData, need
from gpt2.workspace import MARK, Json, read_json

WEBTEXT = {"documents": 8_000_000, "bytes": 40_000_000_000, "french": 10_000_000}
"""The paper's 2.1 and 3.7."""
PUBLISHED = Path("webtext") / "domains.txt"
KNOWN = ("url", "language", "date", "votes")
LARGEST = 40
"""Domains that are shown."""


def published_domains(data: Path | None) -> Path | None:
    """The file of WebText's domains in a folder of data sets (or what GPT2_DATA names), where it is."""
    folder = data or (Path(os.environ["GPT2_DATA"]) if os.environ.get("GPT2_DATA") else None)
    path = folder / PUBLISHED if folder else None
    if data and path and not path.exists():
        raise InputError(f"there is no file {path} with WebText's domains; give the folder that has it")
    return path if path and path.exists() else None


def read_published(path: Path) -> dict[str, int]:
    """Documents of each of WebText's 1,000 largest domains; `FormatError` for another file."""
    found = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        count, _, name = line.strip().partition(" ")
        if not count.isdecimal():
            raise FormatError(f"line {number} of {path} is not a number and a domain")
        if name.strip():  # as published, one line has none
            found[name.strip()] = int(count)
    return found


def measure(corpus: Path, published: Path | None = None, console: Console = QUIET) -> Json:
    """Everything the report shows, as JSON. Raises `TooLittleData` for a corpus without documents."""
    files = corpus_files(corpus)
    hosts, languages, years, votes = Counter[str](), Counter[str](), Counter[str](), Counter[int]()
    language_bytes = Counter[str]()
    lengths: list[Any] = []
    with console.progress("measuring", len(files), "shards") as bar:
        for file in files:
            for batch in parquet_batches(file, ["text"], KNOWN):
                rows = {name: [None] * batch.num_rows for name in KNOWN} | batch.to_pydict()
                sizes = [len(text.encode()) for text in rows["text"]]
                lengths.append(np.array([len(text) for text in rows["text"]], np.int64))
                hosts.update(host_of(url) if url else "" for url in rows["url"])
                languages.update(language or "unknown" for language in rows["language"])
                for language, size in zip(rows["language"], sizes, strict=True):
                    language_bytes[language or "unknown"] += size
                years.update(date[:4] if date else "unknown" for date in rows["date"])
                votes.update(vote for vote in rows["votes"] if vote is not None)
            bar.advance()
    characters = np.concatenate([np.empty(0, np.int64), *lengths])
    if not len(characters):
        raise TooLittleData(f"{corpus} has no documents; nothing can be said of it")
    return {
        "corpus": told(files[0].parent),
        "documents": len(characters),
        "bytes": sum(language_bytes.values()),
        "characters": int(characters.sum()),
        "lengths": histogram(characters),
        "domains": domains(hosts, read_published(published) if published else None),
        "languages": [
            {"language": name, "documents": n, "bytes": language_bytes[name]}
            for name, n in sorted(languages.items(), key=lambda item: (-language_bytes[item[0]], item[0]))
        ],
        "years": [{"year": year, "documents": n} for year, n in sorted(years.items())],
        "votes": quantiles(votes),
        "webtext": WEBTEXT,
    }


def told(folder: Path) -> Json:
    """What the datasheet says, with the examples of the mark, or what the mark of one step says; else empty."""
    sheet = read_json(folder / SHEET) if (folder / SHEET).exists() else {}
    mark = read_json(folder / MARK) if (folder / MARK).exists() else {}
    result = mark.get("result", {})
    known = {(r["step"], r["reason"]): r["examples"] for r in result.get("drops", [])}
    drops = sheet.get("drops", result.get("drops", []))
    drops = [row | {"examples": known.get((row["step"], row["reason"]), [])} for row in drops]
    names = ("description", "digest", "made", "made_by", "funnel", "faults", "removals", "sources")
    return {
        "drops": drops,
        "taken": sheet.get("taken", result.get("taken", [])),
        **{name: sheet.get(name) for name in names},
    }


def histogram(values: Any) -> Json:
    """Counts between powers of two, with mean, median and ends."""
    places = np.floor(np.log2(np.maximum(values, 1))).astype(np.int64)
    low, high = int(places.min()), int(places.max())
    counts = np.bincount(places - low, minlength=high - low + 1)
    return {
        "bins": [
            {"from": 2 ** (low + i), "to": 2 ** (low + i + 1), "documents": int(n)}
            for i, n in enumerate(counts)
        ],
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "shortest": int(values.min()),
        "longest": int(values.max()),
    }


def domains(hosts: Mapping[str, int], published: Mapping[str, int] | None) -> Json:
    """Documents by domain name, beside WebText's where those are given."""
    ours = Counter[str]()
    for host, n in hosts.items():
        if host:
            ours[domain_name(host)] += n
    ranks = {name: rank for rank, name in enumerate(published or {}, 1)}
    ordered = sorted(ours.items(), key=lambda item: (-item[1], item[0]))
    our_ranks = {name: rank for rank, (name, _) in enumerate(ordered, 1)}
    found: Json = {
        "different": len(ours),
        "with_address": sum(ours.values()),
        "largest": [
            {"domain": name, "documents": n, "webtext_rank": ranks.get(name)} for name, n in ordered[:LARGEST]
        ],
        "webtext": None,
    }
    if published:
        among = [name for name in published if name in ours]
        found["webtext"] = {
            "domains": len(published),
            "ours": len(among),
            "documents": sum(ours[name] for name in among),
            "rank_correlation": rank_correlation(among, our_ranks, ranks),
            "largest": [
                {"domain": name, "webtext": n, "documents": ours[name], "rank": our_ranks.get(name)}
                for name, n in [*published.items()][:LARGEST]
            ],
        }
    return found


def domain_name(host: str) -> str:
    """A host's registered name without its public suffix, as OpenAI counted: `bbc` of www.bbc.co.uk."""
    find = need("tld", "corpus").get_tld
    found = find(f"http://{host}/", as_object=True, fail_silently=True, search_private=False)
    return str(found.domain) if found and found.domain else host


def rank_correlation(names: list[str], ours: Mapping[str, int], theirs: Mapping[str, int]) -> float | None:
    """Spearman's correlation of two rankings over the domains of both; None for fewer than ten."""
    if len(names) < 10:
        return None
    one, other = (np.argsort(np.argsort([ranks[name] for name in names])) for ranks in (ours, theirs))
    return float(np.corrcoef(one, other)[0, 1])


def quantiles(votes: Mapping[int, int]) -> Json | None:
    """How many votes documents have: least, quarters and most; None where none has any."""
    if not votes:
        return None
    values = np.repeat(sorted(votes), [votes[v] for v in sorted(votes)])
    shares = {"least": 0, "quarter": 0.25, "median": 0.5, "three quarters": 0.75, "most": 1}
    return {name: int(np.quantile(values, q, method="nearest")) for name, q in shares.items()}
