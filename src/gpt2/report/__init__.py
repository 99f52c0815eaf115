"""One HTML file that tells the whole run, beside the paper's own figures.

    page.py      the sections that every run has: opening, data, tokenizer, how it was made
    ladder.py    the sections of the trained sizes: training, perplexity against size, samples
    cloze.py     the section on cloze questions
    tables.py    the section on the paper's own tasks, where their data is given
    figure1.py   the paper's Figure 1 in it
    corpus.py    a page of its own on a corpus: funnel, drops, domains, languages, lengths
    plots.py     what is drawn, as inline SVG
    axes.py      scales, ticks and smoothing
    markup.py    text to HTML, escaped unless said otherwise; tables
    style.py     the page's one style sheet

The file needs nothing but itself: no script, no font, no picture from elsewhere, and a content security
policy that refuses them even if a hostile document title found a way out of the escaping. The plots have a
fixed height and a width in percent, so that their letters stay one size from a phone to a printed page;
a viewBox would shrink them with the page, and a plotting library would bring megabytes of script.

    write_report(read_json(Path("reproduce/results.json")), Path("report.html"))
"""

from gpt2.report.page import write_report

__all__ = ["write_report"]
