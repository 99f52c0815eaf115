"""What the report draws, as inline SVG.

A plot is as wide as its place and has a fixed height: places along x are percent, places along y pixels, so
lines, points and letters keep their sizes at every width. Curves live in an inner SVG that is stretched
(`preserveAspectRatio="none"`) while its strokes are not; a mark with a shape of its own is an inner SVG at
its place, with pixels round the origin. Colours and strokes are the style sheet's. Each mark has a `<title>`
that a browser shows on hovering.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from gpt2.report.axes import Axis, linear_axis, log_axis, smooth, spread
from gpt2.report.markup import Html, join, tag
from gpt2.workspace import Json

WIDE = 1000
"""Width of a stretched drawing in its own units."""
SQUARE = ("names", "ours")
"""Kinds of points whose marks are squares, with values under them."""
COLOURS = 6
"""Colours that the style sheet has for sizes, from the smallest to the largest."""


@dataclass(frozen=True)
class Point:
    """A model in a plot of perplexity against size."""

    name: str
    parameters: int
    heldout: float
    train: float
    interval: tuple[float, float] | None = None
    """95% interval of `heldout`."""


@dataclass(frozen=True)
class Share:
    """A model in a plot of accuracy against size."""

    name: str
    parameters: int
    value: float
    """Percent."""
    interval: tuple[float, float] | None = None
    """95% interval of `value`."""


def bar(share: float, title: str) -> Html:
    """A bar over `share` of its track."""
    return tag(
        "svg",
        tag("rect", class_="track", width="100%", height=10),
        tag("rect", tag("title", title), class_="bar", width=percent(share), height=10),
        class_="barbox",
        role="img",
        aria_label=title,
    )


def loss_curves(ladder: Sequence[Json], height: int = 340) -> Html:
    """Loss against tokens for all sizes: each step, smoothed, and on held-out documents while training."""
    smoothed = [smooth([loss for _, loss in row["curve"]], max(1, len(row["curve"]) // 40)) for row in ladder]
    tokens = max(row["tokens"] for row in ladder)
    x, y = linear_axis(0, tokens), loss_axis(ladder, smoothed, tokens)
    curves, marks, ends = [], [], []
    for i, (row, means) in enumerate(zip(ladder, smoothed, strict=True)):
        size = size_class(i, len(ladder))
        at = [t for t, _ in row["curve"]]
        curves.append(curve(at, [loss for _, loss in row["curve"]], x, y, height, f"raw {size}"))
        curves.append(curve(at, means, x, y, height, f"smooth {size}"))
        for t, loss in row["heldout_curve"]:
            title = f"{row['name']}: held-out loss {loss:.3f} after {t:,} tokens"
            place = {"cx": percent(x.share(t)), "cy": down(y, loss, height)}
            marks.append(tag("circle", tag("title", title), class_=f"heldout {size}", r=4, **place))
        ends.append(down(y, means[-1], height))
    labels = [
        tag("text", row["name"], class_=f"end {size_class(i, len(ladder))}", x="100%", y=place, dx=10, dy=4)
        for i, (row, place) in enumerate(zip(ladder, spread(ends, 15, 6, height - 4), strict=True))
    ]
    # Thin lines of all sizes lie under the smoothed lines of all sizes.
    stretched = stretch(join(*curves[::2], *curves[1::2]), height)
    return frame(
        x,
        y,
        height,
        "tokens trained on",
        "loss, nats a token",
        join(stretched, *marks, *labels),
        "Loss of all sizes against tokens trained on",
    )


def loss_axis(ladder: Sequence[Json], smoothed: Sequence[Sequence[float]], tokens: int) -> Axis:
    """The losses that are shown: all held-out ones, and the smoothed ones after the first steep fall."""
    shown = [loss for row in ladder for _, loss in row["heldout_curve"]]
    for row, means in zip(ladder, smoothed, strict=True):
        shown += [mean for (t, _), mean in zip(row["curve"], means, strict=True) if t >= 0.04 * tokens]
    room = 0.06 * (max(shown) - min(shown))
    return linear_axis(min(shown) - room, max(shown) + room)


def perplexity_panel(points: Sequence[Point], description: str, height: int = 320) -> Html:
    """Perplexity against parameters on two logarithmic axes: held-out with intervals, and training."""
    x = log_axis([p.parameters for p in points], 0.13)
    x = Axis(x.low, x.high, [(p.parameters, p.name) for p in points], log=True)
    y = log_axis([v for p in points for v in (p.heldout, p.train, *(p.interval or ()))], 0.1)
    lines = [
        segment(x, y, height, (a.parameters, getattr(a, which)), (b.parameters, getattr(b, which)), which)
        for which in ("train", "heldout")
        for a, b in pairwise(points)
    ]
    marks = []
    for p in points:
        place, value, train = (
            percent(x.share(p.parameters)),
            down(y, p.heldout, height),
            down(y, p.train, height),
        )
        title = f"{p.name}: perplexity {figure(p.train)} on training documents"
        square = tag("rect", tag("title", title), class_="train", x=-4, y=-4, width=8, height=8)
        marks.append(tag("svg", square, class_="mark", x=place, y=train))
        title = f"{p.name}: held-out perplexity {figure(p.heldout)}"
        pieces = []
        if p.interval:
            low, high = (round(down(y, v, height) - value, 2) for v in p.interval)
            title += f", 95% interval {figure(p.interval[0])} to {figure(p.interval[1])}"
            pieces.append(tag("path", class_="interval", d=f"M-6 {low}h12M0 {low}V{high}M-6 {high}h12"))
        pieces.append(tag("circle", tag("title", title), class_="heldout", r=4.5))
        pieces.append(tag("text", figure(p.heldout), class_="value", x=9, y=-8))
        marks.append(tag("svg", *pieces, class_="mark", x=place, y=value))
    return frame(x, y, height, "parameters", "perplexity", join(*lines, *marks), description)


def accuracy_panel(
    kinds: Mapping[str, Sequence[Share]],
    levels: Sequence[tuple[str, str, float]],
    description: str,
    height: int = 320,
    measure: str = "",
) -> Html:
    """Accuracy against parameters, logarithmic: points of each kind with intervals, and levels to compare with.

    A level is its class, what it is, and its percent. With another `measure` of 0 to 100 than accuracy, which
    has no percent sign, each level has its name beside it.
    """
    unit = "" if measure else "%"
    every = [p for points in kinds.values() for p in points]
    x = log_axis([p.parameters for p in every], 0.13)
    names = {p.parameters: p.name for p in every}
    x = Axis(x.low, x.high, list(names.items()), log=True)
    shown = [v for p in every for v in (p.value, *(p.interval or ()))] + [value for *_, value in levels]
    room = 0.08 * (max(shown) - min(shown))
    y = linear_axis(max(0.0, min(shown) - room), min(100.0, max(shown) + room))
    marks = []
    for class_, title, value in levels:
        at = down(y, value, height)
        line = tag("title", f"{title}: {value:.1f}{unit}")
        marks.append(tag("line", line, class_=f"level {class_}", x1=0, x2="100%", y1=at, y2=at))
        if measure:
            marks.append(tag("text", title, class_="level-name", x=6, y=at - 5))
    for kind, points in kinds.items():
        for a, b in pairwise(points):
            marks.append(segment(x, y, height, (a.parameters, a.value), (b.parameters, b.value), kind))
        for p in points:
            marks.append(accuracy_mark(p, kind, x, y, height, unit))
    return frame(x, y, height, "parameters", measure or "accuracy, percent", join(*marks), description)


def accuracy_mark(p: Share, kind: str, x: Axis, y: Axis, height: int, unit: str) -> Html:
    """A point with its interval and value; names lie lower, their values under them."""
    place = down(y, p.value, height)
    title = f"{p.name}: {p.value:.1f}{unit}, {kind}"
    pieces = []
    if p.interval:
        low, high = (round(down(y, v, height) - place, 2) for v in p.interval)
        title += f", 95% interval {p.interval[0]:.1f} to {p.interval[1]:.1f}{unit}"
        pieces.append(tag("path", class_=f"interval {kind}", d=f"M-6 {low}h12M0 {low}V{high}M-6 {high}h12"))
    if kind in SQUARE:
        pieces.append(tag("rect", tag("title", title), class_=kind, x=-4, y=-4, width=8, height=8))
    else:
        pieces.append(tag("circle", tag("title", title), class_=kind, r=4.5))
    pieces.append(
        tag(
            "text",
            f"{p.value:.1f}" if unit else f"{p.value:.3g}",
            class_="value",
            x=9,
            y=18 if kind in SQUARE else -8,
        )
    )
    return tag("svg", *pieces, class_="mark", x=percent(x.share(p.parameters)), y=place)


def legend(*kinds: tuple[str, str]) -> Html:
    """What the marks mean: pairs of a kind (heldout, train, nouns, names, interval, ...) and its words."""
    shapes = {
        "heldout": (10, tag("circle", class_="heldout", cx=5, cy=7, r=4.5)),
        "train": (10, tag("rect", class_="train", x=1, y=3, width=8, height=8)),
        "nouns": (10, tag("circle", class_="nouns", cx=5, cy=7, r=4.5)),
        "names": (10, tag("rect", class_="names", x=1, y=3, width=8, height=8)),
        "paper": (10, tag("circle", class_="paper", cx=5, cy=7, r=4.5)),
        "ours": (10, tag("rect", class_="ours", x=1, y=3, width=8, height=8)),
        "interval": (14, tag("path", class_="interval", d="M1 1h12M7 1v12M1 13h12")),
        "raw": (28, tag("path", class_="raw", d="M0 7l4-4l4 7l4-6l4 5l4-5l4 6l4-3")),
        "smooth": (28, tag("path", class_="smooth", d="M0 3C8 8 14 10 28 10")),
    }
    keys = []
    for kind, words in kinds:
        width, shape = shapes[kind]
        keys.append(tag("span", tag("svg", shape, width=width, height=14, aria_hidden="true"), words))
    return tag("p", *keys, class_="legend")


def frame(x: Axis, y: Axis, height: int, x_title: str, y_title: str, marks: Html, description: str) -> Html:
    """A plot: marks between two axes with their ticks and titles."""
    grid = []
    for value, label in y.ticks:
        at = down(y, value, height)
        grid.append(tag("line", class_="grid", x1=0, x2="100%", y1=at, y2=at))
        grid.append(tag("text", label, class_="tick y", x=-9, y=at, dy="0.35em"))
    for value, label in x.ticks:
        place = percent(x.share(value))
        grid.append(tag("line", class_="axis", x1=place, x2=place, y1=height, y2=height + 5))
        grid.append(tag("text", label, class_="tick x", x=place, y=height + 19))
    grid.append(tag("line", class_="axis", x1=0, x2="100%", y1=height, y2=height))
    drawing = tag("svg", *grid, marks, class_="plot", height=height, role="img", aria_label=description)
    return tag(
        "div",
        tag("p", y_title, class_="y-title"),
        drawing,
        tag("p", x_title, class_="x-title"),
        class_="frame",
    )


def stretch(content: Html, height: int) -> Html:
    """A drawing of `WIDE` by `height` units, pulled to the plot's width and cut at its edges."""
    box = {"viewBox": f"0 0 {WIDE} {height}", "preserveAspectRatio": "none"}
    return tag("svg", content, class_="stretch", width="100%", height=height, **box)


def curve(at: Sequence[float], values: Sequence[float], x: Axis, y: Axis, height: int, class_: str) -> Html:
    """A line through points, for a stretched drawing."""
    points = " ".join(
        f"{WIDE * x.share(a):.1f},{down(y, v, height):.1f}" for a, v in zip(at, values, strict=True)
    )
    return tag("polyline", class_=class_, points=points)


def segment(
    x: Axis, y: Axis, height: int, start: tuple[float, float], end: tuple[float, float], class_: str
) -> Html:
    """A straight line between two points."""
    (x1, y1), (x2, y2) = start, end
    places = {"x1": percent(x.share(x1)), "y1": down(y, y1, height)}
    places |= {"x2": percent(x.share(x2)), "y2": down(y, y2, height)}
    return tag("line", class_=f"join {class_}", **places)


def down(y: Axis, value: float, height: int) -> float:
    """Pixels from the top of a plot."""
    return round(height * (1 - y.share(value)), 2)


def percent(share: float) -> str:
    """A share as SVG says it."""
    return f"{100 * share:.2f}%"


def size_class(i: int, n: int) -> str:
    """The style sheet's class for the i-th of n sizes: the smallest and the largest have always their own."""
    return f"size-{round(i * (COLOURS - 1) / max(1, n - 1))}"


def figure(value: float) -> str:
    """A perplexity with four digits or so: '9.87', '38.21', '132.5', '1,843'."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.2f}"
