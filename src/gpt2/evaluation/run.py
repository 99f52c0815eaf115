"""The paper's tasks, asked of a model: items in, rows out, restartable.

Each task's items are asked many at a time (`gpt2.evaluation.asking`), in parts whose size depends on the model
alone. With an output folder every part is written as it is done (`gpt2.evaluation.records`), so that a run
that was killed, or one with more items, asks only what is missing. Under torchrun the parts are dealt out to
the processes, which share the output folder. Nothing depends on chance, on the order, or on the number of
processes: what is drawn is seeded by the item's name.

    results = gpt2.evaluate(gpt2.load("run"), tasks=["lambada"], data="my_data")
    torchrun --nproc-per-node 4 -m gpt2 evaluate run --tasks all --out results
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path

from gpt2.console import QUIET, Bar, Console
from gpt2.errors import ConfigError, WorkbenchError, nearest, sentence
from gpt2.evaluation.asking import ask, size
from gpt2.evaluation.datasets import Library
from gpt2.evaluation.protocol import Protocol
from gpt2.evaluation.published import judge, size_of
from gpt2.evaluation.records import Record, key, read_records, write_records
from gpt2.evaluation.results import Results, Row, aggregate
from gpt2.evaluation.task import Item, Malformed, Task
from gpt2.evaluation.tasks import tasks_named
from gpt2.model.checkpoint import Model, load
from gpt2.model.device import PLAIN, Compute
from gpt2.training.trainer import Callback
from gpt2.workspace import Json, Workspace, digest, versions

CHARACTERS_AT_ONCE = 60_000
"""Text of a part for the 124M, a quarter of a minute on a processor; larger models have smaller parts."""
SAMPLE = "The quick brown fox jumps over the lazy dog, 1234 times; naïve."
"""How a vocabulary cuts this tells it from others."""


@dataclass(frozen=True)
class Run:
    """What all tasks of a run share."""

    model: Model
    library: Library
    out: Path | None
    limit: int | None
    compute: Compute
    console: Console
    fingerprint: str
    rank: int
    processes: int

    @property
    def characters(self) -> int:
        """Text of a part."""
        share = 124_000_000 / max(124_000_000, self.model.net.num_parameters())
        return int(CHARACTERS_AT_ONCE * share)


def evaluate(
    model: Model | str | Path,
    tasks: Sequence[str] | str = ("all",),
    data: str | Path | None = None,
    protocols: Sequence[str] | None = None,
    out: str | Path | None = None,
    limit: int | None = None,
    download: bool = False,
    compute: Compute | None = None,
    console: Console = QUIET,
) -> Results:
    """Measure a model on tasks by name; `all` is every task of the paper.

    `data` is the folder that has the data sets (GPT2_DATA when not given), `protocols` keeps only those of
    these names (lambada/last-word, or last-word), `out` is a folder for every item and the results, `limit` is
    for the first items of each task only, `download` allows to get data sets from the hub. Data that is not
    there gives a row that says how to get it. Raises `ConfigError` for an unknown task or protocol,
    `InputError` when there is no such folder or model.
    """
    names = [tasks] if isinstance(tasks, str) else list(tasks)
    if not names:
        raise ConfigError("no task is named; `gpt2 tasks` shows them all")
    chosen = with_protocols(tasks_named(names), protocols)
    if limit is not None and limit < 1:
        raise ConfigError(f"limit must be at least 1, not {limit}")
    library = Library(data, download)
    compute = compute or PLAIN
    if not isinstance(model, Model):
        model = load(model)
        model.net.to(compute.device)
    folder = None if out is None else Path(out)
    with processes(folder) as (rank, count, wait), contextlib.ExitStack() as stack:
        if folder is not None and rank == 0:
            stack.enter_context(Workspace(folder))
        print_of = "" if folder is None else fingerprint(model)
        console = console if rank == 0 else QUIET
        run = Run(model, library, folder, limit, compute, console, print_of, rank, count)
        if count > 1:  # every process asks its own parts; then all read what all have done
            for task, kept in chosen:
                measure(run, task, kept)
            wait()
            run = replace(run, processes=1, console=QUIET)
        rows = [row for task, kept in chosen for row in measure(run, task, kept)]
        results = Results(rows, facts_of(model, compute) | ({"fingerprint": print_of} if folder else {}))
        if folder is not None and rank == 0:
            results.save(folder)
        wait()
    return results


def evaluation_callback(
    tasks: Sequence[str], data: str | Path | None, limit: int | None = None, compute: Compute | None = None
) -> Callback:
    """While training: the tasks' results on their first `limit` items, by the process that calls it alone."""
    chosen, library = with_protocols(tasks_named(tasks), None), Library(data)

    def measure_it(model: Model, step: int) -> Json:  # noqa: ARG001
        run = Run(model, library, None, limit, compute or PLAIN, QUIET, "", 0, 1)
        rows = [row for task, kept in chosen for row in measure(run, task, kept)]
        return {row.protocol: row.value for row in rows if row.value is not None}

    return measure_it


def with_protocols(tasks: Sequence[Task], names: Sequence[str] | None) -> list[tuple[Task, list[Protocol]]]:
    """The tasks that have a protocol of these names, with those; all when no names are given."""
    if names is None:
        return [(task, list(task.protocols)) for task in tasks if not task.on_request]
    known = {name for task in tasks for p in task.protocols for name in (p.id, p.name)}
    for name in names:
        if name not in known:
            of = ", ".join(dict.fromkeys(task.name for task in tasks))
            near = nearest(name, sorted(known))
            raise ConfigError(f"{of}: no protocol {name!r}{near}; `gpt2 tasks` shows them all")
    kept = [(task, [p for p in task.protocols if p.id in names or p.name in names]) for task in tasks]
    return [(task, some) for task, some in kept if some]


def measure(run: Run, task: Task, kept: Sequence[Protocol]) -> list[Row]:
    """The rows of a task, those of the protocols `kept`; without its data, rows that say how to get it."""
    size = size_of(run.model)
    name = task.protocols[0].data
    try:
        found = run.library.find(name)
        if found is None:
            return [without(task, p, size, f"no data: {run.library.lacking(name)}") for p in kept]
        rows, digests = found.rows(), found.digests()
        items = list(task.items(rows))
        good = [item for item in items if isinstance(item, Item)][: run.limit]
        made_from = digest([run.fingerprint, run.compute.dtype, digests, [asdict(p) for p in task.protocols]])
        records = asked(run, task, good, made_from)
        done = [r for r in records if not r.malformed]
        units = [r.item.group or r.item.id for r in done]
        values = aggregate(kept, [r.measured for r in done], units) if run.processes == 1 else {}
    except (WorkbenchError, OSError, UnicodeDecodeError) as error:
        return [without(task, p, size, f"not measured: {sentence(error) or error}") for p in kept]
    bad = [item.reason for item in items if isinstance(item, Malformed)]
    reasons = Counter(bad + [r.malformed for r in records if r.malformed])
    remarks = tuple(task.remarks(rows, [(r.item, r.measured) for r in done]))
    whole = found.is_whole(digests) and not reasons
    lines = []
    for p in kept:
        row = without(task, p, size, "not measured: no item could be asked")
        if value := values.get(p.name):
            low, high = value.interval or (None, None)
            judged = judge(size, p, value.value, value.interval, whole and len(done) == task.whole)
            row = replace(
                row, value=value.value, low=low, high=high, n=value.n, verdict=judged.verdict,
                data=f"{found.label(digests)}; {amount(len(done), task.whole, run.limit)}",
                cut=sum(r.cut for r in done), remarks=remarks,
            )  # fmt: skip
        lines.append(replace(row, malformed=sum(reasons.values()), reasons=dict(reasons)))
    return lines


def without(task: Task, protocol: Protocol, size: str | None, reason: str) -> Row:
    """A row without a value: what is known of the number, and why it was not measured."""
    known = judge(size, protocol, None)
    return Row(
        task.name, protocol.id, protocol.metric, None, None, None, 0, task.whole,
        known.paper, known.paper_size, known.reproducible, known.source, reason, "", 0, {}, 0, asdict(protocol),
    )  # fmt: skip


def amount(n: int, whole: int | None, limit: int | None) -> str:
    """How much of the whole split was measured, in words."""
    if whole is None:
        said = f"{n:,} items"
    else:
        said = f"all {n:,} items" if n == whole else f"{n:,} of {whole:,} items"
    return f"{said}, limited to the first {limit:,}" if limit is not None and n >= limit else said


def asked(run: Run, task: Task, items: Sequence[Item], made_from: str) -> list[Record]:
    """The records of the items: those that are there are read, this process's others are asked."""
    protocols = task.protocols
    place = f"{task.name}.{protocols[0].data}.{protocols[0].name}"
    folder = run.out / "items" / place if run.out else None
    known = read_records(folder, made_from, protocols, items) if folder else {}
    keys = {id(item): key(item) for item in items}
    parts = cut(items, run.characters)[run.rank if run.processes > 1 else 0 :: run.processes]
    weight = sum(map(weight_of, chain(*parts)))
    with run.console.progress(f"{task.name} {protocols[0].name}", weight, "characters") as bar:
        for part in parts:
            missing = [item for item in part if keys[id(item)] not in known]
            bar.skip(sum(map(weight_of, part)) - sum(map(weight_of, missing)))
            if missing:
                found = answered(run, task, missing, bar)
                known |= {keys[id(record.item)]: record for record in found}
                if folder:
                    write_records(folder, made_from, protocols, found, run.rank, run.processes)
            bar.advance(0, note=f"{len(known):,} of {len(items):,} items")
    return [known[keys[id(item)]] for item in items if keys[id(item)] in known]


def weight_of(item: Item) -> int:
    """Characters of all that is asked of an item at first."""
    return sum(size(request) for request in item.requests)


def answered(run: Run, task: Task, part: Sequence[Item], bar: Bar) -> list[Record]:
    """Ask the items of a part."""

    def more(characters: float) -> None:
        bar.total = (bar.total or 0) + characters

    records = []
    for item, found in zip(part, ask(run.model, task, part, run.compute, bar.advance, more), strict=True):
        if isinstance(found, Malformed):
            records.append(Record(item, {}, malformed=found.reason))
        else:
            records.append(Record(item, dict(task.measure(item, found.replies)), found.cut))
    return records


def cut(items: Sequence[Item], characters: int) -> list[list[Item]]:
    """Items in parts of about as many characters."""
    parts: list[list[Item]] = []
    held = characters
    for item in items:
        if held >= characters:
            parts.append([])
            held = 0
        parts[-1].append(item)
        held += weight_of(item)
    return parts


def fingerprint(model: Model) -> str:
    """A digest of a model's weights and vocabulary."""
    sha = hashlib.sha256(repr(model.net.config).encode())
    for name, weight in sorted(model.net.state_dict().items()):
        sha.update(name.encode())
        sha.update(weight.detach().cpu().contiguous().numpy().data)
    sha.update(" ".join(map(str, model.tokenizer.encode(SAMPLE))).encode())
    return sha.hexdigest()


def facts_of(model: Model, compute: Compute) -> Json:
    """What a result must say of the model it was measured with."""
    return {
        "parameters": model.net.num_parameters(),
        "size": size_of(model),
        **{f: getattr(model.net.config, f) for f in ("n_layer", "n_head", "n_embd", "n_ctx", "vocab_size")},
        "dtype": compute.dtype,
        "versions": versions(),
    }


@contextlib.contextmanager
def processes(out: Path | None) -> Iterator[tuple[int, int, Callable[[], None]]]:
    """This process's number, how many there are under torchrun, and a way to wait for the others."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield 0, 1, lambda: None
        return
    if out is None:
        raise ConfigError("several processes need a folder that they share; give one (--out DIR)")
    import torch.distributed as dist

    if os.environ.get("LOCAL_WORLD_SIZE") == str(count):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    begun = not dist.is_initialized()
    if begun:
        dist.init_process_group("gloo")
    try:
        yield dist.get_rank(), count, dist.barrier
    finally:
        if begun:
            dist.destroy_process_group()
