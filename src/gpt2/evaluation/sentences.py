"""Sentences of prose in any document, and which of their words are nouns and names, by stated rules.

Prose is a paragraph (text between empty lines) that begins with a capital letter and ends as a sentence does,
whose lines are not indented deeper than its second nor that deeper than its first, and four fifths of whose
words have only letters and punctuation. Code, signatures, tables and lists of arguments are not. A sentence
ends with `.`, `!`, `?` or `…` and the quotes and brackets that close there, before white space and a capital
letter or digit, but not after an initial or one of `ABBREVIATIONS`.

Nouns and names are told by how the documents use a word; the lists of small words are English:

- a noun, in small letters, ends a noun phrase (stands after an article, a possessive or `of`, and before a
  small word or punctuation) in at least `HEAD` of its uses and twice; stands where nouns do not (after `to`, a
  pronoun, an auxiliary, `very`) in at most `ELSEWHERE` of them; and is not more often the first of two words
  after an article, where adjectives stand;
- a name has a capital letter within a sentence twice or more, and none in at most `SMALL` of its uses.

Rejected: a tagger. Those of spaCy, Stanza and NLTK need a download; TextBlob's is in its package, but brings
NLTK with it, and is for English too; what it says of the words that the rules choose stands in docs/log.md.

    python -c "from gpt2.evaluation.sentences import sentences; print(sentences('He went. She came.')[1].text)"
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

HEAD = 0.15
ELSEWHERE = 0.05
SMALL = 0.1
FEWEST_USES = 2
SHORTEST = 3
PLAIN = 0.8

WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
PLAIN_WORD = re.compile(r"[\"'“‘(\[—–-]*[^\W\d_]+(?:[-'’—–.][^\W\d_]+)*[.,;:!?…\"'”’)\]—–-]*|[-—–]+|\d+[.,]?")
EMPTY_LINE = re.compile(r"\n[^\S\n]*\n")
SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*(?=\s+[\"'“‘(\[]*[A-ZÀ-ÖØ-Þ0-9])")
BEGINS = re.compile(r"[\"'“‘(\[—–]*[A-ZÀ-ÖØ-Þ]")
ENDS = re.compile(r"[.!?…][\"'”’)\]]*$")


def listed(words: str) -> frozenset[str]:
    """A list of words."""
    return frozenset(words.split())


ABBREVIATIONS = listed(
    "mr mrs ms dr st prof rev gen col capt lt sgt sr jr vs etc e.g i.e cf no vol fig eq sec ch pp ed al approx "
    "jan feb mar apr jun jul aug sep sept oct nov dec"
)
DETERMINERS = listed("the a an his her its their my your our whose each every no some any another of")
NOT_BEFORE_NOUNS = listed(
    "to i you he she we they who will would can could may might shall should must cannot not very so too be been "
    "was were is are am did does do had has have"
)
SMALL_WORDS = listed(
    "it me him us them himself herself itself myself yourself themselves ourselves one ones other others such "
    "this that these those same own both all either neither none much many more most few less least several and "
    "or but nor yet if then than as because although though while when whenever where wherever whether why how "
    "what which whom in on at by for with without from into onto upon over under above below between among "
    "through during before after since until till against about across along around behind beside beyond down "
    "off out up near toward towards within per via there here now only just also even still again ever never "
    "always often almost already however therefore thus else like don't didn't can't won't isn't wasn't i'm "
    "it's that's being having doing done got get let yes oh well rather quite once mine yours hers ours theirs "
    "something anything nothing everything someone anyone everyone everybody nobody somebody anybody"
)
FUNCTION_WORDS = DETERMINERS | NOT_BEFORE_NOUNS | SMALL_WORDS


@dataclass(frozen=True)
class Sentence:
    """A sentence of prose."""

    raw: str
    """As the document has it, with its line breaks."""
    before: str
    """White space before it; an empty line at the beginning, and where something was left out."""

    @property
    def text(self) -> str:
        """On one line."""
        return " ".join(self.raw.split())


def sentences(text: str) -> list[Sentence]:
    """The sentences of a document's prose, in order."""
    found: list[Sentence] = []
    for paragraph in EMPTY_LINE.split(text):
        if is_prose(paragraph):
            for i, piece in enumerate(cut(paragraph.strip())):
                raw = piece.lstrip()
                found.append(Sentence(raw, piece[: len(piece) - len(raw)] if i else "\n\n"))
    return found


def is_prose(paragraph: str) -> bool:
    """Whether a paragraph is made of sentences."""
    text = paragraph.strip()
    if not BEGINS.match(text) or not ENDS.search(text):
        return False
    depths = [len(line) - len(line.lstrip()) for line in paragraph.strip("\n").rstrip().split("\n")]
    if len(depths) > 1 and (depths[1] > depths[0] or max(depths[1:]) > depths[1]):
        return False
    tokens = text.split()
    return sum(PLAIN_WORD.fullmatch(token) is not None for token in tokens) >= PLAIN * len(tokens)


def cut(paragraph: str) -> Iterator[str]:
    """The sentences of a paragraph, each with the white space before it."""
    begin = 0
    for match in SENTENCE_END.finditer(paragraph):
        last = paragraph[begin : match.start()].rsplit(None, 1)[-1:]
        word = last[0].lstrip("\"'“‘([") if last else ""
        initial = len(word) == 1 and word.isupper() and word != "I"
        if match[0][0] == "." and (initial or word.lower() in ABBREVIATIONS):
            continue
        yield paragraph[begin : match.end()]
        begin = match.end()
    if begin < len(paragraph):
        yield paragraph[begin:]


class Lexicon:
    """How documents use their words: which are nouns, which are names."""

    def __init__(self) -> None:
        self.small: Counter[str] = Counter()
        """Uses of a word in small letters."""
        self.head: Counter[str] = Counter()
        """Of these: at the end of a noun phrase."""
        self.elsewhere: Counter[str] = Counter()
        """Of these: where nouns do not stand."""
        self.modifier: Counter[str] = Counter()
        """Of these: between a determiner and another word."""
        self.capital: Counter[str] = Counter()
        """Uses of a word with a capital letter."""
        self.within: Counter[str] = Counter()
        """Of these: not at a beginning."""

    def read(self, sentence: str) -> None:
        """Count the words of a sentence."""
        found = list(WORD.finditer(sentence))
        for i, match in enumerate(found):
            word = match[0]
            joined = i > 0 and sentence[found[i - 1].end() : match.start()] == " "
            before = found[i - 1][0].lower() if joined else ""
            if word[0].isupper():
                self.capital[word] += 1
                self.within[word] += joined
            elif word.islower():
                follows = i + 1 < len(found) and sentence[match.end() : found[i + 1].start()] == " "
                after = found[i + 1][0].lower() if follows else ""
                after_determiner = before in DETERMINERS or before.endswith(("'s", "’s"))
                ends = not after or after in FUNCTION_WORDS
                self.small[word] += 1
                self.head[word] += after_determiner and ends
                self.modifier[word] += after_determiner and not ends
                self.elsewhere[word] += before in NOT_BEFORE_NOUNS

    def is_noun(self, word: str) -> bool:
        """Whether a word in small letters is a noun."""
        uses, head = self.small[word], self.head[word]
        return (
            len(word) >= SHORTEST
            and word.isalpha()
            and word.islower()
            and word not in FUNCTION_WORDS
            and head >= max(FEWEST_USES, HEAD * uses, self.modifier[word])
            and self.elsewhere[word] <= ELSEWHERE * uses
        )

    def is_name(self, word: str) -> bool:
        """Whether a word with a capital letter is a name."""
        small = word.lower()
        return (
            len(word) >= SHORTEST
            and word.isalpha()
            and word[0].isupper()
            and small not in FUNCTION_WORDS
            and small not in ABBREVIATIONS
            and self.within[word] >= FEWEST_USES
            and self.small[small] <= SMALL * (self.small[small] + self.capital[word])
        )
