"""Documents: the main text of pages.

methods.py    the text of a page by four methods, in a child process that a page cannot stall
archives.py   WARC files to shards of documents, by that
blocks.py     a page as blocks of text
main_text.py  which blocks are its main text: a classifier after the paper's Dragnet
head.py       title, date and canonical address that a page names
sandbox.py    the child process
gold.py       extraction measured on pages marked by hand
"""

from gpt2.corpus.extract.methods import METHODS, Extractor, Method, document_of, extract, installed_methods

__all__ = ["METHODS", "Extractor", "Method", "document_of", "extract", "installed_methods"]
