"""gpt2 reproduce and gpt2 report: the main job, and its page drawn anew.

gpt2 reproduce --minutes 10 --out reproduce
gpt2 report reproduce
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from gpt2.cli.talk import TALK, Amount, Seed, Talk

SOURCE = Group("Your own material (one of these)", sort_key=10)


def reproduce(
    *,
    minutes: Amount = 10,
    out: Path = Path("reproduce"),
    seed: Seed = 0,
    text: Annotated[Path | None, Parameter(group=SOURCE)] = None,
    pages: Annotated[list[Path] | None, Parameter(group=SOURCE, consume_multiple=True)] = None,
    links: Annotated[Path | None, Parameter(group=SOURCE)] = None,
    data: Path | None = None,
    talk: Talk = TALK,
) -> None:
    """The whole paper in miniature, on this machine: web pages become text, tokens, four GPT-2s and a report.

    Without material of yours it uses the documentation that Python carries, and no network.

    Killed at any moment, the same command goes on where it was.

    Parameters
    ----------
    minutes:
        Time for all of it; more time means larger models trained for longer.
    out:
        Folder for everything that is made.
    seed:
        Decides first weights, order of tokens and samples.
    text:
        A file or folder of text (.txt, .md, .jsonl, .parquet).
    pages:
        WARC files.
    links:
        A list of links to fetch (one URL a line, or CSV or JSON lines with a score).
    data:
        Folder with the paper's data sets: the largest model is measured on them too, in time beyond --minutes.
    """
    from gpt2.reproduce import ReproduceConfig
    from gpt2.reproduce import reproduce as run

    config = ReproduceConfig(out, minutes, text, tuple(pages or ()), links, data, seed)
    results = run(config, talk.console)
    asked = results["cloze"]["counts"] if results["ladder"] else {}
    rows = [
        [
            r["name"],
            r["parameters"],
            r["tokens"],
            r["heldout_perplexity"],
            "{:.2f} to {:.2f}".format(*r["heldout_interval"]),
            *("{value:.1f} %".format(**r["cloze"]["results"][kind]) for kind in asked),
        ]
        for r in results["ladder"]
    ]
    if rows:
        header = ["size", "parameters", "tokens", "held-out perplexity", "95 % interval", *asked]
        talk.table(header, rows)
    talk.result(results, f"report: {results['report']}")


def report(run: Path, *, talk: Talk = TALK) -> None:
    """Draw report.html anew from the results of `gpt2 reproduce`.

    Parameters
    ----------
    run:
        Folder of `gpt2 reproduce`.
    """
    from gpt2.report import write_report
    from gpt2.workspace import read_json

    page = run / "report.html"
    write_report(read_json(run / "results.json"), page)
    talk.result({"report": page}, f"report: {page}")
