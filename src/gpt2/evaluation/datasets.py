"""Where each data set is found, and whether it is the copy that others measured.

A data set is looked for by the names that its files have where they are published: first in the user's
folder (`--data DIR`, else the environment variable GPT2_DATA) and a few levels below it, then in the cache
(`~/.cache/gpt2-workbench/data`, or below XDG_CACHE_HOME), which `--download` fills from the Hugging Face hub.
Files are read in the format in which they are published. A checksum says whether a file is a known copy, and
of which whole; a file with another one is measured all the same, and the result says so. Data that is not
there is no error: the result's row says how to get it.

The network is not touched unless `--download` is given, so that without one nothing waits. Rejected:
the library `datasets`, which keeps the rows but not the files: their checksums are what tells copies apart.

    gpt2 tasks --data my_data
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from gpt2.errors import InputError
from gpt2.workspace import file_digest

WHOLE = "whole split"
"""What a copy is called that is all of the split."""
LEVELS = 4
"""Folders below the user's in which files are looked for."""


@dataclass(frozen=True)
class Copy:
    """A form in which a data set is published: the files of it, and who reads them."""

    reader: str
    """A function in a file of `gpt2.evaluation.tasks`, called with one path a file: rows of the data set."""
    files: tuple[str, ...]
    """Patterns for the end of each needed file's path, without regard to case."""
    note: str = ""
    """What a reader of the result should know of it."""


@dataclass(frozen=True)
class DataSet:
    """A data set that protocols name."""

    name: str
    title: str
    """What it is, in words, with the split that the paper measured."""
    copies: tuple[Copy, ...]
    """In order of preference."""
    get: str
    """Where to get it and what to put where."""
    known: Mapping[str, str] = field(default_factory=dict)
    """By the sha256 of its first file: what that copy is."""


@dataclass(frozen=True)
class Found:
    """A data set on this machine."""

    set: DataSet
    copy: Copy
    paths: tuple[Path, ...]

    def rows(self) -> Sequence[Any]:
        """Its rows; `FormatError` when the file is of another format."""
        file, _, function = self.copy.reader.partition(".")
        read = getattr(importlib.import_module(f"gpt2.evaluation.tasks.{file}"), function)
        return list(read(*self.paths))

    def digests(self) -> tuple[str, ...]:
        """The sha256 of each file."""
        return tuple(file_digest(path) for path in self.paths)

    def is_whole(self, digests: Sequence[str]) -> bool:
        """Whether it is known to be all of the split that the paper measured."""
        return self.set.known.get(digests[0]) == WHOLE

    def label(self, digests: Sequence[str]) -> str:
        """Which copy it is, by the digests of its files."""
        known = self.set.known.get(digests[0])
        copy = f"known copy: {known}" if known else f"unknown copy: sha256 {digests[0][:12]}"
        return f"{copy}; {self.copy.note}" if self.copy.note else copy


def cache() -> Path:
    """The folder that downloads go to."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "gpt2-workbench" / "data"


class Library:
    """The user's folder and the cache, each listed once; a single file is the data of the task `text`."""

    def __init__(self, place: str | Path | None = None, download: bool = False) -> None:
        self.download = download
        named = place or os.environ.get("GPT2_DATA")
        self.place = Path(named) if named else None
        if self.place and not self.place.exists():
            raise InputError(f"there is no folder {self.place}; give the folder that has the data sets")
        alone = self.place is not None and self.place.is_file()
        self.file = self.place if alone else None
        self.folders = ([self.place] if self.place and not alone else []) + [cache()]
        self._files = [listed(folder) for folder in self.folders]

    def find(self, name: str) -> Found | None:
        """The data set of this name, if it is here, or on the hub and downloads are wanted.

        Raises `FetchError` and `MissingExtra` as `gpt2.evaluation.download` does.
        """
        data = DATA_SETS[name]
        if name == "text":
            return Found(data, data.copies[0], (self.file,)) if self.file else None
        found = self._look(data)
        if found is None and self.download:
            from gpt2.evaluation.download import download

            download(name, cache())
            self._files[-1] = listed(cache())
            found = self._look(data)
        return found

    def _look(self, data: DataSet) -> Found | None:
        for files in self._files:
            for copy in data.copies:
                paths = [next((p for tail, p in files if fnmatchcase(tail, f)), None) for f in copy.files]
                if all(paths):
                    return Found(data, copy, tuple(p for p in paths if p))
        return None

    def lacking(self, name: str) -> str:
        """Why a data set is not found and how to get it, in one sentence."""
        places = " or ".join(str(folder) for folder in self.folders if folder.exists()) or "any folder"
        files = " and ".join(f.split("/")[-1] for f in DATA_SETS[name].copies[0].files)
        where = "--data DIR" if self.place is None or self.file else str(self.place)
        if name == "text":
            return "no text was given: `--data FILE` names the file to measure"
        return f"no {files} in {places}: get {DATA_SETS[name].get}, and put it into {where}"


def listed(folder: Path) -> list[tuple[str, Path]]:
    """The files of a folder, nearest first: folder and name in lower case, and path."""
    found = []
    for here, below, names in os.walk(folder):
        depth = len(Path(here).relative_to(folder).parts)
        below[:] = sorted(name for name in below if not name.startswith(".")) if depth < LEVELS else []
        found += [(depth, f"/{Path(here).name}/{name}".lower(), Path(here, name)) for name in sorted(names)]
    return [(tail, path) for _, tail, path in sorted(found)]


def copies(reader: str, *names: str, note: str = "") -> tuple[Copy, ...]:
    """Copies that are one file each, of any of these names."""
    return tuple(Copy(reader, (f"*/{name.lower()}",), note) for name in names)


WIKITEXT = (
    "{} (Merity et al. 2016), for example as the archive wikitext-{}-v1.zip, or with --download from the hub"
)
CBT = "the archive CBTest.tgz of the Children's Book Test (Hill et al. 2016), or with --download from the hub"
WINOGRAD = "the collection of Davis et al., as in the repository vid-koci/bert-commonsense, "

DATA_SETS: dict[str, DataSet] = {
    data.name: data
    for data in (
        DataSet(
            "text", "the text file that --data names", (Copy("language_modeling.read_text", ("*",)),), ""
        ),
        DataSet(
            "wikitext2",
            "WikiText-2, test, with <unk>",
            copies("language_modeling.read_wikitext", "*2*/wiki.test.tokens", "wikitext2.test.tokens"),
            WIKITEXT.format("WikiText-2", "2"),
            {"d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0": WHOLE},
        ),
        DataSet(
            "wikitext2-raw",
            "WikiText-2, test, raw",
            copies("language_modeling.read_wikitext", "*2*/wiki.test.raw"),
            WIKITEXT.format("WikiText-2", "2-raw"),
            {"173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08": WHOLE},
        ),
        DataSet(
            "wikitext103",
            "WikiText-103, test, with <unk>",
            copies("language_modeling.read_wikitext", "*103*/wiki.test.tokens"),
            WIKITEXT.format("WikiText-103", "103"),
        ),
        DataSet(
            "wikitext103-raw",
            "WikiText-103, test, raw",
            (
                *copies("language_modeling.read_wikitext", "*103*/wiki.test.raw"),
                *copies(
                    "language_modeling.read_wikitext",
                    "*2*/wiki.test.raw",
                    note="WikiText-2's file: raw, the two have the same test text",
                ),
            ),
            WIKITEXT.format("WikiText-103", "103-raw"),
            {"173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08": WHOLE},
        ),
        DataSet(
            "ptb",
            "Penn Treebank, test, as Mikolov prepared it",
            copies("language_modeling.read_ptb", "ptb.test.txt"),
            "Mikolov's simple-examples.tgz, in which it is data/ptb.test.txt",
            {"dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0": WHOLE},
        ),
        DataSet(
            "enwik8",
            "enwik8, the last 5 million bytes",
            copies("language_modeling.read_enwik8", "enwik8", "enwik8*.xml"),
            "enwik8.zip of the Large Text Compression Benchmark, unpacked",
            {
                "b9ad4f0aa27fa6b57b962316f4e5b12b48c0208a7f81c4821716dbf3756efbc5": (
                    "a slice from the start of enwik8, which is no part of the test"
                )
            },
        ),
        DataSet(
            "text8",
            "text8, the last 5 million characters",
            (
                *copies("language_modeling.read_text8", "text8"),
                *copies(
                    "language_modeling.read_text8",
                    "enwik8",
                    "enwik8*.xml",
                    note="derived from the enwik8 there is by the published rule",
                ),
            ),
            "text8.zip of the Large Text Compression Benchmark, unpacked",
            {
                "b9ad4f0aa27fa6b57b962316f4e5b12b48c0208a7f81c4821716dbf3756efbc5": (
                    "a slice from the start of enwik8, which is no part of the test"
                )
            },
        ),
        DataSet(
            "lm1b",
            "One Billion Word, held-out shard 0",
            copies(
                "language_modeling.read_lm1b",
                "news.en.heldout-00000-of-00050",
                "test_sentences.txt",
                "news.en.heldout-*",
            ),
            "1-billion-word-language-modeling-benchmark-r13output.tar.gz (Chelba et al. 2013), unpacked",
            {
                "c914ba44298e8d1ba00de2623ab7b6484bb65e10ec017619f4771569dfd791e1": (
                    "sentences in its form that a model's repository has for its tests"
                )
            },
        ),
        DataSet(
            "lambada-openai",
            "LAMBADA, test, the text without preprocessing that OpenAI used",
            copies("lambada.read_openai", "lambada_test.jsonl", "lambada_test_en.jsonl"),
            "OpenAI's lambada_test.jsonl, or with --download from the hub",
            {
                "4aa8d02cd17c719165fc8a7887fddd641f43fcafa4b1c806ca8abc31fabdb226": WHOLE,
                "a4b5a6f31fae2f7904e9bc8eb0930c5ee5ac49e27211b64e79be06992534564a": "4,000 of its rows",
            },
        ),
        DataSet(
            "lambada-standard",
            "LAMBADA, test, as published: lower case, in tokens",
            copies("lambada.read_standard", "lambada_test_plain_text.txt"),
            "lambada-dataset.tar.gz (Paperno et al. 2016), or with --download from the hub",
            {"730707b0126b9eac068f232db4e4a8b5eb624d8c334ec44cd5839f326a76c217": "4,000 of its rows"},
        ),
        *(
            DataSet(
                f"cbt-{kind}",
                f"Children's Book Test, {words}, validation",
                copies(
                    "cbt.read",
                    f"cbtest_{kind}_valid_2000ex.txt",
                    f"cbtest_{kind}_valid_2000ex*.txt",
                ),
                CBT,
                {
                    "a04ff14e4696db830a1dc4156a5999fec6f3c13f52cf93f71acfddf98e7b9e86": "its first question",
                    "1fb37dcd0aa9a6c56ee730cd2754ecb02e6db22b0a96bc3951cd25a8d16a819b": "its first question",
                },
            )
            for kind, words in (("cn", "common nouns"), ("ne", "named entities"))
        ),
        DataSet(
            "wsc273",
            "Winograd schemas, all 273",
            (
                *copies("winograd.read_wsc273", "wsc273.txt"),
                *copies("winograd.read_substituted", "winograd_wsc.jsonl", note="candidates in their places"),
            ),
            WINOGRAD + "data/wsc273.txt",
            {
                "c159f12a95ab4c54f2d664fd66c7f1bd9a324e1a9992bfce869fa3ffd949a151": "182 of its problems",
                "6ed5f69f5256d5dd9d306cbb3cb4bb15c6cd39527992c189cf16c14757f3ce18": "182 of its problems",
            },
        ),
        DataSet(
            "dpr",
            "Definite Pronoun Resolution (Rahman and Ng 2012), test",
            copies("winograd.read_dpr", "dpr_test.c.txt", "test.c.txt"),
            WINOGRAD + "data/test.c.txt",
            {"cf1cf025e1d59a5b363e6dcfbd5a13aae8a9830831ac16fd7f865aca7a1559d8": WHOLE},
        ),
        DataSet(
            "pdp60",
            "Pronoun Disambiguation Problems of 2016, all 60",
            copies("winograd.read_pdp60", "PDP60.txt", "PDP.txt"),
            WINOGRAD + "data/PDP.txt",
            {"8dce1517ccdbe79c1f411e4a4fd7ade2091a955bc83ebe5c6fb4150e84c83aa9": WHOLE},
        ),
        DataSet(
            "coqa",
            "CoQA, development set",
            copies("coqa.read", "coqa-dev-v1.0.json", "coqa-dev-v1.0*.json"),
            "coqa-dev-v1.0.json (Reddy et al. 2018)",
            {"a8a383fcbc10e52caaae5c900ebc7f75dda82e5570b4bdf00631c58155a29aa4": "its first story"},
        ),
        DataSet(
            "cnn-dailymail",
            "CNN and Daily Mail, test articles with highlights",
            copies("summarization.read", "cnndm_test.jsonl", "cnndm_test*.jsonl"),
            "CNN/Daily Mail (Hermann et al. 2015) as JSON lines of article and highlights, named "
            "cnndm_test.jsonl, or with --download from the hub",
            {
                "e919b2e208576ee04afb3e8983cf09016b20e88fa7f83ae8c3bd2ed87e428506": (
                    "the articles of SummEval and REALSumm"
                )
            },
        ),
        *(
            DataSet(
                f"wmt14-{source}-{target}",
                f"WMT 2014, newstest2014, {source} to {target}",
                (
                    Copy(
                        "translation.read",
                        tuple(
                            f"*/newstest{year}.{side}" for year in (2014, 2013) for side in (source, target)
                        ),
                    ),
                ),
                "newstest2014 and, for example pairs, newstest2013 as plain text in English and French, line by "
                "line, or with --download from the hub",
                {
                    "d74e021c32ea6dd6e710bb5436197c0af35eb65fb0b7e2ba2504368d5f8578ad": "2,002 of its lines",
                    "794986158daee8ee493c0be124160256635c6cdf670590f6db52930ede934b0a": "2,002 of its lines",
                },
            )
            for source, target in (("fr", "en"), ("en", "fr"))
        ),
        DataSet(
            "nq-open",
            "Natural Questions, open, development set",
            copies("natural_questions.read", "NQ-open.dev.jsonl"),
            "NQ-open.dev.jsonl of google-research-datasets/natural-questions, or with --download from the hub",
            {"b852b9d46efcf22837abbcfa2a5887fa53dbf5ab36107330fd2859a1de6f01ed": "2,400 of its rows"},
        ),
        DataSet(
            "hellaswag",
            "HellaSwag, validation",
            copies("hellaswag.read", "hellaswag_val.jsonl"),
            "hellaswag_val.jsonl of rowanz/hellaswag, or with --download from the hub",
        ),
        DataSet(
            "cloze",
            "cloze questions of your own documents",
            copies("cloze.read", "cloze.jsonl"),
            "it with `gpt2 cloze DOCUMENTS OUT`",
        ),
    )
}
