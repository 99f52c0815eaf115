"""Claim: on one thread, text becomes GPT-2's ids at least 8 times as fast as with tiktoken.

Every call takes the same list of documents (English prose, `.txt` files) and gives one flat array of ids:

    ours              Tokenizer.encode_batch(texts): uint16 ids and offsets, by gigatoken
    tiktoken          encode_ordinary_batch(texts), its rows laid into one uint32 array
    tiktoken, numpy   encode_to_numpy(text) of each text, concatenated

Text that spells `<|endoftext|>` is text for all. gigatoken remembers words, so "ours" gets a new encoder in
each round, made before the clock starts: it has seen nothing of the documents. "ours, again" is the second
call of such an encoder, where every word is known; no ratio is taken from it. tiktoken remembers nothing from
call to call. The three run in turn, `--rounds` times; medians, and the ratio to the faster of tiktoken's two.
On a machine with other work, look at the processor's seconds.

    python benchmarks/encode.py --data DATA --rounds 7
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

THREADS = 2
os.environ["RAYON_NUM_THREADS"] = str(THREADS)  # gigatoken's threads; read when it is loaded

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
import tiktoken  # noqa: E402

import gpt2  # noqa: E402
from gpt2.tokens.bpe import TiktokenEncoder  # noqa: E402

Array = npt.NDArray[Any]
Call = Callable[[list[str]], Array]


def read_documents(data: Path) -> list[str]:
    """The English `.txt` files of the folder, one document each."""
    paths = [p for p in sorted((data / "prose").rglob("*.txt")) if "french" not in p.parts]
    if not paths:
        raise SystemExit(f"there is no .txt file in {data / 'prose'}; name a folder with --data")
    return [path.read_text(encoding="utf-8") for path in paths]


def tiktoken_calls(engine: tiktoken.Encoding, threads: int) -> dict[str, Call]:
    """tiktoken's ways from documents to one array."""

    def batch(texts: list[str]) -> Array:
        rows = engine.encode_ordinary_batch(texts, num_threads=threads)
        return np.fromiter(chain.from_iterable(rows), np.uint32, sum(map(len, rows)))

    def to_numpy(text: str) -> Array:
        return engine.encode_to_numpy(text, disallowed_special=())

    def arrays(texts: list[str]) -> Array:
        if threads == 1:
            return np.concatenate([to_numpy(text) for text in texts])
        with ThreadPoolExecutor(threads) as pool:
            return np.concatenate(list(pool.map(to_numpy, texts)))

    return {"tiktoken": batch, "tiktoken, numpy": arrays}


def our_calls(threads: int) -> dict[str, Call]:
    """A tokenizer that has seen no text, its first call and its second."""
    tokenizer = gpt2.Tokenizer(gpt2.Tokenizer.gpt2().pairs)
    tokenizer.encode_batch(["a"], parallel=threads > 1)

    def call(texts: list[str]) -> Array:
        return tokenizer.encode_batch(texts, parallel=threads > 1)[0]

    return {"ours": call, "ours, again": call}


def main() -> None:
    parser = argparse.ArgumentParser(description="Encoding speed against tiktoken.")
    parser.add_argument("--data", type=Path, default=os.environ.get("GPT2_DATA"), help="folder with prose/")
    parser.add_argument("--rounds", type=int, default=7, help="at least 5")
    options = parser.parse_args()
    if options.data is None:
        raise SystemExit("name the folder of data with --data or GPT2_DATA")
    texts = read_documents(options.data)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    engine = TiktokenEncoder(gpt2.Tokenizer.gpt2())._engine
    wanted = tiktoken_calls(engine, 1)["tiktoken"](texts)
    print(f"{len(texts)} documents, {megabytes:.1f} MB, {len(wanted):,} tokens; {options.rounds} rounds")
    for threads in (1, THREADS):
        seconds: dict[str, list[float]] = defaultdict(list)
        processor: dict[str, list[float]] = defaultdict(list)
        for _ in range(max(5, options.rounds)):
            for name, call in (our_calls(threads) | tiktoken_calls(engine, threads)).items():
                begun, spent = time.perf_counter(), time.process_time()
                ids = call(texts)
                seconds[name].append(time.perf_counter() - begun)
                processor[name].append(time.process_time() - spent)
                assert np.array_equal(ids, wanted), f"{name} gives other ids"
        print(f"\n{threads} thread{'s' * (threads > 1)}\n{'':16} MB/s  median s  fastest s  processor s")
        for name, times in seconds.items():
            typical, used = statistics.median(times), statistics.median(processor[name])
            print(f"{name:16}{megabytes / typical:5.1f} {typical:9.3f} {min(times):10.3f} {used:12.3f}")
        ratio = ratio_to_tiktoken(seconds)
        print(f"ours is {ratio:.1f} times as fast as the faster of tiktoken's two", end="")
        print(f" ({ratio_to_tiktoken(processor):.1f} by the processor's seconds)")


def ratio_to_tiktoken(seconds: dict[str, list[float]]) -> float:
    """The faster of tiktoken's medians over ours."""
    theirs = min(statistics.median(times) for name, times in seconds.items() if "tiktoken" in name)
    return theirs / statistics.median(seconds["ours"])


if __name__ == "__main__":
    main()
