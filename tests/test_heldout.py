"""Held-out losses against their plain definition."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt2.evaluation import heldout
from gpt2.evaluation.heldout import document_losses, heldout_callback, pick_documents, usual_callbacks
from gpt2.model.checkpoint import Model
from gpt2.model.config import GPT2Config
from gpt2.model.device import Compute
from gpt2.model.transformer import GPT2
from gpt2.tokens.bpe import Tokenizer
from gpt2.tokens.shards import Shards, write_shards

CONTEXT = 12
TEXT = "in the end an old cat saw the sea again – and éàü 東京 were there on the other side of it"
WORDS = TEXT.split()


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    rng = np.random.default_rng(0)
    sizes = [5, 0, 1, 60, 12, 11, 13, 0, 200, 3]
    documents = [
        (f"d{i}", f"g{i}", " ".join(rng.choice(WORDS, n)) if n else "") for i, n in enumerate([*sizes, 4])
    ]
    folder = tmp_path_factory.mktemp("data") / "shards"
    write_shards(
        documents, Tokenizer(Tokenizer.gpt2().pairs[:43]), folder, {f"g{i}" for i in range(len(sizes))}
    )
    return Shards.open(folder)


@pytest.fixture(scope="module")
def model(shards: Shards) -> Model:
    net = GPT2(GPT2Config(n_layer=2, n_head=2, n_embd=16, vocab_size=300, n_ctx=CONTEXT)).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(6.0)
    return Model(net, shards.tokenizer)


def plain_loss(model: Model, ids: list[int]) -> float:
    """Nats of a document: windows of the context one after the other, the last one full."""
    whole = [model.tokenizer.end_of_text, *ids]
    nats, end = 0.0, 1
    while end < len(whole):
        done, end = end, min(end + CONTEXT, len(whole))
        begin = max(0, end - 1 - CONTEXT)
        with torch.no_grad():
            logprobs = model.net(torch.tensor([whole[begin : end - 1]]))[0].double().log_softmax(-1)
        nats -= sum(float(logprobs[i - 1 - begin, whole[i]]) for i in range(done, end))
    return nats


@pytest.mark.parametrize("limit", [4096, 30, 12, 1])
def test_losses_equal_the_plain_ones(
    limit: int, model: Model, shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heldout, "DOCUMENTS_AT_ONCE", 3)
    split = shards.heldout
    documents = pick_documents(split, 100)
    losses = document_losses(model, split, documents, limit)
    expected = [plain_loss(model, split.document(i)[:limit].tolist()) for i in documents]
    np.testing.assert_allclose(losses.nats, expected, rtol=1e-5)
    assert losses.tokens.tolist() == [min(limit, len(split.document(i))) for i in documents]
    if limit == 4096:
        assert losses.n_bytes.tolist() == [split.n_bytes(i) for i in documents]
    total = sum(losses.tokens)
    assert losses.loss == pytest.approx(sum(expected) / total, rel=1e-6)
    assert losses.perplexity == pytest.approx(math.exp(sum(expected) / total), rel=1e-5)
    assert losses.bits_per_byte == pytest.approx(sum(expected) / math.log(2) / sum(losses.n_bytes), rel=1e-6)


def test_bytes_of_a_document_cut_inside_a_character_are_counted(model: Model, shards: Shards) -> None:
    split, tok = shards.heldout, shards.tokenizer
    for limit in range(1, 40):
        losses = document_losses(model, split, [3], limit)
        assert losses.n_bytes.tolist() == [
            sum(len(tok.tokens[i]) for i in split.document(3)[:limit].tolist())
        ]


def test_documents_are_picked_by_the_seed_and_never_empty(shards: Shards) -> None:
    split = shards.heldout
    every = pick_documents(split, 100)
    assert every == [0, 2, 3, 4, 5, 6, 8, 9], "documents 1 and 7 have no text"
    some = pick_documents(split, 4)
    assert len(some) == 4 and some == sorted(some) == pick_documents(split, 4)
    assert set(some) < set(every)
    assert len({tuple(pick_documents(split, 4, seed)) for seed in range(10)}) > 3


def test_documents_without_text_lose_nothing(model: Model, shards: Shards) -> None:
    losses = document_losses(model, shards.heldout, [1, 0, 7])
    alone = document_losses(model, shards.heldout, [0])
    assert losses.nats.tolist()[::2] == [0.0, 0.0] and losses.tokens.tolist()[::2] == [0, 0]
    assert losses.loss == alone.loss


def test_a_lower_number_format_is_near(model: Model, shards: Shards) -> None:
    documents = pick_documents(shards.heldout, 100)
    exact = document_losses(model, shards.heldout, documents)
    near = document_losses(model, shards.heldout, documents, compute=Compute("cpu", "bfloat16", 1))
    assert near.loss != exact.loss and near.loss == pytest.approx(exact.loss, rel=0.01)


def test_what_is_watched_while_training(model: Model, shards: Shards, tmp_path: Path) -> None:
    documents = pick_documents(shards.heldout, 64)
    seen: dict[str, object] = {}
    for call in usual_callbacks(shards):
        seen |= call(model, 10)
    assert seen["heldout_loss"] == round(document_losses(model, shards.heldout, documents, 256).loss, 5)
    prompt = shards.tokenizer.decode(shards.heldout.document(0)[:12].tolist())
    assert str(seen["sample"]).startswith(prompt)
    assert heldout_callback(shards.heldout, [3], 5)(model, 0) == {
        "heldout_loss": round(document_losses(model, shards.heldout, [3], 5).loss, 5)
    }
    for texts in ([("a", "a", "text")], [("a", "a", "text"), ("b", "b", "")]):
        write_shards(texts, shards.tokenizer, tmp_path / str(len(texts)), {"b"})
        assert usual_callbacks(Shards.open(tmp_path / str(len(texts)))) == [], "there is nothing to watch"
