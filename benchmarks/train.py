"""Claim: a training step takes less time here than in the loops that people train GPT-2 with.

The same network from the same first weights, the same batches in the same order, AdamW with clipped gradients:

- ours: `gpt2.training.step.train_step`, as `gpt2 train` runs it;
- nanogpt: a plain loop after nanoGPT's published design (one module a part, `scaled_dot_product_attention`,
  logits and cross entropy of the whole batch, fused AdamW, bfloat16 by autocast), eager;
- nanogpt-compiled: the same through `torch.compile`;
- transformers: its `GPT2LMHeadModel` with its own loss, in float32, fused AdamW.

Each engine runs in a process of its own, takes `--steps` steps to warm up, and is then told in turn with the
others to take `--steps` more, `--rounds` times; medians of tokens a second and their ratios. After them the
rate of plain bfloat16 products of the model's widths is measured, and what share of it each engine reaches
with the 6 N operations a token of its N matrix weights and those of attention. Losses of the first steps
stand side by side.

    python benchmarks/train.py --model small --rounds 5
    python benchmarks/train.py --model 124M --rounds 5 --engines ours nanogpt nanogpt-compiled
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt2.model.config import GPT2Config
from gpt2.model.device import choose
from gpt2.model.transformer import GPT2
from gpt2.training.forecast import peak

MODELS = {
    # shape, sequences a step
    "small": (GPT2Config(n_layer=6, n_head=6, n_embd=384, vocab_size=4096, n_ctx=256), 16),
    "124M": (GPT2Config.size("124M", n_ctx=256), 4),
    "124M-long": (GPT2Config.size("124M"), 4),
}
RATE, CLIP = 6e-4, 1.0
Step = Callable[[Tensor], float]


class PlainAttention(nn.Module):
    """Attention as nanoGPT writes it."""

    def __init__(self, c: GPT2Config) -> None:
        super().__init__()
        self.n_head, self.n_embd = c.n_head, c.n_embd
        self.c_attn, self.c_proj = nn.Linear(c.n_embd, 3 * c.n_embd), nn.Linear(c.n_embd, c.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        q, k, v = (
            part.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
            for part in self.c_attn(x).split(self.n_embd, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))
        return out


class PlainBlock(nn.Module):
    """A block as nanoGPT writes it."""

    def __init__(self, c: GPT2Config) -> None:
        super().__init__()
        self.ln_1, self.attn, self.ln_2 = nn.LayerNorm(c.n_embd), PlainAttention(c), nn.LayerNorm(c.n_embd)
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(c.n_embd, 4 * c.n_embd), "c_proj": nn.Linear(4 * c.n_embd, c.n_embd)}
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh"))


class PlainGPT(nn.Module):
    """The network as nanoGPT writes it; its weights have our names."""

    def __init__(self, c: GPT2Config) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(c.vocab_size, c.n_embd), nn.Embedding(c.n_ctx, c.n_embd)
        self.h = nn.ModuleList(PlainBlock(c) for _ in range(c.n_layer))
        self.ln_f = nn.LayerNorm(c.n_embd)
        self.lm_head = nn.Linear(c.n_embd, c.vocab_size, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.reshape(-1))


def adam(net: nn.Module) -> torch.optim.AdamW:
    """nanoGPT's optimizer."""
    every = list(net.parameters())
    groups = [
        {"params": [p for p in every if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in every if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), fused=True)


def nanogpt(config: GPT2Config, compiled: bool) -> Step:
    """nanoGPT's loop."""
    net = PlainGPT(config)
    net.load_state_dict(
        GPT2(config, seed=0).state_dict() | {"lm_head.weight": GPT2(config, seed=0).wte.weight}
    )
    optimizer = adam(net)
    forward = torch.compile(net) if compiled else net

    def step(ids: Tensor) -> float:
        with torch.autocast("cpu", torch.bfloat16):
            loss = forward(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step


def transformers(config: GPT2Config) -> Step:
    """A loop over transformers' model, in float32."""
    from transformers import GPT2Config as Shape
    from transformers import GPT2LMHeadModel

    c = config
    net = GPT2LMHeadModel(
        Shape(
            vocab_size=c.vocab_size, n_positions=c.n_ctx, n_embd=c.n_embd, n_layer=c.n_layer, n_head=c.n_head
        )
    )
    turned = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # Conv1D holds its matrix the other way round
    weights = {
        f"transformer.{name}": w.t() if name.endswith(turned) else w
        for name, w in GPT2(config, seed=0).state_dict().items()
    }
    net.load_state_dict(weights | {"lm_head.weight": weights["transformer.wte.weight"]})
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    net.train()
    optimizer = adam(net)

    def step(ids: Tensor) -> float:
        loss = net(input_ids=ids[:, :-1], labels=ids[:, :-1]).loss  # it shifts by itself
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step


def ours(config: GPT2Config, threads: int) -> Step:
    """This package."""
    from gpt2.training.optimizer import OptimizerConfig, make_optimizer
    from gpt2.training.step import train_step

    compute = choose("cpu", "bfloat16", threads)
    net = GPT2(config, seed=0)
    optimizer = make_optimizer(net, OptimizerConfig())
    return lambda ids: train_step(net, optimizer, ids, RATE, CLIP, compute)[0]


def work(engine: str, model: str, threads: int, steps: int) -> None:
    """A process for one engine: for each line on standard input, take so many steps and tell how long."""
    torch.set_num_threads(threads)
    config, batch = MODELS[model]
    step = {
        "ours": lambda: ours(config, threads),
        "nanogpt": lambda: nanogpt(config, compiled=False),
        "nanogpt-compiled": lambda: nanogpt(config, compiled=True),
        "transformers": lambda: transformers(config),
    }[engine]()
    done = 0
    for _ in sys.stdin:
        losses, begun = [], time.perf_counter()
        for _ in range(steps):
            generator = torch.Generator().manual_seed(done)
            ids = torch.randint(0, config.vocab_size // 4, (batch, config.n_ctx + 1), generator=generator)
            losses.append(step(ids))
            done += 1
        print("\0" + json.dumps([time.perf_counter() - begun, losses, peak("cpu") / 1e9]), flush=True)


class Worker:
    """An engine in a process of its own."""

    def __init__(self, engine: str, options: Any) -> None:
        words = ["--engine", engine, "--model", options.model]
        words += ["--threads", str(options.threads), "--steps", str(options.steps)]
        self.job = subprocess.Popen(
            [sys.executable, __file__, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def measure(self) -> tuple[float, list[float], float]:
        """Seconds, losses, and the process's peak memory in GB."""
        assert self.job.stdin and self.job.stdout
        self.job.stdin.write("go\n")
        self.job.stdin.flush()
        for line in self.job.stdout:
            if line.startswith("\0"):
                seconds, losses, memory = json.loads(line[1:])
                return seconds, losses, memory
        sys.exit("an engine stopped; is it installed?  pip install '.[peers]'")


def matrix_peak(config: GPT2Config, rows: int, threads: int) -> float:
    """GFLOP/s of plain bfloat16 products of the model's widths, the best of some."""
    torch.set_num_threads(threads)
    C, best = config.n_embd, 0.0
    shapes = [(rows, C, 4 * C), (rows, 4 * C, C), (2048, 2048, 2048)]
    for n, k, m in shapes:
        a, b = torch.randn(n, k, dtype=torch.bfloat16), torch.randn(m, k, dtype=torch.bfloat16)
        for _ in range(12):
            begun = time.perf_counter()
            F.linear(a, b)
            best = max(best, 2 * n * k * m / (time.perf_counter() - begun) / 1e9)
    return best


def main() -> None:
    """Time all and print medians and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", choices=list(MODELS), default="small")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    names = ["ours", "nanogpt", "nanogpt-compiled", "transformers"]
    parser.add_argument("--engines", nargs="+", choices=names, default=names)
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    options: Any = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if options.engine:
        work(options.engine, options.model, options.threads, options.steps)
        return
    config, batch = MODELS[options.model]
    workers = {engine: Worker(engine, options) for engine in options.engines}
    first = {engine: worker.measure()[1] for engine, worker in workers.items()}
    times: dict[str, list[float]] = {engine: [] for engine in workers}
    memory: dict[str, float] = {}
    for _ in range(options.rounds):
        for engine, worker in workers.items():
            seconds, _, memory[engine] = worker.measure()
            times[engine].append(seconds)
    for worker in workers.values():
        worker.job.communicate()
    tokens = batch * config.n_ctx * options.steps
    top = matrix_peak(config, batch * config.n_ctx, options.threads)
    weights = config.num_parameters(embeddings=False) + config.vocab_size * config.n_embd
    work_a_token = (
        6 * weights + 6 * config.n_layer * config.n_ctx * config.n_embd
    )  # attention, the causal half
    print(
        f"{options.model}: {batch} x {config.n_ctx} tokens a step, {options.threads} threads, median of "
        f"{options.rounds} rounds of {options.steps} steps, engines in turn; bfloat16 products {top:.0f} GFLOP/s"
    )
    rate = {engine: tokens / statistics.median(seconds) for engine, seconds in times.items()}
    for engine in workers:
        spread = f"{tokens / max(times[engine]):.0f} to {tokens / min(times[engine]):.0f}"
        print(
            f"{engine:17} {rate[engine]:7.0f} tokens/s ({spread})  {rate[engine] * work_a_token / 1e9:5.0f} GFLOP/s, "
            f"{rate[engine] * work_a_token / 1e9 / top:4.0%} of the products' rate  {memory[engine]:5.2f} GB  "
            f"first losses {', '.join(f'{loss:.4f}' for loss in first[engine][:3])}"
        )
    for engine in workers:
        if engine != "ours" and "ours" in rate:
            print(f"ours is {rate['ours'] / rate[engine]:.2f} times as fast as {engine}")


if __name__ == "__main__":
    main()
