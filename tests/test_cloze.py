"""Cloze questions: sound ones, out of any documents, in the original formats, asked as a plain scorer asks."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from command_line import Run

from gpt2.corpus.documents import Document, read_text
from gpt2.errors import ConfigError, InputError, TooLittleData
from gpt2.evaluation.asking import Asked, ask
from gpt2.evaluation.cloze import BLANK, Cloze, ClozeConfig, TenChoices, build, write_cloze
from gpt2.evaluation.run import evaluate
from gpt2.evaluation.sentences import FUNCTION_WORDS, WORD, Lexicon, sentences
from gpt2.evaluation.task import Choices, Item, Malformed
from gpt2.evaluation.tasks import cbt
from gpt2.evaluation.tasks.cloze import LAST_WORD, OwnCloze, guess, read
from gpt2.inference.scoring import score, score_ids
from gpt2.model.checkpoint import Model
from gpt2.model.config import GPT2Config
from gpt2.model.transformer import GPT2
from gpt2.tokens.bpe import Tokenizer

WORDS = "ship captain harbour storm sailor lantern anchor island village market river bridge tower garden"
PEOPLE = "Anna Bertram Clara Dorian Edith Felix Greta Harold Irene Jonas Karla Leopold"
NOUNS, NAMES, VERBS = WORDS.split(), PEOPLE.split(), ["saw", "left", "reached", "found", "forgot"]


def story(seed: int, n: int = 60) -> str:
    """A story of so many different sentences, in paragraphs with line breaks, code between two of them."""
    draw = random.Random(seed)
    told = []
    for i in range(n):
        one, two = draw.sample(NAMES, 2)
        a, b, c = draw.sample(NOUNS, 3)
        end = draw.choice([f"near the {c}", f"with {two} in the {c}", f"before the {c} of the {b}"])
        told.append(f"On day {seed}-{i} the {a} of {one} {draw.choice(VERBS)} the {b}\n{end}.")
    paragraphs = [" ".join(told[i : i + 5]) for i in range(0, n, 5)]
    return "\n\n".join([*paragraphs[:2], "def f(x):\n    return x  # no prose.", *paragraphs[2:]])


DOCUMENTS = [Document(story(i), id=f"d{i}", group=f"g{i // 2}") for i in range(6)]


@pytest.fixture(scope="module")
def made() -> Cloze:
    return build(DOCUMENTS, ClozeConfig(last_words=60, choices=40))


def check_ten(item: TenChoices, lexicon: Lexicon, names: bool) -> None:
    """What must hold of every ten-choice question."""
    context = [word for sentence in item.context for word in WORD.findall(sentence)]
    assert len(item.context) == 20 and len(set(item.choices)) == len(item.choices) == 10
    assert item.choices.count(item.answer) == 1 and item.question.count(BLANK) == 1
    assert set(item.choices) <= set(context), "every choice stands in the context"
    whole = item.question.replace(BLANK, item.answer)
    assert whole not in item.context and item.answer not in WORD.findall(item.question)
    assert not any("\n" in line or "\t" in line for line in (*item.context, item.question))
    if names:
        assert lexicon.is_name(item.answer) and sum(map(lexicon.is_name, item.choices)) >= 5
    else:
        assert all(map(lexicon.is_noun, item.choices))


def check(cloze: Cloze, documents: list[Document], training: tuple[str, ...] = ()) -> None:
    """What must hold of questions, whatever they are made of."""
    lexicon = Lexicon()
    counts: dict[str, int] = {}
    for text in [*(d.text for d in documents), *training]:
        for sentence in sentences(text):
            lexicon.read(sentence.text)
            counts[sentence.text] = counts.get(sentence.text, 0) + 1
    for kind in (cloze.nouns, cloze.names):
        asked = [item.question.replace(BLANK, item.answer) for item in kind]
        assert len(set(asked)) == len(asked) and all(counts[text] == 1 for text in asked)
        for item in kind:
            check_ten(item, lexicon, kind is cloze.names)
    for passage in cloze.last_words:
        words = passage.context.split()
        assert len(words) >= 50 and passage.text.rsplit(" ", 1) == [passage.context, passage.target]
        assert len(passage.target) >= 3 and passage.target.lower() not in FUNCTION_WORDS
        assert passage.in_context == (passage.target.lower() in map(str.lower, WORD.findall(passage.context)))
    if cloze.last_words:
        assert cloze.in_context == pytest.approx(0.8, abs=0.02), "four of five, as in LAMBADA"


# Sentences, nouns and names


def test_a_sentence_ends_where_it_ends() -> None:
    text = (
        'Mr. Dorian J. Gray came at 5 p.m. to see us. "Who is it?" he asked. "I do," said I. Yes!\n\n'
        "It took them all of 3.5 hours, i.e. Tuesday was\nover (or so he said.) Nobody knew…"
    )
    assert [s.text for s in sentences(text)] == [
        "Mr. Dorian J. Gray came at 5 p.m. to see us.",
        '"Who is it?" he asked.',
        '"I do," said I.',
        "Yes!",
        "It took them all of 3.5 hours, i.e. Tuesday was over (or so he said.)",
        "Nobody knew…",
    ]
    assert "".join(s.before + s.raw for s in sentences(text)).strip() == text, "nothing of it is lost"


@pytest.mark.parametrize(
    "paragraph",
    [
        "def f(x):\n    return x.",
        "Args:\n    input (Tensor): the one.\n    other (Tensor): the other.",
        "A list of members\n  - the first\n  - the second.",
        "CHAPTER THE FIRST",
        ">>> print(1)\n1.",
        "F(x) = x_1 + y_2 / (z_3 * 4) == 7.",
        "and so it goes on.",
        "----\n....",
        "",
    ],
)
def test_what_is_no_prose_is_left_out(paragraph: str) -> None:
    assert sentences(f"\n\n{paragraph}\n\nHe came home.\n")[0].text == "He came home."


def test_nouns_and_names_by_their_use() -> None:
    lexicon = Lexicon()
    for text in (
        "The house of Anna is old.",
        "We saw the house.",
        "An old man and Anna went to the house.",
        "The old man will go home, and the man is gone.",
        "A man of the sea is Anna.",
        "The sea of Will, they said.",
    ):
        lexicon.read(text)
    assert [w for w in ["house", "man", "sea"] if lexicon.is_noun(w)] == ["house", "man", "sea"]
    assert not any(map(lexicon.is_noun, ["old", "go", "home", "the", "will", "House"]))
    assert lexicon.is_name("Anna") and not any(map(lexicon.is_name, ["The", "We", "An", "Will", "anna"]))


# Questions


def test_questions_are_sound(made: Cloze) -> None:
    assert len(made.last_words) == 60 and len(made.nouns) == len(made.names) == 40
    check(made, DOCUMENTS)


def test_questions_of_real_prose_are_sound(data: Path) -> None:
    novels = sorted((data / "prose" / "novels").glob("*.txt"))[:3]
    documents = [next(read_text(path)) for path in novels]
    training = (next(read_text(data / "prose" / "inaugural")).text,)
    cloze = build(documents, ClozeConfig(60, 60), training)
    assert len(cloze.last_words) == len(cloze.nouns) == len(cloze.names) == 60
    check(cloze, documents, training)
    assert {item.group for item in cloze.nouns} == {d.group for d in documents}


def test_the_same_documents_and_seed_give_the_same_questions(made: Cloze) -> None:
    again = build(DOCUMENTS, ClozeConfig(60, 40))
    assert again == made
    other = build(DOCUMENTS, ClozeConfig(60, 40, seed=1))
    assert other.nouns != made.nouns and other.last_words != made.last_words


def test_pieces_of_one_source_are_read_on_and_sources_take_turns(made: Cloze) -> None:
    for items in (made.nouns, made.names, [p for p in made.last_words if p.in_context]):
        counts = [sum(item.group == f"g{i}" for item in items) for i in range(3)]
        assert max(counts) - min(counts) <= 1
    every = build(DOCUMENTS, ClozeConfig(0, 10_000)).nouns
    days = [(item.context[0].split()[2], item.question.split()[2]) for item in every]
    assert any(first.split("-")[0] != last.split("-")[0] for first, last in days), "over the end of a piece"
    numbers = {tuple(int(s.split()[2].split("-")[0]) // 2 for s in item.context) for item in every}
    assert all(len(set(groups)) == 1 for groups in numbers), "but not of a source"


def test_what_the_model_has_learned_or_what_stands_twice_is_not_asked() -> None:
    learned = story(0, 30)
    cloze = build(DOCUMENTS, ClozeConfig(10_000, 10_000), [learned])
    known = {s.text for s in sentences(learned)}
    asked = {item.question.replace(BLANK, item.answer) for item in cloze.nouns + cloze.names}
    assert asked and not asked & known
    check(cloze, DOCUMENTS, (learned,))
    twice = [*DOCUMENTS, Document(DOCUMENTS[0].text, id="copy")]
    asked = {i.question.replace(BLANK, i.answer) for i in build(twice, ClozeConfig(0, 10_000)).nouns}
    assert asked and not asked & {s.text for s in sentences(DOCUMENTS[0].text)}


def test_too_little_prose_and_wrong_numbers_are_said() -> None:
    with pytest.raises(TooLittleData, match="no question can be made of 1 sources with 4 sentences"):
        build([Document(story(0, 4), id="x")])
    with pytest.raises(ConfigError, match="choices must be 0 or more, not -1"):
        ClozeConfig(choices=-1)


# Files


def read_cbt(path: Path) -> list[tuple[list[str], str, str, list[str]]]:
    """A plain reader of the Children's Book Test."""
    found = []
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        lines = [line.split(" ", 1) for line in block.splitlines()]
        if lines:
            assert [int(number) for number, _ in lines] == list(range(1, 22))
            question, answer, empty, choices = lines[-1][1].split("\t")
            assert empty == ""
            found.append(([text for _, text in lines[:-1]], question, answer, choices.split("|")))
    return found


def test_files_are_read_back_as_what_was_made(made: Cloze, tmp_path: Path) -> None:
    paths = write_cloze(made, tmp_path)
    assert [p.name for p in paths] == ["cloze.jsonl", "last-word.jsonl", "nouns.txt", "names.txt"]
    for path, items in ((paths[2], made.nouns), (paths[3], made.names)):
        expected = [(list(i.context), i.question, i.answer, list(i.choices)) for i in items]
        assert read_cbt(path) == expected
        ours = [row for row in cbt.read(path) if isinstance(row, dict)]
        assert [(r["sentences"], r["question"], r["answer"], r["candidates"]) for r in ours] == expected
    texts = [json.loads(line)["text"] for line in paths[1].read_text(encoding="utf-8").splitlines()]
    assert [text.rsplit(" ", 1) for text in texts] == [[p.context, p.target] for p in made.last_words]
    rows = read(paths[0])
    assert len(rows) == 60 + 40 + 40 and not any(isinstance(row, Malformed) for row in rows)
    write_cloze(Cloze(made.last_words, [], []), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cloze.jsonl", "last-word.jsonl"]


def test_the_command_writes_the_questions(run: Run, tmp_path: Path) -> None:
    for document in DOCUMENTS:
        (tmp_path / "texts").mkdir(exist_ok=True)
        (tmp_path / "texts" / f"{document.id}.txt").write_text(document.text)
    said = run("cloze", tmp_path / "texts", tmp_path / "out", "--choices", "30", "--json")
    facts = json.loads(said.out)
    assert said.status == 0 and facts["nouns"] == facts["names"] == 30 and facts["last_words"] > 50
    assert len(read_cbt(tmp_path / "out" / "nouns.txt")) == 30
    assert (
        "of the last words stand in their context" in run("cloze", tmp_path / "texts", tmp_path / "out").out
    )
    (tmp_path / "short.txt").write_text("He came. She went.")
    assert run("cloze", tmp_path / "short.txt", tmp_path / "none").refused("no question can be made")
    assert not (tmp_path / "none").exists()


# Asking


@pytest.fixture(scope="module")
def model(one_thread: None) -> Model:
    torch.manual_seed(0)
    tok = Tokenizer.learn([d.text for d in DOCUMENTS], 400)
    net = GPT2(GPT2Config(n_layer=2, n_head=2, n_embd=32, vocab_size=tok.n_vocab, n_ctx=1024)).eval()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.3) if p.dim() > 1 else None
    return Model(net, tok)


def test_accuracies_are_those_of_a_plain_scorer(made: Cloze, model: Model, tmp_path: Path) -> None:
    write_cloze(made, tmp_path)
    right = {"nouns": 0, "names": 0, LAST_WORD: 0}
    for kind, items in (("nouns", made.nouns), ("names", made.names)):
        for item in items:
            before, after = " ".join([*item.context, item.question]).split(BLANK)
            pairs = [(before[:-1], f" {choice}{after}") for choice in item.choices]
            found = [s.logprob for s in score(model, pairs)]
            right[kind] += item.choices[found.index(max(found))] == item.answer
    passages = [(p.context, f" {p.target}") for p in made.last_words]
    words = score(model, passages, start="none")
    right[LAST_WORD] = sum(s.is_greedy for s in words)
    rows = {row.protocol: row for row in evaluate(model, ["cloze"], data=tmp_path).rows}
    for kind, n in right.items():
        row = rows[f"cloze/{kind}"]
        assert row.value == pytest.approx(100 * n / row.n) and row.malformed == row.cut == 0
    assert 0 < right["nouns"] < 40, "a case that tells"
    mean = sum(s.logprob for s in words) / len(words)
    assert rows["cloze/last-word-perplexity"].value == pytest.approx(
        torch.tensor(-mean).exp().item(), rel=1e-4
    )


def test_of_a_long_context_all_choices_are_given_the_same_part(made: Cloze, model: Model) -> None:
    net = GPT2(
        GPT2Config(n_layer=1, n_head=2, n_embd=32, vocab_size=model.tokenizer.n_vocab, n_ctx=64)
    ).eval()
    short, tok = Model(net, model.tokenizer), model.tokenizer
    task = OwnCloze()
    row = {"kind": "nouns", "context": list(made.nouns[0].context), "group": ""}
    row |= {"question": made.nouns[0].question, "answer": made.nouns[0].answer}
    (item,) = task.items([row | {"choices": list(made.nouns[0].choices)}])
    assert isinstance(item, Item)
    (request,) = item.requests
    assert isinstance(request, Choices)
    (asked,) = ask(short, task, [item])
    assert isinstance(asked, Asked) and asked.cut
    rests = [tok.encode(rest) for _, rest in request.pairs]
    past = tok.encode(request.pairs[0][0])[-(65 - max(map(len, rests))) :]
    expected = [s.logprob for s in score_ids(net, [past] * 10, rests)]
    (replies,) = asked.replies
    assert isinstance(replies, list)
    assert [s.logprob for s in replies] == pytest.approx(expected, abs=1e-4)


def test_rows_that_cannot_be_asked_are_named(tmp_path: Path) -> None:
    good = {
        "kind": "nouns",
        "context": ["A."],
        "question": "The XXXXX.",
        "answer": "a",
        "choices": ["a"],
        "group": "",
    }
    bad = [
        good | {"kind": "verbs"},
        good | {"question": "The."},
        good | {"answer": "b"},
        good | {"context": [1]},
    ]
    path = tmp_path / "cloze.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in [good, *bad, {"kind": "nouns"}]))
    rows = read(path)
    assert not isinstance(rows[0], Malformed) and all(isinstance(row, Malformed) for row in rows[1:])


def test_a_folder_with_somebodys_own_files_is_refused(tmp_path: Path) -> None:
    made = Cloze([], [], [])
    for name in ("names.txt", "novel.txt"):
        folder = tmp_path / name.removesuffix(".txt")
        folder.mkdir()
        (folder / name).write_text("my own")
        with pytest.raises(InputError, match=f"{name}, which is not ours"):
            write_cloze(made, folder)
        assert (folder / name).read_text() == "my own"
    assert write_cloze(made, tmp_path / "new") == [] and write_cloze(made, tmp_path / "new") == []


def test_guessing_tells_a_name_from_the_nouns_that_fill_the_ten() -> None:
    assert guess("Tom", ["Tom", "Ann", *(["a", "b", "c", "d", "e", "f", "g", "h"])]) == 0.5
    assert guess("a", ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]) == 0.1
