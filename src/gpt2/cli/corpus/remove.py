"""gpt2 corpus remove: documents taken out for good."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

from gpt2.cli.talk import TALK, Talk

WHAT = Group("What (one or more)", sort_key=10)


def remove(
    corpus: Path,
    /,
    *,
    url: Annotated[list[str] | None, Parameter(group=WHAT, consume_multiple=True)] = None,
    domain: Annotated[list[str] | None, Parameter(group=WHAT, consume_multiple=True)] = None,
    tokens: Path | None = None,
    talk: Talk = TALK,
) -> None:
    """Remove documents from a corpus, and from every later build in its folder.

    Parameters
    ----------
    corpus:
        Folder of a build, or of documents.
    url:
        Addresses of pages.
    domain:
        Domains, with all their subdomains.
    tokens:
        Folder of token shards made of the corpus: says which of its files must be written anew.
    """
    from gpt2.corpus.build import takedown

    what = takedown.asked(url or (), domain or ())
    changed = takedown.remove(corpus, what)
    talk.table(["shard", "removed"], [[row["shard"], len(row["ids"])] for row in changed])
    result: dict[str, Any] = {"removed": sum(len(row["ids"]) for row in changed), "shards": changed}
    result["still_held"] = takedown.still_held(corpus)
    if tokens:
        result["tokens"] = takedown.to_rewrite(tokens, takedown.read_removals(takedown.home(corpus)))
        talk.table(["token files to write anew"], [[name] for name in result["tokens"]["files"]])
    held = ", ".join(map(str, result["still_held"]))
    talk.result(result, f"{result['removed']:,} documents removed" + (f"; still in {held}" if held else ""))
