"""decaNLP: ten tasks as question answering, learned by one model, and the same prompts put to it before.

Every record is one text, `CONTEXT`, a line end, `Q: QUESTION`, a line end, `A: ANSWER`, and <|endoftext|>; the loss is
that of answer and end alone. One language model learns all tasks whose data is at hand, and stays an ordinary
model: what comes out opens in evaluate, score, generate and convert. Answers are generated greedily up to a line
end. The model as it was is asked in the very same words first, so that supervised and unsupervised stand side by
side, which is what the paper asks about.

A step's examples are of one task. Curricula (McCann et al. 2018):

    sampling      the task of each step is drawn, by how many records it has
    round-robin   the tasks in turn
    squad-first   SQuAD alone for a third of the steps, then in turn (75,000 iterations in the original)

Stated rules: what does not fit loses the end of its context, and then the end of its answer (a third of the room
at least is the answer's); question and marks stay. With `limit`, held-out records are a random draw under seed 0,
but WOZ's whole dialogues. Rejected: a separate head for answers that are spans, as decaNLP's pointer is, for then
the model would no longer be the one that is asked zero-shot.

    gpt2 finetune decanlp MODEL --data my_data --out RUN --steps 2000
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gpt2.console import QUIET, Console, table
from gpt2.errors import ConfigError, InputError, TooLittleData, nearest
from gpt2.evaluation.datasets import Library
from gpt2.finetuning.decanlp_files import Query
from gpt2.finetuning.decanlp_scores import METRICS, MQAN, deca_score, measure
from gpt2.finetuning.decanlp_tasks import find_task
from gpt2.finetuning.own_text import state
from gpt2.finetuning.supervised import SupervisedConfig, forget, learn, order
from gpt2.inference.continuations import generate_ids
from gpt2.inference.sampling import Sampling
from gpt2.model.checkpoint import Model, load
from gpt2.model.device import DTYPES, PLAIN, Compute
from gpt2.tokens.bpe import Tokenizer
from gpt2.training.beginning import weights_digest
from gpt2.training.loss import chunked_cross_entropy
from gpt2.workspace import Json, Workspace, atomic_write, versions, write_json

Curriculum = Literal["sampling", "round-robin", "squad-first"]
CURRICULA: tuple[Curriculum, ...] = ("sampling", "round-robin", "squad-first")
FIRST = 1 / 3
"""Share of the steps that squad-first gives to SQuAD alone."""


@dataclass(frozen=True)
class DecaConfig:
    """What to learn jointly, and how."""

    steps: int
    """Steps in all; `supervised.epochs` has no say."""
    tasks: tuple[str, ...] = ()
    """Names; none for all whose data is at hand."""
    data: Path | None = None
    """Folder that has the tasks' files somewhere in it."""
    curriculum: Curriculum = "round-robin"
    """Which task a step's examples are of."""
    supervised: SupervisedConfig = field(default_factory=SupervisedConfig)
    """How the model learns."""
    max_tokens: int | None = None
    """Tokens of a record at most; None for the model's context."""
    answer_tokens: int = 64
    """Tokens of a generated answer at most."""
    limit: int | None = None
    """Held-out records of each task at most."""

    def __post_init__(self) -> None:
        for name in self.tasks:
            if name not in METRICS:
                raise ConfigError(
                    f"decaNLP has no task {name!r}{nearest(name, METRICS)}; it has {', '.join(METRICS)}"
                )
        if self.curriculum not in CURRICULA:
            raise ConfigError(f"curriculum is one of {', '.join(CURRICULA)}, not {self.curriculum!r}")
        for name in ("steps", "answer_tokens", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, not {value}")
        if self.max_tokens is not None and self.max_tokens < 32:
            raise ConfigError(f"max_tokens must be at least 32, not {self.max_tokens}")


@dataclass(frozen=True)
class DecaResults:
    """What came out: a row a task."""

    rows: list[Json]
    missing: list[str]
    """Tasks without data."""

    def json(self) -> Json:
        """For programs."""
        scores = {
            name: deca_score({r["task"]: r[name] for r in self.rows})[0] for name in ("zero_shot", "tuned")
        }
        return {"rows": self.rows, "deca_score": scores, "missing": self.missing, "versions": versions()}

    def table(self) -> str:
        """For people."""
        header = ["task", "metric", "zero-shot", "fine-tuned", "records", "held out", "MQAN", "data"]
        rows: list[list[object]] = [
            [
                r["task"],
                r["metric"],
                f"{r['zero_shot']:.1f}",
                f"{r['tuned']:.1f}",
                r["trained_on"],
                r["items"],
                f"{MQAN[r['task']]}",
                r["data"],
            ]
            for r in self.rows
        ]
        scores, known = self.json()["deca_score"], sum(MQAN[r["task"]] for r in self.rows)
        rows.append(
            ["sum", "", f"{scores['zero_shot']:.1f}", f"{scores['tuned']:.1f}", "", "", f"{known:.1f}", ""]
        )
        lacking = (
            f"missing: {', '.join(self.missing)}"
            if self.missing
            else "none is missing: this is the decaScore"
        )
        return f"{table(header, rows)}\n\n{len(self.rows)} of decaNLP's 10 tasks; {lacking}"


def finetune_decanlp(
    model: str | Path, out: Path, config: DecaConfig, compute: Compute = PLAIN, console: Console = QUIET
) -> DecaResults:
    """One model for all tasks, in `out`/tuned/model, or go on with that; answers and results.json in `out`.

    Raises `InputError` when a task that was asked for has no data, `TooLittleData` when none has.
    """
    folders = Library(config.data).folders
    found = {name: find_task(name, folders) for name in config.tasks or METRICS}
    there = {name: task for name, task in found.items() if task and task.train and task.dev}
    if lacking := [name for name in config.tasks if name not in there]:
        raise InputError(
            f"there is no data of decaNLP's {lacking[0]} in {' or '.join(map(str, folders))}; "
            "name its folder with --data"
        )
    if not there:
        raise TooLittleData(
            "no task of decaNLP has its data at hand; name the folder that has it with --data"
        )
    train = {name: task.train for name, task in there.items()}
    held = {name: shorter(name, task.dev, config.limit) for name, task in there.items()}
    made_from = weights_digest(load(model).net)
    asked: Json = {"model": made_from, "max_tokens": config.max_tokens, "answer_tokens": config.answer_tokens}
    asked |= {"held": {name: len(queries) for name, queries in held.items()}, "limit": config.limit}
    asked["files"] = {name: [state(path) for path in task.paths] for name, task in there.items()}
    how: Json = {"steps": config.steps, "curriculum": config.curriculum, "how": config.supervised.settings()}
    how |= {"trained_on": {name: len(queries) for name, queries in train.items()}}
    with Workspace(out) as work:

        def before(folder: Path) -> Json:
            return ask(load(model), held, config, folder, compute, console, "zero-shot")

        def after(folder: Path) -> Json:
            made = folder / "model"
            if not (made / "card.json").exists():
                source = load(model)
                teach(source, train, config, folder, compute, console)
                source.save(made)
            forget(folder)
            return ask(load(made), held, config, folder, compute, console, "fine-tuned")

        zero = work.run("zero-shot", asked, before)
        tuned = work.run("tuned", asked | how, after)
        rows = [
            {
                "task": name,
                "metric": METRICS[name][0],
                "zero_shot": zero[name],
                "tuned": tuned[name],
                "trained_on": len(train[name]),
                "items": len(held[name]),
                "data": there[name].data,
            }
            for name in there
        ]
        results = DecaResults(rows, [name for name in METRICS if name not in there])
        write_json(out / "results.json", results.json())
    return results


def shorter(name: str, queries: Sequence[Query], limit: int | None) -> list[Query]:
    """At most so many records; of WOZ the first dialogues that have as many turns."""
    if limit is None or limit >= len(queries):
        return list(queries)
    if name != "woz.en":
        rows = sorted(np.random.default_rng(0).permutation(len(queries))[:limit].tolist())
        return [queries[i] for i in rows]
    dialogues = [str(query.facts["turn"]).rpartition("_")[0] for query in queries]
    kept = set(dialogues[:limit])
    return [query for query, dialogue in zip(queries, dialogues, strict=True) if dialogue in kept]


def prompt(tok: Tokenizer, query: Query, room: int) -> list[int]:
    """Ids of what stands before an answer; the context loses its end where they would be more than `room`."""
    asked = tok.encode(f"\nQ: {query.question}\nA:")
    return [*tok.encode(query.context)[: max(0, room - len(asked))], *asked][-room:]


def lesson(tok: Tokenizer, query: Query, room: int) -> tuple[list[int], int]:
    """Ids of a record, and where its answer begins."""
    answer = [*tok.encode(f" {' '.join(query.answer.split())}"), tok.end_of_text]
    answer = answer[: max(room // 3, room - len(prompt(tok, query, room)))]
    before = prompt(tok, query, room - len(answer))
    return [*before, *answer], len(before)


def timetable(
    lengths: dict[str, list[int]], steps: int, batch: int, curriculum: Curriculum, seed: int
) -> list[tuple[str, list[int]]]:
    """The task of each step and which of its records are learned from, a function of the seed."""
    names, rng = list(lengths), np.random.default_rng([seed, 1])
    if curriculum == "sampling":
        counts = np.array([len(lengths[name]) for name in names], np.float64)
        tasks = [names[i] for i in rng.choice(len(names), steps, p=counts / counts.sum())]
    else:
        alone = round(FIRST * steps) if curriculum == "squad-first" else 0
        if alone and "squad" not in names:
            raise InputError("squad-first needs the data of SQuAD, which is not at hand; take round-robin")
        tasks = ["squad"] * alone + [names[i % len(names)] for i in range(steps - alone)]
    streams = {}
    for name in names:
        epochs = tasks.count(name) * batch / len(lengths[name]) + 1
        streams[name] = iter(order(lengths[name], batch, epochs, seed))
    return [(name, next(streams[name])) for name in tasks]


def teach(
    source: Model,
    train: dict[str, list[Query]],
    config: DecaConfig,
    folder: Path,
    compute: Compute = PLAIN,
    console: Console = QUIET,
) -> None:
    """Change a model so that it answers; goes on from what is in `folder`."""
    net, tok, how = source.net.to(compute.device), source.tokenizer, config.supervised
    room = min(net.config.n_ctx, config.max_tokens or net.config.n_ctx)
    lessons = {name: [lesson(tok, query, room) for query in queries] for name, queries in train.items()}
    lengths = {name: [len(ids) for ids, _ in found] for name, found in lessons.items()}
    plan = timetable(lengths, config.steps, how.batch, config.curriculum, how.seed)

    def loss(step: int) -> Tensor:
        name, rows = plan[step]
        return answer_loss(source, [lessons[name][i] for i in rows], compute)

    learn(net, loss, config.steps, how, folder, compute, console, "decaNLP")
    card = {
        "fine_tuned_on": f"decaNLP: {', '.join(train)}",
        "curriculum": config.curriculum,
        "steps": config.steps,
    }
    source.card = card | {"settings": how.settings(), "versions": versions()}


def answer_loss(source: Model, lessons: Sequence[tuple[list[int], int]], compute: Compute = PLAIN) -> Tensor:
    """Nats a token of the answers alone."""
    T = max(len(ids) for ids, _ in lessons)
    ids = torch.zeros(len(lessons), T, dtype=torch.int64)
    wanted = torch.zeros(len(lessons), T, dtype=torch.bool)
    for i, (row, begin) in enumerate(lessons):
        ids[i, : len(row)] = torch.tensor(row)
        wanted[i, begin : len(row)] = True
    ids, wanted = ids.to(compute.device), wanted.to(compute.device)[:, 1:]
    with compute.autocast(ids):
        hidden = source.net.hidden(ids[:, :-1])  # [B, T - 1, C]
    weight, dtype = source.net.wte.weight, DTYPES[compute.dtype]
    return chunked_cross_entropy(hidden[wanted], weight, ids[:, 1:][wanted], dtype)


def ask(
    source: Model,
    held: dict[str, list[Query]],
    config: DecaConfig,
    folder: Path,
    compute: Compute,
    console: Console,
    title: str,
) -> Json:
    """What a model scores on each task; its answers stay in `folder`/TASK.jsonl, and are not asked twice."""
    source.net.to(compute.device).eval()
    scores = {}
    for name, queries in held.items():
        path = folder / f"{name}.jsonl"
        if not path.exists():
            with console.progress(f"{title}: {name}", len(queries), "records") as bar:
                said = answered(source, queries, config, compute)
                bar.advance(len(queries))
            with atomic_write(path, "w") as stream:
                for query, answer in zip(queries, said, strict=True):
                    row = {"question": query.question, "answer": answer, "right": query.right}
                    stream.write(json.dumps(row, ensure_ascii=False) + "\n")
        said = [json.loads(line)["answer"] for line in path.read_text(encoding="utf-8").splitlines()]
        scores[name] = measure(name, said, queries)
    return scores


def answered(
    source: Model, queries: Sequence[Query], config: DecaConfig, compute: Compute = PLAIN
) -> list[str]:
    """Greedy answers, up to a line end."""
    tok, context = source.tokenizer, source.net.config.n_ctx
    room = min(context, config.max_tokens or context)
    new = min(config.answer_tokens, room // 3)
    prompts = [prompt(tok, query, room - new) for query in queries]
    found = generate_ids(source, prompts, new, Sampling(temperature=0), compute=compute, until=["\n"])
    return [tok.decode(ids).partition("\n")[0].strip() for ids in found]
