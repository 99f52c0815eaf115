"""Cloze questions out of any documents: guess the last word, or one of ten words for a blank.

The form is LAMBADA's (Paperno et al., 2016: a passage of a few sentences and its last word) and that of the
Children's Book Test (Hill et al., 2016: twenty sentences, a twenty-first with a blank, ten words of its kind
from the passage), made as Bajgar et al. (2016) made BookTest: nobody writes the questions, so that there are
some for every text. What cannot be had this way is people who checked that a passage decides its last word:
compare an accuracy with that of other models on the same questions, not with the paper's.

What is prose, a sentence, a noun and a name is decided by the rules of `gpt2.evaluation.sentences`.

- Sentences that follow each other in one source make a context. The pieces of one page (documents of one
  `group`) are read on, as the page had them; code and lists between sentences are left out.
- A sentence is asked once a kind of question, and not at all when it stands in the documents twice or in a
  text that the model has learned from (`training`).
- Last word: at least `FEWEST_WORDS` words in at least `FEWEST_SENTENCES` whole sentences before the one that
  it ends; at least three letters, and no function word; four of five words stand in their context, as in
  LAMBADA, where most texts have fewer. The passage has the line breaks of the document.
- Ten choices: the answer stands once in the question and at least once in the context, and so do, in the
  context, the nine others, all nouns or all names. Of names there must be `FEWEST_NAMES`; where there are
  not ten, nouns fill the list up, as they do in the Children's Book Test itself.
- Questions are drawn by the seed from each source in turn, so that no source has more of them than it must.

    gpt2 cloze my_texts/ cloze && gpt2 evaluate MODEL --tasks cloze --data cloze
    python -c "from gpt2.evaluation.cloze import build; from gpt2.corpus.documents import read_text
    print(build(list(read_text('my_texts'))).nouns[0].question)"
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from gpt2.corpus.documents import Document
from gpt2.errors import ConfigError, InputError, TooLittleData
from gpt2.evaluation.sentences import FUNCTION_WORDS, SHORTEST, WORD, Lexicon, Sentence, sentences
from gpt2.workspace import MARK, Json, atomic_write

CONTEXT = 20
"""Sentences before a question with ten choices."""
CHOICES = 10
FEWEST_NAMES = 5
FEWEST_WORDS = 50
FEWEST_SENTENCES = 3
IN_CONTEXT = 0.8
"""Share of the last words that stand in their context; of LAMBADA's 81 % do."""
BLANK = "XXXXX"

T = TypeVar("T")
Sources = dict[str, list[Sentence]]


@dataclass(frozen=True)
class ClozeConfig:
    """How many questions are made."""

    last_words: int = 500
    """Passages whose last word is asked, at most."""
    choices: int = 500
    """Questions with ten choices, of each kind at most."""
    seed: int = 0
    """Decides which sentences are asked, and what the choices are."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0:
                raise ConfigError(f"{name} must be 0 or more, not {value}")


@dataclass(frozen=True)
class LastWord:
    """A passage, and the word after it."""

    context: str
    """Whole sentences, and the last one without its last word and the space before that."""
    target: str
    group: str = ""
    """The source it is from."""

    @property
    def text(self) -> str:
        """The passage with its last word."""
        return f"{self.context} {self.target}"

    @property
    def in_context(self) -> bool:
        """Whether the context has the word, in small or capital letters."""
        return self.target.lower() in {word.lower() for word in WORD.findall(self.context)}


@dataclass(frozen=True)
class TenChoices:
    """Sentences, and one more with a blank."""

    context: tuple[str, ...]
    question: str
    """Has `BLANK` in the answer's place."""
    answer: str
    choices: tuple[str, ...]
    """The answer among them, in the order of the alphabet."""
    group: str = ""
    """The source it is from."""


@dataclass(frozen=True)
class Cloze:
    """Questions of the three kinds."""

    last_words: list[LastWord]
    nouns: list[TenChoices]
    names: list[TenChoices]

    @property
    def in_context(self) -> float | None:
        """Share of the last words that their context has; None without any."""
        found = [item.in_context for item in self.last_words]
        return sum(found) / len(found) if found else None


def build(
    documents: Iterable[Document], config: ClozeConfig | None = None, training: Iterable[str] = ()
) -> Cloze:
    """Questions out of documents: the same ones for the same documents and seed.

    `training`: texts that the model has learned from. No sentence of theirs is asked, and how they use their
    words helps to tell nouns and names. Raises `TooLittleData` when there is no question to be had.
    """
    config = config or ClozeConfig()
    sources = by_source(documents)
    lexicon = Lexicon()
    seen: Counter[str] = Counter()
    for sentence in (s for found in sources.values() for s in found):
        lexicon.read(sentence.text)
        seen[sentence.text] += 1
    for sentence in (s for text in training for s in sentences(text)):
        lexicon.read(sentence.text)
        if sentence.text in seen:
            seen[sentence.text] += 1
    maker = Maker(sources, lexicon, {text for text, n in seen.items() if n == 1}, config.seed)
    inside = maker.draw(round(IN_CONTEXT * config.last_words), maker.word_inside)
    outside = maker.draw(round(len(inside) * (1 / IN_CONTEXT - 1)), maker.word_outside)
    cloze = Cloze(
        inside + outside,
        maker.draw(config.choices, maker.noun),
        maker.draw(config.choices, maker.name),
    )
    if not (cloze.last_words or cloze.nouns or cloze.names):
        raise TooLittleData(
            f"no question can be made of {len(sources):,} sources with {sum(map(len, sources.values())):,} "
            f"sentences of prose: a last word needs {FEWEST_WORDS} words before its sentence, ten choices need "
            f"{CONTEXT} sentences; give more text"
        )
    return cloze


def by_source(documents: Iterable[Document]) -> Sources:
    """The sentences of each source, in the order of the documents."""
    sources: Sources = defaultdict(list)
    for document in documents:
        sources[document.group or document.id] += sentences(document.text)
    return dict(sources)


class Maker:
    """Makes questions of sentences."""

    def __init__(self, sources: Sources, lexicon: Lexicon, askable: set[str], seed: int) -> None:
        self.sources, self.lexicon, self.askable, self.seed = sources, lexicon, askable, seed

    def draw(self, at_most: int, make: Callable[[str, int, random.Random], T | None]) -> list[T]:
        """Questions of each source in turn, in the end in the order of the text."""
        rng = random.Random(self.seed)
        left = {group: rng.sample(range(len(found)), len(found)) for group, found in self.sources.items()}
        drawn: list[tuple[str, int, T]] = []
        while left and len(drawn) < at_most:
            for group in list(left):
                question = None
                while left[group] and question is None:
                    i = left[group].pop()
                    if self.sources[group][i].text in self.askable:
                        question = make(group, i, rng)
                if question is not None and len(drawn) < at_most:
                    drawn.append((group, i, question))
                if not left[group]:
                    del left[group]
        order = {group: k for k, group in enumerate(self.sources)}
        return [question for *_, question in sorted(drawn, key=lambda d: (order[d[0]], d[1]))]

    def word_inside(self, group: str, i: int, rng: random.Random) -> LastWord | None:  # noqa: ARG002
        """The passage that sentence i ends, if it has its last word before."""
        item = self.last_word(group, i)
        return item if item and item.in_context else None

    def word_outside(self, group: str, i: int, rng: random.Random) -> LastWord | None:  # noqa: ARG002
        """The passage that sentence i ends, if it has not."""
        item = self.last_word(group, i)
        return item if item and not item.in_context else None

    def last_word(self, group: str, i: int) -> LastWord | None:
        """The passage that sentence i ends."""
        found = self.sources[group]
        begin, count = i, 0
        while begin > 0 and (count < FEWEST_WORDS or i - begin < FEWEST_SENTENCES):
            begin -= 1
            count += len(found[begin].raw.split())
        *_, last = WORD.finditer(found[i].raw)
        start, end = last.span()
        word, after = last[0], found[i].raw[end:]
        if count < FEWEST_WORDS or i - begin < FEWEST_SENTENCES or found[i].raw[start - 1 : start] != " ":
            return None
        if len(word) < SHORTEST or word.lower() in FUNCTION_WORDS or after.strip(".!?…\"'”’)"):
            return None
        before = found[begin].raw + "".join(s.before + s.raw for s in found[begin + 1 : i])
        return LastWord(before + found[i].before + found[i].raw[: start - 1], word, group)

    def noun(self, group: str, i: int, rng: random.Random) -> TenChoices | None:
        """Sentence i with a noun left out."""
        nouns = self.in_context(group, i, self.lexicon.is_noun)
        return self.ask(group, i, nouns, nouns, rng) if len(nouns) >= CHOICES else None

    def name(self, group: str, i: int, rng: random.Random) -> TenChoices | None:
        """Sentence i with a name left out."""
        names = self.in_context(group, i, self.lexicon.is_name)
        nouns = self.in_context(group, i, self.lexicon.is_noun)
        few = len(names) < FEWEST_NAMES or len(names) + len(nouns) < CHOICES
        return None if few else self.ask(group, i, names, nouns, rng)

    def in_context(self, group: str, i: int, is_one: Callable[[str], bool]) -> list[str]:
        """The different words of a kind in the sentences before sentence i; none where those are too few."""
        if i < CONTEXT:
            return []
        context = self.sources[group][i - CONTEXT : i]
        return sorted({word for s in context for word in WORD.findall(s.text) if is_one(word)})

    def ask(
        self, group: str, i: int, answers: list[str], filling: list[str], rng: random.Random
    ) -> TenChoices | None:
        """A blank for one of the possible answers that stand once in sentence i, if any does."""
        text = self.sources[group][i].text
        found = Counter(WORD.findall(text))
        places = [
            m
            for m in WORD.finditer(text)
            if m[0] in answers and found[m[0]] == 1 and text[m.start() - 1 : m.start()] in ("", " ")
        ]
        if not places or BLANK in text:
            return None
        place = rng.choice(places)
        others = [word for word in answers if word != place[0]]
        chosen = rng.sample(others, min(CHOICES - 1, len(others)))
        chosen += rng.sample(filling, CHOICES - 1 - len(chosen))
        context = tuple(s.text for s in self.sources[group][i - CONTEXT : i])
        question = text[: place.start()] + BLANK + text[place.end() :]
        return TenChoices(context, question, place[0], tuple(sorted([place[0], *chosen])), group)


def write_cloze(cloze: Cloze, folder: Path) -> list[Path]:
    """Write the questions into a folder: for `gpt2 evaluate`, and in the formats of the tests they follow.

    `cloze.jsonl` has all of them with their sources; `last-word.jsonl` is LAMBADA's form, `nouns.txt` and
    `names.txt` the Children's Book Test's. A kind without questions has no file. Raises `InputError` for a
    folder that holds other files, or these names without `cloze.jsonl`: they would be somebody's own.
    """
    contents = {
        "cloze.jsonl": "".join(map(json_line, rows(cloze))),
        "last-word.jsonl": "".join(json_line({"text": item.text}) for item in cloze.last_words),
        "nouns.txt": "".join(map(cbt_lines, cloze.nouns)),
        "names.txt": "".join(map(cbt_lines, cloze.names)),
    }
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    there = {name for name in names if name != MARK and not name.startswith(".")}  # a stage's own, drafts
    if there - contents.keys() or (there and "cloze.jsonl" not in there):
        raise InputError(
            f"{folder} holds {min(there - {'cloze.jsonl'})}, which is not ours; give a new folder"
        )
    for name, content in contents.items():
        (folder / name).unlink(missing_ok=True)
        if content:
            with atomic_write(folder / name, "w") as stream:
                stream.write(content)
    return [folder / name for name, content in contents.items() if content]


def rows(cloze: Cloze) -> Iterator[Json]:
    """All questions as `gpt2.evaluation.tasks.cloze` reads them."""
    for passage in cloze.last_words:
        question = {"context": [], "question": passage.context, "answer": passage.target, "choices": []}
        yield {"kind": "last-word", **question, "group": passage.group}
    for kind, items in (("nouns", cloze.nouns), ("names", cloze.names)):
        for item in items:
            yield {"kind": kind, **dataclasses.asdict(item)}


def json_line(row: Json) -> str:
    """A row as a line of JSON."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def cbt_lines(item: TenChoices) -> str:
    """A question as the Children's Book Test has it: 21 numbered lines and an empty one."""
    last = f"{item.question}\t{item.answer}\t\t{'|'.join(item.choices)}"
    return "".join(f"{i} {line}\n" for i, line in enumerate([*item.context, last], 1)) + "\n"
