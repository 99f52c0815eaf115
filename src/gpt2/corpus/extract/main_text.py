"""The main text of a page by a block classifier: the paper's own method, learned anew.

The paper's extractor was Dragnet, which takes blocks of text by their features. Each block's (Peters and Lecocq,
Content extraction using diverse feature sets, 2013) are its length, the share of its text in links, the words in
class and id names, and what is around it; and beside them where it stands in the tree: how much good text its
ancestors hold, how far it is from the element that holds most, what the blocks in the same place of the template
are like. "Good" text is a paragraph of ten words or more with little of it in links.
Four small networks vote on each block. They were learned (`acceptance/block_weights.py`) from pages that are in
no labelled set, each block labelled by how many of eight slower extractors took it.

On the 121 pages of the labelled set it has an F1 of 0.966, where trafilatura has 0.961 and resiliparse 0.912, at
about three times trafilatura's speed (`benchmarks/extraction.py`). Parsing and finding the text are lxml's, and
take half of its time; the rest is Python's, a few microseconds a block.

Rejected: boosted trees, the features of a block's neighbours, and a second network that sees what the first says of
them: none agreed better with the labels of pages held out.

    python -c "import gpt2; print(gpt2.extract('<p>Words enough to be a text.</p>', method='blocks'))"
"""

from __future__ import annotations

import functools
import re
from html import unescape
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpt2.corpus.extract.blocks import BITS, LINE_BREAK, Blocks, blocks_of, names

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

WEIGHTS = Path(str(resources.files("gpt2.corpus"))) / "data" / "blocks.npz"
TITLE = re.compile(r"<title[^>]*>([^<]*)", re.I)
TAKEN = 0.5
"""Chance from which a block is taken."""
ROWS = 64
"""Blocks that go through the networks at a time: products this small are not spread over threads, which would wait
for one another longer than they work."""
SENTENCE_ENDS = set('.!?…"”»’):。')
GOOD_WORDS, GOOD_LINKS = 10, 0.3
PARAGRAPHS = names("p pre blockquote li div td dd section article")
CENTRAL = (0.35, 0.5, 0.65, 0.8, 0.9)
"""Shares of a page's good text: the innermost element that holds so much is its centre."""
AROUND = (3, 6, 12)


def features(blocks: Blocks, title: str) -> Array:
    """What is known of each block [blocks, features]; `title` is the page's."""
    n = len(blocks.texts)
    at, element = np.arange(n), np.array(blocks.element)
    words, plain, linked = plain_features(blocks, title)
    tags = np.array([tag in PARAGRAPHS for tag in blocks.tag])
    good = words * (linked < GOOD_LINKS) * (words >= GOOD_WORDS) * tags[element]
    sums = np.zeros((4, n + 1), np.float32)  # running sums of words, words in links, good words, good blocks
    np.cumsum(np.stack([words, words * linked, good, good > 0]), axis=1, out=sums[:, 1:])
    parent, first, after = spans(blocks)
    inside = sums[:, after] - sums[:, first]
    all_good = max(float(sums[2, -1]), 1.0)
    share = inside[2] / all_good
    size = (after - first).astype(np.float32)
    of_element = np.stack(
        [
            np.log1p(inside[0]),
            inside[1] / np.maximum(inside[0], 1),
            share,
            inside[2] / np.maximum(inside[0], 1),
            np.log1p(size),
            np.log1p(inside[3]),
            np.log1p(inside[0] / np.maximum(size, 1)),
        ],
        axis=1,
    )
    up = [parent[element]]
    for _ in range(3):
        up.append(parent[up[-1]])
    tree = [centre(blocks, at, element, first, after, share, good, up), template(blocks, words, linked, good)]
    ancestors = of_element[np.stack(up, axis=1)].reshape(n, -1)
    parts = [plain, good[:, None] > 0, ancestors, *tree, position(plain, at, sums, good, all_good)]
    parts += [bit_rows([masks[e] for e in blocks.element]) for masks in (blocks.own, blocks.path)]
    return np.concatenate(parts, axis=1, dtype=np.float32)


def plain_features(blocks: Blocks, title: str) -> tuple[Array, Array, Array]:
    """Words of each block, features of its text alone, and its share of characters in links."""
    title = " ".join(title.split()).lower()
    rows: list[float] = []
    for text, characters in zip(blocks.texts, blocks.links, strict=True):
        start, end, length = text[0], text[-1], len(text)
        rows += (
            text.count(" ") + 1,
            length,
            min(characters / length, 1),
            end in SENTENCE_ENDS,
            text.count(","),
            text.count(". ") + text.count("。"),
            start.isupper(),
            text.isupper(),
            8 < length < 300 and text.lower() in title,
            "©" in text or "|" in text,
            start in "\"'“„«‘",
            end == ":",
            start.isdigit(),
        )
    table = np.array(rows, np.float32).reshape(len(blocks.texts), -1)
    words, size, linked = table[:, 0].copy(), table[:, 1], table[:, 2]
    logs = np.log1p(table[:, [0, 1, 5]])
    more = np.stack([table[:, 4] / words, size / words, linked > 0.9, logs[:, 1], logs[:, 2]], axis=1)
    plain = np.concatenate(
        [logs[:, :1], table[:, 2:4], table[:, 8:9], more, table[:, 6:8], table[:, 9:]], axis=1
    )
    return words, plain, linked


def spans(blocks: Blocks) -> tuple[Indices, Indices, Indices]:
    """Of each element: the one around it, its first block, and the block after its last."""
    n = len(blocks.texts)
    parent = blocks.parent
    first, after = [n] * len(parent), [0] * len(parent)
    for block in range(n - 1, -1, -1):
        first[blocks.element[block]] = block
    for block in range(n):
        after[blocks.element[block]] = block + 1
    for i in range(len(parent) - 1, 0, -1):
        around = parent[i]
        if first[i] < first[around]:
            first[around] = first[i]
        if after[i] > after[around]:
            after[around] = after[i]
    ends = np.array(after)
    return np.array(parent), np.minimum(np.array(first), ends), ends


def centre(
    blocks: Blocks,
    at: Indices,
    element: Indices,
    first: Indices,
    after: Indices,
    share: Array,
    good: Array,
    up: list[Indices],
) -> Array:
    """How each block stands to the elements that hold the page's text."""
    holders = [int(np.flatnonzero(share >= least)[-1]) if share[0] >= least else 0 for least in CENTRAL]
    score = np.zeros(len(share), np.float32)  # as Readability does: of the parent whole, of its parent half
    np.add.at(score, up[0], good)
    np.add.at(score, up[1], good / 2)
    best = int(score.argmax())
    chain = [best]
    while chain[-1]:
        chain.append(blocks.parent[chain[-1]])
    asked = np.array(holders + chain[:-1], np.int64)[:, None]
    within = (at >= first[asked]) & (at < after[asked])
    common = within[len(holders) :].sum(axis=0)
    depth = np.array(blocks.depth)[element]
    steps = len(chain) - 1 - common
    rest = [steps, depth - common, steps == 0, depth, up[0] == best]
    total = max(float(good.sum()), 1.0)
    scores = [score[up[0]] / total, score[up[1]] / total]
    return np.stack([*within[: len(holders)], *rest, *scores], axis=1).astype(np.float32)


def template(blocks: Blocks, words: Array, linked: Array, good: Array) -> Array:
    """What the blocks in the same place of the page's template are like: tag and class of it and its parent."""
    ids: dict[tuple[str, str], int] = {}
    kind, parent = blocks.kind, blocks.parent
    group = np.array([ids.setdefault((kind[e], kind[parent[e]]), len(ids)) for e in blocks.element])
    many, of_words = np.bincount(group), np.bincount(group, words)
    in_links, of_good = np.bincount(group, words * linked), np.bincount(group, good)
    columns = [np.log1p(many), np.log1p(of_words / many), in_links / of_words, of_good / max(good.sum(), 1)]
    found: Array = np.stack(columns, axis=1)[group].astype(np.float32)
    return found


def position(plain: Array, at: Indices, sums: Array, good: Array, all_good: float) -> Array:
    """Where each block stands among the others, and how much good text is around it."""
    n = len(at)
    words, running = sums[0], sums[2]
    long = np.flatnonzero(good >= 25)
    first, last = (long[0], long[-1]) if len(long) else (np.int64(0), np.int64(n - 1))
    titles = np.flatnonzero(plain[:, 3])
    columns = [
        at / n,
        words[:-1] / max(words[-1], 1),
        running[:-1] / all_good,
        running[1:] / all_good,
        np.clip(at - first, -20, 20) / 20,
        np.clip(at - last, -20, 20) / 20,
        np.full(n, np.log1p(n)),
        np.full(n, np.log1p(all_good)),
        np.full(n, all_good / max(words[-1], 1)),
        at >= (titles[-1] if len(titles) else 0),
        at >= (titles[0] if len(titles) else 0),
    ]
    low, high = at - np.array(AROUND)[:, None], at + np.array(AROUND)[:, None] + 1
    some = sums[:3, np.minimum(high, n)] - sums[:3, np.maximum(low, 0)]
    before = running[at] - running[np.maximum(low, 0)]
    behind = running[np.minimum(high, n)] - running[at + 1]
    columns += [*np.log1p(before), *np.log1p(behind), *(some[1:] / np.maximum(some[0], 1)).reshape(-1, n)]
    return np.stack(columns, axis=1).astype(np.float32)


def bit_rows(masks: list[int]) -> npt.NDArray[np.uint8]:
    """Bits as columns of 0 and 1 [masks, BITS]."""
    eight = np.array(masks, np.uint64).view(np.uint8).reshape(len(masks), 8)
    return np.unpackbits(eight, axis=1, bitorder="little")[:, :BITS]


# The classifier


def main_text(html: str) -> str:
    """The main text of a page: its chosen blocks, a line each."""
    blocks = blocks_of(html)
    if not blocks.texts:
        return ""
    return taken_text(blocks, chances(features(blocks, title_of(html)), load_weights()))


def title_of(html: str) -> str:
    """What the page's title says, for comparison with its blocks."""
    found = TITLE.search(html)
    return unescape(found[1]) if found else ""


def taken_text(blocks: Blocks, chance: Array) -> str:
    """The text of the blocks with chance enough, a line each; a `br` ends a line too."""
    lines = [text for text, p in zip(blocks.texts, chance.tolist(), strict=True) if p >= TAKEN]
    return "\n".join(lines).replace(" " + LINE_BREAK, "\n").replace(LINE_BREAK, "\n")


@functools.cache
def load_weights() -> dict[str, Array]:
    """The package's weights, those of the networks side by side."""
    with WEIGHTS.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        return {name: file[name].astype(np.float32) for name in file.files}


def chances(rows: Array, weights: dict[str, Array]) -> Array:
    """Chance of each block [blocks] to be main text: the mean over networks of three layers."""
    some = -(-len(rows) // ROWS) * ROWS
    scaled = np.zeros((some, rows.shape[1]), np.float32)
    np.clip((rows - weights["mean"][0]) / weights["spread"][0], -5, 5, out=scaled[: len(rows)])
    parts = scaled.reshape(-1, 1, ROWS, rows.shape[1])
    hidden = np.maximum(parts @ weights["w1"] + weights["b1"][:, None], 0)  # parts, networks, ROWS, 16
    hidden = np.maximum(hidden @ weights["w2"] + weights["b2"][:, None], 0)
    out: Array = (hidden @ weights["w3"] + weights["b3"][:, None])[..., 0]
    mean: Array = (1 / (1 + np.exp(-np.clip(out, -30, 30)))).mean(axis=1).reshape(-1)
    return mean[: len(rows)]
