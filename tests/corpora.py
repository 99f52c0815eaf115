"""Small corpora for tests: prose that passes the rules, pages of it, archives of those, and what a build says."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from gpt2.corpus import Built, Document, read_documents
from gpt2.corpus.fetch.warc_writer import Response, WarcWriter

TEXT = (
    "the boats came into a harbour and people of town spoke about it with their neighbours that morning because "
    "winter had been long while every house needed bread from mill near river where children played after school "
    "until evening when lamps were lit along quiet streets and old men told stories to anyone who would listen"
)
WORDS = TEXT.split()


def prose(name: str, words: int = 160) -> str:
    """English enough to pass the rules, and unlike that of any other name."""
    drawn = random.Random(name)
    sentences = []
    while words > 0:
        length = drawn.randint(8, 14)
        sentences.append(" ".join([name.capitalize(), *drawn.choices(WORDS, k=length - 1)]) + ".")
        words -= length
    return " ".join(sentences)


def html(name: str, links: str = "") -> str:
    """A page whose main text is three paragraphs of prose."""
    paragraphs = "".join(f"<p>{prose(f'{name}{part}', 80)}</p>" for part in "xyz")
    return (
        f"<html><head><title>{name}</title></head><body><article>{paragraphs}</article>{links}</body></html>"
    )


def short(name: str) -> str:
    """A page with too little text."""
    return html(name).replace(prose(f"{name}y", 80), "").replace(prose(f"{name}z", 80), "")


def archive(
    path: Path, pages: dict[str, str] | list[tuple[str, str]], host: str = "http://example.org/"
) -> Path:
    """A WARC file of pages, by the path of their address."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        writer = WarcWriter(Path(folder), longest=10**12)
        for name, body in pages.items() if isinstance(pages, dict) else pages:
            writer.write(Response(host + name, body.encode(), headers=(("Content-Type", "text/html"),)))
        writer.close()
        return next(Path(folder).glob("*.warc.gz")).replace(path)


def documents(built: Built) -> list[Document]:
    """The documents of a build."""
    return list(read_documents(built.documents))


def counts(built: Built) -> dict[str, int]:
    """How many came through each step."""
    return {row["step"]: row["count"] for row in built.funnel}


def reasons(built: Built) -> dict[tuple[str, str], int]:
    """What was dropped, by step and reason."""
    return {(row["step"], row["reason"]): row["count"] for row in built.drops}


def dropped(built: Built, step: str) -> int:
    """How many a step dropped."""
    return sum(n for (s, _), n in reasons(built).items() if s == step)


def taken(built: Built) -> dict[tuple[str, str], int]:
    """What was taken out of texts or lost before it could be counted, by step and kind."""
    return {(row["step"], row["what"]): row["count"] for row in built.taken}


def check(built: Built) -> None:
    """Steps of one unit never grow, and what is missing between two steps is among the drops."""
    last: dict[str, int] = {}
    for row in built.funnel:
        assert 0 <= row["count"] <= last.get(row["unit"], row["count"]), row
        last[row["unit"]] = row["count"]
    n = counts(built)
    assert n["texts"] - dropped(built, "cleaning") == n["clean texts"]
    assert n["clean texts"] - dropped(built, "duplicates") == n["distinct texts"]
    assert n["distinct texts"] - dropped(built, "removals") == n["documents"] == len(documents(built))
    if built.kind in ("pages", "links"):
        assert n["responses"] - dropped(built, "pages") == n["pages"]
        assert n["pages"] - dropped(built, "extraction") == n["texts"]
    if built.kind == "pages":
        assert sum(reasons(built).values()) == n["responses"] - n["documents"], "all drops, and nothing else"
    if built.kind == "links":
        assert n["links"] - dropped(built, "links") == n["wanted links"]
        assert n["wanted links"] - dropped(built, "fetch") == n["fetched"] == n["responses"]
    if built.kind == "site":
        assert n["links"] - dropped(built, "fetch") == n["pages"]
        assert n["pages"] - dropped(built, "votes") == n["voted pages"]
    ids = [d.id for d in documents(built)]
    assert len(set(ids)) == len(ids)
    assert all(d.text.strip() and d.group for d in documents(built))
