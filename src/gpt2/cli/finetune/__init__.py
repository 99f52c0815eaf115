"""gpt2 finetune: a trained model made into one for a purpose (paper 6).

gpt2 finetune text reproduce my_texts/ --out tuned

text.py        gpt2 finetune text
"""

from __future__ import annotations

from cyclopts import App

app = App(name="finetune", help="A trained model made into one for a purpose (paper 6).")
