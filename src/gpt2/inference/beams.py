"""Looking for a likely text rather than drawing one: beams.

Of `width` texts at a time each is gone on from by every token, and the likeliest `width` of all these are kept; a
text that ends leaves the race with its score, the mean log-probability of its tokens, its end among them, where
`length_penalty` is 1: sum / length ** length_penalty. The search is over when no text still running could be
among the `width` best of the ended ones even if its other tokens were certain, or at `max_tokens`.

Beams suit tasks whose answer is nearly given, such as translation; of open text they make repetitions
(Holtzman et al., 2020), which is why the paper samples. So they stand apart from the engine, over a runner of
their own, and other streams never wait for them.

    runner = TorchRunner(model.net, slots=4)
    beams(runner, model.tokenizer.encode("Q: What is life?\nA:"), 4, 20, [model.tokenizer.end_of_text])[0].ids
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gpt2.errors import ConfigError, InputError
from gpt2.inference.runner import Runner
from gpt2.inference.sampling import likeliest, log_probabilities


@dataclass(frozen=True)
class Beam:
    """A continuation and how likely it is."""

    ids: list[int]
    """Its tokens, without the one that ended it."""
    logprob: float
    """Natural logarithm of its probability, its end included."""
    score: float
    """What it was chosen by."""


def beams(
    runner: Runner,
    prompt: Sequence[int],
    width: int,
    max_tokens: int,
    ends: Collection[int],
    length_penalty: float = 1.0,
) -> list[Beam]:
    """The best `width` continuations, the best first. The runner needs `width` slots, and loses what they hold.

    Raises `ConfigError` for too few slots, `InputError` when prompt and continuation do not fit.
    """
    if not 1 <= width <= runner.slots or max_tokens < 1:
        raise ConfigError(
            f"beams need a width from 1 to {runner.slots}, the runner's slots, and a token or more, "
            f"not a width of {width} and {max_tokens} tokens"
        )
    if not prompt or len(prompt) + max_tokens - 1 > runner.room:
        raise InputError(
            f"{len(prompt)} tokens and {max_tokens} more do not fit: the model reads {runner.room} at a time, "
            "and a prompt has one at least"
        )
    n = runner.config.vocab_size
    if wrong := [i for i in prompt if not 0 <= i < n]:
        raise InputError(f"token {wrong[0]} is not in the model's vocabulary, whose ids are 0 to {n - 1}")
    candidates = (1 + len(set(ends))) * width  # so that `width` are left when every other one is an end
    for slot in range(width):
        runner.cut(slot, 0)
    logits = runner.run([0], [prompt])
    running, slots = [Beam([], 0.0, 0.0)], [0]
    ended: list[Beam] = []

    def scored(ids: list[int], logprob: float, length: int) -> Beam:
        return Beam(ids, logprob, logprob / length**length_penalty)

    for length in range(1, max_tokens + 1):
        grown = [
            (beam.logprob + logprob, parent, token)
            for parent, (beam, row) in enumerate(zip(running, logits, strict=True))
            for token, logprob in likeliest(log_probabilities(row), min(candidates, len(row)))
        ]
        grown.sort(key=lambda one: -one[0])
        parents, kept = list[int](), list[Beam]()
        for logprob, parent, token in grown[:candidates]:
            if token in ends:
                ended.append(scored(running[parent].ids, logprob, length))
            elif len(kept) < width:
                kept.append(scored([*running[parent].ids, token], logprob, length))
                parents.append(slots[parent])
        ended = sorted(ended, key=lambda beam: -beam.score)[:width]
        over = len(ended) == width and ended[-1].score >= hope(kept, max_tokens, length_penalty)
        if length == max_tokens or not kept or over:
            break
        running, slots = kept, settle(runner, parents, width)
        logits = runner.run(slots, [beam.ids[-1:] for beam in running])
    return sorted([*ended, *kept], key=lambda beam: -beam.score)[:width]


def hope(running: Sequence[Beam], max_tokens: int, length_penalty: float) -> float:
    """The best score that a text still running can reach: that of its tokens so far, and certain ones to come."""
    best = max((beam.logprob for beam in running), default=0.0)
    length = max_tokens if length_penalty > 0 or not running else len(running[0].ids)
    return best / float(length**length_penalty)


def settle(runner: Runner, parents: Sequence[int], width: int) -> list[int]:
    """A slot with its parent's text for each child, out of the first `width`; `parents` are slots.

    The first child of a parent stays; others get slots whose text nobody goes on from.
    """
    free = [slot for slot in range(width) if slot not in parents]
    slots = list[int]()
    for parent in parents:
        if parent in slots:
            slots.append(free.pop())
            runner.copy(parent, slots[-1])
        else:
            slots.append(parent)
    return slots
