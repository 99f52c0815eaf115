"""The command tree: each command parses, calls one public function and prints its result.

Results go to standard output, everything else to standard error. `--json` prints one JSON object and
nothing else. Exit status: 0 done, 2 a sentence that says what was wrong with the input, 1 a fault of ours
(with its traceback), 130 interrupted. Heavy imports stay inside the commands, so that `gpt2 --help` is quick.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter

import gpt2
from gpt2.console import Console, count, print_table
from gpt2.errors import InputError, WorkbenchError
from gpt2.workspace import plain

app = App(
    name="gpt2",
    help="GPT-2 from links to report: 'Language Models are Unsupervised Multitask Learners' as one command.",
    version=gpt2.__version__,
    help_format="plaintext",
    default_parameter=Parameter(negative=()),
)
corpus_app = App(name="corpus", help="Links to pages to documents (paper 2.1).")
tokens_app = App(name="tokens", help="Documents to token shards (paper 2.2).")
app.command(corpus_app)
app.command(tokens_app)


@Parameter(name="*")
@dataclass(frozen=True)
class Talk:
    """How a command speaks."""

    json: bool = False
    """Print the result as one JSON object, and nothing else on standard output."""
    quiet: bool = False
    """Show no progress."""

    @property
    def console(self) -> Console:
        """Where progress goes."""
        return Console(quiet=self.quiet)

    def result(self, value: Any, text: str = "") -> None:
        """Print a result, for programs or for people."""
        print(json.dumps(value, default=plain, ensure_ascii=False) if self.json else text)  # noqa: T201


@Parameter(name="*")
@dataclass(frozen=True)
class Computing:
    """What to compute with."""

    device: str = "auto"
    """auto, cpu, cuda or mps."""
    dtype: str = "auto"
    """Format of matrix products: auto, float32 or bfloat16."""
    threads: int | None = None
    """Processor threads."""


TALK, COMPUTING = Talk(), Computing()


@app.command
def reproduce(
    *,
    minutes: float = 10,
    text: Path | None = None,
    pages: Annotated[list[Path] | None, Parameter(consume_multiple=True)] = None,
    links: Path | None = None,
    out: Path = Path("reproduce"),
    seed: int = 0,
    talk: Talk = TALK,
) -> None:
    """The whole paper in miniature, on this machine: web pages become text, tokens, four GPT-2s and a report.

    Killed at any moment, the same command goes on where it was.

    Parameters
    ----------
    minutes:
        Time for all of it; more time means larger models trained for longer.
    text:
        Use this file or folder of text (.txt, .md, .jsonl, .parquet) instead of Python's documentation.
    pages:
        Use these WARC files instead.
    links:
        Fetch this list of links instead (one URL a line, or CSV or JSON lines with a score).
    out:
        Folder for everything that is made.
    seed:
        Decides first weights, order of tokens and samples.
    """
    from gpt2.reproduce import ReproduceConfig
    from gpt2.reproduce import reproduce as run

    config = ReproduceConfig(out, minutes, text, tuple(pages or ()), links, seed)
    results = run(config, talk.console)
    rows = [
        [
            r["name"],
            r["parameters"],
            r["tokens"],
            r["heldout_perplexity"],
            "{:.2f} to {:.2f}".format(*r["heldout_interval"]),
        ]
        for r in results["ladder"]
    ]
    if rows and not talk.json:
        print_table(["size", "parameters", "tokens", "held-out perplexity", "95 % interval"], rows)
    talk.result(results, f"report: {results['report']}")


@app.command
def report(run: Path, *, talk: Talk = TALK) -> None:
    """Draw report.html anew from the results of `gpt2 reproduce` in folder RUN."""
    from gpt2.report import write_report
    from gpt2.workspace import read_json

    write_report(read_json(run / "results.json"), run / "report.html")
    talk.result({"report": run / "report.html"}, f"report: {run / 'report.html'}")


@corpus_app.command(name="build")
def corpus_build(
    *,
    out: Path,
    text: Path | None = None,
    pages: Annotated[list[Path] | None, Parameter(consume_multiple=True)] = None,
    links: Path | None = None,
    talk: Talk = TALK,
) -> None:
    """Make documents of links, of WARC files, of text, or else of the documentation that Python carries.

    Parameters
    ----------
    out:
        Folder for pages and documents.
    text:
        File or folder of text.
    pages:
        WARC files.
    links:
        List of links to fetch.
    """
    from gpt2.corpus import BuildConfig, build

    built = build(BuildConfig(text=text, pages=tuple(pages or ()), links=links), out, talk.console)
    rows = [[row["step"], row["count"], row["unit"], row["note"]] for row in built.funnel]
    if not talk.json:
        print_table(["step", "count", "of", "note"], rows)
    talk.result(built, f"documents: {built.documents}")


@tokens_app.command(name="learn")
def tokens_learn(text: Path, out: Path, *, size: int = 50257, talk: Talk = TALK) -> None:
    """Learn a vocabulary of SIZE tokens from TEXT and write encoder.json, vocab.bpe and tokenizer.json to OUT."""
    from gpt2.corpus.documents import read_text

    tok = gpt2.Tokenizer.learn([d.text for d in read_text(text)], size)
    tok.save(out)
    talk.result({"n_vocab": tok.n_vocab, "folder": out}, f"{tok.n_vocab:,} tokens in {out}")


@tokens_app.command(name="encode")
def tokens_encode(text: str | None = None, *, vocabulary: Path | None = None, talk: Talk = TALK) -> None:
    """Token ids of TEXT (or of standard input), by GPT-2's vocabulary or the one in folder VOCABULARY."""
    ids = tokenizer(vocabulary).encode(text_or_input(text))
    talk.result({"ids": ids, "count": len(ids)}, " ".join(map(str, ids)))


@tokens_app.command(name="decode")
def tokens_decode(ids: list[int], *, vocabulary: Path | None = None, talk: Talk = TALK) -> None:
    """The text that IDS spell."""
    text = tokenizer(vocabulary).decode(ids)
    talk.result({"text": text}, text)


@tokens_app.command(name="write")
def tokens_write(
    text: Path,
    out: Path,
    *,
    vocabulary: Path | None = None,
    heldout: float = 0.05,
    seed: int = 2019,
    talk: Talk = TALK,
) -> None:
    """Token shards of TEXT (.txt, .md, .jsonl, .parquet; file or folder) in folder OUT.

    Parameters
    ----------
    text:
        File or folder of text, or the documents.parquet of a corpus.
    out:
        Folder for the shards.
    vocabulary:
        Folder of a vocabulary; GPT-2's own when not given.
    heldout:
        Share of the documents to hold out, whole sources at a time.
    seed:
        Decides which.
    """
    from gpt2.corpus.documents import read_text
    from gpt2.tokens.shards import choose_heldout, write_shards

    documents = list(read_text(text))
    kept_out = choose_heldout([d.group for d in documents], heldout, seed)
    rows = ((d.id, d.group, d.text) for d in documents)
    summary = write_shards(rows, tokenizer(vocabulary), out, kept_out, console=talk.console)
    talk.result(summary, table_text(summary))


@tokens_app.command(name="inspect")
def tokens_inspect(folder: Path, *, talk: Talk = TALK) -> None:
    """What a folder of token shards holds; every checksum is verified."""
    shards = gpt2.Shards.open(folder, verify=True)
    talk.result(shards.summary, table_text(shards.summary))


@app.command
def train(
    *,
    tokens: Path,
    out: Path,
    size: str = "124M",
    layers: int | None = None,
    heads: int | None = None,
    channels: int | None = None,
    context: int = 1024,
    steps: int | None = None,
    train_tokens: int | None = None,
    minutes: float | None = None,
    batch: int = 8,
    learning_rate: float = 6e-4,
    seed: int = 0,
    callback_every: int = 100,
    resume: bool = False,
    computing: Computing = COMPUTING,
    talk: Talk = TALK,
) -> None:
    """Train a GPT-2 on token shards.

    Parameters
    ----------
    tokens:
        Folder of token shards.
    out:
        Folder of the run.
    size:
        124M, 355M, 774M or 1558M (or the paper's 117M, 345M, 762M, 1542M).
    layers:
        Blocks, in place of the size's.
    heads:
        Attention heads, in place of the size's.
    channels:
        Channels, in place of the size's.
    context:
        Longest text in tokens.
    steps:
        Train for so many steps,
    train_tokens:
        or on so many tokens,
    minutes:
        or for so many minutes.
    batch:
        Sequences in a step.
    learning_rate:
        The highest learning rate.
    seed:
        Decides first weights and order of tokens.
    callback_every:
        Steps between two looks at held-out loss and a sample.
    resume:
        Go on with the run in OUT.
    """
    import dataclasses

    from gpt2.evaluation.heldout import usual_callbacks
    from gpt2.training.trainer import train as run

    shards = gpt2.Shards.open(tokens)
    changes = {"n_layer": layers, "n_head": heads, "n_embd": channels}
    shape = gpt2.GPT2Config.size(size, vocab_size=shards.tokenizer.n_vocab, n_ctx=context)
    shape = dataclasses.replace(shape, **{k: v for k, v in changes.items() if v is not None})
    config = gpt2.TrainConfig(
        tokens=tokens,
        out=out,
        model=shape,
        steps=steps,
        train_tokens=train_tokens,
        minutes=minutes,
        batch=batch,
        optimizer=gpt2.OptimizerConfig(learning_rate=learning_rate),
        seed=seed,
        callback_every=callback_every,
        device=computing.device,
        dtype=computing.dtype,
        threads=computing.threads,
    )
    done = run(config, usual_callbacks(shards), resume, talk.console)
    last = done.metrics[-1]
    result = {"run": out, "steps": done.steps, "tokens": done.tokens, "seconds": done.seconds, **last}
    talk.result(
        result,
        f"{out}: {count(done.tokens)} tokens, loss {last['loss']:.3f}, held-out {last.get('heldout_loss', '-')}",
    )


@app.command
def generate(
    model: Path,
    prompt: str | None = None,
    *,
    max_tokens: int = 100,
    temperature: float = 1.0,
    top_k: int = 40,
    samples: int = 1,
    seed: int = 0,
    computing: Computing = COMPUTING,
    talk: Talk = TALK,
) -> None:
    """Go on from PROMPT; without one, read prompts from the terminal, or one from standard input.

    Parameters
    ----------
    model:
        Folder of a model, of a training run or of `gpt2 reproduce`.
    prompt:
        What to go on from; empty starts a new document.
    max_tokens:
        Longest continuation.
    temperature:
        Divides the logits; 0 takes the most likely token each time.
    top_k:
        Draw among the k most likely tokens; 0 among all.
    samples:
        Continuations to draw.
    seed:
        Decides the draws.
    """
    m = open_model(model, computing)
    how: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "top_k": top_k or None}
    if prompt is None and sys.stdin.isatty() and not talk.json:
        for number, line in enumerate(typed_prompts()):
            for piece in gpt2.stream(m, line, seed=seed + number, **how):
                print(piece, end="", flush=True)  # noqa: T201
            print()  # noqa: T201
        return
    prompt = text_or_input(prompt)
    if samples == 1 and not talk.json:
        print(prompt, end="", flush=True)  # noqa: T201
        for piece in gpt2.stream(m, prompt, seed=seed, **how):
            print(piece, end="", flush=True)  # noqa: T201
        print()  # noqa: T201
        return
    texts = gpt2.generate(m, [prompt] * samples, seed=seed, **how)
    talk.result({"prompt": prompt, "texts": texts}, "\n\n".join(prompt + t for t in texts))


@app.command
def score(
    model: Path,
    text: str | None = None,
    *,
    start: str = "endoftext",
    stride: int | None = None,
    computing: Computing = COMPUTING,
    talk: Talk = TALK,
) -> None:
    """The log-probability of TEXT (or of standard input) and of each of its tokens.

    Parameters
    ----------
    model:
        Folder of a model, of a training run or of `gpt2 reproduce`.
    text:
        The text to score.
    start:
        endoftext: the first token follows <|endoftext|>; none: the first token is not scored.
    stride:
        Tokens between two windows of a text longer than the context.
    """
    import math

    m = open_model(model, computing)
    words = text_or_input(text)
    (s,) = gpt2.score(m, [words], start=start, stride=stride)
    if not s.tokens:
        raise InputError(
            "there is nothing to score: the text has no token after its start; give a longer text"
        )
    pieces = [m.tokenizer.decode([t]) for t in s.tokens]
    facts = {
        "logprob": s.logprob,
        "tokens": len(s.tokens),
        "perplexity": math.exp(-s.logprob / len(s.tokens)),
        "bits_per_byte": -s.logprob / math.log(2) / max(1, len(words.encode(errors="surrogatepass"))),
        "start": start,
    }
    if not talk.json:
        print_table(
            ["token", "log-probability"],
            [[repr(p), lp] for p, lp in zip(pieces, s.token_logprobs, strict=True)],
        )
    detail = {"token_ids": s.tokens, "token_texts": pieces, "token_logprobs": s.token_logprobs}
    talk.result({**facts, **detail}, table_text(facts))


def tokenizer(folder: Path | None) -> gpt2.Tokenizer:
    """The vocabulary in a folder, or GPT-2's own."""
    return gpt2.Tokenizer.gpt2() if folder is None else gpt2.Tokenizer.load(folder)


def open_model(path: Path, computing: Computing) -> gpt2.Model:
    """The model at `path`, on the device asked for."""
    from gpt2.model.device import choose

    compute = choose(computing.device, computing.dtype, computing.threads)
    m = gpt2.load(path)
    m.net.to(compute.device)
    return m


def text_or_input(text: str | None) -> str:
    """A text given as argument, or else standard input."""
    if text is not None:
        return text
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"standard input is not UTF-8 text (byte {error.start}); give text") from None


def typed_prompts() -> Iterator[str]:
    """Lines typed at a terminal, until end of file."""
    print("Type a text to go on from; Ctrl-D ends.", file=sys.stderr)  # noqa: T201
    while True:
        try:
            yield input("> ")
        except EOFError:
            return


def table_text(facts: dict[str, Any]) -> str:
    """Facts one a line."""
    return "\n".join(
        f"{k.replace('_', ' '):16} {v:,.6g}"
        if isinstance(v, int | float)
        else f"{k.replace('_', ' '):16} {v}"
        for k, v in facts.items()
    )


def main() -> None:
    """Run the command line and exit."""
    try:
        app(exit_on_error=False, print_error=False)
    except (WorkbenchError, CycloptsError) as error:
        fail(f"gpt2: {' '.join(str(error).split())}")
    except KeyboardInterrupt:
        print("\ngpt2: stopped; the same command goes on where it was", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        fail(
            f"gpt2: cannot write {error.filename or 'a file'}: {error.strerror}; make room or give another folder"
        )


def fail(sentence: str) -> None:
    """One sentence on standard error, exit status 2."""
    print(sentence, file=sys.stderr)  # noqa: T201
    sys.exit(2)


if __name__ == "__main__":
    main()
