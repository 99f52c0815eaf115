"""Whether a model is one of OpenAI's GPT-2s, loaded right and computed right.

Others have published what OpenAI's released weights answer: greedy continuations, single logits, losses, a
hidden state, and llm.c's debug batch with its loss, logits, gradients and ten steps of AdamW. Those answers
are data of the package (`data/known_answers.json`), each with its source and a tolerance, and `verify` asks a
model for them. A model that gives them all has the right weights in the right places, and whatever this
package computes with it (forward, backward, the engine with its cache, scores) is right too. Nearly all are
of the 124M; of the larger sizes shape and vocabulary can be held against OpenAI's, the weights cannot.

All is computed in float32, as a greedy continuation in a lower format leaves the known path sooner or later,
and the model stays as it was. The debug batch's text is Tiny Shakespeare, which is looked for in the user's
data and recognised by its digest. What cannot be asked is "not run", with the reason: that the text is not
there, that the answer is of another size, or that no code here can ask it (the engine draws one token after
the other, without beams). The 124M takes less than a minute on one core.

Rejected: a digest of the weights, which says nothing of how they are computed with and differs between
formats that hold the same numbers; and llm.c's own tolerances, which are larger than the gradients they are for.

    gpt2 verify gpt2_124M.bin --data my_data --debug-state gpt2_124M_debug_state.bin
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gpt2.console import QUIET, Console
from gpt2.errors import FormatError, InputError
from gpt2.evaluation.questions import KINDS, Batch, Subject, forward_and_backward
from gpt2.model.checkpoint import Model
from gpt2.model.formats.llmc import read_debug_state
from gpt2.model.transformer import GPT2
from gpt2.workspace import Json

LOSS_WITHIN, LOGITS_WITHIN, GRADIENTS_WITHIN = 1e-3, 1e-2, 1e-2
"""How near a debug state must be: loss in nats, each logit (as llm.c's test has it), gradients relatively."""
UNABLE = {
    "beam": "the engine has no beam search",
    "contrastive": "the engine has no contrastive search",
    "training_run": "it needs llm.c's own order of training batches",
}
"""Kinds of answers that are known and cannot be asked for here."""
NOT_OF_WEIGHTS = ("shape", "vocabulary", "tokens", "batch_ids", "debug_state")
"""Kinds of answers that any weights of the shape, with GPT-2's vocabulary, can give."""


@dataclass(frozen=True)
class KnownAnswer:
    """What a model of OpenAI's answers, and who says so."""

    name: str
    kind: str
    """What is asked: "shape", or a name in `KINDS` or `UNABLE`."""
    expected: Any
    """A number, a text, a list of numbers or ids."""
    tolerance: float
    """How far each number may be from it; 0 means equal."""
    source: str
    size: str | None = None
    """Whose answer it is: "124M" for example; none for what all sizes share."""
    given: Json = field(default_factory=dict)
    """What to ask with: a "text" or its "ids", a "document" after <|endoftext|>, a `Batch`; and settings."""


@dataclass(frozen=True)
class Check:
    """One known answer beside what the model answers."""

    name: str
    kind: str
    status: Literal["passed", "failed", "not run"]
    expected: Any
    got: Any
    """None when it was not run."""
    tolerance: float
    source: str
    reason: str = ""
    """Why it was not run; a sentence on a shape or vocabulary that is not OpenAI's."""


def verify(
    model: Model,
    answers: Sequence[KnownAnswer] | None = None,
    data: str | Path | None = None,
    debug_state: str | Path | None = None,
    console: Console = QUIET,
) -> list[Check]:
    """Ask a model for the known answers, those of OpenAI's weights unless others are given.

    `data` is a folder with Tiny Shakespeare somewhere in it, `debug_state` a file of llm.c's. Raises
    `InputError` when there is no such folder, `FormatError` when the file is not of a model of this shape.
    """
    known = known_answers() if answers is None else list(answers)
    if data is not None and not Path(data).is_dir():
        raise InputError(f"there is no folder {data}; give one that has Tiny Shakespeare somewhere in it")
    subject = Subject(model, None if data is None else Path(data))
    shape, shapes = shape_of(model.net), [a for a in known if a.kind == "shape"]
    mine = next((a for a in shapes if a.expected == shape), None)
    checks: list[Check] = []
    if mine is not None:
        checks.append(judged(mine, shape))
    elif shapes:
        asked = replace(shapes[0], expected=f"one of {', '.join(str(a.size) for a in shapes)}")
        checks.append(judged(asked, shape, f"the model has none of OpenAI's shapes: it has {shape}"))
    size, foreign = None if mine is None else mine.size, False
    rest = [a for a in known if a.kind != "shape"]
    with console.progress("verifying", len(rest), "checks") as bar:
        for answer in rest:
            if reason := obstacle(subject, answer, size, foreign):
                checks.append(not_run(answer, reason))
            else:
                checks.append(judged(answer, ask(subject, answer)))
            if answer.kind in ("vocabulary", "tokens") and checks[-1].status == "failed":
                foreign, n = True, model.tokenizer.n_vocab
                reason = f"the model's vocabulary of {n:,} tokens is not GPT-2's"
                checks[-1] = replace(checks[-1], reason=reason)
            bar.advance(note=answer.name)
    if debug_state is None:
        absent = KnownAnswer("debug state", "debug_state", None, 0, "llm.c train_gpt2.py")
        reason = (
            "it needs the file that llm.c writes beside its model (--debug-state gpt2_124M_debug_state.bin)"
        )
        return [*checks, not_run(absent, reason)]
    return [*checks, *state_checks(subject.model.net, Path(debug_state))]


def known_answers() -> list[KnownAnswer]:
    """The answers of OpenAI's weights, out of the package."""
    file = resources.files("gpt2.evaluation") / "data" / "known_answers.json"
    held = json.loads(file.read_text("utf-8"))
    batches = {name: Batch(**row | {"files": tuple(row["files"])}) for name, row in held["batches"].items()}
    answers = [KnownAnswer(**row) for row in held["answers"]]
    for a in answers:
        if "batch" in a.given:
            a.given["batch"] = batches[a.given["batch"]]
    return answers


def summary(checks: Sequence[Check]) -> str:
    """How many checks passed, failed and could not run, and what follows from it, in one line."""
    n = Counter(c.status for c in checks)
    counts = f"{n['passed']} passed, {n['failed']} failed, {n['not run']} could not run"
    if n["failed"]:
        return f"{counts}: these are not OpenAI's weights, or they are not loaded and computed right"
    if any(c.status == "passed" and c.kind not in NOT_OF_WEIGHTS for c in checks):
        return f"{counts}: these are OpenAI's weights, loaded and computed right"
    return f"{counts}: nothing is wrong, but no check of the weights could run"


def judged(answer: KnownAnswer, got: Any, why: str = "") -> Check:
    """A check that ran; when it failed, `why` is its reason."""
    a, passed = answer, agrees(answer.expected, got, answer.tolerance)
    status: Literal["passed", "failed"] = "passed" if passed else "failed"
    return Check(a.name, a.kind, status, a.expected, got, a.tolerance, a.source, "" if passed else why)


def not_run(answer: KnownAnswer, reason: str) -> Check:
    """A check that could not run."""
    a = answer
    return Check(a.name, a.kind, "not run", a.expected, None, a.tolerance, a.source, reason)


def agrees(expected: Any, got: Any, tolerance: float) -> bool:
    """Whether an answer is the one expected: equal, or each number within the tolerance."""
    if not tolerance:
        return bool(expected == got)
    a, b = np.asarray(expected, np.float64), np.asarray(got, np.float64)
    return a.shape == b.shape and bool((np.abs(a - b) <= tolerance).all())


def shape_of(net: GPT2) -> str:
    """A network's shape in words, with its parameters as counted."""
    c = net.config
    return (
        f"layers {c.n_layer}, heads {c.n_head}, channels {c.n_embd}, context {c.n_ctx}, "
        f"vocabulary {c.vocab_size}, parameters {net.num_parameters()}"
    )


def obstacle(subject: Subject, answer: KnownAnswer, size: str | None, foreign: bool) -> str:
    """Why a model cannot be asked for an answer, "" when it can.

    `size` is whose shape the model has, none when nobody's; `foreign` is a vocabulary that is not GPT-2's.
    """
    if answer.kind in UNABLE:
        return UNABLE[answer.kind]
    if answer.size not in (None, size):
        has = "none of OpenAI's shapes" if size is None else f"the shape of the {size}"
        return f"the answer is known of the {answer.size}, and the model has {has}"
    if foreign and {"text", "document", "batch"} & answer.given.keys():
        return "its text needs GPT-2's vocabulary, and the model has another"
    batch = answer.given.get("batch")
    if batch is not None and subject.text(batch) is None:
        wanted = f"{batch.title} ({' or '.join(batch.files)}, {batch.n_bytes:,} bytes)"
        if subject.data is None:
            return f"it needs {wanted}; give a folder that has it (--data DIR, or GPT2_DATA)"
        return f"it needs {wanted} with sha256 {batch.sha256}, which is nowhere in {subject.data}"
    return ""


def ask(subject: Subject, answer: KnownAnswer) -> Any:
    """What the model answers: ids, or a text where a text is expected."""
    tok, given = subject.model.tokenizer, dict(answer.given)
    if "text" in given:
        given["ids"] = tok.encode(given.pop("text"))
    got = KINDS[answer.kind](subject, **given)
    return tok.decode(got) if answer.kind == "greedy" and isinstance(answer.expected, str) else got


def state_checks(net: GPT2, path: Path) -> Iterator[Check]:
    """llm.c's debug state against what the network computes of the same batch: loss, all logits, all gradients.

    Gradients are compared by kind of tensor, as the norm of the difference in that of the state's, at the
    worst layer. Raises `FormatError` when the state is damaged or not of a model of this shape.
    """
    state, device = read_debug_state(path, net.config), net.wte.weight.device
    for ids in (state.ids, state.targets):
        if not 0 <= int(ids.min()) <= int(ids.max()) < net.config.vocab_size:
            raise FormatError(f"{path} is damaged: it has tokens that are not in the vocabulary; get it anew")
    found = forward_and_backward(net, state.ids.to(device), state.targets.to(device))
    differences: dict[str, list[float]] = defaultdict(list)
    for name, theirs in state.gradients.items():
        difference = float((found.gradients[name].cpu() - theirs).norm())
        differences[re.sub(r"^h\.\d+", "h.*", name)].append(difference / max(float(theirs.norm()), 1e-30))
    largest = float((found.logits.cpu() - state.logits).abs().max())
    questions = [
        ("loss", state.loss, found.loss, LOSS_WITHIN),
        ("logits, largest difference", 0.0, largest, LOGITS_WITHIN),
        *(
            (f"gradient of {n}, relative", 0.0, float(np.max(d)), GRADIENTS_WITHIN)
            for n, d in differences.items()
        ),
    ]
    for name, expected, got, tolerance in questions:
        answer = KnownAnswer(f"debug state: {name}", "debug_state", expected, tolerance, str(path))
        yield judged(answer, got)
