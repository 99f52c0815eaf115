"""The paper's Figure 1, four tasks against size with its baselines and people, and this run's largest size in it.

Of a task, the result stands in its panel that was measured under the protocol nearest to the paper's; without
its data a panel shows the paper's alone.
"""

from __future__ import annotations

from gpt2.evaluation.published import known, lines_of
from gpt2.model.config import SIZES, GPT2Config
from gpt2.report.markup import Html, tag
from gpt2.report.plots import Share, accuracy_panel, legend
from gpt2.workspace import Json

PANELS = [
    # task, metric, protocol of ours, title, under it
    ("coqa", "F1", "coqa/gold", "Reading comprehension", "CoQA, F1"),
    (
        "translation-fr-en",
        "BLEU",
        "translation-fr-en/first-sentence",
        "Translation",
        "French to English, BLEU",
    ),
    ("summarization", "ROUGE average", "summarization/rouge-mean", "Summaries", "CNN and Daily Mail, ROUGE"),
    (
        "natural-questions",
        "exact match",
        "natural-questions/exact-match",
        "Questions",
        "Natural Questions, %",
    ),
]


def figure1(results: Json) -> Html:
    """Four panels, two and two."""
    largest = results["ladder"][-1]
    drawn = [panel(largest, results["tables"], *row) for row in PANELS]
    caption = [
        tag("b", "The paper's Figure 1, and this run's largest size."),
        " Circles are GPT-2s, read off the paper's figure, at the released models' true parameter counts; dotted "
        "lines are the systems that the paper compares with. The square is the largest size here, with its 95% "
        "interval, on as many items as the table says. It is of another size, vocabulary and kind of text than "
        "any of the paper's, and so stands there to be seen, not to be judged.",
    ]
    return tag(
        "figure",
        legend(
            ("paper", "the paper"), ("ours", f"this run's {largest['name']}"), ("interval", "95% interval")
        ),
        tag("div", *drawn, class_="panels"),
        tag("figcaption", *caption),
        class_="wide figure1",
    )


def panel(
    largest: Json, rows: list[Json], task: str, metric: str, protocol: str, title: str, under: str
) -> Html:
    """One of the four tasks."""
    paper = next(
        p
        for p in known().paper
        if (p.task, p.metric) == (task, metric) and (not p.protocols or protocol in p.protocols)
    )
    kinds = {
        "paper": [
            Share(name, GPT2Config.size(name).num_parameters(), paper.values[name])
            for name in SIZES
            if name in paper.values
        ]
    }
    own = next((row for row in rows if row["protocol"] == protocol and row["value"] is not None), None)
    if own is not None:
        interval = None if own["low"] is None else (own["low"], own["high"])
        kinds["ours"] = [Share(largest["name"], largest["parameters"], own["value"], interval)]
    levels = [("baseline", line.name, line.value) for line in lines_of(task) if line.metric == metric]
    plot = accuracy_panel(kinds, levels, f"{title}, against size", 260, metric)
    return tag("div", tag("p", title, tag("small", under), class_="panel-title"), plot)
