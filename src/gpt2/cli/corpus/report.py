"""gpt2 corpus report: a corpus in numbers, as tables and as one page."""

from __future__ import annotations

from pathlib import Path

from gpt2.cli.talk import TALK, Talk


def report(corpus: Path, /, *, data: Path | None = None, out: Path | None = None, talk: Talk = TALK) -> None:
    """Show a corpus: funnel, drops with examples, domains beside WebText's, languages, lengths.

    Parameters
    ----------
    corpus:
        Folder of a build, or of documents.
    data:
        Folder that has OpenAI's list of WebText's domains, webtext/domains.txt; else that in GPT2_DATA.
    out:
        Page to write; report.html in the corpus's folder when not given.
    """
    from gpt2.corpus.build.statistics import measure, published_domains
    from gpt2.report.corpus import write_corpus_report

    found = measure(corpus, published_domains(data), talk.console)
    path = out or corpus / "report.html"
    write_corpus_report(found, path)
    told, domains = found["corpus"], found["domains"]
    if told["funnel"]:
        talk.table(
            ["step", "count", "of", "note"],
            [[row[name] for name in ("step", "count", "unit", "note")] for row in told["funnel"]],
        )
        talk.write("")
        drops = [[row["step"], row["reason"], row["count"]] for row in told["drops"][:30]]
        talk.table(["step", "reason", "dropped"], drops)
        talk.write("")
        if told["taken"]:
            taken = [[row["step"], row["what"], row["count"]] for row in told["taken"]]
            talk.table(["step", "what", "taken out or lost"], taken)
            talk.write("")
    largest = [
        [row["domain"], row["documents"], row["webtext_rank"] or ""] for row in domains["largest"][:20]
    ]
    talk.table(["domain", "documents", "rank in WebText"], largest)
    talk.write("")
    rows = [[row["language"], row["documents"], row["bytes"]] for row in found["languages"][:15]]
    talk.table(["language", "documents", "bytes"], rows)
    talk.write("")
    bins = [[f"{row['from']:,} to {row['to'] - 1:,}", row["documents"]] for row in found["lengths"]["bins"]]
    talk.table(["characters", "documents"], bins)
    talk.result(found | {"report": path}, f"\nreport: {path}")
