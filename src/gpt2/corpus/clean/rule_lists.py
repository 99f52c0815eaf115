"""Lists of rules: the ones that are used, and how a user's own is written and read.

A list of rules is a TOML file: a table for each rule, with its settings; a rule without a table is off, and a
setting that is left out has its usual value. Rules that mend come first in any list, since the others must judge
what will be kept; else rules are tried in the order of the file, and a document is counted under the first that
refuses it.

    gpt2 corpus clean --show-rules > rules.toml

Rejected: switches `on = false` in each table, which say in two words what leaving the table out says in none; and
YAML, for which Python has no reader.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import textwrap
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

from gpt2.corpus.clean import mending, rules
from gpt2.corpus.clean.rules import Rule, Rules
from gpt2.corpus.links.blocklist import wikipedia
from gpt2.errors import ConfigError, FormatError, InputError, nearest
from gpt2.workspace import Json

WEB: Rules = (
    rules.Wikipedia(),
    mending.Mojibake(),
    mending.ControlCharacters(),
    mending.SharedLines(),
    mending.Notices(),
    mending.LongWords(),
    rules.Tokens(),
    rules.Language(),
    rules.Words(),
    rules.WordLength(),
    rules.Symbols(),
    rules.Bullets(),
    rules.Ellipses(),
    rules.AlphabeticWords(),
    rules.StopWords(),
    rules.RepeatedLines(),
    rules.RepeatedParagraphs(),
    rules.TopNgrams(),
    rules.RepeatedNgrams(),
    rules.LoremIpsum(),
    rules.Sentences(),
)
"""For pages of the web."""
OFF: Rules = (
    mending.AddressesInMemory(),
    mending.UnendedLines(),
    rules.Letters(),
    rules.CurlyBrackets(),
)
"""What `WEB` leaves out."""
SITE: Rules = (
    mending.ControlCharacters(),
    mending.AddressesInMemory(),
    mending.SharedLines(),
    rules.Words(fewest=30, most=10**9),
    rules.Letters(),
)
"""For the documentation that Python carries: well-made pages, many of them short or lists."""
OWN_TEXT: Rules = (mending.ControlCharacters(), mending.AddressesInMemory())
"""For a user's own text, of which nothing is dropped."""

KINDS: dict[str, type[Rule]] = {rule.name: type(rule) for rule in (*WEB, *OFF)}
HEAD = """\
The rules by which `gpt2 corpus clean` mends and drops documents. Take out a table, or put # before its lines, and
the rule is off; rules that mend come before the others, else this order is theirs.
"""
WIDTH = 110


def read_rules(path: Path | None = None) -> Rules:
    """The rules of a file, or `WEB`.

    Raises `InputError` for a file that is not there, `FormatError` for one that is no TOML, and `ConfigError`
    for an unknown rule or setting, with the nearest that is known, or a value that cannot be.
    """
    if path is None:
        return WEB
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"there is no file {path}; `gpt2 corpus clean --show-rules > {path}` makes one"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} is not a TOML file of rules: {error}") from None
    return tuple(rule_from(name, settings, path) for name, settings in tables.items())


def rule_from(name: str, settings: Any, path: Path) -> Rule:
    """The rule that a table of a file stands for."""
    if name not in KINDS:
        raise ConfigError(
            f"{path} has {name!r}, which is no rule{nearest(name, KINDS)}; see gpt2 corpus clean --show-rules"
        )
    if not isinstance(settings, dict):
        raise ConfigError(f"{name!r} in {path} is a rule and needs a table: write [{name}]")
    known = {field.name: str(field.type) for field in dataclasses.fields(KINDS[name])}
    values = {}
    for key, value in settings.items():
        if key not in known:
            raise ConfigError(f"rule {name!r} in {path} has no setting {key!r}{nearest(key, known)}")
        values[key] = value_of(value, known[key], f"{key} of rule {name!r} in {path}")
    return KINDS[name](**values)


def value_of(value: Any, kind: str, place: str) -> int | float | tuple[str, ...]:
    """A setting's value in its type, or `ConfigError`."""
    if kind == "tuple[str, ...]":
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise ConfigError(f'{place} must be a list of strings such as ["a", "b"], not {value!r}')
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and kind != "int":
        return value
    raise ConfigError(f"{place} must be a {'whole ' * (kind == 'int')}number, not {value!r}")


def settings_of(chosen: Rules) -> Json:
    """All settings of all rules by name, for a record of what was done; Wikipedia's domains with them."""
    found: Json = {rule.name: dataclasses.asdict(rule) for rule in chosen}
    if "wikipedia" in found:
        found["wikipedia"]["domains"] = sorted(wikipedia())
    return found


def show_rules(chosen: Rules = WEB) -> str:
    """The file that a list of rules is read from, each with its source; those that are off commented out."""
    on = {rule.name for rule in chosen}
    parts = [commented(HEAD)]
    parts += [table_of(rule) for rule in chosen]
    off = "".join(f"\n{table_of(rule, off=True)}" for rule in (*WEB, *OFF) if rule.name not in on)
    return "\n".join(parts) + off


def table_of(rule: Rule, off: bool = False) -> str:
    """A rule as TOML: what it does, its name, its settings and what they mean."""
    said = docs_of(type(rule))
    lines = [f"[{rule.name}]"]
    for field in dataclasses.fields(rule):
        value = getattr(rule, field.name)
        shown = json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
        line = f"{field.name} = {shown}"
        lines += [f"# {said[field.name]}", line] if len(line) > 40 else [f"{line:28}  # {said[field.name]}"]
    body = "".join(f"# {line}\n" if off else f"{line}\n" for line in lines)
    return commented(inspect.getdoc(rule) or "") + body


def docs_of(kind: type[Rule]) -> dict[str, str]:
    """The line under each field of a rule."""
    definition = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: " ".join(ast.literal_eval(doc.value).split())
        for field, doc in pairwise(definition.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(doc, ast.Expr)
    }


def commented(text: str) -> str:
    """A text as comment lines."""
    return "".join(f"# {line}\n" for line in textwrap.wrap(" ".join(text.split()), WIDTH - 2))
