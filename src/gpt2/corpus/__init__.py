"""Links to pages to documents (the paper's WebText, 2.1).

documents.py      Document: the record, Parquet files of it, a user's own text
links.py          Link: votes, canonical addresses; gathering links under the rule of 3 votes
dumps.py          Row: dumps of submissions, packed in any way
sources.py        dumps, CSV, lists, sitemaps, WARC and Parquet as rows
blocklist.py      what a link may not be: lists of hosts, endings, domains, subreddits
sift.py           the rules of links by name, what falls to each
buckets.py        millions of links merged in bounded memory
fetch.py          links to pages: the polite, safe, restartable fetcher
frontier.py       its links: millions in little memory
schedule.py       its hosts: whose turn it is
client.py         one request, within limits
addresses.py      which addresses may be asked
robots.py         what sites ask of crawlers
outcomes.py       Fetched: how each link ended; going on from there
warc_writer.py    WARC files, begun anew at a certain size
warc.py           Record: WARC and ARC files, read past damage
pages.py          Page: what a record holds, its encodings undone
extract.py        pages to main text, in a child process that a page cannot stall
blocks.py         a page as blocks of text
main_text.py      which blocks are its main text: a classifier after the paper's Dragnet
head.py           title, date and canonical address that a page names
sandbox.py        the child process
gold.py           extraction measured on pages marked by hand
texts.py          WARC files to documents, by that
clean.py          documents mended or dropped by rules, drops kept with their reasons
rules.py          the rules that drop: Wikipedia, length, language, Gopher's and C4's
mending.py        the rules that mend: mojibake, control characters, notices
frames.py         lines that many pages of a host share
quality.py        what the rules measure in a text
rule_lists.py     the lists of rules in use; a user's own file of them
dedupe.py         exact and near duplicates: over shards, and of a list
minhash.py        words, n-grams, MinHash signatures and the shape of their bands
signatures.py     signatures and n-grams of shards on disk
clusters.py       which documents meet in a band, and which of them are dropped
duplicates.py     the list of duplicates: written, shown, taken out of the shards
recall.py         how many were found: a sample against all others by brute force
documentation.py  the embedded site: this Python's own documentation, and how its pages are cut
site.py           the embedded site's own way from links to texts
build.py          the whole recipe: the stages in order
jobs.py           input as stretches of archives and files, a shard each
shards.py         what is done with one shard
engine.py         functions mapped over shards by Daft, here or on a cluster
votes.py          the votes of links, looked up by many processes
funnel.py         counts of each step, reasons and examples of drops
datasheet.py      what a corpus is made of, with its digests
takedown.py       documents taken out for good
statistics.py     domains beside WebText's, languages, lengths
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
