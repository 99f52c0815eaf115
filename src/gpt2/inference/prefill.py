"""Reading many tokens at once, at the speed of the matrix products: what scoring does all the time.

`PackedGPT2` is the fast twin of `GPT2.hidden`; tests hold the two equal. What makes it fast on a processor:
weights are packed once into the blocks that oneDNN multiplies (`F.linear` does so at each call, and the head
suffers most), with GELU done while a product is still in the cache. Tokens of all texts lie side by side in
one flat row, so there is no padding. And texts that begin alike share that beginning: `lay_out` gives each
distinct beginning one place, read once, and each token the places of its own past.

Shapes in comments: N places of a layout, n tokens of one text that no text before it shares, S places that
they can see, C channels, H heads, D channels of a head, V vocabulary.

Rejected: `torch.compile`, which compiles for each shape before it reads anything, and needs a compiler; one
attention over all texts with a mask, which multiplies what the mask then throws away.

    python benchmarks/score.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from gpt2.model.device import DTYPES, Compute
from gpt2.model.transformer import GPT2, Block

Ids = NDArray[np.int64]
Layer = Callable[[Tensor], Tensor]

ROWS = 128
"""Queries that `attend` takes at a time."""


@dataclass(frozen=True)
class Layout:
    """Token sequences laid out in one row, each distinct beginning once."""

    ids: Ids
    """Token ids [N]."""
    positions: Ids
    """How many tokens stand before each [N]."""
    places: list[Ids]
    """For each sequence, where its tokens lie [length]."""
    shared: list[int]
    """For each sequence, how many of its first tokens were laid out with a sequence before it."""


def lay_out(sequences: Sequence[Ids]) -> Layout:
    """Lay sequences out in the order given; each shares what it has in common with the one before it.

    In the order of their ids (`in_order`) that is all there is to share.
    """
    ids, positions, places, shared = [], [], [], []
    n, last = 0, np.empty(0, np.int64)
    at = last
    for sequence in sequences:
        common = common_length(last, sequence)
        new = len(sequence) - common
        ids.append(sequence[common:])
        positions.append(np.arange(common, len(sequence)))
        at = np.concatenate([at[:common], np.arange(n, n + new)])
        places.append(at)
        shared.append(common)
        n, last = n + new, sequence
    return Layout(np.concatenate(ids), np.concatenate(positions), places, shared)


def in_order(sequences: Sequence[Ids]) -> list[int]:
    """Indices that put sequences in the order of their ids, so that like beginnings are neighbours."""
    return sorted(range(len(sequences)), key=lambda i: sequences[i].astype(">u4").tobytes())


def common_length(a: Ids, b: Ids) -> int:
    """Tokens that two sequences begin with alike."""
    n = min(len(a), len(b))
    differ = np.flatnonzero(a[:n] != b[:n])
    return int(differ[0]) if len(differ) else n


class PackedGPT2:
    """A network made ready for reading. It holds its own copy of the matrices unless `pack` is off.

    Matrix products and attention are in the format of `compute`; residual sums and layer norms in that of the
    network's weights, which is float32 unless somebody changed it.
    """

    def __init__(self, net: GPT2, compute: Compute, pack: bool = True) -> None:
        self.config = net.config
        self.dtype = DTYPES[compute.dtype]
        self.device = net.wte.weight.device
        can = pack and self.device.type == "cpu" and torch._C._has_mkldnn
        make, dtype = packed if can else plain, self.dtype

        def layer(linear: nn.Linear, gelu: bool = False) -> Layer:
            return make(linear.weight.detach().to(dtype), linear.bias.detach().to(dtype), gelu)

        def norm(ln: nn.LayerNorm) -> Layer:
            weight, bias, epsilon = ln.weight.detach().clone(), ln.bias.detach().clone(), ln.eps
            return lambda x: F.layer_norm(x, weight.shape, weight, bias, epsilon)

        self.blocks = [
            (
                norm(b.ln_1),
                layer(b.attn.c_attn),
                layer(b.attn.c_proj),
                norm(b.ln_2),
                layer(b.mlp.c_fc, gelu=True),
                layer(b.mlp.c_proj),
            )
            for b in cast(list[Block], net.h)
        ]
        self.ln_f = norm(net.ln_f)
        self.wte, self.wpe = net.wte.weight.detach(), net.wpe.weight.detach()
        # A bfloat16 near -40, where OpenAI's weights have their logits, is 0.25 wide. Without what the tokens'
        # embeddings have in common all logits of a place shift alike, and no probability changes.
        head = self.wte if dtype == torch.float32 else self.wte - self.wte.mean(dim=0)
        self.head = make(head.to(dtype), None, False)

    @classmethod
    def of(cls, net: GPT2, compute: Compute) -> PackedGPT2:
        """The packed network, made once for as long as the weights stay as they are.

        What changes them through `.data`, behind torch's count of changes, is seen by a few numbers of each.
        """
        try:
            stamp = (
                compute.dtype,
                *(
                    (p.data_ptr(), p._version, *p.detach().flatten()[:: 1 + p.numel() // 8].tolist())
                    for p in net.parameters()
                ),
                *(m.eps for m in net.modules() if isinstance(m, nn.LayerNorm)),
            )
        except RuntimeError:  # weights made in inference mode do not count their changes
            return cls(net, compute)
        kept = PACKED.get(net)
        if kept is None or kept[0] != stamp:
            PACKED.pop(net, None)  # before the new one takes memory
            PACKED[net] = kept = (stamp, cls(net, compute))
        return kept[1]

    def hidden(self, layout: Layout, wanted: Ids | None = None) -> Tensor:
        """The final layer norm's output at each place, [N, C]; with `wanted`, only at those places [n, C].

        A place that is not wanted gives the last block no more than keys and values.
        """
        x = self.wte[torch.from_numpy(layout.ids).to(self.device)]
        x += self.wpe[torch.from_numpy(layout.positions).to(self.device)]  # [N, C]
        for ln_1, c_attn, attn_proj, ln_2, c_fc, mlp_proj in self.blocks:
            last = wanted is not None and c_attn is self.blocks[-1][1]
            y = self.attention(c_attn(ln_1(x).to(self.dtype)), layout, wanted if last else None)
            if last:
                rows = torch.from_numpy(wanted).to(self.device)
                x, y = x[rows], y[rows]  # [n, C]
            x += attn_proj(y)
            x += mlp_proj(c_fc(ln_2(x).to(self.dtype)))
        return self.ln_f(x)

    def attention(self, qkv: Tensor, layout: Layout, wanted: Ids | None) -> Tensor:
        """[N, 3C] -> [N, C]: each sequence's own tokens look at all of its places up to themselves.

        With `wanted`, rows at other places may hold anything.
        """
        C, H = self.config.n_embd, self.config.n_head
        y = qkv.new_empty(len(qkv), C)
        for places, shared in zip(layout.places, layout.shared, strict=True):
            if len(places) == shared:
                continue
            begin, end = int(places[shared]), int(places[-1]) + 1
            seen = qkv[torch.from_numpy(places).to(qkv.device)] if shared else qkv[begin:end]  # [S, 3C]
            if wanted is not None:
                first = int(np.searchsorted(wanted, begin))
                begin = int(wanted[first]) if first < len(wanted) else end
            if begin < end:
                q = qkv[begin:end, :C].view(1, -1, H, C // H).transpose(1, 2)  # [1, H, n, D]
                k, v = seen[:, C:].view(1, -1, 2, H, C // H).permute(2, 0, 3, 1, 4)  # [1, H, S, D]
                y[begin:end] = attend(q, k, v).transpose(1, 2).reshape(-1, C)
        return y

    def logits(self, hidden: Tensor) -> Tensor:
        """[n, C] -> [n, V], in a format below float32 up to a number common to all of a row."""
        return self.head(hidden.to(self.dtype))


PACKED: WeakKeyDictionary[GPT2, tuple[object, PackedGPT2]] = WeakKeyDictionary()
"""Packed networks and the state of the weights that they were made of."""


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention of the last n times of S: q [1, H, n, D], k and v [1, H, S, D] -> [1, H, n, D].

    Equal to torch's fused kernel, which is slower than plain products in bfloat16 on long texts on a processor.
    """
    n, seen = q.shape[2], k.shape[2] - q.shape[2]
    if q.dtype == torch.float32 or q.device.type != "cpu" or n < ROWS:
        mask = None
        if seen and n > 1:
            mask = torch.ones(n, seen + n, dtype=torch.bool, device=q.device).tril(seen)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=not seen)
    q, k, v = q * q.shape[3] ** -0.5, k.contiguous(), v.contiguous()
    later = torch.full((ROWS, ROWS), float("-inf"), dtype=q.dtype).triu(1)
    y = torch.empty_like(q)
    for i in range(0, n, ROWS):
        j = min(i + ROWS, n)
        scores = q[:, :, i:j] @ k[:, :, : seen + j].transpose(2, 3)  # [1, H, rows, seen + j]
        scores[..., seen + i :] += later[: j - i, : j - i]
        y[:, :, i:j] = scores.softmax(dim=-1) @ v[:, :, : seen + j]
    return y


def plain(weight: Tensor, bias: Tensor | None, gelu: bool) -> Layer:
    """x [n, in] -> x @ weight.T + bias [n, out], or GELU of it."""
    if gelu:
        return lambda x: F.gelu(F.linear(x, weight, bias), approximate="tanh")
    return lambda x: F.linear(x, weight, bias)


def packed(weight: Tensor, bias: Tensor | None, gelu: bool) -> Layer:
    """The same by the operators that torch's own compiler uses: the weight in oneDNN's blocks."""
    operators = torch.ops.mkldnn
    blocks = operators._reorder_linear_weight(weight, 1024)
    after: tuple[str, list[float], str] = ("gelu", [], "tanh") if gelu else ("none", [], "")

    def layer(x: Tensor) -> Tensor:
        out: Tensor = operators._linear_pointwise(x, blocks, bias, *after)
        return out

    return layer
