"""Models in low-bit weights for the fast engine, opened without importing torch.

torch alone takes two seconds and 220 MB to import; numpy, ctypes, the weights as they lie in their file and
the tokenizer are all that generating needs. So nothing here, nor what it imports, may import torch, but
where a model is quantised for the first time (a test looks).

`open_native` takes a folder made by `gpt2 convert MODEL FOLDER --to int8` (or int4, bfloat16) as it is. Of any
other model it keeps a quantised copy in the user's cache folder, under the model's place and the scheme, and
says so; when a file of the model has changed since, or the copy is damaged, it is made
anew, by one process at a time. The cache may be deleted at any time. Rejected: a copy beside the model, in a
folder that may be shared, read-only or backed up.

    model = open_native("small")
    gpt2.generate(model, ["The meaning of life"])
    engine = model.engine(slots=16)

Without a C++ compiler `runner` raises `MissingExtra`; `gpt2 generate` then computes with torch, in
float32 from the same rounded weights (of int4, all logits by the head in 8 bits), and says so.
"""

from __future__ import annotations

import dataclasses
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gpt2.console import QUIET, Console
from gpt2.errors import ConfigError, InputError, WorkbenchError
from gpt2.inference.engine import Engine
from gpt2.inference.kernels import Decoder
from gpt2.inference.kernels.build import cache_folders
from gpt2.model.config import GPT2Config
from gpt2.model.formats import SCHEMES, vocabulary_of
from gpt2.model.packed import FIRST, Tensors, is_packed, open_packed, tiles_again
from gpt2.tokens.bpe import Tokenizer
from gpt2.workspace import Json, digest, read_json, recover_folder, remove


@dataclass
class NativeModel:
    """A model in packed weights, with its tokenizer."""

    config: GPT2Config
    tensors: Tensors
    """As `gpt2.model.packed` lays them out; runners use them where they are."""
    tokenizer: Tokenizer
    scheme: str
    """int8, int4 or bfloat16."""
    folder: Path
    """Where the packed weights are."""
    threads: int | None = None
    """Processor threads; as many as there are cores, up to 8, when not given."""

    @property
    def bytes_a_token(self) -> int:
        """What a step of one text reads: all weights but the position embeddings, of two heads what is needed."""
        total = sum(tensor.nbytes for name, tensor in self.tensors.items() if name != "wpe")
        if FIRST in self.tensors:
            head = self.tensors["wte"]
            total -= head.nbytes - tiles_again(self.config.vocab_size) * head.nbytes // len(head)
        return total

    def runner(self, slots: int = 1, room: int | None = None) -> Decoder:
        """The kernels on these weights, with room for so many texts; `MissingExtra` where none can be built."""
        return Decoder(self.config, self.tensors, slots, room, self.threads)

    def engine(self, slots: int = 1, room: int | None = None, drafts: bool = True) -> Engine:
        """A scheduler over a runner."""
        return Engine(self.runner(slots, room), self.tokenizer, drafts)


def open_native(
    model: str | Path, scheme: str | None = None, threads: int | None = None, console: Console = QUIET
) -> NativeModel:
    """Open a model for the fast engine: packed as it is, any other as a copy in `scheme` (int8 if not given).

    Raises `ConfigError` when a packed model is of another scheme, otherwise what `gpt2.load` raises.
    """
    if scheme is not None and scheme not in SCHEMES:
        raise ConfigError(f"there is no scheme {scheme!r}; choose {', '.join(SCHEMES)}")
    path = Path(model)
    recover_folder(path)
    native = opened(path) if is_packed(path) else quantised(model, scheme or "int8", console)
    if scheme not in (None, native.scheme):
        raise ConfigError(
            f"{path} holds {native.scheme} weights; for {scheme} give the model that it was made from"
        )
    native.threads = threads
    return native


def opened(folder: Path) -> NativeModel:
    """The packed model in a folder."""
    config, tensors = open_packed(folder)
    scheme = str(read_json(folder / "config.json").get("scheme"))
    return NativeModel(config, tensors, vocabulary_of(folder, config), scheme, folder)


def quantised(model: str | Path, scheme: str, console: Console = QUIET) -> NativeModel:
    """A model's quantised copy in the cache, made now if it is not there, out of date or damaged."""
    path = Path(model)
    if not path.exists():
        from gpt2.model.formats import located

        path = located(model)
    path = path.resolve()
    copy = cache_folders()[0] / "models" / f"{path.name}-{digest(str(path))}-{scheme}"
    stamp = {"path": str(path), "files": files(path)}
    if kept := opened_copy(copy, stamp):
        return kept
    with locked(copy):
        recover_folder(copy)
        if kept := opened_copy(copy, stamp):  # another process has made it meanwhile
            return kept
        from gpt2.model.formats import open_source, packed

        source = open_source(path)
        console.say(f"{path} is quantised to {scheme} once; the copy is kept in {copy} and may be deleted")
        if copy.is_dir() and not (copy / "card.json").exists():
            remove(copy)
        packed.write(copy, dataclasses.replace(source, card=source.card | {"made_from": stamp}), scheme)
        return opened(copy)


def opened_copy(copy: Path, stamp: Json) -> NativeModel | None:
    """The model in a folder of the cache, if it is a whole copy of what `stamp` describes."""
    try:
        card = read_json(copy / "card.json")
        return opened(copy) if isinstance(card, dict) and card.get("made_from") == stamp else None
    except WorkbenchError:
        return None


@contextmanager
def locked(copy: Path) -> Iterator[None]:
    """Alone, of all processes, at the making of a copy; waits for another one."""
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        lock = copy.with_name(f".{copy.name}.lock").open("w")
    except OSError as error:
        raise InputError(
            f"no copy can be kept in {copy.parent}: {error.strerror}; set XDG_CACHE_HOME to a folder of yours"
        ) from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def files(path: Path) -> Json:
    """Size and time of change of a model's file, or of the files in its folder and where a run keeps a model."""
    if path.is_file():
        found = [path]
    else:
        folders = (path, path / "checkpoint", path / "model")
        found = [file for folder in folders if folder.is_dir() for file in folder.iterdir() if file.is_file()]
    if not found:
        raise InputError(f"there is no model in {path}; give the folder or file of one")
    stats = [(str(file.relative_to(path.parent)), file.stat()) for file in sorted(found)]
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats}
