"""Claim: tokens drafted from the text itself give the same text, sooner where it repeats itself.

Real prompts and a trained model: passages of a novel that was held out, and of plays. Greedy and drawn at
temperature 0.8, 200 new tokens each, with drafts and without in turn; every text must be the same in both.
Printed: new tokens a second, the median of the ratios, tokens a step, and how many drafted tokens came true.

Then what a drafted token costs: a step of 124M (random weights) that reads 1 to 9 tokens of one text, against
the step that reads one.

    GPT2_MODEL=run GPT2_DATA=data python benchmarks/drafts.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from generate import OURS, prepare_ours

from gpt2.inference.engine import Request
from gpt2.inference.native import NativeModel, open_native
from gpt2.inference.sampling import Sampling

NOVEL = "novels/Doyle_Hound_1902.txt"
NEW, TEXTS, PROMPT = 200, 8, 120
HOWS = {"greedy": Sampling(temperature=0), "temperature 0.8": Sampling(temperature=0.8, top_k=40)}
ROWS = (1, 2, 3, 5, 9)


def main() -> None:
    """Measure both and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    chosen: Any = parser.parse_args()
    for dtype in OURS:
        model = open_native(os.environ["GPT2_MODEL"], dtype, threads=chosen.threads)
        for name, text in passages(Path(os.environ["GPT2_DATA"]) / "prose").items():
            ids = model.tokenizer.encode(text)
            prompts = [ids[at : at + PROMPT] for at in range(0, len(ids), len(ids) // TEXTS)]
            for how, sampling in HOWS.items():
                gain(f"{dtype}, {name}, {how}", model, prompts[:TEXTS], sampling, chosen.rounds)
    with tempfile.TemporaryDirectory() as folder:
        prepare_ours(Path(folder), "124M")
        for dtype in OURS:
            cost(dtype, open_native(Path(folder) / f"ours-{dtype}", threads=chosen.threads), chosen.rounds)


def passages(folder: Path) -> dict[str, str]:
    """Prose, and plays, in which names and turns come again."""
    texts = {"a novel": folder / NOVEL, "plays": folder / "tinyshakespeare.txt"}
    return {name: path.read_text(encoding="utf-8") for name, path in texts.items()}


def gain(title: str, model: NativeModel, prompts: list[list[int]], how: Sampling, rounds: int) -> None:
    """Time texts one after the other with drafts and without; raises `AssertionError` when one differs."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    told = ""
    for number in range(rounds + 1):
        texts = {}
        for drafts in (True, False) if number % 2 else (False, True):
            engine = model.engine(drafts=drafts)
            begun = time.perf_counter()
            texts[drafts] = [
                engine.run([Request(ids, NEW, how, seed=i, stop_tokens=())])[0].ids
                for i, ids in enumerate(prompts)
            ]
            if number:  # the first is for warming up
                seconds[drafts].append(time.perf_counter() - begun)
            if drafts:
                made = sum(map(len, texts[True])) / engine.steps
                told = (
                    f"{made:.2f} tokens a step, {engine.accepted:,} of {engine.drafted:,} drafted came true"
                )
        assert texts[True] == texts[False], f"{title}: drafts change a text"
    ratio = statistics.median(b / a for a, b in zip(seconds[True], seconds[False], strict=True))
    rate = {drafts: sum(map(len, texts[True])) / statistics.median(took) for drafts, took in seconds.items()}
    print(
        f"{title}: {rate[True]:,.0f} tokens/s against {rate[False]:,.0f} without, {ratio:.2f} times; {told}",
        flush=True,
    )


def cost(dtype: str, model: NativeModel, rounds: int) -> None:
    """Time steps of 124M that read several tokens."""
    runner = model.runner()
    runner.run([0], [list(range(32))])
    times: dict[int, list[float]] = {rows: [] for rows in ROWS}
    for _ in range(20 * rounds):
        for rows in ROWS:
            begun = time.perf_counter()
            runner.run([0], [list(range(rows))], every=True)
            times[rows].append(time.perf_counter() - begun)
            runner.cut(0, 32)
    one, *more = (statistics.median(times[rows]) for rows in ROWS)
    told = ", ".join(f"{rows} {seconds / one:.2f}" for rows, seconds in zip(ROWS[1:], more, strict=True))
    print(
        f"{dtype}, 124M: a step of one token takes {one * 1e3:.2f} ms; of more, times that: {told}",
        flush=True,
    )


if __name__ == "__main__":
    main()
