"""Pages to texts: WARC files, whoever fetched them, to a folder of documents.

Each WARC file becomes one file of documents and a note with what was counted, so that a job that was killed
goes on with the next file. Pages are extracted in several child processes (`sandbox.py`), and the documents stand
in the order of the pages whatever the number of processes. Why a page gave no document is counted by cause, and
damage in a file costs its damaged records and no more.

    gpt2 corpus extract crawl/pages-*.warc.gz --out documents
"""

from __future__ import annotations

import os
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from gpt2.console import QUIET, Console
from gpt2.corpus.documents import SHARD, Document, write_documents
from gpt2.corpus.extract.methods import SECONDS, Extractor, Method, method_named
from gpt2.corpus.fetch.pages import Page, read_pages
from gpt2.errors import InputError, TooLittleData
from gpt2.workspace import Json, Workspace, clear_drafts, digest, read_json, write_json

MARK, NOTES = "extract.json", "extraction"
AHEAD = 8
"""Pages that wait for each process."""


@dataclass(frozen=True)
class Extracted:
    """What came of extracting WARC files."""

    folder: Path
    """The documents."""
    pages: int
    """Responses in the files."""
    documents: int
    """How many gave a document."""
    causes: dict[str, int]
    """Why the others gave none, the most frequent first."""
    faults: list[str]
    """Damage in the files, each in a sentence."""


def extract_files(
    files: Sequence[Path],
    folder: Path,
    method: Method = "default",
    seconds: float = SECONDS,
    processes: int | None = None,
    console: Console = QUIET,
) -> Extracted:
    """Extract the pages of WARC files into `folder`, or go on where an earlier call was interrupted.

    `seconds`: what a page may take; `processes`: as many as there are cores when not given. Raises `InputError`
    for a file that is not there and for a folder with other work in it, `TooLittleData` without any document.
    """
    method_named(method)
    for file in files:
        if not file.is_file():
            raise InputError(f"there is no file {file}; give WARC files")
    stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    key = digest({"method": method, "seconds": seconds, "files": stats})
    with Workspace(folder):
        if (folder / MARK).exists():
            if read_json(folder / MARK).get("key") != key:
                raise InputError(
                    f"{folder} has documents of other pages or another method; give a new folder"
                )
        elif any(not path.name.startswith(".") for path in folder.iterdir()):
            raise InputError(f"{folder} has other files in it; give a new or empty folder")
        else:
            write_json(folder / MARK, {"key": key, "method": method, "seconds": seconds})
        clear_drafts(folder / NOTES)
        notes: list[Json] = []
        with ExitStack() as stack, console.progress("extracting", len(files), "files") as bar:
            pool = stack.enter_context(Pool(method, seconds, processes or os.cpu_count() or 1))
            for i, file in enumerate(files):
                note = folder / NOTES / f"{i:05d}.json"
                if not note.exists():
                    write_json(note, extract_file(file, folder / SHARD.format(i), pool))
                notes.append(read_json(note))
                bar.advance()
    causes: Counter[str] = Counter()
    for told in notes:
        causes.update(told["causes"])
    documents = sum(told["documents"] for told in notes)
    if not documents:
        raise TooLittleData(f"no page of {len(files)} files gave a document: {dict(causes.most_common(5))}")
    faults = [fault for told in notes for fault in told["faults"]]
    pages = sum(told["pages"] for told in notes)
    return Extracted(folder, pages, documents, dict(causes.most_common()), faults)


def extract_file(file: Path, path: Path, pool: Pool) -> Json:
    """Write the documents of one WARC file to `path`; returns what was counted."""
    causes: Counter[str] = Counter()
    faults: list[str] = []
    pages = 0

    def documents() -> Iterator[Document]:
        nonlocal pages
        for found in pool.documents(read_pages(file, faults)):
            pages += 1
            if isinstance(found, Document):
                yield found
            else:
                causes[found] += 1

    written = write_documents(path, documents())
    return {"file": str(file), "pages": pages, "documents": written, "causes": causes, "faults": faults}


class Pool:
    """Extractors side by side: each thread of this process has one and waits for it."""

    def __init__(self, method: Method, seconds: float, processes: int) -> None:
        self.method, self.seconds, self.processes = method, seconds, processes
        self._own = threading.local()
        self._made: list[Extractor] = []
        self._threads = ThreadPoolExecutor(processes)

    def documents(self, pages: Iterable[Page]) -> Iterator[Document | str]:
        """The document of each page, or the cause why it has none, in the order of the pages."""
        waiting: deque[Future[Document | str]] = deque()
        for page in pages:
            waiting.append(self._threads.submit(self._document, page))
            if len(waiting) > AHEAD * self.processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _document(self, page: Page) -> Document | str:
        if not hasattr(self._own, "extractor"):
            self._own.extractor = Extractor(self.method, self.seconds)
            self._made.append(self._own.extractor)
        found: Document | str = self._own.extractor.document(page)
        return found

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        for extractor in self._made:
            extractor.close()
