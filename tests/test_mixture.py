"""Several folders of tokens by weights, documents kept apart, and the way back from a batch to its documents."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pytest
import torch

from gpt2.errors import ConfigError, InputError
from gpt2.model.config import GPT2Config
from gpt2.model.device import PLAIN, Compute
from gpt2.model.transformer import GPT2
from gpt2.tokens.bpe import Tokenizer
from gpt2.tokens.shards import Shards, write_shards
from gpt2.training.batches import Batches
from gpt2.training.mixture import Data, Mixture, proportions
from gpt2.training.optimizer import OptimizerConfig
from gpt2.training.plan import TrainConfig
from gpt2.training.provenance import batch_of
from gpt2.training.step import NextTokenLoss
from gpt2.training.trainer import train

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = GPT2Config(n_layer=2, n_head=2, n_embd=32, vocab_size=400, n_ctx=32)


class Line:
    """Tokens that say where they stand, from a number on."""

    def __init__(self, n: int, first: int) -> None:
        self.n_tokens, self.first = n, first

    def read(self, start: int, stop: int) -> np.ndarray:
        assert 0 <= start < stop <= self.n_tokens
        return np.arange(self.first + start, self.first + stop, dtype=np.uint16)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Shards of two parts of Python's own manual."""
    names, found = sorted(topics), []
    for i, part in enumerate((names[:30], names[30:50])):
        folder = tmp_path_factory.mktemp("data") / f"shards-{i}"
        documents = [(name, name, topics[name][:3000], f"https://example.org/{name}") for name in part]
        write_shards(documents, Tokenizer(Tokenizer.gpt2().pairs[:143]), folder, {part[3]})
        found.append(folder)
    return found


# Mixtures


@pytest.mark.parametrize("weights", [[3, 1], [1, 1], [0.2, 0.7]])
def test_a_mixture_keeps_its_weights_and_each_folder_its_epochs(weights: list[float]) -> None:
    lines = [Line(401, 0), Line(171, 1000)]
    mixture = Mixture(lines, weights, 10, 6, seed=3)
    shares = proportions(weights)
    rows = [row for step in range(200) for row in mixture.rows(step)]
    whole = len(rows) // sum(shares) * sum(shares)
    for i in range(0, whole, sum(shares)):
        counts = Counter(row.source for row in rows[i : i + sum(shares)])
        assert [counts[k] for k in (0, 1)] == shares, "exact in every round"
    for source, blocks in ((0, 40), (1, 17)):
        own = [row for row in rows if row.source == source]
        for epoch in range(len(own) // blocks):
            part = own[epoch * blocks : (epoch + 1) * blocks]
            assert sorted(row.begin for row in part) == [10 * i for i in range(blocks)], "once an epoch"
            assert {row.epoch for row in part} == {epoch}


def test_without_weights_all_folders_end_an_epoch_together() -> None:
    mixture = Mixture([Line(401, 0), Line(171, 1000)], None, 10, 3, seed=1)
    assert (mixture.n_blocks, mixture.steps_per_epoch, mixture.tokens_per_step) == (57, 19.0, 30)
    for epoch in (0, 1):
        targets = [int(t) for s in range(19) for row in mixture[19 * epoch + s] for t in row[1:]]
        assert sorted(targets) == [*range(1, 401), *range(1001, 1171)]


def test_a_mixture_depends_on_nothing_but_seed_and_step() -> None:
    def made(seed: int = 5) -> Mixture:
        return Mixture([Line(401, 0), Line(171, 1000)], [3, 1], 10, 6, seed)

    forward = made()
    rows = [forward[step].tolist() for step in range(60)]
    backward = made()
    assert [backward[step].tolist() for step in reversed(range(60))] == rows[::-1]
    assert made()[47].tolist() == rows[47] != made(6)[47].tolist()
    order = [[row.source for row in forward.rows(step)] for step in range(10)]
    assert len({tuple(sources) for sources in order}) > 3, "the round is shuffled anew each time"


def test_weights_become_the_smallest_whole_numbers() -> None:
    assert proportions([0.7, 0.2, 0.1]) == [7, 2, 1]
    assert proportions([300, 100]) == [3, 1]
    assert proportions([1.5, 2]) == [3, 4]
    with pytest.raises(ConfigError, match="a weight must be above 0, not -1"):
        proportions([1, -1])
    with pytest.raises(ConfigError, match="round them to fewer digits"):
        proportions([0.1234567, 1])


def test_a_mixture_trains_and_resumes_exactly(folders: list[Path], tmp_path: Path) -> None:
    rate = OptimizerConfig(learning_rate=1e-2)
    config = TrainConfig(
        tuple(folders), tmp_path / "run", SHAPE, steps=12, batch=4, weights=(3, 1), optimizer=rate, threads=1
    )
    whole = train(config).metrics
    alone = train(
        dataclasses.replace(config, tokens=folders[0], weights=None, out=tmp_path / "alone")
    ).metrics
    assert whole[-1]["loss"] != alone[-1]["loss"]
    with pytest.raises(ConfigError, match="begun with data"):
        train(dataclasses.replace(config, weights=(1, 1)), resume_run=True)
    with pytest.raises(ConfigError, match="2 folders of tokens and 1 weights"):
        train(dataclasses.replace(config, weights=(1,)), resume_run=True)


def test_one_folder_is_read_as_it_always_was(folders: list[Path]) -> None:
    data = Data.open(folders[0])
    batches, before = data.batches(32, 4, 7), Batches(Shards.open(folders[0]).train, 32, 4, 7)
    assert data.summary == Shards.open(folders[0]).summary
    for step in (0, 5, 200):
        assert torch.equal(batches[step], before[step])


def test_folders_of_two_vocabularies_are_not_mixed(folders: list[Path], tmp_path: Path) -> None:
    documents = [("a", "a", "some text " * 50)]
    write_shards(documents, Tokenizer(Tokenizer.gpt2().pairs[:100]), tmp_path / "other", set())
    with pytest.raises(ConfigError, match="of another vocabulary than those in"):
        Data.open([folders[0], tmp_path / "other"])


# Documents apart


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_masked_documents_are_as_if_each_stood_alone(dtype: str) -> None:
    end, compute = 0, Compute("cpu", dtype, 1)
    generator = torch.Generator().manual_seed(0)
    net = GPT2(SHAPE, seed=2)
    pieces = [torch.randint(1, 400, (n,), generator=generator) for n in (7, 1, 11, 9)]
    pieces = [pieces[0], *(torch.cat([torch.tensor([end]), piece]) for piece in pieces[1:])]
    row = torch.cat(pieces)
    ids = torch.stack([row, row.flip(0)])  # two rows whose documents end at different places
    packed = NextTokenLoss(net, compute, end_of_text=end)(ids)
    packed.backward()
    gradient = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    total, count = torch.zeros(()), 0
    for line in ids:
        starts = [0, *(torch.nonzero(line[:-1] == end)[:, 0].tolist())]
        for a, b in zip(starts, [*starts[1:], len(line) - 1], strict=True):
            if b > a:  # a document alone, and the first token after it as the last target
                total = total + NextTokenLoss(net, compute)(line[a : b + 1][None]) * (b - a)
                count += b - a
    assert count == ids.numel() - 2
    alone = total / count
    alone.backward()  # type: ignore[no-untyped-call]
    near = 1e-5 if dtype == "float32" else 2e-2
    torch.testing.assert_close(packed, alone, atol=near, rtol=near)
    for name, p in net.named_parameters():
        torch.testing.assert_close(gradient[name], p.grad, atol=near, rtol=near, msg=name)
    if dtype == "float32":
        assert (NextTokenLoss(net, compute)(ids) - packed).abs().detach() > 10 * near, "the mask must matter"


def test_masking_changes_nothing_where_there_is_one_document() -> None:
    net = GPT2(SHAPE, seed=2)
    ids = torch.randint(1, 400, (2, 33), generator=torch.Generator().manual_seed(0))
    ids[:, 0] = 0
    torch.testing.assert_close(NextTokenLoss(net, PLAIN, 0)(ids), NextTokenLoss(net, PLAIN)(ids))
    with torch.no_grad():  # the path that does not learn masks too
        documents = torch.tensor([[0] * 16 + [1] * 16])
        hidden = net.hidden(ids[:1, :32], documents=documents)
        torch.testing.assert_close(hidden[:, 16:], net.hidden(ids[:1, 16:32]), atol=1e-5, rtol=1e-5)


def test_training_with_masks_is_another_run(folders: list[Path], tmp_path: Path) -> None:
    config = TrainConfig(folders[0], tmp_path / "a", SHAPE, steps=3, batch=64, threads=1)
    plain = train(config).metrics
    masked = train(dataclasses.replace(config, out=tmp_path / "b", mask_documents=True)).metrics
    assert [row["loss"] for row in plain] != [row["loss"] for row in masked]
    with pytest.raises(ConfigError, match="begun with mask_documents False, not True"):
        train(dataclasses.replace(config, mask_documents=True), resume_run=True)


# From a batch to its documents


def test_a_batch_names_its_documents(folders: list[Path], tmp_path: Path) -> None:
    config = TrainConfig(tuple(folders), tmp_path / "run", SHAPE, steps=3, batch=4, weights=(1, 1), threads=1)
    train(config)
    data = Data.open(folders, (1, 1))
    for step in (1, 3):
        found = batch_of(config.out, step)
        ids = data.batches(32, 4, 0)[step - 1]
        assert len(found) == 4
        for passage, row in zip(found, ids, strict=True):
            side = Shards.open(passage.folder).train
            assert side.read(passage.begin, passage.stop).tolist() == row.tolist()
            assert passage.documents[0].start <= passage.begin and passage.stop <= passage.documents[-1].stop
            text = data.tokenizer.decode(row.tolist())
            for place in passage.documents:
                inside = side.read(
                    max(place.start + 1, passage.begin), min(place.stop, passage.stop)
                ).tolist()
                assert data.tokenizer.decode(inside) in text
                assert place.url == f"https://example.org/{place.id}"
                assert data.tokenizer.decode(inside[1:-1]) in topics[place.id]
    with pytest.raises(InputError, match="no step 4; it has 3"):
        batch_of(config.out, 4)
    with pytest.raises(ConfigError, match="not those that the run was trained on"):
        batch_of(config.out, 1, [folders[1], folders[0]])
    with pytest.raises(InputError, match="no training run in"):
        batch_of(tmp_path, 1)


def test_batches_that_were_passed_over_are_counted(folders: list[Path], tmp_path: Path) -> None:
    config = TrainConfig(folders[0], tmp_path / "run", SHAPE, steps=6, batch=4, threads=1)
    train(config)
    before = [batch_of(config.out, step) for step in range(1, 7)]
    log = config.out / "metrics.jsonl"
    rows = log.read_text().splitlines()
    rows[3] = rows[3].replace('"step": 4', '"step": 4, "went_back_from": 5, "passed_over": 2')
    log.write_text("\n".join(rows) + "\n")
    assert [batch_of(config.out, step) for step in (1, 2, 3)] == before[:3]
    assert batch_of(config.out, 4) == before[5], "batches 4 and 5 were passed over"
