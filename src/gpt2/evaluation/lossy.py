"""The de-tokenisers that others measure with, rule for rule: they lose information, and have no inverse.

Numbers that other programs report were made with these, so comparing with them takes the same text: that of
WikiText as in Megatron-LM and lm-evaluation-harness, those of PTB and One Billion Word as in the code of
Score Entropy Discrete Diffusion (Lou et al. 2024), whose GPT-2 baselines are often quoted. Several rules are
slips and are kept as they are: on WikiText, "s '" closes up inside quotes too, a rule about years has slashes
in its pattern and never applies, and the word N becomes 1; on PTB, 1 stands for any number and ? for any rare
word. For measuring by the paper's own rule see `gpt2.evaluation.detokenize`, which loses nothing.

    lossy("wikitext", page)
"""

from __future__ import annotations

import re

from gpt2.errors import ConfigError, nearest

Rule = tuple[str | re.Pattern[str], str]
"""What is replaced everywhere, and by what; rules apply one after the other."""


def around(left: str, right: str, inside: str, space: str) -> re.Pattern[str]:
    """Something between two signs, with space inside the signs."""
    return re.compile(f"{left}{space}({inside}){space}{right}")


WIKITEXT: tuple[Rule, ...] = (
    ("s '", "s'"),
    (re.compile("/' [0-9]/"), "/'[0-9]/"),
    *((f" @{sign}@ ", sign) for sign in "-,."),
    *((f" {sign} ", f"{sign} ") for sign in ":;.!?,"),
    (around(r"\(", r"\)", r"[^\)]*?", r"\s*"), r"(\1)"),
    (around(r"\[", r"\]", r"[^\]]*?", r"\s*"), r"[\1]"),
    (around("{", "}", "[^}]*?", r"\s*"), r"{\1}"),
    (around('"', '"', '[^"]*?', r"\s*"), r'"\1"'),
    (around("'", "'", "[^']*?", r"\s*"), r"'\1'"),
    ("= = = =", "===="),
    ("= = =", "==="),
    ("= =", "=="),
    (" ° ", "°"),
    (" \n", "\n"),
    ("\n ", "\n"),
    (" N ", " 1 "),
    (" 's", "'s"),
)
PTB: tuple[Rule, ...] = (
    (" 's", "'s"),
    ("s ' ", "s' "),
    (" n't", "n't"),
    (" \n ", "\n"),
    ("\\/", "/"),
    *[(" N ", " 1 ")] * 10,  # N N N: each pass takes every other one
    ("$ 1", "$1"),
    ("# 1", "#1"),
    ("<unk>", "?"),
)
LM1B: tuple[Rule, ...] = (
    ("http : / / ", "http://"),
    ("https : / / ", "https://"),
    (re.compile(r" '(\w+)"), r"'\1"),
    (re.compile(r" (\w+) \. "), r" \1. "),
    (re.compile(r" (\w+) \.$"), r" \1."),
    (" ? ", "? "),
    (re.compile(r" \?$"), "?"),
    (" ! ", "! "),
    (re.compile(r" !$"), "!"),
    *((f" {sign} ", f"{sign} ") for sign in ",:;"),
    (" / ", "/"),
    (around('"', '"', '[^"]+', " "), r'"\1"'),
    (around("'", "'", "[^']+", " "), r"'\1'"),
    (around(r"\(", r"\)", r"[^\(\)]+", " "), r"(\1)"),
    (around(r"\[", r"\]", r"[^\[\]]+", " "), r"[\1]"),
    ("$ ", "$"),
    ("£ ", "£"),
)
SETS = {"wikitext": WIKITEXT, "ptb": PTB, "lm1b": LM1B}


def lossy(name: str, text: str) -> str:
    """A text by the rules of a set: a page or a file of WikiText and PTB, a sentence of One Billion Word."""
    if name not in SETS:
        raise ConfigError(f"unknown set of rules {name!r}{nearest(name, SETS)}; there are {', '.join(SETS)}")
    for old, new in SETS[name]:
        text = text.replace(old, new) if isinstance(old, str) else old.sub(new, text)
    return text
