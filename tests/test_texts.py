"""gpt2 corpus extract: WARC files to documents, whole after a kill, the same by any number of processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Run

from gpt2.corpus import jobs
from gpt2.corpus.documents import read_documents
from gpt2.corpus.engine import Engine
from gpt2.corpus.extract.archives import extract_files
from gpt2.errors import InputError, TooLittleData


@pytest.fixture
def files(data: Path) -> list[Path]:
    return [data / "warc" / name for name in ("IAH-urls-wget.warc.gz", "iana.warc.gz")]


def test_pages_become_documents_and_each_other_response_has_its_cause(
    files: list[Path], tmp_path: Path
) -> None:
    done = extract_files(files, tmp_path / "out", "fast", engine=Engine(2))
    documents = list(read_documents(tmp_path / "out"))
    assert len(documents) == done.documents > 10
    assert done.pages == done.documents + sum(done.causes.values())
    assert all(d.id == d.group and d.text and d.source for d in documents)
    assert any(cause.startswith("type image") for cause in done.causes)


def test_any_number_of_processes_gives_the_same_bytes_and_finished_work_is_kept(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "SMALLEST", 100_000)
    one, two = tmp_path / "one", tmp_path / "two"
    extract_files(files, one, "blocks", engine=Engine(1))
    done = extract_files(files, two, "blocks", engine=Engine(3))
    names = [path.name for path in sorted((one / "documents").glob("*.parquet"))]
    assert len(names) > 4
    assert all((one / "documents" / n).read_bytes() == (two / "documents" / n).read_bytes() for n in names)
    before = [(two / "documents" / name).stat().st_mtime_ns for name in names]
    assert extract_files(files, two, "blocks") == done
    assert [(two / "documents" / name).stat().st_mtime_ns for name in names] == before
    assert extract_files(files[:1], two, "fast").pages < done.pages, "by another method it is done anew"


def test_other_work_in_the_folder_is_kept(files: list[Path], tmp_path: Path, run: Run) -> None:
    (tmp_path / "full" / "documents").mkdir(parents=True)
    (tmp_path / "full" / "documents" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="was not made here"):
        extract_files(files, tmp_path / "full", "fast", engine=Engine(1))
    extract_files(files[:1], tmp_path / "out", "fast", engine=Engine(1))
    said = run("corpus", "clean", tmp_path / "out", "--out", tmp_path / "out")
    assert said.refused("lies in the output folder")
    said = run("corpus", "clean", tmp_path / "out", "--out", tmp_path / "clean")
    assert said.status == 0
    with pytest.raises(InputError, match="made by another command"):
        extract_files(files[:1], tmp_path / "clean", "fast", engine=Engine(1))
    with pytest.raises(InputError, match="no file"):
        extract_files([tmp_path / "none.warc.gz"], tmp_path / "new", "fast")


def test_a_damaged_file_gives_its_good_records(files: list[Path], tmp_path: Path) -> None:
    cut = tmp_path / "cut.warc.gz"
    whole = files[1].read_bytes()
    cut.write_bytes(whole[: len(whole) * 2 // 3])
    done = extract_files([cut], tmp_path / "out", "fast", engine=Engine(1))
    assert len(done.faults) == 1 and "no end" in done.faults[0]
    extract_files([files[1]], tmp_path / "whole", "fast", engine=Engine(1))
    good = [(d.id, d.text) for d in read_documents(tmp_path / "out")]
    assert good
    assert good == [(d.id, d.text) for d in read_documents(tmp_path / "whole")][: len(good)]
    empty = tmp_path / "other.warc.gz"
    empty.write_bytes(files[0].read_bytes()[:2000])
    with pytest.raises(TooLittleData, match="gave a document"):
        extract_files([empty], tmp_path / "none", "fast", engine=Engine(1))


def test_the_command_extracts_and_compares(run: Run, files: list[Path], data: Path, tmp_path: Path) -> None:
    told = run("corpus", "extract", str(files[0]), "--method", "fast", "--out", str(tmp_path / "o"), "--json")
    result = json.loads(told.out)
    assert result["documents"] + sum(result["causes"].values()) == result["pages"]
    gold = tmp_path / "gold"
    (gold / "html").mkdir(parents=True)
    text = (
        "It was a bright morning and the boats had come in early with more fish than anyone could remember."
    )
    (gold / "html" / "a.html").write_text(f"<article><p>{text}</p><p>{text}</p></article>")
    (gold / "ground-truth.json").write_text(json.dumps({"a": {"articleBody": f"{text} {text}"}}))
    rows = json.loads(run("corpus", "extract", "--compare", str(gold), "--json").out)["methods"]
    assert [row["method"] for row in rows][:3] == ["default", "fast", "blocks"]
    assert rows[1]["f1"] == 1.0 and rows[1]["pages_per_second"] > 0
    assert "recall" in run("corpus", "extract", "--compare", str(gold)).out
