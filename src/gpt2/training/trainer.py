"""Training a GPT-2 on token shards, to be killed at any moment and resumed.

The loop is the plain one: next-token cross entropy, AdamW, warm-up and cosine. How long it goes on is a
number of steps, decided once at the start (from `steps`, from `train_tokens`, or from `minutes` through a
timed trial) and saved with the run; the learning rate depends on the step alone. What else should happen
while it trains, such as held-out evaluation and samples, is handed in as callbacks.

    gpt2 train --tokens TOKENS --out RUN --size 124M --minutes 60
    gpt2 train --tokens TOKENS --out RUN --size 124M --minutes 60 --resume

A resumed run must be asked for what it was begun with, data included; where it computes, how often it logs
and how often it saves may change. On one machine with as many threads it ends in the very weights, bit for
bit, of a run that was never stopped.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from gpt2.console import QUIET, Console, MetricsLog
from gpt2.errors import ConfigError, FormatError, InputError, WorkbenchError
from gpt2.model.checkpoint import Model
from gpt2.model.device import DTYPES, Compute, choose
from gpt2.model.transformer import GPT2, GPT2Config
from gpt2.tokens.shards import Shards
from gpt2.training import resume
from gpt2.training.batches import Batches
from gpt2.training.loss import chunked_cross_entropy
from gpt2.training.optimizer import OptimizerConfig, make_optimizer
from gpt2.workspace import Json, Workspace, plain, read_json, versions, write_json

TRIAL_STEPS = 4
LENGTHS = ("steps", "train_tokens", "minutes")
# Where and how a run computes, logs and saves: a resumed run may do so otherwise.
ASIDE = {"tokens", "out", "log_every", "save_every_seconds", "device", "dtype", "threads"}


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

    def __post_init__(self) -> None:
        given = [name for name in LENGTHS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ConfigError(
                f"give exactly one of steps, train_tokens and minutes, not {' and '.join(given) or 'none'}"
            )
        if not 0 < getattr(self, given[0]) < float("inf"):
            raise ConfigError(f"{given[0]} must be above 0, not {getattr(self, given[0])}")
        for name in ("log_every", "callback_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1 step, not {getattr(self, name)}")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed must be from 0 to 2^63 - 1, not {self.seed}")


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
    """Train as `config` says, or go on where the run in `config.out` stopped.

    Raises `InputError` when there is a run already and `resume_run` is not set, `ConfigError` when that run
    was begun with other settings, `BusyError` when another process is at it, and `WorkbenchError` when the
    loss is no longer a number.
    """
    compute = choose(config.device, config.dtype, config.threads)
    shards = Shards.open(config.tokens)
    if shards.tokenizer.n_vocab != config.model.vocab_size:
        raise ConfigError(
            f"the tokens in {config.tokens} are of a vocabulary of {shards.tokenizer.n_vocab}, "
            f"but the model's is {config.model.vocab_size}"
        )
    batches = Batches(shards.train, config.model.n_ctx, config.batch, config.seed)
    with Workspace(config.out):
        steps = plan(config, shards, resume_run, batches, compute)
        model = Model(GPT2(config.model, config.seed).to(compute.device), shards.tokenizer)
        optimizer = make_optimizer(model.net, config.optimizer)
        done = resume.restore(config.out, model, optimizer)
        log = MetricsLog(config.out / "metrics.jsonl")
        log.cut(done)
        title = f"training {size_name(model.net)}"
        with console.progress(title, steps * batches.tokens_per_step, "tokens") as bar:
            bar.skip(done * batches.tokens_per_step)
            spent, saved = 0.0, time.monotonic()
            for step in range(done + 1, steps + 1):  # counted from 1: steps done when this one is
                begun = time.perf_counter()
                rate = config.optimizer.rate(step - 1, steps)
                loss, norm = train_step(
                    model.net, optimizer, batches[step - 1], rate, config.optimizer.clip, compute
                )
                spent += time.perf_counter() - begun
                if not (math.isfinite(loss) and math.isfinite(norm)):
                    raise WorkbenchError(
                        f"at step {step} the loss was {loss} and its gradient {norm}, which cannot be learned from; "
                        f"train anew in another folder, with a learning rate below {config.optimizer.learning_rate:g}"
                    )
                row: Json = {"step": step, "tokens": step * batches.tokens_per_step, "loss": round(loss, 5)}
                row |= {"learning_rate": rate, "gradient_norm": round(norm, 4)}
                last = step == steps
                looked = last or step % config.callback_every == 0
                if looked:
                    row |= look(model, step, callbacks)
                if looked or step % config.log_every == 0:
                    log.write(**row, seconds=round(spent, 5))
                    spent = 0.0
                if last or time.monotonic() - saved > config.save_every_seconds:
                    model.card = card(config, step, steps, batches, row, shards)
                    resume.save(config.out, model, optimizer, step)
                    saved = time.monotonic()
                bar.advance(batches.tokens_per_step, f"loss {loss:.3f}")
    model.net.eval()
    rows = log.read()
    seconds = sum(row["seconds"] for row in rows)
    return TrainResult(model, steps, steps * batches.tokens_per_step, seconds, rows)


def look(model: Model, step: int, callbacks: Sequence[Callback]) -> Json:
    """What the callbacks see after `step` steps."""
    model.net.eval()
    seen: Json = {}
    for call in callbacks:
        seen |= call(model, step)
    model.net.train()
    return seen


def train_step(
    net: GPT2, optimizer: torch.optim.Optimizer, ids: torch.Tensor, rate: float, clip: float, compute: Compute
) -> tuple[float, float]:
    """One step on ids [B, T + 1]: the loss before it in nats a token, and the gradient's norm before clipping."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    ids = ids.to(compute.device)
    with compute.autocast(ids):
        hidden = net.hidden(ids[:, :-1]).flatten(0, 1)  # [B T, C]
    loss = chunked_cross_entropy(hidden, net.wte.weight, ids[:, 1:].flatten(), DTYPES[compute.dtype])
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(loss.detach()), float(norm)


def plan(config: TrainConfig, shards: Shards, resume_run: bool, batches: Batches, compute: Compute) -> int:
    """The number of steps: that of the run being resumed, or a new one, saved before training begins."""
    path = config.out / "train.json"
    asked = settings(config, shards)
    if path.exists():
        if not resume_run:
            raise InputError(
                f"there is a run in {config.out} already; add --resume to go on with it, or give another folder"
            )
        record = read_json(path)
        if not (isinstance(record, dict) and isinstance(record.get("settings"), dict)):
            raise FormatError(f"{path} does not describe a training run; give another folder")
        begun, steps = record["settings"], record.get("steps")
        if other := [name for name in asked if begun.get(name) != asked[name]]:
            raise ConfigError(
                f"the run in {config.out} was begun with {other[0]} {begun.get(other[0])}, not {asked[other[0]]}; "
                "give the same settings or another folder"
            )
        if type(steps) is not int or steps < 1:
            raise FormatError(f"{path} names no number of steps; give another folder")
        return steps
    steps = steps_asked(config, batches, compute)
    write_json(
        path,
        {
            "settings": asked,
            "steps": steps,
            "tokens": steps * batches.tokens_per_step,
            "epochs": round(steps / batches.steps_per_epoch, 4),
            "compute": compute,
            "versions": versions(),
        },
    )
    return steps


def settings(config: TrainConfig, shards: Shards) -> Json:
    """What decides the weights a run ends with, as it stands in a JSON file."""
    every = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.name not in ASIDE}
    every["data"] = shards.summary
    found: Json = json.loads(json.dumps(every, default=plain))
    return found


def steps_asked(config: TrainConfig, batches: Batches, compute: Compute) -> int:
    """Steps from whichever of the three ways the length was given."""
    if config.steps is not None:
        return config.steps
    if config.train_tokens is not None:
        return math.ceil(config.train_tokens / batches.tokens_per_step)
    assert config.minutes is not None
    seconds = seconds_per_step(config.model, batches, config.optimizer, compute)
    return max(1, int(config.minutes * 60 / seconds))


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


def card(config: TrainConfig, step: int, steps: int, batches: Batches, row: Json, shards: Shards) -> Json:
    """What the model's card says of its training."""
    heldout = {k: v for k, v in row.items() if k.startswith("heldout")}
    return {
        "data": shards.summary,
        "steps": f"{step} of {steps}",
        "tokens_trained_on": step * batches.tokens_per_step,
        "epochs": round(step / batches.steps_per_epoch, 4),
        "training_loss": row["loss"],
        **heldout,
        "settings": {k: v for k, v in settings(config, shards).items() if k != "data"},
        "versions": versions(),
    }
