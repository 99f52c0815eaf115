"""Training a GPT-2 on token shards, to be killed at any moment and resumed.

The loop is the plain one: next-token cross entropy, AdamW, warm-up and cosine. How long it goes on is a
number of steps, decided once at the start (from `steps`, from `train_tokens`, or from `minutes` through a
timed trial) and saved with the run; the learning rate depends on the step alone. What else should happen
while it trains, such as held-out evaluation and samples, is handed in as callbacks.

    gpt2 train --tokens TOKENS --out RUN --size 124M --minutes 60
    gpt2 train --tokens TOKENS --out RUN --resume
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from gpt2.console import QUIET, Console, MetricsLog
from gpt2.errors import ConfigError, InputError, WorkbenchError
from gpt2.model.checkpoint import Model
from gpt2.model.device import DTYPES, Compute, choose
from gpt2.model.transformer import GPT2, GPT2Config
from gpt2.tokens.shards import Shards
from gpt2.training import resume
from gpt2.training.batches import Batches
from gpt2.training.loss import chunked_cross_entropy
from gpt2.training.optimizer import OptimizerConfig, make_optimizer
from gpt2.workspace import Json, digest, plain, read_json, versions, write_json

TRIAL_STEPS = 4


@dataclass(frozen=True)
class TrainConfig:
    """What to train, on what, for how long. Exactly one of steps, train_tokens and minutes is given."""

    tokens: Path
    """Folder of token shards."""
    out: Path
    """Folder of the run."""
    model: GPT2Config = field(default_factory=GPT2Config)
    """Shape of the network."""
    steps: int | None = None
    """Steps to train."""
    train_tokens: int | None = None
    """Tokens to train on, rounded up to whole steps."""
    minutes: float | None = None
    """Time to train, made into a number of steps by a timed trial."""
    batch: int = 8
    """Sequences of the model's context in a step."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """How weights are changed."""
    seed: int = 0
    """Decides the first weights and the order of the tokens."""
    log_every: int = 1
    """Steps between two lines of metrics."""
    callback_every: int = 100
    """Steps between two calls of the callbacks; they are called after the last step too."""
    save_every_seconds: float = 60.0
    """Time between two checkpoints; there is one at the end too."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    dtype: str = "auto"
    """Format of matrix products: auto, float32 or bfloat16."""
    threads: int | None = None
    """Processor threads."""


@dataclass(frozen=True)
class TrainResult:
    """A finished run."""

    model: Model
    steps: int
    tokens: int
    """Tokens trained on."""
    seconds: float
    """Time in training steps, over all resumptions."""
    metrics: list[Json]
    """The lines of metrics.jsonl."""


Callback = Callable[[Model, int], Json]
"""Called with the model and the steps done; what it returns is logged."""


def train(
    config: TrainConfig,
    callbacks: Sequence[Callback] = (),
    resume_run: bool = False,
    console: Console = QUIET,
) -> TrainResult:
    """Train as `config` says, or go on where the run in `config.out` stopped."""
    compute = choose(config.device, config.dtype, config.threads)
    shards = Shards.open(config.tokens)
    model = Model(GPT2(config.model, config.seed).to(compute.device), shards.tokenizer)
    if shards.tokenizer.n_vocab != config.model.vocab_size:
        raise ConfigError(
            f"the tokens in {config.tokens} are of a vocabulary of {shards.tokenizer.n_vocab}, "
            f"but the model's is {config.model.vocab_size}"
        )
    batches = Batches(shards.train, config.model.n_ctx, config.batch, config.seed)
    steps = plan(config, resume_run, batches, compute)
    optimizer = make_optimizer(model.net, config.optimizer)
    done = resume.restore(config.out, model, optimizer)
    log = MetricsLog(config.out / "metrics.jsonl")
    log.cut(done)
    before = sum(row.get("seconds", 0.0) for row in log.read())
    spent, saved = 0.0, time.monotonic()
    with console.progress(
        f"training {size_name(model.net)}", steps * batches.tokens_per_step, "tokens"
    ) as bar:
        bar.skip(done * batches.tokens_per_step)
        for step in range(done, steps):
            begun = time.perf_counter()
            rate = config.optimizer.rate(step, steps)
            loss, norm = train_step(model.net, optimizer, batches[step], rate, config.optimizer.clip, compute)
            took = time.perf_counter() - begun
            spent += took
            if not math.isfinite(loss):
                raise WorkbenchError(
                    f"the loss became {loss} at step {step}; the last checkpoint is whole: "
                    "start anew with a lower learning rate"
                )
            row: Json = {
                "step": step + 1,
                "tokens": (step + 1) * batches.tokens_per_step,
                "loss": round(loss, 5),
            }
            row |= {"learning_rate": rate, "gradient_norm": round(norm, 4), "seconds": round(took, 5)}
            last = step + 1 == steps
            if last or (step + 1) % config.callback_every == 0:
                model.net.eval()
                for call in callbacks:
                    row |= call(model, step + 1)
                model.net.train()
            if last or (step + 1) % config.log_every == 0 or len(row) > 6:
                log.write(**row)
            if last or time.monotonic() - saved > config.save_every_seconds:
                model.card = card(config, step + 1, steps, batches, loss, row, shards)
                resume.save(config.out, model, optimizer, step + 1)
                saved = time.monotonic()
            bar.advance(batches.tokens_per_step, f"loss {loss:.3f}")
    model.net.eval()
    return TrainResult(model, steps, steps * batches.tokens_per_step, before + spent, log.read())


def train_step(
    net: GPT2, optimizer: torch.optim.Optimizer, ids: torch.Tensor, rate: float, clip: float, compute: Compute
) -> tuple[float, float]:
    """One step on ids [B, T + 1]: the loss before it in nats a token, and the gradient's norm before clipping."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    ids = ids.to(compute.device)
    with compute.autocast():
        hidden = net.hidden(ids[:, :-1]).flatten(0, 1)  # [B T, C]
    loss = chunked_cross_entropy(hidden, net.wte.weight, ids[:, 1:].flatten(), DTYPES[compute.dtype])
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(loss.detach()), float(norm)


def plan(config: TrainConfig, resume_run: bool, batches: Batches, compute: Compute) -> int:
    """The number of steps: that of the run being resumed, or a new one, saved before training begins."""
    path = config.out / "train.json"
    asked = settings(config)
    if path.exists():
        record = read_json(path)
        if not resume_run:
            raise InputError(
                f"there is a run in {config.out} already; add --resume to go on with it, or give another folder"
            )
        if record["settings_digest"] != digest(asked):
            raise ConfigError(
                f"the run in {config.out} was begun with other settings (see {path}); use those or another folder"
            )
        return int(record["steps"])
    steps = steps_asked(config, batches, compute)
    write_json(
        path,
        {
            "settings": asked,
            "settings_digest": digest(asked),
            "steps": steps,
            "tokens": steps * batches.tokens_per_step,
            "epochs": round(steps / batches.steps_per_epoch, 4),
            "compute": compute,
            "versions": versions(),
        },
    )
    return steps


def settings(config: TrainConfig) -> Json:
    """What makes a run the run it is: all but the folder and the pace of logging, saving and computing."""
    aside = {"out", "tokens", "log_every", "save_every_seconds", "device", "dtype", "threads"}
    every = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.name not in aside}
    return {k: plain(v) if dataclasses.is_dataclass(v) else v for k, v in every.items()}


def steps_asked(config: TrainConfig, batches: Batches, compute: Compute) -> int:
    """Steps from whichever of the three ways the length was given."""
    given = {
        k: getattr(config, k) for k in ("steps", "train_tokens", "minutes") if getattr(config, k) is not None
    }
    if len(given) != 1:
        raise ConfigError(
            f"give exactly one of --steps, --train-tokens and --minutes, not {len(given)} of them"
        )
    ((name, value),) = given.items()
    if not 0 < value < float("inf"):
        raise ConfigError(f"{name} must be above 0, not {value}")
    if name == "steps":
        return int(value)
    if name == "train_tokens":
        return math.ceil(value / batches.tokens_per_step)
    return max(1, int(value * 60 / seconds_per_step(config.model, batches, config.optimizer, compute)))


def seconds_per_step(
    model: GPT2Config,
    batches: Batches,
    optimizer: OptimizerConfig,
    compute: Compute,
    steps: int = TRIAL_STEPS,
) -> float:
    """Median time of a few steps on a throw-away network of the same shape."""
    net = GPT2(model).to(compute.device)
    adam = make_optimizer(net, optimizer)
    times = []
    for step in range(steps + 1):
        begun = time.perf_counter()
        train_step(net, adam, batches[step], 0.0, optimizer.clip, compute)
        times.append(time.perf_counter() - begun)
    return sorted(times[1:])[steps // 2]


def size_name(net: GPT2) -> str:
    """'124M', '0.5M': the parameters as people name a model by."""
    millions = net.num_parameters() / 1e6
    return f"{millions:.0f}M" if millions >= 10 else f"{millions:.1f}M"


def card(
    config: TrainConfig, step: int, steps: int, batches: Batches, loss: float, row: Json, shards: Shards
) -> Json:
    """What the model's card says of its training."""
    heldout = {k: v for k, v in row.items() if k.startswith("heldout")}
    return {
        "data": shards.summary,
        "steps": f"{step} of {steps}",
        "tokens_trained_on": step * batches.tokens_per_step,
        "epochs": round(step / batches.steps_per_epoch, 4),
        "training_loss": round(loss, 4),
        **heldout,
        "settings": settings(config),
        "versions": versions(),
    }
