"""gpt2 score and what stands behind it: units that add up, files and streams of any size, every output."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest
from command_line import Run, World

import gpt2
from gpt2.cli import scoring as cli
from gpt2.inference.scoring import Piece, score
from gpt2.inference.spans import Span, Totals, spans
from gpt2.inference.texts import score_streams
from gpt2.tokens.bpe import Tokenizer

TOK = Tokenizer.gpt2()


def pieces(text: str, sizes: int = 3) -> list[Piece]:
    """A text's tokens, each with its own log-probability and rank, a few a piece."""
    import numpy as np

    ids = np.array(TOK.encode(text), np.int64)
    found = [
        Piece(
            0,
            ids[i : i + sizes],
            -1.0 - np.arange(i, min(i + sizes, len(ids))),
            ids[i : i + sizes] % 7 + 1,
            False,
        )
        for i in range(0, len(ids), sizes)
    ]
    return [*found, Piece(0, ids[:0], np.empty(0), ids[:0], True)]


def strings(text: str, unit: str) -> list[str]:
    return [s.string for s in spans(pieces(text), TOK, unit)]  # type: ignore[arg-type]


def test_words_are_runs_without_white_space() -> None:
    text = "Hello, world!  I don't\n\n know  antidisestablishmentarianism.\n"
    assert strings(text, "word") == [
        "Hello,", " world!", "  I", " don't", "\n\n know", "  antidisestablishmentarianism.", "\n"
    ]  # fmt: skip


def test_sentences_end_where_a_reader_ends_them() -> None:
    text = 'Mr. J. Smith left. "Why?" she asked. He said: "No!" Then (e.g. at 3.5 km) it ended...  Was it so?'
    text += "\n\nA title\n\nThe end"
    assert strings(text, "sentence") == [
        "Mr. J. Smith left.",
        ' "Why?" she asked.',
        ' He said: "No!"',
        " Then (e.g. at 3.5 km) it ended...",
        "  Was it so?",
        "\n\nA title",
        "\n\nThe end",
    ]


@pytest.mark.parametrize("unit", ["token", "word", "sentence", "text"])
def test_spans_add_up_to_the_text(unit: str) -> None:
    text = "One two. Three naïve 🤗 four!\n\nFive   six"
    found = list(spans(pieces(text), TOK, unit))  # type: ignore[arg-type]
    assert b"".join(s.spelled for s in found).decode() == text
    assert [s.number for s in found] == list(range(len(found)))
    n = len(TOK.encode(text))
    assert sum(s.tokens for s in found) == n
    assert sum(s.n_bytes for s in found) == len(text.encode())
    assert sum(s.logprob for s in found) == -sum(range(1, n + 1))
    if unit == "token":
        assert [s.rank for s in found] == [i % 7 + 1 for i in TOK.encode(text)]


def test_a_span_longer_than_what_is_shown_still_ends_where_it_ends() -> None:
    long = "word list " * 12_000 + "ends here. Then comes one. And another."
    found = list(spans(pieces(long, 4000), TOK, "sentence"))
    assert [s.string for s in found][1:] == [" Then comes one.", " And another."]
    assert found[0].n_bytes == 120_010 and len(found[0].spelled) == 100_000
    found = list(spans(pieces(" " * 120_000 + "one two three", 4000), TOK, "word"))
    assert [s.string for s in found][1:] == [" two", " three"]


def test_totals_and_their_units() -> None:
    totals = Totals()
    assert math.isnan(totals.perplexity) and math.isnan(totals.bits_per_byte)
    totals.add(Span(0, 0, b"ab", -2 * math.log(2), 2, 4))
    assert totals.perplexity == pytest.approx(2) and totals.bits_per_byte == pytest.approx(0.5)


@pytest.fixture
def texts() -> list[str]:
    return [
        "The lazy dog. It slept on and on and on, longer than the model reads.",
        "",
        "Two",
        "naïve 🤗 text",
    ]


def test_streams_score_as_texts_do(world: World, texts: list[str]) -> None:
    model = gpt2.load(world.model)
    expected = score(model, texts, stride=4)
    lines = io.BytesIO("\n".join(texts).encode())
    found = list(score_streams(model, [("f", lines)], "line", "text", stride=4))
    assert [s.text for s in found] == [0, 1, 2, 3], "a text of no token has its row"
    for one, other in zip(found, expected, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4) and one.tokens == len(other.tokens)
    whole = score(model, ["\n".join(texts)])[0]
    (all_,) = score_streams(model, [("f", io.BytesIO("\n".join(texts).encode()))])
    assert all_.logprob == pytest.approx(whole.logprob, abs=1e-4) and all_.tokens == len(whole.tokens)


def test_records_may_be_texts_or_pairs(world: World) -> None:
    model = gpt2.load(world.model)
    rows = b'{"text": "The lazy"}\n\n{"context": "The", "continuation": " lazy", "other": 1}\n'
    one, two = score_streams(model, [("f", io.BytesIO(rows))], "record", "text", "none")
    assert one.logprob == pytest.approx(score(model, ["The lazy"], start="none")[0].logprob, abs=1e-4)
    assert two.logprob == pytest.approx(score(model, [("The", " lazy")], start="none")[0].logprob, abs=1e-4)


def test_a_stream_is_not_held(world: World) -> None:
    """Scores come before the stream has ended: it is read a part at a time."""
    model = gpt2.load(world.model)
    read = 0

    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            nonlocal read
            read += 1
            assert read < 60, "it is read to the end before anything comes out"
            return b"The lazy dog slept on.\n" * (size // 23)

    found = score_streams(model, [("f", Endless())], "file", "sentence")  # type: ignore[list-item]
    assert [next(found).string for _ in range(3)] == [
        "The lazy dog slept on.",
        *["\nThe lazy dog slept on."] * 2,
    ]


def test_score_adds_up(run: Run, world: World) -> None:
    for start in ("endoftext", "none"):
        s = json.loads(run("score", world.model, "The lazy dog", "--start", start, "--json").out)
        assert s["unit"] == "token" and s["dtype"] == "float32" and s["texts"] == 1
        assert s["logprob"] == pytest.approx(sum(r["logprob"] for r in s["rows"]))
        ids = [r["token"] for r in s["rows"]]
        assert ids == gpt2.load(world.model).tokenizer.encode("The lazy dog")[start == "none" :]
        assert s["perplexity"] == pytest.approx(math.exp(-s["logprob"] / s["tokens"]))
    assert run("score", world.model, "The lazy dog").out.startswith("text ")


def test_every_output(run: Run, world: World, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text('The "lazy"\tdog.\nIt\\slept.\n')
    (tmp_path / "b.txt").write_text("Again")
    files = ["--file", tmp_path / "a.txt", tmp_path / "b.txt"]
    said = run("score", world.model, *files, "--unit", "word", "--format", "tsv")
    header, *rows = said.out.splitlines()
    assert header == "text\tnumber\tstring\tlogprob\tbits\ttokens\ttoken\trank"
    assert [r.split("\t")[:3] for r in rows][:3] == [
        ["0", "0", "The"],
        ["0", "1", ' "lazy"'],
        ["0", "2", "\\tdog."],
    ]
    assert rows[3].split("\t")[2] == "\\nIt\\\\slept." and rows[-1].startswith("1\t0\tAgain")
    assert "texts 2" in said.err, "the sums go to standard error"
    said = run("score", world.model, *files, "--format", "jsonl")
    first, second = map(json.loads, said.out.splitlines())
    assert first["text"] == 0 and second["string"] == "Again" and "rank" not in first
    colors = run("score", world.model, *files, "--unit", "token", "--format", "colors").out
    assert "\x1b[48;5;" in colors and "bits a token" in colors
    shown = "".join(part.split("m", 1)[-1] for part in colors.replace("\x1b[0m", "").split("\x1b["))
    assert shown.startswith('The "lazy"\tdog.\nIt\\slept.\nAgain')
    assert run("score", world.model, given=b"The dog").out.startswith("text ")
    assert json.loads(run("score", world.model, "--json", given=b"The dog").out)["unit"] == "text"
    lines = run(
        "score", world.model, "--each", "line", "--format", "jsonl", given=b"The\ndog\n"
    ).out.splitlines()
    assert [json.loads(line)["string"] for line in lines] == ["The", "dog"]
    given = b"The dog\nIt\n\n"
    how = ("score", world.model, "--each", "line", "--unit", "word")
    assert json.loads(run(*how, "--json", given=given).out)["texts"] == 3, "the last one has no word"
    assert "\n" in run(*how, "--format", "colors", given=given).out.split("It")[0]


def test_what_cannot_be_scored_is_refused(run: Run, world: World, tmp_path: Path) -> None:
    assert run("score", world.model, "").refused("no token to score")
    assert run("score", world.model, "a", "--file", tmp_path / "b").refused("give one of the two")
    (tmp_path / "a").write_text("a text")
    assert run("score", world.model, "--file", tmp_path / "a", tmp_path / "b").refused("b is not there")
    assert run("score", world.model, "--file", tmp_path).refused("is a folder, not a file")
    assert run("score", world.model, given=b"\xff").refused("standard input is not UTF-8")
    assert run("score", world.model, "--each", "line", given=b"a\n\xff").refused("line 2 of standard input")
    assert run("score", world.model, "--each", "record", given=b"{}").refused(
        "record 1 of standard input has neither"
    )
    assert run("score", world.model, "--each", "record", given=b"[").refused(
        "line 1 of standard input is not JSON"
    )


def test_shades_go_from_expected_to_surprising() -> None:
    limits = [limit for limit, _ in cli.SHADES]
    assert limits == sorted(limits) and limits[-1] == float("inf")
