"""A corpus on one page: its funnel, what was dropped and why, its domains beside WebText's, languages, lengths.

The numbers are those of `gpt2.corpus.statistics.measure`; the page is made as the run's report is (page.py),
from texts and addresses that strangers wrote, so everything is escaped and nothing is a link.

    gpt2 corpus report corpus --data my_data
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from gpt2.console import count
from gpt2.report.markup import Html, facts, join, table, tag
from gpt2.report.page import Section, day, funnel, whole
from gpt2.report.plots import bar
from gpt2.workspace import Json, atomic_write

EXAMPLES = 3
"""Shown of each rule."""
LANGUAGES = 25
ORDER = [
    "links",
    "fetch",
    "reading",
    "pages",
    "votes",
    "extraction",
    "cutting",
    "cleaning",
    "duplicates",
    "removals",
]
"""Of steps that drop."""


def write_corpus_report(measured: Json, path: Path) -> None:
    """Write what `measure` found as one HTML file; the same numbers give the same bytes."""
    with atomic_write(path, "w") as stream:
        stream.write(page(measured))


def page(measured: Json) -> str:
    """The whole document."""
    sections = [
        *([steps(measured)] if measured["corpus"]["funnel"] else []),
        *([drops(measured)] if measured["corpus"]["drops"] or measured["corpus"]["taken"] else []),
        domains(measured),
        languages(measured),
        lengths(measured),
        *([making(measured)] if measured["corpus"]["made"] else []),
    ]
    title = f"A corpus of {measured['documents']:,} documents"
    return whole(title, opening(title, measured, sections), sections, closing())


def opening(title: str, measured: Json, sections: list[Section]) -> Html:
    """Title, what it was made from, key figures and contents."""
    corpus = measured["corpus"]
    contents = [
        tag("a", f"{i}  {heading}", href=f"#{anchor}") for i, (anchor, heading, _) in enumerate(sections, 1)
    ]
    first = measured["languages"][0]
    pairs: list[tuple[object, object]] = [
        ("documents", f"{measured['documents']:,}"),
        ("characters", count(measured["characters"])),
        ("domains", f"{measured['domains']['different']:,}"),
        (f"in {first['language']}, by bytes", f"{first['bytes'] / max(1, measured['bytes']):.1%}"),
    ]
    made = [day(corpus["made"])] if corpus["made"] else []
    made += [f"digest {corpus['digest']}"] if corpus["digest"] else []
    return tag(
        "header",
        tag("p", "Links to pages to documents, as WebText was made", class_="kicker"),
        tag("h1", title),
        tag("p", " · ".join(made), class_="meta") if made else "",
        tag("p", "Made of ", tag("bdi", corpus["description"]), ".", class_="lead")
        if corpus["description"]
        else "",
        facts(pairs, "numbers"),
        tag("nav", *contents, aria_label="Contents"),
    )


def steps(measured: Json) -> Section:
    """How many came through each step."""
    text = tag("p", "How many came through each step. Bars compare within one unit.")
    return "funnel", "The funnel", join(text, funnel(measured["corpus"]["funnel"]))


def drops(measured: Json) -> Section:
    """What each rule dropped, with examples, and what was taken out of texts."""
    rows = measured["corpus"]["drops"]
    most = max((row["count"] for row in rows), default=1)
    shown: list[list[object]] = []
    starts = []
    for _, group in groupby(sorted(rows, key=place), key=lambda row: row["step"]):
        starts.append(len(shown))
        for row in group:
            title = f"{row['reason']}: {row['count']:,}"
            shown.append(
                [row["step"], tag("bdi", row["reason"]), row["count"], bar(row["count"] / most, title)]
            )
    parts = [
        tag(
            "p",
            "Each drop is counted under the first rule that fell on it, so those of a step add up to what it did not "
            "pass on. Every dropped document has a row with its reason in the drops files of its step.",
        ),
        tag(
            "div",
            table("llrb", ["step", "reason", "count", ""], shown, "Drops", "free", starts[1:]),
            class_="wide",
        ),
    ]
    if measured["corpus"]["taken"]:
        pieces = sorted(measured["corpus"]["taken"], key=place)
        taken: list[list[object]] = [[row["step"], tag("bdi", row["what"]), row["count"]] for row in pieces]
        parts += [
            tag("h3", "What was taken out of texts, or lost before it could be counted"),
            table("llr", ["step", "what", "pieces"], taken, "Taken out", "free"),
        ]
    told = [
        row
        for row in sorted(rows, key=place)
        if any(e["text"] or e["detail"] for e in row.get("examples", []))
    ]
    examples = [example(row) for row in told]
    if examples:
        parts += [tag("h3", "Examples of what was dropped"), *examples]
    return "drops", "What was dropped, and why", join(*parts)


def place(row: Json) -> tuple[int, str]:
    """Where a step's drops stand: in the order of the recipe."""
    return (ORDER.index(row["step"]) if row["step"] in ORDER else len(ORDER), row["step"])


def example(row: Json) -> Html:
    """A few of what a rule dropped."""
    shown = []
    for found in row["examples"][:EXAMPLES]:
        said = [tag("p", tag("bdi", found["id"]), class_="label")]
        if found["detail"] and found["detail"] != row["reason"]:
            said.append(tag("p", tag("bdi", found["detail"]), class_="small"))
        if found["text"].strip():
            said.append(tag("div", found["text"], class_="text", dir="auto"))
        shown.append(tag("div", *said))
    heading = tag("h3", tag("span", f"{row['step']} · "), tag("bdi", row["reason"]))
    return tag("article", heading, tag("div", *shown, class_="columns"), class_="sample wide")


def domains(measured: Json) -> Section:
    """The largest domains, beside WebText's where its list was given."""
    found = measured["domains"]
    webtext = found["webtext"]
    if not found["with_address"]:
        return "domains", "Domains", tag("p", "The documents have no addresses.")
    most = found["largest"][0]["documents"]
    ours = [
        [
            tag("bdi", row["domain"]),
            row["documents"],
            bar(row["documents"] / most, f"{row['domain']}: {row['documents']:,}"),
            *([row["webtext_rank"] or "–"] if webtext else []),
        ]
        for row in found["largest"]
    ]
    header = ["domain", "documents", "", *(["rank in WebText"] if webtext else [])]
    parts = [
        tag(
            "p",
            f"{found['with_address']:,} documents come from {found['different']:,} domains, named without their "
            "endings as OpenAI named them (bbc for bbc.co.uk). ",
            beside(webtext, found["with_address"])
            if webtext
            else "Give the folder of OpenAI's domains.txt with --data to set WebText's beside them.",
        ),
        tag("div", table("lrb" + "r" * bool(webtext), header, ours, "Largest domains"), class_="wide"),
    ]
    if webtext:
        top = webtext["largest"][0]["webtext"]
        theirs = [
            [
                i,
                tag("bdi", row["domain"]),
                row["webtext"],
                tag("div", bar(row["webtext"] / top, f"WebText: {row['webtext']:,}"), class_="theirs"),
                row["documents"],
                row["rank"] or "–",
            ]
            for i, row in enumerate(webtext["largest"], 1)
        ]
        header = ["", "WebText's domains", "documents in WebText", "", "documents here", "rank here"]
        parts += [
            tag("h3", "WebText's largest domains, and these here"),
            tag("div", table("llrbrr", header, theirs, "WebText's largest domains"), class_="wide"),
        ]
    return "domains", "Domains", join(*parts)


def beside(webtext: Json, documents: int) -> str:
    """How the domains compare with WebText's."""
    share = webtext["documents"] / max(1, documents)
    same = webtext["rank_correlation"]
    ranks = (
        f" The order of those is like WebText's to {same:.2f} (Spearman's correlation)."
        if same is not None
        else ""
    )
    return (
        f"Of WebText's {webtext['domains']:,} largest domains {webtext['ours']:,} are here, with {share:.1%} of the "
        f"documents.{ranks}"
    )


def languages(measured: Json) -> Section:
    """Languages by bytes, and French beside the paper's."""
    rows = measured["languages"]
    total, paper = max(1, measured["bytes"]), measured["webtext"]
    french = next((row["bytes"] for row in rows if row["language"] == "fr"), 0)
    shown = [
        [
            row["language"],
            row["documents"],
            row["bytes"],
            share(row["bytes"], total, row["language"]),
            f"{row['bytes'] / total:.3%}",
        ]
        for row in rows[:LANGUAGES]
    ]
    text = (
        f"The paper found about {paper['french'] / 1e6:.0f} MB of French in its {paper['bytes'] / 1e9:.0f} GB of "
        f"text ({paper['french'] / paper['bytes']:.3%}), although it had filtered other languages out. Here "
        f"{french / 1e6:,.3f} MB of {total / 1e6:,.1f} MB are French ({french / total:.3%})."
    )
    header = ["language", "documents", "bytes", "", "share of bytes"]
    return (
        "languages",
        "Languages",
        join(tag("p", text), tag("div", table("lrrbr", header, shown, "Languages"), class_="wide")),
    )


def lengths(measured: Json) -> Section:
    """How long documents are, when they are from, and how many vouched for them."""
    found, paper = measured["lengths"], measured["webtext"]
    most = max(row["documents"] for row in found["bins"])
    shown = [
        [
            f"{row['from']:,} to {row['to'] - 1:,}",
            row["documents"],
            share(row["documents"], most, f"{row['from']:,}"),
        ]
        for row in found["bins"]
    ]
    text = (
        f"A document has {found['mean']:,.0f} characters on average, half have {found['median']:,.0f} or fewer; the "
        f"shortest has {found['shortest']:,}, the longest {found['longest']:,}. WebText's had about "
        f"{paper['bytes'] / paper['documents']:,.0f} bytes each."
    )
    parts = [tag("p", text), table("lrb", ["characters", "documents", ""], shown, "Lengths")]
    known = [row for row in measured["years"] if row["year"] != "unknown"]
    if known:
        most = max(row["documents"] for row in known)
        years = [[row["year"], row["documents"], share(row["documents"], most, row["year"])] for row in known]
        dated = sum(row["documents"] for row in known)
        parts += [
            tag("h3", "When pages were published"),
            tag("p", f"{dated:,} of {measured['documents']:,} documents have a date."),
            table("lrb", ["year", "documents", ""], years, "Years"),
        ]
    if measured["votes"]:
        parts += [tag("h3", "Votes"), facts([(k, f"{v:,}") for k, v in measured["votes"].items()], "facts")]
    return "lengths", "Lengths, days and votes", join(*parts)


def share(value: int, of: int, name: str) -> Html:
    """A bar for one of several numbers."""
    return bar(value / max(1, of), f"{name}: {value:,}")


def making(measured: Json) -> Section:
    """Sources, versions, faults and removals."""
    corpus = measured["corpus"]
    gone = corpus["removals"] or {"urls": 0, "domains": [], "documents": 0}
    removed = (
        f"{gone['documents']:,} documents ({gone['urls']:,} addresses, {len(gone['domains']):,} domains)"
    )
    pairs: list[tuple[object, object]] = [
        ("made", day(corpus["made"])),
        ("digest", tag("code", corpus["digest"])),
        ("sources", listed([f"{s['name']} ({s['size']:,} bytes)" for s in corpus["sources"]])),
        ("removed on request", removed),
        ("versions", ", ".join(f"{name} {version}" for name, version in corpus["made_by"].items())),
    ]
    parts: list[object] = [facts(pairs, "facts")]
    if corpus["faults"]:
        lines = (tag("li", tag("bdi", fault)) for fault in corpus["faults"][:50])
        parts += [tag("h3", "What could not be read"), tag("ul", *lines, class_="small")]
    return "making", "How it was made", join(*parts)


def listed(names: Sequence[str]) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - 20:,} more" if len(names) > 20 else ""
    return (", ".join(names[:20]) or "nothing from outside") + more


def closing() -> Html:
    """Where the same is for programs."""
    return tag(
        "footer",
        tag(
            "p",
            "WebText's numbers are from Radford et al., Language Models are Unsupervised Multitask Learners, OpenAI, "
            "2019, and the list of domains published with its code. The same numbers for programs: gpt2 corpus "
            "report --json, and datasheet.json beside the documents.",
            class_="small",
        ),
    )
