"""Generating text: read the prompt once, then one token at a time from the keys and values already seen.

Prompts of equal length go through the network side by side. Each prompt draws from its own random
generator, seeded by the seed and the prompt's place in the list, so a continuation does not depend on what
else is in the batch. An empty prompt starts from <|endoftext|>, as the paper's unconditional samples do; a
continuation ends there too. Of a prompt longer than the context the newest part is read. When the context
is full, the newer half of it is read anew and generation goes on from there. Where one of `until` begins, a
continuation ends before it, and texts that have ended are taken out of a batch.

    gpt2.generate(model, ["The meaning of life"], max_tokens=64, top_k=40, seed=0)
    gpt2.generate(model, ["Q: What is life?\nA:"], max_tokens=64, temperature=0, until=["\n"])

With a lower number format the weights are cast once for all tokens; autocast alone would do it for each.
Rejected: prompts of different lengths side by side behind padding, which every step then pays for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F

from gpt2.errors import ConfigError
from gpt2.inference.sampling import Sampling, draw, generator
from gpt2.model.checkpoint import Model
from gpt2.model.config import GPT2Config
from gpt2.model.device import DTYPES, PLAIN, Compute
from gpt2.model.transformer import GPT2
from gpt2.tokens.bpe import Tokenizer

MAX_BATCH = 64
KEYS_AT_ONCE = 2**28
"""Numbers in the keys and values of a batch: 1 GB of float32."""


def generate(
    model: Model,
    prompts: Sequence[str] | str,
    max_tokens: int = 64,
    temperature: float = 1.0,
    top_k: int | None = 40,
    seed: int = 0,
    compute: Compute | None = None,
    until: Sequence[str] = (),
) -> list[str]:
    """Continuations only, one a prompt, each of at most `max_tokens` tokens and before any of `until`."""
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    tok = model.tokenizer
    ids = generate_ids(
        model, [tok.encode(t) for t in texts], max_tokens, Sampling(temperature, top_k), seed, compute, until
    )
    return [before(tok.decode(x), until) for x in ids]


def before(text: str, until: Sequence[str]) -> str:
    """The text up to where the first of `until` begins."""
    return text[: min((at for end in until if (at := text.find(end)) >= 0), default=None)]


def generate_ids(
    model: Model,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    how: Sampling,
    seed: int | Sequence[int] = 0,
    compute: Compute | None = None,
    until: Sequence[str] = (),
) -> list[list[int]]:
    """The same on token ids; <|endoftext|> ends a continuation and is not part of it.

    So does the token that completes one of `until`, which is part of it. A list of seeds has one a prompt,
    and then its place in the list does not matter.
    """
    seeds = [(seed, i) for i in range(len(prompts))] if isinstance(seed, int) else [(s, 0) for s in seed]
    by_length: dict[int, list[int]] = defaultdict(list)
    for i, prompt in enumerate(prompts):
        by_length[len(prompt)].append(i)
    out: list[list[int]] = [[] for _ in prompts]
    for length, rows in by_length.items():
        at_once = texts_at_once(model.net.config, length + max_tokens)
        for k in range(0, len(rows), at_once):
            own = rows[k : k + at_once]
            generators = [generator(*seeds[i]) for i in own]
            batch = Batch(model, [prompts[i] for i in own], max_tokens, how, generators, compute)
            for i, ids in zip(own, go_on(batch, max_tokens, model.tokenizer, until), strict=True):
                out[i] = ids
    return out


def go_on(batch: Batch, max_tokens: int, tok: Tokenizer, until: Sequence[str]) -> list[list[int]]:
    """The continuations of a batch's rows, each up to its end."""
    ends = [end.encode() for end in until]
    reach = max(map(len, ends), default=0)  # a token is a byte at least, so an end lies in as many tokens
    out: list[list[int]] = [[] for _ in batch.seen]
    rows, done = list(range(len(out))), set[int]()  # rows that the batch still holds; those that have ended
    for _ in range(max_tokens):
        for row, token in zip(rows, batch.step(), strict=True):
            if row in done:
                continue
            if token == tok.end_of_text:
                done.add(row)
                continue
            out[row].append(token)
            tail = tok.decode_bytes(out[row][-reach:]) if reach else b""
            if any(end in tail for end in ends):
                done.add(row)
        if len(done) == len(rows):
            break
        if len(done) >= len(rows) / 4:  # to take rows out is to copy the others
            batch.keep([place for place, row in enumerate(rows) if row not in done])
            rows, done = [row for row in rows if row not in done], set()
    return out


def stream(
    model: Model,
    prompt: str,
    max_tokens: int = 64,
    temperature: float = 1.0,
    top_k: int | None = 40,
    seed: int = 0,
    compute: Compute | None = None,
) -> Iterator[str]:
    """The continuation of one prompt piece by piece, as soon as whole characters are known."""
    text = model.tokenizer.stream()
    prompts = [model.tokenizer.encode(prompt)]
    how = Sampling(temperature, top_k)
    for (token,) in steps(model, prompts, max_tokens, how, [generator(seed, 0)], compute):
        if token == model.tokenizer.end_of_text:
            break
        if piece := text.push(token):
            yield piece
    if piece := text.finish():
        yield piece


def steps(
    model: Model,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    how: Sampling,
    generators: list[torch.Generator],
    compute: Compute | None = None,
) -> Iterator[list[int]]:
    """Prompts of equal length [B, T] -> the next ids [B], `max_tokens` times."""
    batch = Batch(model, prompts, max_tokens, how, generators, compute)
    for _ in range(max_tokens):
        yield batch.step()


class Batch:
    """Texts of equal length that go on side by side, with the keys and values of what they have read."""

    def __init__(
        self,
        model: Model,
        prompts: Sequence[Sequence[int]],
        max_tokens: int,
        how: Sampling,
        generators: list[torch.Generator],
        compute: Compute | None = None,
    ) -> None:
        if max_tokens < 1:
            raise ConfigError(f"max_tokens must be at least 1, not {max_tokens}")
        self.how, self.generators, self.compute = how, generators, compute or PLAIN
        dtype, wte, self.context = DTYPES[self.compute.dtype], model.net.wte.weight, model.net.config.n_ctx
        self.net, self.head = cast_once(model.net, dtype), wte.detach().to(dtype)
        self.seen = [list(prompt) or [model.tokenizer.end_of_text] for prompt in prompts]
        fresh = [ids[-self.context :] for ids in self.seen]
        self.fresh = torch.tensor(fresh, device=wte.device)  # [B, T], not read yet
        self.state = self.net.start(len(fresh), min(self.context, len(fresh[0]) + max_tokens), dtype)

    @torch.inference_mode()
    def step(self) -> list[int]:
        """The next ids [B]."""
        if self.state.length + self.fresh.shape[1] > self.context:
            newer = [ids[-max(1, self.context // 2) :] for ids in self.seen]
            self.fresh = torch.tensor(newer, device=self.fresh.device)
            self.state = replace(self.state, length=0)
        with self.compute.autocast(self.fresh):
            hidden = self.net.hidden(self.fresh, self.state)[:, -1]  # [B, C]: only the last needs logits
        logits = F.linear(hidden.to(self.head.dtype), self.head).float()  # [B, V]
        self.state = replace(self.state, length=self.state.length + self.fresh.shape[1])
        chosen = draw(logits, self.how, self.generators)
        ids: list[int] = chosen.tolist()
        self.seen = [[*row, token][-self.context :] for row, token in zip(self.seen, ids, strict=True)]
        self.fresh = chosen[:, None]
        return ids

    @torch.inference_mode()
    def keep(self, rows: list[int]) -> None:
        """Go on with these rows alone."""
        self.seen, self.generators = [self.seen[i] for i in rows], [self.generators[i] for i in rows]
        self.fresh = self.fresh[rows]
        for buffers in (self.state.keys, self.state.values):
            for layer, old in enumerate(buffers):
                buffers[layer] = old[rows]


def texts_at_once(config: GPT2Config, length: int) -> int:
    """Texts of up to `length` tokens whose keys and values may be held side by side."""
    each = 2 * config.n_layer * config.n_embd * min(length, config.n_ctx)
    return max(1, min(MAX_BATCH, KEYS_AT_ONCE // each))


def cast_once(net: GPT2, dtype: torch.dtype) -> GPT2:
    """The same network with the blocks' matrices in `dtype`; what need not be cast is shared with it."""
    weights = {
        name: p.detach().to(dtype) if name.startswith("h.") and p.dim() == 2 else p.detach()
        for name, p in net.named_parameters()
    }
    with torch.device("meta"):
        cast = GPT2(net.config)
    cast.load_state_dict(weights, assign=True)
    return cast.eval()
