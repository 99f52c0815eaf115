"""Work on many shards: a plain function mapped over a list of jobs by Daft, on this machine or on a cluster.

A job is a small JSON object that names files; the function reads and writes them itself, each file whole or
not at all, and returns a small JSON object. So what goes through the engine is small, a worker that dies
costs the job it was at, and the same function runs in this process, in Daft's worker processes or on the Ray
cluster at `cluster` (whose machines must see the same paths). Results come in the order in which they are
done. When a worker dies (the system kills the one that takes most memory), Ray starts another; on one
machine the query is started again with the jobs that are left, up to `TRIES` times without progress. What the
work itself raises would be raised again, so it ends the whole at once: a sentence of ours and a fault of the
system's (a full disk) as they are, anything else as a `Fault` with the traceback of the worker.

By hand, 1,197 pages of 50 MB by the fast extractor on two cores: 4.0 s so; 5.8 s with the pages themselves
as rows of a query, which packs and copies each twice; 5.8 s with workers that each read all of an archive and
take every sixth record. Rejected beside these: a pool of processes for one machine and Daft for many, which is
the same thing done in two ways.

    for result in Engine(workers=2).run(Extraction(folder), page_jobs([Path("crawl.warc.gz")])): print(result)
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from gpt2 import errors
from gpt2.errors import ConfigError, WorkbenchError, need
from gpt2.workspace import Json, plain

TRIES = 3
FEWER = "fewer workers (--processes 1) take less memory, and what is done is kept"
QUIET_ENGINE = {
    "DAFT_PROGRESS_BAR": "0",
    "DAFT_SHOW_QUERY_ID": "0",
    "DAFT_ANALYTICS_ENABLED": "0",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


class Fault(RuntimeError):
    """A fault of ours in a worker process, with its traceback."""


class Work(Protocol):
    """What is done with each job; it can be pickled."""

    worth: ClassVar[int]
    """Bytes of input that are worth the seconds in which processes start."""

    def opened(self) -> AbstractContextManager[Callable[[Json], Json]]:
        """The function of jobs, with what it needs at hand until the block ends."""


@dataclass(frozen=True)
class Engine:
    """Where work is done."""

    workers: int | None = None
    """Worker processes; as many as there are cores when not given. With 1 the work is done in this process."""
    cluster: str | None = None
    """Address of a Ray cluster, as 10.0.0.1:6379; this machine when not given."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"{self.workers} workers can do nothing; give 1 or more")

    def run(self, work: Work, jobs: Sequence[Json]) -> Iterator[Json]:
        """The result of each job, in the order in which they are done. Raises what `work` raises."""
        little = len(jobs) < 2 or sum(job["bytes"] for job in jobs) < work.worth
        if self.cluster is None and (little or self.workers == 1):
            with work.opened() as do:
                yield from map(do, jobs)
            return
        yield from self._run_beside(work, jobs)

    def aside(self) -> AbstractContextManager[object]:
        """Within it, what Ray prints of its workers goes to standard error: standard output is for results."""
        return contextlib.redirect_stdout(sys.stderr) if self.cluster else contextlib.nullcontext()

    def _run_beside(self, work: Work, jobs: Sequence[Json]) -> Iterator[Json]:
        left = dict(enumerate(jobs))
        failures = 0
        workers = self.connect()
        while left:
            raised = None
            try:
                for number, result in query(work, left, min(workers, len(left))):
                    if raised := raised_by(result):
                        break
                    del left[number]
                    failures = 0
                    yield result
            except Exception as error:  # whatever Daft or Ray says when a process is gone
                failures += 1
                if failures == TRIES:
                    raise WorkbenchError(
                        f"a worker process died {TRIES} times with {len(left):,} jobs left ({last_line(error)}); "
                        f"{FEWER}"
                    ) from error
            if raised:
                raise raised

    def connect(self) -> int:
        """Make ready for queries, those of other rooms too; returns how many workers there are."""
        os.environ.update(QUIET_ENGINE)
        daft: Any = need("daft", "corpus")
        if self.cluster is None:
            take_native()
            return self.workers or len(os.sched_getaffinity(0))
        ray: Any = need("ray", "cluster")
        if not ray.is_initialized():
            try:
                answers(self.cluster)
                ray.init(
                    self.cluster,
                    log_to_driver=False,
                    logging_level="ERROR",
                    runtime_env={"env_vars": QUIET_ENGINE},
                )
            except (OSError, ValueError, RuntimeError) as error:
                raise errors.InputError(
                    f"there is no Ray cluster at {self.cluster} ({last_line(error)}); start one with "
                    "`ray start --head` and give its address"
                ) from None
        daft.set_runner_ray(noop_if_initialized=True)
        return self.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))


@functools.cache
def take_native() -> None:
    """Tell Daft to use its own engine, once: else it looks for Ray first, whose import takes half a second."""
    daft: Any = need("daft", "corpus")
    with contextlib.suppress(daft.exceptions.DaftCoreException):  # which says that a query has run before
        daft.set_runner_native()


HERE = Engine()
"""All cores of this machine."""


def query(work: Work, jobs: dict[int, Json], workers: int) -> Iterator[tuple[int, Json]]:
    """One query of Daft's: each job's number and what `attempt` gives of it, as they are done."""
    daft: Any = need("daft", "corpus")
    string = daft.DataType.string()

    class Worker:
        """`work` in a process of its own."""

        def __init__(self) -> None:
            self.stack = ExitStack()  # to be closed by the end of the process
            self.do: Callable[[Json], Json] | None = None

        @daft.method(return_dtype=string)  # type: ignore[untyped-decorator]
        def run(self, job: str) -> str:
            return attempt(self.opened, json.loads(job))

        def opened(self, job: Json) -> Json:
            """Do a job; before the first, what `work` opens: it raises here, where it is told."""
            self.do = self.do or self.stack.enter_context(work.opened())
            return self.do(job)

    worker = daft.cls(Worker, use_process=True, max_concurrency=workers)()
    frame = daft.from_pydict(
        {"number": list(jobs), "job": [json.dumps(job, default=plain) for job in jobs.values()]}
    )
    done = frame.into_batches(1).select(frame["number"], worker.run(frame["job"]).alias("result"))
    with warnings.catch_warnings(), daft.execution_config_ctx(maintain_order=False):
        warnings.filterwarnings("ignore", "unclosed file", ResourceWarning)  # pipes that Daft leaves open
        for row in done.iter_rows():
            yield row["number"], json.loads(row["result"])


def answers(cluster: str) -> None:
    """Raise `OSError` where nothing listens at an address, for which Ray itself waits minutes."""
    host, colon, port = cluster.rpartition("://")[2].rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def attempt(do: Callable[[Json], Json], job: Json) -> str:
    """A job's result as JSON, or the error it met, which would lose its kind, or its traceback, on the way."""
    try:
        return json.dumps(do(job), default=plain)
    except WorkbenchError as error:
        return json.dumps({"error": type(error).__name__, "sentence": str(error)})
    except MemoryError:
        return json.dumps({"error": "WorkbenchError", "sentence": f"there is not enough memory; {FEWER}"})
    except OSError as error:
        told = [error.errno, error.strerror, error.filename] if error.errno else None
        return json.dumps({"fault": traceback.format_exc(), "system": told}, default=str)
    except Exception:
        return json.dumps({"fault": traceback.format_exc(), "system": None})


def raised_by(result: Json) -> Exception | None:
    """The error that a job met, by what `attempt` gave of it, or None when there is a result."""
    if "error" in result:
        kind: type[WorkbenchError] = getattr(errors, result["error"], WorkbenchError)
        return kind(result["sentence"])
    if "fault" not in result:
        return None
    fault = Fault(result["fault"])
    if not result["system"]:
        return fault
    error = OSError(*result["system"])
    error.__cause__ = fault
    return error


def last_line(error: BaseException) -> str:
    """The last line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1][:200]
