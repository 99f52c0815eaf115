"""gpt2 corpus fetch: what it says, what it refuses, and that the same command goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Run
from local_server import LocalServer, Reply


@pytest.fixture
def links(tmp_path: Path) -> Path:
    """Where a list of links will be."""
    return tmp_path / "links.txt"


def test_pages_and_causes_are_told_and_the_same_command_goes_on(
    run: Run, links: Path, tmp_path: Path
) -> None:
    with LocalServer({"/a": Reply(), "/b": Reply("<p>b</p>"), "/gone": Reply(status=410)}) as server:
        links.write_text("".join(f"{server.url(path)}\n" for path in server.pages))
        command = ["corpus", "fetch", links, "--out", tmp_path / "out", "--contact", "me@example.org"]
        command += ["--delay", 0, "--retries", 0, "--allow", "127.0.0.0/8"]
        said = run(*command)
        assert said.status == 0
        assert "pages                2" in said.out and "status 410" in said.out, said.out
        assert "pages-00000.warc.gz" in said.out
        asked = len(server.requests)
        again = json.loads(run(*command, "--json").out)
        assert len(server.requests) == asked
    assert (again["links"], again["pages"], again["before"]) == (3, 2, 3)
    assert again["causes"] == {"status 410": 1}
    assert again["files"] == [str(tmp_path / "out" / "pages-00000.warc.gz")]


def test_a_crawl_names_who_can_be_reached(run: Run, links: Path, tmp_path: Path) -> None:
    links.write_text("http://a.example/\n")
    said = run("corpus", "fetch", links, "--out", tmp_path / "out")
    assert said.status == 2 and "contact" in said.err
    said = run("corpus", "fetch", links, "--out", tmp_path / "out", "--contact", "me\nCookie: a=b")
    assert said.refused("cannot be sent as a user agent")
    said = run("corpus", "fetch", links, "--out", tmp_path / "out", "--contact", "me", "--allow", "localhost")
    assert said.refused("names no address")
    assert not (tmp_path / "out").exists()


def test_when_nothing_can_be_had_it_is_one_sentence(run: Run, links: Path, tmp_path: Path) -> None:
    links.write_text("http://127.0.0.1:9/\nhttp://169.254.169.254/latest/\n")
    said = run("corpus", "fetch", links, "--out", tmp_path / "out", "--contact", "me@example.org", "--quiet")
    assert said.refused("none of 2 pages could be fetched")
    assert (tmp_path / "out" / "failed.jsonl").exists()
