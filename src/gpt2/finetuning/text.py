"""A language model tuned on the user's own text: what everyone asks for first.

    gpt2 finetune text MODEL my_texts/ --out tuned
    gpt2 finetune text MODEL book.txt --out tuned --lora
    gpt2 finetune text MODEL notes.jsonl --out tuned --layer-factor 2.6 --slanted --unfreeze

    tuned/model/         the model with the lowest held-out loss; opens wherever a model does, and so does `tuned`
    tuned/adapter/       with LoRA, the same as an adapter for `peft`
    tuned/run/           the training (`gpt2.training`), from which a killed one goes on
    tuned/tokens/        the text in the model's vocabulary, some of it held out (`own_text.py`)
    tuned/before/, after/  loss and samples of the model as it was, and as it is (`outcome.py`)
    tuned/finetune.json  all that is known of it

It is the trainer's loop with a model's weights to begin with: AdamW as GPT-1 was fine-tuned, but for two settings.
The learning rate is a tenth of what a model of this size is trained with from the start (`recipes.py`), which for
124M is 6e-5, nearly GPT-1's 6.25e-5; adapters take ten times that, as Schulman et al. found for all sizes ("LoRA
Without Regret", 2025). The warm-up takes 5 % of the steps in place of 0.2 %, which would be no step of a short
run. Held-out loss is looked at four times an epoch, and tuning ends when it has not fallen for `patience` looks.

What over-fitting looks like is shown: samples of the same prompts and seeds before and after, the longest run of
words that each copies from the training text (`copying.py`), and that of real held-out text for comparison.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from gpt2.console import QUIET, Console
from gpt2.errors import ConfigError
from gpt2.evaluation import heldout
from gpt2.finetuning.adapter import Lora, load_adapter, shapes_of
from gpt2.finetuning.lora import LoraConfig
from gpt2.finetuning.methods import Gentle, Methods
from gpt2.finetuning.outcome import Sampling, look, outcome
from gpt2.finetuning.own_text import files_of, sequence_length, write_tokens
from gpt2.model.checkpoint import Model, load, read_card
from gpt2.model.config import GPT2Config
from gpt2.model.device import choose
from gpt2.model.formats import open_source
from gpt2.tokens.shards import Shards
from gpt2.training import recipes
from gpt2.training.batches import Batches
from gpt2.training.method import PLAIN, Method
from gpt2.training.optimizer import OptimizerConfig
from gpt2.training.plan import Beside, TrainConfig, block_of, read_record
from gpt2.training.resume import link
from gpt2.training.trainer import Callback, TrainResult, train
from gpt2.workspace import Json, Workspace, write_json

SLOWER, LORA_FASTER = 0.1, 10.0
"""The rate of tuning to that of training, and that of adapters to that of weights."""
LOOKS = 4
"""Looks at the held-out loss in an epoch."""


@dataclass(frozen=True)
class TextConfig:
    """Which model to tune on which text, and how. At most one of epochs, steps and minutes is given."""

    model: Path
    """The model to begin with, of any known format."""
    text: Path
    """A file or folder of text (.txt, .md, .jsonl, .parquet), or a corpus."""
    out: Path
    """Folder for everything that is made."""
    epochs: float | None = None
    """How often each text is seen; 3 when no length is given."""
    steps: int | None = None
    """Steps to train."""
    minutes: float | None = None
    """Time to train, made into a number of steps by a timed trial."""
    lora: LoraConfig | None = None
    """Adapters to be learned in place of the weights."""
    methods: Methods = field(default_factory=Methods)
    """How layers learn."""
    beside: Beside | None = None
    """A second loss, on token shards of the model's vocabulary."""
    learning_rate: float | None = None
    """The highest learning rate, in place of the usual for the model's size."""
    batch: int = 8
    """Sequences in a step."""
    context: int | None = None
    """Tokens of a sequence; the model's context, or fewer where the text is short."""
    heldout: float = 0.1
    """Share of the text that is held out."""
    patience: int = 4
    """Looks without a lower held-out loss after which it stops."""
    sampling: Sampling = field(default_factory=Sampling)
    """Samples before and after."""
    seed: int = 0
    """Decides what is held out, the order of the text and an adapter's first weights."""
    accumulate: int = 1
    """Parts in which a batch is taken, one after another: less memory, the same step."""
    recompute: bool = False
    """Compute activations again in the backward pass: less memory, more time, the same step."""
    save_every_seconds: float = 60.0
    """Time between two checkpoints."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    dtype: str = "auto"
    """Format of matrix products: auto, float32 or bfloat16."""
    threads: int | None = None
    """Processor threads."""

    def __post_init__(self) -> None:
        given = [name for name in ("epochs", "steps", "minutes") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigError(f"give one of epochs, steps and minutes, not {' and '.join(given)}")
        for name in given:
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("patience", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")


def finetune_text(config: TextConfig, console: Console = QUIET) -> Json:
    """Tune a model on a text, or go on where an earlier call was interrupted; returns what finetune.json says.

    Raises `InputError` for a model or text that cannot be read, `TooLittleData` for too little text,
    `ConfigError` when the folder has a tuning with other settings.
    """
    source = open_source(config.model)
    with Workspace(config.out) as work:
        made = {
            "files": files_of(config.text),
            "vocabulary": source.tokenizer.fingerprint,
            "heldout": config.heldout,
            "seed": config.seed,
        }
        work.run(
            "tokens",
            made,
            lambda folder: write_tokens(
                config.text, source.tokenizer, folder / "shards", config.heldout, config.seed, console
            ),
        )
        shards = Shards.open(config.out / "tokens" / "shards")
        compute = choose(config.device, config.dtype, config.threads)
        before = look(load(config.model), shards, config.sampling, compute, work, "before", console)
        done = tune(config, source.config, shards, console)
        model = best(config)
        model.save(config.out / "model")
        after = look(model, shards, config.sampling, compute, work, "after", console)
        report = told(config, shards, done) | outcome(shards, config.sampling, before, after)
        write_json(config.out / "finetune.json", report)
        return report


def tune(config: TextConfig, shape: GPT2Config, shards: Shards, console: Console) -> TrainResult:
    """The training itself, in `run`; goes on with one that is there."""
    block = config.context or sequence_length(shards.train.n_tokens, config.batch, shape.n_ctx)
    per_epoch = Batches(shards.train, block, config.batch).steps_per_epoch
    length: Json = {"steps": config.steps, "minutes": config.minutes}
    if config.steps is None and config.minutes is None:
        length["steps"] = math.ceil((config.epochs or 3) * per_epoch)
    callbacks = heldout.usual_callbacks(shards)
    if config.beside and callbacks:
        callbacks += beside_callbacks(config.beside)
    asked = TrainConfig(
        tokens=shards.folder,
        out=config.out / "run",
        model=shape,
        start=config.model,
        context=block if block != shape.n_ctx else None,
        beside=config.beside,
        batch=config.batch,
        optimizer=optimizer(config, shape, block),
        seed=config.seed,
        callback_every=max(1, round(per_epoch / LOOKS)),
        keep_best=bool(callbacks),
        patience=config.patience if callbacks else None,
        accumulate=config.accumulate,
        recompute=config.recompute,
        save_every_seconds=config.save_every_seconds,
        device=config.device,
        dtype=config.dtype,
        threads=config.threads,
        **length,
    )
    return train(asked, callbacks, resume_run=True, console=console, method=method_of(config))


def optimizer(config: TextConfig, shape: GPT2Config, block: int) -> OptimizerConfig:
    """GPT-1's fine-tuning, at a rate for the model's size."""
    usual = recipes.recipe(recipes.DEFAULT).optimizer(shape, config.batch * block).learning_rate
    rate = recipes.rounded(usual * SLOWER * (LORA_FASTER if config.lora else 1))
    return OptimizerConfig(
        learning_rate=config.learning_rate or rate,
        warmup=0.05,
        schedule="linear",
        final=0.0,
        weight_decay=0.01,
        beta2=0.999,
    )


def method_of(config: TextConfig) -> Method:
    """What learns, and how."""
    if config.lora:
        return Lora(config.lora, config.methods, config.model.absolute(), config.seed)
    return Gentle(config.methods) if config.methods != Methods() else PLAIN


def beside_callbacks(beside: Beside) -> list[Callback]:
    """A look at what was to be kept, where some of it is held out."""
    split = Shards.open(beside.tokens).heldout
    chosen = heldout.pick_documents(split, 64)
    return [heldout.heldout_callback(split, chosen, 256, suffix="_beside")] if chosen else []


def best(config: TextConfig) -> Model:
    """The model with the lowest held-out loss; the last one where nothing was held out.

    With LoRA its adapter is put into `adapter` first.
    """
    kept = config.out / "run" / "best"
    if not kept.exists():
        kept = config.out / "run" / "checkpoint"
    if config.lora is None:
        return load(kept)
    leave = ("optimizer.safetensors", "generators.safetensors", "state.json")
    link(kept, config.out / "adapter", "card.json", leave_out=leave)
    model = load(config.model)
    load_adapter(model.net, config.out / "adapter", merge=True)
    model.card = read_card(config.out / "adapter" / "card.json")
    return model


def told(config: TextConfig, shards: Shards, done: TrainResult) -> Json:
    """What the training was."""
    record = read_record(config.out / "run")
    looked = [row for row in done.metrics if "heldout_loss" in row]
    lowest = min(looked, key=lambda row: row["heldout_loss"])["step"] if looked else done.steps
    found: Json = {
        "model": str(config.out / "model"),
        "adapter": str(config.out / "adapter") if config.lora else None,
        "text": shards.summary,
        "steps": done.steps,
        "planned_steps": record["steps"],
        "best_step": lowest,
        "epochs": round(done.tokens / max(1, shards.train.n_tokens), 3),
        "learned_weights": learned_weights(config, done.model.net.config),
        "context": block_of(record["settings"]),
        "learning_rate": record["settings"]["optimizer"]["learning_rate"],
        "seconds": round(done.seconds, 1),
    }
    if looked and "heldout_loss_beside" in looked[-1]:
        found["beside"] = [[row["step"], row["heldout_loss_beside"]] for row in looked]
    return found


def learned_weights(config: TextConfig, shape: GPT2Config) -> int:
    """How many numbers learn."""
    if config.lora is None:
        return shape.num_parameters()
    return sum(math.prod(size) for size in shapes_of(shape, config.lora).values())
