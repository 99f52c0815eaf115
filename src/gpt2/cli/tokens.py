"""gpt2 tokens: documents to token shards (paper 2.2).

gpt2 tokens learn texts/ vocabulary --size 8192
gpt2 tokens write texts/ shards --vocabulary vocabulary
gpt2 tokens inspect shards --at 123456
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

import gpt2
from gpt2.cli.talk import TALK, Count, Seed, Talk, Whole, text_or_input
from gpt2.errors import FormatError, InputError
from gpt2.workspace import Json

app = App(name="tokens", help="Documents to token shards (paper 2.2).")


@app.command
def learn(text: Path, out: Path, *, size: Count = 50257, talk: Talk = TALK) -> None:
    """Learn a vocabulary and write encoder.json, vocab.bpe and tokenizer.json.

    Parameters
    ----------
    text:
        A file or folder of text (.txt, .md, .jsonl, .parquet).
    out:
        Folder for the vocabulary.
    size:
        Tokens in the vocabulary, the 256 bytes and <|endoftext|> among them.
    """
    from gpt2.corpus.documents import read_text

    tok = gpt2.Tokenizer.learn([d.text for d in read_text(text)], size)
    tok.save(out)
    talk.result({"n_vocab": tok.n_vocab, "folder": out}, f"{tok.n_vocab:,} tokens in {out}")


@app.command
def encode(text: str | None = None, *, vocabulary: Path | None = None, talk: Talk = TALK) -> None:
    """The token ids of a text.

    Parameters
    ----------
    text:
        The text; standard input when not given.
    vocabulary:
        Folder of a vocabulary; GPT-2's own when not given.
    """
    ids = tokenizer(vocabulary).encode(text_or_input(text))
    talk.result({"ids": ids, "count": len(ids)}, " ".join(map(str, ids)))


@app.command
def decode(
    ids: Annotated[list[int] | None, Parameter(allow_leading_hyphen=True)] = None,
    *,
    vocabulary: Path | None = None,
    talk: Talk = TALK,
) -> None:
    """The text that token ids spell.

    Parameters
    ----------
    ids:
        Token ids; standard input when not given.
    vocabulary:
        Folder of a vocabulary; GPT-2's own when not given.
    """
    text = tokenizer(vocabulary).decode(numbers_in(text_or_input(None)) if ids is None else ids)
    talk.result({"text": text}, text)


@app.command
def write(
    text: Path,
    out: Path,
    *,
    vocabulary: Path | None = None,
    heldout: float = 0.05,
    seed: Seed = 2019,
    talk: Talk = TALK,
) -> None:
    """Write text as token shards, part of it held out.

    Parameters
    ----------
    text:
        A file or folder of text (.txt, .md, .jsonl, .parquet), or a corpus.
    out:
        Folder for the shards.
    vocabulary:
        Folder of a vocabulary; GPT-2's own when not given.
    heldout:
        Share of the documents to hold out, whole sources at a time.
    seed:
        Decides which sources.
    """
    from gpt2.corpus.documents import read_text
    from gpt2.tokens.shards import choose_heldout, write_shards

    documents = list(read_text(text))
    kept_out = choose_heldout([d.group for d in documents], heldout, seed)
    rows = ((d.id, d.group, d.text, d.url) for d in documents)
    talk.facts(write_shards(rows, tokenizer(vocabulary), out, kept_out, console=talk.console))


@app.command
def inspect(
    path: Path,
    *,
    at: Whole | None = None,
    document: str | None = None,
    split: Literal["train", "heldout"] = "train",
    talk: Talk = TALK,
) -> None:
    """What is in a folder of token shards (every checksum is verified) or in a token file of another program.

    Parameters
    ----------
    path:
        Folder of token shards, or a .bin file of llm.c or nanoGPT.
    at:
        Number of a token, counted from 0: tells the document and the address that it came from.
    document:
        Id or address of a document: tells where its tokens are.
    split:
        Where token `at` is counted.
    """
    if at is not None and document is not None:
        raise InputError("give either --at or --document")
    if path.is_file():
        if at is not None or document is not None:
            raise InputError(
                f"{path} does not say where its tokens came from; only a folder of token shards does"
            )
        talk.facts(token_file(path))
    elif at is None and document is None:
        talk.facts(gpt2.Shards.open(path, verify=True).summary)
    else:
        from gpt2.tokens import trace

        shards = gpt2.Shards.open(path)
        place = (
            trace.document(shards, document) if document is not None else trace.token(shards, at or 0, split)
        )
        talk.facts(vars(place) | {"files": ", ".join(place.files)})


def numbers_in(text: str) -> list[int]:
    """The numbers of a text that has nothing else."""
    try:
        return [int(word) for word in text.split()]
    except ValueError as error:
        raise InputError(f"standard input is not a list of token ids ({error}); give numbers") from None


def tokenizer(folder: Path | None) -> gpt2.Tokenizer:
    """The vocabulary in a folder, or GPT-2's own."""
    return gpt2.Tokenizer.gpt2() if folder is None else gpt2.Tokenizer.load(folder)


def token_file(path: Path) -> Json:
    """What is in a token file of another program."""
    from gpt2.tokens.token_files import header, read_llmc, read_nanogpt

    with path.open("rb") as stream:
        headed = stream.read(4) == header(0)[:4]
    if not headed and path.suffix != ".bin":
        raise FormatError(f"{path} is no token file; give a folder of token shards or a .bin file of tokens")
    tokens = (read_llmc if headed else read_nanogpt)(path)
    return {
        "layout": "llm.c" if headed else "nanoGPT",
        "tokens": tokens.n_tokens,
        "documents": tokens.n_documents,
        "largest_id": int(tokens.read(0, tokens.n_tokens).max(initial=0)),
    }
