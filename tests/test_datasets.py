"""Where data sets are found, and which copy a file is."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpt2.errors import FetchError, InputError, MissingExtra
from gpt2.evaluation import datasets
from gpt2.evaluation.datasets import DATA_SETS, Found, Library
from gpt2.evaluation.download import SOURCES, download
from gpt2.evaluation.tasks import every_task

PARTS = {
    "wikitext2", "wikitext2-raw", "ptb", "enwik8", "text8", "lm1b", "lambada-openai", "lambada-standard", "cbt-cn",
    "cbt-ne", "wsc273", "dpr", "pdp60", "coqa", "cnn-dailymail", "wmt14-fr-en", "wmt14-en-fr", "nq-open",
    "wikitext103-raw",
}  # fmt: skip
"""What the data at hand has at least a part of."""


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No data and an empty cache, unless a test says so."""
    monkeypatch.delenv("GPT2_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gpt2-workbench" / "data"


def put(folder: Path, *names: str) -> list[Path]:
    """Files of these names."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return [folder / name for name in names]


def paths(found: Found | None) -> tuple[Path, ...]:
    """Where it was found."""
    return found.paths if found else ()


def test_files_are_found_below_the_folder_under_their_published_names(tmp_path: Path) -> None:
    [tokens, raw, other, ptb] = put(
        tmp_path / "data",
        "WikiText-2/wiki.test.tokens",
        "lm/wikitext-2-raw/wiki.test.raw",
        "wikitext-103/wiki.test.tokens",
        "a/b/c/ptb.test.txt",
    )
    library = Library(tmp_path / "data")
    assert paths(library.find("wikitext2")) == (tokens,)
    assert paths(library.find("wikitext2-raw")) == (raw,)
    assert paths(library.find("wikitext103")) == (other,)
    assert paths(library.find("ptb")) == (ptb,)
    shared = library.find("wikitext103-raw")
    assert shared and shared.paths == (raw,) and "same test text" in shared.label(shared.digests())
    assert library.find("enwik8") is None


def test_the_nearest_and_the_best_copy_is_taken(tmp_path: Path) -> None:
    put(tmp_path / "data", "deep/er/ptb.test.txt", "ptb.test.txt", "x/cbtest_CN_valid_2000ex.head.txt")
    [whole] = put(tmp_path / "data", "y/cbtest_CN_valid_2000ex.txt")
    library = Library(tmp_path / "data")
    assert paths(library.find("ptb")) == (tmp_path / "data" / "ptb.test.txt",)
    assert paths(library.find("cbt-cn")) == (whole,)


def test_a_pair_of_files_is_found_only_whole(tmp_path: Path) -> None:
    put(tmp_path / "data", "newstest2014.fr")
    assert Library(tmp_path / "data").find("wmt14-fr-en") is None


def test_the_folder_comes_before_the_environment_and_the_cache_last(
    tmp_path: Path, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [named, of_environment] = put(tmp_path, "named/ptb.test.txt", "set/ptb.test.txt")
    [cached] = put(nowhere, "ptb/ptb.test.txt")
    assert paths(Library().find("ptb")) == (cached,)
    monkeypatch.setenv("GPT2_DATA", str(tmp_path / "set"))
    assert paths(Library().find("ptb")) == (of_environment,)
    assert paths(Library(tmp_path / "named").find("ptb")) == (named,)


def test_a_checksum_tells_the_known_copy_from_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [file] = put(tmp_path / "data", "ptb.test.txt")
    found = Library(tmp_path / "data").find("ptb")
    assert found
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert found.label(found.digests()) == f"unknown copy: sha256 {digest[:12]}"
    known = replace(found, set=replace(found.set, known={digest: "whole split"}))
    assert known.label(known.digests()) == "known copy: whole split"


def test_what_is_lacking_is_said_with_the_way_to_get_it(tmp_path: Path, nowhere: Path) -> None:
    (tmp_path / "data").mkdir()
    said = Library(tmp_path / "data").lacking("hellaswag")
    assert "no hellaswag_val.jsonl in" in said and "rowanz/hellaswag" in said and "--download" in said
    assert f"put it into {tmp_path / 'data'}" in said
    assert "put it into --data DIR" in Library().lacking("ptb")
    assert "--data FILE" in Library().lacking("text")


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        Library(tmp_path / "none")


def test_a_file_is_the_text_to_measure(tmp_path: Path) -> None:
    [file] = put(tmp_path, "my.txt")
    assert paths(Library(file).find("text")) == (file,)
    assert Library(file).find("ptb") is None


def test_every_protocol_names_one_data_set_that_there_is() -> None:
    for task in every_task():
        assert {p.data for p in task.protocols} == {task.protocols[0].data}, task.name
        assert task.protocols[0].data in DATA_SETS
        assert {p.task for p in task.protocols} == {task.name}


def test_every_reader_is_there() -> None:
    for data in DATA_SETS.values():
        for copy in data.copies:
            file, _, function = copy.reader.partition(".")
            assert callable(getattr(importlib.import_module(f"gpt2.evaluation.tasks.{file}"), function))


def test_the_data_at_hand_is_found_known_and_read(data: Path) -> None:
    library = Library(data)
    found = {name: library.find(name) for name in DATA_SETS}
    assert {name for name, one in found.items() if one} >= PARTS
    for name in PARTS:
        one = found[name]
        assert one and one.label(one.digests()).startswith("known copy"), name
        assert len(one.rows()) > 0, name


def hub(monkeypatch: pytest.MonkeyPatch, answer: Path | Exception) -> list[Sequence[object]]:
    """A hub that gives one file, or fails; what it was asked."""
    asked: list[Sequence[object]] = []

    def hf_hub_download(repository: str, name: str, repo_type: str, revision: str) -> str:
        asked.append((repository, name, repo_type, revision))
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    module, errors = ModuleType("huggingface_hub"), ModuleType("huggingface_hub.errors")
    vars(module).update(hf_hub_download=hf_hub_download)
    vars(errors).update(HfHubHTTPError=type("HfHubHTTPError", (OSError,), {}))
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    return asked


ON_HUB = {
    "wikitext2": ([{"text": ""}, {"text": " = Title = \n"}], " \n = Title = \n"),
    "lambada-standard": ([{"text": "a b"}, {"text": "c d\n"}], "a b\nc d\n"),
    "nq-open": ([{"question": "q", "answer": ["é"]}], '{"question": "q", "answer": ["é"]}\n'),
    "cbt-ne": (
        [{"sentences": ["A .", "B ."], "question": "C XXXXX", "answer": "x", "options": ["x", "y"]}],
        "1 A .\n2 B .\n3 C XXXXX\tx\t\tx|y\n\n",
    ),
    "hellaswag": ([{"ctx": "a", "label": "2"}], '{"ctx": "a", "label": 2}\n'),
    "wmt14-fr-en": ([{"translation": {"fr": "oui\nnon", "en": "yes"}}], "oui non\n"),
}


@pytest.mark.parametrize("name", ON_HUB)
def test_the_hubs_rows_are_written_as_the_original_files_have_them(
    name: str, tmp_path: Path, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, text = ON_HUB[name]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "0000.parquet")
    asked = hub(monkeypatch, tmp_path / "0000.parquet")
    assert Library().find(name) is None and not asked, "nothing is fetched unless asked for"
    found = Library(download=True).find(name)
    assert found and found.paths[0].is_relative_to(nowhere)
    assert found.paths[0].read_text(encoding="utf-8") == text
    source = SOURCES[name]
    assert asked == [
        (source.repository, f"{split}/0000.parquet", "dataset", "refs/convert/parquet")
        for split, _ in source.files.values()
    ]
    assert Library(download=True).find(name) and len(asked) == len(source.files), (
        "what is there is not fetched again"
    )


def test_what_comes_from_the_hub_is_found_by_its_name() -> None:
    for name, source in SOURCES.items():
        listed = [(f"/{name}/{file}".lower(), Path(name) / file) for file in source.files]
        library = Library()
        library._files = [listed]
        assert library.find(name), name


def test_a_hub_that_fails_is_one_sentence(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, ValueError("offline mode is enabled.\nand more"))
    with pytest.raises(
        FetchError, match=r"did not give EleutherAI/lambada_openai \(offline mode is enabled\)"
    ):
        Library(download=True).find("lambada-openai")
    assert not nowhere.exists() or not any(nowhere.rglob("*.jsonl"))


def test_without_the_hubs_library_its_extra_is_named(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r"gpt2-workbench\[hub\]"):
        download("lambada-openai", datasets.cache())
    download("ptb", datasets.cache())  # which the hub does not have
