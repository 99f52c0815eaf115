"""GPT-2, the network of the paper's section 2.3, whole in this file.

A stack of pre-norm transformer blocks over learned token and position embeddings, a layer norm after the
last block, and a head that shares its weights with the token embedding. What the paper leaves open is taken
from OpenAI's released code: tanh-approximated GELU, layer-norm epsilon 1e-5, initial standard deviations
0.02 (positions 0.01). The released code lacks the paper's 1/sqrt(N) scaling of the residual projections; it
is here, with N = 2 x layers as everyone reads it, so those start at 0.02 / sqrt(2 x layers).

Parameters carry OpenAI's names (wte, wpe, h, ln_1, c_attn, c_proj, ln_2, c_fc, ln_f). Matrices are stored
[out, in] as `torch.nn.Linear` wants them; OpenAI's and Hugging Face's files store them [in, out].

Shapes in comments: B batch, T time, C channels, H heads, D channels of a head, V vocabulary, S times seen.

    net = GPT2(GPT2Config.size("124M"))
    logits = net(ids)                            # ids [B, T] -> logits [B, T, V]
    logits, state = net(ids, net.start(B))       # the same, ready to go on from there

A state is the keys and values of all times seen. Any language model that can go on from a state fits the
second form, a recurrent one too. Rejected: keys and values concatenated anew at each token, which copies
the whole past every time; the buffers here are made once and written in place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt2.errors import InputError
from gpt2.model.attention import attend
from gpt2.model.config import GPT2Config


@dataclass(frozen=True)
class State:
    """The past of B texts: keys and values of each layer, of which the first `length` times are filled.

    The buffers are shared between a state and the one that follows it, so a state can be gone on from once.
    """

    keys: list[Tensor]  # each [B, H, room, D]
    values: list[Tensor]  # each [B, H, room, D]
    length: int

    @property
    def room(self) -> int:
        """Times that fit into the buffers."""
        return self.keys[0].shape[2]


class Attention(nn.Module):
    """Masked multi-head self-attention."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)

    def forward(
        self, x: Tensor, past: tuple[Tensor, Tensor, int] | None = None, apart: Tensor | None = None
    ) -> Tensor:
        B, T, C = x.shape
        q, k, v = (
            self.c_attn(x).view(B, T, 3, self.n_head, C // self.n_head).permute(2, 0, 3, 1, 4)
        )  # [B, H, T, D]
        mask = None
        if past is not None:
            keys, values, seen = past
            keys[:, :, seen : seen + T] = k
            values[:, :, seen : seen + T] = v
            k, v = keys[:, :, : seen + T].to(q.dtype), values[:, :, : seen + T].to(q.dtype)  # [B, H, S, D]
            if T > 1 and seen:
                mask = torch.ones(T, seen + T, dtype=torch.bool, device=x.device).tril(seen)  # [T, S]
        if past is None and q.requires_grad and q.device.type == "cpu":
            y = attend(q, k, v, apart)  # [B, H, T, D]
        else:
            if apart is not None:
                mask = ~apart & torch.ones(T, T, dtype=torch.bool, device=x.device).tril()  # [B, 1, T, T]
            causal = mask is None and T > 1
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)  # [B, H, T, D]
        out: Tensor = self.c_proj(y.transpose(1, 2).reshape(B, T, C))
        return out


class MLP(nn.Module):
    """The position-wise part of a block: up to 4C, GELU, down to C."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))
        return out


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): layer norms stand before each part (paper 2.3)."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(
        self, x: Tensor, past: tuple[Tensor, Tensor, int] | None = None, apart: Tensor | None = None
    ) -> Tensor:
        x = x + self.attn(self.ln_1(x), past, apart)
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class GPT2(nn.Module):
    """Token ids in, logits of the next token out. The same seed gives the same initial weights."""

    def __init__(self, config: GPT2Config, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_ctx, config.n_embd)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.initialize(seed)

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Draw fresh weights: matrices from N(0, 0.02), residual projections and positions as said above."""
        generator = torch.Generator().manual_seed(seed)
        residual = 0.02 / math.sqrt(2 * self.config.n_layer)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                std = residual if name.endswith("c_proj.weight") else 0.01 if name == "wpe.weight" else 0.02
                p.normal_(0.0, std, generator=generator)
            elif name.endswith("weight"):
                p.fill_(1.0)
            else:
                p.zero_()

    def num_parameters(self) -> int:
        """Weights in the network, the tied head counted once."""
        return sum(p.numel() for p in self.parameters())

    def start(
        self, batch_size: int = 1, room: int | None = None, dtype: torch.dtype = torch.float32
    ) -> State:
        """The state before any token, for `batch_size` texts side by side of up to `room` tokens.

        Without `room` the whole context fits. `dtype` should be that of the matrix products.
        """
        c = self.config
        shape = (batch_size, c.n_head, room or c.n_ctx, c.n_embd // c.n_head)
        keys, values = (
            [self.wte.weight.new_zeros(shape, dtype=dtype) for _ in range(c.n_layer)] for _ in range(2)
        )
        return State(keys, values, length=0)

    def hidden(self, ids: Tensor, state: State | None = None, documents: Tensor | None = None) -> Tensor:
        """What the head reads: ids [B, T] -> final layer norm's output [B, T, C]; fills `state` in place.

        `documents` [B, T] numbers the documents of a text without a state: a token sees those of its own
        number alone, and positions begin anew with each.
        """
        T, seen, room = ids.shape[1], 0, self.config.n_ctx
        if state is not None:
            seen, room = state.length, min(room, state.room)
        if seen + T > room:
            raise InputError(
                f"a text of {seen + T} tokens does not fit: the model reads {room} at a time here"
            )
        positions = torch.arange(seen, seen + T, device=ids.device)  # [T]
        apart = None
        if documents is not None:
            apart = (documents[:, :, None] != documents[:, None, :])[:, None]  # [B, 1, T, T]
            first = documents.diff(dim=1, prepend=documents[:, :1]) != 0  # [B, T]
            positions = positions - (positions * first).cummax(dim=1).values  # [B, T]
        x = self.wte(ids) + self.wpe(positions)  # [B, T, C]
        for i, block in enumerate(self.h):
            x = block(x, None if state is None else (state.keys[i], state.values[i], seen), apart)
        out: Tensor = self.ln_f(x)
        return out

    def head(self, hidden: Tensor) -> Tensor:
        """[..., C] -> logits [..., V], by the token embedding's own weights."""
        return F.linear(hidden, self.wte.weight)

    @overload
    def forward(self, ids: Tensor) -> Tensor: ...
    @overload
    def forward(self, ids: Tensor, state: State) -> tuple[Tensor, State]: ...
    def forward(self, ids: Tensor, state: State | None = None) -> Tensor | tuple[Tensor, State]:
        """ids [B, T] -> logits [B, T, V]; with a state, also the state after these ids.

        Raises `InputError` when the ids, with those of the state, are more than `n_ctx` or its room.
        """
        logits = self.head(self.hidden(ids, state))
        if state is None:
            return logits
        return logits, replace(state, length=state.length + ids.shape[1])
