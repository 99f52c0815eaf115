"""Links to pages to documents (the paper's WebText, 2.1).

documents.py  Document: the record, Parquet files of it, a user's own text
jobs.py       input as stretches of archives and files, a shard each
shards.py     the shards of a corpus, made job by job in one way
engine.py     functions mapped over shards by Daft, here or on a cluster
funnel.py     counts of each step, reasons and examples of drops
links/        links with votes
fetch/        links to pages
extract/      pages to documents
clean/        documents mended or dropped by rules
dedupe/       exact and near duplicates
site/         the embedded site, and its own way from links to texts
build/        the whole recipe; datasheet, removals, statistics
"""

import os

os.environ.setdefault("DAFT_PROGRESS_BAR", "0")  # progress is shown by gpt2.console, or not at all
os.environ.setdefault("DAFT_SHOW_QUERY_ID", "0")

from gpt2.corpus.build.recipe import BuildConfig, Built, build
from gpt2.corpus.documents import Document, read_documents, read_text, write_documents
from gpt2.corpus.extract.methods import extract

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
