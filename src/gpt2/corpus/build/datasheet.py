"""The datasheet that stands beside a corpus: what it is made of, when, by which rules, and its digests.

`datasheet.json` is for programs and `datasheet.md` says the same to people, under the headings of "Datasheets
for Datasets" (Gebru et al., 2021) as far as a program can answer them. Both are written with the documents, and
anew when documents are removed. The digest of the whole is that of its shards' sha256, so two people can see
whether they have the same corpus.

    python -c "import json; print(json.load(open('corpus/documents/datasheet.json'))['digest'])"
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2.workspace import Json, atomic_write, digest, file_digest, read_json, versions, write_json

if TYPE_CHECKING:
    from gpt2.corpus.build.takedown import Removals

SHEET, PAGE = "datasheet.json", "datasheet.md"
REMOVED = {"step": "removals", "reason": "asked to be removed"}
"""What is said of documents that were removed."""
LARGE = 1 << 28
"""Bytes from which an input file is named by its size alone: its digest would take minutes."""


def write_datasheet(
    folder: Path,
    built: Json,
    shards: Sequence[Json],
    settings: Json,
    inputs: Sequence[Path],
    removals: Removals,
    faults: Sequence[str],
) -> None:
    """Write both files into the folder of the documents.

    `built`: kind, description, funnel, drops and taken; `shards`: name, documents, characters, size and sha256 of
    each; `settings`: everything the build was asked for.
    """
    told = {key: built[key] for key in ("kind", "description", "funnel", "taken")}
    write_sheets(
        folder,
        {
            "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "made_by": versions(),
            **told,
            "drops": [{k: row[k] for k in ("step", "reason", "count")} for row in built["drops"]],
            "sources": [described(path) for path in inputs],
            "faults": list(faults),
            "settings": settings,
            **totals(shards),
            "removals": {
                "urls": len(removals.urls),
                "domains": list(removals.domains),
                "documents": sum(row["count"] for row in built["drops"] if row["step"] == REMOVED["step"]),
            },
        },
    )


def totals(shards: Iterable[Json]) -> Json:
    """The shards, what they come to, and the digest of them all."""
    names = ("name", "documents", "characters", "size", "sha256")
    rows = [{name: shard[name] for name in names} for shard in shards]
    return {
        "documents": sum(row["documents"] for row in rows),
        "characters": sum(row["characters"] for row in rows),
        "digest": digest([row["sha256"] for row in rows]),
        "shards": rows,
    }


def after_removal(folder: Path, shards: Iterable[Json], removals: Removals) -> None:
    """Write the datasheet anew after documents were removed, where there is one.

    How many are gone follows from those that are left, so it is right after a removal that was killed too.
    """
    if not (folder / SHEET).exists():
        return
    sheet = read_json(folder / SHEET) | totals(shards)
    *before, last = sheet["funnel"]
    sheet["funnel"] = [*before, last | {"count": sheet["documents"]}]
    gone = before[-1]["count"] - sheet["documents"]
    others = [row for row in sheet["drops"] if row["step"] != REMOVED["step"]]
    drops = [*others, REMOVED | {"count": gone}] if gone else others
    sheet["drops"] = sorted(drops, key=lambda row: (-row["count"], row["step"], row["reason"]))
    sheet["removals"] = {
        "urls": len(removals.urls),
        "domains": list(removals.domains),
        "documents": gone,
        "last": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    write_sheets(folder, sheet)


def described(path: Path) -> Json:
    """A source by name, size and digest; of a folder, how many files and their size."""
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file()]
        return {"name": path.name, "files": len(files), "size": sum(file.stat().st_size for file in files)}
    size = path.stat().st_size
    return {"name": path.name, "size": size} | ({"sha256": file_digest(path)} if size < LARGE else {})


def write_sheets(folder: Path, sheet: Json) -> None:
    """Write the datasheet for programs and for people."""
    write_json(folder / SHEET, sheet)
    with atomic_write(folder / PAGE, "w") as stream:
        stream.write(page(sheet))


def page(sheet: Json) -> str:
    """The datasheet as Markdown."""
    gone = sheet["removals"]
    parts = [
        f"# Datasheet\n\n{sheet['documents']:,} documents of {sheet['characters']:,} characters: "
        f"{sheet['description']}. Digest `{sheet['digest']}`.",
        "## Composition\n\nEach document is a text with id, group (what is held out together), title, language, "
        "address, votes, date and source. Ids stay with the text down to token shards.",
        "## Collection\n\n" + table(["source", "files", "bytes", "sha256"], map(source_row, sheet["sources"]))
        if sheet["sources"]
        else "## Collection\n\nNothing was given from outside.",
        "## Cleaning\n\n"
        + table(
            ["step", "count", "of", "note"],
            [[row["step"], f"{row['count']:,}", row["unit"], row["note"]] for row in sheet["funnel"]],
        ),
        "What was dropped:\n\n"
        + table(
            ["step", "reason", "count"],
            [[row["step"], row["reason"], f"{row['count']:,}"] for row in sheet["drops"]],
        ),
        *(
            [
                "What was taken out of texts, or lost before it could be counted:\n\n"
                + table(
                    ["step", "what", "count"],
                    [[row["step"], row["what"], f"{row['count']:,}"] for row in sheet["taken"]],
                )
            ]
            if sheet.get("taken")
            else []
        ),
        "## Settings\n\n" + table(["setting", "value"], flat(sheet["settings"])),
        f"## Maintenance\n\nRemoved on request: {gone['urls']:,} addresses and {len(gone['domains']):,} domains. "
        "`gpt2 corpus remove` takes out more, and later builds respect it.",
        "## Made\n\n"
        + sheet["made"]
        + " with "
        + ", ".join(f"{k} {v}" for k, v in sheet["made_by"].items())
        + ".",
        table(
            ["shard", "documents", "characters", "sha256"],
            [
                [row["name"], f"{row['documents']:,}", f"{row['characters']:,}", row["sha256"]]
                for row in sheet["shards"]
            ],
        ),
    ]
    if sheet["faults"]:
        lines = "\n".join(f"- {cell(fault)}" for fault in sheet["faults"])
        parts.insert(3, f"Stretches of the sources that could not be read:\n\n{lines}")
    return "\n\n".join(parts) + "\n"


def source_row(source: Json) -> list[object]:
    """A source as a row."""
    return [source["name"], source.get("files", 1), f"{source['size']:,}", source.get("sha256", "")]


def flat(settings: Json, before: str = "") -> list[list[object]]:
    """Settings of settings, one a row, by dotted names."""
    rows: list[list[object]] = []
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            rows += flat(value, f"{before}{name}.")
        else:
            rows.append([before + name, shown(value)])
    return rows


def shown(value: Any) -> str:
    """A setting's value: lists cut after a few."""
    if isinstance(value, set | frozenset):
        value = sorted(value)
    if isinstance(value, list | tuple):
        more = f" and {len(value) - 8:,} more" if len(value) > 8 else ""
        return ", ".join(shown(item) for item in value[:8]) + more
    return str(value)


def table(header: Sequence[str], rows: Any) -> str:
    """A table of Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell(value) for value in line) + " |" for line in lines)


def cell(value: object) -> str:
    """A value that leaves its table whole."""
    return " ".join(str(value).replace("|", "\\|").replace("<", "&lt;").split())
