"""Claim: LAMBADA is measured at least 2.5 times as fast as by lm-evaluation-harness with its HF backend.

The same 124M network with random weights, in float32, the same rows of OpenAI's LAMBADA file, the same two
numbers (accuracy and perplexity of the last word), which must be equal. Each engine runs in a process of its
own, loads once, measures once to warm up, and is then told in turn with the other to measure again, `--rounds`
times; medians of rows a second, and their ratio. A measurement is all that follows loading the model: reading
the rows, asking, computing the results (ours with bootstrap intervals and two more rules, the harness's
without intervals). The harness reads `--batch` passages at a time, longest first and padded; several sizes
may be given, and the fastest counts.

    python benchmarks/evaluate.py --data my_data --rows 400 --rounds 3 --threads 2 --batch 8 16 32
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Result = dict[str, float]


def ours(folder: Path, threads: int, _: int) -> Callable[[], Result]:
    """This package."""
    import gpt2
    from gpt2.model.device import choose

    model, compute = gpt2.load(folder / "huggingface"), choose("cpu", "float32", threads)

    def run() -> Result:
        names = ["lambada/last-word", "lambada/last-word-perplexity"]
        accuracy, perplexity = gpt2.evaluate(
            model, ["lambada"], data=folder / "rows", protocols=names, compute=compute
        ).rows
        assert accuracy.value is not None and perplexity.value is not None
        return {"accuracy": accuracy.value / 100, "perplexity": perplexity.value}

    return run


def harness(folder: Path, threads: int, batch: int) -> Callable[[], Result]:
    """lm-evaluation-harness's lambada_openai with its HF backend; of the task only its rows are replaced."""
    import lm_eval.tasks
    import torch
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks._yaml_loader import load_yaml

    torch.set_num_threads(threads)
    model = HFLM(pretrained=str(folder / "huggingface"), dtype="float32", device="cpu", batch_size=batch)
    config = load_yaml(Path(lm_eval.tasks.__file__).parent / "lambada" / "lambada_openai.yaml")
    config |= {
        "dataset_path": "json",
        "dataset_name": None,
        "test_split": "test",
        "dataset_kwargs": {
            "data_files": {"test": str(folder / "rows" / "lambada_test.jsonl")},
            "cache_dir": str(folder / "cache"),
        },
    }

    def run() -> Result:
        task = ConfigurableTask(config=dict(config))
        found = evaluate(lm=model, task_dict={"lambada_openai": task}, bootstrap_iters=0)
        values = found["results"]["lambada_openai"]
        return {"accuracy": values["acc,none"], "perplexity": values["perplexity,none"]}

    return run


def work(engine: str, folder: Path, threads: int, batch: int) -> None:
    """A process for one engine: for each line on standard input, measure and say how long it took."""
    run = {"ours": ours, "harness": harness}[engine](folder, threads, batch)
    for _ in sys.stdin:
        begun = time.perf_counter()
        result = run()
        print("\0" + json.dumps([time.perf_counter() - begun, result]), flush=True)


class Worker:
    """An engine in a process of its own."""

    def __init__(self, engine: str, folder: Path, threads: int, batch: int) -> None:
        words = [
            "--engine",
            engine,
            "--folder",
            str(folder),
            "--threads",
            str(threads),
            "--batch",
            str(batch),
        ]
        self.job = subprocess.Popen(
            [sys.executable, __file__, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"},
            text=True,
        )

    def measure(self) -> tuple[float, Result]:
        """Seconds and results."""
        assert self.job.stdin and self.job.stdout
        self.job.stdin.write("go\n")
        self.job.stdin.flush()
        for line in self.job.stdout:
            if line.startswith("\0"):
                seconds, result = json.loads(line[1:])
                return seconds, result
        sys.exit("an engine stopped; is it installed?  pip install '.[peers]'")


def prepare(folder: Path, data: Path, rows: int) -> None:
    """The model as a Hugging Face folder, and the first rows of LAMBADA."""
    import gpt2

    model = gpt2.Model(gpt2.GPT2(gpt2.GPT2Config.size("124M"), seed=0), gpt2.Tokenizer.gpt2())
    model.save(folder / "model")
    gpt2.convert(folder / "model", folder / "huggingface", to="huggingface")
    file = next(iter(sorted(data.rglob("lambada_test.jsonl"))), None)
    if file is None:
        sys.exit(f"there is no lambada_test.jsonl in {data}; give the folder that has it (--data DIR)")
    (folder / "rows").mkdir()
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)[:rows]
    (folder / "rows" / "lambada_test.jsonl").write_text("".join(lines), encoding="utf-8")
    print(f"{len(lines)} rows of {file.name}")


def main() -> None:
    """Time both and print medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("GPT2_DATA", "."))
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, nargs="+", default=[16])
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options: Any = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if options.engine:
        work(options.engine, options.folder, options.threads, options.batch[0])
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, Path(options.data), options.rows)
        workers = {"ours": Worker("ours", folder, options.threads, 1)} | {
            f"harness, batch {b}": Worker("harness", folder, options.threads, b) for b in options.batch
        }
        results = {engine: worker.measure()[1] for engine, worker in workers.items()}
        times: dict[str, list[float]] = {engine: [] for engine in workers}
        for _ in range(options.rounds):
            for engine, worker in workers.items():
                times[engine].append(worker.measure()[0])
        for worker in workers.values():
            worker.job.communicate()
    print(f"{options.threads} threads, median of {options.rounds} rounds, engines in turn")
    median = {engine: statistics.median(seconds) for engine, seconds in times.items()}
    for engine, seconds in median.items():
        found = results[engine]
        print(
            f"{engine:20} {options.rows / seconds:8.2f} rows/s  {seconds:8.2f} s  "
            f"accuracy {found['accuracy']:.6f}  perplexity {found['perplexity']:.6g}"
        )
    mine = results["ours"]
    for engine, found in results.items():
        same = found["accuracy"] == mine["accuracy"]
        if not same or abs(found["perplexity"] / mine["perplexity"] - 1) > 1e-4:
            sys.exit(f"{engine} and ours differ")
    best = min((engine for engine in median if engine != "ours"), key=lambda engine: median[engine])
    print(f"ours is {median[best] / median['ours']:.2f} times as fast as {best}; equal results")


if __name__ == "__main__":
    main()
