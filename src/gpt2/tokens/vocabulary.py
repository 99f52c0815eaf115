"""Vocabulary files: OpenAI's `encoder.json` and `vocab.bpe`, Hugging Face's `tokenizer.json`.

All say the same thing, the merges, in other words: `vocab.bpe` has one merge a line, `encoder.json` the id of
each token, `tokenizer.json` both and how to cut a text into words. Bytes are spelled as printable characters
(`Ġt` is a space and a t). What is written here is, for GPT-2's own vocabulary, OpenAI's two files byte for
byte, and a folder that `transformers` loads as GPT2TokenizerFast with equal ids.

Reading takes only what this workbench can encode exactly as its makers meant: byte-level BPE with GPT-2's
words and GPT-2's numbering. Everything else is refused by a sentence that says what it is. Rejected: taking
any `tokenizer.json` through the `tokenizers` library, which would make ids depend on that library's version.

    python -c "import gpt2; gpt2.Tokenizer.gpt2().save('vocabulary')"
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt2.errors import FormatError, InputError
from gpt2.tokens.bpe import BYTE, END_OF_TEXT, LETTER, Tokenizer
from gpt2.workspace import Json, atomic_write, file_digest, read_json, write_json

HEADER = "#version: 0.2"
KNOWN_FILES = (("encoder.json", "vocab.bpe"), ("tokenizer.json",), ("vocab.json", "merges.txt"))
GPT2_FILES = (
    "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
)
"""sha256 of OpenAI's two files. To know them by it is 0.2 s quicker than to read them."""
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def spell(token: bytes) -> str:
    """A token in printable characters, as vocabulary files have it."""
    return token.decode("latin-1").translate(LETTER)


def unspell(text: str) -> bytes:
    """The bytes of a token spelled in printable characters; KeyError when a character stands for no byte."""
    return bytes(BYTE[letter] for letter in text)


def spelled_merges(tokenizer: Tokenizer) -> list[str]:
    """The merges as 'Ġ t', in order."""
    spelled = [spell(token) for token in tokenizer.tokens[: tokenizer.end_of_text]]
    return [f"{spelled[left]} {spelled[right]}" for left, right in tokenizer.pairs]


def numbering(tokenizer: Tokenizer) -> dict[str, int]:
    """The id of each spelled token, without `<|endoftext|>`."""
    return {spell(token): i for i, token in enumerate(tokenizer.tokens[: tokenizer.end_of_text])}


def vocab_bpe(tokenizer: Tokenizer) -> str:
    """The content of `vocab.bpe`."""
    return "\n".join([HEADER, *spelled_merges(tokenizer), ""])


def encoder_json(tokenizer: Tokenizer) -> str:
    """The content of `encoder.json`."""
    return json.dumps(numbering(tokenizer) | {END_OF_TEXT: tokenizer.end_of_text})


def tokenizer_json(tokenizer: Tokenizer, special: bool = True) -> str:
    """The content of `tokenizer.json`; without `special` a spelled `<|endoftext|>` is text like any other."""
    end = {"id": tokenizer.end_of_text, "content": END_OF_TEXT, "special": True, "normalized": False}
    end |= {"single_word": False, "lstrip": False, "rstrip": False}
    ids = numbering(tokenizer)
    definition = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [end] if special else [],
        "normalizer": None,
        "pre_tokenizer": BYTE_LEVEL,
        "post_processor": BYTE_LEVEL | {"trim_offsets": False},
        "decoder": BYTE_LEVEL,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": ids | {END_OF_TEXT: tokenizer.end_of_text} if special else ids,
            "merges": spelled_merges(tokenizer),
        },
    }
    return json.dumps(definition, ensure_ascii=False)


def write_vocabulary(tokenizer: Tokenizer, folder: Path) -> None:
    """Write all files of a vocabulary into a folder, each whole or not at all."""
    names = ("bos_token", "eos_token", "unk_token")
    settings = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False} | dict.fromkeys(
        names, END_OF_TEXT
    )
    write_json(folder / "tokenizer_config.json", settings)
    for name, text in (
        ("encoder.json", encoder_json(tokenizer)),
        ("vocab.bpe", vocab_bpe(tokenizer)),
        ("tokenizer.json", tokenizer_json(tokenizer)),
    ):
        with atomic_write(folder / name) as stream:
            stream.write(text.encode())


def read_vocabulary(folder: Path) -> Tokenizer:
    """The vocabulary of a folder, from the first of the known sets of files that is there."""
    for names in KNOWN_FILES:
        paths = [folder / name for name in names]
        if all(path.exists() for path in paths):
            if len(paths) == 1:
                return from_definition(read_json(paths[0]), paths[0])
            return _from_two_files(*paths)
    known = ", ".join(" + ".join(names) for names in KNOWN_FILES)
    raise InputError(f"there is no vocabulary in {folder}: it needs one of {known}")


def _from_two_files(ids_path: Path, merges_path: Path) -> Tokenizer:
    try:
        if (file_digest(ids_path), file_digest(merges_path)) == GPT2_FILES:
            return Tokenizer.gpt2()
        lines = merges_path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{merges_path} cannot be read as text ({error})") from None
    merges = lines[1:] if lines[0].startswith("#version") else lines
    return build([line.split(" ") for line in merges if line], read_json(ids_path), merges_path, ids_path)


def from_definition(definition: Any, path: Path) -> Tokenizer:
    """The vocabulary of a `tokenizer.json` that was read from `path`; `FormatError` if it is of another kind."""
    if not isinstance(definition, dict) or not isinstance(definition.get("model"), dict):
        raise FormatError(f"{path} is JSON but not a tokenizer: it has no model")
    try:
        if strange := _strangeness(definition):
            raise FormatError(f"{path} is not byte-level BPE with GPT-2's words: it has {strange}")
        model = definition["model"]
        added = {token["content"]: token["id"] for token in definition.get("added_tokens") or []}
        merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    except (KeyError, TypeError, AttributeError):
        raise FormatError(f"{path} is JSON but not a whole tokenizer; save or copy it anew") from None
    return build(merges, model["vocab"] | added, path, path)


def _strangeness(definition: Json) -> str | None:
    """What makes a tokenizer.json another thing than GPT-2's kind, or None."""
    model, splitter = definition["model"], definition.get("pre_tokenizer") or {}
    kind = model.get("type", "BPE" if "merges" in model else "unnamed")
    if kind != "BPE":
        return f"a {kind} model"
    if not isinstance(model.get("vocab"), dict) or not isinstance(model.get("merges"), list):
        return "no vocabulary or no merges"
    for option in (
        "byte_fallback",
        "ignore_merges",
        "dropout",
        "continuing_subword_prefix",
        "end_of_word_suffix",
    ):
        if model.get(option):
            return f"a BPE model with {option} = {model[option]!r}"
    if normalizer := definition.get("normalizer"):
        return f"a {normalizer.get('type')} normalizer"
    if splitter.get("type") != "ByteLevel":
        return f"a pre-tokenizer of type {splitter.get('type')}"
    if splitter.get("add_prefix_space") or not splitter.get("use_regex", True):
        return "ByteLevel words with a space put in front or without GPT-2's pattern"
    return None


def build(merges: list[list[str]], ids: Any, merges_path: Path, ids_path: Path) -> Tokenizer:
    """The tokenizer of spelled merges, if it numbers its tokens as `ids` does; `FormatError` with paths if not."""
    try:
        tokenizer = Tokenizer.from_merges([(unspell(left), unspell(right)) for left, right in merges])
    except InputError as error:
        raise FormatError(f"{merges_path} is not a list of merges: {error}") from None
    except (KeyError, ValueError, TypeError):
        raise FormatError(
            f"{merges_path} is not a list of merges: a line is not two tokens in GPT-2's spelling"
        ) from None
    expected = numbering(tokenizer) | {END_OF_TEXT: tokenizer.end_of_text}
    if ids != expected:
        raise FormatError(
            f"{ids_path} does not number its tokens as GPT-2 does: {_first_difference(expected, ids)}"
        )
    return tokenizer


def _first_difference(expected: Mapping[str, int], ids: Any) -> str:
    if not isinstance(ids, dict):
        return f"it is a JSON {type(ids).__name__}, not an object"
    for token, i in expected.items():
        if token not in ids:
            return f"{token!r} (id {i}) is missing"
        if ids[token] != i:
            return f"{token!r} is {ids[token]}, and by the merges it should be {i}"
    extra = next(token for token in ids if token not in expected)
    return f"{extra!r} comes neither from the merges nor is it {END_OF_TEXT}"
