"""The readable runner: keys and values in torch, layer by layer, on any device torch has.

Keys and values of all slots are allocated once, [slots, H, room, D] a layer, and written in place (the system
gives memory as they fill). Tokens of all texts lie side by side as rows, each with its own position, so there
is no padding to see and ragged texts cost what they hold.

How a slot's result is kept free of its neighbours:

- a piece of a text of more than `ALONE` tokens is read by itself, cut at multiples of `CHUNK`;
- shorter pieces (a decode step, a draft) are read together, but each row attends by itself, over as many
  keys as its text has;
- matrix products run over a multiple of eight rows. For products of that kind MKL and oneDNN were seen to
  sum each row in one order, whatever the number of rows, but promise nothing; so products are tried once for
  each shape of network, and where the number does matter they are done eight rows at a time.

So the bits are the same alone and in company, for drafts and without: on one processor, with one number of
threads. On CUDA neighbours may change the rounding (cuBLAS chooses by the number of rows), and drafts are not
checked there. Rejected: one attention over padded texts, whose sums depend on the longest neighbour; eight
rows at a time everywhere, which reads the head eight times for 64 texts.

Shapes in comments: n rows, C channels, H heads, D channels of a head, S tokens seen, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt2.errors import InputError
from gpt2.inference.prefill import Layer, PackedGPT2, attend
from gpt2.inference.runner import Logits
from gpt2.model.device import PLAIN, Compute
from gpt2.model.transformer import GPT2

CHUNK = 64
ALONE = 8
"""Pieces of more tokens are read by themselves; also the rows of the smallest product."""


class Piece(NamedTuple):
    """Tokens of one text that are read in one pass."""

    slot: int
    begin: int
    ids: Sequence[int]
    call: int
    """Which text of the call it is."""


class TorchRunner:
    """A `Runner` of a network of ours; weights are packed once a network (`PackedGPT2.of`)."""

    chunk = CHUNK

    def __init__(
        self, net: GPT2, slots: int = 1, room: int | None = None, compute: Compute | None = None
    ) -> None:
        self.packed = PackedGPT2.of(net, compute or PLAIN)
        self.config, self.slots = net.config, slots
        self.room = min(room or net.config.n_ctx, net.config.n_ctx)
        self.device, self.dtype = self.packed.device, self.packed.dtype
        c = net.config
        shape = (slots, c.n_head, self.room, c.n_embd // c.n_head)
        self.keys, self.values = (
            [torch.empty(shape, dtype=self.dtype, device=self.device) for _ in range(c.n_layer)]
            for _ in range(2)
        )
        self.lengths = [0] * slots
        self.draft_cost = 0.02  # as many rows are computed in any case
        self.drafts = ALONE - 1 if self.device.type == "cpu" else 0
        self.at_once = ALONE
        if self.device.type != "cpu" or alike_in_any_number(self.packed):
            self.at_once = 1 << 30
        lower = self.dtype != torch.float32
        self.common = self.packed.wte.mean(dim=0) if lower else None  # what the packed head left out

    @torch.inference_mode()
    def run(self, slots: Sequence[int], ids: Sequence[Sequence[int]], every: bool = False) -> Logits:
        """Append `ids[i]` to what `slots[i]` holds; see `Runner.run`. `InputError` when there is no room."""
        for slot, new in zip(slots, ids, strict=True):
            if not new or self.lengths[slot] + len(new) > self.room:
                raise InputError(
                    f"slot {slot} holds {self.lengths[slot]} tokens and cannot take {len(new)} more: "
                    f"its room is {self.room}"
                )
        together: list[Piece] = []
        parts: list[list[Tensor]] = [[] for _ in slots]
        for i, (slot, new) in enumerate(zip(slots, ids, strict=True)):
            cut = pieces(slot, self.lengths[slot], new, i)
            first_short = 1 + max((k for k, piece in enumerate(cut) if len(piece.ids) > ALONE), default=-1)
            parts[i] += [self.hidden([piece]) for piece in cut[:first_short]]
            together += cut[first_short:]
            self.lengths[slot] += len(new)
        if together:
            lengths = [len(piece.ids) for piece in together]
            for piece, hidden in zip(together, torch.split(self.hidden(together), lengths), strict=True):
                parts[piece.call].append(hidden)
        wanted = torch.cat([h if every else h[-1:] for part in parts for h in (part if every else part[-1:])])
        return self.logits(wanted).float().cpu().numpy()

    def hidden(self, some: Sequence[Piece]) -> Tensor:
        """The final layer norm's output for each token of some pieces [n, C]; fills keys and values."""
        ids = [token for piece in some for token in piece.ids]
        positions = [piece.begin + i for piece in some for i in range(len(piece.ids))]
        slots = torch.tensor([piece.slot for piece in some for _ in piece.ids], device=self.device)
        at = torch.tensor(positions, device=self.device)
        x = self.packed.wte[torch.tensor(ids, device=self.device)] + self.packed.wpe[at]  # [n, C]
        n, C, H = len(ids), self.config.n_embd, self.config.n_head
        x = F.pad(x, (0, 0, 0, -n % ALONE))
        y = x.new_zeros(x.shape, dtype=self.dtype)
        for layer, (ln_1, c_attn, attn_proj, ln_2, c_fc, mlp_proj) in enumerate(self.packed.blocks):
            q, k, v = self.product(c_attn, ln_1(x))[:n].view(n, 3, H, C // H).unbind(1)  # [n, H, D]
            self.keys[layer][slots, :, at], self.values[layer][slots, :, at] = k, v
            self.attention(layer, q, some, y.view(-1, H, C // H))
            x += self.product(attn_proj, y)
            x += self.product(mlp_proj, self.product(c_fc, ln_2(x)))
        return self.packed.ln_f(x)[:n]

    def attention(self, layer: int, q: Tensor, some: Sequence[Piece], y: Tensor) -> None:
        """q [n, H, D] -> y [n, H, D]: a long piece at once, of short ones each row by itself."""
        row = 0
        for slot, begin, ids, _ in some:
            step = len(ids) if len(ids) > ALONE else 1
            for seen in range(begin + step, begin + len(ids) + 1, step):
                k, v = self.keys[layer][slot, :, :seen], self.values[layer][slot, :, :seen]  # [H, S, D]
                own = q[row : row + step].transpose(0, 1)  # [H, step, D]
                y[row : row + step] = attend(own[None], k[None], v[None])[0].transpose(0, 1)
                row += step

    def product(self, layer: Layer, x: Tensor) -> Tensor:
        """[n, in] -> [n, out], n a multiple of eight, in rows that do not depend on n."""
        x = x.to(self.dtype)
        if len(x) <= self.at_once:
            return layer(x)
        return torch.cat([layer(some) for some in torch.split(x, self.at_once)])

    def logits(self, hidden: Tensor) -> Tensor:
        """[n, C] -> [n, V]."""
        n = len(hidden)
        logits = self.product(self.packed.head, F.pad(hidden, (0, 0, 0, -n % ALONE)))[:n]
        if self.common is not None:
            logits = logits.float() + (hidden.float() * self.common).sum(dim=-1, keepdim=True)
        return logits

    def cut(self, slot: int, length: int) -> None:
        """Forget all but the first tokens of a slot."""
        self.lengths[slot] = min(self.lengths[slot], length)

    def copy(self, source: int, target: int) -> None:
        """Let `target` hold what `source` holds."""
        n = self.lengths[source]
        for buffer in (*self.keys, *self.values):
            buffer[target, :, :n] = buffer[source, :, :n]
        self.lengths[target] = n


def pieces(slot: int, begin: int, ids: Sequence[int], call: int) -> list[Piece]:
    """A text's new tokens, cut at multiples of `CHUNK` of the whole text."""
    cuts = [0, *range(CHUNK - begin % CHUNK, len(ids), CHUNK), len(ids)]
    return [Piece(slot, begin + a, ids[a:b], call) for a, b in pairwise(cuts)]


TRIED: dict[tuple[object, ...], bool] = {}
"""Whether the number of rows is nothing to a product, by the shape of the network, format and threads."""


def alike_in_any_number(packed: PackedGPT2) -> bool:
    """Whether eight rows come out of the network's products alike, alone and among 64; tried once a shape."""
    C, threads = packed.config.n_embd, torch.get_num_threads()
    shape = (C, packed.config.vocab_size, packed.dtype, threads)
    if shape not in TRIED:
        _, c_attn, attn_proj, _, c_fc, mlp_proj = packed.blocks[0]
        layers = [(c_attn, C), (attn_proj, C), (c_fc, C), (mlp_proj, 4 * C), (packed.head, C)]
        TRIED[shape] = all(alike(layer, width, packed.dtype) for layer, width in layers)
    return TRIED[shape]


def alike(layer: Layer, width: int, dtype: torch.dtype) -> bool:
    """The same for one product of rows of some width."""
    x = torch.randn(64, width, generator=torch.Generator().manual_seed(0)).to(dtype)
    among = layer(x)
    parts = ((0, 8), (24, 32), (0, 32), (8, 64))
    return all(torch.equal(layer(x[begin:end]), among[begin:end]) for begin, end in parts)
