"""SQuAD's exact match and F1 as its script has them, and lm-evaluation-harness's CoQA, which needs them.

The harness takes them from `transformers.data.metrics.squad_metrics`, which transformers 5 no longer has.
"""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from types import ModuleType

from lm_eval.tasks.qasper.metrics import normalize_answer

METRICS = "transformers.data.metrics"


def compute_exact(gold: str, predicted: str) -> int:
    """1 when the two are the same after normalisation."""
    return int(normalize_answer(gold) == normalize_answer(predicted))


def compute_f1(gold: str, predicted: str) -> float:
    """F1 over words; when one has none, whether both have none."""
    wanted, found = normalize_answer(gold).split(), normalize_answer(predicted).split()
    if not wanted or not found:
        return float(wanted == found)
    same = sum((Counter(wanted) & Counter(found)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(found), same / len(wanted)
    return 2 * precision * recall / (precision + recall)


def harness_coqa() -> ModuleType:
    """`lm_eval.tasks.coqa.utils`."""
    parent, metrics = ModuleType(METRICS), ModuleType(f"{METRICS}.squad_metrics")
    metrics.compute_exact, metrics.compute_f1 = compute_exact, compute_f1  # type: ignore[attr-defined]
    parent.squad_metrics = metrics  # type: ignore[attr-defined]
    there = METRICS in sys.modules
    sys.modules.setdefault(METRICS, parent)
    sys.modules.setdefault(f"{METRICS}.squad_metrics", metrics)
    try:
        return importlib.import_module("lm_eval.tasks.coqa.utils")
    finally:
        if not there:
            del sys.modules[METRICS], sys.modules[f"{METRICS}.squad_metrics"]
