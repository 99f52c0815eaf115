"""What a training run is asked to do, and how many steps that makes.

How long it goes on is a number of steps, decided once at the start (from `steps`, from `train_tokens`, or
from `minutes` through a timed trial) and saved with the run in train.json; the learning rate depends on the
step alone. A resumed run must be asked for what it was begun with, data included; where and in how many
processes it computes, how often it logs and saves and what it does about spikes may change.

    config = TrainConfig(tokens=Path("tokens"), out=Path("run"), steps=20_000, batch=512)
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

from gpt2.errors import ConfigError, FormatError, InputError
from gpt2.model.config import GPT2Config
from gpt2.model.device import Compute
from gpt2.training.batches import Batches
from gpt2.training.mixture import Data
from gpt2.training.optimizer import OptimizerConfig
from gpt2.training.parallel import Way
from gpt2.training.spikes import OnSpike
from gpt2.workspace import Json, plain, read_json, versions, write_json

LENGTHS = ("steps", "train_tokens", "minutes")
RECORD = "train.json"


@dataclass(frozen=True)
class Beside:
    """A second loss, of predicting other text: what a model can do is not forgotten while it learns something else.

    Ramachandran, Liu and Le (2017, arXiv 1611.02683) keep it with a weight of 1, GPT-1 with 0.5.
    """

    tokens: Path
    """Folder of token shards."""
    weight: float = 0.5
    """What its loss counts beside the loss proper."""

    def __post_init__(self) -> None:
        if not 0 < self.weight < float("inf"):
            raise ConfigError(f"the weight of the loss beside must be above 0, not {self.weight}")


@dataclass(frozen=True)
class TrainConfig:
    """What to train, on what, for how long. Exactly one of steps, train_tokens and minutes is given."""

    tokens: Path | tuple[Path, ...]
    """Folder of token shards, or several to be mixed."""
    out: Path
    """Folder of the run."""
    model: GPT2Config = field(default_factory=GPT2Config)
    """Shape of the network; with `start`, that model's takes its place."""
    start: Path | None = None
    """Model of any known format whose weights it begins with, in place of random ones."""
    context: int | None = None
    """Tokens of a sequence, where they are to be fewer than the model can read."""
    beside: Beside | None = None
    """A second loss."""
    steps: int | None = None
    """Steps to train."""
    train_tokens: int | None = None
    """Tokens to train on, rounded up to whole steps."""
    minutes: float | None = None
    """Time to train, made into a number of steps by a timed trial."""
    batch: int = 8
    """Sequences in a step, of all processes together."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """How weights are changed."""
    weights: tuple[float, ...] | None = None
    """How many sequences of each folder there are to those of the others; None for as many as they have."""
    mask_documents: bool = False
    """Whether no token sees the documents before its own, whose positions begin at 0."""
    ema: float | None = None
    """Decay of an average of the weights, such as 0.999, kept beside them."""
    seed: int = 0
    """Decides the first weights and the order of the tokens."""
    overfit_batch: bool = False
    """Train on the first batch alone, until its loss is below 0.05: a check that learning works at all."""
    log_every: int = 1
    """Steps between two lines of metrics."""
    callback_every: int = 100
    """Steps between two calls of the callbacks; they are called after the last step too."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too."""
    save_every_seconds: float = 60.0
    """Time between two checkpoints; there is one at the end too."""
    keep_best: bool = False
    """Keep the model with the lowest held-out loss in `best`."""
    patience: int | None = None
    """Stop after so many calls of the callbacks without a held-out loss that is lower than all before."""
    keep_every: int | None = None
    """Keep the model of each so many steps in `kept`."""
    on_spike: OnSpike = "note"
    """What to do at a step whose loss or gradient is far above the last ones', or no number."""
    parallel: Way | None = None
    """How several processes share the model: ddp or fsdp; of processes that torchrun starts, ddp."""
    accumulate: int = 1
    """Parts in which each process takes its share of a batch, one after another: less memory, the same step."""
    recompute: bool = False
    """Compute activations again in the backward pass: less memory, more time, the same step."""
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
        for name in ("log_every", "callback_every", "accumulate", "keep_every", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, not {value}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ConfigError(f"ema is a decay between 0 and 1, such as 0.999, not {self.ema}")
        if self.context is not None and not 1 <= self.context <= self.model.n_ctx:
            raise ConfigError(f"a context of {self.context} is not from 1 to the model's {self.model.n_ctx}")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed must be from 0 to 2^63 - 1, not {self.seed}")

    @property
    def block(self) -> int:
        """Tokens of a sequence."""
        return self.context or self.model.n_ctx


DECIDES = (
    "model",
    "context",
    *LENGTHS,
    "batch",
    "optimizer",
    "mask_documents",
    "ema",
    "seed",
    "overfit_batch",
    "callback_every",
)
"""What decides the weights a run ends with, but for rounding and spikes."""


def settings(config: TrainConfig, shards: Data, more: Json) -> Json:
    """What a resumed run must not change, as it stands in a JSON file; `more` is not of the config itself."""
    every = {name: getattr(config, name) for name in DECIDES} | {"data": shards.summary, **more}
    found: Json = json.loads(json.dumps(every, default=plain))
    return found


def begun(config: TrainConfig, shards: Data, resume_run: bool, more: Json) -> int:
    """The number of steps of the run that is in the folder already; 0 when there is none.

    Raises `InputError` when there is one and `resume_run` is not set, `ConfigError` when it was begun with
    other settings.
    """
    path = config.out / RECORD
    if not path.exists():
        return 0
    if not resume_run:
        raise InputError(
            f"there is a run in {config.out} already; add --resume to go on with it, or give another folder"
        )
    record = read_json(path)
    if not (isinstance(record, dict) and isinstance(record.get("settings"), dict)):
        raise FormatError(f"{path} does not describe a training run; give another folder")
    before, now, steps = record["settings"], settings(config, shards, more), record.get("steps")
    if other := [name for name in {**now, **before} if before.get(name) != now.get(name)]:
        raise ConfigError(
            f"the run in {config.out} was begun with {other[0]} {before.get(other[0])}, not {now.get(other[0])}; "
            "give the same settings or another folder"
        )
    if type(steps) is not int or steps < 1:
        raise FormatError(f"{path} names no number of steps; give another folder")
    return steps


def read_record(run: Path) -> Json:
    """What a run is, from its train.json; `InputError` where there is no run."""
    path = run / RECORD
    if not path.exists():
        raise InputError(f"there is no training run in {run}; it would have a file {RECORD}")
    record = read_json(path)
    if not (isinstance(record, dict) and isinstance(record.get("settings"), dict) and "folders" in record):
        raise FormatError(f"{path} does not describe a training run; give another folder")
    return record


def block_of(settings: Json) -> int:
    """Tokens of a sequence, from the settings in a run's record."""
    return int(settings.get("context") or settings["model"]["n_ctx"])


def steps_of(config: TrainConfig, batches: Batches, seconds_per_step: float) -> int:
    """Steps from whichever of the three ways the length was given."""
    if config.steps is not None:
        return config.steps
    if config.train_tokens is not None:
        return math.ceil(config.train_tokens / batches.tokens_per_step)
    assert config.minutes is not None
    return max(1, int(config.minutes * 60 / seconds_per_step))


def record(
    config: TrainConfig, shards: Data, batches: Batches, steps: int, compute: Compute, more: Json
) -> None:
    """Write down what the run is, before it begins."""
    write_json(
        config.out / RECORD,
        {
            "settings": settings(config, shards, more),
            "steps": steps,
            "tokens": steps * batches.tokens_per_step,
            "epochs": round(steps / batches.steps_per_epoch, 4),
            "folders": [str(folder.folder.absolute()) for folder in shards.folders],
            "asked": {
                f.name: getattr(config, f.name)
                for f in dataclasses.fields(config)
                if f.name not in DECIDES and f.name not in ("tokens", "out", "weights", "beside")
            },
            "compute": compute,
            "versions": versions(),
        },
    )
