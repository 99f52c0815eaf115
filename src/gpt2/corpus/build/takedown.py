"""Taking documents out of a corpus for good: by address or by domain.

`remove` first writes what is to go into `removals.json`, which every later build in that folder respects, and
then rewrites the shards that have such documents, each whole or not at all, and the datasheet: killed at any
moment, the next call or build ends what was begun. A domain covers its subdomains; an address is compared in
its canonical form, with the document's id too. Token shards are another step's files and are not touched:
`to_rewrite` says which of them hold what was removed and must be written anew.

The stages of the build (`pages/`, `texts/`, ...) still hold what was removed. They are needed to build again,
under which nothing removed comes back; to be rid of them too, delete those folders.

    remove(Path("corpus"), Removals(domains=("example.org",)))
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt2.corpus.build.datasheet import after_removal
from gpt2.corpus.dedupe.duplicates import write_shard
from gpt2.corpus.documents import corpus_files, parquet_rows
from gpt2.corpus.links.address import canonical
from gpt2.corpus.links.blocklist import host_of
from gpt2.corpus.shards import facts
from gpt2.errors import FormatError, InputError
from gpt2.tokens import trace
from gpt2.tokens.shards import Shards
from gpt2.workspace import Json, Workspace, read_json, write_json

REMOVALS = "removals.json"
HOLDING = ("pages", "texts", "clean", "duplicates")
"""Folders of a build that still have what was removed."""


@dataclass(frozen=True)
class Removals:
    """What must not be in a corpus."""

    urls: tuple[str, ...] = ()
    """Addresses, in canonical form."""
    domains: tuple[str, ...] = ()
    """Domains, with all their subdomains."""

    def covers_any(self, addresses: Iterable[str | None]) -> bool:
        """Whether one of a document's addresses is to be removed."""
        if not self.urls and not self.domains:
            return False
        for address in addresses:
            if address and (
                address in self.urls or canonical(address) in self.urls or self.in_domain(address)
            ):
                return True
        return False

    def in_domain(self, address: str) -> bool:
        """Whether an address is of one of the domains."""
        host, wanted = host_of(address), frozenset(self.domains)
        while host and host not in wanted:
            host = host.partition(".")[2]
        return bool(host)


def asked(urls: Iterable[str], domains: Iterable[str]) -> Removals:
    """Removals as a person names them; `InputError` for what is neither an address nor a domain."""
    addresses, names = [], []
    for url in urls:
        address = canonical(url)
        if address is None:
            raise InputError(f"{url!r} is no address; give one such as http://example.org/page")
        addresses.append(address)
    for domain in domains:
        host = host_of(f"http://{domain.strip().removeprefix('*.').strip('.').lower()}/")
        if not {".", ":"} & {*host} or "/" in domain or " " in domain.strip():
            raise InputError(f"{domain!r} is no domain; give one such as example.org, or a page with --url")
        names.append(host.encode("idna").decode() if not host.isascii() else host)
    if not addresses and not names:
        raise InputError("say what to remove: --url or --domain")
    return Removals(tuple(sorted(addresses)), tuple(sorted(names)))


def read_removals(folder: Path) -> Removals:
    """What was ever asked to be removed from the corpus in a folder."""
    path = folder / REMOVALS
    if not path.exists():
        return Removals()
    try:
        rows = read_json(path)["asked"]
        return Removals(
            tuple(sorted({url for row in rows for url in row["urls"]})),
            tuple(sorted({domain for row in rows for domain in row["domains"]})),
        )
    except (KeyError, TypeError):
        raise FormatError(
            f"{path} is no list of removals; restore it before anything is built anew"
        ) from None


def home(corpus: Path) -> Path:
    """The folder in which a corpus was built, or the corpus itself where it stands alone."""
    folder = corpus_files(corpus)[0].parent
    return folder.parent if folder.name == "documents" else folder


def remove(corpus: Path, what: Removals) -> list[Json]:
    """Remove documents from a corpus; returns for each shard that was rewritten its name and the ids that went.

    Raises `InputError` where there is no corpus, `BusyError` while it is being built.
    """
    with Workspace(home(corpus)):
        return remove_from(corpus, what)


def remove_from(corpus: Path, what: Removals) -> list[Json]:
    """The same, when no other process works there."""
    folder = home(corpus)
    path = folder / REMOVALS
    rows = read_json(path)["asked"] if path.exists() else []
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    write_json(path, {"asked": [*rows, {"urls": what.urls, "domains": what.domains, "when": now}]})
    every = read_removals(folder)
    changed = []
    for file in corpus_files(corpus):
        gone = [row["id"] for row in parquet_rows(file, ["id"], ["url"]) if every.covers_any(row.values())]
        if gone:
            write_shard(file, file, np.empty(0, np.int64), every)
            changed.append({"shard": file.name, "ids": gone})
    files = corpus_files(corpus)
    after_removal(files[0].parent, map(facts, files), every)
    return changed


def still_held(corpus: Path) -> list[Path]:
    """Folders beside a corpus that still have what was removed from it."""
    return [folder for name in HOLDING if (folder := home(corpus) / name).exists()]


def to_rewrite(tokens: Path, what: Removals) -> Json:
    """What must be written anew of a folder of token shards: files, and the documents in them that are to go.

    The vocabulary may have been learned from them too; a model trained on the tokens has read them.
    """
    shards = Shards.open(tokens)
    found = list(trace.places(shards, lambda id, url: what.covers_any((url, id))))
    return {
        "documents": [{"id": place.id, "url": place.url, "files": place.files} for place in found],
        "files": sorted({name for place in found for name in place.files}),
    }
