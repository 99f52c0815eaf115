"""A crawl goes on after any kill, and its files are whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from local_server import LocalServer, Reply, Script, get, lines_of, pages_of

from gpt2.corpus.fetch import LOG, warc_files
from gpt2.corpus.fetch.pages import read_pages

CRAWL = """
import sys
from pathlib import Path
from gpt2.corpus.fetch import FetchConfig, fetch
from gpt2.corpus.fetch.pages import outgoing_links
fetch([sys.argv[1] + "/"], Path(sys.argv[2]), FetchConfig(delay=0, allow=frozenset({sys.argv[1][7:]})), outgoing_links)
"""


def chain(n: int) -> dict[str, Script]:
    """A site whose pages each lead to the next ones, and answer after a little while."""

    def page(i: int) -> Script:
        def script(handler: BaseHTTPRequestHandler) -> Reply:
            time.sleep(0.01)
            links = "".join(f'<a href="/{k}">{k}</a>' for k in (i + 1, 2 * i + 1) if k < n)
            return Reply(links + f"<p>Page {i}. " + os.urandom(2_000).hex() + "</p>")

        return script

    return {"/" if i == 0 else f"/{i}": page(i) for i in range(n)}


def test_a_killed_crawl_goes_on_where_it_was(tmp_path: Path) -> None:
    from warcio.archiveiterator import ArchiveIterator

    kills = 0
    with LocalServer(chain(100)) as server:
        command = [sys.executable, "-c", CRAWL, server.origin, str(tmp_path)]
        for stop in (15, 45, 75):
            process = subprocess.Popen(command)
            while sum(server.asked().values()) < stop and process.poll() is None:
                time.sleep(0.002)
            assert process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        subprocess.run(command, check=True)
        asked = server.asked()
        assert set(asked) == set(server.pages)
        assert sum(asked.values()) <= len(server.pages) + kills, "a kill costs the one page in flight"
        assert max(asked.values()) <= 1 + kills
    urls = Counter(row["url"] for row in lines_of(tmp_path))
    assert set(urls.values()) == {1}
    [warc] = warc_files(tmp_path)
    pages = [page.url for page in read_pages(warc)]
    assert sorted(pages) == sorted(urls)
    with warc.open("rb") as stream:
        kinds = Counter(r.rec_type for r in ArchiveIterator(stream, check_digests="raise"))
    assert kinds == {"warcinfo": 1, "response": 100}


def test_an_interrupted_crawl_writes_no_failure_of_what_was_under_way(tmp_path: Path) -> None:
    with LocalServer(chain(400)) as server:
        command = [sys.executable, "-c", CRAWL, server.origin, str(tmp_path)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        while sum(server.asked().values()) < 20:
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
        assert process.returncode and said.rstrip().endswith(b"KeyboardInterrupt")
        assert {row.get("cause") for row in lines_of(tmp_path)} == {None}
        subprocess.run(command, check=True)
    assert len(lines_of(tmp_path)) == len(pages_of(tmp_path)) == 400


def test_records_that_a_power_cut_left_empty_are_fetched_again(tmp_path: Path) -> None:
    paths = [f"/{i}" for i in range(6)]
    with LocalServer({path: Reply(f"<p>Page {path}</p>") for path in paths}) as server:
        get(server, tmp_path, *paths)
        [warc] = warc_files(tmp_path)
        ends = [row["end"] for row in lines_of(tmp_path)]
        data = warc.read_bytes()
        warc.write_bytes(data[: ends[2]] + b"\0" * (len(data) - ends[2]))
        server.requests.clear()
        get(server, tmp_path, *paths)
        assert server.asked() == {"/3": 1, "/4": 1, "/5": 1}
        assert list(pages_of(tmp_path)) == list(map(server.url, paths))
        warc.write_bytes(data[: ends[2] - 9] + b"?" * 9 + data[ends[2] :])
        server.requests.clear()
        get(server, tmp_path, *paths)
        assert sum(server.asked().values()) == 4


def test_a_log_cut_anywhere_costs_no_more_than_its_last_lines(tmp_path: Path) -> None:
    paths = [f"/{i}" for i in range(4)]
    with LocalServer({path: Reply(f"<p>Page {path}</p>") for path in paths}) as server:
        get(server, tmp_path, *paths)
        [path] = warc_files(tmp_path)
        log, warc = (tmp_path / LOG).read_bytes(), path.read_bytes()
        ends = [i + 1 for i, byte in enumerate(log) if byte == ord("\n")]
        for cut in {
            0,
            1,
            len(log) - 1,
            len(log) - 20,
            *ends,
            *(end - 1 for end in ends),
            *(e + 7 for e in ends[:-1]),
        }:
            (tmp_path / LOG).write_bytes(log[:cut])
            path.write_bytes(warc)
            server.requests.clear()
            done = get(server, tmp_path, *paths)
            whole = sum(end <= cut for end in ends)
            assert sum(server.asked().values()) == 4 - whole
            assert sorted(f.url for f in done) == sorted(pages_of(tmp_path)) == sorted(map(server.url, paths))
            assert len(lines_of(tmp_path)) == 4


def test_a_warc_file_shorter_than_its_log_is_filled_up(tmp_path: Path) -> None:
    paths = [f"/{i}" for i in range(4)]
    with LocalServer({path: Reply(f"<p>Page {path}</p>") for path in paths}) as server:
        get(server, tmp_path, *paths)
        second = lines_of(tmp_path)[1]["end"]
        [warc] = warc_files(tmp_path)
        warc.write_bytes(warc.read_bytes()[: second + 3])
        server.requests.clear()
        get(server, tmp_path, *paths)
        assert server.asked() == {"/2": 1, "/3": 1}
        assert list(pages_of(tmp_path)) == list(map(server.url, paths))


def test_a_damaged_line_in_the_log_is_where_it_begins_anew(tmp_path: Path) -> None:
    paths = [f"/{i}" for i in range(4)]
    with LocalServer({path: Reply(f"<p>Page {path}</p>") for path in paths}) as server:
        get(server, tmp_path, *paths)
        lines = (tmp_path / LOG).read_bytes().splitlines(keepends=True)
        (tmp_path / LOG).write_bytes(lines[0] + b"\0\0\0\xff\n" + b"".join(lines[2:]))
        server.requests.clear()
        get(server, tmp_path, *paths)
        assert sum(server.asked().values()) == 3
        assert sorted(pages_of(tmp_path)) == sorted(map(server.url, paths))
