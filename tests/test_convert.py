"""From every format to every other: exact, in little memory, recognised by content, refused in a sentence."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from command_line import Run, World, spawn
from mutations import survived

import gpt2
from gpt2.errors import ConfigError, FetchError, InputError, MissingExtra, WorkbenchError
from gpt2.model.config import GPT2Config
from gpt2.model.formats import NAMES, Source, convert, formats, open_source, parameter_shapes
from gpt2.model.transformer import GPT2
from gpt2.tokens.bpe import Tokenizer

SMALL = GPT2Config(n_layer=2, n_head=2, n_embd=8, n_ctx=16)


def random_source(config: GPT2Config) -> Source:
    """Random weights everywhere, drawn anew whenever one is asked for."""
    places = {name: i for i, name in enumerate(parameter_shapes(config))}

    def tensor(name: str) -> torch.Tensor:
        draw = torch.Generator().manual_seed(places[name])
        return torch.randn(parameter_shapes(config)[name], generator=draw) * 0.02

    return Source("workbench", Path("made-up"), config, Tokenizer.gpt2(), tensor)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same small model in each format, under names that tell nothing."""
    folder = tmp_path_factory.mktemp("models")
    paths = {}
    for i, (name, module) in enumerate(formats().items()):
        paths[name] = folder / str(i) / "model.zip"
        paths[name].parent.mkdir()
        module.write(paths[name], random_source(SMALL))
    return paths


def test_the_124m_goes_through_all_formats_unchanged(tmp_path: Path) -> None:
    source = random_source(GPT2Config.size("124M"))
    formats()["huggingface"].write(tmp_path / "0", source)
    for i, to in enumerate(["openai", "nanogpt", "llmc", "gguf", "huggingface"]):
        assert convert(tmp_path / str(i), tmp_path / str(i + 1), to).config == source.config
        old = tmp_path / str(i)
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    back = open_source(tmp_path / "5")
    assert (back.format, back.config, back.tokenizer.pairs) == (
        "huggingface",
        source.config,
        Tokenizer.gpt2().pairs,
    )
    for name in parameter_shapes(source.config):
        assert torch.equal(back.tensor(name), source.tensor(name)), name
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_any_format_is_loaded_and_computes_the_same(name: str, models: dict[str, Path]) -> None:
    net = GPT2(SMALL)
    net.load_state_dict({key: random_source(SMALL).tensor(key) for key in net.state_dict()})
    model = gpt2.load(models[name])
    assert model.net.config == SMALL and not model.net.training and model.tokenizer.n_vocab == 50257
    ids = torch.tensor([[464, 3290, 318]])
    with torch.no_grad():
        assert torch.equal(model.net(ids), net(ids))
    assert open_source(models[name]).format == name
    assert [n for n, module in formats().items() if module.recognise(models[name])] == [name]


def test_our_folder_says_what_it_was_made_from_and_keeps_its_card(
    models: dict[str, Path], tmp_path: Path
) -> None:
    gpt2.convert(models["gguf"], tmp_path / "a", to="workbench")
    card = {"converted_from": {"format": "gguf", "name": "model.zip"}}
    assert gpt2.load(tmp_path / "a").card == card
    assert "| converted from | format gguf, name model.zip |" in (tmp_path / "a" / "README.md").read_text()
    gpt2.convert(tmp_path / "a", tmp_path / "b", to="workbench")
    assert gpt2.load(tmp_path / "b").card == card
    names = ("config.json", "model.safetensors", "encoder.json")
    assert all((tmp_path / "a" / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in names)


STEPS = """
import sys
from gpt2.model.formats import convert
convert("first", "warm", "workbench")
folder = "big"
for to in ("openai", "nanogpt", "llmc", "gguf", "huggingface", "workbench"):
    print(to, flush=True)
    input()
    convert(folder, "to-" + to, to)
    folder = "to-" + to
print("done", flush=True)
"""


def test_converting_takes_little_more_memory_than_the_largest_tensor(tmp_path: Path) -> None:
    config = GPT2Config(n_layer=2, n_head=12, n_embd=768)
    formats()["workbench"].write(tmp_path / "big", random_source(config))
    formats()["workbench"].write(tmp_path / "first", random_source(SMALL))
    largest = 4 * config.vocab_size * config.n_embd
    above = {}
    with subprocess.Popen(
        [sys.executable, "-c", STEPS], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as job:
        assert job.stdin and job.stdout
        while (step := job.stdout.readline().strip()) and step != "done":
            before, most = own_memory(job.pid), 0
            job.stdin.write("\n")
            job.stdin.flush()
            while not select.select([job.stdout], [], [], 0.002)[0]:
                most = max(most, own_memory(job.pid))
            above[step] = most - before
    assert job.returncode == 0 and step == "done"
    shutil.rmtree(tmp_path)
    bound = 1.5 * largest + 30e6
    assert all(most <= bound for most in above.values()), {k: v / largest for k, v in above.items()}


def own_memory(pid: int) -> int:
    """Bytes of a process that are not pages of a mapped file."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))


def refuse(*how: object, kind: type[WorkbenchError] = InputError) -> str:
    """The sentence with which a conversion is refused."""
    with pytest.raises(kind) as caught:
        convert(*how)  # type: ignore[arg-type]
    text = str(caught.value)
    assert len(text) < 600 and "\n" not in text
    return text


def test_nothing_that_is_there_is_replaced(models: dict[str, Path], tmp_path: Path) -> None:
    for i, (to, existing) in enumerate(models.items()):
        assert "stays as it is" in refuse(models["gguf"], existing, to)
        folder = tmp_path / f"mine{i}"
        folder.mkdir()
        (folder / "thesis.txt").write_text("years of work")
        assert "stays as it is" in refuse(models["gguf"], folder, to)
        assert "stays as it is" in refuse(models["gguf"], folder / "thesis.txt", to)
        (folder / "link").symlink_to("nowhere")
        assert "stays as it is" in refuse(models["gguf"], folder / "link", to)
        assert (folder / "thesis.txt").read_text() == "years of work"
        assert not list(folder.glob(".*"))


def test_unknown_formats_and_kinds_are_answered_with_the_right_ones(
    models: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert "did you mean 'huggingface'?" in refuse(models["gguf"], out, "hugingface", kind=ConfigError)
    assert "did you mean 'q8_0'?); it has f32, f16, q8_0" in refuse(
        models["llmc"], out, "gguf", "q8", kind=ConfigError
    )
    assert "openai has no kind 'f16'; it has none" in refuse(
        models["llmc"], out, "openai", "f16", kind=ConfigError
    )
    assert not list(tmp_path.iterdir())


def test_kinds_are_passed_on(models: dict[str, Path], tmp_path: Path) -> None:
    convert(models["gguf"], tmp_path / "a" / "m.bin", "llmc", "bfloat16")
    assert open_source(tmp_path / "a" / "m.bin").tensor("wte.weight").dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("words", "content"),
    {
        "it is an empty file": b"",
        "it is a file that begins with b'Once upon": b"Once upon a time",
        "an HDF5 file, as Keras writes": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "llm.c's token file": (20240520).to_bytes(4, "little") + bytes(2000),
        "llm.c's tokenizer file": (20240328).to_bytes(4, "little") + bytes(2000),
        "a pickle, which could run code": b"\x80\x02}q\x00.",
    }.items(),
)
def test_what_is_no_model_is_named(words: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    said = refuse(tmp_path / "model.safetensors", tmp_path / "out", "gguf")
    assert words in said and "known formats are workbench, openai" in said


def test_a_part_of_a_model_is_answered_with_the_whole(models: dict[str, Path], tmp_path: Path) -> None:
    for name, file in (("openai", "model.ckpt.index"), ("huggingface", "model.safetensors")):
        said = refuse(models[name] / file, tmp_path / "out")
        assert "it is a file of a model's folder, so give that folder" in said


def test_folders_without_a_model_are_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert "no config.json or hparams.json in it, nor anything else" in refuse(
        tmp_path / "a", tmp_path / "out"
    )
    for i in range(5):
        (tmp_path / "a" / f"{i}.txt").touch()
    assert "only 0.txt, 1.txt, 2.txt, 3.txt ..." in refuse(tmp_path / "a", tmp_path / "out")
    (tmp_path / "a" / "config.json").write_text("{}")
    assert "its config.json describes none" in refuse(tmp_path / "a", tmp_path / "out")
    assert "there is no model at" in refuse(tmp_path / "nowhere", tmp_path / "out")


KILLED = """
import os, signal
from dataclasses import replace
from pathlib import Path
from gpt2.model.formats import formats
from test_convert import SMALL, random_source

def tensor(name):
    if name == "h.1.ln_1.weight":
        os.kill(os.getpid(), signal.SIGKILL)
    return random_source(SMALL).tensor(name)

source = replace(random_source(SMALL), tensor=tensor)
for name, module in formats().items():
    if os.fork() == 0:
        module.write(Path(name), source)
    assert os.wait()[1] == signal.SIGKILL
"""


def test_a_conversion_that_is_killed_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=env, check=True)
    left = [path.name for path in tmp_path.iterdir()]
    assert len(left) == len(NAMES) and all(name.startswith(".") and name.endswith(".part") for name in left)
    for name, module in formats().items():
        module.write(tmp_path / name, random_source(SMALL))
        assert open_source(tmp_path / name).config == SMALL


def test_the_command_converts_and_refuses(run: Run, models: dict[str, Path], tmp_path: Path) -> None:
    said = run("convert", models["nanogpt"], tmp_path / "m", "--to", "openai", "--json")
    assert said.status == 0 and not said.err
    result = json.loads(said.out)
    assert (result["from"], result["to"], result["layers"]) == ("nanogpt", "openai", 2)
    assert result["parameters"] == SMALL.num_parameters()
    assert run("convert", tmp_path / "m", tmp_path / "m", "--to", "gguf").refused("stays as it is")
    assert run("convert", tmp_path / "m", tmp_path / "n", "--to", "gguf", "--kind", "bfloat16").refused(
        "no kind"
    )
    assert run("convert", tmp_path / "m", tmp_path / "n", "--to", "onnx").refused("choose from")
    assert run("convert", tmp_path / "m", tmp_path / "n").refused("missing --to")
    assert run("score", tmp_path / "m", "A dog.", "--json").status == 0


def test_a_model_of_another_vocabulary_is_loaded_from_every_format_that_has_one(
    world: World, tmp_path: Path
) -> None:
    for to in ("openai", "huggingface", "llmc", "gguf", "workbench"):
        gpt2.convert(world.model, tmp_path / to / "m", to)
        ours, back = gpt2.load(world.model), gpt2.load(tmp_path / to / "m")
        assert back.tokenizer.pairs == ours.tokenizer.pairs
        assert (
            gpt2.score(back, ["The lazy dog."])[0].logprob == gpt2.score(ours, ["The lazy dog."])[0].logprob
        )


def test_without_the_hubs_package_a_name_is_answered_with_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r"pip install 'gpt2-workbench\[hub\]'"):
        open_source("openai-community/gpt2")


def test_without_a_network_a_name_is_answered_plainly() -> None:
    pytest.importorskip("huggingface_hub")
    with pytest.raises(
        FetchError, match="there is no folder openai-community/gpt2, and the hub gives no model"
    ):
        open_source("openai-community/gpt2")


def test_a_wrong_path_is_not_looked_for_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for path in ("runs/best", "nowhere", "a/b/c", "../x", "~/model"):
        with pytest.raises(InputError, match="there is no model at"):
            open_source(path)


@pytest.fixture
def hub(models: dict[str, Path]) -> Iterator[tuple[str, list[str]]]:
    """A hub on this machine that has one model, `some/tiny`, and notes what is asked for."""
    files = {path.name: path.read_bytes() for path in models["huggingface"].iterdir()}
    files |= {"modeling_evil.py": b"raise SystemExit", "tf_model.h5": b"\x89HDF"}
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            if self.path.startswith("/api/models/some/tiny"):
                siblings = [{"rfilename": file, "size": len(data)} for file, data in files.items()]
                tree = [
                    {"type": "file", "path": f, "size": len(d), "oid": "0" * 40} for f, d in files.items()
                ]
                facts = {
                    "id": "some/tiny",
                    "sha": "1" * 40,
                    "siblings": siblings,
                    "private": False,
                    "tags": [],
                }
                body = json.dumps(tree if "/tree/" in self.path else facts).encode()
            elif "/some/tiny/resolve/" in self.path and name in files:
                asked.append(name)
                body = files[name]
            else:
                self.send_error(404)
                return
            self.send_response(200)
            for key, value in {
                "ETag": f'"{name}"',
                "X-Repo-Commit": "1" * 40,
                "Content-Length": len(body),
            }.items():
                self.send_header(key, str(value))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_a_hub_name_is_fetched_once_and_opened(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    address, asked = hub
    how = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "cache")}
    for offline in ("0", "1"):
        job = spawn(
            "score", "some/tiny", "A dog.", "--json", cwd=tmp_path, env=how | {"HF_HUB_OFFLINE": offline}
        )
        out, err = job.communicate()
        assert job.returncode == 0, err.decode()[-2000:]
        assert json.loads(out)["tokens"] == 3
        assert {"config.json", "model.safetensors"} <= set(asked)
        assert not {"modeling_evil.py", "tf_model.h5"} & set(asked)
    how["HF_HUB_OFFLINE"] = "0"
    with spawn("score", "some/other", "A dog.", cwd=tmp_path, env=how) as job:
        out, err = job.communicate()
    assert (
        job.returncode == 2
        and err.startswith(b"gpt2: there is no folder some/other")
        and err.count(b"\n") == 1
    )


@pytest.mark.parametrize(
    ("name", "rounds"),
    [("model.safetensors", 250), ("config.json", 150), ("card.json", 50), ("encoder.json", 60)],
)
def test_damaged_files_of_ours_are_refused_or_sound(
    name: str, rounds: int, world: World, tmp_path: Path
) -> None:
    folder = shutil.copytree(world.model, tmp_path / "model")
    refused, _ = survived("workbench", folder, folder / name, rounds)
    assert refused > 0
