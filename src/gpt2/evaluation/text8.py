"""Plain words out of Wikipedia's XML: the published rule by which text8 was made.

Only what a browser shows of a page's text is kept, in small letters a to z and single spaces, digits spelled
out. The rule reads the file in pieces that end with ">", and so do we, for its odd cases depend on that.
text8 itself is the first 100,000,000 characters of what the rule makes of enwik9; what it makes of enwik8 is
the beginning of that, and never its last part, on which others measure.
Source: Matt Mahoney, About the Test Data, 2011, appendix A (the filter wikifil.pl), retold.

    plain_words(b"<text >Two [[dog|dogs]], 1998.</text>")  # " two dogs one nine nine eight"
"""

from __future__ import annotations

import re

CASE = re.IGNORECASE
RULES = [
    (re.compile(rb"&amp;"), b"&"),
    (re.compile(rb"&lt;"), b"<"),
    (re.compile(rb"&gt;"), b">"),
    (re.compile(rb"<ref[^<]*</ref>"), b""),
    (re.compile(rb"<[^>]*>"), b""),  # tags in the text
    (re.compile(rb"\[http:[^] ]*"), b"["),  # addresses; what is shown for them stays
    (re.compile(rb"\|thumb", CASE), b""),
    (re.compile(rb"\|left", CASE), b""),
    (re.compile(rb"\|right", CASE), b""),
    (re.compile(rb"\|\d+px", CASE), b""),
    (re.compile(rb"\[\[image:[^\[\]]*\|", CASE), b""),  # captions stay
    (re.compile(rb"\[\[category:([^|\]]*)[^]]*\]\]", CASE), rb"[[\1]]"),
    (re.compile(rb"\[\[[a-z\-]*:[^\]]*\]\]"), b""),  # the same page in other languages
    (re.compile(rb"\[\[[^|\]]*\|"), b"[["),  # links: what is shown for them stays
    (re.compile(rb"\{\{[^}]*\}\}"), b""),
    (re.compile(rb"\{[^}]*\}"), b""),
    (re.compile(rb"[\[\]]"), b""),
    (re.compile(rb"&[^;]*;"), b" "),
]
TAG = re.compile(rb"<.*>")
DIGIT = re.compile(rb"\d")
DIGITS = [
    b" zero ",
    b" one ",
    b" two ",
    b" three ",
    b" four ",
    b" five ",
    b" six ",
    b" seven ",
    b" eight ",
    b" nine ",
]
NO_LETTERS = re.compile(rb"[^a-z]+")


def plain_words(xml: bytes) -> str:
    """The text of pages as small letters and single spaces, every piece with a space before it."""
    out = []
    inside = False
    for piece in re.findall(rb"[^>]*>|[^>]+$", xml):
        if b"<text " in piece:
            inside = True
        if b"#redirect" in piece.lower():
            inside = False
        if inside:
            inside = b"</text>" not in piece
            out.append(words_of(piece))
    return b"".join(out).decode("ascii")


def words_of(piece: bytes) -> bytes:
    """What is shown of a piece of a page."""
    piece = TAG.sub(b"", piece, count=1)
    for pattern, instead in RULES:
        piece = pattern.sub(instead, piece)
    piece = DIGIT.sub(lambda found: DIGITS[int(found[0])], b" " + piece.lower() + b" ")
    return NO_LETTERS.sub(b" ", piece)[:-1]
