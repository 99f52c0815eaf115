"""Training a GPT-2 on token shards, to be killed at any moment and resumed.

The loop is the plain one: next-token cross entropy, AdamW, warm-up and cosine, for a number of steps that is
decided before the first (`plan.py`). What else should happen while it trains, such as held-out evaluation and
samples, is handed in as callbacks.

    gpt2 train --tokens TOKENS --out RUN --size 124M --minutes 60
    gpt2 train --tokens TOKENS --out RUN --size 124M --minutes 60 --resume
    torchrun --nproc-per-node 4 -m gpt2 train --tokens TOKENS --out RUN --size 355M --batch 512 --steps 20000

Every token file is held against its checksum before training begins. A run resumed on the same device with
as many threads and processes, the same number format and torch ends in the very weights, bit for bit, of a
run that was never stopped; otherwise it says in a line that it will not. On SIGTERM or Ctrl-C it finishes
the step, writes a checkpoint and leaves (`stopping.py`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gpt2.console import QUIET, Bar, Console, MetricsLog
from gpt2.errors import ConfigError
from gpt2.model.checkpoint import Model
from gpt2.model.device import Compute, choose
from gpt2.model.transformer import GPT2
from gpt2.training import plan, resume, spikes
from gpt2.training.average import Average
from gpt2.training.batches import Batches
from gpt2.training.beginning import beside_data, first_model, weights_digest
from gpt2.training.curves import Curves
from gpt2.training.method import PLAIN, Method
from gpt2.training.mixture import Data
from gpt2.training.parallel import Crew, join
from gpt2.training.plan import TrainConfig, settings
from gpt2.training.speed import make_learner, matrix_peak, operations, seconds_per_step
from gpt2.training.stopping import Stopping
from gpt2.workspace import Json, Workspace, read_json, versions

LEARNED = 0.05
"""Loss below which one batch counts as learned by heart."""


@dataclass(frozen=True)
class TrainResult:
    """A finished run."""

    model: Model
    steps: int
    tokens: int
    """Tokens trained on."""
    seconds: float
    """Time in training steps, over all resumptions."""
    metrics: list[Json]
    """The lines of metrics.jsonl."""
    learned: bool | None = None
    """With `overfit_batch`: whether its loss fell below `LEARNED`."""
    reports: bool = True
    """Whether this is the process that tells of the run; of several, one."""


Callback = Callable[[Model, int], Json]
"""Called with the model and the steps done; what it returns is logged."""


def train(
    config: TrainConfig,
    callbacks: Sequence[Callback] = (),
    resume_run: bool = False,
    console: Console = QUIET,
    method: Method = PLAIN,
) -> TrainResult:
    """Train as `config` says, or go on where the run in `config.out` stopped.

    Raises `InputError` when there is a run already and `resume_run` is not set, `ConfigError` when that run
    was begun with other settings or a batch cannot be shared evenly, `FormatError` for damaged tokens,
    `BusyError` when another process is at it, and `WorkbenchError` when the loss is no longer a number or a
    checkpoint cannot be written. Ends with `KeyboardInterrupt` on Ctrl-C and on SIGTERM.
    """
    compute = choose(config.device, config.dtype, config.threads)
    with join(config.parallel, compute.device) as crew:
        crew.told(lambda: bool(Data.open(config.tokens, config.weights, verify=True)))
        shards = Data.open(config.tokens, config.weights)
        first = None
        if config.start is not None:
            first = first_model(config.start, shards, config.model)
            config = dataclasses.replace(config, model=first.net.config)
        if shards.tokenizer.n_vocab != config.model.vocab_size:
            raise ConfigError(
                f"the tokens in {shards.folders[0].folder} are of a vocabulary of {shards.tokenizer.n_vocab}, "
                f"but the model's is {config.model.vocab_size}"
            )
        crew.check(config.batch, config.accumulate)
        if method is not PLAIN and crew.size > 1:
            raise ConfigError("one process alone can tune in that way; start it without torchrun")
        if (config.keep_best or config.patience) and not callbacks:
            what = "keep_best" if config.keep_best else "patience"
            raise ConfigError(
                f"{what} needs held-out documents, and there are none; write shards that have some"
            )
        with Workspace(config.out) if crew.first else contextlib.nullcontext():
            run = Run(config, shards, compute, crew, callbacks, console if crew.first else QUIET, method)
            return run.go(resume_run, first)


class Run:
    """One training, from its plan to its last checkpoint."""

    def __init__(
        self,
        config: TrainConfig,
        shards: Data,
        compute: Compute,
        crew: Crew,
        callbacks: Sequence[Callback],
        console: Console,
        method: Method,
    ) -> None:
        self.config, self.shards, self.compute = config, shards, compute
        self.crew, self.callbacks, self.console, self.method = crew, callbacks, console, method
        self.batches = shards.batches(config.block, config.batch, config.seed)
        self.beside: Batches | None = None
        self.more: Json = {"method": method.settings} if method.settings else {}
        """What decides the run besides its config."""
        if config.beside:
            other = beside_data(config.beside.tokens, shards)
            self.beside = other.batches(config.block, config.batch, config.seed)
            self.more["beside"] = {"data": other.summary, "weight": config.beside.weight}
        self.apart = shards.tokenizer.end_of_text if config.mask_documents else None
        self.progress = resume.Progress()
        self.saver = resume.Saver(config.out)
        self.saved = time.monotonic()
        self.learned = False
        self.row: Json = {}
        self.remark: Json = {}
        """What the next row of metrics says besides."""
        self.spent = self.share = 0.0
        """Seconds since the last logged row, and the share of the matrix peak there."""

    def go(self, resume_run: bool, first: Model | None) -> TrainResult:
        """Plan, restore, train."""
        config, crew, compute, method = self.config, self.crew, self.compute, self.method
        if first:
            self.more["start"] = weights_digest(first.net)
        self.steps = self.plan(resume_run)
        net = first.net.train() if first else GPT2(config.model, config.seed)
        method.prepare(net)
        self.model = Model(net.to(compute.device), self.shards.tokenizer)
        self.learner = make_learner(net, **self.how)
        self.average = Average(method.kept(net), config.ema, crew) if config.ema else None
        self.restore()
        self.logged = self.progress.step
        self.peak = matrix_peak(compute)
        self.log = MetricsLog(config.out / "metrics.jsonl")
        self.curves: Curves | None = None
        if crew.first:
            self.log.cut(self.progress.step)
            self.curves = Curves(config.out, self.progress.step) if config.tensorboard else None
        title, tokens = f"training {size_name(net)}", self.batches.tokens_per_step
        try:
            with self.console.progress(title, self.steps * tokens, "tokens") as bar, Stopping() as stopping:
                bar.skip(self.progress.step * tokens)
                while self.progress.step < self.steps and not (self.learned or self.tired):
                    self.step(bar, stopping)
                self.saver.wait()
                if stopping.signal:
                    raise stopping.leave()
        finally:
            self.saver.join()
            if self.curves:
                self.curves.close()
        self.model.net = method.finish(crew.whole_net(net, keep=True)).eval()
        rows = self.log.read()
        done = self.progress.step
        learned = self.learned if config.overfit_batch else None
        seconds = sum(row["seconds"] for row in rows)
        return TrainResult(self.model, done, done * tokens, seconds, rows, learned, crew.first)

    @property
    def how(self) -> dict[str, Any]:
        """How it learns, as `make_learner` is told."""
        config = self.config
        return {
            "optimizer": config.optimizer,
            "compute": self.compute,
            "crew": self.crew,
            "accumulate": config.accumulate,
            "recompute": config.recompute,
            "end_of_text": self.apart,
            "method": self.method,
            "beside_weight": config.beside.weight if config.beside else 0.0,
        }

    @property
    def tired(self) -> bool:
        """Whether the held-out loss has not fallen for too long."""
        return self.config.patience is not None and self.progress.stale >= self.config.patience

    def plan(self, resume_run: bool) -> int:
        """The number of steps: that of the run being resumed, or a new one, saved before training begins."""
        config, crew = self.config, self.crew
        if steps := int(crew.told(lambda: plan.begun(config, self.shards, resume_run, self.more))):
            return steps
        seconds = 0.0
        if config.minutes is not None:
            seconds = seconds_per_step(config.model, self.batches, beside=self.beside, **self.how)
        (seconds,) = crew.mean(seconds)
        steps = plan.steps_of(config, self.batches, seconds)
        if crew.first:
            plan.record(config, self.shards, self.batches, steps, self.compute, self.more)
        return steps

    def restore(self) -> int:
        """Take up the last good checkpoint, if there is one; returns its step, or 0."""
        config = self.config
        if not self.crew.told(lambda: resume.recover(config.out, self.console)):
            return 0
        state = read_json(config.out / resume.CHECKPOINT / resume.STATE)
        now = resume.surroundings(self.compute, self.crew, config.accumulate)
        if said := resume.differences(state["made_with"], now):
            self.console.say(said)
        self.progress = resume.restore(config.out, state, self.model, self.learner, self.average)
        self.saver.done = self.progress.step
        return self.progress.step

    def step(self, bar: Bar, stopping: Stopping) -> None:
        """One step: learn from a batch, look, log, save."""
        config, at, tokens = self.config, self.progress, self.batches.tokens_per_step
        begun = time.perf_counter()
        step = at.step + 1  # counted from 1: steps done when this one is
        rate = self.method.rate(config.optimizer, step - 1, self.steps)
        self.method.thaw(self.learner.net, step - 1, self.steps)
        place = 0 if config.overfit_batch else at.step + at.passed_over
        beside = self.beside[place] if self.beside else None
        loss, norm = self.learner.gradients(self.batches[place], beside)
        loss, norm, signalled, due = self.crew.mean(loss, norm, stopping.signal, self.due())
        row: Json = {"step": step, "tokens": step * tokens, "loss": round(loss, 5), "learning_rate": rate}
        row["gradient_norm"] = round(norm, 4)
        if odd := at.spikes.judge(loss, norm):
            self.console.say(f"step {step:,}: {odd}")
            row["spike"] = odd
            if config.on_spike == "back":
                back = self.go_back(step, odd)
                bar.skip((back - step + 1) * tokens)
                return
        self.learn(step, loss, norm, rate, odd)
        at.step = step
        self.spent += time.perf_counter() - begun
        self.learned = config.overfit_batch and loss < LEARNED
        last = self.learned or step == self.steps
        keep = []
        if config.keep_every and step % config.keep_every == 0:
            keep.append(f"kept/step-{step}")
        looked = last or step % config.callback_every == 0
        if looked and self.look(row):
            keep.append("best")
        last = last or self.tired
        self.row = row | self.remark
        if looked or step % config.log_every == 0:
            self.write_row()
        if last or due or signalled or keep:
            self.save(keep)
        note = f"loss {loss:.3f}  rate {rate:.2g}  norm {norm:.2f}  {self.share:.0%} of peak"
        bar.advance(tokens, note + (f"  held-out {at.heldout:.3f}" if at.heldout else ""))
        if signalled:
            self.saver.wait()
            raise stopping.leave()

    def learn(self, step: int, loss: float, norm: float, rate: float, odd: str | None) -> None:
        """Change the weights by the gradients that are there, unless the step is too odd for that."""
        at, on_spike, highest = self.progress, self.config.on_spike, self.config.optimizer.learning_rate
        if odd and on_spike == "skip":
            self.learner.forget()
            at.skipped += 1
            if at.skipped > spikes.MOST:
                raise spikes.too_many(f"{spikes.MOST} skips in a row", step, odd, highest)
            return
        numbers = math.isfinite(loss) and math.isfinite(norm)
        if odd and (on_spike == "stop" or not numbers):
            raise spikes.stopped(step, odd, highest, numbers)
        self.learner.update(rate)
        at.spikes.admit(loss, norm)
        at.skipped = 0
        if self.average:
            self.average.update(step)

    def go_back(self, step: int, odd: str) -> int:
        """Return to the last checkpoint and pass over the batches from there to `step`'s; its step."""
        returns, passed_over = self.progress.returns + 1, self.progress.passed_over
        rate = self.config.optimizer.learning_rate
        self.saver.wait()
        self.learner.forget()
        if returns > spikes.MOST:
            raise spikes.too_many(f"{spikes.MOST} returns to a checkpoint", step, odd, rate)
        back = self.restore()
        if not back:
            raise spikes.stopped(step, f"{odd}, and there is no checkpoint to go back to", rate, False)
        self.progress.returns = returns
        self.progress.passed_over = passed_over + step - back
        self.console.say(f"back to step {back:,}; {step - back:,} batches are passed over")
        if self.crew.first:
            self.log.cut(back)
        self.row = {}
        self.remark = {"went_back_from": step, "passed_over": self.progress.passed_over, "spike": odd}
        self.spent, self.logged = 0.0, back
        self.save([])  # so that a kill does not forget what is passed over
        return back

    def look(self, row: Json) -> bool:
        """Add to a row what the callbacks see; whether the held-out loss is the lowest so far, and to be kept."""
        crew, at = self.crew, self.progress
        net = crew.whole_net(self.learner.net, keep=crew.first)

        def call() -> float:
            net.eval()
            with self.method.merged(net):
                for callback in self.callbacks:
                    row.update(callback(Model(net, self.model.tokenizer, self.model.card), at.step))
            net.train()
            return float(row.get("heldout_loss", math.inf))

        heldout = crew.told(call)
        at.heldout = heldout if math.isfinite(heldout) else None
        better = heldout < (math.inf if at.best is None else at.best)
        at.stale = 0 if better else at.stale + 1
        if better:
            at.best = heldout
        return better and self.config.keep_best

    def write_row(self) -> None:
        """Log the last step, with the speed since the one logged before."""
        tokens = (self.row["step"] - self.logged) * self.batches.tokens_per_step
        speed = tokens / max(self.spent, 1e-9)
        seen = dataclasses.replace(self.config.model, n_ctx=self.config.block)
        self.share = speed * operations(seen) / (self.peak * self.crew.size)
        self.row |= {"seconds": round(self.spent, 5), "tokens_per_second": round(speed, 1)}
        self.row["peak_share"] = round(self.share, 4)
        if self.crew.first:
            self.log.write(**self.row)
        if self.curves:
            self.curves.write(self.row)
        self.logged, self.spent, self.remark = self.row["step"], 0.0, {}

    def due(self) -> bool:
        """Whether it is time for a checkpoint, for the process that saves; raises when the last one failed."""
        self.saver.check()
        waited = time.monotonic() - self.saved
        return self.crew.first and not self.saver.busy and waited > self.config.save_every_seconds

    def save(self, keep: Sequence[str]) -> None:
        """Copy the state and have it written, when the one before is."""
        self.saver.wait()
        if self.row:
            self.model.card = self.card()
        room = self.saver.room
        state = resume.snapshot(self.progress, self.model, self.learner, self.average, self.compute, room)
        if self.crew.first:
            self.saver.save(state, keep)
        self.saved = time.monotonic()

    def card(self) -> Json:
        """What the model's card says of its training."""
        done, batches = self.progress.step, self.batches
        return {
            "data": self.shards.summary,
            "steps": f"{done} of {self.steps}",
            "tokens_trained_on": done * batches.tokens_per_step,
            "epochs": round(done / batches.steps_per_epoch, 4),
            "training_loss": self.row["loss"],
            **{k: v for k, v in self.row.items() if k.startswith("heldout")},
            "settings": {
                k: v for k, v in settings(self.config, self.shards, self.more).items() if k != "data"
            },
            "versions": versions(),
        }


def size_name(net: GPT2) -> str:
    """'124M', '0.5M': the parameters as people name a model by."""
    millions = net.num_parameters() / 1e6
    return f"{millions:.0f}M" if millions >= 10 else f"{millions:.1f}M"
