"""What pretraining is worth when a model is fine-tuned: GLUE with and without it, and decaNLP in one model.

GPT2_PRETRAINED names a GPT-2 that was trained on the prose at hand. Of SST-2, CoLA, MRPC and STS-B each is learned
from that model and from fresh weights of the same shape, three seeds each, the same items in the same order. Both
sides are tuned alike: each of the same rates for one epoch on a thousand training items, the lowest loss on 500
others being the best, and one rate more where the best is the lowest or the highest.
Figures are those on the development set (MRPC: the original test set); differences, to the other side and to whoever
always says the commonest class, have a paired 95 % bootstrap interval over items. RTE and WNLI are learned once, to
see that every task whose data is at hand is learned and measured. decaNLP's tasks are then learned by one model, and
asked of it and, with the same prompts, of the model before.

Passed, when pretraining is better than both on at least two of the four, CoLA counting only with the lower end of
Matthews' interval above 0. What did not help is printed too.

It takes hours. Each part is done once and kept in the folder GPT2_FINETUNE (default: gpt2-finetune in the system's
temporary folder), so it may be stopped and started again; the side that needs no pretraining comes first.

    GPT2_DATA=DATA GPT2_PRETRAINED=RUN GPT2_FINETUNE=STATE python -m acceptance finetuning
    GPT2_DATA=DATA GPT2_PRETRAINED=RUN python -m acceptance.finetuning --tiny     all of it small, to see that it works
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from gpt2.console import Console, table
from gpt2.errors import InputError
from gpt2.finetuning.decanlp import DecaConfig, finetune_decanlp
from gpt2.finetuning.glue import drawn, majority, purpose_of, train_classifier
from gpt2.finetuning.glue_files import Example, Split, read_split
from gpt2.finetuning.glue_scores import Difference, Values, answers, difference, interval, loss, score
from gpt2.finetuning.glue_tasks import TASKS, GlueTask
from gpt2.finetuning.own_text import state
from gpt2.finetuning.supervised import GPT1, SupervisedConfig, forget
from gpt2.model.checkpoint import Model, load
from gpt2.model.device import choose
from gpt2.model.transformer import GPT2
from gpt2.training.beginning import weights_digest
from gpt2.workspace import Json, Workspace, atomic_write

SIDES = ("fresh", "pretrained")
FOUR = ("sst2", "cola", "mrpc", "stsb")
ONCE = ("rte", "wnli")


@dataclass(frozen=True)
class Settings:
    """How large the comparison is."""

    seeds: int = 3
    rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3)
    epochs: float = 3.0
    batch: int = 32
    max_tokens: int = 48
    most: tuple[tuple[str, int], ...] = (
        ("sst2", 3000),
        ("cola", 4000),
        ("mrpc", 1000),
        ("stsb", 2000),
        ("rte", 1000),
    )
    """Training items at most: fewer where they are read in both orders or are long."""
    tuned_on: int = 1000
    tuned_by: int = 500
    held: int | None = None
    """Held-out items at most."""


DECA = DecaConfig(
    steps=600,
    curriculum="round-robin",
    supervised=SupervisedConfig(
        batch=16, optimizer=dataclasses.replace(GPT1, learning_rate=3e-4, warmup=0.1), save_every_seconds=120
    ),
    max_tokens=256,
    answer_tokens=48,
    limit=200,
)
"""The joint model."""
TINY = Settings(2, (1e-3, 3e-3), 0.2, 16, 24, tuple((name, 200) for name in (*FOUR, *ONCE)), 40, 40, 60)


def main() -> None:
    """Do what is left to do, then compare; raises `AssertionError` when pretraining helps on too few tasks."""
    for name in ("GPT2_DATA", "GPT2_PRETRAINED"):
        if name not in os.environ:
            raise InputError(f"set {name}, as this file says at its top")
    tiny = "--tiny" in sys.argv
    state = Path(os.environ.get("GPT2_FINETUNE", Path(tempfile.gettempdir()) / "gpt2-finetune"))
    with Workspace(state / ("tiny" if tiny else "whole")) as work:
        Comparison(TINY if tiny else Settings(), work).go(tiny)


class Comparison:
    """All parts, each done once."""

    def __init__(self, settings: Settings, work: Workspace) -> None:
        self.settings, self.work, self.compute = settings, work, choose("cpu")
        self.model = Path(os.environ["GPT2_PRETRAINED"])
        self.console = Console()
        self.data = {name: self.splits(name) for name in (*FOUR, *ONCE)}

    def splits(self, name: str) -> tuple[Split, Split]:
        """Training and held-out items of a task."""
        found = [read_split(name, split) for split in ("train", "dev")]
        if found[0] is None or found[1] is None:
            raise InputError(f"there is no {TASKS[name].title} in GPT2_DATA")
        held = dataclasses.replace(found[1], examples=list(drawn(found[1].examples, self.settings.held)))
        return found[0], held

    def go(self, tiny: bool) -> None:
        """Both sides, the fresh one first; the table; the other tasks; the verdict."""
        shape = load(self.model).net.config
        print(f"{shape.num_parameters():,} parameters, {shape.n_layer} layers of {shape.n_embd} channels")
        runs = {(side, name): self.learned(side, name) for side in SIDES for name in FOUR}
        won = [name for name in FOUR if self.verdict(name, runs)]
        for name in ONCE:
            said = [answers(self.run("pretrained", name, self.settings.rates[1], 0), TASKS[name].labels)]
            wanted = np.array(self.data[name][1].labels)
            self.figures(name, {"commonest": [majority(TASKS[name], wanted)], "pretrained": said})
        self.decanlp(tiny)
        print(
            f"pretraining is better than fresh weights and than the commonest class on: {', '.join(won) or 'none'}"
        )
        assert tiny or len(won) >= 2, "pretraining helps on fewer than two of the four tasks"

    @cache  # noqa: B019, there is one of these in a process
    def source(self, side: str) -> str:
        """What a side begins from, so that another model's runs are made anew."""
        model = load(self.model)
        if side == "fresh":
            return repr(model.net.config) + model.tokenizer.fingerprint
        done, _, steps = str(model.card.get("steps", "")).partition(" of ")
        if done != steps:
            raise InputError(
                f"the pretraining in {self.model} is at step {done} of {steps}; run this again when it is done"
            )
        card = {
            name: model.card[name] for name in ("tokens_trained_on", "heldout_loss") if name in model.card
        }
        print("pretrained: " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in card.items()))
        return weights_digest(model.net)

    def learned(self, side: str, name: str) -> list[Values]:
        """What a side says of a task's held-out items, one row a seed, with the rate that is best for it.

        The best has the lowest loss, which has no ties; at an edge one rate beyond it is tried too.
        """
        task, rates = TASKS[name], sorted(self.settings.rates)
        wanted = np.array([example.label for example in self.tuning(name)[1]])

        def tried(rate: float) -> float:
            return loss(self.run(side, name, rate, 0, tuning=True), task.labels, wanted)

        losses = {rate: tried(rate) for rate in rates}
        best = min(losses, key=losses.__getitem__)
        if best in (rates[0], rates[-1]):
            beyond = float(f"{best / 3 if best == rates[0] else best * 3:.1g}")
            losses[beyond] = tried(beyond)
            best = min(losses, key=losses.__getitem__)
        shown = ", ".join(f"{rate:g}: {value:.4f}" for rate, value in sorted(losses.items()))
        print(f"{side:10} {task.title:6} loss by rate {shown}; {best:g} is taken")
        return [answers(self.run(side, name, best, i), task.labels) for i in range(self.settings.seeds)]

    def tuning(self, name: str) -> tuple[Sequence[Example], Sequence[Example]]:
        """Training items to try rates on, and others to measure them by."""
        s, examples = self.settings, self.data[name][0].examples
        mixed = [examples[i] for i in np.random.default_rng(1).permutation(len(examples)).tolist()]
        return mixed[: s.tuned_on], mixed[s.tuned_on : s.tuned_on + s.tuned_by]

    def run(self, side: str, name: str, rate: float, seed: int, tuning: bool = False) -> Values:
        """A classifier's outputs on the held-out items, learned from a side's first weights."""
        s, task = self.settings, TASKS[name]
        train, held = (
            self.tuning(name) if tuning else (self.data[name][0].examples, self.data[name][1].examples)
        )
        train = drawn(train, dict(s.most).get(name))
        how = SupervisedConfig(
            epochs=min(1.0, s.epochs) if tuning else s.epochs,
            batch=s.batch,
            optimizer=dataclasses.replace(GPT1, learning_rate=rate, warmup=0.1),
            seed=seed,
        )
        stage = f"{side}-{name}-{rate:g}-{'tuning' if tuning else seed}"
        files = [state(path) for split in self.data[name] for path in split.paths]
        asked = {"from": self.source(side), "settings": dataclasses.asdict(s), "how": how.settings()}
        asked["files"] = files
        self.work.run(stage, asked, lambda folder: self.train(folder, side, task, train, held, how))
        outputs: Values = np.load(self.work.folder / stage / "outputs.npy")
        return outputs

    def train(
        self,
        folder: Path,
        side: str,
        task: GlueTask,
        train: Sequence[Example],
        held: Sequence[Example],
        how: SupervisedConfig,
    ) -> Json:
        """The same, in a folder; a run that was stopped goes on."""
        model, begun = load(self.model), time.monotonic()
        if side == "fresh":
            model = Model(GPT2(model.net.config, how.seed), model.tokenizer)
        purpose = purpose_of(task, train, "gpt1", self.settings.max_tokens)
        made = train_classifier(model, purpose, train, how, folder, self.compute, self.console, folder.name)
        outputs = made.outputs(made.read([example.texts for example in held]))
        with atomic_write(folder / "outputs.npy") as stream:
            np.save(stream, outputs)
        forget(folder)
        print(f"  {folder.name}: {(time.monotonic() - begun) / 60:.1f} min", flush=True)
        return {"items": len(train)}

    def decanlp(self, tiny: bool) -> None:
        """One model for decaNLP's tasks, and the model before with the same prompts."""
        config = dataclasses.replace(DECA, data=Path(os.environ["GPT2_DATA"]))
        if tiny:
            config = dataclasses.replace(config, steps=6, limit=4, max_tokens=64)
        out = self.work.folder / f"decanlp-{self.source('pretrained')}"
        found = finetune_decanlp(self.model, out, config, self.compute, self.console)
        print(f"decaNLP, {config.curriculum}, {config.steps} steps of {config.supervised.batch} records:")
        print(found.table(), flush=True)

    def figures(self, name: str, sides: dict[str, Sequence[Values]]) -> None:
        """Print what each side says of a task: the figure of each seed, and the interval of their mean."""
        task, wanted = TASKS[name], np.array(self.data[name][1].labels)
        rows: list[list[object]] = []
        for metric in task.metrics:
            for side, said in sides.items():
                seeds = [100 * score(metric, run, wanted) for run in said]
                low, high = (100 * x for x in interval(metric, said, wanted))
                each = " ".join(f"{x:.1f}" for x in seeds)
                rows.append(
                    [task.title, metric, side, f"{np.mean(seeds):.1f}", each, f"{low:.1f} to {high:.1f}"]
                )
        print("\n" + table(["task", "metric", "side", "mean", "seeds", "95 % over items"], rows), flush=True)

    def verdict(self, name: str, runs: dict[tuple[str, str], list[Values]]) -> bool:
        """Print what a task shows; whether pretraining is better than fresh weights and than the commonest class."""
        task, wanted = TASKS[name], np.array(self.data[name][1].labels)
        ours, theirs = runs["pretrained", name], runs["fresh", name]
        never = [majority(task, wanted)]
        self.figures(name, {"commonest": never, "fresh": theirs, "pretrained": ours})
        metric = task.metrics[0]
        found = [difference(metric, ours, other, wanted) for other in (theirs, never)]
        for other, d in zip(("fresh", "commonest"), found, strict=True):
            print(f"  {task.title} {metric}: pretrained less {other} {shown(d)}")
        won = all(d.interval[0] > 0 for d in found)
        return won and (name != "cola" or interval(metric, ours, wanted)[0] > 0)


def shown(d: Difference) -> str:
    """A difference in points with its interval, called noise where it is that."""
    low, high = d.interval
    noise = ", within noise" if low <= 0 <= high else ""
    return f"{100 * d.value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}{noise})"


if __name__ == "__main__":
    main()
