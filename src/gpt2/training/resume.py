"""The state of a training run on disk: whole at every moment, and the one before it too.

    RUN/
      train.json           what was asked for and what was derived from it: the step count above all
      metrics.jsonl        one line a logged step
      checkpoint/          the last saved state; a whole model folder (card, tokenizer, weights), and
        optimizer.safetensors, generators.safetensors
        average/           with --ema, the averaged weights, a model folder too
        state.json         step, spikes, best loss, what it was computed with, checksums of the files above
      previous/            the checkpoint before that one, taken when the last is damaged (then in damaged/)
      best/, kept/step-N/  models without the rest, for --keep-best and --keep-every

Batches and learning rate are functions of the step, so the data's position is the step and the number of
batches passed over. A state is first copied into memory (12 bytes a weight, 16 with --ema: 1.5 GB for 124M;
taken once and used again, for the first touch of fresh memory takes longer than the copy) and then written by
a thread while training goes on; the folder appears by renaming. Files of `previous` and of kept models are
hard links, which cost nothing until the checkpoint moves on.

Of several processes the first writes, after the parts of weights and optimizer were put together tensor by
tensor: any number of processes goes on from it, and it is a model at once. Tried and rejected:
torch.distributed.checkpoint with HuggingFaceStorageWriter (torch 2.13), in which each process writes its own
shards. They can be resharded too, but are no model before everything is written a second time, the processes
agree on them by pickles, and no single rename makes them whole. On one machine the memory is the same.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gpt2.console import Console
from gpt2.errors import FormatError, InputError, WorkbenchError, sentence
from gpt2.model.checkpoint import Model, check_tensors, opened, read_card
from gpt2.model.config import GPT2Config
from gpt2.model.device import Compute
from gpt2.model.formats import finite
from gpt2.tokens.bpe import Tokenizer
from gpt2.training.average import Average
from gpt2.training.method import PLAIN, Method
from gpt2.training.optimizer import fresh
from gpt2.training.parallel import Crew, generators, processor, set_generators
from gpt2.training.spikes import WINDOW, Spikes
from gpt2.training.step import Learner
from gpt2.workspace import Json, atomic_folder, file_digest, read_json, recover_folder, write_json

CHECKPOINT, PREVIOUS, DAMAGED, STATE = "checkpoint", "previous", "damaged", "state.json"
NOT_KEPT = ("optimizer.safetensors", "generators.safetensors", STATE)


@dataclass
class Progress:
    """Where a run stands, besides its tensors."""

    step: int = 0
    """Steps done."""
    passed_over: int = 0
    """Batches that were passed over for good, by going back."""
    skipped: int = 0
    """Batches skipped in a row just now."""
    returns: int = 0
    """How often the run went back."""
    best: float | None = None
    """Lowest held-out loss."""
    stale: int = 0
    """Looks since then."""
    heldout: float | None = None
    """The last held-out loss."""
    spikes: Spikes = field(default_factory=Spikes)


@dataclass(frozen=True)
class Snapshot:
    """A run's state, copied to where training does not change it."""

    progress: Json
    config: GPT2Config
    tokenizer: Tokenizer
    card: Json
    tensors: dict[str, dict[str, Tensor]]
    made_with: Json
    method: Method = PLAIN

    def write(self, folder: Path) -> None:
        """Put it into an existing folder, the state with all checksums last."""
        models = {".": "weights", "average": "average"}
        for where, name in models.items():
            if name in self.tensors:
                (folder / where).mkdir(exist_ok=True)
                kept = self.tensors[name]
                self.method.write(folder / where, self.config, kept, self.tokenizer, self.card)
        for name in ("optimizer", "generators"):
            save_file(self.tensors[name], folder / f"{name}.safetensors")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        sums = {str(path.relative_to(folder)): file_digest(path) for path in files}
        write_json(folder / STATE, {**self.progress, "made_with": self.made_with, "files": sums})


def snapshot(
    progress: Progress,
    model: Model,
    learner: Learner,
    average: Average | None,
    compute: Compute,
    room: dict[str, Tensor] | None = None,
) -> Snapshot:
    """Copy a run's state; all processes call it, and what it returns has tensors in the first alone.

    The copies are in `room`, for the next one to be made in the same memory, which is quicker.
    """
    room = {} if room is None else room
    crew, optimizer, named = learner.crew, learner.optimizer, learner.method.kept(learner.net)

    def copied(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        whole = {}
        for name, tensor in tensors.items():
            values = crew.whole(tensor.detach())
            if crew.first:
                key = f"{part}/{name}"
                if key not in room:
                    room[key] = torch.empty_like(values, device="cpu")
                whole[name] = room[key].copy_(values)
        return whole

    states = flat({n: optimizer.state[p] or fresh(optimizer, p) for n, p in named.items()})
    tensors = {"weights": copied("weights", named), "optimizer": copied("optimizer", states)}
    tensors["generators"] = generators(compute.device)
    if average:
        tensors["average"] = copied("average", average.weights)
    p = progress
    state: Json = {
        "step": p.step,
        "passed_over": p.passed_over,
        "skipped": p.skipped,
        "returns": p.returns,
        "best": p.best,
        "stale": p.stale,
        "losses": list(p.spikes.losses),
        "norms": list(p.spikes.norms),
    }
    made_with = surroundings(compute, crew, learner.accumulate)
    config, card = learner.net.config, dict(model.card)
    return Snapshot(state, config, model.tokenizer, card, tensors, made_with, learner.method)


def surroundings(compute: Compute, crew: Crew, accumulate: int) -> Json:
    """All that decides how sums are rounded: with the same, a resumed run is the undisturbed one to the bit."""
    return {
        "device": compute.device,
        "processor": processor(compute.device),
        "threads": compute.threads,
        "dtype": compute.dtype,
        "torch": str(torch.__version__),
        "processes": crew.size,
        "parallel": crew.way or "none",
        "accumulate": accumulate,
    }


class Saver:
    """Writes checkpoints of one run behind its back, one at a time."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self.room: dict[str, Tensor] = {}
        """Where the state that is being written was copied to."""
        self._begun = 0
        self.done = 0
        """Step of the last checkpoint that is whole; 0 for none."""

    @property
    def busy(self) -> bool:
        """Whether a state is being written."""
        return self._thread is not None and self._thread.is_alive()

    def save(self, state: Snapshot, keep: Sequence[str] = ()) -> None:
        """Begin to write a state, and to link it as a model under each name of `keep`."""
        self.wait()
        self._begun = state.progress["step"]
        self._thread = threading.Thread(target=self._write, args=(state, keep), name="checkpoint")
        self._thread.start()

    def check(self) -> None:
        """Raise what went wrong in a write that has ended, in one sentence."""
        if self._failure is None or self.busy:
            return
        failure, self._failure = self._failure, None
        said = sentence(failure)
        if said is None:
            raise failure
        intact = f"that of step {self.done:,} is whole" if self.done else "there is none before it"
        raise WorkbenchError(
            f"the checkpoint of step {self._begun:,} could not be written ({said}); {intact}: "
            "mend that and go on with --resume"
        ) from failure

    def wait(self) -> None:
        """Wait until nothing is being written; raises as `check` does."""
        self.join()
        self.check()

    def join(self) -> None:
        """Wait until nothing is being written."""
        if self._thread is not None:
            self._thread.join()

    def _write(self, state: Snapshot, keep: Sequence[str]) -> None:
        try:
            checkpoint = self.run / CHECKPOINT
            if (checkpoint / STATE).exists():
                link(checkpoint, self.run / PREVIOUS, STATE)
            with atomic_folder(checkpoint, STATE) as folder:
                state.write(folder)
            for name in keep:
                link(checkpoint, self.run / name, "card.json", leave_out=NOT_KEPT)
            self.done = self._begun
        except BaseException as error:  # told by `check`, in the thread that trains
            self._failure = error


def link(source: Path, target: Path, mark: str, leave_out: Sequence[str] = ()) -> None:
    """Make `target` a folder of the files of `source`, by hard links where the disk has them."""

    def same(a: str, b: str) -> None:
        try:
            os.link(a, b)
        except OSError:
            shutil.copy2(a, b)

    with atomic_folder(target, mark) as folder:
        ignored = shutil.ignore_patterns(*leave_out)
        shutil.copytree(source, folder, copy_function=same, ignore=ignored, dirs_exist_ok=True)


def recover(run: Path, console: Console) -> bool:
    """Whether a run has a checkpoint; one that is damaged is set aside in `damaged` for the one before it.

    Raises `FormatError` when it is damaged and there is none before it that is whole.
    """
    checkpoint, previous = run / CHECKPOINT, run / PREVIOUS
    recover_folder(checkpoint)
    recover_folder(previous)
    if checkpoint.exists():
        try:
            read_state(checkpoint)
            return True
        except InputError as error:
            if not previous.exists():
                raise FormatError(f"{error}; delete {checkpoint} to start anew") from None
            console.say(f"{error}; going on from {previous}, step {read_state(previous)['step']:,}")
            shutil.rmtree(run / DAMAGED, ignore_errors=True)
            checkpoint.replace(run / DAMAGED)
    if previous.exists():
        read_state(previous)
        previous.replace(checkpoint)
    return checkpoint.exists()


def read_state(folder: Path) -> Json:
    """A checkpoint's state; `FormatError` when that or a file it names is damaged."""
    path = folder / STATE
    state = read_json(path)
    if not isinstance(state, dict) or type(state.get("step")) is not int or state["step"] < 1:
        raise FormatError(f"{path} names no step")
    sums = state.get("files")
    if not isinstance(sums, dict) or not isinstance(state.get("made_with"), dict):
        raise FormatError(f"{path} lacks checksums of its files")
    for name, expected in sums.items():
        if not (folder / name).is_file() or file_digest(folder / name) != expected:
            raise FormatError(f"{folder / name} is damaged or missing")
    return state


def restore(run: Path, state: Json, model: Model, learner: Learner, average: Average | None) -> Progress:
    """Put a run's checkpoint into what is being trained; each process takes its own part."""
    folder, crew, method = run / CHECKPOINT, learner.crew, learner.method
    named = method.kept(learner.net)
    states = {name: fresh(learner.optimizer, p) for name, p in named.items()}
    read(folder / method.file, dict(named), crew.put)
    read(folder / "optimizer.safetensors", flat(states), crew.put)
    for name, p in named.items():
        learner.optimizer.state[p] = states[name]
    if average:
        read(folder / "average" / method.file, average.weights, crew.put)
    set_generators(load_file(folder / "generators.safetensors"), learner.device)
    model.card = read_card(folder / "card.json")
    spikes = Spikes(deque(state["losses"], WINDOW), deque(state["norms"], WINDOW))
    numbers = {name: state[name] for name in ("step", "passed_over", "skipped", "returns", "best")}
    return Progress(**numbers, stale=state.get("stale", 0), spikes=spikes)


def read(path: Path, tensors: dict[str, Tensor], put: Callable[[Tensor, Tensor], None]) -> None:
    """Fill tensors from a file that must hold exactly these names, in these shapes, one at a time."""
    with opened(path) as file:
        check_tensors(file, path, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
        for name, tensor in tensors.items():
            put(tensor, finite(file.get_tensor(name), name, path))


def flat(states: dict[str, Any]) -> dict[str, Tensor]:
    """The optimizer's tensors of each weight, under names such as `wte.weight/exp_avg`."""
    return {f"{name}/{key}": value for name, state in states.items() for key, value in state.items()}


def differences(before: Json, now: Json) -> str | None:
    """In what a run goes on otherwise than it was saved, in one line; None when to the bit as if never stopped."""
    changed = [
        f"{name} {now[name]} in place of {before.get(name)}" for name in now if now[name] != before.get(name)
    ]
    if not changed:
        return None
    return f"with {', '.join(changed)} the run will not be, bit for bit, the one that was never stopped"
