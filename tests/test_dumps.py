"""Dumps of submissions: packed in any way, of any age, damaged, hostile."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.corpus.links import dumps
from gpt2.corpus.links.dumps import Reading, Row, submissions
from gpt2.errors import FormatError, InputError


def zst(data: bytes, window: int = 31) -> bytes:
    """As Pushshift packs: a stream (so that its length is not told) with a window of 2 GB."""
    settings = zstandard.ZstdCompressionParameters.from_level(3, window_log=window, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    return packer.compress(data) + packer.flush()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "zst": zst,
    "xz": lambda data: lzma.compress(data, preset=1),
    "bz2": lambda data: bz2.compress(data, 1),
    "gz": gzip.compress,
    "plain": lambda data: data,
}


def read(path: Path) -> tuple[list[Row], Reading]:
    reading = Reading(path, faults=[])
    return [row for rows in submissions(reading) for row in rows], reading


def facts(rows: list[Row]) -> list[tuple[str, int | None, str | None, str | None, bool, bool]]:
    return [(r.address, r.vote_count, r.date, r.community, r.is_text, r.is_adult) for r in rows]


@pytest.fixture(scope="module")
def months(data: Path) -> bytes:
    """Two real months, unpacked."""
    return b"".join(lzma.decompress(path.read_bytes()) for path in sorted((data / "reddit").glob("RS_*.xz")))


# Packed in any way


@pytest.mark.parametrize("name", PACKED)
def test_real_rows_are_the_same_however_they_are_packed(name: str, months: bytes, tmp_path: Path) -> None:
    path = tmp_path / "without an ending"
    path.write_bytes(PACKED[name](months))
    rows, reading = read(path)
    assert (reading.faults, reading.bad_lines, reading.position) == ([], 0, path.stat().st_size)
    wanted = [json.loads(line) for line in months.splitlines()]
    assert [(r.url, r.score, r.created_utc, r.subreddit, r.is_self) for r in rows] == [
        (w["url"], w["score"], w["created_utc"], w["subreddit"], w["is_self"]) for w in wanted
    ]


def test_the_window_is_two_gigabytes(months: bytes) -> None:
    assert zstandard.get_frame_parameters(zst(months)).window_size == 1 << 31
    with pytest.raises(zstandard.ZstdError, match="too much memory"):
        zstandard.ZstdDecompressor().stream_reader(io.BytesIO(zst(months))).read()


@pytest.mark.parametrize("name", ["zst", "xz", "bz2", "gz"])
def test_frames_behind_one_another_are_one_file(name: str, tmp_path: Path) -> None:
    lines = [b'{"url":"http://a.org/%d"}\n' % n for n in range(3000)]
    skipped = b"\x5a\x2a\x4d\x18\x05\0\0\0notes" if name == "zst" else b""
    path = tmp_path / "a"
    pack = partial(zst, window=20) if name == "zst" else PACKED[name]
    frames = [pack(b"".join(lines[n : n + 100])) for n in range(0, 3000, 100)]
    path.write_bytes(skipped + b"".join(frames))
    rows, reading = read(path)
    assert [row.url for row in rows] == [f"http://a.org/{n}" for n in range(3000)]
    assert reading.faults == []


@pytest.mark.parametrize("chunk", [1, 100, 1 << 20])
@pytest.mark.parametrize("piece", [1, 7, 1 << 14])
def test_lines_are_whole_wherever_pieces_end(
    piece: int, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dumps, "PIECE", piece)
    monkeypatch.setattr(dumps, "CHUNK", chunk)
    path = tmp_path / "a"
    path.write_text("\n".join(json.dumps({"url": f"http://a.org/{'x' * n}"}) for n in range(60)))
    assert [len(row.url) for row in read(path)[0]] == [13 + n for n in range(60)]


# Damaged


@pytest.mark.parametrize("name", ["zst", "xz", "bz2", "gz"])
def test_of_a_file_cut_short_the_good_is_used_and_the_fault_named(
    name: str, months: bytes, tmp_path: Path
) -> None:
    whole = PACKED[name](months)
    path = tmp_path / "RS.part"
    for share in (0.9, 0.999):
        path.write_bytes(whole[: int(len(whole) * share)])
        rows, reading = read(path)
        good = facts([dumps.msgspec.json.decode(line, type=Row) for line in months.splitlines()])
        assert 0 < len(rows) < len(good) and facts(rows) == good[: len(rows)]
        assert [fault.partition(":")[0] for fault in reading.faults or []] == [f"{path} is cut short"]
        assert reading.bad_lines <= 1, "the line that was cut"
        with pytest.raises(FormatError, match=r"RS\.part is cut short: what it is packed in has no end"):
            list(submissions(Reading(path)))


@pytest.mark.parametrize("name", ["zst", "xz", "bz2", "gz"])
def test_of_a_damaged_file_what_came_before_is_used(name: str, tmp_path: Path) -> None:
    import random

    numbers = random.Random(1)
    lines = b"".join(
        b'{"url":"http://a.org/%x","score":%d}\n' % (numbers.getrandbits(80), n) for n in range(20_000)
    )
    whole = bytearray(PACKED[name](lines))
    whole[len(whole) * 2 // 3] ^= 0xFF
    path = tmp_path / "a"
    path.write_bytes(whole)
    rows, reading = read(path)
    good = 0 if name == "xz" else 10_000  # xz may check a whole block before it gives any of it
    assert [row.score for row in rows[:good]] == list(range(good))
    if name == "zst" and len(rows) == 20_000:
        return  # without a checksum, another letter in one row is not seen
    assert len(rows) < 20_000
    assert len(reading.faults or []) == 1 and "is damaged after byte" in (reading.faults or [])[0]
    with pytest.raises(FormatError, match=r"is damaged after byte|is not JSON"):
        list(submissions(Reading(path)))


def test_a_file_that_ends_in_the_head_of_its_packing_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for head in (
        zst(b"{}")[:4],
        gzip.compress(b"{}")[:3],
        lzma.compress(b"{}")[:6],
        bz2.compress(b"{}")[:10],
    ):
        path.write_bytes(head)
        rows, reading = read(path)
        assert rows == [] and "is cut short" in (reading.faults or [""])[0]


def test_bad_lines_are_counted_and_passed_over(tmp_path: Path) -> None:
    bad = [
        *[
            b"{",
            b'{"url": "http://a.org/',
            b"nonsense",
            b"\xff\xfe",
            b'{"url": "http://\xff.org"}',
            b'{"a":1}{"a":2}',
        ],
        *[b"[1, 2]", b'"http://a.org"', b"1", b"null", b"[" * 100_000, b'{"score":' + b"1" * 5000 + b"}"],
    ]
    good = b'{"url": "http://a.org/%d", "score": %d}'
    lines = [part for n, line in enumerate(bad) for part in (good % (n, n), line)]
    path = tmp_path / "a"
    path.write_bytes(b"\n\n".join(lines) + b"\r\n \t\n")
    rows, reading = read(path)
    assert [row.score for row in rows] == list(range(len(bad)))
    assert (reading.bad_lines, reading.faults) == (len(bad), [])
    path.write_bytes(good % (1, 1) + b"\n\n{\n")
    with pytest.raises(FormatError, match=r"line 3 of .* is not JSON"):
        list(submissions(Reading(path)))


def test_lines_that_only_pythons_reader_takes_are_no_bad_lines(tmp_path: Path) -> None:
    path = tmp_path / "a"
    lines = [
        '{"url":"http://a.org","score":NaN}',
        '{"url":"http://b.org","score":1e999}',
        '{"url":"\\ud800"}',
    ]
    path.write_text("\n".join(["\ufeff" + lines[0], *lines[1:]]))
    rows, reading = read(path)
    assert [row.vote_count for row in rows] == [0, 0, None] and reading.bad_lines == 0


def test_a_line_without_end_is_passed_over_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dumps, "CHUNK", 1 << 16)
    monkeypatch.setattr(dumps, "LONGEST_LINE", 1 << 20)
    path = tmp_path / "bomb.zst"
    endless = b'{"selftext": "' + b"a" * (64 << 20) + b'"}\n'
    path.write_bytes(zst(b'{"score": 1}\n' + endless + b'{"score": 2}\n' + endless[:-1], window=20))
    tracemalloc.start()
    rows, reading = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [row.score for row in rows] == [1, 2] and reading.bad_lines == 2
    assert peak < 160 << 20  # a bomb of zstd gives all of a piece at once
    with pytest.raises(FormatError, match="is longer than 1,048,576 bytes"):
        list(submissions(Reading(path)))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match="there is no file"):
            read(path)


# Fields, old and new


@pytest.mark.parametrize(
    ("row", "address"),
    [
        ({"url": "http://a.org/"}, "http://a.org/"),
        ({"url": "/r/pics/comments/1/", "url_overridden_by_dest": "http://a.org/"}, "http://a.org/"),
        ({"url": "http://a.org/", "url_overridden_by_dest": None}, "http://a.org/"),
        ({"url": "http://a.org/", "url_overridden_by_dest": ""}, "http://a.org/"),
        ({"url": "http://a.org/?a=1&amp;b=2&amp;c=&lt;3&gt;"}, "http://a.org/?a=1&b=2&c=<3>"),
        ({"url": "http://a.org/?a=1&b=2&amp;c=3"}, "http://a.org/?a=1&b=2&amp;c=3"),
        ({"url": "http://a.org/?a=&amp;amp;"}, "http://a.org/?a=&amp;"),
        *[({"url": url}, "") for url in (None, 7, ["http://a.org"], {}, True, "http://a.org/\ufffd")],
        ({}, ""),
    ],
)
def test_the_address_is_found_in_old_and_new_dumps(row: dict[str, Any], address: str) -> None:
    assert Row(**row).address == address


@pytest.mark.parametrize(
    ("row", "votes"),
    [
        *[
            ({"score": score}, votes)
            for score, votes in [(3, 3), (-5, -5), ("4", 4), (" 5 ", 5), (2.9, 2), ("x", 0)]
        ],
        *[({"score": score}, 0) for score in ([], {}, True, 10**300, "nan", "-inf", 1e300)],
        ({}, None),
        *[({"score": blank}, None) for blank in (None, "", "  ")],
        *[({"score": blank, "subreddit": "pics"}, 0) for blank in (None, "", "  ")],
        ({"votes": None, "subreddit": "", "is_self": ""}, None),
        ({"votes": 1, "score": 9}, 1),
        ({"votes": None, "score": 9}, 9),
        ({"subreddit": "pics"}, 0),
        ({"is_self": False}, 0),
        ({"is_self": False, "score": 7}, 7),
    ],
)
def test_votes_are_what_they_were_written_as(row: dict[str, Any], votes: int | None) -> None:
    assert Row(**row).vote_count == votes


@pytest.mark.parametrize(
    ("row", "day"),
    [
        ({"created_utc": 1119552233}, "2005-06-23"),
        ({"created_utc": "1119552233"}, "2005-06-23"),
        ({"created_utc": 1119552233.9}, "2005-06-23"),
        ({"created_utc": "1119552233.0"}, "2005-06-23"),
        ({"created_utc": "2013-02-07T03:14:00Z"}, "2013-02-07"),
        *[
            ({"created_utc": value}, None)
            for value in (None, "", "x", 0, -1, 1e12, 10**300, [], True, "2013-02-30")
        ],
        ({}, None),
    ],
)
def test_days_are_in_utc(row: dict[str, Any], day: str | None) -> None:
    assert Row(**row).date == day


def test_the_subreddit_is_in_lower_case() -> None:
    assert Row(subreddit="Pics").community == "pics"
    assert [Row(subreddit=value).community for value in (None, "", 7, ["a"])] == [None] * 4


def test_marks_are_true_in_every_spelling() -> None:
    for value in (True, 1, "True", "true", "1", " TRUE "):
        assert Row(is_self=value).is_text and Row(over_18=value).is_adult
    for value in (False, 0, None, "", "False", "0", [], {}, "no", 2):
        assert not Row(is_self=value).is_text and not Row(over_18=value).is_adult


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=100, deadline=None, database=None)
@given(st.lists(st.dictionaries(st.sampled_from([*Row.__struct_fields__, "title"]), VALUES), max_size=5))
def test_no_value_of_a_field_is_fatal(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    found, reading = read(path)
    assert len(found) == len(rows) and reading.bad_lines == 0
    for address, votes, day, name, *_ in facts(found):
        assert isinstance(address, str) and (votes is None or abs(votes) < 10**15)
        assert day is None or len(day) == 10
        assert name is None or name
