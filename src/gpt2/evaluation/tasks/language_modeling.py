"""Language modelling: how well a model predicts the standard test sets, and any text of the user's (paper 3.1).

The paper divides the log-probability of a whole set by its canonical units - words and line ends of the
tokenised file, bytes or characters - and only then takes exp or log 2, so that the number compares with those
of word-level models: the sum over tokens is scaled to the original's units before it is exponentiated. Two
ways of reading the set:

    stream      all of the file as one text in the model's windows, de-tokenised line by line (a `Passage` for
                each block, so that a run can stop after any; the blocks' scores add up to the stream's)
    documents   each article, sentence or page by itself after <|endoftext|>

Protocols by what follows the slash: word (per original word, the paper's rule, of the `<unk>` copies), raw (the
same of WikiText's raw copies), byte, character, token; article and sentence (documents); plain (no
de-tokeniser); lossy (the usual rules that lose information); harness (lm-evaluation-harness's task wikitext,
to the digit); token of WikiText-2 (the page on perplexity of transformers: lines joined by an empty one, no
start token, windows that begin every 1,024 tokens). ...-stride-512 and ...-stride-32 give every token more past
and take 2 and 32 times as long; with other rare protocols they are measured when asked for by name.

The sets' formats, and which part of them is measured: `gpt2.evaluation.testsets`.

    gpt2 evaluate MODEL --tasks wikitext2 --protocol wikitext2/word-stride-512
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Literal, cast

from gpt2.evaluation.detokenize import DETOKENIZERS, escaped
from gpt2.evaluation.lossy import lossy
from gpt2.evaluation.protocol import Protocol
from gpt2.evaluation.task import Item, Malformed, Measured, Reply, Rolling, Task
from gpt2.evaluation.testsets import (
    Blocks,
    Write,
    articles,
    as_is,
    detokenized,
    every,
    joined,
    lossy_file,
    lossy_lines,
    pages,
    plain,
    read_enwik8,
    read_lm1b,
    read_ptb,
    read_text,
    read_text8,
    read_wikitext,
    units,
)
from gpt2.inference.passages import Passage

if TYPE_CHECKING:
    from gpt2.inference.scoring import Score

__all__ = ["TASKS", "read_enwik8", "read_lm1b", "read_ptb", "read_text", "read_text8", "read_wikitext"]


class LanguageModeling(Task):
    """A test set in one of its readings, with protocols that differ in nothing but the denominator."""

    def __init__(
        self,
        protocols: Sequence[Protocol],
        write: Write,
        blocks: Blocks,
        documents: bool = False,
        windows: Literal["ends", "begins"] = "ends",
        whole: int | None = None,
        on_request: bool = False,
    ) -> None:
        self.name = protocols[0].task
        self.protocols = tuple(protocols)
        self.whole = whole
        self.on_request = on_request
        self._write, self._blocks, self._documents, self._windows = write, blocks, documents, windows

    def items(self, rows: Sequence[str | Malformed]) -> Iterator[Item | Malformed]:
        """A block of the stream, or a document, each."""
        yield from (row for row in rows if isinstance(row, Malformed))
        lines = [row for row in rows if isinstance(row, str)]
        p, texts = self.protocols[0], self._write(lines)
        stream = "".join(texts)
        ends = list(accumulate(map(len, texts), initial=0))
        for k, (first, last) in enumerate(pairwise([*self._blocks(lines), len(lines)])):
            facts = units(lines[first:last], end="" if self._write is as_is else "\n")
            if p.detokenizer in DETOKENIZERS:
                facts["escaped lines"] = len(escaped(texts[first:last]))
            if self._documents:
                yield Item(str(k), [Rolling("".join(texts[first:last]), p.start, p.stride)], facts=facts)
            else:
                part = Passage(stream, ends[first], ends[last], p.start, p.stride, self._windows)
                yield Item(str(k), [part], facts=facts)

    def measure(self, item: Item, replies: Sequence[Reply]) -> Mapping[str, Measured]:
        """The loss of the item, over each protocol's units."""
        score = cast("Score", replies[0])
        of = item.facts | {"token": len(score.tokens)}
        return {p.name: Measured(-score.logprob, of[p.denominator]) for p in self.protocols}

    def remarks(
        self,
        rows: Sequence[str | Malformed],  # noqa: ARG002
        done: Sequence[tuple[Item, Mapping[str, Measured]]],
    ) -> Sequence[str]:
        """How many lines the de-tokeniser could not write as running text."""
        p = self.protocols[0]
        if p.detokenizer not in DETOKENIZERS:
            return ()
        marked, lines = (sum(item.facts[of] for item, _ in done) for of in ("escaped lines", "lines"))
        return (f"{p.id}: {marked:,} of {lines:,} lines need an escape of the de-tokeniser {p.detokenizer}",)


class Pages(LanguageModeling):
    """WikiText as lm-evaluation-harness reads it: page by page, by its lossy rules, its words counted its way."""

    def items(self, rows: Sequence[str | Malformed]) -> Iterator[Item | Malformed]:
        """A page each."""
        yield from (row for row in rows if isinstance(row, Malformed))
        for k, page in enumerate(pages([row for row in rows if isinstance(row, str)])):
            facts = {"word": len(re.split(r"\s+", page)), "byte": len(page.encode())}
            yield Item(str(k), [Rolling(lossy("wikitext", page))], facts=facts)


# What is measured.


def per_word(task: str, name: str, data: str, detokenizer: str, unit: str) -> Protocol:
    """The paper's rule for sets of words."""
    return Protocol(
        task,
        name,
        "perplexity",
        data,
        "perplexity",
        unit=unit,
        detokenizer=detokenizer,
        target="every token",
        denominator="word or line end",
    )


def per_token(word: Protocol, name: str = "token") -> Protocol:
    """The same divided by the model's own tokens."""
    return replace(word, name=name, denominator="token")


def per_byte(word: Protocol, name: str = "byte") -> Protocol:
    """The same in bits a byte of the original file."""
    return replace(word, name=name, metric="bits per byte", statistic="bits", denominator="byte")


def strided(protocol: Protocol, stride: int) -> Protocol:
    """The same with more past for every token."""
    return replace(protocol, name=f"{protocol.name}-stride-{stride}", stride=stride)


def with_strides(
    word: Protocol, write: Write, blocks: Blocks, whole: int | None = None
) -> list[LanguageModeling]:
    """A protocol of a stream with the strides of 512 and 32 tokens, when asked for."""
    return [
        LanguageModeling([strided(word, n)], write, blocks, whole=whole, on_request=True) for n in (512, 32)
    ]


def wikitext(task: str) -> list[LanguageModeling]:
    """WikiText-2 and WikiText-103: the same test articles, of which the copies have other words as <unk>."""
    raw = f"{task}-raw"
    ours = detokenized("wikitext")
    word = per_word(task, "word", task, "wikitext", "article")
    words = per_word(task, "raw", raw, "wikitext", "article")
    harness = replace(
        words,
        name="harness",
        detokenizer="lossy wikitext",
        denominator="word",
        unit="page",
        target="every token",
    )
    token = replace(
        per_token(words), detokenizer="none", start="none", target="all but a window's first token"
    )
    again = task != "wikitext2"  # the raw copies of the two are the same text
    return [
        LanguageModeling([word, per_byte(word)], ours, articles, whole=60),
        LanguageModeling(
            [words, per_byte(words, "raw-byte")], ours, articles, whole=60, on_request=not again
        ),
        Pages(
            [
                harness,
                per_byte(harness, "harness-byte"),
                replace(
                    harness, name="harness-byte-perplexity", metric="perplexity per byte", denominator="byte"
                ),
            ],
            plain,
            articles,
            whole=62,
            on_request=again,
        ),
        LanguageModeling([token], joined, articles, windows="begins", whole=60, on_request=again),
        LanguageModeling(
            [strided(token, 512)], joined, articles, windows="begins", whole=60, on_request=True
        ),
        LanguageModeling([replace(word, name="article")], ours, articles, True, whole=60, on_request=True),
        *with_strides(word, ours, articles, 60),
        *with_strides(words, ours, articles, 60),
    ]


def penn() -> list[LanguageModeling]:
    """The Penn Treebank: 3,761 lines, in blocks of 50."""
    word = per_word("ptb", "word", "ptb", "ptb", "50 lines")
    simple = replace(word, name="plain", detokenizer="none")
    return [
        LanguageModeling([word, per_token(word)], detokenized("ptb"), every(50), whole=76),
        LanguageModeling([simple, per_token(simple, "plain-token")], plain, every(50), whole=76, on_request=True),
        LanguageModeling(
            [replace(word, name="lossy", detokenizer="lossy ptb")], lossy_file("ptb"), every(50), whole=76,
            on_request=True,
        ),
        *with_strides(word, detokenized("ptb"), every(50), 76),
    ]  # fmt: skip


def one_billion_word() -> list[LanguageModeling]:
    """One Billion Word: 6,075 sentences in no order, each by itself, or as one stream."""
    ours = detokenized("lm1b")
    alone = per_word("lm1b", "sentence", "lm1b", "lm1b", "sentence")
    word = replace(alone, name="word", unit="20 sentences")
    usual = replace(alone, name="lossy", detokenizer="lossy lm1b")
    return [
        LanguageModeling([alone, per_token(alone)], ours, every(1), True, whole=6075),
        LanguageModeling([word], ours, every(20), whole=304),
        LanguageModeling([usual], lossy_lines("lm1b"), every(1), True, whole=6075, on_request=True),
        *with_strides(word, ours, every(20), 304),
    ]


def running(*protocols: Protocol, whole: int | None = None) -> list[LanguageModeling]:
    """A running text."""
    return [
        LanguageModeling(protocols, as_is, every(1), whole=whole),
        *with_strides(protocols[0], as_is, every(1), whole),
    ]


def of_running(task: str) -> dict[str, Protocol]:
    """Everything that can be said of a running text, by the unit it is divided by."""
    word = replace(per_word(task, "word", task, "none", "block"), denominator="word")
    byte = per_byte(word)
    character = replace(byte, name="character", metric="bits per character", denominator="character")
    return {"word": word, "token": per_token(word), "byte": byte, "character": character}


TASKS: tuple[Task, ...] = (
    *wikitext("wikitext2"),
    *wikitext("wikitext103"),
    *penn(),
    *running(of_running("enwik8")["byte"], of_running("enwik8")["token"], whole=306),
    *running(of_running("text8")["character"], of_running("text8")["token"], whole=306),
    *one_billion_word(),
    *running(*of_running("text").values()),
)
