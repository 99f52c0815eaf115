"""Learning from examples with answers, to be killed at any moment and resumed.

`learn` is the loop that classifiers and question answerers share: a loss that is a function of the step, AdamW,
a rate that is a function of the step. The settings are GPT-1's (openai/finetune-transformer-lm: 3 epochs, rate
6.25e-5 after a warm-up over 0.2 % of the steps straight down to 0, decay 0.01 on matrices, gradients clipped to
norm 1, half the language-modelling loss of the texts added), with batches of 32; not its dropout, which GPT-2's
published network does not have. Howard and Ruder's methods (`methods.py`) combine with it: a rate for each layer,
slanted triangles, layers thawed one by one.

Batches are a function of seed and epoch: a permutation, cut into pools of 16 batches, each pool sorted by length
so that little is padding, and the batches shuffled. So nothing is saved but weights, optimizer and step
(CHECKPOINT, which appears by renaming), and a run that was killed ends, on the same machine with as many threads,
in the very weights of one that was not. When a run is finished its checkpoint goes.

    lessons = Lessons(classifier, items, targets, config)
    learn(classifier.network, lessons.loss, lessons.steps, config, Path("run"))
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from gpt2.console import QUIET, Console, MetricsLog
from gpt2.errors import ConfigError, WorkbenchError
from gpt2.finetuning.classifier import Padded, TextClassifier, pad
from gpt2.finetuning.layout import Inputs
from gpt2.finetuning.methods import layer_of, layer_rates, slanted_triangular, thawed
from gpt2.model.device import DTYPES, PLAIN, Compute
from gpt2.training.loss import chunked_cross_entropy
from gpt2.training.optimizer import OptimizerConfig, fresh
from gpt2.training.parallel import ALONE, processor
from gpt2.training.resume import CHECKPOINT, STATE, differences, flat, read, read_state
from gpt2.training.stopping import Stopping
from gpt2.workspace import Json, atomic_folder, file_digest, recover_folder, remove, write_json

GPT1 = OptimizerConfig(
    learning_rate=6.25e-5,
    warmup=0.002,
    schedule="linear",
    final=0.0,
    weight_decay=0.01,
    beta2=0.999,
    clip=1.0,
)
"""How GPT-1 was fine-tuned."""
POOL = 16
"""Batches that are sorted by length together."""


@dataclass(frozen=True)
class SupervisedConfig:
    """How to learn from examples with answers."""

    epochs: float = 3.0
    """How often each example is seen."""
    batch: int = 32
    """Examples in a step."""
    optimizer: OptimizerConfig = field(default_factory=lambda: GPT1)
    """How weights are changed."""
    schedule: Literal["optimizer", "slanted"] = "optimizer"
    """The optimizer's own rates, or slanted triangles up to its highest."""
    lm_weight: float = 0.5
    """Share of the texts' own language-modelling loss that is added to a classifier's."""
    layer_factor: float | None = None
    """How many times the rate of the layer below a layer's is, such as 2.6; None for one rate."""
    unfreeze: bool = False
    """Whether layers are thawed one by one, from the top."""
    seed: int = 0
    """Decides the head's first weights and the order of the examples."""
    save_every_seconds: float = 60.0
    """Time between two checkpoints."""

    def __post_init__(self) -> None:
        if not 0 < self.epochs < math.inf:
            raise ConfigError(f"epochs must be above 0, not {self.epochs}")
        if self.batch < 1:
            raise ConfigError(f"a batch must have at least 1 example, not {self.batch}")
        if not 0 <= self.lm_weight < math.inf:
            raise ConfigError(f"lm_weight must be 0 or more, not {self.lm_weight}")
        if self.schedule not in ("optimizer", "slanted"):
            raise ConfigError(f"schedule is optimizer or slanted, not {self.schedule!r}")

    def settings(self) -> Json:
        """All that decides the weights a run ends with."""
        found = dataclasses.asdict(self)
        del found["save_every_seconds"]
        return found


def order(lengths: Sequence[int], batch: int, epochs: float, seed: int) -> list[list[int]]:
    """The examples of each step, by their numbers; each is seen once an epoch."""
    n, steps = len(lengths), math.ceil(len(lengths) / batch)
    found: list[list[int]] = []
    for epoch in range(math.ceil(epochs)):
        rng = np.random.default_rng([seed, epoch])
        mixed = rng.permutation(n).tolist()
        pools = [mixed[i : i + POOL * batch] for i in range(0, n, POOL * batch)]
        row = [i for pool in pools for i in sorted(pool, key=lengths.__getitem__)]
        cut = [row[i : i + batch] for i in range(0, n, batch)]
        found += [cut[i] for i in rng.permutation(len(cut)).tolist()]
    return found[: math.ceil(epochs * steps)]


class Lessons:
    """The loss of a classifier on each step's examples."""

    def __init__(
        self,
        classifier: TextClassifier,
        items: Sequence[Inputs],
        targets: Sequence[float],
        config: SupervisedConfig,
        compute: Compute = PLAIN,
    ) -> None:
        self.classifier, self.items, self.config, self.compute = classifier, items, config, compute
        p = classifier.purpose
        self.targets = torch.tensor(targets, dtype=torch.int64 if p.labels else torch.float32)
        if not p.labels:
            self.targets = (self.targets - p.mean) / p.deviation
        self.order = order([item.length for item in items], config.batch, config.epochs, config.seed)

    @property
    def steps(self) -> int:
        """Steps in all."""
        return len(self.order)

    def loss(self, step: int) -> Tensor:
        """The mean loss of the examples of step 0, 1, 2, ..."""
        rows = self.order[step]
        return self.loss_of(pad([self.items[i] for i in rows]), self.targets[rows])

    def loss_of(self, batch: Padded, targets: Tensor) -> Tensor:
        """The mean loss of any padded examples: cross entropy, or squared distance of scores."""
        network = self.classifier.network
        device = network.head.weight.device
        batch = Padded(batch.ids.to(device), batch.real.to(device), batch.orders)
        with self.compute.autocast(batch.ids):
            hidden = network.hidden(batch)  # [N, T, C]
            logits = network.logits(hidden, batch).float()  # [B, outputs]
        targets = targets.to(device)
        score = not self.classifier.purpose.labels
        loss = F.mse_loss(logits[:, 0], targets) if score else F.cross_entropy(logits, targets)
        if self.config.lm_weight:
            loss = loss + self.config.lm_weight * self.language(hidden, batch)
        return loss

    def language(self, hidden: Tensor, batch: Padded) -> Tensor:
        """Nats a token of the texts themselves; marks are read, not foretold."""
        weight = self.classifier.network.net.wte.weight
        wanted = batch.real[:, 1:] & batch.real[:, :-1] & (batch.ids[:, 1:] < len(weight))  # [N, T - 1]
        if not bool(wanted.any()):
            return hidden.new_zeros(())
        dtype = DTYPES[self.compute.dtype]
        return chunked_cross_entropy(hidden[:, :-1][wanted], weight, batch.ids[:, 1:][wanted], dtype)


def learn(
    module: nn.Module,
    loss: Callable[[int], Tensor],
    steps: int,
    config: SupervisedConfig,
    folder: Path,
    compute: Compute = PLAIN,
    console: Console = QUIET,
    title: str = "fine-tuning",
) -> None:
    """Take `steps` steps, or those that are left since the checkpoint in `folder`; log to metrics.jsonl there.

    `module` has the network as `net`, or is one. Raises `WorkbenchError` when the loss is no number, and
    `KeyboardInterrupt` after a checkpoint when the program is asked to end.
    """
    course = Course(module, steps, config, folder, compute, console)
    at, log = course.restore(), MetricsLog(folder / "metrics.jsonl")
    log.cut(at)
    module.train()
    with console.progress(title, steps, "steps") as bar, Stopping() as stopping:
        bar.skip(at)
        while at < steps:
            begun = time.perf_counter()
            course.prepare(at)
            value = loss(at)
            value.backward()  # type: ignore[no-untyped-call]
            found = float(value.detach())
            norm = float(torch.nn.utils.clip_grad_norm_(course.trained(), config.optimizer.clip))
            if not math.isfinite(found) or not math.isfinite(norm):
                raise WorkbenchError(
                    f"the loss is no number at step {at + 1}; take a lower learning rate than "
                    f"{config.optimizer.learning_rate:g}"
                )
            course.update()
            at += 1
            spent = round(time.perf_counter() - begun, 4)
            log.write(step=at, loss=round(found, 5), gradient_norm=round(norm, 4), seconds=spent)
            bar.advance(1, f"loss {found:.3f}")
            if stopping.signal or (at < steps and course.due()):
                course.save(at)
            if stopping.signal:
                raise stopping.leave()
    module.eval()


class Course:
    """What changes a network's weights, and its state on disk."""

    def __init__(
        self,
        module: nn.Module,
        steps: int,
        config: SupervisedConfig,
        folder: Path,
        compute: Compute,
        console: Console,
    ) -> None:
        self.named = dict(module.named_parameters())
        net: Any = getattr(module, "net", module)
        self.layers: int = net.config.n_layer
        self.layer = {name: layer_of(name.removeprefix("net."), self.layers) for name in self.named}
        self.steps, self.config, self.folder = steps, config, folder
        self.compute, self.console = compute, console
        self.optimizer = self.make_optimizer()
        self.saved = time.monotonic()

    def make_optimizer(self) -> torch.optim.Optimizer:
        """AdamW; a group for each layer and kind of weight, with its share of the rate."""
        o, factor = self.config.optimizer, self.config.layer_factor
        rates = layer_rates(self.layers, factor) if factor else [1.0] * (self.layers + 2)
        groups: dict[tuple[int, bool], list[Tensor]] = {}
        for name, p in self.named.items():
            groups.setdefault((self.layer[name], p.dim() >= 2), []).append(p)
        listed = [
            {"params": ps, "share": rates[layer], "weight_decay": o.weight_decay if matrix else 0.0}
            for (layer, matrix), ps in groups.items()
        ]
        return torch.optim.AdamW(listed, lr=o.learning_rate, betas=(o.beta1, o.beta2), eps=1e-8, fused=True)

    def prepare(self, step: int) -> None:
        """Set what step 0, 1, 2, ... may change, and how fast."""
        o = self.config.optimizer
        if self.config.schedule == "slanted":
            rate = o.learning_rate * slanted_triangular(step, self.steps)
        else:
            rate = o.rate(step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        if self.config.unfreeze:
            layers = thawed(step, self.steps, self.layers)
            for name, p in self.named.items():
                p.requires_grad_(self.layer[name] in layers)

    def trained(self) -> list[Tensor]:
        """What has gradients."""
        return [p for p in self.named.values() if p.grad is not None]

    def update(self) -> None:
        """Change the weights, and be ready for the next step."""
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return time.monotonic() - self.saved > self.config.save_every_seconds

    def made_with(self) -> Json:
        """What decides how sums are rounded."""
        c = self.compute
        threads = torch.get_num_threads()
        where = {"device": c.device, "processor": processor(c.device), "threads": threads}
        return where | {"dtype": c.dtype, "torch": str(torch.__version__)}

    def save(self, step: int) -> None:
        """Write the state after so many steps."""
        states = {n: self.optimizer.state[p] or fresh(self.optimizer, p) for n, p in self.named.items()}
        with atomic_folder(self.folder / CHECKPOINT, STATE) as draft:
            weights = {name: p.detach().cpu().contiguous() for name, p in self.named.items()}
            save_file(weights, draft / "weights.safetensors")
            save_file({n: t.cpu() for n, t in flat(states).items()}, draft / "optimizer.safetensors")
            sums = {path.name: file_digest(path) for path in sorted(draft.iterdir())}
            write_json(draft / STATE, {"step": step, "made_with": self.made_with(), "files": sums})
        self.saved = time.monotonic()

    def restore(self) -> int:
        """Take up the checkpoint, if there is one; its step, or 0."""
        folder = self.folder / CHECKPOINT
        recover_folder(folder)
        if not folder.exists():
            return 0
        state = read_state(folder)
        if said := differences(state["made_with"], self.made_with()):
            self.console.say(said)
        states = {name: fresh(self.optimizer, p) for name, p in self.named.items()}
        with torch.no_grad():
            read(folder / "weights.safetensors", dict(self.named), ALONE.put)
            read(folder / "optimizer.safetensors", flat(states), ALONE.put)
        for name, p in self.named.items():
            self.optimizer.state[p] = states[name]
        return int(state["step"])


def forget(folder: Path) -> None:
    """Take away the checkpoint of a run that is finished and whose result is kept."""
    remove(folder / CHECKPOINT)
