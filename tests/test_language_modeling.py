"""Language modelling: equal to lm-evaluation-harness, to transformers' page, and to plain scorers of the rest."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import measured, ours
from hypothesis import given
from hypothesis import strategies as st
from trained_model import Trained

import gpt2
from gpt2.errors import FormatError
from gpt2.evaluation import testsets
from gpt2.evaluation.detokenize import LM1B, PTB, WIKITEXT
from gpt2.evaluation.task import Item, Malformed, Passage, Rolling, Task
from gpt2.evaluation.tasks.language_modeling import TASKS, LanguageModeling, strided
from gpt2.evaluation.testsets import (
    articles,
    joined,
    pages,
    read_enwik8,
    read_lm1b,
    read_ptb,
    read_text,
    read_text8,
    read_wikitext,
)
from gpt2.evaluation.text8 import plain_words

pytestmark = pytest.mark.usefixtures("one_thread")
LINES = 140
"""Of WikiText: two articles and the beginning of a third."""


def task(name: str) -> Task:
    """The task that has a protocol of this full name."""
    return next(t for t in TASKS if any(p.id == name for p in t.protocols))


class Plain:
    """Sums of losses by transformers alone."""

    def __init__(self, folder: Path) -> None:
        from transformers import GPT2LMHeadModel, GPT2TokenizerFast

        self.net = GPT2LMHeadModel.from_pretrained(folder).eval()
        self.tok = GPT2TokenizerFast.from_pretrained(folder, model_max_length=10**9)
        self.context = self.net.config.n_positions

    def losses(self, ids: Sequence[int]) -> torch.Tensor:
        """Of each of `ids` but the first, given those before it."""
        with torch.inference_mode():
            logits = self.net(torch.tensor([ids[:-1]])).logits[0]
        return torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none").double()

    def nats(self, text: str, stride: int | None = None) -> float:
        """Of all tokens of a text after <|endoftext|>: each window ends a stride after the one before."""
        ids = [self.tok.eos_token_id, *self.tok(text).input_ids]
        total, done, end = 0.0, 1, min(len(ids), self.context + 1)
        while done < len(ids):
            own = self.losses(ids[max(0, end - 1 - self.context) : end])
            total += float(own[len(own) - (end - done) :].sum())
            done, end = end, min(len(ids), end + (stride or self.context))
        return total


@pytest.fixture(scope="module")
def plain(trained: Trained) -> Plain:
    return Plain(trained.huggingface)


@pytest.fixture(scope="module")
def raw(data: Path) -> list[str]:
    return [row for row in read_wikitext(data / "wikitext2/wiki.test.raw") if isinstance(row, str)][:LINES]


@pytest.fixture(scope="module")
def unk(data: Path) -> list[str]:
    return [row for row in read_wikitext(data / "wikitext2/wiki.test.tokens") if isinstance(row, str)][:LINES]


def test_wikitext_equals_lm_evaluation_harness(
    trained: Trained, harness: Any, raw: list[str], tmp_path: Path
) -> None:
    rows = [{"page": page} for page in pages(raw)]
    assert len(rows) == 3
    theirs, samples = measured(harness, "wikitext/wikitext.yaml", rows, tmp_path)
    mine = ours(trained.model, task("wikitext2/harness"), raw)
    for asked, sample in zip(mine.asked, samples, strict=True):
        (request,), (score,) = asked.item.requests, asked.replies
        assert isinstance(request, Rolling)
        assert request.text == sample["target"]
        assert score.logprob == pytest.approx(sample["word_perplexity"][0], rel=1e-6)  # type: ignore[union-attr]
    assert math.exp(mine.values["harness"]) == pytest.approx(theirs["word_perplexity,none"], rel=1e-5)
    assert mine.values["harness-byte"] / math.log(2) == pytest.approx(theirs["bits_per_byte,none"], rel=1e-6)
    byte = math.exp(mine.values["harness-byte-perplexity"])
    assert byte == pytest.approx(theirs["byte_perplexity,none"], rel=1e-6)


@pytest.mark.parametrize("stride", [None, 200])
def test_wikitext_per_token_equals_transformers_page(
    trained: Trained, plain: Plain, raw: list[str], stride: int | None
) -> None:
    mine = task("wikitext2/token")
    if stride:
        protocol = strided(mine.protocols[0], stride)
        mine = LanguageModeling([protocol], joined, articles, windows="begins")
    found = ours(trained.model, mine, raw).values[mine.protocols[0].name]

    ids = plain.tok("\n\n".join(line + "\n" if line.strip() else "" for line in raw)).input_ids
    losses, before = [], 0
    for begin in range(0, len(ids), stride or plain.context):
        end = min(begin + plain.context, len(ids))
        losses.append(plain.losses(ids[begin:end])[-(end - before) :])  # a window's first token has none
        before = end
        if end == len(ids):
            break
    assert found == pytest.approx(float(torch.cat(losses).mean()), rel=1e-6)


@pytest.mark.parametrize("name", ["wikitext2/word", "wikitext103/raw"])
def test_wikitext_per_word_is_the_loss_of_the_stream_over_words_and_line_ends(
    trained: Trained, plain: Plain, raw: list[str], unk: list[str], name: str
) -> None:
    lines = raw if name.endswith("raw") else unk
    text = "".join(WIKITEXT.detokenize(line) + "\n" for line in lines)
    words = sum(len(line.split()) + 1 for line in lines)
    found = ours(trained.model, task(name), lines)
    assert found.values[name.split("/")[1]] == pytest.approx(plain.nats(text) / words, rel=1e-6)
    assert [len(a.item.requests) for a in found.asked] == [1, 1, 1]  # an article each


def test_wikitext_by_article(trained: Trained, plain: Plain, unk: list[str]) -> None:
    begins = [i for i, line in enumerate(unk) if re.fullmatch(" = [^=]+ = ", line)]
    assert len(begins) == 3
    texts = [unk[a:b] for a, b in zip([0, *begins[1:]], [*begins[1:], None], strict=True)]
    nats = sum(plain.nats("".join(WIKITEXT.detokenize(line) + "\n" for line in text)) for text in texts)
    words = sum(len(line.split()) + 1 for line in unk)
    found = ours(trained.model, task("wikitext2/article"), unk).values["article"]
    assert found == pytest.approx(nats / words, rel=1e-6)


def test_ptb(trained: Trained, plain: Plain, data: Path) -> None:
    lines = (data / "ptb/ptb.test.txt").read_text(encoding="utf-8").splitlines()[:120]
    words = sum(len(line.split()) + 1 for line in lines)
    nats = plain.nats("".join(PTB.detokenize(line) + "\n" for line in lines))
    found = ours(trained.model, task("ptb/word"), read_ptb(data / "ptb/ptb.test.txt")[:120])
    assert found.values["word"] == pytest.approx(nats / words, rel=1e-6)
    assert len(found.asked) == 3
    nats = plain.nats("".join(line + "\n" for line in lines))
    mine = ours(trained.model, task("ptb/plain"), lines).values
    assert mine["plain"] == pytest.approx(nats / words, rel=1e-6)
    tokens = len(plain.tok("".join(line + "\n" for line in lines)).input_ids)
    assert mine["plain-token"] == pytest.approx(nats / tokens, rel=1e-6)


def test_one_billion_word(trained: Trained, plain: Plain, data: Path) -> None:
    path = data / "one_billion_words/test_sentences.txt"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    words = sum(len(line.split()) + 1 for line in lines)
    texts = [LM1B.detokenize(line) + "\n" for line in lines]
    alone = ours(trained.model, task("lm1b/sentence"), read_lm1b(path)).values["sentence"]
    assert alone == pytest.approx(sum(map(plain.nats, texts)) / words, rel=1e-6)
    stream = ours(trained.model, task("lm1b/word"), read_lm1b(path)).values["word"]
    assert stream == pytest.approx(plain.nats("".join(texts)) / words, rel=1e-6)


def test_enwik8_and_text8(trained: Trained, plain: Plain, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "enwik8"
    path.write_bytes((data / "enwik8/enwik8_small.xml").read_bytes()[:60_000])
    text = path.read_bytes().decode("utf-8", "ignore")
    bits = plain.nats(text) / math.log(2) / len(text.encode())
    found = ours(trained.model, task("enwik8/byte"), read_enwik8(path))
    assert found.values["byte"] / math.log(2) == pytest.approx(bits, rel=1e-6)
    assert len(found.asked) == 4
    text = plain_words(path.read_bytes())
    found = ours(trained.model, task("text8/character"), read_text8(path))
    assert found.values["character"] == pytest.approx(plain.nats(text) / len(text), rel=1e-6)


def test_any_text_by_every_unit_and_with_any_stride(trained: Trained, plain: Plain, tmp_path: Path) -> None:
    path = tmp_path / "novel.txt"
    path.write_text(trained.heldout[:20_000], encoding="utf-8")
    text, mine = trained.heldout[:20_000], task("text/word")
    nats = plain.nats(text)
    values = ours(trained.model, mine, read_text(path)).values
    assert values["word"] == pytest.approx(nats / len(text.split()), rel=1e-6)
    assert values["byte"] == pytest.approx(nats / len(text.encode()), rel=1e-6)
    assert values["character"] == pytest.approx(nats / len(text), rel=1e-6)
    assert values["token"] == pytest.approx(nats / len(plain.tok(text).input_ids), rel=1e-6)
    finer = LanguageModeling([strided(mine.protocols[0], 100)], testsets.as_is, testsets.every(1))
    value = ours(trained.model, finer, read_text(path)).values["word-stride-100"]
    assert value == pytest.approx(plain.nats(text, 100) / len(text.split()), rel=1e-6)
    assert value < values["word"]


def units_of(name: str, rows: Sequence[Any], unit: str) -> tuple[int, int]:
    """Items of a task, and the sum of their units."""
    items = [item for item in task(name).items(rows) if isinstance(item, Item)]
    return len(items), sum(item.facts[unit] for item in items)


def test_the_sets_have_the_published_sizes(data: Path) -> None:
    unk, raw = (read_wikitext(data / f"wikitext2/wiki.test.{copy}") for copy in ("tokens", "raw"))
    assert units_of("wikitext2/word", unk, "word or line end") == (60, 245_569)
    assert units_of("wikitext2/raw", raw, "word or line end") == (60, 245_569)
    assert units_of("wikitext2/harness", raw, "word")[0] == 62
    (item, *_) = task("wikitext2/token").items(raw)
    assert isinstance(item, Item)
    (request,) = item.requests
    assert isinstance(request, Passage)
    assert len(gpt2.Tokenizer.gpt2().encode(request.text)) == 287_644  # as transformers warns
    assert units_of("ptb/word", read_ptb(data / "ptb/ptb.test.txt"), "word or line end") == (76, 82_430)


def test_lines_that_need_an_escape_are_told(data: Path) -> None:
    rows = read_wikitext(data / "wikitext2/wiki.test.tokens")
    mine = task("wikitext2/word")
    done = [(item, {}) for item in mine.items(rows) if isinstance(item, Item)]
    (said,) = mine.remarks(rows, done)
    assert re.fullmatch(
        r"wikitext2/word: \d of 4,358 lines need an escape of the de-tokeniser wikitext", said
    )


def test_a_line_that_is_no_text_is_named_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "ptb.test.txt"
    path.write_bytes(b" a b \n \xff \n c \n")
    good, bad = list(task("ptb/word").items(read_ptb(path)))[::-1]
    assert isinstance(bad, Malformed) and "0xff" in bad.reason
    assert isinstance(good, Item) and good.facts["word"] == 3


def test_other_formats_are_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("No heading here.\n")
    with pytest.raises(FormatError, match="has no heading like"):
        read_wikitext(path)
    with pytest.raises(FormatError, match="without a space at both ends"):
        read_ptb(path)
    with pytest.raises(FormatError, match="neither text8"):
        read_text8(path)
    path.write_bytes(b"caf\xe9 au lait")
    with pytest.raises(FormatError, match="not UTF-8: byte 0xe9 at 3"):
        read_text(path)


def test_of_a_whole_file_the_last_part_is_the_test_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "enwik8"
    path.write_bytes("aaaéb é".encode() + "é".encode()[:1])
    assert read_enwik8(path) == ["aaaéb é"]
    monkeypatch.setattr(testsets, "WHOLE", 10)
    monkeypatch.setattr(testsets, "TEST", 6)
    assert read_enwik8(path) == ["b é"]  # without half a character at either end


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 20))
def test_blocks_are_the_whole_text(text: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(testsets, "BLOCK", size)
        assert "".join(testsets.of_size(text)) == text
        blocks = testsets.in_blocks(text)
        assert "".join(blocks) == text
        assert sum(len(block.split()) for block in blocks) == len(text.split())


def test_text8_by_its_published_rule(data: Path) -> None:
    xml = (
        b"<page>\n<title>A</title>\n<text xml:space=\"preserve\">'''B''' is [[Cat (animal)|a cat]] of 19.\n"
        b"[[Image:x.jpg|thumb|left|120px|The [[caption]]]] &lt;ref&gt;gone&lt;/ref&gt;{{box|gone}} {|gone|}\n"
        b"[http://x.org shown] [[fr:Chat]] [[Category:Felines|sort]] &amp;nbsp; caf\xc3\xa9 &quot;D&quot;</text>\n"
        b"<id>7</id></page><text >#REDIRECT [[E]]</text><text >F</text>"
    )
    shown = "b is a cat of one nine the caption shown felines caf d f"
    assert plain_words(xml).split() == shown.split()
    found = plain_words((data / "enwik8/enwik8_small.xml").read_bytes())
    assert found.startswith(
        " anarchism originated as a term of abuse first used against early working class radicals"
    )
    assert len(found) == 742_809  # as the published filter itself has it
    assert re.fullmatch("[a-z ]+", found) and "  " not in found
