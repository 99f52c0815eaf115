"""The tokenisation of the Penn Treebank, both ways: that of PTB, the Children's Book Test and LAMBADA.

It sets off punctuation, writes quotes as `` and '', brackets as -LRB- and -RRB-, and parts contractions into
words: ca n't, it 's, gon na. A full stop is set off unless the word is a known abbreviation or has another one
in it; hyphens stay. Three data sets, three dialects: PTB in Mikolov's form has lost its punctuation and quotes
and writes / as \\/; LAMBADA has all in small letters, -lrb- too.

`joins` says which gaps of a tokenised line close in running text, `spell` how a token is written there, and
`split` is the tokeniser for a piece of running text without spaces. As in `gpt2.evaluation.moses`, neither
has to be right always.
Source of the rules: the tokenisation guidelines of the Penn Treebank (Marcus et al. 1993), retold.

    split("(can't!", LAMBADA)  # ["-lrb-", "ca", "n't", "!"]
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

TITLES = "mr mrs ms messrs dr prof st jr sr vs etc gen col capt lt sgt maj rev hon gov sen det no"
ABBREVIATIONS = frozenset(TITLES.split())
"""Words whose full stop stays, in small letters."""
PARTED = {"cannot": 3, "gonna": 3, "wanna": 3, "gotta": 3, "gimme": 3, "lemme": 3, "'tis": 2, "'twas": 2}
"""Words that are two tokens, and the letters of the first."""
ELIDED = frozenset(["'em", "'cause", "'til", "'bout", "'round", "'course", "'n"])
"""Words that begin with an apostrophe, which is no quote."""

BEGINS = re.compile(r"(?:[A-Za-z]{1,2})?\$|[\"'(\[{#]")
ENDS = re.compile(r"[?!]+$|\.{2,}$|[,;:%)\]}\"']$")
CONTRACTION = re.compile(r"(?<=.)(?:n't|'(?:s|m|d|re|ve|ll))$", re.I)
CLOSING = re.compile(r"[,;:%)\]}.?!]+|''?|-r[rsc]b-|n't|'(?:s|m|d|re|ve|ll)", re.I)
OPENING = re.compile(r"``?|[(\[{]|-l[rsc]b-", re.I)
MONEY = re.compile(r"(?:[a-z]{1,2})?\$|#", re.I)


@dataclass(frozen=True)
class Dialect:
    """In what the three differ."""

    brackets: Mapping[str, str]
    """How ( ) [ ] { } are written."""
    stops: bool = True
    """Whether a full stop at the end of a word can be a token."""
    escaped: str = ""
    """Characters that are written with a backslash before them."""


NAMES = dict(zip("()[]{}", ("lrb", "rrb", "lsb", "rsb", "lcb", "rcb"), strict=True))
PTB = Dialect({}, stops=False, escaped="/*")
CBT = Dialect({sign: f"-{name.upper()}-" for sign, name in NAMES.items()})
LAMBADA = Dialect({sign: f"-{name}-" for sign, name in NAMES.items()})


def spell(token: str, dialect: Dialect) -> str:
    """How a token is written in running text."""
    for sign, name in dialect.brackets.items():
        if token == name:
            return sign
    for sign in dialect.escaped:
        token = token.replace(f"\\{sign}", sign)
    return {"``": '"', "''": '"', "`": "'"}.get(token, token)


def joins(tokens: Sequence[str]) -> list[bool]:
    """Whether the gap after each token closes in running text: one for each token, the last one False."""
    return [
        bool(token and after)
        and bool(
            CLOSING.fullmatch(after)
            or OPENING.fullmatch(token)
            or (MONEY.fullmatch(token) and (after[0].isdigit() or after == "N"))
            or PARTED.get((token + after).lower()) == len(token)
        )
        for token, after in zip(tokens, [*tokens[1:], ""], strict=True)
    ]


def split(piece: str, dialect: Dialect) -> list[str]:
    """Tokens of a piece of running text without spaces."""
    head: list[str] = []
    tail: list[str] = []
    while (found := BEGINS.match(piece)) and piece != found[0] and not elided(piece):
        head.append({'"': "``", "'": "`"}.get(found[0], found[0]))
        piece = piece[found.end() :]
    while True:
        if (found := ENDS.search(piece)) and found.start():
            tail.append("''" if found[0] == '"' else found[0])
        elif piece.endswith(".") and dialect.stops and piece.strip(".") and not keeps_stop(piece[:-1]):
            tail.append(".")
        elif found := CONTRACTION.search(piece):
            tail.append(found[0])
        else:
            break
        piece = piece[: -len(found[0]) if found else -1]
    cut = PARTED.get(piece.lower())
    middle = [piece[:cut], piece[cut:]] if cut else ["''" if piece == '"' else piece]
    return [written(token, dialect) for token in [*head, *middle, *reversed(tail)]]


def elided(piece: str) -> bool:
    """Whether the apostrophe that a piece begins with belongs to a word."""
    bare = piece.rstrip(".,;:?!\"'").lower()
    return bare in ELIDED or bare in PARTED or bare in ("'s", "'m", "'d", "'re", "'ve", "'ll")


def keeps_stop(word: str) -> bool:
    """Whether the full stop after a word belongs to it."""
    bare = word.lower()
    return (
        bare in ABBREVIATIONS or "." in word.strip(".") or (len(word) == 1 and bare.isalpha() and bare != "i")
    )


def written(token: str, dialect: Dialect) -> str:
    """How a token of running text is written in the dialect."""
    for sign in dialect.escaped:
        token = token.replace(sign, f"\\{sign}")
    return dialect.brackets.get(token, token)
