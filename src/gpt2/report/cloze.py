"""The report's section on cloze questions: accuracy against size, beside the paper's Figure 2, and some questions.

Ours are of the run's own held-out text, and nobody has checked that they can be answered; the paper's are the
Children's Book Test and LAMBADA. So they stand beside each other for their shape, each with the lines that say
what its numbers mean: chance and the most frequent word for ours, people and the best system before for the
paper's.
"""

from __future__ import annotations

from gpt2.report.ladder import text
from gpt2.report.markup import Html, join, table, tag
from gpt2.report.plots import Share, accuracy_panel, figure, legend, size_class
from gpt2.workspace import Json

PAPER = [
    # name, parameters, LAMBADA perplexity and accuracy, CBT-CN, CBT-NE
    ("124M", 124_439_808, 35.13, 45.99, 87.65, 83.4),
    ("355M", 354_823_168, 15.60, 55.48, 92.35, 87.1),
    ("774M", 774_030_080, 10.87, 60.12, 93.45, 88.0),
    ("1558M", 1_557_611_200, 8.63, 63.24, 93.30, 89.05),
]
"""The paper's Table 3, at the released models' true parameter counts."""
PEOPLE = {"nouns": 96.0, "names": 92.0}
"""The paper's Figure 2."""
BAJGAR = {"nouns": 83.7, "names": 78.4}
"""The paper's Figure 2: the best system before (Bajgar et al., 2016)."""
SHOWN = 3
"""Sentences of a question's context that are shown."""


def cloze(results: Json) -> tuple[str, str, Html]:
    """Accuracy on the run's own questions against size, beside the paper's."""
    rows, made = results["ladder"], results["cloze"]
    counts = made["counts"]
    if not counts:
        none = "The held-out documents have too little prose, sentence after sentence, for a cloze question."
        return "cloze", "Cloze questions", tag("p", none)
    kinds = [kind for kind in ("nouns", "names") if kind in counts]
    content = [
        tag("p", questions_in_words(made)),
        tag("p", " ".join(size_in_words(rows, kind) for kind in kinds)),
    ]
    if kinds:
        content.append(main_figure(rows, made, kinds))
    content.append(tag("div", results_table(rows, counts), class_="wide"))
    content.append(tag("div", paper_table(), class_="wide"))
    content.append(
        tag(
            "p",
            "The paper's LAMBADA accuracy passes over stop words, its perplexity is that of the last word; its "
            "Children's Book Test has 2,000 validation questions of each kind. ",
            f"Of the {sum(counts.values()):,} contexts here, {rows[-1]['cloze']['cut']:,} are longer than the "
            f"{results['data']['context']:,} tokens that a model reads, and lose their beginning.",
            class_="small",
        )
    )
    drawn = [example(i, row, rows) for i, row in enumerate(made["examples"])]
    return "cloze", "Cloze questions", join(*content, tag("h3", "Some of the questions"), *drawn)


def questions_in_words(made: Json) -> str:
    """What was asked."""
    counts, sources = made["counts"], made["sources"]
    said = []
    if "last-word" in counts:
        said.append(
            f"{counts['last-word']:,} passages whose last word is to be guessed, as in LAMBADA (it stands in "
            f"{made['in_context']:.0%} of their contexts, from {sources['last-word']:,} sources)"
        )
    said += [
        f"{counts[kind]:,} sentences with a blank for one of ten {kind} out of the twenty sentences before, as in "
        f"the Children's Book Test ({sources[kind]:,} sources)"
        for kind in ("nouns", "names")
        if kind in counts
    ]
    lacking = "" if "names" in counts else " Twenty sentences with five different names were not to be found."
    return (
        "Without any training for it, each size was asked questions made of the held-out documents by rule: "
        f"{', and '.join(said)}. No sentence that is asked stands in a training document.{lacking}"
    )


def size_in_words(rows: list[Json], kind: str) -> str:
    """Whether the largest size answers better than the smallest, as far as their intervals tell."""
    small, large = share_of(rows[0], kind), share_of(rows[-1], kind)
    change = f"Of {kind}, the smallest size finds {small.value:.1f}% and the largest {large.value:.1f}%"
    if small.interval is None or large.interval is None:
        return f"{change}; of one source there are no intervals."
    apart = large.interval[0] > small.interval[1] or large.interval[1] < small.interval[0]
    return (
        f"{change}: their 95% intervals {'lie apart' if apart else 'overlap, so size alone may not be why'}."
    )


def main_figure(rows: list[Json], made: Json, kinds: list[str]) -> Html:
    """Ten-choice accuracy against parameters, ours and the paper's."""
    ours = {kind: [share_of(row, kind) for row in rows] for kind in kinds}
    theirs = {
        kind: [Share(name, parameters, row[k]) for name, parameters, *row in PAPER]
        for k, kind in ((2, "nouns"), (3, "names"))
    }
    levels = [("chance", f"chance, {kind}", made["chance"][kind]) for kind in kinds]
    levels += [(kind, f"most frequent of ten, {kind}", made["most_frequent"][kind]) for kind in kinds]
    people = [(kind, f"people, {kind}", value) for kind, value in PEOPLE.items()]
    people += [(f"{kind} before", f"Bajgar et al., {kind}", value) for kind, value in BAJGAR.items()]
    panels = [
        panel(
            "This run",
            "own held-out documents",
            accuracy_panel(ours, levels, "This run: accuracy of ten choices"),
        ),
        panel(
            "The paper, Figure 2",
            "Children's Book Test",
            accuracy_panel(theirs, people, "The paper: accuracy on the Children's Book Test"),
        ),
    ]
    frequent = " and ".join(f"{made['most_frequent'][kind]:.1f}% ({kind})" for kind in kinds)
    chance = " and ".join(f"{made['chance'][kind]:.1f}% ({kind})" for kind in kinds)
    caption = [
        tag("b", "The word that was left out, of ten."),
        " Scored as in the paper: the probability of the word and of the rest of the sentence after it. Left: bars "
        f"are 95% intervals from a bootstrap over whole sources; dotted is chance, {chance}, dashed the word "
        f"that the context has most often: {frequent}. Right: Table 3's values; dashed are people "
        f"({PEOPLE['nouns']:.1f}% nouns, {PEOPLE['names']:.1f}% names), dotted the best system before "
        f"({BAJGAR['nouns']} and {BAJGAR['names']}%, Bajgar et al.). ",
        tag("b", "The two panels' values must not be compared"),
        ": the questions are of other text, made by other rules.",
    ]
    keys = [("nouns", "nouns"), ("interval", "95% interval"), ("names", "names")]
    return tag(
        "figure",
        legend(*keys),
        tag("div", *panels, class_="panels"),
        tag("figcaption", *caption),
        class_="wide cloze",
    )


def panel(title: str, under: str, drawn: Html) -> Html:
    """One of the figure's two plots."""
    return tag("div", tag("p", title, tag("small", under), class_="panel-title"), drawn)


def share_of(row: Json, kind: str) -> Share:
    """A size's accuracy."""
    found = row["cloze"]["results"][kind]
    low, high = found["interval"] or (None, None)
    interval = None if low is None or high is None else (low, high)
    return Share(row["name"], row["parameters"], found["value"], interval)


def results_table(rows: list[Json], counts: Json) -> Html:
    """Our numbers."""
    columns = [
        ("last-word", "last word, accuracy %"),
        ("last-word-perplexity", "last word, perplexity"),
        ("nouns", "nouns, accuracy %"),
        ("names", "names, accuracy %"),
    ]
    columns = [(name, title) for name, title in columns if name.removesuffix("-perplexity") in counts]
    header = ["size", "parameters"]
    shown: list[list[object]] = [[row["name"], row["parameters"]] for row in rows]
    for name, title in columns:
        header += [title, "95% interval"]
        for cells, row in zip(shown, rows, strict=True):
            found = row["cloze"]["results"][name]
            how = figure if name.endswith("perplexity") else percent
            ends = found["value"] and found["interval"]  # where none is right there is nothing to draw from
            cells += [tag("strong", how(found["value"])), f"{how(ends[0])} to {how(ends[1])}" if ends else ""]
    return table("lr" + "rr" * len(columns), header, shown, "Cloze questions, this run")


def paper_table() -> Html:
    """The paper's numbers."""
    header = [
        "the paper",
        "parameters",
        "LAMBADA, accuracy %",
        "LAMBADA, perplexity",
        "CBT nouns %",
        "CBT names %",
    ]
    shown: list[list[object]] = [
        [name, parameters, f"{accuracy:.2f}", figure(perplexity), f"{nouns:.2f}", f"{names:.2f}"]
        for name, parameters, perplexity, accuracy, nouns, names in PAPER
    ]
    people = f"{PEOPLE['nouns']:.1f}", f"{PEOPLE['names']:.1f}"
    return table("lrrrrr", header, [*shown, ["people", "", "", "", *people]], "The paper's Table 3")


def percent(value: float) -> str:
    """A share with one digit after the point."""
    return f"{value:.1f}"


def example(i: int, row: Json, rows: list[Json]) -> Html:
    """A question with its answer and what the smallest and the largest size made of it."""
    small, large = rows[0]["cloze"]["answers"][i], rows[-1]["cloze"]["answers"][i]
    if row["choices"]:
        passage = " ".join(["…", *row["context"][-SHOWN:], row["question"]]).replace("XXXXX", "_____")
        asked = f"One of ten: {', '.join(row['choices'])}."
        words = "chose "
    else:
        passage = f"{row['question']} _____"
        asked = "The last word."
        words = "gave it a probability of "
    said = [
        (join(who, tag("b", sized["name"])), words, answer, size_class(place, len(rows)))
        for who, sized, answer, place in (
            ("smallest, ", rows[0], small, 0),
            ("largest, ", rows[-1], large, len(rows) - 1),
        )
    ]
    return tag(
        "article",
        tag("h3", tag("span", f"Question {i + 1} · "), tag("bdi", row["group"])),
        tag("div", text(passage), tag("p", tag("bdi", asked), class_="label asked"), class_="context"),
        tag(
            "div",
            *(
                tag("div", tag("p", who, class_="label"), text(said_ + answer), class_=class_)
                for who, said_, answer, class_ in said
            ),
            tag("div", tag("p", "the answer", class_="label"), text(row["answer"])),
            class_="columns",
        ),
        class_="sample wide",
    )
