"""The recipe from text and from archives: the same documents, counts that add up, input that is refused."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from corpora import archive, check, counts, documents, dropped, html, prose, reasons, short, taken

from gpt2.corpus import BuildConfig, build
from gpt2.errors import BusyError, ConfigError, FormatError, InputError, TooLittleData
from gpt2.workspace import Workspace

# A user's own text


def test_one_text_in_three_forms_gives_the_same_documents(tmp_path: Path) -> None:
    texts = [prose(f"text{i}") for i in range(6)]
    texts += [texts[0].upper(), texts[1].replace(" ", "\r\n"), "with a \0 control character", "\x07"]
    for name in ("plain", "lines", "table"):
        (tmp_path / name).mkdir()
    for i, text in enumerate(texts):
        (tmp_path / "plain" / f"{i}.txt").write_text(text.replace("\0", "\1"))
    lines = [json.dumps({"text": text}) + "\n" for text in texts]
    (tmp_path / "lines" / "a.jsonl").write_text("".join(lines))
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "table" / "a.parquet")
    built = [
        build(BuildConfig(text=tmp_path / n), tmp_path / f"{n}-out") for n in ("plain", "lines", "table")
    ]
    for one in built:
        check(one)
        assert [d.text for d in documents(one)] == [*texts[:6], "with a  control character"]
        assert reasons(one) == {
            ("duplicates", "the same words"): 2,
            ("cleaning", "empty"): 1,
        }
        assert taken(one) == {("cleaning", "control-characters"): 2}
        repeats = pyarrow.parquet.read_table(one.documents.parent / "duplicates" / "duplicates.parquet")
        assert repeats.column("similarity").to_pylist() == [1.0, 1.0]


def test_one_long_text_is_cut_into_documents_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("\n\n".join(prose(f"chapter{i}") for i in range(40)))
    built = build(BuildConfig(text=tmp_path / "book.txt"), tmp_path / "out")
    check(built)
    found = documents(built)
    assert len(found) > 5
    assert len({d.group for d in found}) == len(found)
    assert "book.txt" in built.description


def test_nothing_but_empty_texts_is_too_little(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "\\u0001"}\n{"text": "\\u0002 \\u0003"}\n')
    with pytest.raises(TooLittleData, match="no document is left"):
        build(BuildConfig(text=tmp_path / "a.jsonl"), tmp_path / "out")


def test_surrogates_control_characters_and_huge_ids_come_through(tmp_path: Path) -> None:
    rows = [
        {"text": prose("a") + " \ud800", "id": "\udfff"},
        {"text": prose("b"), "id": 10**100, "group": [1]},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    built = build(BuildConfig(text=tmp_path / "a.jsonl"), tmp_path / "out")
    check(built)
    assert documents(built)[0].text.endswith("\ufffd")


# WARC files


def test_real_archives_give_documents(data: Path, tmp_path: Path) -> None:
    names = ["iana.warc.gz", "IAH-urls-wget.warc.gz", "whirlwind.warc.gz", "example.arc", "cc.warc.gz"]
    built = build(BuildConfig(pages=tuple(data / "warc" / name for name in names)), tmp_path / "out")
    check(built)
    assert counts(built)["responses"] == 48 + 123 + 16 + 1 + 1 + 1  # 123 are revisits
    found = {d.url: d for d in documents(built)}
    assert "http://www.iana.org/time-zones" in found
    assert all(d.source.startswith(tuple(names)) for d in found.values())
    assert {d.id == d.group for d in found.values()} == {True}
    fell = {reason for _, reason in reasons(built)}
    assert "type image/png" in fell and any(reason.startswith("status 3") for reason in fell)


def test_the_drops_of_each_step_add_up_to_what_it_did_not_pass_on(data: Path, tmp_path: Path) -> None:
    whole = data / "warc" / "iana.warc.gz"
    cut = tmp_path / "cut.warc.gz"
    cut.write_bytes((data / "warc" / "aut-example.warc.gz").read_bytes()[:-100])
    built = build(BuildConfig(pages=(whole, cut), method="fast"), tmp_path / "out")
    check(built)
    by_step = ["pages", "extraction", "cleaning", "duplicates", "removals"]
    numbers = [row["count"] for row in built.funnel]
    lost = [before - after for before, after in pairwise(numbers)]
    assert [dropped(built, step) for step in by_step] == lost
    assert sum(row["count"] for row in built.drops) == numbers[0] - numbers[-1]
    pieces = taken(built)
    assert pieces[("reading", "damaged stretch of an archive")] == 1
    assert {step for step, _ in pieces} == {"reading", "cleaning"}
    page = (built.documents / "datasheet.md").read_text()
    dropped_part, _, taken_part = page.partition("What was taken out of texts")
    assert "| pages | status " in dropped_part and "damaged stretch" not in dropped_part
    assert "damaged stretch" in taken_part


def test_pages_are_taken_once_and_by_either_method(tmp_path: Path) -> None:
    pages = {str(i): html(f"page{i}") for i in range(3)} | {"none": "<title>x</title>"}
    pages["short"] = short("short")
    one, two = archive(tmp_path / "a.warc.gz", pages), archive(tmp_path / "b.warc.gz", {"1": html("other")})
    for method in ("default", "fast"):
        built = build(BuildConfig(pages=(one, two), method=method), tmp_path / method)  # type: ignore[arg-type]
        check(built)
        assert [d.id for d in documents(built)] == [f"http://example.org/{i}" for i in range(3)]
        assert reasons(built) == {
            ("pages", "address seen before"): 1,
            ("cleaning", "tokens"): 1,
            ("extraction", "no text"): 1,
        }


def test_a_folder_of_archives_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b", "a/c"):
        archive(tmp_path / "crawl" / f"{name}.warc.gz", {name: html(name)})
    (tmp_path / "crawl" / "notes.txt").write_text("no archive")
    built = build(BuildConfig(pages=(tmp_path / "crawl",)), tmp_path / "out")
    assert [d.id for d in documents(built)] == ["http://example.org/a/c", "http://example.org/b"]
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="there is no WARC file"):
        build(BuildConfig(pages=(tmp_path / "none",)), tmp_path / "other")


def test_of_an_archive_that_was_cut_the_good_pages_are_taken(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.warc.gz", {str(i): html(f"page{i}") for i in range(3)})
    path.write_bytes(path.read_bytes()[:-20])
    built = build(BuildConfig(pages=(path,)), tmp_path / "out")
    check(built)
    assert len(documents(built)) == 2
    assert reasons(built) == {} and taken(built) == {("reading", "damaged stretch of an archive"): 1}
    sheet = json.loads((built.documents / "datasheet.json").read_text())
    assert len(sheet["faults"]) == 1 and "has no end" in sheet["faults"][0]
    (tmp_path / "b.warc.gz").write_text("no archive")
    with pytest.raises(FormatError, match="neither a WARC nor an ARC"):
        build(BuildConfig(pages=(tmp_path / "b.warc.gz",)), tmp_path / "other")


def test_rules_of_a_file_are_used_and_leave_the_texts_as_they_were(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.warc.gz", {str(i): html(f"page{i}") for i in range(3)})
    rules = tmp_path / "rules.toml"
    rules.write_text("[words]\nfewest = 1_000\n")
    with pytest.raises(TooLittleData, match=r"no document is left after cleaning \(3 words"):
        build(BuildConfig(pages=(path,), rules=rules), tmp_path / "out")
    before = (tmp_path / "out" / "texts" / "stage.json").read_text()
    rules.write_text("[words]\nfewest = 10\n")
    assert len(documents(build(BuildConfig(pages=(path,), rules=rules), tmp_path / "out"))) == 3
    assert (tmp_path / "out" / "texts" / "stage.json").read_text() == before


def test_each_drop_has_a_row_with_its_reason_and_some_an_example(tmp_path: Path) -> None:
    pages = {"good": html("good"), "short": short("short")}
    path = archive(tmp_path / "a.warc.gz", pages)
    built = build(BuildConfig(pages=(path,)), tmp_path / "out")
    rows = pyarrow.parquet.read_table(tmp_path / "out" / "clean" / "drops-00000.parquet").to_pylist()
    assert [(row["id"], row["rule"]) for row in rows] == [("http://example.org/short", "tokens")]
    assert "fewer than 128" in rows[0]["reason"]
    (drop,) = built.drops
    assert drop["examples"][0]["text"].startswith("Shortx ") and "tokens" in drop["examples"][0]["detail"]


def test_of_several_captures_the_first_with_a_text_counts(tmp_path: Path) -> None:
    archive(tmp_path / "a.warc.gz", [("a", "<p></p>"), ("a", html("one")), ("a", html("two"))])
    built = build(BuildConfig(pages=(tmp_path / "a.warc.gz",), method="fast"), tmp_path / "out")
    (found,) = documents(built)
    assert "one" in found.text
    assert reasons(built) == {("extraction", "no text"): 1, ("pages", "address seen before"): 1}


def test_a_folder_for_a_corpus_inside_its_own_input_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a.txt").write_text(prose("a"))
    with pytest.raises(InputError, match="lies inside"):
        build(BuildConfig(text=tmp_path / "own"), tmp_path / "own" / "corpus")


# Interruption and refusals


def test_changed_text_is_built_anew(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text(prose("a"))
    (folder / "b.txt").write_text(prose("b"))
    assert len(documents(build(BuildConfig(text=folder), tmp_path / "out"))) == 2
    (folder / "c.txt").write_text(prose("c"))
    assert len(documents(build(BuildConfig(text=folder), tmp_path / "out"))) == 3


def test_two_builds_in_one_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(prose("a"))
    with Workspace(tmp_path / "out"), pytest.raises(BusyError):
        build(BuildConfig(text=tmp_path / "a.txt"), tmp_path / "out")


# The rest


def test_nothing_is_said_on_standard_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pages = {str(i): html(f"page{i}") for i in range(70)} | {"none": "<p></p>"}
    archive(tmp_path / "a.warc.gz", pages)
    assert len(documents(build(BuildConfig(pages=(tmp_path / "a.warc.gz",)), tmp_path / "out"))) == 70
    assert capfd.readouterr() == ("", "")


def test_only_one_source_may_be_given() -> None:
    with pytest.raises(ConfigError, match="only one of text, pages and links"):
        BuildConfig(text=Path("a"), links=(Path("b"),))
    with pytest.raises(ConfigError, match="there is no extraction method 'magic'"):
        BuildConfig(method="magic")  # type: ignore[arg-type]


@pytest.mark.parametrize("source", ["text", "pages", "links"])
def test_a_source_that_is_not_there_is_refused(source: str, tmp_path: Path) -> None:
    path = tmp_path / "absent"
    config = BuildConfig(**{source: path if source == "text" else (path,)})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="there is no file or folder"):
        build(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()
