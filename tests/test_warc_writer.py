"""WARC files of ours: as the standard has them, read by other tools, whole by themselves, taken up where they end."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from fastwarc.warc import ArchiveIterator as FastIterator
from fastwarc.warc import WarcRecordType
from hypothesis import given, settings
from hypothesis import strategies as st
from warc_checker import check_warc
from warcio.archiveiterator import ArchiveIterator

from gpt2.corpus.fetch.pages import Page, read_pages
from gpt2.corpus.fetch.warc import warc_files
from gpt2.corpus.fetch.warc_writer import Kept, Response, WarcWriter

HTML = (("Content-Type", "text/html; charset=utf-8"), ("Content-Encoding", "gzip"), ("Content-Length", "7"))


def write(folder: Path, *responses: Response, longest: int = 10**9, at: Kept | None = None) -> list[Kept]:
    """Write responses to WARC files; where each was put."""
    folder.mkdir(exist_ok=True)
    writer = WarcWriter(folder, longest, at, "Tester/1.0")
    kept = [writer.write(response) for response in responses]
    writer.close()
    return kept


def page(number: int, body: str = "", **given: object) -> Response:
    """A response."""
    text = (body or f"<p>Page {number}.</p>").encode()
    return Response(f"http://example.org/{number}", text, headers=HTML, ip="192.0.2.7", **given)  # type: ignore[arg-type]


def read(folder: Path) -> list[Page]:
    """All pages of a folder."""
    return [found for path in warc_files(folder) for found in read_pages(path)]


def test_files_are_as_the_standard_has_them_and_other_tools_read_them(tmp_path: Path) -> None:
    asking = (("User-Agent", "Tester/1.0"), ("Accept", "*/*"))
    same = [page(i, "<p>The same.</p>") for i in (3, 4)]
    write(tmp_path, page(1), page(2, request=asking), *same, page(5, asked="http://example.org/old"))
    [path] = warc_files(tmp_path)
    assert check_warc(path) == {"warcinfo": 1, "response": 4, "revisit": 1, "request": 1}
    warcio = [str(Path(sys.executable).with_name("warcio")), "check", "-v", str(path)]
    done = subprocess.run(warcio, capture_output=True, text=True)
    assert done.returncode == 0 and "digest pass" in done.stdout, done.stdout
    with path.open("rb") as stream:
        kinds = [record.rec_type for record in ArchiveIterator(stream, check_digests="raise")]
    assert kinds == ["warcinfo", "response", "response", "request", "response", "revisit", "response"]
    records = FastIterator(str(path), record_types=WarcRecordType.response, verify_digests=True)
    bodies = [record.reader.read() for record in records]
    assert bodies == [b"<p>Page 1.</p>", b"<p>Page 2.</p>", b"<p>The same.</p>", b"<p>Page 5.</p>"]
    found = read(tmp_path)
    assert [p.url[19:] for p in found] == ["1", "2", "3", "4", "old"]
    assert found[-1].final == "http://example.org/5"
    assert all(p.refusal is None and p.body and p.when for p in found)


def test_the_checker_sees_what_is_wrong(tmp_path: Path) -> None:
    write(tmp_path, page(1), page(2, "<p>Page 1.</p>"))
    [path] = warc_files(tmp_path)
    ends, whole = [0], path.read_bytes()
    with path.open("rb") as stream:
        iterator = ArchiveIterator(stream)
        for _ in iterator:
            iterator.read_to_end()
            ends.append(ends[-1] + iterator.get_record_length())
    records = [gzip.decompress(whole[begin:end]) for begin, end in pairwise(ends)]
    for old, new in [
        (b"WARC/1.1", b"WARC/1.0"),
        (b"<p>Page 1.</p>", b"<p>Page 7.</p>"),
        (b"urn:uuid:", b"urn:nope:"),
        (b"identical-payload-digest", b"server-not-modified"),
        (b"X-Crawl-Content-Encoding", b"Content-Encoding"),
        (
            b"WARC-Refers-To-Target-URI: http://example.org/1",
            b"WARC-Refers-To-Target-URI: http://example.org/9",
        ),
        (b"192.0.2.7", b"192.0.2.777"),
        (b"\r\n\r\n", b"\r\n"),
        (b"Z\r\n", b"\r\n"),
    ]:
        assert any(old in record for record in records)
        broken = tmp_path / "broken" / path.name
        broken.parent.mkdir(exist_ok=True)
        broken.write_bytes(b"".join(gzip.compress(record.replace(old, new, 1)) for record in records))
        with pytest.raises(AssertionError):
            check_warc(broken)


def test_a_new_file_is_begun_at_the_size_given_and_each_is_whole_by_itself(tmp_path: Path) -> None:
    noise = [f"<p>{i} {random.Random(i).randbytes(3_000).hex()}</p>" for i in range(12)]
    kept = write(tmp_path, *(page(i, noise[i % 6]) for i in range(12)), longest=9_000)
    files = warc_files(tmp_path)
    assert [path.name for path in files] == [f"pages-{i:05d}.warc.gz" for i in range(len(files))]
    assert len(files) > 2 and [k.file for k in kept] == sorted(k.file for k in kept)
    for path in files:
        check_warc(path)  # which refuses a revisit of what another file has
    assert [p.body.decode() for p in read(tmp_path)] == [noise[i % 6] for i in range(12)]


def test_writing_goes_on_after_the_record_that_is_named(tmp_path: Path) -> None:
    kept = write(tmp_path, *(page(i) for i in range(6)), longest=1_500)
    assert kept[1].file < kept[-1].file
    write(tmp_path, page(10), at=kept[1], longest=10**9)
    assert [p.url[19:] for p in read(tmp_path)] == ["0", "1", "10"]
    for path in warc_files(tmp_path):
        check_warc(path)


HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["Content-Type", "X-Odd", "Content-Length", "Transfer-Encoding", "ETag"]),
        st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=20).map(
            str.strip
        ),
    ),
    max_size=4,
)


@settings(max_examples=40, deadline=None, database=None)
@given(
    bodies=st.lists(st.binary(max_size=200), min_size=1, max_size=5),
    status=st.integers(200, 599),
    headers=HEADERS,
    reason=st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    bodies: list[bytes],
    status: int,
    headers: list[tuple[str, str]],
    reason: str,
) -> None:
    folder = tmp_path_factory.getbasetemp() / "written"
    responses = [
        Response(f"http://a.org/{i}", body, status, reason, tuple(headers)) for i, body in enumerate(bodies)
    ]
    kept = write(folder, *responses)
    [path] = warc_files(folder)
    assert path.stat().st_size == kept[-1].end
    assert [(p.url, p.body, p.status) for p in read(folder)] == [(r.url, r.body, status) for r in responses]
    with path.open("rb") as stream:
        kinds = [record.rec_type for record in ArchiveIterator(stream, check_digests="raise")]
    assert kinds.count("response") == len(set(bodies))
