"""Porter's stemmer: the endings of English words taken off, so that ROUGE sees `walked` and `walking` as one.

A word is consonants and vowels in turn, [C](VC){m}[V], and m is its measure; an ending goes only where
enough of a word is left. This is the algorithm of Porter, An algorithm for suffix stripping, 1980, with what
NLTK's stemmer does otherwise, because rouge-score takes that one: its irregular words, `ied` and four-letter
`ies`, `y` after a consonant only, `bli`, `fulli` and `logi`. Tests hold the two equal on the words of real
articles. Rejected: NLTK itself, for a table of results should not need it.

    python -c "from gpt2.evaluation.porter import stem; print(stem('relational'), stem('hopping'))"
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

IRREGULAR = {
    "skies": "sky",
    "dying": "die",
    "lying": "lie",
    "tying": "tie",
    "innings": "inning",
    "outings": "outing",
    "cannings": "canning",
    **{w: w for w in ("sky", "news", "inning", "outing", "canning", "howe", "proceed", "exceed", "succeed")},
}


def rules(text: str) -> list[tuple[str, str]]:
    """'ational ate, ful -' -> an ending and what takes its place, in the order in which they are tried."""
    return [(old, new.strip("-")) for old, new in (rule.split() for rule in text.split(","))]


STEP_2 = rules(
    "ational ate, tional tion, enci ence, anci ance, izer ize, bli ble, alli al, entli ent, eli e, ousli ous,"
    "ization ize, ation ate, ator ate, alism al, iveness ive, fulness ful, ousness ous, aliti al, iviti ive,"
    "biliti ble, fulli ful"
)
STEP_3 = rules("icate ic, ative -, alize al, iciti ic, ical ic, ful -, ness -")
STEP_4 = rules(
    "al -, ance -, ence -, er -, ic -, able -, ible -, ant -, ement -, ment -, ent -, ou -, ism -, ate -,"
    "iti -, ous -, ive -, ize -"
)


def kinds(word: str) -> str:
    """Each letter as c or v; y is a vowel after a consonant, and what is no letter is a consonant."""
    out = ""
    for letter in word:
        vowel = letter in "aeiou" or (letter == "y" and out.endswith("c"))
        out += "v" if vowel else "c"
    return out


def measure(word: str) -> int:
    """How many times a consonant follows a vowel."""
    return kinds(word).count("vc")


def ends_short(word: str) -> bool:
    """Whether a word ends as `hop` does, so that an e may belong to it; NLTK adds words like `is`."""
    form = kinds(word)
    return form == "vc" or (form.endswith("cvc") and word[-1] not in "wxy")


def replaced(word: str, endings: Iterable[tuple[str, str]], least: int) -> str:
    """The first ending that a word has, replaced where the measure of what is before it is at least `least`."""
    for old, new in endings:
        if word.endswith(old):
            rest = word[: -len(old)]
            return rest + new if measure(rest) >= least else word
    return word


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """The stem of a word in small letters."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    if len(word) <= 2:
        return word
    word = past(plural(word))
    if word.endswith("y") and len(word) > 2 and kinds(word)[-2] == "c":
        word = word[:-1] + "i"
    while word.endswith("alli") and measure(word[:-4]):
        word = word[:-2]
    if word.endswith("logi"):
        word = word[:-1] if measure(word[:-3]) else word
    else:
        word = replaced(word, STEP_2, 1)
    word = replaced(word, STEP_3, 1)
    if word.endswith("ion"):
        word = word[:-3] if measure(word[:-3]) > 1 and word[-4] in "st" else word
    else:
        word = replaced(word, STEP_4, 2)
    if word.endswith("e"):
        m = measure(word[:-1])
        word = word[:-1] if m > 1 or (m == 1 and not ends_short(word[:-1])) else word
    return word[:-1] if word.endswith("ll") and measure(word[:-1]) > 1 else word


def plural(word: str) -> str:
    """Step 1a: without the s of a plural."""
    if word.endswith("ies"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("sses"):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def past(word: str) -> str:
    """Step 1b: without ed or ing, and with the e that they took the place of."""
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if measure(word[:-3]) else word
    rest = next((word[: -len(e)] for e in ("ed", "ing") if word.endswith(e)), "")
    if "v" not in kinds(rest):
        return word
    if rest.endswith(("at", "bl", "iz")):
        return rest + "e"
    if rest[-1] == rest[-2:-1] and kinds(rest)[-1] == "c":
        return rest if rest[-1] in "lsz" else rest[:-1]
    return rest + "e" if measure(rest) == 1 and ends_short(rest) else rest
