"""Documents mended or dropped by named rules, drops kept with their reasons.

cleaning.py    the shards of a corpus, one to one
cleaner.py     rules at work on one document
rules.py       the rules that drop: Wikipedia, length, language, Gopher's and C4's
mending.py     the rules that mend: mojibake, control characters, notices
frames.py      lines that many pages of a host share
quality.py     what the rules measure in a text
rule_lists.py  the lists of rules in use; a user's own file of them
"""

from gpt2.corpus.clean.cleaner import Cleaner, Dropped
from gpt2.corpus.clean.cleaning import Cleaned, clean
from gpt2.corpus.clean.rule_lists import OWN_TEXT, SITE, WEB, read_rules
from gpt2.corpus.clean.rules import Rules

__all__ = ["OWN_TEXT", "SITE", "WEB", "Cleaned", "Cleaner", "Dropped", "Rules", "clean", "read_rules"]
