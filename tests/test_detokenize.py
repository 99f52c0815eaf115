"""De-tokenisers: every line comes back, and what comes out is running text."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpt2
from gpt2.errors import ConfigError
from gpt2.evaluation.detokenize import (
    CBT,
    DETOKENIZERS,
    ESCAPE,
    LAMBADA,
    LM1B,
    PTB,
    WIKITEXT,
    detokenizer,
    escaped,
)
from gpt2.evaluation.lossy import lossy

WIKIPEDIA = [f"wikitext2/wiki.{split}.{copy}" for split in ("test", "valid") for copy in ("raw", "tokens")]
FILES = [
    *(("wikitext", name) for name in WIKIPEDIA),
    ("ptb", "ptb/ptb.test.txt"),
    ("ptb", "ptb/ptb.valid.txt"),
    *(("cbt", f"cbt/cbtest_{kind}_{part}.head.txt") for kind in ("CN", "NE") for part in ("train",)),
    *(("cbt", f"cbt/cbtest_{kind}_valid_2000ex.head.txt") for kind in ("CN", "NE")),
    *(("cbt", f"cbt/cbtest_{kind}_test_2500ex.head.txt") for kind in ("CN", "NE")),
    ("lambada", "lambada/lambada_test_plain_text.txt"),
    ("lm1b", "one_billion_words/test_sentences.txt"),
    ("lm1b", "one_billion_words/news.en.heldout-00016-of-00050.head"),
    ("lm1b", "one_billion_words/news.en.heldout-00017-of-00050.head"),
]
MOST_ESCAPED = {"wikitext": 0.002, "ptb": 0.0, "cbt": 0.05, "lambada": 0.006, "lm1b": 0.0}
"""Share of lines that may need an escape."""


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


@pytest.mark.parametrize(("name", "file"), FILES, ids=lambda x: x.split("/")[-1])
def test_every_line_comes_back(data: Path, name: str, file: str) -> None:
    lines = lines_of(data / file)
    texts = [DETOKENIZERS[name].detokenize(line) for line in lines]
    back = [DETOKENIZERS[name].retokenize(text) for text in texts]
    assert [(a, b) for a, b in zip(lines, back, strict=True) if a != b] == []
    marked = escaped(texts)
    print(f"{file}: {len(marked)} of {len(lines)} lines with an escape")
    for text in marked:
        print(" ".join(piece.replace(ESCAPE, "␟") for piece in text.split(" ") if ESCAPE in piece))
    assert len(marked) <= MOST_ESCAPED[name] * len(lines)


def test_every_sentence_of_the_converted_book_test_comes_back(data: Path) -> None:
    found = json.loads((data / "cbt/cbt_snippet.jtr.json").read_text(encoding="utf-8"))
    sentences = [s["text"] for instance in found["instances"] for s in instance["support"]]
    sentences += [q["question"] for instance in found["instances"] for q in instance["questions"]]
    assert len(sentences) == 42
    texts = [CBT.detokenize(sentence) for sentence in sentences]
    assert [CBT.retokenize(text) for text in texts] == sentences
    assert escaped(texts) == []


@pytest.mark.parametrize("file", WIKIPEDIA)
def test_wikitext_becomes_running_text(data: Path, file: str) -> None:
    lines = lines_of(data / file)
    before, after = "\n".join(lines), "\n".join(map(WIKITEXT.detokenize, lines))
    for gap in [" ,", " .", " @-@", " @,@", " @.@", " 's", " 't", " 're", " 've", " 'll", " 'm", " 'd"]:
        pattern = re.compile(re.escape(gap) + r"(?=\s|$)")
        there, left = (len(pattern.findall(text)) for text in (before, after))
        assert there > 0
        assert left <= 0.01 * there, gap


@pytest.mark.parametrize("file", ["ptb/ptb.test.txt", "lambada/lambada_test_plain_text.txt"])
def test_contractions_close(data: Path, file: str) -> None:
    name = file.split("/")[0]
    lines = lines_of(data / file)
    before, after = "\n".join(lines), "\n".join(map(DETOKENIZERS[name].detokenize, lines))
    for gap in [" n't", " 's", " 're", " 've", " 'll", " 'm", " 'd", " ,", " ."]:
        pattern = re.compile(re.escape(gap) + r"(?=\s|$)")
        there, left = (len(pattern.findall(text)) for text in (before, after))
        assert left <= 0.01 * there, gap


def test_wikitext_takes_no_more_tokens_than_the_usual_rules(data: Path) -> None:
    tok = gpt2.Tokenizer.gpt2()
    for file in WIKIPEDIA[:2]:
        lines = lines_of(data / file)
        ours = tok.encode("\n".join(map(WIKITEXT.detokenize, lines)) + "\n")
        theirs = tok.encode(lossy("wikitext", "\n".join(lines) + "\n"))
        assert len(ours) <= 1.01 * len(theirs)


@pytest.mark.parametrize(
    ("name", "line", "text"),
    [
        ("wikitext", " = = Early life = = ", "== Early life =="),
        ("wikitext", " ", ""),
        ("wikitext", " It 's a two @-@ part , 1 @,@ 000 @.@ 5 km . ", "It's a two-part, 1,000.5 km."),
        (
            "wikitext",
            ' He said : " The players \' hats ( all 7 – 2 of them ) cost $ 5 at 10 : 30 . " ',
            'He said: "The players\' hats (all 7–2 of them) cost $5 at 10:30."',
        ),
        ("wikitext", " <unk> 's <unk> @-@ based No. 5 , Mr. A. B. ", "<unk>'s <unk>-based No. 5, Mr. A. B."),
        ("lm1b", "They didn 't pay $ 7.3bn ( £ 4bn ) , he said .", "They didn't pay $7.3bn (£4bn), he said."),
        ("ptb", " the company 's $ N loss was n't news\\/talk ", "the company's $N loss wasn't news/talk"),
        ("cbt", "`` Ca n't we ? '' asked Mr. Fox -LRB- again -RRB- .", '"Can\'t we?" asked Mr. Fox (again).'),
        ("lambada", "`` i 'm gon na go ... '' she said", '"i\'m gonna go..." she said'),
        ("lambada", "the others ' house , -lrb- yes -rrb- !", "the others' house, (yes)!"),
    ],
)
def test_examples(name: str, line: str, text: str) -> None:
    assert detokenizer(name).detokenize(line) == text
    assert detokenizer(name).retokenize(text) == line


def test_where_rules_clash_a_gap_stays_or_an_escape_is_set() -> None:
    assert LM1B.detokenize("He works for Acme Co .") == "He works for Acme Co."
    assert LM1B.detokenize("I saw the Dr .") == "I saw the Dr ."  # Dr. would come back as one token
    assert LM1B.detokenize("the end.") == f"the {ESCAPE}end."  # end. would come back as two
    assert LM1B.retokenize(f"the {ESCAPE}end.") == "the end."
    assert PTB.detokenize("no space at the ends") == f"{ESCAPE * 2}no space at the ends"


SIGNS = """\'"`.,:;-()[]{}<>@=$#%&/\\*’“”–—°…_½ \t\r\u00a0\u2028"""
TOKENS = "'' `` ... -- n't 's @-@ @,@ @.@ <unk> -LRB- -rrb- Mr. U.S. No. N 1,000.5 can not gon na é"
ODD = st.sampled_from([*SIGNS, ESCAPE, *TOKENS.split(" ")])
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=4)
LINES = st.one_of(
    st.lists(st.one_of(ODD, WORDS, st.just(" ")), max_size=16).map("".join),
    st.lists(st.one_of(ODD, WORDS), max_size=16).map(lambda tokens: f" {' '.join(tokens)} "),
)


@pytest.mark.parametrize("name", DETOKENIZERS)
@settings(max_examples=400, deadline=None)
@given(line=LINES)
def test_any_line_comes_back(name: str, line: str) -> None:
    text = DETOKENIZERS[name].detokenize(line)
    assert DETOKENIZERS[name].retokenize(text) == line
    assert "\n" not in text


def harness_rules() -> ModuleType:
    """The file of lm-evaluation-harness that has the usual rules."""
    import lm_eval

    path = Path(str(lm_eval.__file__)).parent / "tasks" / "wikitext" / "preprocess_wikitext.py"
    spec = importlib.util.spec_from_file_location("preprocess_wikitext", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_lossy_rules_are_those_of_lm_evaluation_harness(data: Path) -> None:
    theirs = harness_rules().wikitext_detokenizer
    for file in WIKIPEDIA:
        page = (data / file).read_text(encoding="utf-8")
        assert lossy("wikitext", page) == theirs({"page": page})


@settings(max_examples=200, deadline=None)
@given(line=LINES)
def test_the_lossy_rules_agree_on_any_line(line: str) -> None:
    assert lossy("wikitext", line) == harness_rules().wikitext_detokenizer({"page": line})


def test_the_other_lossy_rules() -> None:
    assert lossy("ptb", " the <unk> 's $ N N loss was n't a\\/b \n ") == " the ?'s $1 1 loss wasn't a/b\n"
    assert lossy("lm1b", 'He said " No ( 5 ) , I won \'t " today .') == 'He said "No (5), I won\'t" today.'


def test_unknown_names_are_answered() -> None:
    with pytest.raises(ConfigError, match="did you mean 'wikitext'"):
        detokenizer("wikitxt")
    with pytest.raises(ConfigError, match="there are wikitext, ptb, lm1b"):
        lossy("cbt", "")


def test_a_style_of_its_own_for_each_data_set() -> None:
    assert CBT.retokenize("(so)") == "-LRB- so -RRB-"
    assert LAMBADA.retokenize("(so)") == "-lrb- so -rrb-"
    assert PTB.retokenize("inc. didn't") == " inc. did n't "
