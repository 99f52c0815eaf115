"""gpt2 corpus: links to pages to documents (paper 2.1), the whole recipe or one step of it.

gpt2 corpus build --text my_texts/ --out corpus

build.py       gpt2 corpus build
"""

from __future__ import annotations

from cyclopts import App

from gpt2.cli.corpus import build

app = App(name="corpus", help="Links to pages to documents (paper 2.1).")
app.command(build.build)
IN_ORDER = ("build",)
for place, name in enumerate(IN_ORDER):
    app[name].sort_key = place
