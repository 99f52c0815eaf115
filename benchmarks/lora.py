"""Claim: an adapter is tuned in less memory and time than the whole model, and kept in a hundredth of the disk.

The same network of random weights, the same batches, float32, steps as `gpt2 finetune text` takes them: all
weights, LoRA of rank 8 on all four matrices of a block (ours), the same by `peft` on transformers' network, and
ours with the activations computed again. Each way runs in a process of its own, so that its memory is its own:
what it has at most (the kernel's VmHWM) above what it had before the network was there. The checkpoint's copy of
weights and optimizer, made in memory while training goes on, is counted too for our ways, as `gpt2 train` has it.
After one step to warm up the ways take `--steps` steps in turn, `--rounds` times; medians.

    python benchmarks/lora.py --model small --rounds 3
    python benchmarks/lora.py --model 124M --rounds 3 --steps 1
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WAYS = ("all weights", "lora", "lora, recomputed", "peft")
MODELS = {
    # layers, heads, channels, vocabulary, tokens of a sequence, sequences
    "small": (6, 6, 384, 8192, 256, 8),
    "124M": (12, 12, 768, 50257, 256, 4),
}
IMPORTED = {
    "ours": ("gpt2.finetuning.adapter", "gpt2.training.speed"),
    "peft": ("peft", "transformers.models.gpt2.modeling_gpt2"),
}
"""What is not counted as memory of the network."""
Learn = Callable[[], None]


def memory(name: str) -> int:
    """Bytes of this process by the kernel's name: VmRSS just now, VmHWM at most."""
    with Path("/proc/self/status").open() as status:
        found = next(line for line in status if line.startswith(name))
    return 1024 * int(found.split()[1])


def ours(way: str, model: str) -> tuple[Learn, Any, int]:
    """A step of ours, what has to be kept of it as tensors, and how many weights learn."""
    import torch

    from gpt2.finetuning.adapter import Lora
    from gpt2.finetuning.lora import LoraConfig
    from gpt2.finetuning.methods import Methods
    from gpt2.model.config import GPT2Config
    from gpt2.model.device import PLAIN as COMPUTE
    from gpt2.model.transformer import GPT2
    from gpt2.training.method import PLAIN
    from gpt2.training.optimizer import OptimizerConfig
    from gpt2.training.speed import make_learner

    layers, heads, channels, vocabulary, context, batch = MODELS[model]
    net = GPT2(GPT2Config(layers, heads, channels, vocabulary, context)).train()
    method = PLAIN if way == "all weights" else Lora(LoraConfig(), Methods())
    method.prepare(net)
    rate = OptimizerConfig(learning_rate=1e-4)
    learner = make_learner(net, rate, COMPUTE, recompute="recomputed" in way, method=method)
    ids = torch.randint(0, vocabulary, (batch, context + 1), generator=torch.Generator().manual_seed(0))

    def learn() -> None:
        learner.gradients(ids)
        learner.update(1e-4)

    def kept() -> list[torch.Tensor]:
        states = [t for state in learner.optimizer.state.values() for t in state.values()]
        return [t.detach().clone() for t in [*method.kept(net).values(), *states]]

    return learn, kept, sum(p.numel() for p in net.parameters() if p.requires_grad)


def peft(model: str) -> tuple[Learn, Any, int]:
    """A step of peft's adapter on transformers' network."""
    import torch
    import transformers
    from peft import LoraConfig, get_peft_model

    layers, heads, channels, vocabulary, context, batch = MODELS[model]
    config = transformers.GPT2Config(
        n_layer=layers, n_head=heads, n_embd=channels, vocab_size=vocabulary, n_positions=context,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
    )  # fmt: skip
    targets = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    lora = LoraConfig(r=8, lora_alpha=16, target_modules=targets, fan_in_fan_out=True, task_type="CAUSAL_LM")
    net = get_peft_model(transformers.GPT2LMHeadModel(config), lora).train()
    learning = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-4, fused=True)
    ids = torch.randint(0, vocabulary, (batch, context), generator=torch.Generator().manual_seed(0))

    def learn() -> None:
        net(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return learn, None, sum(p.numel() for p in learning)


def work(way: str, model: str, threads: int) -> None:
    """Take as many steps as each line of standard input says; answer with the seconds of one."""
    import torch

    torch.set_num_threads(threads)
    for module in IMPORTED["peft" if way == "peft" else "ours"]:
        importlib.import_module(module)
    before = memory("VmRSS")
    learn, kept, learned = peft(model) if way == "peft" else ours(way, model)
    learn()
    copies = kept() if kept else []
    learn()
    size = sum(t.numel() * t.element_size() for t in copies)
    print(json.dumps({"learned": learned, "peak": memory("VmHWM") - before, "kept": size}), flush=True)
    for line in sys.stdin:
        begun = time.perf_counter()
        for _ in range(int(line)):
            learn()
        print(json.dumps((time.perf_counter() - begun) / int(line)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", choices=list(MODELS), default="small")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--work", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        work(asked.work, asked.model, asked.threads)
        return
    own = [sys.executable, __file__, "--model", asked.model, "--threads", str(asked.threads), "--work"]
    processes: dict[str, subprocess.Popen[str]] = {}
    told: dict[str, Any] = {}
    times: dict[str, list[float]] = {way: [] for way in asked.ways}
    for way in asked.ways:
        processes[way] = subprocess.Popen(
            [*own, way], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        told[way] = json.loads(processes[way].stdout.readline())  # type: ignore[union-attr]
    for _ in range(asked.rounds):
        for way, process in processes.items():
            process.stdin.write(f"{asked.steps}\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            times[way].append(json.loads(process.stdout.readline()))  # type: ignore[union-attr]
    for process in processes.values():
        process.communicate()
    _, _, _, _, context, batch = MODELS[asked.model]
    first = asked.ways[0]
    print(f"{asked.model}, {batch} x {context} tokens a step, {asked.threads} threads")
    print(f"{'way':18} {'learned':>12} {'memory':>9} {'kept':>9} {'s/step':>8}   time, memory to {first}")
    for way in asked.ways:
        row, seconds = told[way], statistics.median(times[way])
        ratio = seconds / statistics.median(times[first])
        space = row["peak"] / told[first]["peak"]
        print(
            f"{way:18} {row['learned']:>12,} {row['peak'] / 2**20:>6.0f} MB {row['kept'] / 2**20:>6.1f} MB "
            f"{seconds:>8.3f}   {ratio:.2f} {space:.2f}"
        )


if __name__ == "__main__":
    main()
