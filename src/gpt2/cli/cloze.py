"""gpt2 cloze: questions out of your own documents, to measure models on your own domain.

gpt2 cloze my_texts/ cloze && gpt2 evaluate MODEL --tasks cloze --data cloze
"""

from __future__ import annotations

from pathlib import Path

from gpt2.cli.talk import TALK, Seed, Talk, Whole


def cloze(
    documents: Path,
    out: Path,
    *,
    last_words: Whole = 500,
    choices: Whole = 500,
    seed: Seed = 0,
    talk: Talk = TALK,
) -> None:
    """Make cloze questions of documents: LAMBADA's last words, and ten choices as the Children's Book Test has.

    Measure a model on them with `gpt2 evaluate MODEL --tasks cloze --data OUT`. Documents that a model has
    learned from say little about it: take others.

    Parameters
    ----------
    documents:
        A file or folder of text (.txt, .md, .jsonl, .parquet).
    out:
        Folder for the questions: all of them, and copies in the original formats of both tests.
    last_words:
        Passages whose last word is asked, at most.
    choices:
        Ten-choice questions for nouns, and for names, at most.
    seed:
        Decides which sentences are asked, and what the choices are.
    """
    from gpt2.corpus.documents import read_text
    from gpt2.evaluation.cloze import ClozeConfig, build, write_cloze

    made = build(read_text(documents), ClozeConfig(last_words, choices, seed))
    paths = write_cloze(made, out)
    sources = {
        "last_words": [item.group for item in made.last_words],
        "nouns": [item.group for item in made.nouns],
        "names": [item.group for item in made.names],
    }
    rows = [[kind.replace("_", " "), len(found), len(set(found))] for kind, found in sources.items()]
    talk.table(["kind", "questions", "sources"], rows)
    share = made.in_context
    said = "" if share is None else f"{share:.0%} of the last words stand in their context\n"
    counts = {kind: len(found) for kind, found in sources.items()}
    talk.result({**counts, "in_context": share, "files": paths}, said + "\n".join(map(str, paths)))
