"""10,000 texts come, go and are cancelled at random: memory stays flat, each finished text is as it is alone.

On both engines, over a small network of random weights: at any step up to four texts are submitted, with
prompts, lengths, seeds and controls drawn at random, and one in ten is cancelled at some later step. The
resident memory after a fifth of the texts may grow by at most 8 MB until the end. Every finished text is then
generated alone, with one slot and no drafts, and must be the same in every token.

    python -m acceptance.streams            10,000 of each engine, a quarter of an hour
    python -m acceptance.streams 500
"""

from __future__ import annotations

import hashlib
import random
import sys
import tempfile
import time
from pathlib import Path

import torch

import gpt2
from gpt2.inference.continuations import engine_with
from gpt2.inference.engine import Engine, Request, Stream
from gpt2.inference.native import open_native
from gpt2.inference.sampling import Sampling
from gpt2.tokens.bpe import Tokenizer

SHAPE = gpt2.GPT2Config(n_layer=2, n_head=2, n_embd=64, vocab_size=257, n_ctx=128)
SLOTS, MOST_GROWTH = 16, 8.0
CONTROLS = (
    Sampling(temperature=0),
    Sampling(),
    Sampling(top_k=None, top_p=0.9),
    Sampling(repetition_penalty=1.2, min_p=0.05),
)


def main() -> None:
    """Both engines; raises `AssertionError` when one leaks or a text differs."""
    torch.set_num_threads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as name:
        net = gpt2.GPT2(SHAPE, seed=0)
        with torch.no_grad():
            for weight in net.parameters():
                weight *= 3 if weight.dim() == 2 else 1  # so that tokens are not all as likely
        model = gpt2.Model(net, Tokenizer([]))
        model.save(Path(name) / "plain")
        gpt2.convert(Path(name) / "plain", Path(name) / "int8", to="int8")
        native = open_native(Path(name) / "int8", threads=1)
        trial("native int8", engine_with(native, SLOTS), native.engine(1, drafts=False), count)
        solo = engine_with(model, 1)
        solo.drafting = False
        trial("torch float32", engine_with(model, SLOTS), solo, count)


def trial(name: str, engine: Engine, solo: Engine, count: int) -> None:
    """One engine's texts, in company and alone."""
    draw, begun = random.Random(0), time.time()
    doomed: dict[int, list[Stream]] = {}
    running: dict[Stream, int] = {}
    digests: list[bytes | None] = [None] * count  # all that is kept of a finished text
    submitted = steps = tokens = 0
    warm = 0.0
    while submitted < count or engine.busy:
        for _ in range(draw.randint(0, 4)):
            if submitted < count and len(engine.waiting) < 2 * SLOTS:
                stream = engine.submit(request(submitted))
                running[stream] = submitted
                submitted += 1
                if draw.random() < 0.1:
                    doomed.setdefault(steps + draw.randint(0, 40), []).append(stream)
        for stream in doomed.pop(steps, ()):
            stream.cancel()
        for stream in engine.step():
            if stream.finish is not None and stream in running:
                number = running.pop(stream)
                tokens += len(stream.ids)
                if stream.finish != "cancelled":
                    digests[number] = digest(stream)
        steps += 1
        if not warm and submitted >= count / 5:
            warm = resident()
    assert not running
    grown, finished = resident() - warm, sum(found is not None for found in digests)
    print(
        f"{name}: {count:,} texts in {steps:,} steps and {time.time() - begun:.0f} s, {finished:,} finished, "
        f"{count - finished:,} cancelled; {tokens:,} tokens, of {engine.drafted:,} drafted "
        f"{engine.accepted:,} right; memory {warm:.0f} MB when warm, {grown:+.1f} MB at the end",
        flush=True,
    )
    assert grown < MOST_GROWTH, f"{name}: memory grew by {grown:.1f} MB"
    assert finished > count * 0.85
    for number, found in enumerate(digests):
        if found is not None:
            assert digest(solo.run([request(number)])[0]) == found, f"{name}: text {number} differs alone"
    print(f"{name}: every finished text is the same alone ({time.time() - begun:.0f} s)", flush=True)


def digest(stream: Stream) -> bytes:
    """What a finished text is."""
    return hashlib.sha256(repr((stream.ids, stream.text, stream.finish)).encode()).digest()


def request(number: int) -> Request:
    """A text to go on from; some share their beginning, some repeat themselves, a few slide past the context."""
    draw = random.Random(number)
    prompt = [draw.randrange(256)] * draw.randint(1, 5) if draw.random() < 0.3 else []
    prompt += [*b"Once upon a time"][: draw.randint(0, 16)] + draw.choices(range(256), k=draw.randint(0, 30))
    length = 140 if draw.random() < 0.02 else draw.randint(1, 40)
    return Request(prompt, length, draw.choice(CONTROLS), number, stop=["e "], slide=True)


def resident() -> float:
    """Megabytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


if __name__ == "__main__":
    main()
