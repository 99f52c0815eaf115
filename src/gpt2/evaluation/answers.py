"""What an answer in the model's own words is worth: exact match, F1 over words, BLEU.

Answers are compared as SQuAD's script has it: in small letters, without punctuation, without a, an and the,
with single spaces. Where people gave several answers, CoQA's script lets each stand aside once, takes the
best agreement with the others, and averages: so people, who are measured against each other, and a model are
measured alike. BLEU is sacrebleu's, and never quoted without its signature (Post, A Call for Clarity in
Reporting BLEU Scores, 2018). Sources: evaluate-v1.1.py of SQuAD, evaluate-v1.0.py of CoQA.

    coqa_f1("the white kitten", ["white", "a white kitten", "white", "white"])
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gpt2.errors import need

PUNCTUATION = str.maketrans("", "", string.punctuation)
ARTICLES = re.compile(r"\b(a|an|the)\b")
BLEU_DRAWS = 1000
"""Of the bootstrap, as in sacrebleu's own."""


def normalized(answer: str) -> str:
    """An answer without what does not count."""
    return " ".join(ARTICLES.sub(" ", answer.lower().translate(PUNCTUATION)).split())


def exact_match(answer: str, references: Sequence[str]) -> float:
    """1 when an answer is one of the references, else 0."""
    return float(normalized(answer) in map(normalized, references))


def f1(answer: str, reference: str) -> float:
    """The harmonic mean of the shares of words in common; of two answers without words, whether both are."""
    ours, theirs = normalized(answer).split(), normalized(reference).split()
    if not ours or not theirs:
        return float(ours == theirs)
    common = (Counter(ours) & Counter(theirs)).total()
    return 2 * common / (len(ours) + len(theirs))


def coqa_f1(answer: str, references: Sequence[str]) -> float:
    """The best F1 with any reference; with several, the mean of that when each in turn is left out."""
    scores = [f1(answer, reference) for reference in references]
    if len(scores) == 1:
        return scores[0]
    return sum(max(scores[:i] + scores[i + 1 :]) for i in range(len(scores))) / len(scores)


@dataclass(frozen=True)
class Bleu:
    """Corpus BLEU, from 0 to 100."""

    score: float
    interval: tuple[float, float] | None
    """Ends of the 95 % interval over sentences; None for a single one."""
    signature: str
    """How it was computed, in sacrebleu's own short form."""


def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> Bleu:
    """BLEU of translations, each with one reference, by sacrebleu's defaults; `MissingExtra` without it.

    What sacrebleu counts in each sentence adds up to the corpus; the interval is a bootstrap of those counts.
    """
    metrics = need("sacrebleu.metrics", "evaluate")
    import numpy as np

    scorer, counter = metrics.BLEU(), metrics.BLEU(effective_order=True)  # the same counts, without a warning
    score = scorer.corpus_score(list(hypotheses), [list(references)]).score
    pairs = zip(hypotheses, references, strict=True)
    counted = [counter.sentence_score(ours, [theirs]) for ours, theirs in pairs]
    sums = np.array([[*c.counts, *c.totals, c.sys_len, c.ref_len] for c in counted])  # [sentences, 10]
    n, rng, drawn = len(sums), np.random.default_rng(0), []
    for _ in range(BLEU_DRAWS if n > 1 else 0):
        total = sums[rng.integers(0, n, size=n)].sum(axis=0).tolist()
        drawn.append(
            metrics.BLEU.compute_bleu(
                total[:4], total[4:8], *total[8:], smooth_method=scorer.smooth_method
            ).score
        )
    ends = None if n < 2 else (float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975)))
    return Bleu(float(score), ends, str(scorer.get_signature()))
