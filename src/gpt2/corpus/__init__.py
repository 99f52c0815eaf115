"""Links to pages to documents (the paper's WebText, 2.1).

documents.py      Document: the record, Parquet files of it, a user's own text
links.py          Link: lists with votes, canonical addresses, the rule of 3 votes
pages.py          Page: WARC and ARC files
fetch.py          links to pages: the polite, safe, restartable fetcher
extract.py        pages to main text, in a child process that a page cannot stall
head.py           title, date and canonical address that a page names
sandbox.py        the child process
clean.py          named rules that mend or drop
dedupe.py         exact and near duplicates
documentation.py  the embedded site: this Python's own documentation, and how its pages are cut
build.py          the stages in order, and the funnel
"""

import os

os.environ.setdefault("DAFT_PROGRESS_BAR", "0")  # progress is shown by gpt2.console, or not at all
os.environ.setdefault("DAFT_SHOW_QUERY_ID", "0")

from gpt2.corpus.build import BuildConfig, Built, build
from gpt2.corpus.documents import Document, read_documents, read_text, write_documents
from gpt2.corpus.extract import extract

__all__ = [
    "BuildConfig",
    "Built",
    "Document",
    "build",
    "extract",
    "read_documents",
    "read_text",
    "write_documents",
]
