"""gpt2 finetune predict: what a classifier says of texts.

gpt2 finetune predict glue/sst2/seed-0 "a gripping film"
gpt2 finetune predict glue/mrpc/seed-0 "A cat sat." "A cat was sitting."
gpt2 finetune predict glue/sst2/seed-0 < lines.txt
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpt2.cli.talk import EXACTLY, TALK, ComputingExactly, Talk, text_or_input


def predict(
    classifier: Path,
    text: str | None = None,
    second: str | None = None,
    *,
    computing: ComputingExactly = EXACTLY,
    talk: Talk = TALK,
) -> None:
    """Judge texts: a label with its probability, or a score, for each.

    Parameters
    ----------
    classifier:
        Folder of a classifier, as `gpt2 finetune glue` makes it.
    text:
        The text; without one, a text a line from standard input, two texts with a tab between them.
    second:
        The second text, where two are judged.
    """
    from gpt2.finetuning.classifier import TextClassifier

    made = TextClassifier.load(classifier)
    given = text_or_input(text)
    if text is not None:
        texts: list[tuple[str, str | None]] = [(given, second)]
    else:
        lines = [line.split("\t", 1) for line in given.splitlines() if line.strip()]
        texts = [(line[0], line[1] if len(line) == 2 else None) for line in lines]
    compute = computing.choose()
    made.network.to(compute.device)
    found = made.predict(texts, compute)
    rows: list[dict[str, Any]] = [
        {"text": a} | ({} if b is None else {"second": b}) | said
        for (a, b), said in zip(texts, found, strict=True)
    ]
    talk.result(rows, "\n".join(map(said_of, found)))


def said_of(found: dict[str, Any]) -> str:
    """A prediction on one line."""
    if "score" in found:
        return f"{found['score']:.3f}"
    shares = "  ".join(f"{label} {share:.3f}" for label, share in found["probabilities"].items())
    return f"{found['label']}    {shares}"
