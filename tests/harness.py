"""Tasks by lm-evaluation-harness and by us, on the same rows.

Of the harness's task descriptions only where they find their rows is replaced; prompts, targets, metrics and
the model's reading are its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lm_eval.tasks
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks._yaml_loader import load_yaml

import gpt2
from gpt2.evaluation.asking import Asked, ask
from gpt2.evaluation.task import Item, Malformed, Measured, Task


def reader(model: Path) -> HFLM:
    """The harness's own way of running a Hugging Face folder, in float32 on the processor."""
    from transformers import GPT2LMHeadModel, GPT2TokenizerFast

    return HFLM(
        pretrained=GPT2LMHeadModel.from_pretrained(model).eval(),
        tokenizer=GPT2TokenizerFast.from_pretrained(model),
        batch_size=16,
        device="cpu",
    )


def measured(
    model: HFLM, description: str, rows: Sequence[dict[str, Any]], folder: Path, **changes: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Results and samples of the task whose file below `lm_eval/tasks` is `description`, on these rows."""
    import datasets

    datasets.disable_progress_bars()
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = load_yaml(Path(lm_eval.tasks.__file__).parent / description)
    for split in ("training_split", "validation_split", "test_split", "dataset_name"):
        config.pop(split, None)
    config |= {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        **changes,
    }
    name = config["task"]
    found = evaluate(
        lm=model,
        task_dict={name: ConfigurableTask(config=config)},
        bootstrap_iters=0,
        log_samples=True,
    )
    assert found is not None
    return found["results"][name], sorted(found["samples"][name], key=lambda sample: sample["doc_id"])


class Ours(NamedTuple):
    """What a task of ours makes of rows."""

    values: dict[str, float]
    """By protocol, the sum of numerators over the sum of denominators."""
    asked: list[Asked]
    measured: list[Mapping[str, Measured]]
    """One an item asked."""
    malformed: list[Malformed]


def ours(model: gpt2.Model, task: Task, rows: Sequence[Any]) -> Ours:
    """Ask a model the items of a task out of these rows."""
    items = list(task.items(rows))
    found = ask(model, task, [item for item in items if isinstance(item, Item)])
    malformed = [item for item in [*items, *found] if isinstance(item, Malformed)]
    asked = [item for item in found if isinstance(item, Asked)]
    measured = [task.measure(a.item, a.replies) for a in asked]
    values = {
        p.name: sum(m[p.name].numerator for m in measured) / sum(m[p.name].denominator for m in measured)
        for p in (task.protocols if measured else ())
    }
    return Ours(values, asked, measured, malformed)
