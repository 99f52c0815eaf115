"""gpt2 verify: whether a model is OpenAI's, loaded and computed right.

gpt2 verify gpt2_124M.bin
gpt2 verify openai_folder --data my_data --debug-state gpt2_124M_debug_state.bin
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

import gpt2
from gpt2.cli.talk import TALK, Talk, Threads, open_model

WIDTH = 32
"""Characters of an answer in the table; --json has all of it."""


def verify(
    model: Path,
    *,
    data: Annotated[Path | None, Parameter(env_var="GPT2_DATA")] = None,
    debug_state: Path | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    threads: Threads | None = None,
    talk: Talk = TALK,
) -> None:
    """Hold a model against the known answers of OpenAI's released weights, in float32.

    Exit status 1 when it gives another answer to any of them.

    Parameters
    ----------
    model:
        A model in any known format: folder or file, a training run, the folder of `gpt2 reproduce`, hub name.
    data:
        Folder that has Tiny Shakespeare somewhere in it (tinyshakespeare.txt or input.txt), the text of
        llm.c's debug batch.
    debug_state:
        llm.c's gpt2_124M_debug_state.bin: all logits and gradients are compared with it.
    device:
        Where to compute; auto takes a GPU if there is one.
    threads:
        Processor threads; as many as there are cores when not given.
    """
    from gpt2.evaluation.verify import summary
    from gpt2.model.device import choose

    compute = choose(device, "float32", threads)
    m = open_model(model, compute)
    checks = gpt2.verify(m, data=data, debug_state=debug_state, console=talk.console)
    rows, reasons = [], defaultdict(list)
    for c in checks:
        got = "" if c.status == "not run" else shown(c.got, c.expected)
        tolerance = f"{c.tolerance:g}" if c.tolerance else "equal"
        rows.append([c.name, shown(c.expected, c.got), got, tolerance, c.status])
        if c.reason:
            reasons[c.status, c.reason].append(c.name)
    talk.table(["check", "expected", "got", "tolerance", "status"], rows)
    talk.write("\nComputed in float32.")
    for (status, reason), names in reasons.items():
        which = ", ".join(names) if len(names) <= 3 else f"{len(names)} checks"
        talk.write(f"{status} ({which}): {reason}")
    number = {s: sum(c.status == s for c in checks) for s in ("passed", "failed", "not run")}
    talk.result(
        {
            "model": model,
            "dtype": compute.dtype,
            "passed": number["passed"],
            "failed": number["failed"],
            "not_run": number["not run"],
            "summary": summary(checks),
            "checks": [asdict(c) for c in checks],
        },
        summary(checks),
    )
    if number["failed"]:
        raise SystemExit(1)


def shown(value: Any, other: Any) -> str:
    """An answer as far as the table has room for it, from the place where it leaves the other one."""
    if value is None:
        return ""
    if isinstance(value, int | float):
        return f"{value:.7g}"
    start = 0
    if isinstance(other, type(value)) and other != value:
        start = parting(value, other)
    if isinstance(value, str):
        start = max(0, start - 8)
        text = value[start:] if value.isprintable() else repr(value[start:])[1:-1]
    else:
        text = " ".join(f"{x:.6g}" if isinstance(x, float) else str(x) for x in value[start:])
    text = ("..." if start else "") + text
    return text if len(text) <= WIDTH else text[: WIDTH - 3] + "..."


def parting(value: Any, other: Any) -> int:
    """The place of the first difference of two texts or lists; of numbers, that of the largest."""
    pairs = list(zip(value, other, strict=False))
    if pairs and all(isinstance(x, float) for x in value):
        return max(range(len(pairs)), key=lambda i: abs(pairs[i][0] - pairs[i][1]))
    return next((i for i, (a, b) in zip(count(), pairs, strict=False) if a != b), 0)
