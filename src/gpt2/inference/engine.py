"""Generating text: read the prompt once, then one token at a time from the keys and values already seen.

Prompts of equal length go through the network side by side. Each prompt draws from its own random
generator, seeded by the seed and the prompt's place in the list, so a continuation does not depend on what
else is in the batch. An empty prompt starts from <|endoftext|>, as the paper's unconditional samples do; a
continuation ends there too. Of a prompt longer than the context the newest part is read. When the context
is full, the newer half of it is read anew and generation goes on from there.

    gpt2.generate(model, ["The meaning of life"], max_tokens=64, top_k=40, seed=0)

With a lower number format the weights are cast once for all tokens; autocast alone would do it for each.
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
from gpt2.model.device import DTYPES, PLAIN, Compute
from gpt2.model.transformer import GPT2, GPT2Config

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
) -> list[str]:
    """Continuations only, one a prompt, each of at most `max_tokens` tokens."""
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    tok = model.tokenizer
    ids = generate_ids(
        model, [tok.encode(t) for t in texts], max_tokens, Sampling(temperature, top_k), seed, compute
    )
    return [tok.decode(x) for x in ids]


def generate_ids(
    model: Model,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    how: Sampling,
    seed: int = 0,
    compute: Compute | None = None,
) -> list[list[int]]:
    """The same on token ids; <|endoftext|> ends a continuation and is not part of it."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for i, prompt in enumerate(prompts):
        by_length[len(prompt)].append(i)
    out: list[list[int]] = [[] for _ in prompts]
    for length, rows in by_length.items():
        at_once = texts_at_once(model.net.config, length + max_tokens)
        for k in range(0, len(rows), at_once):
            batch = rows[k : k + at_once]
            generators = [generator(seed, i) for i in batch]
            alive = set(batch)
            for ids in steps(model, [list(prompts[i]) for i in batch], max_tokens, how, generators, compute):
                for i, token in zip(batch, ids, strict=True):
                    if token == model.tokenizer.end_of_text:
                        alive.discard(i)
                    elif i in alive:
                        out[i].append(token)
                if not alive:
                    break
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


@torch.inference_mode()
def steps(
    model: Model,
    prompts: list[list[int]],
    max_tokens: int,
    how: Sampling,
    generators: list[torch.Generator],
    compute: Compute | None = None,
) -> Iterator[list[int]]:
    """Prompts of equal length [B, T] -> the next ids [B], `max_tokens` times."""
    if max_tokens < 1:
        raise ConfigError(f"max_tokens must be at least 1, not {max_tokens}")
    compute = compute or PLAIN
    dtype, device, context = DTYPES[compute.dtype], model.net.wte.weight.device, model.net.config.n_ctx
    net, head = cast_once(model.net, dtype), model.net.wte.weight.to(dtype)
    seen = [prompt or [model.tokenizer.end_of_text] for prompt in prompts]
    fresh = torch.tensor([ids[-context:] for ids in seen], device=device)  # [B, T], not read yet
    state = net.start(len(seen), min(context, fresh.shape[1] + max_tokens), dtype)
    for _ in range(max_tokens):
        if state.length + fresh.shape[1] > context:
            fresh = torch.tensor([ids[-max(1, context // 2) :] for ids in seen], device=device)
            state = replace(state, length=0)
        with compute.autocast(fresh):
            hidden = net.hidden(fresh, state)[:, -1]  # [B, C]: only the last position needs logits
        logits = F.linear(hidden.to(dtype), head).float()  # [B, V]
        state = replace(state, length=state.length + fresh.shape[1])
        chosen = draw(logits, how, generators)
        ids: list[int] = chosen.tolist()
        yield ids
        seen = [[*row, token][-context:] for row, token in zip(seen, ids, strict=True)]
        fresh = chosen[:, None]


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
