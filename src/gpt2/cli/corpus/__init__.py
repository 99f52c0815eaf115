"""gpt2 corpus: links to pages to documents (paper 2.1), the whole recipe or one step of it.

gpt2 corpus build --text my_texts/ --out corpus

build.py       gpt2 corpus build
clean.py       gpt2 corpus clean
dedupe.py      gpt2 corpus dedupe
extract.py     gpt2 corpus extract
fetch.py       gpt2 corpus fetch
links.py       gpt2 corpus links
remove.py      gpt2 corpus remove
report.py      gpt2 corpus report
"""

from __future__ import annotations

from cyclopts import App

from gpt2.cli.corpus import build, clean, dedupe, extract, fetch, links, remove, report

app = App(name="corpus", help="Links to pages to documents (paper 2.1).")
app.command(fetch.fetch)
app.command(build.build)
app.command(extract.extract)
app.command(clean.clean)
app.command(dedupe.dedupe)
app.command(links.links)
app.command(remove.remove)
app.command(report.report)
IN_ORDER = ("build", "report", "remove", "links", "fetch", "extract", "clean", "dedupe")
for place, name in enumerate(IN_ORDER):
    app[name].sort_key = place
