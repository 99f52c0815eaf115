"""Exact and near duplicates (the paper's "de-duplication").

search.py      the documents to drop of a corpus larger than memory
minhash.py     words, n-grams, MinHash signatures and the shape of their bands
signatures.py  signatures and n-grams of shards on disk
clusters.py    which documents meet in a band, and which of them are dropped
duplicates.py  the list of duplicates: written, shown, taken out of the shards
recall.py      how many were found: a sample against all others by brute force
"""

from gpt2.corpus.dedupe.search import DedupeConfig, Deduped, dedupe, settings

__all__ = ["DedupeConfig", "Deduped", "dedupe", "settings"]
