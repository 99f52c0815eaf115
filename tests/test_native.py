"""Models in low-bit weights: opened without torch, computed as their rounded weights say, texts independent."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import gpt2
from gpt2.console import Console
from gpt2.errors import ConfigError, FormatError, InputError, MissingExtra
from gpt2.inference import native
from gpt2.inference.continuations import open_engine
from gpt2.inference.engine import Request
from gpt2.inference.kernels import load
from gpt2.inference.kernels.twin import highest
from gpt2.inference.native import NativeModel, open_native
from gpt2.inference.sampling import Sampling
from gpt2.model.packed import FIRST, WEIGHTS, tile_bytes
from gpt2.model.quantize import unpack, unpack_bias
from gpt2.tokens.bpe import Tokenizer

SHAPE = gpt2.GPT2Config(n_layer=3, n_head=4, n_embd=80, vocab_size=257, n_ctx=64)
"""Channels that are no multiple of a block, a vocabulary of bytes."""
TOLERANCE = {"int8": 0.12, "int4": 0.12, "bfloat16": 0.05}
"""Of the logits' spread, at the worst logit: the fast engine rounds activations too, to 8 bits or to bfloat16. The
root of the mean square may be a quarter of it. To the bit, its twin in numpy is what it is held equal to."""
SCHEMES = list(TOLERANCE)


@pytest.fixture(scope="module", autouse=True)
def kernels() -> None:
    """The library, built once."""
    try:
        load()
    except MissingExtra as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose logits are spread as a trained one's."""
    net = gpt2.GPT2(SHAPE, seed=0)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if weight.dim() == 2 and not name.startswith("wpe"):
                weight *= 4
    folder = tmp_path_factory.mktemp("models") / "plain"
    gpt2.Model(net, Tokenizer([])).save(folder)
    return folder


@pytest.fixture(scope="module", params=SCHEMES)
def folder(request: pytest.FixtureRequest, plain: Path) -> Path:
    """The same in each scheme."""
    target = plain.with_name(request.param)
    if not target.exists():
        gpt2.convert(plain, target, to=request.param)
    return target


@pytest.fixture(scope="module")
def model(folder: Path) -> NativeModel:
    """The same, opened."""
    return open_native(folder)


def text(length: int, seed: int = 0) -> list[int]:
    """Ids of a text."""
    return random.Random(seed).choices(range(256), k=length)


def test_logits_are_those_of_the_network_of_the_rounded_weights(folder: Path, model: NativeModel) -> None:
    ids = text(60)
    net, last = gpt2.load(folder).net, list[torch.Tensor]()
    net.ln_f.register_forward_hook(lambda _module, _inputs, output: last.append(output[0]))
    with torch.inference_mode():
        wanted = net(torch.tensor([ids]))[0].numpy()  # [T, V]
    found = model.runner().run([0], [ids], every=True)
    off, most = np.abs(found - wanted), TOLERANCE[model.scheme] * wanted.std()
    if FIRST in model.tensors:
        head = unpack(model.tensors[FIRST].view(np.uint8), *net.wte.weight.shape)
        first = last[0].numpy() @ head.T + unpack_bias(model.tensors[FIRST].view(np.uint8), len(head))
        again = off[highest(first)]  # but for tiles of nearly the same height, of which rounding chooses
        assert len(again) >= len(ids) * (4 * 16 - 15) and np.quantile(again, 0.98) < most
        off = np.minimum(off, np.abs(found - first))
    assert off.max() < most
    assert np.sqrt((off**2).mean()) < most / 4


def test_greedy_text_follows_the_same_network(folder: Path, model: NativeModel) -> None:
    """Each token is the network's likeliest, or as likely but for the tolerance."""
    prompt = text(10)
    engine = model.engine()
    (stream,) = engine.run([Request(prompt, 50, Sampling(temperature=0), stop_tokens=())])
    with torch.inference_mode():
        logits = gpt2.load(folder).net(torch.tensor([prompt + stream.ids]))[0, len(prompt) - 1 : -1]
    chosen = logits.gather(1, torch.tensor(stream.ids)[:, None])[:, 0]
    assert len(stream.ids) == 50
    assert float((logits.amax(-1) - chosen).max()) < 2 * TOLERANCE[model.scheme] * float(logits.std())
    assert float((logits.argmax(-1) == torch.tensor(stream.ids)).float().mean()) > 0.8


def test_a_text_is_the_same_alone_and_in_a_batch_of_32(model: NativeModel) -> None:
    how = Sampling(top_k=40)
    requests = [Request(text(1 + i, i), 20, how, seed=i, stop_tokens=()) for i in range(32)]
    together = model.engine(slots=32).run(requests)
    for i in (0, 7, 31):
        (alone,) = model.engine(slots=1, drafts=False).run([requests[i]])
        assert alone.ids == together[i].ids


def test_no_bit_changes_with_the_cuts_of_a_text(model: NativeModel) -> None:
    ids, runner = text(40), model.runner(slots=3)
    whole = runner.run([0], [ids], every=True).copy()
    for token in ids[:5]:
        runner.run([1], [[token]])
    runner.run([1, 2], [ids[5:22], text(9, 1)])
    assert np.array_equal(runner.run([2, 1], [text(3, 2), ids[22:]])[1], whole[-1])
    runner.cut(0, 11)
    runner.copy(0, 2)
    assert np.array_equal(runner.run([2, 0], [ids[11:12], ids[11:30]], every=True)[1:], whole[11:30])


def test_texts_that_come_and_go_at_random_end_as_they_would_alone(model: NativeModel) -> None:
    draw, engine = random.Random(0), model.engine(slots=5)
    requests = [
        Request(text(draw.randint(1, 12), i % 7), draw.randint(1, 25), Sampling(), seed=i) for i in range(60)
    ]
    waiting, streams = list(requests), []
    while waiting or engine.busy:
        for _ in range(draw.randint(0, 3)):
            if waiting:
                streams.append(engine.submit(waiting.pop()))
        if streams and draw.random() < 0.2:
            draw.choice(streams).cancel()
        engine.step()
    finished = [stream for stream in streams if stream.finish != "cancelled"]
    assert len(streams) == 60 and 20 < len(finished) < 60
    solo = model.engine(slots=1, drafts=False)
    for stream in finished:
        assert solo.run([stream.request])[0].ids == stream.ids


def test_generating_imports_no_torch(folder: Path) -> None:
    script = (
        "import sys; from gpt2.cli import app; app(sys.argv[1:], result_action='return_value', "
        "exit_on_error=False); sys.stderr.write(str('torch' in sys.modules))"
    )
    command = [sys.executable, "-c", script, "generate", str(folder), "He", "--max-tokens", "3", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == "False"
    assert len(json.loads(done.stdout)["texts"]) == 1


def test_public_functions_take_a_native_model(model: NativeModel) -> None:
    texts = gpt2.generate(model, ["He", "She"], max_tokens=8, seed=1)
    assert texts[0] == "".join(gpt2.stream(model, "He", max_tokens=8, seed=1))


def test_another_model_is_quantised_once_and_again_when_it_changes(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(native, "cache_folders", lambda: [tmp_path])
    first = open_native(plain, "int4", console=Console())
    assert "quantised to int4 once" in capsys.readouterr().err
    assert first.folder.parent == tmp_path / "models"
    made = (first.folder / WEIGHTS).stat().st_mtime_ns
    assert open_native(plain, "int4", console=Console()).folder == first.folder
    assert capsys.readouterr().err == ""
    assert (first.folder / WEIGHTS).stat().st_mtime_ns == made
    (plain / "README.md").write_text("another", encoding="utf-8")
    open_native(plain, "int4")
    assert (first.folder / WEIGHTS).stat().st_mtime_ns != made
    assert [f.name for f in (tmp_path / "models").iterdir() if f.is_dir()] == [first.folder.name]


@pytest.mark.parametrize("text", ["", "[]", "{"])
@pytest.mark.parametrize("name", ["card.json", "config.json", WEIGHTS, "encoder.json"])
def test_a_damaged_copy_is_made_anew(
    name: str, text: str, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "cache_folders", lambda: [tmp_path])
    file = open_native(plain).folder / name
    whole = file.read_bytes()
    file.write_text(text)
    open_native(plain)
    assert file.read_bytes() == whole


def test_processes_that_need_a_copy_at_once_make_it_once(plain: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from gpt2.console import Console; from gpt2.inference.native import open_native; "
        "open_native(sys.argv[1], 'int8', console=Console())"
    )
    command = [sys.executable, "-c", script, str(plain)]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) for _ in "abc"]
    told = "".join(process.communicate()[1] for process in started)
    assert [process.returncode for process in started] == [0, 0, 0], told
    assert told.count("quantised to int8 once") == 1


def test_the_wrong_scheme_is_refused(folder: Path, model: NativeModel, plain: Path) -> None:
    other = next(scheme for scheme in SCHEMES if scheme != model.scheme)
    with pytest.raises(ConfigError, match=f"holds {model.scheme} weights; for {other} give the model"):
        open_native(folder, other)
    with pytest.raises(ConfigError, match="there is no scheme 'int3'"):
        open_native(plain, "int3")
    with pytest.raises(ConfigError, match="leave --device out"):
        open_engine(folder, device="cuda")


def test_packed_weights_open_as_a_model_like_any_other(folder: Path, plain: Path) -> None:
    rounded, exact = gpt2.load(folder), gpt2.load(plain)
    assert rounded.tokenizer.tokens == exact.tokenizer.tokens
    assert rounded.card["weights"] == folder.name
    for (name, a), b in zip(rounded.net.state_dict().items(), exact.net.state_dict().values(), strict=True):
        off = float((a - b).abs().max() / b.abs().max().clamp(min=1e-9))
        assert off == 0 if a.dim() == 1 or name == "wpe.weight" else 0 < off < 0.15, name


@pytest.mark.parametrize("damage", ["cut", "header", "gone", "other"])
def test_damaged_files_are_refused(damage: str, plain: Path, tmp_path: Path) -> None:
    gpt2.convert(plain, tmp_path / "model", to="int8")
    path = tmp_path / "model" / WEIGHTS
    whole = path.read_bytes()
    if damage == "gone":
        path.with_name("encoder.json").unlink()
        path.with_name("tokenizer.json").unlink()
    elif damage == "other":
        settings = json.loads(path.with_name("config.json").read_text())
        path.with_name("config.json").write_text(json.dumps(settings | {"n_embd": 160}))
    else:
        path.write_bytes(whole[:-1000] if damage == "cut" else b"\xff" * 64 + whole[64:])
    with pytest.raises(FormatError if damage != "gone" else InputError, match="model"):
        open_native(tmp_path / "model")


def test_weights_that_are_no_numbers_are_refused(plain: Path, tmp_path: Path) -> None:
    gpt2.convert(plain, tmp_path / "model", to="int8")
    path = tmp_path / "model" / WEIGHTS
    whole = bytearray(path.read_bytes())
    at = len(whole) - tile_bytes(8, SHAPE.n_embd)  # the scale of a row of the head
    whole[at : at + 4] = np.float32("nan").tobytes()
    path.write_bytes(whole)
    with pytest.raises(FormatError, match=r"'wte\.weight' holds values that are not numbers"):
        gpt2.load(tmp_path / "model")


def test_nothing_is_replaced(folder: Path, plain: Path) -> None:
    with pytest.raises(InputError, match="is there already and stays as it is"):
        gpt2.convert(plain, folder, to="int8")


def test_without_a_compiler_torch_computes_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_: object) -> Sequence[object]:
        raise MissingExtra("there is no C++ compiler here")

    monkeypatch.setattr("gpt2.inference.kernels.decoder.load", missing)
    engine = open_engine(folder, console=Console())
    assert "no C++ compiler here; torch computes instead" in capsys.readouterr().err
    assert len(engine.run([Request([1, 2, 3], 4, stop_tokens=())])[0].ids) == 4
