"""gpt2 corpus clean: documents mended or dropped by named rules."""

from __future__ import annotations

from pathlib import Path

from gpt2.cli.talk import TALK, Flag, Talk
from gpt2.errors import InputError


def clean(
    documents: Path | None = None,
    *,
    out: Path | None = None,
    rules: Path | None = None,
    show_rules: Flag = False,
    talk: Talk = TALK,
) -> None:
    """Mend and drop documents by named rules, and say what each rule did.

    Parameters
    ----------
    documents:
        Folder of documents, or one Parquet file.
    out:
        Folder for documents/, what is left of each file, with a row for each drop; `gpt2 corpus report` shows some.
    rules:
        File of rules; the rules for web pages when not given.
    show_rules:
        Print the rules as a file to edit, and do nothing else.
    """
    from gpt2.corpus.clean import clean as run
    from gpt2.corpus.clean.rule_lists import read_rules, settings_of
    from gpt2.corpus.clean.rule_lists import show_rules as shown
    from gpt2.corpus.documents import corpus_files

    chosen = read_rules(rules)
    if show_rules:
        talk.result(settings_of(chosen), shown(chosen).rstrip("\n"))
        return
    if documents is None or out is None:
        raise InputError("give the folder of documents and --out for the cleaned ones, or else --show-rules")
    done = run(corpus_files(documents), out, chosen, talk.console)
    talk.table(["rule", "took out"], [[name, n] for name, n in done.taken.items()])
    talk.write("")
    talk.table(["rule", "dropped"], [[name, n] for name, n in done.dropped.items()])
    talk.write("")
    talk.result(done, f"{done.kept:,} of {done.documents:,} documents are left, in {done.folder}")
