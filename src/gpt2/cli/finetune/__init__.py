"""gpt2 finetune: a trained model made into one for a purpose (paper 6).

gpt2 finetune text reproduce my_texts/ --out tuned

text.py        gpt2 finetune text, gpt2 finetune merge
glue.py        gpt2 finetune glue
decanlp.py     gpt2 finetune decanlp
predict.py     gpt2 finetune predict
"""

from __future__ import annotations

from cyclopts import App

from gpt2.cli.finetune import decanlp, glue, predict, text

app = App(name="finetune", help="A trained model made into one for a purpose (paper 6).")
app.command(text.text)
app.command(text.merge)
app.command(glue.glue)
app.command(decanlp.decanlp)
app.command(predict.predict)
