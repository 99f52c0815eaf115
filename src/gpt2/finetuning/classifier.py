"""A GPT-2 with a head that names a class or gives a score, and its folder.

The head is one matrix without bias on what the network says at an item's last real token, never at padding:
GPT-2 has no padding token, so which ids are real is told apart from them, and it does not matter whether
padding stands left or right (tokens do not see it, and positions begin at the first real one). Of items read in
both orders what the network says is added before the head. A score is learned as distance from the mean of the
training scores, in their standard deviations. Weights of the head and of the layout's marks begin as
N(0, 0.02) under the seed; with the plain layout the network is transformers' GPT2ForSequenceClassification,
step for step (trained alike with lm_weight 0).

A folder is an ordinary model folder, so `gpt2 generate`, `score`, `evaluate` and `convert` open it too, with
two files besides: classifier.json (labels, layout, what it was made for) and head.safetensors. Rejected: the
marks as tokens of the vocabulary, which no other program would then open.

    TextClassifier.load("run/classifier").predict([("a gripping film", None)])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from gpt2.errors import FormatError, InputError
from gpt2.finetuning.layout import MARKS, Inputs, Layout, inputs, marks_of
from gpt2.model.checkpoint import fill, find_model, load, write_files
from gpt2.model.device import PLAIN, Compute
from gpt2.model.transformer import GPT2
from gpt2.tokens.bpe import Tokenizer
from gpt2.workspace import Json, atomic_folder, read_json, write_json

FORMAT = "gpt2-workbench classifier 1"
RECORD, HEAD = "classifier.json", "head.safetensors"
Texts = tuple[str, str | None]
"""One text, or two."""


class Marked(nn.Embedding):
    """A token embedding, its own weights, with a few more ids behind the vocabulary."""

    def __init__(self, tokens: nn.Embedding, marks: int, generator: torch.Generator) -> None:
        super().__init__(tokens.num_embeddings, tokens.embedding_dim, _weight=tokens.weight.detach())
        self.weight = tokens.weight
        self.marks = nn.Parameter(
            torch.empty(marks, self.embedding_dim).normal_(0, 0.02, generator=generator)
        )

    def forward(self, ids: Tensor) -> Tensor:
        """ids [B, T], marks from `num_embeddings` on -> [B, T, C]."""
        n = self.num_embeddings
        word = F.embedding(ids.clamp(max=n - 1), self.weight)  # [B, T, C]
        mark = F.embedding((ids - n).clamp(min=0), self.marks)  # [B, T, C]
        return torch.where((ids >= n)[..., None], mark, word)


@dataclass(frozen=True)
class Padded:
    """Items side by side."""

    ids: Tensor
    """[N, T]: the sequences of the first item, of the second ..."""
    real: Tensor
    """[N, T] bool: false at padding."""
    orders: int = 1
    """Sequences of an item."""


def pad(items: Sequence[Inputs], left: bool = False) -> Padded:
    """Items of one and the same number of sequences as a rectangle; padding has id 0 and counts for nothing."""
    rows = [sequence for item in items for sequence in item.sequences]
    T = max(map(len, rows))
    ids, real = torch.zeros(len(rows), T, dtype=torch.int64), torch.zeros(len(rows), T, dtype=torch.bool)
    for i, row in enumerate(rows):
        place = slice(T - len(row), T) if left else slice(0, len(row))
        ids[i, place] = torch.tensor(row)
        real[i, place] = True
    return Padded(ids, real, len(items[0].sequences))


class Classifier(nn.Module):
    """The network and its head; it takes `net` over. `outputs` is the number of classes, or 1 for a score."""

    def __init__(self, net: GPT2, outputs: int, marks: int = 0, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.net = net
        self.head = nn.Linear(net.config.n_embd, outputs, bias=False)
        with torch.no_grad():
            self.head.weight.normal_(0, 0.02, generator=generator)
        if marks:
            net.wte = Marked(net.wte, marks, generator)

    def hidden(self, batch: Padded) -> Tensor:
        """What the network says at each token, [N, T, C]."""
        right = bool(batch.real[:, 0].all())  # causal: real tokens do not see what stands right of them
        return self.net.hidden(batch.ids, documents=None if right else batch.real.long())

    def logits(self, hidden: Tensor, batch: Padded) -> Tensor:
        """hidden [N, T, C] -> [B, outputs], from the last real token of each sequence."""
        N, T = batch.ids.shape
        last = (batch.real * torch.arange(T, device=hidden.device)).argmax(dim=1)  # [N]
        read = hidden[torch.arange(N, device=hidden.device), last]  # [N, C]
        out: Tensor = self.head(read.view(N // batch.orders, batch.orders, -1).sum(dim=1))
        return out

    def forward(self, batch: Padded) -> Tensor:
        """Padded items -> [B, outputs]."""
        return self.logits(self.hidden(batch), batch)

    def extras(self) -> dict[str, Tensor]:
        """What it has besides an ordinary model's weights, by the names in its file."""
        wte = self.net.wte
        return {"head": self.head.weight} | ({"marks": wte.marks} if isinstance(wte, Marked) else {})


@dataclass(frozen=True)
class Purpose:
    """What a classifier is for."""

    name: str
    labels: tuple[str, ...] = ()
    """Names of the classes, in the order of the outputs; none for a score."""
    pair: bool = False
    """Whether an item is two texts."""
    both: bool = False
    """Whether two texts are read in both orders."""
    layout: Layout = "gpt1"
    max_tokens: int | None = None
    """Ids read of an item at most; None for as many as the model's context has."""
    mean: float = 0.0
    """Of the training scores."""
    deviation: float = 1.0
    """Of the training scores."""

    @property
    def outputs(self) -> int:
        """Rows of the head."""
        return len(self.labels) or 1


@dataclass
class TextClassifier:
    """A classifier with its tokenizer, ready to use."""

    network: Classifier
    tokenizer: Tokenizer
    purpose: Purpose
    card: Json = field(default_factory=dict)

    @classmethod
    def over(cls, net: GPT2, tokenizer: Tokenizer, purpose: Purpose, seed: int = 0) -> TextClassifier:
        """A new head on a network, which is taken over."""
        network = Classifier(net, purpose.outputs, marks_of(purpose.layout), seed)
        return cls(network, tokenizer, purpose)

    @property
    def room(self) -> int:
        """Ids read of an item at most."""
        context = self.network.net.config.n_ctx
        return min(context, self.purpose.max_tokens or context)

    def read(self, texts: Sequence[Texts]) -> list[Inputs]:
        """Items as ids; `InputError` when one has another number of texts than this classifier judges."""
        p = self.purpose
        for i, (_, second) in enumerate(texts):
            if (second is None) == p.pair:
                wanted, given = ("two texts", "one") if p.pair else ("one text", "two")
                raise InputError(f"this classifier ({p.name}) judges {wanted}, and item {i + 1} has {given}")
        return [inputs(self.tokenizer, a, b, p.layout, p.both, self.room) for a, b in texts]

    @torch.inference_mode()
    def outputs(
        self, items: Sequence[Inputs], batch: int = 64, compute: Compute = PLAIN, left: bool = False
    ) -> NDArray[np.float32]:
        """The head's outputs of each item, [items, outputs]: logits, or scores in their own units."""
        device = self.network.head.weight.device
        found = np.empty((len(items), self.purpose.outputs), np.float32)
        order = sorted(range(len(items)), key=lambda i: items[i].length)  # so that little is padding
        self.network.eval()
        for k in range(0, len(order), batch):
            rows = order[k : k + batch]
            padded = pad([items[i] for i in rows], left)
            padded = Padded(padded.ids.to(device), padded.real.to(device), padded.orders)
            with compute.autocast(padded.ids):
                found[rows] = self.network(padded).float().cpu().numpy()
        if not self.purpose.labels:
            found = found * self.purpose.deviation + self.purpose.mean
        return found

    def predict(self, texts: Sequence[Texts], compute: Compute = PLAIN) -> list[Json]:
        """For each item `label` and the probability of each label, or its `score`."""
        outputs = self.outputs(self.read(texts), compute=compute)
        labels = self.purpose.labels
        if not labels:
            return [{"score": float(x)} for x in outputs[:, 0]]
        shares = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        return [
            {"label": labels[int(p.argmax())], "probabilities": dict(zip(labels, p.tolist(), strict=True))}
            for p in shares
        ]

    def save(self, folder: str | Path) -> None:
        """Write the classifier as a folder that appears whole or not at all."""
        net, p = self.network.net, self.purpose
        with atomic_folder(Path(folder), "card.json") as draft:
            card = {"classifier": p.name, "labels": ", ".join(p.labels) or "a score", **self.card}
            write_files(draft, net.config, net.state_dict().__getitem__, self.tokenizer, card)
            extras = {name: t.detach().cpu().contiguous() for name, t in self.network.extras().items()}
            save_file(extras, draft / HEAD)
            write_json(draft / RECORD, {"format": FORMAT, "purpose": p})

    @classmethod
    def load(cls, path: str | Path) -> TextClassifier:
        """Open a classifier's folder, or one that has it in `classifier`.

        Raises `InputError` when there is none, `FormatError` when its files are damaged or do not fit.
        """
        folder = Path(path)
        if not (folder / RECORD).exists() and (folder / "classifier" / RECORD).exists():
            folder = folder / "classifier"
        if not (folder / RECORD).exists():
            raise InputError(
                f"there is no {RECORD} in {folder}; give the folder of a classifier, as `gpt2 finetune glue` makes it"
            )
        purpose = read_purpose(folder / RECORD)
        model = load(find_model(folder))
        found = cls.over(model.net, model.tokenizer, purpose)
        fill({name: t.data for name, t in found.network.extras().items()}, folder / HEAD)
        found.card = model.card
        found.network.eval()
        return found


def read_purpose(path: Path) -> Purpose:
    """What classifier.json says; `FormatError` when it says something else."""
    values = read_json(path)
    said: Any = values.get("purpose") if isinstance(values, dict) and values.get("format") == FORMAT else None
    try:
        purpose = Purpose(**{**said, "labels": tuple(map(str, said["labels"]))})
        marks_of(purpose.layout)
        numbers = (purpose.mean, purpose.deviation, purpose.max_tokens or MARKS + 1)
        if not all(isinstance(x, int | float) for x in numbers) or len(purpose.labels) == 1:
            raise ValueError
    except (TypeError, KeyError, ValueError, InputError):
        raise FormatError(f"{path} does not describe a classifier; restore it or make it anew") from None
    return purpose
