"""What a model can be asked when it is verified: each kind of question, and what the model answers.

A question is asked of the product's own paths where it has them: greedy continuations of the engine with its
cache, losses of `score`. A batch is cut from a text that the user has, because a text is found by its digest or
not at all, and every figure of it depends on every character. Its tokens are laid out as llm.c does it. The
pass over a batch takes the plain loss of all logits, not the trainer's chunked one, for the logits are
themselves a question. Gradients are taken of parameters that share their numbers with the network's, and
AdamW steps on a copy: the network stays as it was, its `grad` too.

    Subject(gpt2.load("gpt2_124M.bin"), Path("my_data")).read(batch).loss
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt2.inference.continuations import generate_ids
from gpt2.inference.sampling import Sampling
from gpt2.inference.scoring import score
from gpt2.model.checkpoint import Model
from gpt2.model.transformer import GPT2
from gpt2.tokens.bpe import END_OF_TEXT, Tokenizer


@dataclass(frozen=True)
class Batch:
    """The first tokens of a text that the user has, as rows."""

    title: str
    files: tuple[str, ...]
    """Names that the text's file goes by."""
    n_bytes: int
    sha256: str
    rows: int
    columns: int


@dataclass(frozen=True)
class Pass:
    """One pass over a batch, forward and backward."""

    logits: Tensor
    """[B, T, V]"""
    loss: float
    """mean cross-entropy, in nats"""
    gradients: dict[str, Tensor]
    """of the loss, by parameter"""


class Subject:
    """The model that is asked, in float32, and the batches it has read."""

    def __init__(self, model: Model, data: Path | None = None) -> None:
        net = model.net
        if any(p.dtype != torch.float32 for p in net.parameters()):
            net = copy.deepcopy(net).float()
        self.model, self.data, self.device = Model(net, model.tokenizer), data, net.wte.weight.device
        self._texts: dict[Batch, str | None] = {}
        self._passes: dict[Batch, Pass] = {}

    @torch.no_grad()
    def hidden(self, ids: Sequence[int]) -> Tensor:
        """What the head reads: [T, C]."""
        return self.model.net.hidden(torch.tensor([ids], device=self.device))[0]

    @torch.no_grad()
    def logits(self, ids: Sequence[int]) -> Tensor:
        """Of the token after these: [V]."""
        return self.model.net.head(self.hidden(ids)[-1])

    def text(self, batch: Batch) -> str | None:
        """The text of a batch, from the user's data; None when it is not there."""
        if batch not in self._texts:
            self._texts[batch] = None if self.data is None else find_text(self.data, batch)
        return self._texts[batch]

    def cut(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Token ids and the tokens after them, each [B, T]."""
        ids = lay_out(self.text(batch) or "", self.model.tokenizer)[: batch.rows * batch.columns + 1]
        stream = torch.tensor(ids, device=self.device)
        return stream[:-1].view(batch.rows, -1), stream[1:].view(batch.rows, -1)

    def read(self, batch: Batch) -> Pass:
        """The network's pass over a batch, made once."""
        if batch not in self._passes:
            self._passes[batch] = forward_and_backward(self.model.net, *self.cut(batch))
        return self._passes[batch]


def find_text(folder: Path, batch: Batch) -> str | None:
    """The text of a batch from anywhere in a folder, recognised by its digest."""
    for path in (found for name in batch.files for found in sorted(folder.rglob(name))):
        if path.is_file() and path.stat().st_size == batch.n_bytes:
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() == batch.sha256:
                return content.decode()
    return None


def lay_out(text: str, tokenizer: Tokenizer) -> list[int]:
    """The tokens of a text with <|endoftext|> before each paragraph, as llm.c's tinyshakespeare.py has them."""
    marked = END_OF_TEXT + text.replace("\n\n", "\n\n" + END_OF_TEXT)
    return tokenizer.encode(marked, allow_special=True)


def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
    """[B, T, V], [B, T] -> mean cross-entropy."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


@torch.enable_grad()
def forward_and_backward(net: GPT2, ids: Tensor, targets: Tensor) -> Pass:
    """ids [B, T], targets [B, T] -> logits, loss and gradients."""
    parameters = {name: p.detach().requires_grad_() for name, p in net.named_parameters()}
    logits: Tensor = torch.func.functional_call(net, parameters, (ids,))
    loss = loss_of(logits, targets)
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    return Pass(logits.detach(), loss.item(), dict(zip(parameters, gradients, strict=True)))


# What can be asked, by kind


def vocabulary(subject: Subject) -> str:
    """sha256 of the vocabulary as OpenAI's vocab.bpe writes it."""
    return subject.model.tokenizer.fingerprint


def tokens(subject: Subject, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts in which <|endoftext|> is that token."""
    return [subject.model.tokenizer.encode(text, allow_special=True) for text in texts]


def greedy(
    subject: Subject, ids: Sequence[int], count: int, repetition_penalty: float | None = None
) -> list[int]:
    """The continuation by the most likely token each time, perhaps with Keskar et al.'s penalty."""
    how = Sampling(0.0, repetition_penalty=repetition_penalty or 1.0)
    return generate_ids(subject.model, [ids], count, how)[0]


def argmax(subject: Subject, ids: Sequence[int]) -> int:
    """The most likely token after these."""
    return int(subject.logits(ids).argmax())


def logit(subject: Subject, ids: Sequence[int], token: int) -> float:
    """The logit of a token after these."""
    return float(subject.logits(ids)[token])


def loss(subject: Subject, document: str) -> float:
    """Mean loss of the tokens of a text after <|endoftext|>, in nats."""
    (found,) = score(subject.model, [document])
    return -found.logprob / len(found.token_logprobs)


def hidden(subject: Subject, ids: Sequence[int], position: int, count: int) -> list[float]:
    """The first channels of what the final layer norm gives at a position."""
    return subject.hidden(ids)[position, :count].tolist()


def batch_ids(subject: Subject, batch: Batch, count: int) -> list[int]:
    """The first token ids of a batch."""
    return subject.cut(batch)[0].flatten()[:count].tolist()


def batch_loss(subject: Subject, batch: Batch) -> float:
    """Mean loss of a batch, in nats."""
    return subject.read(batch).loss


def batch_logits(subject: Subject, batch: Batch, count: int) -> list[float]:
    """The first logits of a batch."""
    return subject.read(batch).logits.flatten()[:count].tolist()


def gradient(subject: Subject, batch: Batch, parameter: str, count: int) -> list[float]:
    """The first numbers of a parameter's gradient."""
    return subject.read(batch).gradients[parameter].flatten()[:count].tolist()


@torch.enable_grad()
def adamw(
    subject: Subject,
    batch: Batch,
    steps: int,
    learning_rate: float,
    betas: Sequence[float],
    epsilon: float,
    weight_decay: float,
) -> list[float]:
    """The loss of a batch before each of some steps of AdamW on it, with decay on all parameters, unclipped."""
    net = copy.deepcopy(subject.model.net).requires_grad_()
    optimizer = torch.optim.AdamW(
        net.parameters(), learning_rate, (betas[0], betas[1]), epsilon, weight_decay
    )
    ids, targets = subject.cut(batch)
    losses = []
    for _ in range(steps):
        loss = loss_of(net(ids), targets)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return losses


KINDS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        vocabulary,
        tokens,
        greedy,
        argmax,
        logit,
        loss,
        hidden,
        batch_ids,
        batch_loss,
        batch_logits,
        gradient,
        adamw,
    )
}
"""Questions by name; each takes the subject, and what a known answer was given."""
