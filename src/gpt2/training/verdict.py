"""Is my loss right? A verdict on a training run, with the likely causes of a bad curve and the evidence for each.

    gpt2 judge RUN             `gpt2 train` says the same at its end

The curve is held against what is known without it (`expected.py`): what the frequencies of the run's tokens
alone would lose, what a table of pairs would, what the run's own beginning promised, and, for GPT-2's own
vocabulary and sizes, published curves. A symptom is one of these bounds broken; a cause is named only with a
measurement of its own beside it, such as a learning rate many times the usual of that size, a loss that rose
above that of guessing, or tokens whose order tells nothing. A run of fewer than `FEWEST` steps is not judged.
Thresholds were set on small runs broken on purpose, which the tests repeat.

Rejected: a single score, which says neither what is wrong nor what to do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gpt2.console import MetricsLog
from gpt2.errors import InputError
from gpt2.model.config import GPT2Config
from gpt2.tokens.bpe import Tokenizer
from gpt2.training.expected import Known, critical_batch, fit, known, reference
from gpt2.training.mixture import Data
from gpt2.training.optimizer import OptimizerConfig
from gpt2.training.plan import block_of, read_record
from gpt2.training.provenance import data_of
from gpt2.training.recipes import DEFAULT, recipe
from gpt2.workspace import Json

FEWEST = 100
"""Steps below which nothing is said."""
LEARNED = 0.25
"""Share of what a table of pairs knows, beyond single frequencies, that a sound run has learned by then."""
UNUSUAL = 5.0
"""A learning rate so many times the usual, or a part of it, is named as a cause."""
NOISY = 0.5
"""Standard deviation of the loss from batch to batch, in nats, above which the batch is far too small."""
GAP = 0.4
"""Growth of the gap between held-out and training loss, in nats, that means texts are learned by heart."""
ABOVE = 0.1
"""Nats above a published curve of which nothing is said."""
OTHER_TEXT = 0.4
"""Nats by which a curve may lie above a published one because its text is harder."""


@dataclass(frozen=True)
class Facts:
    """What a run was, besides its curve."""

    model: GPT2Config
    optimizer: OptimizerConfig
    steps: int
    """Steps planned."""
    tokens_per_step: int
    epochs: float
    """How often the tokens are seen in the steps done."""
    gpt2_vocabulary: bool
    known: Known


@dataclass(frozen=True)
class Finding:
    """Something wrong."""

    cause: str
    """In a few words."""
    evidence: str
    """What was measured."""
    advice: str
    """What to do."""

    def __str__(self) -> str:
        return f"{self.cause}: {self.evidence}; {self.advice}"


@dataclass(frozen=True)
class Verdict:
    """What is to be thought of a run."""

    healthy: bool | None
    """None when there is too little of it to say."""
    loss: float
    """Mean of the last training losses, nats a token."""
    facts: list[str]
    """What the curve was held against."""
    findings: list[Finding]
    """What is likely wrong, likeliest first; empty for a healthy run."""

    def __str__(self) -> str:
        word = {True: "healthy", False: "not healthy", None: "too short to judge"}[self.healthy]
        return "\n".join([f"verdict: {word}", *map(str, self.findings), *self.facts])

    def json(self) -> Json:
        """As it stands in a JSON file."""
        return asdict(self)


def judge_run(run: Path, folders: Sequence[Path] = ()) -> Verdict:
    """Judge the run in a folder; its tokens are where they were or in `folders`.

    Raises `InputError` where there is no run, its tokens are gone or it began from a trained model, `ConfigError`
    when they are others.
    """
    record = read_record(run)
    if record["settings"].get("start"):
        raise InputError(
            f"the run in {run} began from a trained model, and what is known of a loss is of random first weights; "
            "hold its held-out loss against that of the model"
        )
    data = data_of(record, folders)
    rows = MetricsLog(run / "metrics.jsonl").read()
    return judge(rows, facts_of(record, data, rows))


def facts_of(record: Json, data: Data, rows: Sequence[Json]) -> Facts:
    """What train.json and the tokens say."""
    settings = record["settings"]
    model = GPT2Config(**settings["model"])
    batches = data.batches(block_of(settings), settings["batch"], settings["seed"])
    done = rows[-1]["step"] if rows else 0
    return Facts(
        model=model,
        optimizer=OptimizerConfig(**settings["optimizer"]),
        steps=record["steps"],
        tokens_per_step=batches.tokens_per_step,
        epochs=done / batches.steps_per_epoch,
        gpt2_vocabulary=data.tokenizer.fingerprint == Tokenizer.gpt2().fingerprint,
        known=known(data, batches),
    )


def judge(rows: Sequence[Json], facts: Facts) -> Verdict:
    """Judge the rows of metrics.jsonl."""
    curve = Curve(rows, facts)
    if curve.broken is None and (not rows or rows[-1]["step"] < FEWEST):
        return Verdict(None, curve.end, [], [])
    findings = [f for find in CAUSES if (f := find(curve, facts))]
    symptom = curve.symptom()
    if symptom and not findings:
        findings.append(
            Finding("no cause found", symptom, "try a learning rate half as high, then twice as high")
        )
    return Verdict(not findings, round(curve.end, 4), described(curve, facts), findings)


class Curve:
    """A curve and what can be measured of it."""

    def __init__(self, rows: Sequence[Json], facts: Facts) -> None:
        self.facts = facts
        sound = [math.isfinite(row["loss"]) and math.isfinite(row["gradient_norm"]) for row in rows]
        numbers = [row for row, finite in zip(rows, sound, strict=True) if finite]
        self.broken = next((row["step"] for row, ok in zip(rows, sound, strict=True) if not ok), None)
        self.steps = np.array([row["step"] for row in numbers], float)
        self.losses = np.array([row["loss"] for row in numbers], float)
        self.spikes = sum("spike" in row for row in rows)
        self.heldout = [(row["step"], row["heldout_loss"]) for row in numbers if "heldout_loss" in row]
        self.width = max(5, len(numbers) // 20)
        """Rows that are averaged."""
        self.end = float(self.losses[-self.width :].mean()) if numbers else math.nan
        window = np.ones(self.width) / self.width
        self.lowest = float(np.convolve(self.losses, window, "valid").min()) if numbers else math.nan
        later = self.losses[len(numbers) // 4 :]
        self.noise = float(np.diff(later).std() / math.sqrt(2)) if len(later) > 2 else 0.0
        """Standard deviation from batch to batch."""
        self.highest = float(self.losses[1:].max()) if len(numbers) > 1 else math.nan

    @property
    def guessing(self) -> float:
        """Loss of a model that knows nothing: every token as likely."""
        return math.log(self.facts.model.vocab_size)

    @property
    def learned(self) -> float:
        """Share of what a table of pairs knows beyond single frequencies; may be above 1, or negative."""
        k = self.facts.known
        return (k.unigram - self.end) / max(k.unigram - k.pairs, 1e-3)

    def near(self, step: float) -> float:
        """The training loss around a step."""
        place = int(np.searchsorted(self.steps, step))
        return float(self.losses[max(0, place - self.width) : place + self.width].mean())

    def rose(self) -> float:
        """Nats by which it ends above its lowest, beyond noise."""
        return self.end - self.lowest - max(0.2, 6 * self.noise / math.sqrt(self.width))

    def symptom(self) -> str | None:
        """What is wrong to look at, whatever the cause."""
        if self.broken is not None:
            return f"the loss was no number at step {self.broken:,}"
        if self.rose() > 0:
            return f"the loss ends at {self.end:.2f}, after {self.lowest:.2f}"
        if self.learned < LEARNED:
            return stuck(self)
        if late := slowed(self):
            return late
        if (found := against_reference(self)) and found[0] > OTHER_TEXT:
            return found[1]
        return None


def orderless(k: Known) -> bool:
    """Whether the order of tokens tells nothing that could be learned."""
    return k.unigram - k.pairs <= 0.02 * k.unigram


def stuck(curve: Curve) -> str:
    """That little was learned, in numbers."""
    k = curve.facts.known
    return (
        f"the loss ends at {curve.end:.2f}; knowing how often each token comes gives {k.unigram:.2f}, a table of "
        f"pairs {k.pairs:.2f}"
    )


def slowed(curve: Curve) -> str | None:
    """That the run fell short of its own beginning, where that is certain."""
    warm = curve.facts.optimizer.warm(curve.facts.steps)
    own = (curve.steps > max(2 * warm, 20)) & (curve.steps <= curve.steps[-1] / 2)
    law = fit(curve.steps[own].tolist(), curve.losses[own].tolist()) if own.sum() >= 50 else None
    if law is None:
        return None
    promised = law.at(curve.steps[-1])
    margin = max(0.15, 4 * law.error, 4 * curve.noise / math.sqrt(curve.width))
    if curve.end > promised + margin:
        return f"the loss ends at {curve.end:.2f}; its own first half promised {promised:.2f}, within {margin:.2f}"
    return None


def against_reference(curve: Curve) -> tuple[float, str] | None:
    """Nats above the published curve of the size, and that in words; None where there is none."""
    facts = curve.facts
    if not facts.gpt2_vocabulary:
        return None
    loss = curve.heldout[-1][1] if curve.heldout else curve.end
    found = reference(facts.model.num_parameters(), curve.steps[-1] * facts.tokens_per_step)
    if found is None:
        return None
    expected, run = found
    words = f"after as many tokens {run.source} is at {expected:.2f}, this run at {loss:.2f}"
    return loss - expected, words + (
        " (other text may be harder)" if ABOVE < loss - expected <= OTHER_TEXT else ""
    )


# Causes, likeliest first. Each is a function that finds it or not.


def no_order(curve: Curve, facts: Facts) -> Finding | None:
    """The order of the tokens tells nothing."""
    k = facts.known
    if not orderless(k):
        return None
    return Finding(
        "tokens in no order (shuffled targets, or ids of another vocabulary)",
        f"a table of pairs of tokens loses {k.pairs:.2f}, no less than the {k.unigram:.2f} of their frequencies "
        f"alone, and the run ends at {curve.end:.2f}",
        "write the tokens anew, and look at them with  gpt2 tokens inspect --at 0",
    )


def rate_too_high(curve: Curve, facts: Facts) -> Finding | None:
    """Blown up, or stuck at a rate far above the usual."""
    rate, usual = facts.optimizer.learning_rate, recipe(DEFAULT).learning_rate(facts.model)
    blown = curve.highest > curve.guessing + max(0.5, 4 * curve.noise)
    bad = curve.broken is not None or curve.rose() > 0 or curve.learned < LEARNED or slowed(curve)
    if orderless(facts.known) or not bad:
        return None
    signs = []
    if curve.broken is not None:
        signs.append(f"the loss was no number at step {curve.broken:,}")
    if blown:
        signs.append(f"the loss rose to {curve.highest:.2f}, above the {curve.guessing:.2f} of guessing")
    if curve.rose() > 0:
        signs.append(f"the loss ends at {curve.end:.2f}, after {curve.lowest:.2f}")
    if rate > UNUSUAL * usual:
        signs.append(f"{rate:g} is {rate / usual:.0f} times the usual {usual:g} for this size")
    if curve.spikes > 2:
        signs.append(f"{curve.spikes} steps were far above those before them")
    if not signs or (rate <= UNUSUAL * usual and not blown and curve.broken is None and curve.rose() <= 0):
        return None
    if curve.learned < LEARNED and curve.broken is None:
        signs.append(stuck(curve))
    warm = facts.optimizer.warm(facts.steps)
    early = bool(curve.losses[: max(20, len(curve.losses) // 20)].max() > curve.guessing + 0.5)
    if warm <= 2 and early and rate <= UNUSUAL * usual:
        return Finding("no warm-up", "; ".join(signs), "let the rate rise over 1 to 5 % of the steps")
    return Finding("learning rate too high", "; ".join(signs), f"try {usual:g}, or find it with --tune-lr")


def batch_too_small(curve: Curve, facts: Facts) -> Finding | None:
    """Noise from batch to batch that drowns what is to be learned; or far below what the loss allows."""
    n = facts.tokens_per_step
    noise = f"the loss of one batch of {n:,} tokens differs from the next by {curve.noise:.2f} nats"
    if curve.noise > NOISY:
        advice = f"take at least {max(1024, 4 * n):,} tokens a step, with --batch, --context and --accumulate"
        return Finding("batch far too small", noise, advice)
    allowed = critical_batch(curve.end)
    found = against_reference(curve)
    if found and found[0] > ABOVE and n < allowed / 4:
        return Finding(
            "batch too small",
            f"{found[1]}; {n:,} tokens a step are a {allowed / n:.0f}th of what pays at this loss",
            f"take more, up to {allowed:,.0f}, with --batch and --accumulate",
        )
    return None


def rate_too_low(curve: Curve, facts: Facts) -> Finding | None:
    """Hardly moved, smoothly."""
    rate, usual = facts.optimizer.learning_rate, recipe(DEFAULT).learning_rate(facts.model)
    if curve.learned >= LEARNED or rate * UNUSUAL > usual or curve.rose() > 0 or curve.broken is not None:
        return None
    if orderless(facts.known):
        return None
    return Finding(
        "learning rate too low",
        f"{rate:g} is a {usual / rate:.0f}th of the usual {usual:g} for this size, and {stuck(curve)}",
        f"try {usual:g}, or find it with --tune-lr",
    )


def by_heart(curve: Curve, facts: Facts) -> Finding | None:
    """Training loss that leaves the held-out loss behind."""
    if len(curve.heldout) < 3:
        return None
    gaps = [loss - curve.near(step) for step, loss in curve.heldout]
    early = min(gaps[: max(1, len(gaps) // 2)])
    lowest = min(loss for _, loss in curve.heldout)
    last = curve.heldout[-1][1]
    least = GAP + 6 * curve.noise / math.sqrt(curve.width)
    if gaps[-1] - early < least or gaps[-1] < least:
        return None
    evidence = f"held-out text loses {gaps[-1]:.2f} more than training text, after {early:.2f}"
    if last > lowest + 0.02:
        evidence += f", and {last:.2f} after {lowest:.2f}"
    if facts.epochs > 2:
        cause, advice = f"too many epochs ({facts.epochs:.1f})", "take more text or fewer steps"
    else:
        cause, advice = "duplicated data", "take duplicates out, with  gpt2 corpus build"
        evidence += f"; {facts.known.repeated:.0%} of the documents begin as another does"
    return Finding(cause, evidence, advice)


CAUSES = (no_order, rate_too_high, batch_too_small, rate_too_low, by_heart)


def described(curve: Curve, facts: Facts) -> list[str]:
    """What the curve was held against, one line each."""
    k = facts.known
    lines = [
        f"loss {curve.end:.2f}; frequencies of tokens alone give {k.unigram:.2f}, a table of pairs {k.pairs:.2f}"
    ]
    if curve.heldout:
        lines.append(
            f"held-out {curve.heldout[-1][1]:.2f}, {curve.heldout[-1][1] - curve.end:+.2f} to training"
        )
    if found := against_reference(curve):
        lines.append(found[1])
    return lines
