"""Known answers as OpenAI's are known, of any weights: computed by transformers, tokenizers and torch alone."""

from __future__ import annotations

import copy
import hashlib
import struct
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers
import torch
import torch.nn.functional as F
from huggingface import CONV1D, to_huggingface
from torch import Tensor
from transformers import GPT2LMHeadModel

from gpt2.evaluation.questions import Batch
from gpt2.evaluation.verify import KnownAnswer
from gpt2.model.config import GPT2Config
from gpt2.model.transformer import GPT2
from gpt2.tokens.bpe import Tokenizer
from gpt2.tokens.vocabulary import tokenizer_json

TOKENIZER = Tokenizer(Tokenizer.gpt2().pairs[:743])
"""GPT-2's first 743 merges: a vocabulary of 1,000 tokens."""
PLAY = "".join(
    f"FIRST:\nThe {n} of us.\n\nSECOND:\nNay, then; 'tis the rest.\n\n" for n in ["one", "two", "ten"]
)
BATCH = Batch("A Play", ("play.txt",), len(PLAY), hashlib.sha256(PLAY.encode()).hexdigest(), 2, 16)
PROMPT, DOCUMENT = "What is the", "Where are they now?"
GRADIENTS = ["wte.weight", "ln_f.weight", "ln_f.bias", "h.0.attn.c_proj.weight", "h.0.mlp.c_fc.bias"]
SMALL = GPT2Config(n_layer=2, n_head=2, n_embd=32, vocab_size=1000, n_ctx=64)
WIDTHS = {768: 12, 1024: 16, 1280: 20, 1600: 25}
"""Channels and heads of OpenAI's four sizes."""


def of_width(width: int) -> GPT2Config:
    layers = 2 if width == 768 else 1
    return GPT2Config(n_layer=layers, n_head=WIDTHS[width], n_embd=width, vocab_size=1000, n_ctx=64)


def lively(config: GPT2Config) -> GPT2:
    """A network in which every part matters: attention that chooses, GELU where it bends, biases, norms."""
    draw, net = torch.Generator().manual_seed(3), GPT2(config).eval()
    with torch.no_grad():
        for name, p in net.named_parameters():
            noise = torch.randn(p.shape, generator=draw)
            if p.dim() == 1:
                p.copy_(0.2 * noise + (1.0 if "ln_" in name and name.endswith("weight") else 0.0))
            else:
                embedding = name in ("wte.weight", "wpe.weight")
                p.copy_(noise * (0.03 if embedding else 1.5 * p.shape[1] ** -0.5))
    return net


@cache
def reference() -> tokenizers.Tokenizer:
    """The same vocabulary in Hugging Face's own code."""
    return tokenizers.Tokenizer.from_str(tokenizer_json(TOKENIZER))


def their_answers(theirs: GPT2LMHeadModel) -> list[KnownAnswer]:
    """Known answers of every kind, computed by transformers, tokenizers and torch's AdamW alone."""
    c, encode = theirs.config, lambda text: reference().encode(text).ids
    shape = (
        f"layers {c.n_layer}, heads {c.n_head}, channels {c.n_embd}, context {c.n_positions}, "
        f"vocabulary {c.vocab_size}, parameters {theirs.num_parameters()}"
    )
    out = [
        KnownAnswer("shape", "shape", shape, 0, "transformers", "small"),
        KnownAnswer("merges", "vocabulary", TOKENIZER.fingerprint, 0, "sha256"),
        KnownAnswer(
            "ids",
            "tokens",
            [encode(t) for t in (PROMPT, PLAY)],
            0,
            "tokenizers",
            None,
            {"texts": [PROMPT, PLAY]},
        ),
    ]

    def known(name: str, expected: Any, tolerance: float, kind: str = "", **given: Any) -> None:
        out.append(KnownAnswer(name, kind or name, expected, tolerance, "transformers", "small", given))

    ids = encode(PROMPT)
    prompt = torch.tensor([ids])
    plain, penalised = (
        theirs.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=8,
            eos_token_id=None,
            pad_token_id=0,
            repetition_penalty=penalty,
        )[0, len(ids) :].tolist()
        for penalty in (1.0, 1.3)
    )
    known("greedy ids", plain, 0, "greedy", ids=ids, count=8)
    known(
        "greedy text", reference().decode(plain, skip_special_tokens=False), 0, "greedy", text=PROMPT, count=8
    )
    known("greedy, penalty", penalised, 0, "greedy", text=PROMPT, count=8, repetition_penalty=1.3)
    with torch.no_grad():
        logits = theirs(prompt).logits[0, -1]
        document = torch.tensor([[c.vocab_size - 1, *encode(DOCUMENT)]])
        loss = F.cross_entropy(theirs(document).logits[0, :-1], document[0, 1:]).item()
        states = theirs.transformer(prompt).last_hidden_state[0, 1, :5].tolist()
    known("argmax", int(logits.argmax()), 0, text=PROMPT)
    known("logit", logits[17].item(), 2e-5, text=PROMPT, token=17)
    known("loss", loss, 5e-6, document=DOCUMENT)
    known("hidden", states, 2e-5, ids=ids, position=1, count=5)

    stream = torch.tensor(encode("<|endoftext|>" + PLAY.replace("\n\n", "\n\n<|endoftext|>"))[:33])
    x, y = stream[:-1].view(2, 16), stream[1:].view(2, 16)
    found = their_pass(theirs, x, y)
    known("batch_ids", stream[:5].tolist(), 0, batch=BATCH, count=5)
    known("batch_loss", found.loss, 5e-6, batch=BATCH)
    known("batch_logits", found.logits.flatten()[:10].tolist(), 2e-5, batch=BATCH, count=10)
    for name in GRADIENTS:
        first = found.gradients[name].flatten()[:5].tolist()
        known(f"gradient {name}", first, 5e-8, "gradient", batch=BATCH, parameter=name, count=5)
    settings = {"steps": 3, "learning_rate": 1e-3, "betas": [0.9, 0.95], "epsilon": 1e-8, "weight_decay": 0.1}
    student = copy.deepcopy(theirs)
    optimizer = torch.optim.AdamW(
        student.parameters(), lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1
    )
    losses = []
    for _ in range(3):
        step_loss = F.cross_entropy(student(x).logits.flatten(0, 1), y.flatten())
        losses.append(step_loss.item())
        optimizer.zero_grad()
        step_loss.backward()
        optimizer.step()
    known("adamw", losses, 2e-5, batch=BATCH, **settings)
    return out


class TheirPass(NamedTuple):
    logits: Tensor
    loss: float
    gradients: dict[str, Tensor]


def their_pass(theirs: GPT2LMHeadModel, x: Tensor, y: Tensor) -> TheirPass:
    """transformers' logits, loss and gradients of a batch, by our names."""
    theirs.zero_grad()
    logits = theirs(x).logits
    loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
    loss.backward()
    gradients = {
        name: p.grad.t() if name.endswith(CONV1D) else p.grad
        for name, p in theirs.transformer.named_parameters()
        if p.grad is not None
    }
    return TheirPass(logits.detach(), loss.item(), gradients)


@cache
def pair(config: GPT2Config) -> tuple[GPT2, GPT2LMHeadModel, list[KnownAnswer]]:
    """A lively network, the same in transformers, and what the latter answers."""
    net = lively(config)
    theirs = to_huggingface(net)
    return net, theirs, their_answers(theirs)


def write_state(path: Path, found: TheirPass, x: Tensor, y: Tensor, rows: int = 1024) -> None:
    """A debug state as llm.c's train_gpt2.py writes it: each kind of weight for all layers."""
    kinds = ["ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"]
    layers = sum(name.endswith("ln_1.bias") for name in found.gradients)
    names = [f"h.{i}.{k}.{part}" for k in kinds for part in ("weight", "bias") for i in range(layers)]
    g = found.gradients | {"wte.weight": F.pad(found.gradients["wte.weight"], (0, 0, 0, rows - 1000))}
    tensors = [x.int(), y.int(), found.logits, torch.tensor(found.loss)]
    tensors += [g[name] for name in ("wte.weight", "wpe.weight", *names, "ln_f.weight", "ln_f.bias")]
    header = struct.pack("<256i", 20240327, 2, *x.shape, *[0] * 252)
    path.write_bytes(header + b"".join(t.contiguous().numpy().tobytes() for t in tensors))
