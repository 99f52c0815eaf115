"""Rows out of files of data: lines of text, and lines of JSON.

A line that cannot be read becomes a `Malformed` in its place, with the reason, so that it is counted and the
others are measured; a file of which nothing can be read is of another format, and one `FormatError` says so.
Rejected: reading with `errors="replace"`, which measures the model on characters that no one wrote.

    rows = read_json_lines(Path("lambada_test.jsonl"), {"text": str})
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from gpt2.errors import FormatError
from gpt2.evaluation.task import Malformed
from gpt2.workspace import Json


def read_lines(path: Path) -> list[str | Malformed]:
    """The lines of a text file without their ends; blank ones at its end are left out."""
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n").split(b"\n")
    if lines == [b""]:
        raise FormatError(f"{path} is empty; get the file anew")
    return [decoded(i, line) for i, line in enumerate(lines)]


def decoded(i: int, line: bytes) -> str | Malformed:
    """A line as text, or that it is none."""
    try:
        return line.decode("utf-8").removesuffix("\r")
    except UnicodeDecodeError as error:
        return Malformed(str(i), f"not UTF-8: byte {line[error.start]:#04x} where no character begins")


def read_json_lines(path: Path, fields: Mapping[str, type]) -> list[Json | Malformed]:
    """JSON objects, one a line, that have these fields of these types; blank lines are left out."""
    texts = [line for line in read_lines(path) if isinstance(line, Malformed) or line.strip()]
    rows = [line if isinstance(line, Malformed) else parsed(i, line, fields) for i, line in enumerate(texts)]
    if all(isinstance(row, Malformed) for row in rows):
        reason = next((row.reason for row in rows if isinstance(row, Malformed)), "it has only blank lines")
        raise FormatError(
            f"{path} has no line that is a JSON object with {', '.join(fields)} ({reason}); "
            "give the file as it was published"
        )
    return rows


def parsed(i: int, line: str, fields: Mapping[str, type]) -> Json | Malformed:
    """A line of JSON, or what is wrong with it."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return Malformed(str(i), "not JSON")
    if not isinstance(row, dict):
        return Malformed(str(i), "not a JSON object")
    for name, kind in fields.items():
        if name not in row:
            return Malformed(str(i), f"no {name!r}")
        if not isinstance(row[name], kind) or isinstance(row[name], bool):
            return Malformed(str(i), f"{name!r} is no {KINDS[kind]}")
    return row


KINDS = {str: "text", int: "number", list: "list"}
"""Types of fields, in words."""
