"""Generating text: read the prompt once, then one token at a time from the keys and values already seen.

Prompts of equal length go through the network side by side. Each prompt draws from its own random
generator, seeded by the seed and the prompt's place in the list, so a continuation does not depend on what
else is in the batch. An empty prompt starts from <|endoftext|>, as the paper's unconditional samples do; a
continuation ends there too. When the context is full, the newer half of it is read anew and generation goes
on from there.

    gpt2.generate(model, ["The meaning of life"], max_tokens=64, top_k=40, seed=0)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch

from gpt2.errors import ConfigError
from gpt2.inference.sampling import Sampling, draw
from gpt2.model.checkpoint import Model
from gpt2.model.device import Compute

MAX_BATCH = 64


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
    if max_tokens < 1:
        raise ConfigError(f"max_tokens must be at least 1, not {max_tokens}")
    by_length: dict[int, list[int]] = defaultdict(list)
    for i, prompt in enumerate(prompts):
        by_length[len(prompt)].append(i)
    out: list[list[int]] = [[] for _ in prompts]
    for rows in by_length.values():
        for k in range(0, len(rows), MAX_BATCH):
            batch = rows[k : k + MAX_BATCH]
            generators = [torch.Generator().manual_seed(seed * 1_000_003 + i) for i in batch]
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
    generators = [torch.Generator().manual_seed(seed * 1_000_003)]
    prompts = [model.tokenizer.encode(prompt)]
    for (token,) in steps(model, prompts, max_tokens, Sampling(temperature, top_k), generators, compute):
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
    compute: Compute | None,
) -> Iterator[list[int]]:
    """Prompts of equal length [B, T] -> the next ids [B], `max_tokens` times."""
    net, context = model.net, model.net.config.n_ctx
    device = net.wte.weight.device
    seen = [prompt or [model.tokenizer.end_of_text] for prompt in prompts]
    seen = [ids[-context:] for ids in seen]
    state = net.start(len(seen))
    fresh = torch.tensor(seen, device=device)  # [B, T], what the state has not read yet
    for _ in range(max_tokens):
        if state.length + fresh.shape[1] > context:
            fresh = torch.tensor([ids[-(context // 2) :] for ids in seen], device=device)
            state = net.start(len(seen))
        with (compute or PLAIN).autocast():
            hidden = net.hidden(fresh, state)[:, -1]  # [B, C]: only the last position needs logits
            logits = net.head(hidden)  # [B, V]
        state = type(state)(state.keys, state.values, state.length + fresh.shape[1])
        chosen = draw(logits.float(), how, generators)
        ids: list[int] = chosen.tolist()
        yield ids
        for row, token in zip(seen, ids, strict=True):
            row.append(token)
        fresh = chosen[:, None]


PLAIN = Compute("cpu", "float32", 0)
