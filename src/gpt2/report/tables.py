"""The report's section on the paper's own tasks, of a run that was given their data (`--data DIR`).

The rows are those of `gpt2 evaluate` on the largest size: ours, and the paper's for its smallest, as context.
"""

from __future__ import annotations

from gpt2.evaluation.results import number
from gpt2.report.figure1 import figure1
from gpt2.report.markup import Html, join, table, tag
from gpt2.workspace import Json


def tables(results: Json) -> tuple[str, str, Html]:
    """The largest size on the paper's tasks, beside the paper's numbers."""
    rows, name = results["tables"], results["ladder"][-1]["name"]
    header = ["protocol", "metric", "ours", "95% interval", "items", "the paper"]
    shown = [
        [
            row["protocol"],
            row["metric"],
            tag("strong", number(row["value"])),
            "" if row["low"] is None else f"{number(row['low'])} to {number(row['high'])}",
            f"{row['n']:,}" + ("" if row["of"] in (None, row["n"]) else f" of {row['of']:,}"),
            number(row["paper"]) + (f" ({row['paper_size']})" if row["paper_size"] else ""),
        ]
        for row in rows
        if row["value"] is not None
    ]
    without = {f"{row['task']}: {row['verdict']}": None for row in rows if row["value"] is None}
    content = [
        tag(
            "p",
            f"The largest size, {name}, without any training for them, on the tasks of the paper's tables whose data "
            "was given; of each at most the first items, as the columns say. The paper's numbers, of GPT-2s with "
            "many times the parameters, are context.",
        ),
        tag("div", table("llrrrr", header, shown, "The paper's tasks"), class_="wide"),
    ]
    content.append(figure1(results))
    if without:
        lines = (tag("li", tag("bdi", line)) for line in without)
        content += [tag("h3", "What was not measured"), tag("ul", *lines, class_="small")]
    return "tables", "The paper's tables", join(*content)
