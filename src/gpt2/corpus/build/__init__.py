"""The whole recipe, and what is kept and said of a corpus.

recipe.py      the stages in order
datasheet.py   what a corpus is made of, with its digests
takedown.py    documents taken out for good
statistics.py  domains beside WebText's, languages, lengths
"""

from gpt2.corpus.build.recipe import BuildConfig, Built, build, input_digest

__all__ = ["BuildConfig", "Built", "build", "input_digest"]
