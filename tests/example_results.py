"""Results as `reproduce` gives them, made up, with texts that try to break the page that shows them."""

from __future__ import annotations

import math
import random
from itertools import pairwise
from typing import Any

Json = dict[str, Any]

HOSTILE = [
    "<script>alert('title')</script>",
    "</style></title><img src=http://evil.example/x onerror=alert(1)>",
    "Ampersand & \"quotes\" 'both' &lt;not a tag&gt; <!-- no comment --> ]]>",
    "a" * 300,
    "שלום עולם, this line runs from right to left \u202e and tries to turn the rest",
    "emoji 👩‍🚀🏳️‍🌈 and zero\x00bell\x07 half\ud83d",
]
ALICE = (
    "Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do: "
    "once or twice she had peeped into the book her sister was reading, but it had no pictures or conversations "
    "in it, “and what is the use of a book,” thought Alice “without pictures or conversations?”\n\n"
    "So she was considering in her own mind (as well as she could, for the hot day made her feel very sleepy and "
    "stupid), whether the pleasure of making a daisy-chain would be worth the trouble of getting up and picking "
    "the daisies, when suddenly a White Rabbit with pink eyes ran close by her."
)
RABBIT = (
    "There was nothing so very remarkable in that; nor did Alice think it so very much out of the way to hear the "
    "Rabbit say to itself, “Oh dear! Oh dear! I shall be late!”"
)
PYDOC = (
    "fetch(name, *, limit=None)\n    Return the rows of a table.\n\n    Parameters\n    ----------\n"
    "    name : str\n        What the table is called.\n    limit : int or None\n        Most rows to return."
)
LADDER = [
    # name, parameters, layers, heads, channels, learning rate, held-out loss at the end
    ("0.11M", 111_816, 1, 1, 24, 1.2e-2, 5.42),
    ("0.38M", 378_624, 2, 2, 64, 8e-3, 4.71),
    ("1.4M", 1_350_400, 4, 4, 128, 4e-3, 4.12),
    ("4.6M", 4_601_408, 6, 7, 224, 2e-3, 3.87),
]
STEPS, STEP_TOKENS = 1500, 2048


def rung(i: int) -> Json:
    """A size whose loss falls by a power law to its end, with the noise of single batches."""
    name, parameters, layers, heads, channels, rate, end = LADDER[i]
    rng = random.Random(i)
    total = STEPS * STEP_TOKENS

    def loss(tokens: float) -> float:
        return end + (8.4 - end) * (1 - tokens / total) * (1 + tokens / 40_000) ** -0.45

    at = [(k + 1) * STEP_TOKENS * STEPS // 500 for k in range(500)]
    perplexity = math.exp(end)
    return {
        "name": name,
        "learning_rate": rate,
        "parameters": parameters,
        "non_embedding": 12 * layers * channels**2 + 13 * layers * channels + 2 * channels,
        "steps": STEPS,
        "tokens": total,
        "seconds": 20.5 * 3**i,
        "tokens_per_second": round(total / (20.5 * 3**i)),
        "curve": [[t, loss(t) - 0.06 + rng.gauss(0, 0.14)] for t in at],
        "heldout_curve": [[t * total // 8, loss(t * total / 8)] for t in range(1, 9)],
        "train_loss": end - 0.03 - 0.03 * i,
        "train_perplexity": math.exp(end - 0.03 - 0.03 * i),
        "heldout_loss": end,
        "heldout_perplexity": perplexity,
        "n_layer": layers,
        "n_head": heads,
        "n_embd": channels,
        "batch_tokens": STEP_TOKENS,
        "heldout_interval": [perplexity * 0.93, perplexity * 1.08],
        "bits_per_byte": end / math.log(2) / 3.6,
        "epochs": 1.37,
        "versus_previous": None,
        "cloze": {
            "results": {
                name: {"value": value, "interval": [0.8 * value, 1.3 * value], "n": n}
                for name, value, n in (
                    ("last-word", 1.5 + 4 * i, 250),
                    ("last-word-perplexity", 9000.0 / 3**i, 250),
                    ("nouns", 21.5 + 6 * i, 200),
                    ("names", 17.0 + 5 * i, 120),
                )
            },
            "answers": ["0.012 %", HOSTILE[2], "Alice"],
            "cut": 187,
        },
    }


def questions() -> Json:
    """What `reproduce` tells of its cloze questions, one of each kind among them."""
    asked = {"group": HOSTILE[0], "context": [], "choices": []}
    ten = {"context": ALICE.split(".")[:2] * 10, "choices": [*"bcdefghij", "book"]}
    return {
        "counts": {"last-word": 250, "nouns": 200, "names": 120},
        "sources": {"last-word": 19, "nouns": 11, "names": 12},
        "in_context": 0.8,
        "chance": {"nouns": 10.0, "names": 16.5},
        "most_frequent": {"nouns": 18.9, "names": 25.25},
        "examples": [
            asked | {"index": 3, "kind": "last-word", "question": ALICE, "answer": "Rabbit"},
            asked | ten | {"index": 260, "kind": "nouns", "question": "The XXXXX is red.", "answer": "book"},
            asked
            | ten
            | {"index": 460, "kind": "names", "question": HOSTILE[4] + " XXXXX", "answer": "Alice"},
        ],
    }


def example() -> Json:
    """Results as `reproduce` gives them."""
    ladder = [rung(i) for i in range(len(LADDER))]
    for small, large in pairwise(ladder):
        d = large["heldout_loss"] - small["heldout_loss"]
        interval = [d - 0.03, d + 0.03]
        large["versus_previous"] = {
            "loss_difference": d,
            "interval": interval,
            "documents": 207,
            "better_on": 199,
        }
    funnel = [
        ("links found", 31_402, "links", "all distinct links of all pages, after canonical form"),
        (
            "links with 3 votes",
            1_187,
            "links",
            "a vote is another page that links there; index pages cast none",
        ),
        ("pages fetched", 1_181, "pages", "6 answered with an error"),
        ("pages with text", 1_164, "pages", ""),
        ("documents extracted", 4_904, "documents", "long pages are cut at functions and classes"),
        ("documents kept", 4_310, "documents", "named rules"),
        ("documents without near-duplicates", 4_102, "documents", ""),
        ("tokens to train on", 2_243_871, "tokens", ""),
    ]
    drops = [
        ("votes", "fewer than 3 votes", 30_215),
        ("fetch", "HTTP 404", 6),
        ("extract", "no text", 17),
        ("clean", "shorter than 200 characters", 371),
        ("clean", "mostly signs and digits", 140),
        ("clean", "lines seen on many pages", 83),
        ("dedupe", "near-duplicate of another document", 208),
    ]
    samples = [
        {
            "title": title,
            "context": context,
            "original": RABBIT,
            "smallest": "the the of a Rabbit, and , said the . It was a very of the of the \n\n the of the, and",
            "largest": largest,
        }
        for title, context, largest in [
            ("alice.txt", ALICE, RABBIT.replace("Rabbit", "Hatter")),
            (
                "tables.fetch",
                PYDOC,
                "    Raises\n    ------\n    KeyError\n        If there is no such table.",
            ),
            (HOSTILE[0], "\n".join(HOSTILE), HOSTILE[1]),
            (HOSTILE[4], HOSTILE[3], HOSTILE[5]),
        ]
    ]
    stages = [("corpus", 74.2), ("tokens", 6.1), ("plan", 4.0)]
    stages += [(f"ladder/{r['name']}", r["seconds"]) for r in ladder]
    stages += [(f"measured/{r['name']}", r["seconds"] / 20) for r in ladder] + [("samples", 3.3)]
    stages += [("questions", 1.4), *((f"cloze/{r['name']}", r["seconds"] / 30) for r in ladder)]
    return {
        "title": "GPT-2, reproduced on this machine",
        "made": {
            "date": "2026-01-02T03:04:05Z",
            "command": "gpt2 reproduce --minutes 10 --text 'my <texts> & more'",
            "machine": {
                "processor": "AMD EPYC 9000 16-Core Processor",
                "cores": 2,
                "threads": 2,
                "memory_gb": 24,
                "system": "Linux-6.1-x86_64",
            },
            "versions": {"python": "3.11.7", "gpt2-workbench": "0.1.0", "torch": "2.13.0", "numpy": "2.4.6"},
            "seeds": {"split": 2019, "weights and batches": 0, "samples": 0},
            "dtype": "bfloat16",
            "seconds": sum(s for _, s in stages),
        },
        "source": {
            "kind": "embedded",
            "description": "the documentation that every installation carries: the standard library's, numpy's "
            "and torch's, served as web pages by pydoc on this machine",
        },
        "funnel": [{"step": s, "count": n, "unit": u, "note": note} for s, n, u, note in funnel],
        "drops": [{"step": s, "reason": r, "count": n} for s, r, n in drops],
        "tokenizer": {
            "n_vocab": 4096,
            "merges_first": ["  ", " t", "in", "re", "    ", " a", "on", "or", "th", "er", "\n\n", "<b>"],
            "compression": [
                {"text": "held-out documents", "bytes": 412_022, "ours": 121_300, "gpt2": 118_400}
            ],
        },
        "data": {
            "documents": 4_102,
            "heldout_documents": 207,
            "train_tokens": 2_243_871,
            "heldout_tokens": 121_300,
            "tokens_seen": STEPS * STEP_TOKENS,
            "context": 256,
            "heldout_rule": "whole sources (a module, a file, a page) chosen by a hash of their name, seed 2019",
        },
        "ladder": ladder,
        "cloze": questions(),
        "tables": [],
        "training_documents_in_both_splits": 0,
        "samples": samples,
        "samples_note": "top-k 40, temperature 1, seed 0; contexts are the first 192 tokens of held-out documents "
        "chosen by the seed, completions have at most 64; none was picked by hand",
        "stages": [{"name": n, "seconds": s} for n, s in stages],
    }


def without_ladder() -> Json:
    """Results of too little text."""
    results = example()
    for key in ("samples", "samples_note", "cloze"):
        del results[key]
    del results["data"]["tokens_seen"]
    results |= {"ladder": [], "remarks": ["There are 12 held-out documents, but an honest ladder needs 60."]}
    return results
