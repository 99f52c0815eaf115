"""Data sets from the Hugging Face hub, written in their original formats into the cache.

The hub keeps every data set as Parquet files in its branch refs/convert/parquet, one folder for each
configuration and split. Those rows are written as the original files have them, which the tasks read; they
are not the original bytes in each case, so a checksum may call such a copy unknown. What is fetched is
fetched by huggingface_hub, with its own cache, mirrors (HF_ENDPOINT) and offline switch (HF_HUB_OFFLINE).
Nothing is executed of what is fetched.

    gpt2 evaluate run --tasks lambada --download
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2.errors import FetchError, need
from gpt2.workspace import Json, atomic_write

BRANCH = "refs/convert/parquet"
Rows = Iterable[Json]
Writer = Callable[[Rows], Iterator[str]]


@dataclass(frozen=True)
class Source:
    """A data set on the hub, and the files that it becomes."""

    repository: str
    files: dict[str, tuple[str, Writer]]
    """By name: configuration and split, as folders of the branch, and how its rows become the text."""


def json_lines(*keys: str) -> Writer:
    """One JSON object a line, with these of the columns."""

    def write(rows: Rows) -> Iterator[str]:
        return (json.dumps({key: row[key] for key in keys}, ensure_ascii=False) + "\n" for row in rows)

    return write


def hellaswag(rows: Rows) -> Iterator[str]:
    """JSON lines in which the label is a number, as in the original."""
    return (json.dumps(row | {"label": int(row["label"])}, ensure_ascii=False) + "\n" for row in rows)


def wikitext(rows: Rows) -> Iterator[str]:
    """Lines as they are; an empty row is a line with a space."""
    return (row["text"] or " \n" for row in rows)


def plain_lines(rows: Rows) -> Iterator[str]:
    """A text a line."""
    return (row["text"].strip("\n") + "\n" for row in rows)


def cbt(rows: Rows) -> Iterator[str]:
    """Twenty numbered sentences, the question with its answer and candidates, an empty line."""
    for row in rows:
        yield from (f"{i} {sentence}\n" for i, sentence in enumerate(row["sentences"], 1))
        yield f"{len(row['sentences']) + 1} {row['question']}\t{row['answer']}\t\t{'|'.join(row['options'])}\n\n"


def language(code: str) -> Writer:
    """One language of sentence pairs, a sentence a line."""
    return lambda rows: (row["translation"][code].replace("\n", " ") + "\n" for row in rows)


def wikitext_source(name: str) -> Source:
    """One of the four WikiTexts."""
    kind = "raw" if name.endswith("-raw-v1") else "tokens"
    return Source("Salesforce/wikitext", {f"wiki.test.{kind}": (f"{name}/test", wikitext)})


NEWS = Source(
    "wmt/wmt14",
    {
        f"newstest{year}.{code}": (f"fr-en/{split}", language(code))
        for year, split in ((2014, "test"), (2013, "validation"))
        for code in ("fr", "en")
    },
)
SOURCES: dict[str, Source] = {
    "wikitext2": wikitext_source("wikitext-2-v1"),
    "wikitext2-raw": wikitext_source("wikitext-2-raw-v1"),
    "wikitext103": wikitext_source("wikitext-103-v1"),
    "wikitext103-raw": wikitext_source("wikitext-103-raw-v1"),
    "lambada-openai": Source(
        "EleutherAI/lambada_openai", {"lambada_test.jsonl": ("default/test", json_lines("text"))}
    ),
    "lambada-standard": Source(
        "cimec/lambada", {"lambada_test_plain_text.txt": ("plain_text/test", plain_lines)}
    ),
    "cbt-cn": Source("cam-cst/cbt", {"cbtest_CN_valid_2000ex.txt": ("CN/validation", cbt)}),
    "cbt-ne": Source("cam-cst/cbt", {"cbtest_NE_valid_2000ex.txt": ("NE/validation", cbt)}),
    "cnn-dailymail": Source(
        "abisee/cnn_dailymail",
        {"cnndm_test.jsonl": ("3.0.0/test", json_lines("article", "highlights", "id"))},
    ),
    "wmt14-fr-en": NEWS,
    "wmt14-en-fr": NEWS,
    "nq-open": Source(
        "google-research-datasets/nq_open",
        {"NQ-open.dev.jsonl": ("nq_open/validation", json_lines("question", "answer"))},
    ),
    "hellaswag": Source(
        "Rowan/hellaswag",
        {"hellaswag_val.jsonl": ("default/validation", hellaswag)},
    ),
}


def download(name: str, folder: Path) -> None:
    """Write the files of a data set into its folder below `folder`; nothing when the hub does not have it.

    Raises `MissingExtra` without the package huggingface_hub, `FetchError` when the hub cannot be reached.
    """
    if name in SOURCES:
        download_source(name, SOURCES[name], folder)


def download_source(name: str, source: Source, folder: Path) -> None:
    """The same of any source."""
    need("huggingface_hub", "hub")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    for target, (split, write) in source.files.items():
        try:
            file = hf_hub_download(
                source.repository, f"{split}/0000.parquet", repo_type="dataset", revision=BRANCH
            )
        except (HfHubHTTPError, OSError, ValueError) as error:
            reason = str(error).strip().split("\n")[0].rstrip(".")
            raise FetchError(
                f"the hub did not give {source.repository} ({reason}); check the network"
            ) from None
        with atomic_write(folder / name / target, "w") as stream:
            stream.writelines(write(rows_of(Path(file))))


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file."""
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(path).iter_batches(1000):
        yield from batch.to_pylist()
