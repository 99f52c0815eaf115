"""Cleaning whole corpora: shards, kills, samples, the file of rules, and the command."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import Run

from gpt2.corpus import shards
from gpt2.corpus.clean import OWN_TEXT, SITE, WEB, Cleaned, Cleaner, clean, mending, rules
from gpt2.corpus.clean.rule_lists import OFF, read_rules, settings_of, show_rules
from gpt2.corpus.documents import Document, corpus_files, parquet_rows, read_documents, write_documents
from gpt2.errors import ConfigError, FormatError, InputError, TooLittleData

WORDS = str.split("""
    the house of an old captain stood by water and had to be reached with boats nobody lived there since spring they
    cleared rooms mended roof waited for first summer guests letter came post lost along road so one walked into town
    that office was shut he slept under cart woken morning rain boy brought parcel his name on it nine letters each
    asked same week people village speak this day how sea took everything but their garden wall
""")
FRAME = "Sign up for our newsletter and never miss a story."


def story(i: int) -> str:
    """A text of its own that passes all rules."""
    chosen = random.Random(i).choices(WORDS, k=200)
    return "\n".join(" ".join(chosen[k : k + 20]).capitalize() + "." for k in range(0, 200, 20))


def documents(n: int = 60) -> list[Document]:
    """Stories of two hosts, some with a frame or a fault."""
    found = []
    for i in range(n):
        text = story(i) + (f"\n{FRAME}" if i % 2 else "")
        text = {5: "Too short.", 6: "- the\n" * 200, 7: story(1) + " donâ€™t"}.get(i % 12, text)
        url = f"https://{'a' if i % 2 else 'b'}.org/{i}"
        if i % 12 == 8:
            url = f"https://en.wikipedia.org/wiki/{i}"
        found.append(Document(text, id=url, group=url, url=url, votes=i))
    return found


def corpus(folder: Path, cuts: list[int]) -> list[Path]:
    """The documents in shards."""
    all_of_them = documents()
    edges = [0, *cuts, len(all_of_them)]
    for i, (a, b) in enumerate(itertools.pairwise(edges)):
        write_documents(folder / f"documents-{i:05d}.parquet", all_of_them[a:b])
    return corpus_files(folder)


def contents(folder: Path) -> dict[str, bytes]:
    """All shards of a folder, and what was dropped."""
    return {p.name: p.read_bytes() for p in sorted((folder / "documents").glob("*.parquet"))}


def test_shards_are_cleaned_one_to_one_and_every_drop_is_written_down(tmp_path: Path) -> None:
    done = clean(corpus(tmp_path / "in", [20, 40]), tmp_path / "out")
    assert [p.name for p in corpus_files(tmp_path / "out")] == [
        f"documents-0000{i}.parquet" for i in range(3)
    ]
    kept = list(read_documents(tmp_path / "out"))
    assert (done.documents, done.kept) == (60, len(kept)) == (60, 45)
    assert {name: n for name, n in done.dropped.items() if n} == {
        "wikipedia": 5,
        "tokens": 5,
        "word-length": 5,
    }
    assert done.taken["mojibake"] == 5 and done.taken["shared-lines"] == 20
    assert not [
        d for d in kept if FRAME in d.text or "â€™" in d.text or d.url is None or "wikipedia" in d.url
    ]
    files = sorted((tmp_path / "out" / "documents").glob("drops-*.parquet"))
    drops = [row for path in files for row in parquet_rows(path, ["id", "step", "rule", "reason"])]
    assert len(drops) == 15 and all(drop["reason"] for drop in drops)
    examples = [example for row in done.drops for example in row["examples"]]
    assert {row["id"] for row in examples} == {row["id"] for row in drops}
    assert {row["text"] for row in done.drops[0]["examples"]} == {"Too short."}


def test_the_cut_into_shards_changes_nothing(tmp_path: Path) -> None:
    results = []
    for name, cuts in {"one": [], "many": [1, 7, 30, 59]}.items():
        done = clean(corpus(tmp_path / name, cuts), tmp_path / f"{name}_out")
        kept = list(read_documents(tmp_path / f"{name}_out"))
        results.append((kept, dataclasses.replace(done, folder=Path())))
    assert results[0] == results[1]


def test_cleaning_goes_on_where_it_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = corpus(tmp_path / "in", [10, 20, 30, 40, 50])
    whole = clean(files, tmp_path / "whole")
    real, left = shards.write_documents, [2]

    def failing(*arguments: Any) -> int:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(*arguments)

    monkeypatch.setattr(shards, "write_documents", failing)
    for _ in range(2):
        left[0] = 2
        with pytest.raises(KeyboardInterrupt):
            clean(files, tmp_path / "out")
    left[0] = 2
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / "out" / "documents" / f".documents-00004.parquet.{dead.pid}.part").write_bytes(b"cut")
    done = clean(files, tmp_path / "out")
    assert not list((tmp_path / "out").rglob(".*.part"))
    assert dataclasses.replace(done, folder=whole.folder) == whole
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    left[0] = 0
    assert clean(files, tmp_path / "out") == done


def test_other_rules_clean_anew_and_nothing_left_is_said(tmp_path: Path) -> None:
    files = corpus(tmp_path / "in", [])
    assert clean(files, tmp_path / "out").kept < clean(files, tmp_path / "out", OWN_TEXT).kept
    write_documents(tmp_path / "few" / "documents-00000.parquet", [Document("Too short.", id="a")])
    with pytest.raises(TooLittleData, match=r"no document is left after cleaning \(1 tokens"):
        clean(corpus_files(tmp_path / "few"), tmp_path / "none")


# The file of rules


@pytest.mark.parametrize("chosen", [WEB, SITE, OWN_TEXT, OFF, ()])
def test_a_list_that_was_shown_is_read_again(chosen: rules.Rules, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(show_rules(chosen), encoding="utf-8")
    assert read_rules(file) == chosen
    lines = file.read_text("utf-8").splitlines()
    file.write_text(
        "\n".join(line.removeprefix("# ") if "=" in line or "[" in line[:3] else line for line in lines)
    )
    assert all(len(line) <= 120 or "phrases" in line for line in lines)
    for rule in (*WEB, *OFF):
        assert f"[{rule.name}]" in "\n".join(lines)


def test_a_users_rules_are_read_with_their_usual_values(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text("[tokens]\nfewest = 64\n[bullets]\nmarks = ['+']\n[word-length]\nleast = 2\n[mojibake]\n")
    expected = (
        rules.Tokens(64),
        rules.Bullets(marks=("+",)),
        rules.WordLength(least=2, most=10.0),
        mending.Mojibake(),
    )
    assert read_rules(file) == expected
    assert read_rules() == read_rules(None) == WEB
    assert [rule.name for rule in Cleaner(expected).mending] == ["mojibake"]


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("[mojibke]", ConfigError, r"'mojibke', which is no rule \(did you mean 'mojibake'\?\)"),
        ("[tokens]\nfewst = 3", ConfigError, r"no setting 'fewst' \(did you mean 'fewest'\?\)"),
        ("[tokens]\nfewest = 1.5", ConfigError, "must be a whole number, not 1.5"),
        ("[tokens]\nfewest = '9'", ConfigError, "must be a whole number, not '9'"),
        ("[tokens]\nfewest = true", ConfigError, "must be a whole number, not True"),
        ("[tokens]\nfewest = -1", ConfigError, "give a number of 0 or more"),
        ("[bullets]\nmost = 90", ConfigError, "is a share from 0 to 1, not 90"),
        ("[symbols]\nmost = nan", ConfigError, "is nan"),
        ("[bullets]\nmarks = '-'", ConfigError, r"must be a list of strings such as"),
        ("[language]\naccepted = ['en', 1]", ConfigError, "must be a list of strings"),
        ("tokens = 128", ConfigError, r"write \[tokens\]"),
        ("[tokens]\n[tokens]", FormatError, "not a TOML file of rules"),
        ("tokens: 128", FormatError, "not a TOML file of rules"),
    ],
)
def test_a_wrong_rule_file_is_refused_in_a_sentence(
    text: str, kind: type[Exception], words: str, tmp_path: Path
) -> None:
    (tmp_path / "rules.toml").write_text(text)
    with pytest.raises(kind, match=words):
        read_rules(tmp_path / "rules.toml")
    with pytest.raises(InputError, match="--show-rules >"):
        read_rules(tmp_path / "none.toml")


def test_wrong_settings_are_refused_in_python_too() -> None:
    with pytest.raises(ConfigError, match="share from 0 to 1"):
        rules.Ellipses(most=30)
    with pytest.raises(ConfigError, match="0 or more"):
        rules.Words(fewest=-1)


# The command


def test_the_command_says_what_each_rule_did(run: Run, tmp_path: Path) -> None:
    corpus(tmp_path / "in", [30])
    said = run("corpus", "clean", tmp_path / "in", "--out", tmp_path / "out")
    assert said.status == 0 and "45 of 60 documents are left" in said.out
    for rule in WEB:
        assert rule.name in said.out
    found = json.loads(run("corpus", "clean", tmp_path / "in", "--out", tmp_path / "out", "--json").out)
    assert set(found) == {field.name for field in dataclasses.fields(Cleaned)}
    assert (found["documents"], found["kept"], found["dropped"]["wikipedia"]) == (60, 45, 5)


def test_rules_are_shown_edited_and_used(run: Run, tmp_path: Path) -> None:
    shown = run("corpus", "clean", "--show-rules").out
    file = tmp_path / "rules.toml"
    file.write_text(
        shown.replace("[wikipedia]\n", "[wikipedia]\nmore = ['b.org']\n", 1).replace("more = [] ", "#", 1)
    )
    corpus(tmp_path / "in", [])
    words = ("corpus", "clean", tmp_path / "in", "--out", tmp_path / "out", "--rules", file)
    assert json.loads(run(*words, "--json").out)["dropped"]["wikipedia"] == 30
    assert json.loads(run("corpus", "clean", "--show-rules", "--json").out) == json.loads(
        json.dumps(settings_of(WEB))
    )
    file.write_text("[wikipdia]")
    assert run(*words).refused("did you mean 'wikipedia'?")
    assert run("corpus", "clean", tmp_path / "in").refused("--out")
    assert run("corpus", "clean", tmp_path / "none", "--out", tmp_path / "new").refused("none")
