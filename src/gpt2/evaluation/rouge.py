"""ROUGE: what a summary has in common with a reference (Lin, ROUGE: A Package for Automatic Evaluation of
Summaries, 2004).

ROUGE-1 and ROUGE-2 count words and pairs of words in both; ROUGE-L the longest common subsequence of words,
of whole texts, or, as those who report CNN/Daily Mail have it, sentence by sentence of the reference, where
what any sentence of the summary shares counts. All as F1. Words are small letters and digits; those of more
than three letters are stemmed (`-m` of the original script), or not.

Equal to Google's rouge-score with and without `use_stemmer`; tests hold it so on real articles. Rejected:
that package itself, which brings NLTK and absl along for some hundred lines.

    rouge(["The cat sat down."], ["A cat was sitting."])["rouge-1"]
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence

from gpt2.evaluation.porter import stem

Words = list[str]
STEMMED_FROM = 4
"""Letters of the shortest word that is stemmed."""


def words(text: str, stemmed: bool = True) -> Words:
    """The words of a text: runs of letters a to z and digits, in small letters."""
    found = re.findall(r"[a-z0-9]+", text.lower())
    return [stem(word) if len(word) >= STEMMED_FROM else word for word in found] if stemmed else found


def rouge(summary: Sequence[str], reference: Sequence[str], stemmed: bool = True) -> dict[str, float]:
    """F1 between two texts given as sentences, each from 0 to 1.

    `rouge-1`, `rouge-2`; `rouge-l` by sentences, and `rouge-l-whole` without regard to them.
    """
    ours = [words(sentence, stemmed) for sentence in summary]
    theirs = [words(sentence, stemmed) for sentence in reference]
    flat, wanted = [w for s in ours for w in s], [w for s in theirs for w in s]
    return {
        "rouge-1": f1((Counter(flat) & Counter(wanted)).total(), len(flat), len(wanted)),
        "rouge-2": pairs_in_common(flat, wanted),
        "rouge-l": f1(union_in_common(ours, theirs), len(flat), len(wanted)),
        "rouge-l-whole": f1(len(common_subsequence(wanted, flat)), len(flat), len(wanted)),
    }


def f1(common: int, ours: int, theirs: int) -> float:
    """The harmonic mean of precision and recall."""
    return 2 * common / (ours + theirs) if common else 0.0


def pairs_in_common(ours: Words, theirs: Words) -> float:
    """F1 of neighbouring words."""
    a, b = (Counter(itertools.pairwise(text)) for text in (ours, theirs))
    return f1((a & b).total(), a.total(), b.total())


def union_in_common(ours: Sequence[Words], theirs: Sequence[Words]) -> int:
    """Words of each reference sentence that lie on a common subsequence with any of ours, none counted twice."""
    left, wanted = Counter(w for s in ours for w in s), Counter(w for s in theirs for w in s)
    common = 0
    for sentence in theirs:
        places = {i for other in ours for i in common_subsequence(sentence, other)}
        for word in (sentence[i] for i in sorted(places)):
            if left[word] and wanted[word]:
                left[word] -= 1
                wanted[word] -= 1
                common += 1
    return common


def common_subsequence(a: Words, b: Words) -> list[int]:
    """Places in `a` of one of the longest subsequences that `b` has too; of ties, the one rouge-score takes."""
    longest = [[0] * (len(b) + 1)]  # [i][j]: of the first i words of a and the first j of b
    for word in a:
        above, row = longest[-1], [0]
        for j, other in enumerate(b):
            row.append(above[j] + 1 if word == other else max(above[j + 1], row[j]))
        longest.append(row)
    i, j, places = len(a), len(b), list[int]()
    while i and j:
        if a[i - 1] == b[j - 1]:
            i, j = i - 1, j - 1
            places.append(i)
        elif longest[i][j - 1] > longest[i - 1][j]:
            j -= 1
        else:
            i -= 1
    return places[::-1]
