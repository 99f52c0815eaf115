"""The command tree, and how a command ends.

    talk.py        numbers as people type them, --json and --quiet, --device, --dtype and --threads
    reproduce.py   gpt2 reproduce, gpt2 report
    corpus/        gpt2 corpus ...
    tokens.py      gpt2 tokens ...
    training.py    gpt2 train
    forecast.py    gpt2 forecast, gpt2 judge, gpt2 batch
    finetune/      gpt2 finetune ...
    inference.py   gpt2 generate
    scoring.py     gpt2 score
    evaluate.py    gpt2 evaluate, gpt2 tasks
    cloze.py       gpt2 cloze
    convert.py     gpt2 convert
    verify.py      gpt2 verify

Commands hold no logic: each parses, calls what Python programs call, and prints. A file of commands is named
after the room it calls, and imports that room only when a command runs, so `gpt2 --help` is quick
(benchmarks/startup.py). Exit status: 0 done; 2 and one sentence on standard error for what cannot be used;
1 a fault of ours, with its traceback, or a check that failed (`gpt2 verify`, `gpt2 train --overfit-batch`);
130 interrupted; 141 the reader of our output went away; 143 ended by SIGTERM.

Rejected: options made from the config dataclasses, which live beside torch and take seconds to import; and a
bare `gpt2` as `gpt2 reproduce`, because then a word left out starts a long job.

    gpt2 train --help
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cyclopts import (
    App,
    Argument,
    CycloptsError,
    MissingArgumentError,
    Parameter,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

import gpt2
from gpt2.cli import (
    cloze,
    convert,
    corpus,
    evaluate,
    finetune,
    forecast,
    inference,
    reproduce,
    scoring,
    tokens,
    training,
    verify,
)
from gpt2.errors import nearest, sentence

app = App(
    name="gpt2",
    help="GPT-2 from links to report: 'Language Models are Unsupervised Multitask Learners' as one command.",
    version=gpt2.__version__,
    help_format="plaintext",
    help_epilogue="Begin with `gpt2 reproduce`; `gpt2 COMMAND --help` tells about each command.",
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,
)
app.command(reproduce.reproduce)
app.command(corpus.app)
app.command(tokens.app)
app.command(forecast.forecast)
app.command(training.train)
app.command(forecast.judge)
app.command(forecast.batch)
app.command(finetune.app)
app.command(inference.generate)
app.command(scoring.score)
app.command(evaluate.evaluate)
app.command(evaluate.tasks)
app.command(cloze.cloze)
app.command(convert.convert)
app.command(verify.verify)
app.command(reproduce.report)
IN_ORDER = (
    "reproduce corpus tokens forecast train judge batch finetune generate score evaluate tasks cloze convert "
    "verify report"
)
for place, name in enumerate(IN_ORDER.split()):
    app[name].sort_key = place  # help shows them in the order in which data flows

GOES_ON = {
    "reproduce": "; the same command goes on from here",
    "evaluate": "; with --out, the same command goes on from the last part that is done",
    "finetune": "; the same command goes on from the last checkpoint",
    "train": "; the same command with --resume goes on from the last checkpoint",
}


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line, or the words given in its place, and exit."""
    words = sys.argv[1:] if words is None else list(words)
    open_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter is no error
    try:
        app(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        stop(2, refusal(error))
    except KeyboardInterrupt as error:
        stop(getattr(error, "status", 130), "stopped" + GOES_ON.get(words[0] if words else "", ""))
    except BrokenPipeError:
        stop(141)
    except Exception as error:
        said = sentence(error)
        if said is None:
            raise
        stop(2, said)


def open_streams() -> None:
    """Put the null device where we were started without a standard stream, before a file takes its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115, it stays open


def refusal(error: CycloptsError) -> str:
    """What was wrong with the words, the nearest right ones, and where to read about them."""
    match error:
        case UnknownCommandError(unused_tokens=[word, *_], app=App() as within):
            kind = "option" if word.startswith("-") else "command"
            names = [name for name in within if name.startswith("-") == word.startswith("-")]
            said = f"unknown {kind} {word!r}{nearest(word, names)}"
        case UnknownOptionError():
            word = error.token.keyword or error.token.value
            names = [name for argument in error.argument_collection for name in argument.names]
            said = f"unknown option {word!r}{nearest(word, names)}"
        case MissingArgumentError(argument=Argument() as missing):
            if error.keyword or not missing.field_info.is_positional:
                said = f"missing {'a value for ' if error.keyword else ''}{missing.name}"
            else:
                said = f"missing {missing.name.lstrip('-').upper()}"
        case UnusedCliTokensError(unused_tokens=[word, *_]):
            said = f"{word!r} is one argument too many (a text with spaces needs quotes)"
        case _:
            text = " ".join(str(error).split()).rstrip(".")
            said = re.sub(r"(?:^|\. )([A-Z])", lambda m: ("; " if m.start() else "") + m[1].lower(), text)
    return f"{said}; see {' '.join(['gpt2', *(error.command_chain or ())])} --help"


def stop(status: int, said: str = "") -> NoReturn:
    """Exit, with a sentence on standard error, and with nothing more on a standard output that is broken."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if said:
        sys.stderr.write(f"gpt2: {said}\n")
    sys.exit(status)
