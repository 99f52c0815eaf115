"""The tokenisation of WikiText and of One Billion Word, both ways: rules to undo it and rules to do it.

Both were made with the tokeniser of the Moses translation system. It sets off every character that is no
letter, digit, full stop, apostrophe or hyphen; a comma unless between digits; a full stop at the end of a word
unless the word is a known abbreviation, has another full stop in it, or the next word begins with a small
letter; an apostrophe with what follows it (it 's). WikiText breaks at hyphens, commas and points inside words
and numbers too, and marks those: two @-@ part, 1 @,@ 000 @.@ 5.

`joins` says which gaps of a tokenised line close in running text; `split` is the tokeniser for a piece of
running text without spaces. Neither has to be right always: `gpt2.evaluation.detokenize` applies them only
where they undo each other. Dashes with spaces around stay so, as in most of Wikipedia.
Source of the rules: tokenizer.perl and nonbreaking_prefix.en of Moses (Koehn et al. 2007), retold.

    split("(it's", "", inner=True)  # ["(", "it", "'s"]
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase

TITLES = """
    Adj Adm Adv Asst Bart Bldg Brig Bros Capt Cmdr Col Comdr Con Corp Cpl DR Dr Drs Ens Gen Gov Hon Hr Hosp Insp
    Lt MM MR MRS MS Maj Messrs Mlle Mme Mr Mrs Ms Msgr Op Ord Pfc Ph Prof Pvt Rep Reps Res Rev Rt Sen Sens Sfc
    Sgt Sr St Supt Surg v vs rev
"""
ABBREVIATIONS = frozenset([*ascii_uppercase, *TITLES.split()])
"""Words whose full stop stays."""
BEFORE_NUMBERS = frozenset(["No", "Nos", "Art", "Nr", "pp"])
"""Words whose full stop stays before a number."""
MARKED = {"@-@": "-", "@,@": ",", "@.@": "."}
"""WikiText's marks for what stood inside a word or a number."""

ALONE = re.compile(r"(<unk>|<formula>)|\.{2,}|[^\w.'`,-]|[_²³¹¼½¾⁰-₉⅐-↋]")
COMMA = re.compile(r"(?<![\d>]),|,(?![\d<])")
APOSTROPHE = re.compile(r"((?:(?<=[^\W\d_])|(?<=>))'(?=[^\W\d_]|<)|(?<=\d)'(?=s))|'")
HYPHEN = re.compile(r"(?:(?<=[^\W_])|(?<=>))-(?=[^\W_]|<)")
NUMBER = re.compile(r"(?:\d+|<unk>)(?:[.,](?:\d+|<unk>))+")
CLITIC = re.compile(r"'[^\W\d_]")

CLOSING = frozenset(",.;:?!)]}%”″′♭♯")
OPENING = frozenset("([{“‘")
BEFORE_DIGITS = frozenset("$£€¥₤#−")
BETWEEN = frozenset(["@-@", "@,@", "@.@", "/", "‑", "⁄"])
BETWEEN_DIGITS = frozenset("–:")
AFTER_APOSTROPHE = frozenset(["s", "t", "re", "ve", "ll", "d", "m"])
DOLLARS = frozenset(["US", "A", "C", "HK", "NZ"])


def spell(token: str) -> str:
    """How a token is written in running text."""
    return MARKED.get(token, token)


def joins(tokens: Sequence[str]) -> list[bool]:
    """Whether the gap after each token closes in running text: one for each token, the last one False."""
    closed = [False] * len(tokens)
    quoted = {'"': False, "'": False}
    for i, token in enumerate(tokens):
        before = tokens[i - 1] if i else ""
        after = tokens[i + 1] if i + 1 < len(tokens) else ""
        left, right = sides(token, before, after)
        if token in quoted:
            left, right = quote_sides(tokens, i, quoted)
        if left and before:
            closed[i - 1] = True
        if right and after:
            closed[i] = True
    return closed


def sides(token: str, before: str, after: str) -> tuple[bool, bool]:
    """Whether a token, not a straight quote, is written without a space before it, and after it."""
    digits = before[-1:].isdigit() and after[:1].isdigit()
    if token in BETWEEN or (token in BETWEEN_DIGITS and digits):
        return True, True
    if token in CLOSING:
        return True, False
    if token in OPENING:
        return False, True
    if token in BEFORE_DIGITS:
        return token == "$" and before in DOLLARS, after[:1].isdigit()
    if token == "’":
        return True, after in AFTER_APOSTROPHE
    if token == "=":
        return before == "=", after == "="
    if token == "°":
        return before[-1:].isdigit(), after[:1].isdigit() or after in ("C", "F", "N", "S", "E", "W")
    if token == "&":
        initials = len(before) == len(after) == 1 and before.isupper() and after.isupper()
        return initials, initials
    return bool(CLITIC.match(token)) and (before[-1:].isalnum() or before[-1:] == ">"), False


def quote_sides(tokens: Sequence[str], i: int, quoted: dict[str, bool]) -> tuple[bool, bool]:
    """The same for a straight quote: they open and close in turn; `quoted` says which are open."""
    quote = tokens[i]
    before = tokens[i - 1] if i else ""
    if quote == "'" and not quoted[quote]:
        if before.endswith("s"):
            return True, False  # the players' association
        if quote not in tokens[i + 1 :]:  # an apostrophe: the '90s, comin'
            decade = any(token[:1].isdigit() for token in tokens[i + 1 : i + 2])
            return not decade, decade
    quoted[quote] = not quoted[quote]
    return not quoted[quote], quoted[quote]


def split(piece: str, following: str, inner: bool) -> list[str]:
    """Tokens of a piece of running text without spaces; `following` is the character after its space.

    With `inner`, hyphens, commas and points inside words and numbers are set off and marked, as in WikiText.
    """
    if piece.isalnum() or piece in MARKED:
        return [piece]
    text = ALONE.sub(lambda found: found[0] if found[1] else f" {found[0]} ", piece)
    text = COMMA.sub(" , ", text)
    text = APOSTROPHE.sub(lambda found: " '" if found[1] else " ' ", text)
    words = [word for word in text.split(" ") if word]
    tokens = []
    for word, after in zip(words, [*words[1:], following], strict=True):
        stop = word.endswith(".") and word.strip(".") != "" and not keeps_stop(word[:-1], after)
        tokens += (
            inner_split(word.removesuffix(".") if stop else word) if inner else [word[: len(word) - stop]]
        )
        tokens += ["."] if stop else []
    return tokens


def keeps_stop(word: str, after: str) -> bool:
    """Whether the full stop after a word belongs to it."""
    return (
        word in ABBREVIATIONS
        or ("." in word and any(c.isalpha() for c in word))
        or (word in BEFORE_NUMBERS and after[:1].isdigit())
        or after[:1].islower()
    )


def inner_split(word: str) -> list[str]:
    """WikiText's marks inside a word: 1,000-mile -> 1 @,@ 000 @-@ mile."""
    parts = HYPHEN.sub(" @-@ ", word).split(" ")
    return [
        token
        for part in parts
        for token in (re.sub("([.,])", r" @\1@ ", part).split(" ") if NUMBER.fullmatch(part) else [part])
    ]
