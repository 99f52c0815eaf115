"""gpt2 corpus: links to pages to documents (paper 2.1), the whole recipe or one step of it.

gpt2 corpus build --text my_texts/ --out corpus

build.py       gpt2 corpus build
clean.py       gpt2 corpus clean
fetch.py       gpt2 corpus fetch
"""

from __future__ import annotations

from cyclopts import App

from gpt2.cli.corpus import build, clean, fetch

app = App(name="corpus", help="Links to pages to documents (paper 2.1).")
app.command(fetch.fetch)
app.command(build.build)
app.command(clean.clean)
IN_ORDER = ("fetch", "build", "clean")
for place, name in enumerate(IN_ORDER):
    app[name].sort_key = place
