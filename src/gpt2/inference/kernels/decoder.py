"""A packed model with room for several texts, on the library's arithmetic; no torch.

from gpt2.model.packed import open_packed
config, tensors = open_packed("folder")
decoder = Decoder(config, tensors, slots=2, room=256)
logits = decoder.run([0, 1], [[464, 2068], [40]])      # [2, V], after the last id of each
logits = decoder.run([1], [[716, 257]], every=True)    # [2, V], after each id
decoder.cut(1, 0)                                      # slot 1 is free again
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gpt2.errors import InputError
from gpt2.inference.kernels.build import load
from gpt2.model.config import GPT2Config
from gpt2.model.packed import FIRST, check_packed, kind_of, matrix_shapes, tiles_again

DRAFT_COSTS = {4: 0.3, 8: 0.15, 16: 0.15}
"""What a further row adds to a step, by bits of a weight, as `benchmarks/drafts.py` measures it with 124M."""


class Matrix(ctypes.Structure):
    """A packed matrix, as the library takes it."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("rows", ctypes.c_int32),
        ("columns", ctypes.c_int32),
        ("kind", ctypes.c_int32),
    )


class Layer(ctypes.Structure):
    """A block's norms and matrices."""

    _fields_ = (
        ("ln_1", ctypes.c_void_p),
        ("ln_2", ctypes.c_void_p),
        ("c_attn", Matrix),
        ("attn_c_proj", Matrix),
        ("c_fc", Matrix),
        ("mlp_c_proj", Matrix),
    )


class Shape(ctypes.Structure):
    """The network's shape, and room for texts."""

    _fields_ = (
        *(
            (name, ctypes.c_int32)
            for name in (
                "n_layer",
                "n_head",
                "n_embd",
                "vocab_size",
                "n_ctx",
                "slots",
                "room",
                "threads",
                "again",
            )
        ),
        ("epsilon", ctypes.c_float),
    )


def cores() -> int:
    """How many processor cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def close(library_close: Callable[[int], None], model: int, owner: int) -> None:
    """Free a model, unless this is a fork of the process that opened it: the threads are not here to join."""
    if os.getpid() == owner:
        library_close(model)


class Decoder:
    """Appends ids to texts in numbered slots and gives the logits of what comes next.

    `tensors` are a packed model's (`gpt2.model.packed`); they are used where they lie. Memory for keys and
    values, 4 x layers x channels bytes a token, is taken as texts grow and kept. Not for two threads at once.
    """

    chunk = 1
    """A text may be cut into calls anywhere, and no bit changes."""
    drafts = 63
    """With the token that they follow, the rows of a pass: more drafts take another."""

    def __init__(
        self,
        config: GPT2Config,
        tensors: Mapping[str, NDArray[np.generic]],
        slots: int = 1,
        room: int | None = None,
        threads: int | None = None,
        path: str | None = None,
        library: str | None = None,
    ) -> None:
        threads = threads or min(cores(), 8)
        if slots < 1 or threads < 1 or (room is not None and room < 1):
            raise InputError(f"slots ({slots}), room ({room}) and threads ({threads}) must be at least 1")
        check_packed(config, tensors)
        self.config, self.slots, self.room = config, slots, min(room or config.n_ctx, config.n_ctx)
        self.draft_cost = DRAFT_COSTS[kind_of(tensors["h.0.attn.c_attn"].shape[1], config.n_embd)]
        self.lengths = np.zeros(slots, np.int32)
        self._tensors, self._library = dict(tensors), load(path, library)
        shapes = matrix_shapes(config, first=True)

        def matrix(name: str) -> Matrix:
            rows, columns = shapes[name]
            return Matrix(tensors[name].ctypes.data, rows, columns, kind_of(tensors[name].shape[1], columns))

        layers = (Layer * config.n_layer)(
            *(
                Layer(
                    tensors[f"h.{i}.ln_1"].ctypes.data,
                    tensors[f"h.{i}.ln_2"].ctypes.data,
                    *(matrix(f"h.{i}.{n}") for n in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")),
                )
                for i in range(config.n_layer)
            )
        )
        c = config
        shape = Shape(
            *(
                c.n_layer,
                c.n_head,
                c.n_embd,
                c.vocab_size,
                c.n_ctx,
                slots,
                self.room,
                threads,
                tiles_again(c.vocab_size),
                c.layer_norm_epsilon,
            )
        )
        heads = (Matrix * 2)(matrix("wte"), *([matrix(FIRST)] if FIRST in tensors else []))
        self._model = self._library["open"](
            ctypes.byref(shape),
            layers,
            heads,
            tensors["wpe"].ctypes.data,
            tensors["ln_f"].ctypes.data,
        )
        if not self._model:
            raise MemoryError(
                f"no memory for {slots} texts of {self.room} tokens and {threads} threads; take fewer of them"
            )
        # Not at exit, when a daemon thread may be within a step; the system then takes the memory back.
        weakref.finalize(self, close, self._library["close"], self._model, os.getpid()).atexit = False

    def run(
        self, slots: Sequence[int], ids: Sequence[Sequence[int]], every: bool = False
    ) -> NDArray[np.float32]:
        """Append ids[i] to the text in slots[i]; logits [n, V] after the last id of each text.

        With `every`, logits [sum of lengths, V] after each id. `InputError` where anything does not fit.
        """
        if len(slots) != len(ids) or not len(slots) or len(set(slots)) != len(slots):
            raise InputError(f"{len(slots)} slots, all different, need as many lists of ids, not {len(ids)}")
        places, lengths = np.array(slots, np.int64), np.array([len(i) for i in ids], np.int64)
        flat = np.array([i for text in ids for i in text], np.int64)
        if places.min() < 0 or places.max() >= self.slots:
            raise InputError(f"slots are numbered 0 to {self.slots - 1}, not {list(slots)}")
        if lengths.min() < 1 or flat.min() < 0 or flat.max() >= self.config.vocab_size:
            raise InputError(
                f"each text needs at least one id, and ids are 0 to {self.config.vocab_size - 1}"
            )
        starts = self.lengths[places]
        if (starts + lengths).max() > self.room:
            raise InputError(
                f"a text of {(starts + lengths).max()} tokens does not fit: there is room for {self.room}"
            )
        places32, lengths32, flat32 = (a.astype(np.int32) for a in (places, lengths, flat))
        logits = np.empty((len(flat) if every else len(slots), self.config.vocab_size), np.float32)
        done = self._library["step"](
            self._model,
            len(slots),
            *(a.ctypes.data for a in (places32, lengths32, starts, flat32)),
            every,
            logits.ctypes.data,
        )
        if not done:
            raise MemoryError(f"no memory to read {len(flat)} ids in one call; give fewer at a time")
        self.lengths[places] += lengths32
        return logits

    def cut(self, slot: int, length: int) -> None:
        """Forget all but the first `length` tokens of a slot's text; 0 frees it."""
        if not 0 <= slot < self.slots or not 0 <= length <= self.lengths[slot]:
            raise InputError(f"slot {slot} of {self.slots} cannot be cut to {length} tokens")
        self.lengths[slot] = length

    def copy(self, source: int, target: int) -> None:
        """Put a second copy of the text in `source` into `target`, whatever was there."""
        if not (0 <= source < self.slots and 0 <= target < self.slots):
            raise InputError(f"slots are numbered 0 to {self.slots - 1}, not {source} and {target}")
        if source != target:
            self._library["copy"](self._model, source, target, int(self.lengths[source]))
        self.lengths[target] = self.lengths[source]
