"""decaNLP's ten tasks as question, context and answer, read from the files in which their data was published.

McCann et al., The Natural Language Decathlon: Multitask Learning as Question Answering, 2018; questions and the
way a record becomes context and answer are those of its published code. Readers, by task:

    squad            SQuAD 1.1 JSON                             nF1
    iwslt.en.de      IWSLT's mteval XML, train.tags, or lines   BLEU
    cnn_dailymail    JSON lines of article and highlights       mean ROUGE
    multinli.in.out  MultiNLI's JSON lines                      exact match
    sst              SST's CSV, binary or fine-grained          exact match
    srl              QA-SRL's .qa files                         nF1
    zre              QA-ZRE's tab-separated relation splits     corpus F1
    woz.en           WOZ 2.0 JSON, a record a turn              joint goal exact match
    wikisql          see decanlp_wikisql.py                     logical-form exact match
    schema           MWSC's schema.txt                          exact match

decaNLP's own JSON lines {"context", "question", "answer"} are read too (`read_records`). Of SST's five grades the
middle one is left out. Where the files are looked for: `decanlp_tasks.py`.

    read_woz(Path("woz_validate_en.json"))[0].answer
"""

from __future__ import annotations

import csv
import html
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpt2.errors import FormatError
from gpt2.workspace import Json


@dataclass(frozen=True)
class Query:
    """A record: what is asked about what, and what is right."""

    context: str
    question: str
    answer: str
    """The one to learn."""
    references: tuple[str, ...] = ()
    """All that are right; none for the answer alone."""
    facts: Json = field(default_factory=dict)
    """What the metric needs besides: a turn's name, a table's columns."""

    @property
    def right(self) -> tuple[str, ...]:
        """Whatever counts as right."""
        return self.references or (self.answer,)


Reader = Callable[..., list[Query]]


def read_records(path: Path) -> list[Query]:
    """decaNLP's own JSON lines."""
    found = []
    for i, row in enumerate(json_lines(path)):
        if not all(isinstance(row.get(k), str) for k in ("context", "question", "answer")):
            raise FormatError(f"{path}, line {i + 1}: a record needs context, question and answer as texts")
        facts = {k: v for k, v in row.items() if k not in ("context", "question", "answer", "all_answers")}
        said = tuple(map(str, row.get("all_answers", ())))
        found.append(Query(row["context"], row["question"], row["answer"], said, facts))
    return found


def read_squad(path: Path) -> list[Query]:
    """SQuAD 1.1."""
    content = read(path)
    try:
        return [
            Query(part["context"], " ".join(q["question"].split()), said[0], tuple(said))
            for document in content["data"]
            for part in document["paragraphs"]
            for q in part["qas"]
            if (said := [answer["text"] for answer in q["answers"]])
        ]
    except (TypeError, KeyError, AttributeError):
        raise FormatError(
            f"{path} is not SQuAD 1.1: it needs data, paragraphs, context, qas and answers"
        ) from None


def read_translation(source: Path, target: Path) -> list[Query]:
    """IWSLT from English to German: two files with as many sentences."""
    ours, theirs = segments(source), segments(target)
    if len(ours) != len(theirs):
        raise FormatError(
            f"{source} has {len(ours)} sentences and {target} {len(theirs)}; give two sides of one text"
        )
    question = "Translate from English to German"
    return [Query(a, question, b) for a, b in zip(ours, theirs, strict=True) if a and b]


def segments(path: Path) -> list[str]:
    """Sentences of mteval XML, of train.tags (whose tags are left out), or of lines."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".xml":
        return [line.strip() for line in text.strip("\n").split("\n") if not line.startswith("<")]
    found = re.findall(r"<seg\b[^>]*>(.*?)</seg>", text, re.DOTALL)
    if not found:
        raise FormatError(f"{path} has no <seg>; give IWSLT's file as it was published")
    return [html.unescape(segment).strip() for segment in found]


def read_summaries(path: Path) -> list[Query]:
    """CNN/Daily Mail; the line ends between its sentences become spaces, for an answer is one line."""
    return [
        Query(
            " ".join(checked(row, "article", path).split()),
            "What is the summary?",
            " ".join(checked(row, "highlights", path).split()),
        )
        for row in json_lines(path)
    ]


def read_multinli(*paths: Path) -> list[Query]:
    """MultiNLI's JSON lines, of one file or, matched and mismatched, of two; no gold label leaves a pair out."""
    asked = 'Hypothesis: "{}" -- entailment, neutral, or contradiction?'
    return [
        Query(
            f'Premise: "{checked(r, "sentence1", path)}"',
            asked.format(checked(r, "sentence2", path)),
            r["gold_label"],
        )
        for path in paths
        for r in json_lines(path)
        if checked(r, "gold_label", path) != "-"
    ]


def read_sst(path: Path) -> list[Query]:
    """SST as CSV with label and sentence: 0 and 1 of a binary file, 0 to 4 of a fine-grained one."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    if not rows or len(rows[0]) != 2 or rows[0][0] != "label":
        raise FormatError(f"{path} does not begin with label,sentence; give SST's file as decaNLP has it")
    grades = {row[0] for row in rows[1:] if row}
    if not grades <= set("01234"):
        raise FormatError(f"{path} has the label {min(grades - set('01234'))!r}; SST's are 0 to 4")
    named = dict(zip("01234", ("negative", "negative", "", "positive", "positive"), strict=True))
    if grades <= set("01"):
        named = {"0": "negative", "1": "positive"}
    question = "Is this review negative or positive?"
    return [Query(row[-1], question, named[row[0]]) for row in rows[1:] if row and named[row[0]]]


def read_srl(path: Path) -> list[Query]:
    """QA-SRL: a sentence, its verbs, and for each of them questions in seven slots with their answers."""
    found: list[Query] = []
    sentence = ""
    for block in re.split(r"\n\s*\n", path.read_text(encoding="utf-8").strip()):
        lines = block.split("\n")
        if len(lines) < 2 or len(lines[0].split("\t")) != 2:
            raise FormatError(f"{path}: {lines[0][:40]!r} names no sentence; give QA-SRL's .qa file")
        sentence = untokenized(lines[1])
        for line in lines[2:]:
            asked, mark, said = line.partition("?")
            if not mark:
                continue  # the number of the verb, the verb, how many questions
            question = untokenized(" ".join(w for w in asked.split() if w != "_")) + "?"
            answers = tuple(untokenized(answer) for answer in said.split("###"))
            found.append(Query(sentence, question, answers[0], answers))
    return found


def untokenized(text: str) -> str:
    """Text of the Penn Treebank's tokens with punctuation where it belongs."""
    for token, plain in (
        ("-LRB-", "("),
        ("-RRB-", ")"),
        ("-LAB-", "<"),
        ("-RAB-", ">"),
        ("-AMP-", "&"),
        ("%pw", " "),
    ):
        text = text.replace(token, plain)
    text = " ".join(re.sub(r"``|''|[`“”]", "", text).split())
    text = re.sub(r" ([.,;!?:)%]|n't\b|'(?:s|m|d|t|re|ve|ll)\b)", r"\1", text)
    return re.sub(r"([($]) ", r"\1", text).replace(" - ", "-").strip()


def read_zre(path: Path) -> list[Query]:
    """QA-ZRE: relation, question with XXX, subject, sentence, and answers, if there are any."""
    found = []
    for i, line in enumerate(lines_of(path)):
        cells = line.split("\t")
        if len(cells) < 4:
            raise FormatError(f"{path}, line {i + 1} has {len(cells)} columns; QA-ZRE's have 4 or more")
        _, question, subject, context, *answers = cells
        answer = ", ".join(answers) or "Unanswerable"
        found.append(Query(context, question.replace("XXX", subject), answer))
    return found


def read_woz(path: Path) -> list[Query]:
    """WOZ 2.0: after each turn, what has changed in the state: goals; requests."""
    found = []
    try:
        for number, dialogue in enumerate(read(path)):
            before: list[list[str]] = []
            for turn, said in enumerate(dialogue["dialogue"]):
                acts = [": ".join(act) if isinstance(act, list) else act for act in said["system_acts"]]
                context = (", ".join(acts) + " -- " if acts else "") + said["transcript"]
                slots = [
                    (item["act"], slot) for item in said["belief_state"] for slot in item.get("slots", ())
                ]
                goals = [slot for act, slot in slots if act == "inform"]
                new = ", ".join(f"{name}: {value}" for name, value in goals if [name, value] not in before)
                asked = ", ".join(value for act, (_, value) in slots if act != "inform")
                answer = f"{new};{' ' + asked if asked else ''}" if new or asked else "None"
                name = f"en_{number}_{turn}"
                found.append(
                    Query(
                        " ".join(context.split()),
                        "What is the change in state?",
                        answer,
                        facts={"turn": name},
                    )
                )
                before = goals
    except (TypeError, KeyError, AttributeError, ValueError):
        raise FormatError(f"{path} is not WOZ 2.0: it needs dialogues of turns with a belief state") from None
    return found


def read_schemas(path: Path) -> list[Query]:
    """MWSC: sentence, question and answers, each with [one/other], a blank line after."""
    found = []
    for block in re.split(r"\n\s*\n", path.read_text(encoding="utf-8").strip()):
        lines = [line.strip() for line in block.split("\n")]
        if len(lines) != 3 or "/" not in lines[2]:
            raise FormatError(f"{path}: {lines[0][:40]!r} is not followed by a question and two answers")
        answers = lines[2].split("/")
        for side in (0, 1):
            context, question = (re.sub(r"\[([^]]*)\]", chosen(side), line) for line in lines[:2])
            found.append(Query(context, f"{question} {answers[0]} or {answers[1]}?", answers[side]))
    return found


def chosen(side: int) -> Callable[[re.Match[str]], str]:
    """What stands in a bracket on one side of its stroke."""
    return lambda match: [*match[1].split("/"), match[1]][side]


def read(path: Path) -> Any:
    """A JSON file."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise FormatError(f"{path} is not JSON; give the file as it was published") from None


def lines_of(path: Path) -> list[str]:
    """The lines of a text file that are not empty."""
    return [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def json_lines(path: Path) -> Iterator[Json]:
    """JSON objects, one a line."""
    for i, line in enumerate(lines_of(path)):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise FormatError(f"{path}, line {i + 1} is no JSON object; give the file as it was published")
        yield row


def checked(row: Json, name: str, path: Path) -> str:
    """A text of a row."""
    if not isinstance(row.get(name), str):
        raise FormatError(f"{path} has a row without {name}; give the file as it was published")
    return str(row[name])
