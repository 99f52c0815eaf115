"""The report: one sound, self-contained HTML file that shows all its data and looks right in a browser."""

from __future__ import annotations

import copy
import json
import random
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from example_results import HOSTILE, Json, example, without_ladder

from gpt2.errors import FormatError
from gpt2.evaluation.results import number
from gpt2.report import write_report
from gpt2.report.axes import linear_ticks, log_axis, log_ticks, smooth, spread, tick_label
from gpt2.report.markup import html, tag
from gpt2.report.page import POLICY


class Page(HTMLParser):
    """A page taken apart: its elements with their attributes, and its text; unbalanced tags are refused."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute twice in {tag}"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data

    def count(self, tag: str, *classes: str) -> int:
        return sum(t == tag and set(classes) <= set(a.get("class", "").split()) for t, a in self.elements)


def written(results: Json, folder: Path) -> str:
    path = folder / "report.html"
    write_report(results, path)
    assert [p.name for p in folder.iterdir()] == ["report.html"], "nothing else is left behind"
    return path.read_text(encoding="utf-8")


def test_the_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    source = written(example(), tmp_path)
    page = Page(source)
    for tag_, attributes in page.elements:
        assert tag_ not in ("script", "img", "iframe", "object", "embed", "image", "use", "base", "form")
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "style")]
        assert attributes.get("href", "#").startswith(("#", "data:,"))
    style = re.findall(r"<style>(.*?)</style>", source, re.S)
    assert len(style) == 1 and not re.search(r"url\(|@import|https?:|<", style[0])
    assert ("meta", {"http-equiv": "Content-Security-Policy", "content": POLICY}) in page.elements
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for t, a in page.elements if t == "a"} == set(ids)


def test_hostile_text_is_shown_and_does_nothing(tmp_path: Path) -> None:
    results = example()
    everywhere = results["made"]["versions"]
    for i, text in enumerate(HOSTILE):
        results["funnel"][i]["step"] = results["funnel"][i]["note"] = text
        results["drops"][i]["reason"] = results["stages"][i]["name"] = text
        results["tokenizer"]["merges_first"][i] = everywhere[text] = text
    results["title"] = results["source"]["description"] = results["made"]["command"] = HOSTILE[1]
    results["samples_note"] = results["data"]["heldout_rule"] = HOSTILE[0]
    page = Page(written(results, tmp_path))
    assert page.count("script") == page.count("img") == 0
    assert page.count("title") == 1 + len(marks(results)), "the page's own title and one a mark"
    for text in [*HOSTILE[:5], "zero␀bell␇ half\ufffd"]:
        assert text in page.text


def marks(results: Json) -> list[Json]:
    """Something for each bar and point that the page has to draw."""
    ladder = results["ladder"]
    points = [p for row in ladder for p in row["heldout_curve"]] + 2 * ladder + 2 * 4 * [{}] * bool(ladder)
    if (
        ladder
    ):  # of cloze questions: two kinds of four sizes, ours and the paper's, and levels to compare with
        points += 2 * 2 * 4 * [{}] + (2 + 2 + 2 + 2) * [{}]
    return [*points, *results["funnel"], *results["stages"], *2 * results["tokenizer"]["compression"]]


def test_every_figure_has_its_marks(tmp_path: Path) -> None:
    results = example()
    page = Page(written(results, tmp_path))
    bars = len(results["funnel"]) + len(results["stages"]) + 2 * len(results["tokenizer"]["compression"])
    assert page.count("rect", "bar") == bars
    for size in ("size-0", "size-2", "size-3", "size-5"):
        assert page.count("polyline", "raw", size) == page.count("polyline", "smooth", size) == 1
        assert page.count("circle", "heldout", size) == 8
        assert page.count("text", "end", size) == 1
    for which, shape in (("heldout", "circle"), ("train", "rect")):
        assert page.count("line", "join", which) == 3 + 3, "four sizes and the paper's four"
        assert page.count(shape, which) == 8 + 1 + (8 * 4 + 1) * (which == "heldout"), "each legend has one"
    for which, shape in (("nouns", "circle"), ("names", "rect")):
        assert page.count("line", "join", which) == 3 + 3, "four sizes and the paper's four"
        assert page.count(shape, which) == 4 + 4 + 1
        assert page.count("line", "level", which) == 1 + 2, (
            "the most frequent word; people and who came before"
        )
    assert page.count("line", "level", "chance") == 2, "of nouns and of names"
    assert page.count("path", "interval") == 4 + 1 + 2 * 4 + 1, "the paper gives none"
    points = [a["points"].split() for t, a in page.elements if t == "polyline"]
    assert [len(p) for p in points] == [500] * 8
    assert all(0 <= float(p.split(",")[0]) <= 1000 for line in points for p in line)


def test_a_difference_within_noise_is_called_that(tmp_path: Path) -> None:
    results = example()
    assert "within noise" not in Page(written(results, tmp_path)).text
    worse, same = results["ladder"][2]["versus_previous"], results["ladder"][3]["versus_previous"]
    worse |= {"loss_difference": 0.05, "interval": [0.02, 0.08]}
    same |= {"loss_difference": -0.01, "interval": [-0.03, 0.012]}
    text = Page(written(results, tmp_path)).text
    assert (
        "perplexity −1.0% (95% interval −3.0 to +1.2%), better on 199 of 207 documents: within noise." in text
    )
    assert "perplexity 5.1% higher (95% interval 2.0 to 8.3%)" in text
    assert "Here the 3 steps up the ladder come out so: 1 better, 1 within noise, 1 worse." in text


def test_documents_in_both_splits_are_not_passed_over(tmp_path: Path) -> None:
    results = example()
    assert "Documents in both splits: 0." in Page(written(results, tmp_path)).text
    results["training_documents_in_both_splits"] = 3
    assert "Documents in both splits: 3. The held-out figures" in Page(written(results, tmp_path)).text


def test_too_little_text_gives_a_page_without_a_ladder(tmp_path: Path) -> None:
    results = without_ladder()
    page = Page(written(results, tmp_path))
    assert page.text.count(results["remarks"][0]) >= 2, "at the top and where the models would be"
    assert "No models were trained" in page.text and "Figure 4" not in page.text
    assert page.count("polyline") == page.count("circle") == 0
    assert page.count("rect", "bar") == len(marks(results))


def test_no_heldout_text_and_no_sample_are_no_trouble(tmp_path: Path) -> None:
    results = example()
    results["samples"], results["drops"] = [], []
    results["tokenizer"]["compression"][0] |= {"bytes": 0, "ours": 0, "gpt2": 0}
    text = Page(written(results, tmp_path)).text
    assert "No held-out document is long enough" in text and "Nothing was dropped." in text


def test_a_kind_without_questions_is_left_out(tmp_path: Path) -> None:
    results = example()
    del results["cloze"]["counts"]["names"]
    page = Page(written(results, tmp_path))
    assert page.count("rect", "names") == 4 + 1 and "five different names were not to be found" in page.text
    results["cloze"] = {"counts": {}, "sources": {}, "in_context": None, "examples": []} | {
        "chance": {},
        "most_frequent": {},
    }
    for row in results["ladder"]:
        row["cloze"] = {"results": {}, "answers": [], "cut": 0}
    page = Page(written(results, tmp_path))
    assert page.count("rect", "names") == 0 and "too little prose" in page.text


def test_questions_are_shown_with_what_the_smallest_and_the_largest_said(tmp_path: Path) -> None:
    text = Page(written(example(), tmp_path)).text
    assert "The _____ is red." in text and "XXXXX" not in text
    assert "gave it a probability of 0.012 %" in text and f"chose {HOSTILE[2]}" in text
    assert "250 passages whose last word is to be guessed" in text and "80% of their contexts" in text
    assert "21.5" in text and "17.2 to 27.9" in text and "most often: 18.9% (nouns) and 25.2% (names)" in text


@pytest.mark.parametrize(
    "path",
    ["funnel", "made seeds", "ladder 1 bits_per_byte", "ladder 3 versus_previous documents", "samples"],
)
def test_a_missing_key_is_said_and_nothing_written(path: str, tmp_path: Path) -> None:
    results: Any = example()
    *way, last = path.split()
    at = results
    for key in way:
        at = at[int(key)] if isinstance(at, list) else at[key]
    del at[last]
    with pytest.raises(FormatError, match=f"no '{last}'"):
        write_report(results, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    results = example()
    before = copy.deepcopy(results)
    first = written(results, tmp_path)
    assert results == before, "the results are only read"
    assert written(json.loads(json.dumps(results)), tmp_path) == first
    assert len(first) < 200_000


def test_markup_is_escaped_unless_it_is_markup_already() -> None:
    assert html("<a & 'b'>") == "&lt;a &amp; &#x27;b&#x27;&gt;"
    assert html(html("<")) == "&lt;" and html("a\r\nb\rc\td") == "a\nb\nc\td"
    assert (
        tag("p", "<", tag("b", 1), class_='"x"', aria_label=None)
        == '<p class="&quot;x&quot;">&lt;<b>1</b></p>'
    )


def test_smoothing_keeps_lines_and_calms_noise() -> None:
    line = [3.0 - 0.01 * i for i in range(100)]
    assert smooth(line, 5)[:95] == pytest.approx(line[:95]), (
        "a straight fall is not flattened, not at the start"
    )
    assert smooth([1.0, 2.0, 6.0], 1) == [1.0, 3.0, 4.0]
    assert smooth([], 3) == [] and smooth([2.0], 3) == [2.0]
    rng = random.Random(0)
    noise = [rng.gauss(5, 1) for _ in range(1000)]
    calm = smooth(noise, 12)[12:]
    assert max(abs(v - 5) for v in calm) < 1 < max(abs(v - 5) for v in noise)


def test_ticks_are_round_and_inside() -> None:
    assert linear_ticks(0, 3_072_000) == [0, 500_000, 1_000_000, 1_500_000, 2_000_000, 2_500_000, 3_000_000]
    assert linear_ticks(3.87, 5.5) == [4.0, 4.5, 5.0, 5.5]
    assert log_ticks(40, 300) == [50, 70, 100, 150, 200, 300]
    assert log_ticks(20, 90_000) == [30, 100, 300, 1000, 3000, 10_000, 30_000]
    assert log_ticks(8.4, 18) == [10, 12, 14, 16, 18]
    assert [tick_label(v, 3e6) for v in (0, 5e5, 2e6)] == ["0", "0.5 M", "2 M"]
    rng = random.Random(0)
    for _ in range(500):
        low = 10 ** rng.uniform(-3, 6)
        high = low * 10 ** rng.uniform(0.05, 5)
        for ticks in (log_ticks(low, high), linear_ticks(low, high)):
            assert 3 <= len(ticks) <= 12 and ticks == sorted(set(ticks))
            assert low * 0.999 <= ticks[0] and ticks[-1] <= high * 1.001
    axis = log_axis([10.0, 1000.0], 0.25)
    assert axis.share(100) == pytest.approx(0.5) and axis.share(10) == pytest.approx(1 / 6)


def test_labels_move_apart_and_keep_their_order() -> None:
    assert spread([10, 100, 50], 15, 0, 200) == [10, 100, 50]
    assert spread([50, 50, 52], 15, 0, 200) == [50, 65, 80]
    assert spread([199, 198], 15, 0, 200) == [200, 185]


MEASURE = """<script>
const box = e => { const r = e.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
const facts = {
  inner: innerWidth, width: document.documentElement.scrollWidth,
  svgs: [...document.querySelectorAll('svg')].map(box),
  plots: [...document.querySelectorAll('svg.plot')].map(p => [...p.querySelectorAll('text')].map(box)),
};
parent.postMessage(JSON.stringify(facts), '*');
</script></body>"""
# A browser's window may not be as narrow as a phone, a frame in it may.
FRAMES = """<!doctype html><body><script>
onmessage = e => document.body.insertAdjacentHTML('beforeend', '<code>' + e.data + '</code>');
</script>"""
WIDTHS = [320, 390, 768, 1280]


@pytest.mark.parametrize("results", [example(), without_ladder()], ids=["ladder", "no ladder"])
def test_a_browser_shows_all_of_it_from_phone_to_desktop(results: Json, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    source = written(results, tmp_path)
    assert html(POLICY) in source
    # The page forbids scripts, so the measuring copy goes without that rule.
    (tmp_path / "measured.html").write_text(source.replace(html(POLICY), "").replace("</body>", MEASURE))
    frames = [
        f'<iframe src="measured.html" width="{w}" height="900" style="border:0"></iframe>' for w in WIDTHS
    ]
    (tmp_path / "frames.html").write_text(FRAMES + "".join(frames))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    options += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    options += [
        f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=1400,1000",
        "--virtual-time-budget=5000",
    ]
    command = [chromium, *options, "--dump-dom", (tmp_path / "frames.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    seen = [json.loads(facts) for facts in re.findall(r"<code>({.*?})</code>", done.stdout)]
    assert sorted(facts["inner"] for facts in seen) == WIDTHS, done.stderr[-2000:]
    for facts in seen:
        assert facts["width"] <= facts["inner"], "the page itself never scrolls sideways"
        assert len(facts["plots"]) == (5 if results["ladder"] else 0)
        assert all(right > left and bottom > top for left, top, right, bottom in facts["svgs"])
        for texts in facts["plots"]:
            for i, (left, top, right, bottom) in enumerate(texts):
                assert left >= 0 and right <= facts["inner"], "no label is cut off"
                for l, t, r, b in texts[:i]:
                    assert right <= l or r <= left or bottom <= t or b <= top, "no label lies on another"


def test_figure_1_shows_the_papers_curves_and_our_largest_size_where_it_was_measured(tmp_path: Path) -> None:
    results = example()
    row = {"task": "coqa", "protocol": "coqa/gold", "metric": "F1", "value": 12.25, "low": 8.0, "high": 17.0}
    row |= {"n": 12, "of": 7983, "paper": 25.9, "paper_size": "124M", "verdict": ""}
    missing = {**row, "task": "natural-questions", "protocol": "natural-questions/exact-match", "value": None}
    results["tables"] = [row, {**missing, "low": None, "high": None, "verdict": "no nq-open.dev.jsonl"}]
    page = Page(written(results, tmp_path))
    section = page.text[page.text.index("The paper's tables") :]
    assert "12 of 7,983" in section and f"{number(25.9)} (124M)" in section
    assert "natural-questions: no nq-open.dev.jsonl" in section
    for words in (
        "DrQA and PGNet",
        "human",
        "best unsupervised",
        "first three sentences",
        "55",
        "0.75",
        "21.4",
    ):
        assert words in section, words
    page_source = (tmp_path / "report.html").read_text()
    names = re.findall(r"<title>([^<]*), ours,", page_source)
    assert len(names) == 1 and names[0].startswith(results["ladder"][-1]["name"] + ": 12.2")
