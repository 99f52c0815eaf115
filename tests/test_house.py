"""The rules of the house: imports run one way, the README shows the tree, files stay readable."""

from __future__ import annotations

import ast
import itertools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from cyclopts import CycloptsError

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "src" / "gpt2"
FILES = sorted(PACKAGE.rglob("*.py"))

# Rooms in the order in which data flows; rooms on one line do not know each other.
ORDER = [
    ["errors"],
    ["workspace"],
    ["console"],
    ["tokens"],
    ["corpus"],  # one of its rules counts tokens
    ["model"],
    ["inference", "training"],
    ["evaluation"],
    ["finetuning", "serving"],
    ["studies"],
    ["report"],
    ["reproduce"],
    ["cli"],
    ["__main__"],
]
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """Rooms that a file imports, at its top or inside functions."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            names = [
                f"{node.module}.{a.name}" if node.module == "gpt2" else str(node.module) for a in node.names
            ]
        rooms |= {name.split(".")[1] for name in names if name.startswith("gpt2.")}
    return rooms


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    if path == PACKAGE / "__init__.py":
        return
    here = room_of(path)
    assert here in LEVEL, f"{here} has no place in the order"
    for other in imported_rooms(path):
        if here in ("cli", "__main__") and other in gpt2_names():
            continue
        assert other == here or LEVEL[other] < LEVEL[here], f"{here} must not import {other}"


def gpt2_names() -> set[str]:
    import gpt2

    return set(gpt2.__all__)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_rooms_one_can_live_in(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a file begins with its manual"
    assert len(text.splitlines()) <= 400, "a file has at most 400 lines"
    assert path.stem not in {
        "util",
        "utils",
        "common",
        "helper",
        "helpers",
        "misc",
        "core",
        "base",
        "manager",
    }
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


def test_the_readme_shows_the_tree() -> None:
    block = re.search(r"```\nsrc/gpt2/\n(.*?)```", README, re.S)
    assert block, (
        "README.md shows no tree: it needs a block that begins with the lines ``` and src/gpt2/, and then has "
        "one line a file, two spaces deeper for each folder: its name, two spaces or more, what it is"
    )
    shown, folders = [], [PACKAGE]
    for line in block.group(1).splitlines():
        match = re.fullmatch(r"( *)(\S+?)(/?)\s{2,}(\S.*)", line)
        assert match, f"each line names a file and says what it is: {line!r}"
        depth = len(match.group(1)) // 2
        path = folders[depth - 1] / match.group(2)
        assert path.exists(), f"README shows {path.relative_to(PACKAGE)}, which is not there"
        if match.group(3):
            folders[depth:] = [path]
        else:
            shown.append(path)
    there = {p for p in FILES if p.name != "__init__.py" or p.parent == PACKAGE}
    lacking = sorted(str(p.relative_to(PACKAGE)) for p in there - set(shown))
    assert not lacking, f"README's tree lacks {lacking}"
    assert len(shown) == len(set(shown)), "README's tree shows a file twice"


def blocks(language: str) -> list[str]:
    """README's blocks of a language, lines that go on joined."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", README, re.S | re.M)
    return [block.replace("\\\n", " ") for block in found]


def words_of(line: str) -> list[str]:
    """The words of the first command in a line of shell, without redirections and comments."""
    lexer = shlex.shlex(line.strip().removeprefix("$ "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return list(itertools.takewhile(lambda word: not set(word) <= set("|&;<>()"), lexer))


def test_shell_lines_are_taken_apart() -> None:
    assert words_of("$ gpt2 score run 'a b' --json | wc -l  # counts") == [
        "gpt2",
        "score",
        "run",
        "a b",
        "--json",
    ]
    assert words_of("gpt2 tokens encode <in >out && gpt2 nonsense") == ["gpt2", "tokens", "encode"]


def test_commands_in_the_readme_are_commands() -> None:
    """Blocks marked ```sh or ```sh run."""
    from gpt2.cli import app

    lines = [words_of(line) for block in blocks("sh(?: run)?") for line in block.splitlines()]
    commands = [words[1:] for words in lines if words[:1] == ["gpt2"]]
    assert commands, "README.md shows no gpt2 command in a block marked ```sh"
    for words in commands:
        try:
            app.parse_args(words, exit_on_error=False, print_error=False)
        except CycloptsError as error:
            pytest.fail(f"README shows `gpt2 {shlex.join(words)}`: {error}")


@pytest.mark.parametrize("block", blocks("sh run"))
def test_what_the_readme_says_can_be_run_runs(block: str, tmp_path: Path) -> None:
    """Blocks marked ```sh run, each in an empty folder of its own."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", block], cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{block}{done.stdout}{done.stderr}"


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = ["torch", "numpy", "daft", "pyarrow", "transformers", "trafilatura", "rich.table", "cyclopts"]
    code = f"import gpt2, sys; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
    code = f"import gpt2.cli, sys; print([m for m in {heavy[:6]} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    import gpt2

    for name in gpt2.__all__:
        assert getattr(gpt2, name).__module__.startswith("gpt2.")
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = gpt2.nonsense


def test_nothing_is_unpickled() -> None:
    """Pickles may be written, for programs that know nothing else, but are opened by nothing of ours."""
    foreign = {"dill", "cloudpickle", "joblib", "shelve"}
    openers = {"pickle.load", "pickle.loads", "pickle.Unpickler", "pickle._Unpickler"}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not {a.name for a in node.names} & foreign, path
            if isinstance(node, ast.ImportFrom):
                assert node.module not in foreign | {"pickle"}, path
            if isinstance(node, ast.Attribute):
                assert ast.unparse(node) not in openers, path
            if isinstance(node, ast.Call):
                assert "allow_pickle=True" not in ast.unparse(node), path
                if ast.unparse(node.func) == "torch.load":
                    assert "weights_only=True" in ast.unparse(node), path
