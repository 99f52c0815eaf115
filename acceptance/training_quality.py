"""Quality at equal cost: `gpt2 train` beside a nanoGPT-style loop, and `--recipe modern` in the same minutes.

English prose with a vocabulary of 8,192 learned from it, six novels held out as whole works; one shape of about
10 M parameters, one context, one batch. Three sides:

    ours      `gpt2 train` as it is: AdamW, cosine to a tenth, every token once an epoch
    nanogpt   a plain loop after nanoGPT's published design (`benchmarks/train.py` has its network): the same
              AdamW and cosine, its first weights, windows drawn with replacement
    modern    `gpt2 train --recipe modern`: Muon and a straight line to zero, for as many minutes as ours

Each side's learning rate is the best of the same three on the held-out novels; with it three seeds. What a side
loses on a document is the mean over seeds; differences have a paired 95 % interval over documents. Passed, when
ours is not worse than nanogpt and modern is better than ours.

It takes hours. Each part is done once and kept in the folder GPT2_QUALITY (default: gpt2-quality in the system's
temporary folder), so it may be stopped and started again.

    GPT2_DATA=DATA GPT2_QUALITY=STATE python -m acceptance training_quality
    GPT2_DATA=DATA python -m acceptance.training_quality --tiny        all of it in a minute, to see that it works
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.train import PlainGPT, adam
from gpt2.errors import InputError
from gpt2.evaluation.heldout import document_losses, heldout_callback, pick_documents
from gpt2.evaluation.metrics import Losses, by_group, compare
from gpt2.model.checkpoint import Model, load
from gpt2.model.config import GPT2Config
from gpt2.model.device import choose
from gpt2.model.transformer import GPT2
from gpt2.tokens.bpe import Tokenizer
from gpt2.tokens.shards import Shards, write_shards
from gpt2.training.batches import Batches
from gpt2.training.optimizer import OptimizerConfig
from gpt2.training.plan import TrainConfig
from gpt2.training.recipes import recipe
from gpt2.training.speed import make_learner
from gpt2.training.trainer import train
from gpt2.workspace import Json, Workspace

SIDES = ("ours", "nanogpt", "modern")
HELDOUT = (
    "Doyle_Hound_1902",
    "Forster_View_1908",
    "Gaskell_Ruth_1855",
    "Stevenson_Treasure_1883",
    "Trollope_Warden_1855",
    "Woolf_Lighthouse_1927",
)
PIECE = 16_000
"""Characters of a document that a longer text is cut into."""
LOOKS = 8
"""Points of a curve."""


@dataclass(frozen=True)
class Settings:
    """How large the comparison is."""

    n_vocab: int = 8192
    layers: int = 6
    heads: int = 5
    channels: int = 320
    context: int = 256
    batch: int = 16
    tokens: int = 4_000_000
    rates: tuple[float, ...] = (7e-4, 1.5e-3, 3e-3)
    seeds: int = 3
    megabytes: float = 1e9

    @property
    def steps(self) -> int:
        """Steps of a run of ours."""
        return self.tokens // (self.batch * self.context)

    @property
    def shape(self) -> GPT2Config:
        """The network of all sides."""
        return GPT2Config(self.layers, self.heads, self.channels, self.n_vocab, self.context)


TINY = Settings(512, 2, 2, 32, 64, 8, 30_000, (3e-3, 1e-2), 2, 0.6)


def main() -> None:
    """Do what is left to do, then compare; raises `AssertionError` when a side falls short."""
    if "GPT2_DATA" not in os.environ:
        raise InputError("set GPT2_DATA to the folder of real data")
    tiny = "--tiny" in sys.argv
    state = Path(os.environ.get("GPT2_QUALITY", Path(tempfile.gettempdir()) / "gpt2-quality"))
    with Workspace(state / ("tiny" if tiny else "whole")) as work:
        Comparison(TINY if tiny else Settings(), work).go()


class Comparison:
    """All parts, each done once."""

    def __init__(self, settings: Settings, work: Workspace) -> None:
        self.settings, self.work, self.compute = settings, work, choose("cpu")

    def go(self) -> None:
        """Tokens, speeds, the sweep, the seeds, the comparison."""
        s = self.settings
        self.part("tokens", {}, self.write_tokens)
        self.shards = Shards.open(self.work.folder / "tokens" / "shards")
        print(f"{self.shards}, {s.shape.num_parameters():,} parameters, {s.steps:,} steps of ours")
        speed = self.part("speed", {}, self.measure_speed)
        steps = dict.fromkeys(SIDES, s.steps) | {"modern": round(s.steps / speed["ratio"])}
        print(
            f"a step takes {speed['ours']:.3f} s, with Muon {speed['ratio']:.3f} times that: "
            f"modern has {steps['modern']:,} steps"
        )
        best = {}
        for side in SIDES:
            found = {rate: self.run(side, rate, 0, steps[side])["loss"] for rate in s.rates}
            best[side] = min(found, key=found.__getitem__)
            print(f"{side:8} " + ", ".join(f"{rate:g}: {loss:.4f}" for rate, loss in found.items()))
        losses = {
            side: self.mean([self.run(side, best[side], i, steps[side]) for i in range(s.seeds)])
            for side in SIDES
        }
        self.curves(best, steps)
        self.verdict(losses)

    def part(self, name: str, settings: Json, do: Callable[[Path], Json]) -> Json:
        """Do a part, or take what it gave before."""
        return self.work.run(name, {"settings": dataclasses.asdict(self.settings), **settings}, do)

    def write_tokens(self, folder: Path) -> Json:
        """English prose in pieces, a vocabulary learned from what is not held out."""
        documents = list(english(Path(os.environ["GPT2_DATA"]) / "prose", self.settings.megabytes))
        texts = [text for _, group, text in documents if group not in HELDOUT]
        vocabulary = Tokenizer.learn(texts, self.settings.n_vocab)
        return write_shards(documents, vocabulary, folder / "shards", set(HELDOUT))

    def measure_speed(self, folder: Path) -> Json:  # noqa: ARG002
        """Seconds a step of AdamW, and how many times that one of Muon takes right after it; medians."""
        s, times = self.settings, dict[str, list[float]]()
        learners = {
            side: make_learner(GPT2(s.shape), self.optimizer(side, 1e-5), self.compute)
            for side in ("ours", "modern")
        }
        batches = Batches(self.shards.train, s.context, s.batch)
        for i in range(24):
            for side, learner in learners.items():
                begun = time.perf_counter()
                learner.gradients(batches[i])
                learner.update(0.0)
                times.setdefault(side, []).append(time.perf_counter() - begun)
        ratios = [muon / adamw for adamw, muon in zip(times["ours"][2:], times["modern"][2:], strict=True)]
        return {"ours": float(np.median(times["ours"][2:])), "ratio": max(1.0, float(np.median(ratios)))}

    def optimizer(self, side: str, rate: float) -> OptimizerConfig:
        """The settings of a side of `gpt2 train`."""
        name = "modern" if side == "modern" else "gpt2"
        return recipe(name).optimizer(self.settings.shape, self.settings.batch * self.settings.context, rate)

    def run(self, side: str, rate: float, seed: int, steps: int) -> Json:
        """Train a side once and measure it on all held-out documents."""
        name = f"{side}-{rate:g}-{seed}"
        return self.part(name, {"steps": steps}, lambda folder: self.train(folder, side, rate, seed, steps))

    def train(self, folder: Path, side: str, rate: float, seed: int, steps: int) -> Json:
        """The same, in a folder; a run of ours that was stopped goes on."""
        s, held = self.settings, self.shards.heldout
        watched = pick_documents(held, 24)
        look = heldout_callback(held, watched, s.context, self.compute)
        every = max(1, steps // LOOKS)
        begun = time.monotonic()
        if side == "nanogpt":
            model, curve = self.plain_loop(rate, seed, steps, every, look)
        else:
            config = TrainConfig(
                self.shards.folder,
                folder / "run",
                s.shape,
                steps=steps,
                batch=s.batch,
                optimizer=self.optimizer(side, rate),
                seed=seed,
                callback_every=every,
            )
            done = train(config, [look], resume_run=True)
            curve = [[row["step"], row["heldout_loss"]] for row in done.metrics if "heldout_loss" in row]
            model = load(folder / "run")
        found = document_losses(model, held, pick_documents(held, held.n_documents), compute=self.compute)
        print(f"  {folder.name}: {found.loss:.4f} in {(time.monotonic() - begun) / 60:.1f} min", flush=True)
        columns = {name: getattr(found, name).tolist() for name in ("nats", "tokens", "n_bytes")}
        return {"loss": found.loss, "curve": curve, **columns}

    def plain_loop(
        self, rate: float, seed: int, steps: int, every: int, look: Callable[[Model, int], Json]
    ) -> tuple[Model, list[list[float]]]:
        """nanoGPT's loop: windows drawn with replacement, AdamW, gradients clipped, cosine to a tenth."""
        s, tokens = self.settings, self.shards.train
        start = GPT2(s.shape, seed)
        torch.nn.init.normal_(start.wpe.weight, std=0.02, generator=torch.Generator().manual_seed(seed))
        net = PlainGPT(s.shape)
        net.load_state_dict(start.state_dict() | {"lm_head.weight": start.wte.weight})
        optimizer, schedule = adam(net), OptimizerConfig(learning_rate=rate)
        draw, curve = np.random.default_rng(seed), []
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(step, steps)
            begins = draw.integers(0, tokens.n_tokens - s.context - 1, s.batch)
            rows = np.stack([tokens.read(int(i), int(i) + s.context + 1) for i in begins])
            ids = torch.from_numpy(rows.astype(np.int64))
            with self.compute.autocast(ids):
                loss = net(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), schedule.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if (step + 1) % every == 0 or step + 1 == steps:
                weights = {k: v for k, v in net.state_dict().items() if k != "lm_head.weight"}
                start.load_state_dict(weights)
                curve.append(
                    [step + 1, look(Model(start.eval(), self.shards.tokenizer), step)["heldout_loss"]]
                )
        return Model(start, self.shards.tokenizer), curve

    def mean(self, runs: Sequence[Json]) -> Losses:
        """What a side loses on each document, the mean over seeds."""
        nats = np.mean([run["nats"] for run in runs], axis=0)
        return Losses(nats, np.array(runs[0]["tokens"]), np.array(runs[0]["n_bytes"]))

    def curves(self, best: dict[str, float], steps: dict[str, int]) -> None:
        """Held-out loss while training, mean over seeds."""
        for side in SIDES:
            runs = [self.run(side, best[side], i, steps[side])["curve"] for i in range(self.settings.seeds)]
            points = [(run[0], np.mean([c[i][1] for c in runs])) for i, run in enumerate(runs[0])]
            print(f"{side:8} curve " + ", ".join(f"{step:,.0f}: {loss:.3f}" for step, loss in points))

    def verdict(self, losses: dict[str, Losses]) -> None:
        """Compare, print, and fail where a side falls short."""
        groups = [self.shards.heldout.groups[i] for i in pick_documents(self.shards.heldout, 10**9)]
        found = {}
        for side, other in (("ours", "nanogpt"), ("modern", "ours")):
            found[side] = compare(losses[side], losses[other])
            low, high = found[side].interval
            wide = compare(by_group(losses[side], groups), by_group(losses[other], groups)).interval
            print(
                f"{side} {losses[side].loss:.4f} against {other} {losses[other].loss:.4f}: "
                f"{found[side].loss_difference:+.4f} nats a token ({low:+.4f} to {high:+.4f} over "
                f"{found[side].documents} documents, {wide[0]:+.4f} to {wide[1]:+.4f} over {len(set(groups))} novels)"
            )
        assert found["ours"].interval[0] <= 0, "ours is worse than the nanoGPT-style loop"
        assert found["modern"].interval[1] < 0, "--recipe modern is not better in the same minutes"


def english(folder: Path, megabytes: float) -> list[tuple[str, str, str]]:
    """Id, group and text of each piece of English prose; a work is a group."""
    if not folder.exists():
        raise InputError(f"there is no prose in {folder}")
    texts = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".txt", ".md", ".asc") and "french" not in path.parts:
            texts[path.stem if path.parent.name == "novels" else str(path.relative_to(folder))] = (
                path.read_text()
            )
    for path in sorted(folder.glob("*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            texts |= {f"{path.stem}-{i}": json.loads(line)["text"] for i, line in enumerate(lines)}
    pieces, size = [], 0
    for name, text in sorted(texts.items(), key=lambda item: item[0] not in HELDOUT):
        if size < megabytes * 1e6 or name in HELDOUT:
            cut = [text[i : i + PIECE] for i in range(0, len(text), PIECE)]
            cut = cut[: 2 if megabytes < 1 else None]
            pieces += [(f"{name}-{i}", name, piece) for i, piece in enumerate(cut)]
            size += sum(map(len, cut))
    return pieces


if __name__ == "__main__":
    main()
