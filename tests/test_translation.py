"""Translation of real lines: example pairs, both cuts, BLEU as sacrebleu's, files that do not fit each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sacrebleu
from harness import ours
from trained_model import Trained

from gpt2.errors import FormatError
from gpt2.evaluation.results import aggregate
from gpt2.evaluation.task import Generate, Item, Malformed, Measured
from gpt2.evaluation.tasks.translation import EXAMPLES, TASKS, read

pytestmark = pytest.mark.usefixtures("one_thread")
TO_ENGLISH, TO_FRENCH = TASKS


@pytest.fixture(scope="module")
def files(data: Path) -> dict[str, Path]:
    """By year and language."""
    return {p.name.removeprefix("newstest20"): p for p in (data / "wmt_enfr").iterdir()}


@pytest.fixture(scope="module")
def rows(files: dict[str, Path]) -> list[Any]:
    """French to English."""
    return read(files["14.fr"], files["14.en"], files["13.fr"], files["13.en"])


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def test_line_i_translates_line_i(rows: list[Any], files: dict[str, Path]) -> None:
    french, english = lines(files["14.fr"]), lines(files["14.en"])
    assert len(rows) == EXAMPLES + 2002
    for row, fr, en in zip(rows[EXAMPLES:], french, english, strict=True):
        assert (row["source"], row["target"]) == (fr.strip(), en.strip())
    assert any("\xa0" in row["source"] for row in rows), "a no-break space ends no line"
    assert len({row["id"] for row in rows}) == len(rows)


def test_a_sentence_stands_after_example_pairs(rows: list[Any], files: dict[str, Path]) -> None:
    pairs = list(zip(lines(files["13.fr"]), lines(files["13.en"]), strict=True))[:EXAMPLES]
    examples = "".join(f"{fr} = {en}\n" for fr, en in pairs)
    items = [item for item in TO_ENGLISH.items(rows) if isinstance(item, Item)]
    assert len(items) == 2002
    for item in items[:50]:
        assert item.requests == [Generate(f"{examples}{item.facts['source']} =", 192, ["\n"])]
    back = read(files["14.en"], files["14.fr"], files["13.en"], files["13.fr"])
    (asked,) = next(item for item in TO_FRENCH.items(back) if isinstance(item, Item)).requests
    assert isinstance(asked, Generate)
    assert asked.prompt.startswith(f"{pairs[0][1]} = {pairs[0][0]}\n")


def test_both_cuts_of_an_answer(rows: list[Any]) -> None:
    item = next(item for item in TO_ENGLISH.items(rows) if isinstance(item, Item))
    found = TO_ENGLISH.measure(item, [" Mr. Smith has come. He is here. "])
    assert found["line"].output == "Mr. Smith has come. He is here."
    assert found["first-sentence"].output == "Mr. Smith has come."
    assert found["line"].reference == item.facts["target"]
    assert TO_ENGLISH.measure(item, [""])["first-sentence"].output == ""


def test_bleu_of_a_run_equals_sacrebleus(rows: list[Any], trained: Trained) -> None:
    found = ours(trained.model, TO_ENGLISH, rows[:25])
    items = [asked.item for asked in found.asked]
    assert len(items) == 20
    references = [item.facts["target"] for item in items]
    # The small model knows no French; a part of the reference in its place makes BLEU a number to compare.
    halves = [TO_ENGLISH.measure(i, [f" {r[: len(r) // 2]}"]) for i, r in zip(items, references, strict=True)]
    for measured in (found.measured, halves):
        values = aggregate(TO_ENGLISH.protocols, measured, [item.id for item in items])
        for name in ("line", "first-sentence"):
            hypotheses = [m[name].output for m in measured]
            expected = sacrebleu.corpus_bleu(hypotheses, [references]).score
            assert values[name].value == pytest.approx(expected)
    line = values["line"]
    assert line.value > 10
    assert line.interval is not None
    low, high = line.interval
    assert line.value - 15 < low < line.value < high < line.value + 15, "20 sentences tell little"


def test_remarks_show_the_pairs_and_the_signature(rows: list[Any]) -> None:
    items = [item for item in TO_ENGLISH.items(rows[:8]) if isinstance(item, Item)]
    done = [(item, TO_ENGLISH.measure(item, [item.facts["target"]])) for item in items]
    signature, title, *pairs = TO_ENGLISH.remarks(rows, done)
    assert signature.startswith("sacrebleu nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert title == "example pairs:"
    assert pairs == [f"{row['source']} = {row['target']}" for row in rows[:EXAMPLES]]
    nothing: list[tuple[Item, dict[str, Measured]]] = []
    assert not TO_ENGLISH.remarks(rows, nothing)


def write(tmp_path: Path, **contents: bytes) -> list[Path]:
    """Files of these contents: source, target, example source, example target."""
    usual = b"\n".join(b"line %d" % i for i in range(9)) + b"\n"
    paths = []
    for name in ("source", "target", "example_source", "example_target"):
        paths.append(tmp_path / name)
        paths[-1].write_bytes(contents.get(name, usual))
    return paths


def test_broken_lines_are_counted_and_named(tmp_path: Path) -> None:
    source = b"one\n\nthree\nfo\xffur\nfive\r\n"
    rows = read(*write(tmp_path, source=source, target=b"un\ndeux\ntrois\nquatre\ncinq\n"))
    items = list(TO_FRENCH.items(rows))
    assert [(item.id, item.reason) for item in items if isinstance(item, Malformed)] == [
        ("1", "an empty line"),
        ("3", "not UTF-8: byte 0xff where no character begins"),
    ]
    assert [item.id for item in items if isinstance(item, Item)] == ["0", "2", "4"]


def test_files_that_do_not_fit_each_other_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"has 9 lines and .* has 2; give files that were made together"):
        read(*write(tmp_path, target=b"un\ndeux\n"))
    with pytest.raises(FormatError, match=r"\(example 1 is an empty line\); give newstest2013"):
        read(*write(tmp_path, example_source=b"1\n\n3\n4\n5\n6\n7\n8\n9\n"))
    with pytest.raises(FormatError, match=r"do not begin with 5 pairs \(there are 2\)"):
        read(*write(tmp_path, example_source=b"1\n2\n", example_target=b"1\n2\n"))
    with pytest.raises(FormatError, match="is empty"):
        read(*write(tmp_path, source=b""))
