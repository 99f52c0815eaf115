"""The report's sections about the trained sizes: training, perplexity against size, samples.

A difference between two sizes is paired over the same held-out documents, and one whose 95% interval
includes 0 is called within noise. The paper's Figure 4 stands beside ours for its shape alone: its
perplexities are of other text, in tokens of another vocabulary.
"""

from __future__ import annotations

import math

from gpt2.console import duration
from gpt2.evaluation.heldout import LIMIT
from gpt2.report.markup import Html, join, table, tag
from gpt2.report.plots import Point, figure, legend, loss_curves, perplexity_panel, size_class
from gpt2.workspace import Json

FIGURE_4 = [
    Point("124M", 124_439_808, heldout=16.89, train=16.22),
    Point("355M", 354_823_168, heldout=12.93, train=12.26),
    Point("774M", 774_030_080, heldout=11.24, train=10.37),
    Point("1558M", 1_557_611_200, heldout=10.19, train=8.91),
]
"""The paper's Figure 4: perplexity on WebText, read off the figure to within 0.05, at the released models'
true parameter counts (the paper calls them 117M, 345M, 762M and 1542M)."""


def step_in_words(small: Json, large: Json) -> Html:
    """How a size compares with the one below."""
    versus = large["versus_previous"]
    names = f"{large['name']} against {small['name']}: "
    better = f"better on {versus['better_on']:,} of {versus['documents']:,} documents"
    # A difference d in nats a token multiplies perplexity by exp(d).
    change, low, high = (100 * math.expm1(d) for d in (versus["loss_difference"], *versus["interval"]))
    if verdict(versus) == "within noise":
        span = f"{change:+.1f}% (95% interval {low:+.1f} to {high:+.1f}%)".replace("-", "−")
        return join(
            names, f"perplexity {span}, {better}: ", tag("strong", "within noise", class_="noise"), "."
        )
    way, ends = ("lower", (-high, -low)) if change < 0 else ("higher", (low, high))
    return join(
        names,
        tag("strong", f"perplexity {abs(change):.1f}% {way}"),
        f" (95% interval {ends[0]:.1f} to {ends[1]:.1f}%), {better}.",
    )


def verdict(versus: Json) -> str:
    """Whether a paired difference stands out of the noise."""
    low, high = versus["interval"]
    return "better" if high < 0 else "worse" if low > 0 else "within noise"


# Training (paper 2.3)


def training(results: Json) -> tuple[str, str, Html]:
    """The sizes, what each was trained on, and their loss curves."""
    rows = results["ladder"]
    header = [
        "size",
        "layers",
        "heads",
        "channels",
        "parameters",
        "not embeddings",
        "steps",
        "tokens",
        "epochs",
        "learning rate",
        "time",
        "tokens a second",
    ]
    shown = [
        [
            row["name"],
            *(
                row[k]
                for k in ("n_layer", "n_head", "n_embd", "parameters", "non_embedding", "steps", "tokens")
            ),
            f"{row['epochs']:.2f}",
            f"{row['learning_rate']:g}",
            duration(row["seconds"]),
            row["tokens_per_second"],
        ]
        for row in rows
    ]
    curves = tag(
        "figure",
        legend(
            ("raw", "training loss of each step"),
            ("smooth", "smoothed"),
            ("heldout", "loss on held-out documents"),
        ),
        loss_curves(rows),
        tag(
            "figcaption",
            tag("b", "Loss while training."),
            " All sizes see the same tokens in the same order. The points are the loss on the beginnings of a few "
            "held-out documents, the same each time; the whole measure follows below. The first steep fall lies "
            "above the frame.",
        ),
        class_="wide curves",
    )
    first = rows[0]
    content = join(
        tag(
            "p",
            f"The sizes differ in layers, heads and channels; all read {results['data']['context']:,} tokens of "
            f"context, {first['batch_tokens']:,} tokens a step. Steps were fixed before the first began, as many for "
            "each size; the learning rate is the highest, reached after a warm-up.",
        ),
        tag("div", table("l" + "r" * 11, header, shown, "The ladder of sizes"), class_="wide"),
        curves,
    )
    return "training", "Training", content


# Perplexity against size (paper Figure 4)


def perplexity(results: Json) -> tuple[str, str, Html]:
    """The main figure beside the paper's, and its numbers."""
    rows, facts_of = results["ladder"], results["data"]
    points = [
        Point(
            row["name"],
            row["parameters"],
            row["heldout_perplexity"],
            row["train_perplexity"],
            (row["heldout_interval"][0], row["heldout_interval"][1]),
        )
        for row in rows
    ]
    panels = [
        panel("This run", f"{facts_of['heldout_documents']:,} held-out documents, own vocabulary", points),
        panel("The paper, Figure 4", "WebText, GPT-2's vocabulary", FIGURE_4),
    ]
    caption = [
        tag("b", "The paper's Figure 4, and ours."),
        " Left: perplexity per token of this run's own vocabulary. Each document starts from ",
        tag("code", "<|endoftext|>"),
        f" with nothing before it, is read in windows of {facts_of['context']:,} tokens without overlap, and counts "
        f"with at most its first {LIMIT:,} tokens; training perplexity is of as many training documents, measured "
        "alike. Bars are 95% intervals from a bootstrap over whole sources. Right: the paper's perplexities on the "
        "training and test parts of WebText, read off its Figure 4 to within ±0.05, at the true parameter counts of "
        "the released models (the paper names them 117M, 345M, 762M and 1542M); it gives no intervals. ",
        tag("b", "Absolute values of the two panels must not be compared"),
        ": vocabulary, data and units differ, and each panel has axes of its own. What compares is the shape.",
    ]
    main = tag(
        "figure",
        legend(
            ("heldout", "held-out documents"), ("interval", "95% interval"), ("train", "training documents")
        ),
        tag("div", *panels, class_="panels"),
        tag("figcaption", *caption),
        class_="wide",
    )
    content = join(
        tag("p", shape_in_words(rows)),
        main,
        tag("div", perplexity_table(rows), class_="wide"),
        tag(
            "p",
            "A negative difference means that the larger size loses less. Differences are paired: both sizes are "
            "measured on the same documents, and their sources are drawn again together, so that what makes a document "
            "hard for both cancels out. Bits a byte do not depend on the vocabulary.",
            class_="small",
        ),
    )
    return "perplexity", "Perplexity against size", content


def panel(title: str, under: str, points: list[Point]) -> Html:
    """One of the figure's two plots."""
    drawn = perplexity_panel(points, f"{title}: perplexity against parameters")
    return tag("div", tag("p", title, tag("small", under), class_="panel-title"), drawn)


def shape_in_words(rows: list[Json]) -> str:
    """Whether larger is better here as it is in the paper."""
    verdicts = [verdict(row["versus_previous"]) for row in rows[1:]]
    better = verdicts.count("better")
    paper = "In the paper each larger GPT-2 predicts WebText better, seen and unseen."
    if better == len(verdicts):
        return (
            f"{paper} So it is here: every step up the ladder lowers held-out perplexity by more than noise."
        )
    return (
        f"{paper} Here the {len(verdicts)} steps up the ladder come out so: {better} better, "
        f"{verdicts.count('within noise')} within noise, {verdicts.count('worse')} worse."
    )


def perplexity_table(rows: list[Json]) -> Html:
    """The numbers of the main figure, and each size against the one below."""
    header = [
        "size",
        "parameters",
        "perplexity, training",
        "perplexity, held-out",
        "95% interval",
        "bits a byte",
        "nats a token against the size below",
        "95% interval",
        "better on",
        "verdict",
    ]
    shown: list[list[object]] = []
    for row in rows:
        versus = row["versus_previous"]
        compared: list[object] = ["", "", "", ""]
        if versus:
            word = verdict(versus)
            compared = [
                signed(versus["loss_difference"]),
                span(*(signed(d) for d in versus["interval"])),
                f"{versus['better_on']:,} of {versus['documents']:,}",
                tag("span", word, class_=None if word == "better" else "noise"),
            ]
        shown.append(
            [
                row["name"],
                row["parameters"],
                figure(row["train_perplexity"]),
                tag("strong", figure(row["heldout_perplexity"])),
                span(*(figure(v) for v in row["heldout_interval"])),
                f"{row['bits_per_byte']:.3f}",
                *compared,
            ]
        )
    return table("lrrrrrrrrl", header, shown, "Perplexity of each size")


def signed(nats: float) -> str:
    """A difference with its sign."""
    return f"{nats:+.3f}".replace("-", "−")


def span(low: str, high: str) -> str:
    """An interval."""
    return f"{low} to {high}"


# Samples (paper Tables 7 to 11)


def samples(results: Json) -> tuple[str, str, Html]:
    """The smallest and the largest size from the same contexts, with how the document really goes on."""
    rows = results["ladder"]
    drawn = [sample(i, s, rows) for i, s in enumerate(results["samples"], 1)]
    note = results["samples_note"]
    intro = (
        "As in the paper's appendix, the smallest and the largest size go on from the same contexts, taken from "
        f"documents that neither has seen: {note}."
    )
    none = [] if drawn else [tag("p", "No held-out document is long enough to give a context.")]
    return "samples", "Samples", join(tag("p", intro), *none, *drawn)


def sample(i: int, drawn: Json, rows: list[Json]) -> Html:
    """One context with its three continuations."""
    columns = [
        ("smallest", join("smallest, ", tag("b", rows[0]["name"])), size_class(0, len(rows))),
        ("largest", join("largest, ", tag("b", rows[-1]["name"])), size_class(len(rows) - 1, len(rows))),
        ("original", "how it really goes on", None),
    ]
    return tag(
        "article",
        tag("h3", tag("span", f"Sample {i} · "), tag("bdi", drawn["title"])),
        tag("div", tag("p", "context", class_="label"), text(drawn["context"]), class_="context"),
        tag(
            "div",
            *(
                tag("div", tag("p", label, class_="label"), text(drawn[key]), class_=class_)
                for key, label, class_ in columns
            ),
            class_="columns",
        ),
        class_="sample wide",
    )


def text(words: str) -> Html:
    """Text of the corpus or of a model as it is, in its own direction."""
    return tag("div", words, class_="text", dir="auto")
