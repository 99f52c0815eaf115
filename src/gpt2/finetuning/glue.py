"""Fine-tuning on GLUE, as the paper's last section plans it: every task, several seeds, the official figures.

Each task and seed is a run of its own that begins from the same model: `RUN/cola/seed-0` has the classifier, what
it said on the held-out items (dev.npy) and its metrics, and is done once; the same command goes on after a kill.
Figures are those on the development set, mean and spread over seeds, with a bootstrap interval over items and the
published ones beside them, each named with its split. Where there is a test file without labels, RUN/submission
has the leaderboard's file of the seed that was best on the development set. AX is asked of MNLI's classifiers.

Stated rules: an item is cut to `max_tokens` (of two texts the longer loses its end); training items of one class
alone are refused; with `limit`, the training items are a random draw under seed 0, the same for every run.

    gpt2 finetune glue MODEL --tasks cola,sst2 --data my_data --out RUN
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gpt2.console import QUIET, Console, table
from gpt2.errors import ConfigError, InputError, TooLittleData
from gpt2.finetuning.classifier import Purpose, TextClassifier
from gpt2.finetuning.glue_files import Example, Split, lacking, read_split, write_submission
from gpt2.finetuning.glue_scores import Values, answers, interval, score
from gpt2.finetuning.glue_tasks import PUBLISHED, TASKS, GlueTask, glue_task
from gpt2.finetuning.layout import Layout
from gpt2.finetuning.own_text import state
from gpt2.finetuning.supervised import Lessons, SupervisedConfig, forget, learn
from gpt2.model.checkpoint import Model, load
from gpt2.model.device import PLAIN, Compute
from gpt2.model.transformer import GPT2
from gpt2.training.beginning import weights_digest
from gpt2.workspace import Json, Workspace, atomic_write, versions, write_json


@dataclass(frozen=True)
class GlueConfig:
    """What to fine-tune on, and how."""

    tasks: tuple[str, ...] = ()
    """Names; none for all whose data is at hand."""
    data: Path | None = None
    """Folder that has GLUE's files somewhere in it."""
    seeds: int = 3
    """Runs of each task."""
    supervised: SupervisedConfig = field(default_factory=SupervisedConfig)
    """How a run learns; its seed is the first of the seeds."""
    layout: Layout = "gpt1"
    """How texts are laid out: gpt1 or plain."""
    max_tokens: int = 128
    """Ids read of an item at most."""
    limit: int | None = None
    """Training items at most."""
    from_scratch: bool = False
    """Begin from fresh weights of the same shape, to see what the pretraining is worth."""
    download: bool = False
    """Get data that is not there from the Hugging Face hub."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ConfigError(f"seeds must be at least 1, not {self.seeds}")
        if self.limit is not None and self.limit < 2:
            raise ConfigError(f"limit must be at least 2 items, not {self.limit}")
        if self.max_tokens < 8:
            raise ConfigError(f"max_tokens must be at least 8, not {self.max_tokens}")


@dataclass(frozen=True)
class GlueResults:
    """What came out: a row for each task, split and metric."""

    rows: list[Json]
    missing: dict[str, str]
    """Tasks that were not done, and why."""

    def json(self) -> Json:
        """For programs."""
        published = [{"model": m, "split": s, "figures": f} for m, s, f in PUBLISHED]
        return {"rows": self.rows, "missing": self.missing, "published": published, "versions": versions()}

    def table(self) -> str:
        """For people: ours, and the published figures below."""
        header = ["task", "metric", "mean", "seeds", "95 % over items", "items", "majority"]
        rows = [
            [
                row["task"],
                row["metric"],
                f"{100 * row['mean']:.1f}",
                " ".join(f"{100 * x:.1f}" for x in row["seeds"]),
                "{:.1f} to {:.1f}".format(*(100 * x for x in row["interval"])),
                row["items"],
                f"{100 * row['majority']:.1f}",
            ]
            for row in self.rows
        ]
        titles = list(dict.fromkeys(row["title"] for row in self.rows))
        others = [
            [model, split, *(figures.get(t, "–") for t in titles)] for model, split, figures in PUBLISHED
        ]
        lines = [table(header, rows), "", table(["published", "split", *titles], others)]
        return "\n".join([*lines, *(f"{name}: {why}" for name, why in self.missing.items())])


def finetune_glue(
    model: str | Path, out: Path, config: GlueConfig, compute: Compute = PLAIN, console: Console = QUIET
) -> GlueResults:
    """Fine-tune a model on GLUE's tasks, or go on with that; results.json in `out` has what is returned.

    Raises `InputError` when a task that was asked for has no data, `ConfigError` for a name that is none.
    """
    asked = [glue_task(name).name for name in config.tasks]
    rows, missing, source = list[Json](), dict[str, str](), load(model)
    made_from = weights_digest(source.net)
    del source
    with Workspace(out) as work:
        for name in asked or TASKS:
            task = TASKS[name]
            if name == "ax" and (not asked or "mnli" in asked):
                continue  # with MNLI
            splits = {
                title: read_split(task, s, config.data, config.download) for title, s in task.splits.items()
            }
            train = None if name == "ax" else read_split(task, "train", config.data, config.download)
            if train is None or not any(splits.values()):
                why = lacking(task, "dev" if train else "train", config.data)
                if name == "ax":
                    why = "it is asked of MNLI's classifiers: name mnli too"
                if asked:
                    raise InputError(why if name != "ax" else f"AX has no training data; {why}")
                missing[task.title] = why
                continue
            held = {title: split for title, split in splits.items() if split}
            if name == "mnli" and (ax := read_split("ax", "dev", config.data, config.download)):
                held["AX"] = ax
            said = [
                run(work, model, made_from, task, train, held, config, i, compute, console)
                for i in range(config.seeds)
            ]
            for title, split in held.items():
                measured = TASKS["ax"] if title == "AX" else task
                rows += judged(
                    measured,
                    title,
                    split,
                    [one[title] for one in said],
                    len(drawn(train.examples, config.limit)),
                )
            submit(work.folder, task, config, said, held, compute)
        if not rows:
            raise InputError(f"no task of GLUE has its data at hand: {next(iter(missing.values()))}")
        results = GlueResults(rows, missing)
        write_json(out / "results.json", results.json())
    return results


def run(
    work: Workspace,
    model: str | Path,
    made_from: str,
    task: GlueTask,
    train: Split,
    held: dict[str, Split],
    config: GlueConfig,
    seed: int,
    compute: Compute,
    console: Console,
) -> dict[str, Values]:
    """One run of a task: its outputs on the held-out splits, [items, classes] each."""
    seed += config.supervised.seed
    how = SupervisedConfig(**{**vars(config.supervised), "seed": seed})
    files = [state(path) for split in (train, *held.values()) for path in split.paths]
    settings: Json = {"model": made_from, "task": task.name, "files": files, "how": how.settings()}
    settings |= {name: getattr(config, name) for name in ("layout", "max_tokens", "limit", "from_scratch")}
    stage = f"{task.name}/seed-{seed}"

    def do(folder: Path) -> Json:
        source = load(model)
        if config.from_scratch:
            source = Model(GPT2(source.net.config, seed), source.tokenizer)
        source.net.to(compute.device)
        examples = drawn(train.examples, config.limit)
        purpose = purpose_of(task, examples, config.layout, config.max_tokens)
        title = f"{task.title}, seed {seed}"
        made = train_classifier(source, purpose, examples, how, folder, compute, console, title)
        made.save(folder / "classifier")
        for name, split in held.items():
            outputs = made.outputs(made.read(split.texts), compute=compute)
            with atomic_write(folder / f"{name}.npy") as stream:
                np.save(stream, outputs)
        forget(folder)
        return {"items": len(examples)}

    work.run(stage, settings, do)
    return {name: np.load(work.folder / stage / f"{name}.npy") for name in held}


def train_classifier(
    source: Model,
    purpose: Purpose,
    examples: Sequence[Example],
    how: SupervisedConfig,
    folder: Path,
    compute: Compute = PLAIN,
    console: Console = QUIET,
    title: str = "fine-tuning",
) -> TextClassifier:
    """A classifier learned from examples, the source's network taken over; goes on from what is in `folder`."""
    made = TextClassifier.over(source.net, source.tokenizer, purpose, how.seed)
    made.network.to(compute.device)
    items = made.read([example.texts for example in examples])
    if cut := sum(item.cut for item in items):
        console.say(
            f"{title}: {cut:,} of {len(items):,} training items are longer than {made.room} and are cut"
        )
    lessons = Lessons(made, items, [e.label for e in examples if e.label is not None], how, compute)
    learn(made.network, lessons.loss, lessons.steps, how, folder, compute, console, title)
    made.card = {
        "fine_tuned_on": f"{len(examples):,} items",
        "settings": how.settings(),
        "versions": versions(),
    }
    return made


def purpose_of(
    task: GlueTask, examples: Sequence[Example], layout: Layout, max_tokens: int | None
) -> Purpose:
    """What a classifier of this task is for; refuses training items that teach nothing."""
    labels = [e.label for e in examples if e.label is not None]
    if len(labels) < len(examples):
        raise InputError(
            f"{len(examples) - len(labels)} training items of {task.title} have no label; leave them out"
        )
    if len(set(labels)) < 2:
        only = (task.labels[int(labels[0])] if task.labels else f"{labels[0]:g}") if labels else "nothing"
        raise TooLittleData(
            f"all {len(labels)} training items of {task.title} are labelled {only!r}: there is nothing to tell apart"
        )
    scores = np.array(labels)
    mean, deviation = (0.0, 1.0) if task.labels else (float(scores.mean()), float(scores.std()))
    both = task.both and layout == "gpt1"  # transformers' classifier, which plain is, reads one order
    return Purpose(task.title, task.labels, task.pair, both, layout, max_tokens, mean, deviation)


def drawn(examples: Sequence[Example], limit: int | None) -> Sequence[Example]:
    """At most so many of the examples, drawn at random under seed 0."""
    if limit is None or limit >= len(examples):
        return examples
    rows = np.random.default_rng(0).permutation(len(examples))[:limit]
    return [examples[i] for i in sorted(rows.tolist())]


def judged(task: GlueTask, title: str, split: Split, said: Sequence[Any], trained_on: int) -> list[Json]:
    """A row of results for each of the task's metrics."""
    wanted = np.array(split.labels)
    runs = [answers(outputs, task.labels) for outputs in said]
    rows = []
    for metric in task.metrics:
        seeds = [score(metric, run, wanted) for run in runs]
        rows.append(
            {
                "task": title,
                "title": task.title,
                "metric": metric,
                "mean": float(np.mean(seeds)),
                "deviation": float(np.std(seeds, ddof=1)) if len(seeds) > 1 else 0.0,
                "seeds": seeds,
                "interval": interval(metric, runs, wanted),
                "items": len(wanted),
                "left_out": split.left_out,
                "trained_on": trained_on,
                "majority": score(metric, majority(task, wanted), wanted),
                "split": ", ".join(path.name for path in split.paths),
            }
        )
    return rows


def majority(task: GlueTask, wanted: Values) -> Values:
    """What whoever has read nothing says: the commonest class, or the mean score."""
    if not task.labels:
        return np.full(len(wanted), wanted.mean())
    classes, counts = np.unique(wanted, return_counts=True)
    return np.full(len(wanted), classes[counts.argmax()])


def submit(
    out: Path,
    task: GlueTask,
    config: GlueConfig,
    said: Sequence[dict[str, Values]],
    held: dict[str, Split],
    compute: Compute,
) -> None:
    """The leaderboard's files by the best seed, where there are test files."""
    tests = {title: split.replace("dev", "test") for title, split in task.splits.items()}
    found = {title: read_split(task, split, config.data, config.download) for title, split in tests.items()}
    if task.name == "mnli":
        found["AX"] = read_split("ax", "test", config.data, config.download)
    if not any(found.values()):
        return
    first = next(iter(held))
    wanted = np.array(held[first].labels)
    figures = [score(task.metrics[0], answers(one[first], task.labels), wanted) for one in said]
    best = int(np.argmax(figures)) + config.supervised.seed
    made = TextClassifier.load(out / task.name / f"seed-{best}")
    made.network.to(compute.device)
    for title, test in found.items():
        if test and all(example.label is None for example in test.examples):
            outputs = made.outputs(made.read(test.texts), compute=compute)
            ids = [example.id for example in test.examples]
            write_submission(out / "submission", title, task, ids, outputs)
