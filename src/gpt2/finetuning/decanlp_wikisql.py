"""WikiSQL as decaNLP has it: questions about a table, answered by a query in words.

Two files with the same name make a split, the questions and their tables. Lines that have table, columns, question
and SQL as one text, as examples of other trainers do, are read too; there a column with a comma in its name cannot
be told from two, and records whose own query does not come out are left out. Two queries are the same when column,
aggregate and conditions are, in their order.

    logical_form("SELECT COUNT Pick FROM table WHERE Team = Oakland", ["Pick", "Team"])
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpt2.errors import FormatError
from gpt2.finetuning.decanlp_files import Query, json_lines

AGGREGATES = ("", "MAX", "MIN", "COUNT", "SUM", "AVG")
OPERATORS = ("=", ">", "<", "OP")
SYMBOLS = "SELECT, WHERE, AND, COL, TABLE, CAPTION, PAGE, SECTION, OP, COND, QUESTION, AGG, AGGOPS, CONDOPS"


def read_wikisql(path: Path, tables: Path | None = None) -> list[Query]:
    """WikiSQL's JSON lines beside its tables; or lines that have table, columns, question and SQL as one text."""
    headers = {row["id"]: row["header"] for row in json_lines(tables)} if tables else {}
    found = []
    for i, row in enumerate(json_lines(path)):
        try:
            if tables:
                header, asked, sql = headers[row["table_id"]], row["question"], row["sql"]
                answer = spelled(header, sql["sel"], sql["agg"], sql["conds"])
            else:
                table, columns, asked, said = row["text"].split("\n")
                header = columns.removeprefix("columns: ").split(", ")
                asked = asked.removeprefix("Q: ").strip()
                answer = said.removeprefix("A: ").replace(
                    f"FROM {table.removeprefix('table: ')}", "FROM table"
                )
                answer = re.sub(r"(?<= )'|'(?= AND |$)", "", answer)
        except (TypeError, KeyError, ValueError, IndexError, AttributeError):
            raise FormatError(f"{path}, line {i + 1} is no question of WikiSQL") from None
        if not tables and logical_form(answer, header) is None:
            continue  # a column with a comma in its name
        words = ", ".join([*AGGREGATES[1:], *OPERATORS, SYMBOLS])
        context = f"The table has columns {', '.join(header)} and key words {words} -- {asked}"
        question = "What is the translation from English to SQL?"
        found.append(Query(context, question, answer, facts={"header": header}))
    return found


def spelled(header: Sequence[str], column: int, aggregate: int, conditions: Sequence[Any]) -> str:
    """A query as decaNLP spells it."""
    said = f"SELECT {AGGREGATES[aggregate]} {header[column]} FROM table"
    where = " AND ".join(f"{header[c]} {OPERATORS[o]} {value}" for c, o, value in conditions)
    return " ".join((f"{said} WHERE {where}" if where else said).split())


Form = tuple[int, int, tuple[tuple[int, int, str], ...]]


def logical_form(text: str, header: Sequence[str]) -> Form | None:
    """Column, aggregate and conditions of a query as decaNLP spells it; None for what is no query."""
    columns = {name.lower(): i for i, name in reversed([*enumerate(header)])}
    text = " ".join(text.lower().split())
    head, _, tail = text.partition(" where ")
    match = re.fullmatch(r"select (.*) from table", head)
    if not match:
        return None
    aggregate, column = 0, " ".join(match[1].split())
    if column not in columns:
        first, _, column = column.partition(" ")
        known = [name.lower() for name in AGGREGATES]
        if first not in known or column not in columns:
            return None
        aggregate = known.index(first)
    names = "|".join(re.escape(name) for name in sorted(columns, key=len, reverse=True))
    signs = [sign.lower() for sign in OPERATORS]
    begins = [*re.finditer(rf"(?:^| and )({names}) ({'|'.join(map(re.escape, signs))}) ", tail)]
    if tail and (not begins or begins[0].start()):
        return None
    ends = [*(m.start() for m in begins[1:]), len(tail)] if begins else []
    conditions = [
        (columns[m[1]], signs.index(m[2]), tail[m.end() : end].strip())
        for m, end in zip(begins, ends, strict=True)
    ]
    return columns[column], aggregate, tuple(conditions)
