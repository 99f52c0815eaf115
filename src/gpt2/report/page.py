"""The report's page: its frame, and the sections that every run has.

It tells the run in the paper's order: what came out, the data, the tokenizer, then the trained sizes (see
ladder.py, cloze.py and tables.py), then how it was made. A run with too little text for a ladder says why in its place.
All keys of the results are asked for by name: one that is missing, as in the results of an older version, is
an error, never a gap.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from gpt2.console import duration
from gpt2.errors import FormatError
from gpt2.report import cloze, ladder, tables
from gpt2.report.markup import Html, facts, join, table, tag
from gpt2.report.plots import bar, figure
from gpt2.report.style import STYLE
from gpt2.workspace import Json, atomic_write

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""What the page may load: nothing."""
GPT2_VOCABULARY = 50_257

Section = tuple[str, str, Html]
"""Anchor, heading, content."""


def write_report(results: Json, path: Path) -> None:
    """Write the results of `reproduce` as one HTML file; the same results give the same bytes.

    Raises `FormatError` when a key is missing that the report needs.
    """
    try:
        text = page(results)
    except KeyError as missing:
        raise FormatError(
            f"the results have no {missing}, which the report shows; they are of another version: "
            "make them anew with gpt2 reproduce and a new folder for --out"
        ) from missing
    with atomic_write(path, "w") as stream:
        stream.write(text)


def page(results: Json) -> str:
    """The whole document."""
    sections = [data(results), tokenizer(results)]
    if results["ladder"]:
        sections += [ladder.training(results), ladder.perplexity(results)]
        sections.append(cloze.cloze(results))
        sections += [tables.tables(results)] if results["tables"] else []
        sections.append(ladder.samples(results))
    else:
        sections.append(("models", "No models were trained", notice(results)))
    sections.append(making(results))
    return whole(results["title"], opening(results, sections), sections, closing())


def whole(title: str, opening: Html, sections: list[Section], closing: Html) -> str:
    """A document of sections between its opening and its closing."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", STYLE),
    )
    parts = [
        tag("section", numbered(i, heading), content, id=anchor)
        for i, (anchor, heading, content) in enumerate(sections, 1)
    ]
    body = [opening, tag("main", Html("\n".join(parts))), closing]
    return "<!doctype html>\n" + tag("html", head, "\n", tag("body", Html("\n".join(body))), lang="en") + "\n"


def numbered(i: int, heading: str) -> Html:
    """A section's heading."""
    return tag("h2", tag("span", i, class_="count"), heading)


# What came out


def opening(results: Json, sections: list[Section]) -> Html:
    """Title, summary, key figures and contents."""
    made = results["made"]
    contents = [
        tag("a", f"{i}  {heading}", href=f"#{anchor}") for i, (anchor, heading, _) in enumerate(sections, 1)
    ]
    return tag(
        "header",
        tag(
            "p",
            "The paper in miniature: Language Models are Unsupervised Multitask Learners",
            class_="kicker",
        ),
        tag("h1", results["title"], dir="auto"),
        tag(
            "p",
            day(made["date"]),
            " · ",
            made["machine"]["processor"],
            " · ",
            duration(made["seconds"]),
            class_="meta",
        ),
        summary(results) if results["ladder"] else notice(results),
        key_figures(results),
        tag(
            "div",
            tag("p", "The command that made it", class_="label"),
            tag("pre", tag("code", made["command"])),
        ),
        tag("nav", *contents, aria_label="Contents"),
    )


def summary(results: Json) -> Html:
    """The key result in plain words, and each step of the ladder with its interval."""
    rows = results["ladder"]
    first, last, n = rows[0], rows[-1], results["data"]["heldout_documents"]
    falls = "falls" if last["heldout_perplexity"] < first["heldout_perplexity"] else "rises"
    lead = tag(
        "p",
        f"GPT-2s of {len(rows)} sizes were trained on the same {first['tokens']:,} tokens in the same order. "
        f"Perplexity over {n:,} held-out documents {falls} ",
        tag("strong", f"from {figure(first['heldout_perplexity'])} to {figure(last['heldout_perplexity'])}"),
        f" as parameters grow from {first['parameters']:,} to {last['parameters']:,}.",
        class_="lead",
    )
    steps = [tag("li", ladder.step_in_words(small, large)) for small, large in pairwise(rows)]
    return join(lead, tag("ul", *steps))


def key_figures(results: Json) -> Html:
    """The run in four numbers."""
    facts_of, rows = results["data"], results["ladder"]
    pairs: list[tuple[object, object]] = [
        ("documents", f"{facts_of['documents']:,}"),
        ("held out", f"{facts_of['heldout_documents']:,}"),
        ("tokens to train on", f"{facts_of['train_tokens']:,}"),
    ]
    if rows:
        pairs.append(("held-out perplexity of the largest", figure(rows[-1]["heldout_perplexity"])))
    else:
        pairs.append(("vocabulary", f"{results['tokenizer']['n_vocab']:,}"))
    return facts(pairs, "numbers")


def notice(results: Json) -> Html:
    """Why there is no ladder."""
    return join(*(tag("p", remark, class_="notice", dir="auto") for remark in results["remarks"]))


# Data (paper 2.1)


def data(results: Json) -> Section:
    """The funnel, what was dropped and why, and what is held out."""
    facts_of = results["data"]
    both = results["training_documents_in_both_splits"]
    split = f"Documents in both splits: {both:,}."
    warning = " The held-out figures below are not to be trusted."
    content = join(
        tag("p", "The documents come from ", tag("bdi", results["source"]["description"]), "."),
        funnel(results["funnel"]),
        tag("h3", "What was dropped, and why"),
        drops(results["drops"]),
        tag("h3", "What is held out"),
        tag(
            "p",
            f"Held out are {facts_of['heldout_documents']:,} of {facts_of['documents']:,} documents "
            f"({facts_of['heldout_tokens']:,} tokens): {facts_of['heldout_rule']}. No model and no vocabulary "
            "learned from them. ",
            tag("strong", split, class_="noise" if both else None),
            warning if both else "",
        ),
    )
    return "data", "Data: from links to tokens", content


def funnel(rows: list[Json]) -> Html:
    """Each step as a bar; bars compare within one unit, the largest of which fills its track."""
    most: dict[str, int] = {}
    for row in rows:
        most[row["unit"]] = max(most.get(row["unit"], 1), row["count"])
    shown = []
    for i, row in enumerate(rows):
        before = rows[i - 1] if i and rows[i - 1]["unit"] == row["unit"] else None
        kept = f"{row['count'] / before['count']:.1%} kept" if before and before["count"] else ""
        share = row["count"] / most[row["unit"]]
        title = f"{row['step']}: {row['count']:,} {row['unit']}"
        shown.append([row["step"], row["count"], row["unit"], bar(share, title), kept, row["note"]])
    starts = [i for i, row in enumerate(rows) if i and rows[i - 1]["unit"] != row["unit"]]
    header = ["step", "count", "", "share of the most in this unit", "of the step before", "note"]
    return tag(
        "div",
        table("lrlbrl", header, shown, "Funnel from links to tokens", "funnel free", starts),
        class_="wide",
    )


def drops(rows: list[Json]) -> Html:
    """What each rule dropped."""
    if not rows:
        return tag("p", "Nothing was dropped.")
    shown = [[row["step"], row["reason"], row["count"]] for row in rows]
    return table("llr", ["step", "reason", "count"], shown, "Drops with their reasons", "free")


# Tokenizer (paper 2.2)


def tokenizer(results: Json) -> Section:
    """The vocabulary learned, and how it compares with GPT-2's own."""
    learned = results["tokenizer"]
    chips = [tag("li", tag("code", spelled(merge)), dir="auto") for merge in learned["merges_first"]]
    rows = []
    for sample in learned["compression"]:
        rates = {which: sample["bytes"] / max(1, sample[which]) for which in ("ours", "gpt2")}
        most = max(*rates.values(), 1e-9)
        for which, name, size, class_ in (
            ("ours", "learned here", learned["n_vocab"], "ours"),
            ("gpt2", "GPT-2's own", GPT2_VOCABULARY, "theirs"),
        ):
            rate = f"{rates[which]:.2f}"
            drawn = tag("div", bar(rates[which] / most, f"{name}: {rate} bytes a token"), class_=class_)
            rows.append([name, rate, drawn, size, sample["text"], sample["bytes"], sample[which]])
    header = ["vocabulary", "bytes a token", "", "size", "text", "bytes", "tokens"]
    content = join(
        tag(
            "p",
            f"A byte-level BPE vocabulary of {learned['n_vocab']:,} was learned from the training documents "
            "alone, by the paper's rule: no merge crosses letters, digits and signs, except for one leading "
            "space. The first merges:",
        ),
        tag("ul", *chips, class_="chips"),
        tag("div", table("lrbrlrr", header, rows, "Compression of two vocabularies"), class_="wide"),
        tag(
            "p",
            "More bytes a token is better compression. GPT-2's vocabulary is larger and was learned from other "
            "text, so perplexities a token of the two do not compare; bits a byte do.",
            class_="small",
        ),
    )
    return "tokenizer", "Tokenizer", content


def spelled(merge: str) -> str:
    """A merge with its white space made visible."""
    return merge.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")


# How it was made


def making(results: Json) -> Section:
    """Machine, versions, seeds, times and remarks."""
    made = results["made"]
    machine = made["machine"]
    total = max(sum(s["seconds"] for s in results["stages"]), 1e-9)
    times = [
        [
            s["name"],
            duration(s["seconds"]),
            bar(s["seconds"] / total, f"{s['name']}: {s['seconds'] / total:.0%}"),
        ]
        for s in results["stages"]
    ]
    pairs: list[tuple[object, object]] = [
        ("command", tag("code", made["command"])),
        ("made", day(made["date"])),
        ("processor", f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads used"),
        ("memory", f"{machine['memory_gb']} GB"),
        ("system", machine["system"]),
        ("matrix products in", made["dtype"]),
        ("seeds", ", ".join(f"{name} {seed}" for name, seed in made["seeds"].items())),
        ("versions", ", ".join(f"{name} {version}" for name, version in made["versions"].items())),
    ]
    remarks = results.get("remarks", [])
    content = [
        facts(pairs, "facts"),
        tag("h3", f"Time: {duration(made['seconds'])} in all"),
        table("lrb", ["stage", "time", "share of all"], times, "Time of each stage"),
    ]
    if remarks:
        content += [tag("h3", "Remarks"), tag("ul", *(tag("li", r, dir="auto") for r in remarks))]
    return "making", "How it was made", join(*content)


def day(date: str) -> str:
    """'2026-01-02 03:04 UTC' of '2026-01-02T03:04:05Z'."""
    return f"{date[:10]} {date[11:16]} UTC"


def closing() -> Html:
    """Whose paper it is."""
    return tag(
        "footer",
        tag(
            "p",
            "After A. Radford, J. Wu, R. Child, D. Luan, D. Amodei and I. Sutskever, Language Models are "
            "Unsupervised Multitask Learners, OpenAI, 2019. Everything on this page is in this file; the "
            "numbers are in results.json beside it.",
            class_="small",
        ),
    )
