"""What the smallest and the largest size make of the same contexts (the paper's Tables 7 to 11).

The paper has contexts of 768 tokens of 1,024 and completions of 256; here too a context is three quarters of
what a model reads, and none of the samples is picked by hand. Documents that are too short for that lend
their first half.

    draw_samples(small, large, shards, seed=0, compute=choose())["samples"][0]["largest"]
"""

from __future__ import annotations

import numpy as np

from gpt2.inference.continuations import generate_ids
from gpt2.inference.sampling import Sampling
from gpt2.model.checkpoint import Model
from gpt2.model.device import Compute
from gpt2.studies.scaling import CONTEXT
from gpt2.tokens.shards import Shards
from gpt2.workspace import Json

SAMPLES = 4


def draw_samples(small: Model, large: Model, shards: Shards, seed: int, compute: Compute) -> Json:
    """Both models go on from the same held-out contexts, chosen by the seed."""
    context, length = CONTEXT * 3 // 4, CONTEXT // 4
    split, tok = shards.heldout, shards.tokenizer
    long = [i for i in range(split.n_documents) if len(split.document(i)) >= context + length]
    long = long or [i for i in range(split.n_documents) if len(split.document(i)) >= 2 * length]
    chosen = sorted(np.random.default_rng(seed).permutation(long)[:SAMPLES].tolist())
    texts = [split.document(i) for i in chosen]
    cuts = [min(context, len(t) // 2) if len(t) < context + length else context for t in texts]
    prompts = [t[:c].tolist() for t, c in zip(texts, cuts, strict=True)]
    drawn = [generate_ids(m, prompts, length, Sampling(), seed, compute) for m in (small, large)]
    samples = [
        {
            "title": split.document_ids[i],
            "context": tok.decode(prompt),
            "original": tok.decode(text[cut : cut + length].tolist()),
            "smallest": tok.decode(by_small),
            "largest": tok.decode(by_large),
        }
        for i, prompt, text, cut, by_small, by_large in zip(chosen, prompts, texts, cuts, *drawn, strict=True)
    ]
    note = (
        f"top-k 40, temperature 1, seed {seed}; contexts are the first {max(cuts, default=context)} "
        f"tokens (of short documents the first half) of held-out documents chosen by the seed, "
        f"completions have at most {length}; none was picked by hand"
    )
    return {"samples": samples, "samples_note": note}
