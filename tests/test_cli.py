"""The command line: what it prints, and how it ends."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from command_line import SHAPE, Run, World, spawn
from cyclopts import App

import gpt2.cli
from gpt2.cli.talk import Talk
from gpt2.errors import FormatError
from gpt2.tokens.token_files import header


def every_command(app: App, name: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], App]]:
    """All commands below an app, with the words that call them."""
    if app.default_command is not None:
        yield name, app
    for word in app:
        if not word.startswith("-"):
            yield from every_command(app[word], (*name, word))


COMMANDS = dict(every_command(gpt2.cli.app))


def test_all_commands_are_found() -> None:
    assert {"reproduce", "train", "generate", "tokens encode"} <= {" ".join(name) for name in COMMANDS}


@pytest.mark.parametrize("name", COMMANDS, ids=" ".join)
def test_help_tells_what_a_command_and_each_of_its_options_does(name: tuple[str, ...], run: Run) -> None:
    said = run(*name, "--help")
    assert (said.status, said.err) == (0, "")
    arguments = [a for a in COMMANDS[name].assemble_argument_collection(parse_docstring=True) if a.show]
    assert arguments
    page = " ".join(said.out.replace("│", " ").split())
    for argument in arguments:
        assert argument.parameter.help, f"{argument.name} is not explained"
        assert " ".join(argument.parameter.help.split()) in page
    assert "--json" in page and "--quiet" in page


def test_help_and_version_answer(run: Run) -> None:
    assert run().out == run("--help").out
    assert "reproduce" in run("--help").out
    assert run("--version") == (0, gpt2.__version__ + "\n", "")


@pytest.mark.parametrize(
    "words",
    [
        ("tokens", "encode", "to be"),
        ("tokens", "decode", "1", "2"),
        ("tokens", "inspect", "{shards}"),
        ("tokens", "write", "{texts}", "{new}/shards", "--vocabulary", "{model}"),
        ("tokens", "learn", "{texts}", "{new}/vocabulary", "--size", "300"),
        ("generate", "{model}", "The", "--max-tokens", "3"),
        ("generate", "{model}", "The", "--max-tokens", "3", "--samples", "2"),
        ("generate", "{model}", "The", "--max-tokens", "3", "--best-of", "2", "--draft-model", "{model}"),
        ("score", "{model}", "The fox"),
        ("train", "--tokens", "{shards}", "--out", "{new}/run", "--steps", "2", *SHAPE),
        ("corpus", "build", "--text", "{texts}", "--out", "{new}/corpus"),
        ("reproduce", "--text", "{texts}", "--out", "{new}/reproduce", "--minutes", "0.1"),
    ],
    ids=" ".join,
)
def test_json_is_one_object_and_quiet_is_quiet(
    words: tuple[str, ...], run: Run, world: World, tmp_path: Path
) -> None:
    words = tuple(w.format(**world._asdict(), new=tmp_path) for w in words)
    said = run(*words, "--json", "--quiet")
    assert (said.status, said.err) == (0, "")
    assert isinstance(json.loads(said.out), dict)
    assert said.out.count("\n") == 1
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    plain = run(*words, "--quiet")
    assert (plain.status, plain.err) == (0, "")
    assert plain.out.strip() and not plain.out.startswith("{")


def test_tokens_go_there_and_back(run: Run, world: World) -> None:
    text = "Naïve — 日本 \x00 𝄞\n"
    for vocabulary in ((), ("--vocabulary", world.model)):
        ids = run("tokens", "encode", *vocabulary, given=text.encode()).out.split()
        assert run("tokens", "encode", text, *vocabulary).out.split() == ids
        assert run("tokens", "decode", *ids, *vocabulary).out == text + "\n"
        assert run("tokens", "decode", *vocabulary, given=" ".join(ids).encode()).out == text + "\n"
    assert json.loads(run("tokens", "encode", "--json", given=b"").out) == {"ids": [], "count": 0}
    assert run("tokens", "encode", "--", "--json").out.split() == ["438", "17752"]


def test_whole_numbers_are_read_as_people_type_them(run: Run, world: World, tmp_path: Path) -> None:
    base = ("train", "--tokens", world.shards, *SHAPE, "--quiet", "--json", "--batch", "1")
    for i, (typed, steps) in enumerate({"0.05K": 4, "5e1": 4, "3_2": 2, "33.0": 3}.items()):
        said = run(*base, "--out", tmp_path / str(i), "--train-tokens", typed)
        assert json.loads(said.out)["steps"] == steps
    assert run(*base, "--out", tmp_path / "x", "--train-tokens", "1.5").refused("is not a whole number")


def test_token_files_of_all_makers_are_inspected(run: Run, world: World, tmp_path: Path) -> None:
    ids = np.array([50256, 5, 6, 50256, 7], "<u2")
    (tmp_path / "llmc.bin").write_bytes(header(len(ids)) + ids.tobytes())
    (tmp_path / "nanogpt.bin").write_bytes(ids.tobytes())
    for layout in ("llm.c", "nanoGPT"):
        said = run("tokens", "inspect", tmp_path / (layout.replace(".", "").lower() + ".bin"), "--json")
        expected = {"layout": layout, "tokens": 5, "documents": 2, "largest_id": 50256}
        assert json.loads(said.out) == expected
    (tmp_path / "cut.bin").write_bytes(header(9) + ids.tobytes())
    assert run("tokens", "inspect", tmp_path / "cut.bin").refused("cut.bin is damaged")
    shards = json.loads(run("tokens", "inspect", world.shards, "--json").out)
    assert shards["heldout"]["documents"] == 2 and shards["train"]["documents"] == 38
    broken = shutil.copytree(world.shards, tmp_path / "broken")
    file = broken / "train" / "tokens-00000.bin"
    file.write_bytes(file.read_bytes()[:-2] + b"\x01\x00")
    assert run("tokens", "inspect", broken).refused("checksum")


def test_generate_follows_its_seed_and_its_options(run: Run, world: World) -> None:
    def generate(*options: str) -> str:
        return run("generate", world.model, "The", "--max-tokens", "12", *options).out

    assert generate() == generate("--seed", "0") != generate("--seed", "1")
    assert generate("--top-k", "1") == generate("--temperature", "0", "--seed", "9")
    texts = json.loads(generate("--samples", "3", "--json"))["texts"]
    assert len(set(texts)) == 3 and generate() == "The" + texts[0] + "\n"
    assert run("generate", world.model, "--max-tokens", "12", given=b"The").out == generate()
    assert generate("--dtype", "bfloat16", "--threads", "1").startswith("The")


def test_prompts_are_typed_at_a_terminal(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = iter(["The", "A"])

    def typed(prompt: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", typed)
    monkeypatch.setattr("sys.stdin", type("Terminal", (io.StringIO,), {"isatty": lambda self: True})())
    with pytest.raises(SystemExit) as end:
        gpt2.cli.main(["generate", str(world.model), "--max-tokens", "4"])
    said = capsys.readouterr()
    assert not end.value.code and said.out.count("\n") == 3 and "Ctrl-D" in said.err


def test_a_run_is_resumed_only_when_asked(run: Run, world: World, tmp_path: Path) -> None:
    words = ("train", "--tokens", world.shards, "--out", tmp_path / "run", *SHAPE, "--steps", "3", "--quiet")
    assert run(*words).status == 0
    assert run(*words).refused("add --resume")
    assert run(*words, "--resume").status == 0
    assert run(*words, "--resume", "--seed", "5").refused("begun with")
    assert run("generate", tmp_path / "run", "The", "--max-tokens", "2").status == 0


# How it ends


def test_a_number_that_json_lacks_is_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FormatError, match="infinite or NaN"):
        Talk(json=True).result({"loss": float("nan")}, "")
    assert capsys.readouterr().out == ""


def test_a_fault_of_ours_keeps_its_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise LookupError("ours")

    monkeypatch.setattr(gpt2.Tokenizer, "encode", broken)
    with pytest.raises(LookupError, match="ours"):
        run("tokens", "encode", "The")


def test_a_reader_that_went_away_ends_it_quietly(tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("262 " * 100_000)
    with (tmp_path / "ids").open() as ids, spawn("tokens", "decode", stdin=ids) as job:
        assert job.stdout and job.stderr
        assert job.stdout.read(1) == b" "
        job.stdout.close()
        assert (job.stderr.read(), job.wait()) == (b"", 141)


def test_a_full_standard_output_is_said() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with Path("/dev/full").open("wb") as full:
        job = spawn("tokens", "encode", "The", stdout=full)
        assert job.communicate()[1] == b"gpt2: the disk is full; make room or give another folder\n"
    assert job.returncode == 2


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_fault(closed: str, world: World, tmp_path: Path) -> None:
    words = f"tokens learn {world.texts} {tmp_path / 'new'} --size 300"
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m gpt2 {words} {closed}"], capture_output=True
    )
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    assert (tmp_path / "new" / "vocab.bpe").exists()


def test_a_terminal_without_the_letters_is_no_fault() -> None:
    job = spawn("tokens", "decode", "2634", env={"PYTHONIOENCODING": "ascii"})
    assert job.communicate() == (b"\\xe9\n", b"")


def test_interrupted_it_says_so_and_goes_on_later(run: Run, world: World, tmp_path: Path) -> None:
    words = ("train", "--tokens", world.shards, "--out", tmp_path / "run", *SHAPE, "--steps", "30000")
    job = spawn(*words, start_new_session=True)
    log = tmp_path / "run" / "metrics.jsonl"
    for _ in range(600):
        if log.exists() and log.stat().st_size:
            break
        time.sleep(0.05)
    os.killpg(job.pid, signal.SIGINT)
    out, err = job.communicate()
    assert (job.returncode, out) == (130, b"")
    assert err == b"gpt2: stopped; the same command with --resume goes on from the last checkpoint\n"
