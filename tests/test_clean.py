"""The named rules: what each mends or refuses, by hand and on real pages, and that nothing happens in silence."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpt2
from gpt2.corpus.clean import OWN_TEXT, SITE, WEB, Cleaner, Dropped, mending, rules
from gpt2.corpus.clean.frames import LINES, SHARED, Frames, count_lines, write_shared, write_table
from gpt2.corpus.clean.mending import PERHAPS_MOJIBAKE, Mending, SharedLines
from gpt2.corpus.clean.quality import Reading
from gpt2.corpus.clean.rules import Judging
from gpt2.corpus.documents import Document
from gpt2.corpus.links import canonical

PROSE = (
    "It was in the spring of that year that the two of them had come down to the coast with all their things. "
    "The house stood by the water, and to reach it you had to be rowed over from the village. "
    "Nobody had lived there since the old captain died. "
    "They cleared the rooms, mended the roof and waited for the first of the summer guests to write. "
    "When no letter came, they began to think that the post had been lost somewhere along the road. "
    "So one of them walked to the town, a day and a half each way, only to find the office shut for the feast. "
    "He slept under a cart and was woken by rain. In the morning a boy brought him a parcel that had his name on it. "
    "Inside lay nine letters, and every one of them asked for the same week in August."
)  # fmt: skip


def reason(rule: Judging, text: str, url: str | None = None) -> str | None:
    return rule.refuse(Reading(text, url))


def test_prose_passes_all_rules_untouched() -> None:
    document = Document(PROSE, id="a", url="https://example.com/story", language="en")
    cleaner = Cleaner(WEB)
    assert cleaner.clean(document) == document
    assert not cleaner.taken


# Mending


def test_control_characters_are_taken_out_and_counted() -> None:
    assert mending.ControlCharacters().mend("a\0b\x1b[0mc\x7f\td\ne") == ("ab[0mc\td\ne", 3)
    assert mending.ControlCharacters().mend("one\r\ntwo\rthree\nfour") == ("one\ntwo\nthree\nfour", 0)


def test_addresses_in_memory_are_made_alike() -> None:
    text, n = mending.AddressesInMemory().mend("<function f at 0x7f3a5c0d1e20> and 0x10 at 0x7ffd")
    assert (text, n) == ("<function f at 0x...> and 0x10 at 0x...", 2)


def test_mojibake_is_put_right_line_by_line() -> None:
    text = "It donâ€™t matter.\nCaf\u00e9 — “quoted”, naïve façade.\nThe price was â‚¬5.\n日本語のテキスト"
    mended, n = mending.Mojibake().mend(text)
    assert (
        mended == "It don’t matter.\nCaf\u00e9 — “quoted”, naïve façade.\nThe price was €5.\n日本語のテキスト"
    )
    assert n == 2


@settings(max_examples=300, deadline=None, database=None)
@given(st.text(st.sampled_from("aZ .,5\u00a0ÂÃâ€™“”–œŒ£é×²³à·ØÙ√±‚ÄвЂГў°│\x80ðŸ˜€"), max_size=12))
def test_what_ftfy_calls_bad_is_looked_at(text: str) -> None:
    from ftfy.badness import is_bad

    if is_bad(text):
        assert PERHAPS_MOJIBAKE.search(text)


def test_notices_go_and_articles_about_them_stay() -> None:
    article = "The court said that its privacy policy " + "was not at all what users had been promised " * 5
    text = f"A story.\nWe use cookies to improve.\n\nPlease enable JavaScript!\n\n{article}\nThe end."
    mended, n = mending.Notices().mend(text)
    assert (mended, n) == (f"A story.\n\n{article}\nThe end.", 2)
    assert mending.Notices(phrases=("story",)).mend("A Story.\nMore.") == ("More.", 1)


def test_lines_with_endless_words_go() -> None:
    text = "A line.\n" + "QUJD" * 251 + "\n" + "word " * 300
    assert mending.LongWords().mend(text) == ("A line.\n" + ("word " * 300).strip(), 1)
    assert mending.LongWords(longest=2000).mend(text) == (text, 0)


def test_unended_lines_go_when_asked() -> None:
    text = "Heading here now\nA sentence ends.\nIt was cut short...\nOh no!\n“He said that it was.”"
    assert mending.UnendedLines().mend(text) == ("A sentence ends.\n“He said that it was.”", 3)


def pages(n: int, line: str, host: str = "a.org") -> list[Document]:
    return [
        Document(f"Page {i} speaks.\n  {line}\n{line}\nThe end of {i}.", group=str(i), url=f"https://{host}/{i}")
        for i in range(n)
    ]  # fmt: skip


@pytest.fixture
def frames_of(tmp_path: Path) -> Callable[[list[Document], SharedLines], Frames]:
    """The frames of documents in two shards."""

    def found(documents: list[Document], rule: SharedLines) -> Frames:
        for number in range(2):
            write_table(tmp_path / LINES.format(number), count_lines(documents[number::2], rule))
        write_shared(tmp_path, 2, rule)
        return Frames.read(tmp_path / SHARED, rule)

    return found


def test_lines_on_many_pages_of_a_host_are_its_frame(frames_of: Callable[..., Frames]) -> None:
    rule = SharedLines()
    many = pages(rule.pages + 1, "All rights are reserved here.")
    cleaner = Cleaner((rule,), frames_of(many, rule))
    found = cleaner.clean(many[3])
    assert isinstance(found, Document) and found.text == "Page 3 speaks.\nThe end of 3."
    assert cleaner.taken == {"shared-lines": 2}
    elsewhere = dataclasses.replace(many[3], url="https://b.org/3")
    assert cleaner.clean(elsewhere) == elsewhere
    assert not len(frames_of(many[1:], rule).lines)
    scattered = [
        d for i in range(4) for d in pages(rule.pages // 2, "All rights are reserved here.", f"{i}.org")
    ]
    assert not len(frames_of(scattered, rule).lines)


def test_short_lines_and_pieces_of_one_page_are_no_frame(frames_of: Callable[..., Frames]) -> None:
    assert not len(frames_of(pages(50, "See also:"), SharedLines()).lines)
    pieces = [Document("The same line in each piece.", group=f"page{i % 2}") for i in range(50)]
    assert not len(frames_of(pieces, SharedLines()).lines), "each page is whole in a shard"
    apart = [dataclasses.replace(piece, group="", id=str(i)) for i, piece in enumerate(pieces)]
    assert len(frames_of(apart, SharedLines()).lines) == 1


# Wikipedia


def test_wikipedia_and_its_copies_go_by_their_domains() -> None:
    rule = rules.Wikipedia()
    for url in (
        "https://en.wikipedia.org/wiki/A",
        "http://www.wikiwand.com/en/A",
        "http://wikipedia.org:80/",
        "http://en.wikipedia.org./wiki/A",
    ):
        assert reason(rule, "text", url)
    for url in (
        "https://example.org/wikipedia.org",
        "https://notwikipedia.org/",
        "https://en.wiktionary.org/",
        None,
    ):
        assert reason(rule, "text", url) is None
    assert (
        reason(rule, "text", "https://de.m.wikipedia.org/wiki/A")
        == "wikipedia.org shows Wikipedia's articles"
    )
    assert reason(rules.Wikipedia(more=("mirror.net",)), "text", "https://a.mirror.net/")
    assert (
        reason(rules.Wikipedia(spared=("simple.wikipedia.org",)), "", "https://simple.wikipedia.org/") is None
    )
    assert reason(rules.Wikipedia(spared=("simple.wikipedia.org",)), "", "https://en.wikipedia.org/")


def test_every_wikipedia_link_of_real_submissions_is_known(data: Path) -> None:
    dropped = Counter[str]()
    wiki = 0
    for path in sorted((data / "reddit" / "top").glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                url = canonical(row["url"]) or ""
                wiki += ".wikipedia.org/" in url
                if reason(rules.Wikipedia(), "", url):
                    dropped[Reading("", url).host] += 1
    assert sum(n for host, n in dropped.items() if host.endswith("wikipedia.org")) == wiki > 90
    assert set(dropped) >= {"en.wikipedia.org", "simple.wikipedia.org"}
    assert not {host for host in dropped if "leaks" in host or "wikia" in host or "how" in host}


# Length and language


def test_short_texts_are_counted_in_tokens_exactly() -> None:
    tokenizer = gpt2.Tokenizer.gpt2()
    words = PROSE.split()
    for n in range(60, 140, 3):
        text = " ".join(words[:n])
        tokens = len(tokenizer.encode(text))
        assert (reason(rules.Tokens(), text) is None) == (tokens >= 128)
    assert reason(rules.Tokens(), "Three words here.") == "4 tokens, fewer than 128"


@settings(max_examples=100, deadline=None, database=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_there_is_a_token_or_more_for_every_word(text: str) -> None:
    assert len(gpt2.Tokenizer.gpt2().encode(text)) >= len(text.split())


def test_words_and_letters_are_counted() -> None:
    assert reason(rules.Words(), "word " * 50) is None
    assert reason(rules.Words(), "word " * 49) == "49 words, fewer than 50"
    assert reason(rules.Words(most=60), "word " * 61) == "61 words, more than 60"
    assert reason(rules.Letters(), "0x1f 1234 {}[]; " * 40) == "31% letters"
    assert reason(rules.Letters(), "слово " * 30) is None


def test_other_languages_are_refused_by_name() -> None:
    french = (
        "Il était une fois une petite fille qui vivait dans la forêt avec sa mère et ses deux frères. " * 5
    )
    assert reason(rules.Language(), french) == "language fr"
    assert reason(rules.Language(accepted=("fr",)), french) is None
    assert reason(rules.Language(), PROSE) is None
    assert reason(rules.Language(), "12345 67890 !!! ###") == "language unknown"
    assert reason(rules.Language(confidence=2.0), PROSE).startswith("en with confidence 0.")  # type: ignore[union-attr]


def test_real_prose_is_told_from_real_french(data: Path) -> None:
    rule = rules.Language()
    for path in sorted((data / "prose" / "french").glob("*.txt")):
        text = path.read_text("utf-8")
        assert all(reason(rule, text[i : i + 3000]) == "language fr" for i in range(3000, 60_000, 3000)), path
    for path in sorted((data / "prose" / "state_union").glob("*.txt")):
        assert reason(rule, path.read_text("utf-8")) is None, path


# Gopher and C4


def test_quality_rules_refuse_what_they_are_for() -> None:
    assert reason(rules.WordLength(), "a b c d e") == "1.00 characters a word"
    assert reason(rules.WordLength(), "extraordinarily circumstantial") == "14.50 characters a word"
    assert reason(rules.WordLength(), "abc abc") is None
    assert reason(rules.Symbols(), "# a # b") == "0.50 symbols a word"
    assert reason(rules.Symbols(), "and so... on it went… " * 9) == "0.40 symbols a word"
    assert reason(rules.Symbols(), "#" + " a" * 9) is None
    assert reason(rules.Bullets(), "- a\n\n  • b\n* c") == "100% of the lines are bullets"
    assert reason(rules.Bullets(), "- a\n" * 9 + "b") is None
    assert reason(rules.Ellipses(), "a...\nb…\nc\nd\ne\nf") == "33% of the lines end with an ellipsis"
    assert reason(rules.Ellipses(), "a...\nb\nc\nd") is None
    assert reason(rules.AlphabeticWords(), "12 a1 -- 4") == "25% of the words have a letter"
    assert reason(rules.AlphabeticWords(), "a b c d 5") is None
    assert reason(rules.StopWords(), "The cat, and with, sat") == "1 of 8 stop words"
    assert reason(rules.StopWords(), "the cat and I") is None


def test_repetition_rules_refuse_what_they_are_for() -> None:
    lines = "one line\nother\none line\none line"
    assert reason(rules.RepeatedLines(), lines) == "50% of the lines are repeated"
    assert (
        reason(rules.RepeatedLines(lines=0.6, characters=0.4), lines)
        == "50% of the text is in repeated lines"
    )
    assert reason(rules.RepeatedLines(lines=0.5, characters=0.6), lines) is None
    paragraphs = lines.replace("\n", "\n\n")
    assert reason(rules.RepeatedParagraphs(), paragraphs) == "50% of the paragraphs are repeated"
    assert reason(rules.RepeatedParagraphs(), lines) is None
    assert (
        reason(rules.TopNgrams(), "buy now " * 5 + "or never ever again") == "59% of the text is one 2-gram"
    )
    assert reason(rules.TopNgrams(two=0.9), "buy now it " * 9).endswith("one 3-gram")  # type: ignore[union-attr]
    phrase = "this very phrase comes back again"
    said = f"{phrase} and then {phrase} as I said"
    assert reason(rules.RepeatedNgrams(), said) == "27% of the text is in repeated 5-grams"
    assert reason(rules.RepeatedNgrams(five=1.0), said) == "33% of the text is in repeated 6-grams"
    assert reason(rules.RepeatedNgrams(five=1.0, six=1.0), said) is None


def test_page_rules_refuse_what_they_are_for() -> None:
    assert reason(rules.LoremIpsum(), "Lorem Ipsum dolor") == "lorem ipsum"
    assert reason(rules.CurlyBrackets(), "int main() {") == "a curly bracket"
    assert reason(rules.CurlyBrackets(), "(none)") is None
    assert (
        reason(rules.Sentences(), "One is here. Two is there! Three?\nFour it is")
        == "4 sentences, fewer than 5"
    )
    assert (
        reason(rules.Sentences(), "One is here. Two is there! Three?\nFour it is\nToo short\nFive at last")
        is None
    )


# All together


def real_pages(data: Path) -> list[Document]:
    """The pages of the labelled set, with the text that the fast extractor finds."""
    truth = json.loads((data / "html_extraction" / "ground-truth.json").read_text())
    found = []
    for path in sorted((data / "html_extraction" / "html").glob("*.html.gz")):
        name = path.name.removesuffix(".html.gz")
        page = gpt2.extract(gzip.decompress(path.read_bytes()), truth[name].get("url"), "fast")
        if page:
            found.append(dataclasses.replace(page, id=name, group=name))
    return found


def test_real_pages_mostly_stay_and_cleaning_again_changes_nothing(data: Path) -> None:
    documents = real_pages(data)
    found = [Cleaner(WEB).clean(document) for document in documents]
    kept = [document for document in found if isinstance(document, Document)]
    assert len(documents) == 121 and 80 <= len(kept) < 121
    assert [Cleaner(WEB).clean(document) for document in kept] == kept
    cleaner = Cleaner(WEB)
    order = random.Random(0).sample(range(len(documents)), len(documents))
    again = {i: cleaner.clean(documents[i]) for i in order}
    assert [again[i] for i in range(len(documents))] == found


@settings(max_examples=200, deadline=None, database=None)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(PROSE.split(". "))),
    st.sampled_from(["\n", "\r\n", "\n\n", "\0", " "]),
)  # fmt: skip
def test_cleaning_twice_is_cleaning_once(pieces: list[str], between: str) -> None:
    text = between.join(pieces)
    for chosen in (WEB, SITE, OWN_TEXT, (mending.UnendedLines(), mending.Notices(), *OWN_TEXT)):
        cleaner = Cleaner(chosen)
        once = cleaner.clean(Document(text, url="https://a.org/b"))
        changed = dict(cleaner.taken)
        if isinstance(once, Document):
            assert cleaner.clean(once) == once and dict(cleaner.taken) == changed
            assert changed or once.text == text.replace("\r\n", "\n").replace("\r", "\n")
        else:
            assert isinstance(once, Dropped) and once.reason


def test_a_users_own_text_is_never_dropped_unless_empty() -> None:
    for text in ("a", "{}", "#" * 50, "Ein kurzer Satz."):
        assert isinstance(Cleaner(OWN_TEXT).clean(Document(text)), Document)
    assert Cleaner(OWN_TEXT).clean(Document(" \n\x00")) == Dropped("empty", "nothing but white space")
    assert not [rule for rule in OWN_TEXT if not isinstance(rule, Mending)]


def test_the_embedded_site_keeps_its_few_rules() -> None:
    words = "word " * 30
    assert isinstance(Cleaner(SITE).clean(Document(words)), Document)
    assert Cleaner(SITE).clean(Document("word " * 29)) == Dropped("words", "29 words, fewer than 30")
    assert Cleaner(SITE).clean(Document("0x1f 1234 {}[]; " * 40)) == Dropped("letters", "31% letters")


@pytest.mark.parametrize("rule", [*WEB, *SITE], ids=lambda rule: rule.name)
def test_rules_have_names_sources_and_sound_settings(rule: rules.Rule) -> None:
    assert rule.name == rule.name.lower() and rule.__doc__
    assert isinstance(rule, Judging | Mending | SharedLines)
