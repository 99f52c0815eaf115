"""Claim: on a processor, the loss made slice by slice takes a quarter to two thirds of the plain one's time.

Forward and backward pass of the next-token loss for a batch of 8 x 256 tokens and a vocabulary of 4,096, at
the widths of the sizes that `gpt2 reproduce` trains:

    plain      F.cross_entropy of all logits (`plain_cross_entropy`), matrix products by autocast
    chunked    `chunked_cross_entropy`

Both run in turn, `--rounds` times; medians of wall time, and the ratio. The last lines time attention in the
same way, forward and backward: torch's fused kernel and `attend`. On a machine with other work, take one
thread and look at the processor's seconds.

    python benchmarks/loss.py --rounds 15 --threads 2
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt2.model.attention import attend
from gpt2.model.device import DTYPES, choose
from gpt2.training.loss import chunked_cross_entropy, plain_cross_entropy

TOKENS, CONTEXT, VOCABULARY = 2048, 256, 4096
WIDTHS = {24: 1, 64: 2, 128: 4, 224: 7}
"""Channels, and heads."""


def seconds(calls: list[Callable[[], object]], rounds: int) -> list[tuple[float, float]]:
    """Median wall and processor seconds of each call, the calls in turn."""
    times: list[list[tuple[float, float]]] = [[] for _ in calls]
    for round_ in range(rounds + 2):  # the first two only warm up
        for call, found in zip(calls, times, strict=True):
            wall, processor = time.perf_counter(), time.process_time()
            call()
            if round_ > 1:
                found.append((time.perf_counter() - wall, time.process_time() - processor))
    return [(statistics.median(w for w, _ in x), statistics.median(p for _, p in x)) for x in times]


def report(name: str, plain: tuple[float, float], ours: tuple[float, float]) -> None:
    """One line: both times in milliseconds, and ours as a share of the plain one's."""
    print(
        f"{name}: plain {1000 * plain[0]:.1f} ms, ours {1000 * ours[0]:.1f} ms, ratio {ours[0] / plain[0]:.2f} "
        f"(processor {1000 * plain[1]:.1f} and {1000 * ours[1]:.1f} ms, ratio {ours[1] / plain[1]:.2f})"
    )


def main() -> None:
    """Time both and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="auto")
    options = parser.parse_args()
    compute = choose("cpu", options.dtype, options.threads)
    dtype = DTYPES[compute.dtype]
    print(f"{compute.threads} threads, {compute.dtype}, median of {options.rounds}")

    for channels in WIDTHS:
        x = torch.randn(TOKENS, channels, requires_grad=True)
        w = (torch.randn(VOCABULARY, channels) * 0.1).requires_grad_()
        y = torch.randint(0, VOCABULARY, (TOKENS,))

        def plain(x: Tensor = x, w: Tensor = w, y: Tensor = y) -> object:
            with compute.autocast(x):
                loss = plain_cross_entropy(x, w, y)
            return torch.autograd.grad(loss, [x, w])

        def chunked(x: Tensor = x, w: Tensor = w, y: Tensor = y) -> object:
            return torch.autograd.grad(chunked_cross_entropy(x, w, y, dtype), [x, w])

        report(f"loss, {channels} channels", *seconds([plain, chunked], options.rounds))

    for channels, heads in WIDTHS.items():
        shape = (TOKENS // CONTEXT, heads, CONTEXT, channels // heads)
        q, k, v = (torch.randn(shape).to(dtype).requires_grad_() for _ in range(3))
        g = torch.randn(shape).to(dtype)

        def fused(q: Tensor = q, k: Tensor = k, v: Tensor = v, g: Tensor = g) -> object:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return torch.autograd.grad(y, [q, k, v], g)

        def ours(q: Tensor = q, k: Tensor = k, v: Tensor = v, g: Tensor = g) -> object:
            return torch.autograd.grad(attend(q, k, v), [q, k, v], g)

        report(f"attention, {heads} heads of {channels // heads}", *seconds([fused, ours], options.rounds))


if __name__ == "__main__":
    main()
