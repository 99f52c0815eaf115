"""The main job: the paper in miniature, from links to a report, on this machine.

    links -> pages -> documents -> tokens -> four GPT-2s -> held-out perplexity -> samples -> report.html

It follows the paper's own order: links that enough others voted for, pages fetched and made into text
(2.1), a byte-level BPE vocabulary (2.2), a ladder of GPT-2s that differ in size alone (2.3, Table 2),
perplexity on held-out documents against size (Figure 4), and samples of the smallest and the largest model
from the same contexts (Tables 7 to 11).

One dial, `minutes`, decides the rest: when the tokens are there, a timed trial of each size says how many
steps the time left allows, the same number for all sizes. That plan is saved and never changes. Each stage
leaves a mark when it is done: run the same command again after a kill and it goes on where it was.

    gpt2 reproduce --minutes 10 --out reproduce
    gpt2 reproduce --text my_texts/ --out mine
"""

from __future__ import annotations

import dataclasses
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpt2.console import QUIET, Console, count, duration
from gpt2.corpus.documents import Document, read_documents
from gpt2.corpus.recipe import BuildConfig, build
from gpt2.errors import ConfigError, InputError
from gpt2.evaluation.heldout import LIMIT, document_losses, pick_documents, usual_callbacks
from gpt2.evaluation.metrics import Losses, compare, perplexity_interval
from gpt2.inference.engine import generate_ids
from gpt2.inference.sampling import Sampling
from gpt2.model.checkpoint import load
from gpt2.model.device import choose
from gpt2.model.transformer import GPT2Config
from gpt2.report import write_report
from gpt2.tokens.bpe import Tokenizer
from gpt2.tokens.shards import Shards, Split, choose_heldout, write_shards
from gpt2.training.batches import Batches
from gpt2.training.optimizer import OptimizerConfig
from gpt2.training.trainer import TrainConfig, seconds_per_step, train
from gpt2.workspace import Json, Workspace, atomic_write, digest, file_digest, versions, write_json

CONTEXT = 256
BATCH = 8
SPLIT_SEED = 2019
HELDOUT = 0.05
"""The paper held out 5 % of WebText."""
FEWEST_HELDOUT = 60
FEWEST_TOKENS = 1_500_000
MOST_EPOCHS = 4
SAMPLES = 4

# Layers, heads, channels and learning rate. With the vocabularies used here each step is more than three
# times the one before in parameters, as each is in the paper's Table 2 or nearly so.
SHAPES = [
    (1, 1, 24, 1.2e-2),
    (2, 2, 64, 8e-3),
    (4, 4, 128, 4e-3),
    (6, 7, 224, 2e-3),
    (8, 7, 448, 1e-3),
    (12, 12, 768, 6e-4),
]
LADDER = 4
# Minutes from which the ladder begins one shape higher, with the vocabulary used then.
DIAL = [(0, 0, 4096), (45, 1, 8192), (360, 2, 16384)]


@dataclass(frozen=True)
class ReproduceConfig:
    """What to reproduce the paper on, and how long it may take."""

    out: Path = Path("reproduce")
    """Folder for everything: pages, documents, tokens, models and report."""
    minutes: float = 10.0
    """Time for all of it; more time means larger models trained for longer."""
    text: Path | None = None
    """Your own text instead of the embedded documentation: a file or folder (.txt, .md, .jsonl, .parquet)."""
    pages: tuple[Path, ...] = ()
    """Your own WARC files instead."""
    links: Path | None = None
    """Your own list of links instead, to be fetched."""
    seed: int = 0
    """Decides first weights, order of tokens and samples."""

    def __post_init__(self) -> None:
        if not 0 < self.minutes < 100_000:
            raise ConfigError(f"--minutes must be above 0, not {self.minutes:g}; 10 is the usual")
        if sum(bool(x) for x in (self.text, self.pages, self.links)) > 1:
            raise ConfigError("give only one of --text, --pages and --links")


def reproduce(config: ReproduceConfig | None = None, console: Console = QUIET) -> Json:
    """Do the whole job and return its results; `results.json` and `report.html` in `config.out` hold them.

    Raises `InputError` for input that cannot be used. With too little text for a ladder the report says so
    and has none.
    """
    config = config or ReproduceConfig()
    source = build_config(config)
    with Workspace(config.out) as work:
        return Reproduction(config, source, work, console).results()


def build_config(config: ReproduceConfig) -> BuildConfig:
    """Where the documents come from; missing input is refused before anything is written."""
    for path in (config.text, config.links, *config.pages):
        if path is not None and not path.exists():
            raise InputError(f"there is no file or folder {path}; check the path")
    return BuildConfig(text=config.text, pages=config.pages, links=config.links)


class Reproduction:
    """One run of the main job: its stages in order, each a method that does its work once."""

    def __init__(
        self, config: ReproduceConfig, source: BuildConfig, work: Workspace, console: Console
    ) -> None:
        self.config, self.source, self.work, self.console = config, source, work, console
        self.compute = choose()
        self.stages: list[Json] = []
        first, self.n_vocab = max((start, first, n) for start, first, n in DIAL if config.minutes >= start)[
            1:
        ]
        self.shapes = SHAPES[first : first + LADDER]

    def results(self) -> Json:
        """All stages, then the report."""
        began = time.time()
        corpus = self.stage(
            "corpus", {"source": self.source, "input": self.input_digest()}, self.build_corpus
        )
        tokens = self.stage("tokens", {"corpus": corpus["digest"], "n_vocab": self.n_vocab}, self.make_tokens)
        shards = Shards.open(self.work.folder / "tokens" / "shards")
        results = self.describe(corpus, tokens, shards)
        few = too_little(tokens)
        if few:
            self.console.say(few)
            results["remarks"] = [few]
        else:
            key = {"tokens": tokens["digest"], "minutes": self.config.minutes, "seed": self.config.seed}
            plan = self.stage("plan", key, lambda folder: self.make_plan(shards))  # noqa: ARG005
            key["plan"] = plan
            rungs = [self.climb(rung, key, shards) for rung in plan["ladder"]]
            results["ladder"] = describe_ladder(rungs, plan)
            samples = self.stage("samples", key, lambda folder: self.draw_samples(shards, plan))  # noqa: ARG005
            results |= samples
            results["data"]["tokens_seen"] = plan["steps"] * BATCH * CONTEXT
        results["stages"] = self.stages
        results["made"]["seconds"] = round(sum(s["seconds"] for s in self.stages), 1)
        self.finish(results)
        self.console.say(f"report: {results['report']}  ({duration(time.time() - began)})")
        return results

    def stage(self, name: str, settings: Json, work: Any) -> Json:
        """Run a stage once, say so, and remember how long it took."""
        if self.work.finished(name, settings) is None:
            self.console.say(f"\n{name}")
        result = self.work.run(name, settings, work)
        self.stages.append({"name": name, "seconds": self.work.seconds(name)})
        return result

    def input_digest(self) -> str | None:
        """What tells changed input from the same: names, sizes and times of the user's files."""
        paths = [p for p in (self.config.text, self.config.links, *self.config.pages) if p is not None]
        files = sorted(f for p in paths for f in ([p] if p.is_file() else p.rglob("*")) if f.is_file())
        facts = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
        return digest(facts) if facts else None

    # Documents (paper 2.1)

    def build_corpus(self, folder: Path) -> Json:
        """Links to pages to documents."""
        built = build(self.source, folder, self.console)
        return {**plain_result(built), "digest": file_digest(built.documents)}

    # Tokens (paper 2.2)

    def make_tokens(self, folder: Path) -> Json:
        """Choose what is held out, learn a vocabulary on the rest, write both as token shards."""
        documents = list(read_documents(self.documents_path()))
        groups = [d.group for d in documents]
        share = min(0.2, max(HELDOUT, 1.2 * FEWEST_HELDOUT / max(1, len(documents))))
        heldout = choose_heldout(groups, share, SPLIT_SEED)
        training = [d.text for d in documents if d.group not in heldout]
        if not training:
            raise InputError(
                "all documents belong together, so none can be held out; give text of several sources"
            )
        self.console.say(
            f"learning a vocabulary of {self.n_vocab:,} from {len(training):,} training documents"
        )
        tokenizer = Tokenizer.learn(training, self.n_vocab)
        rows: Iterator[tuple[str, str, str]] = ((d.id, d.group, d.text) for d in documents)
        write_shards(rows, tokenizer, folder / "shards", heldout, console=self.console)
        shards = Shards.open(folder / "shards")
        kept_out = [d for d in documents if d.group in heldout]
        return {
            "digest": tokenizer.fingerprint + self.work_digest(shards),
            "n_vocab": tokenizer.n_vocab,
            "merges_first": first_merges(tokenizer, 12),
            "documents": len(documents),
            "heldout_documents": shards.heldout.n_documents,
            "heldout_groups": len(heldout),
            "train_tokens": shards.train.n_tokens,
            "heldout_tokens": shards.heldout.n_tokens,
            "compression": [compression("held-out documents", kept_out, tokenizer)],
        }

    def work_digest(self, shards: Shards) -> str:
        """Which tokens these are."""
        return digest([shards.train.n_tokens, shards.heldout.n_tokens, shards.heldout.document_ids])

    def documents_path(self) -> Path:
        """Where the corpus stage left the documents."""
        done = self.work.finished("corpus", {"source": self.source, "input": self.input_digest()})
        assert done is not None
        return Path(done["documents_path"])

    # The ladder (paper 2.3)

    def make_plan(self, shards: Shards) -> Json:
        """How many steps each size is trained for: what a timed trial says the time left allows."""
        batches = Batches(shards.train, CONTEXT, BATCH, self.config.seed)
        configs = [
            GPT2Config(layers, heads, channels, shards.tokenizer.n_vocab, CONTEXT)
            for layers, heads, channels, _ in self.shapes
        ]
        seconds = [seconds_per_step(c, batches, OptimizerConfig(), self.compute) for c in configs]
        spent = sum(s["seconds"] for s in self.stages)
        measured = sum(len(x) for x in measured_tokens(shards))
        # Reading a token costs about a third of learning from it; samples and report take a few seconds.
        after = 10 + sum(s for s in seconds) * (measured / (BATCH * CONTEXT)) / 2
        left = max(0.0, self.config.minutes * 60 - spent - after)
        steps = int(0.97 * left / sum(seconds))
        most = int(MOST_EPOCHS * batches.steps_per_epoch)
        steps = max(20, min(steps, most))
        ladder = [
            {
                "name": parameter_name(c.num_parameters()),
                "config": dataclasses.asdict(c),
                "learning_rate": shape[3],
                "trial_seconds_per_step": round(s, 5),
            }
            for c, s, shape in zip(configs, seconds, self.shapes, strict=True)
        ]
        self.console.say(
            f"ladder {', '.join(r['name'] for r in ladder)}: {steps:,} steps, "
            f"{count(steps * BATCH * CONTEXT)} tokens each ({steps / batches.steps_per_epoch:.2f} epochs), "
            f"about {duration(steps * sum(seconds))}"
        )
        return {
            "steps": steps,
            "epochs": steps / batches.steps_per_epoch,
            "ladder": ladder,
            "most_epochs": steps == most,
        }

    def climb(self, rung: Json, key: Json, shards: Shards) -> Json:
        """Train and measure one size."""
        name = rung["name"]
        trained = self.stage(
            f"ladder/{name}", {**key, "rung": rung}, lambda folder: self.train_rung(folder, rung, key, shards)
        )
        measured = self.stage(
            f"measured/{name}", {**key, "rung": rung}, lambda folder: self.measure(folder, name, shards)
        )
        losses = {
            split: read_losses(self.work.folder / "measured" / name / f"{split}.npz")
            for split in ("train", "heldout")
        }
        return {**rung, **trained, **measured, "losses": losses}

    def train_rung(self, folder: Path, rung: Json, key: Json, shards: Shards) -> Json:
        """Train one size on the planned tokens."""
        steps = int(key["plan"]["steps"])
        config = TrainConfig(
            tokens=self.work.folder / "tokens" / "shards",
            out=folder,
            model=GPT2Config(**rung["config"]),
            steps=steps,
            batch=BATCH,
            optimizer=OptimizerConfig(learning_rate=rung["learning_rate"]),
            seed=self.config.seed,
            callback_every=max(1, -(-steps // 8)),
            save_every_seconds=20,
        )
        done = train(config, usual_callbacks(shards), resume_run=True, console=self.console)
        return {
            "parameters": done.model.net.num_parameters(),
            "non_embedding": done.model.net.config.num_parameters(embeddings=False),
            "steps": done.steps,
            "tokens": done.tokens,
            "seconds": round(done.seconds, 2),
            "tokens_per_second": round(done.tokens / max(done.seconds, 1e-9)),
            "curve": thin([[row["tokens"], row["loss"]] for row in done.metrics], 600),
            "heldout_curve": [[r["tokens"], r["heldout_loss"]] for r in done.metrics if "heldout_loss" in r],
        }

    # Perplexity against size (paper Figure 4)

    def measure(self, folder: Path, name: str, shards: Shards) -> Json:
        """What one size loses on each held-out document, and on as many training documents."""
        model = load(self.work.folder / "ladder" / name)
        out: Json = {}
        for split, part, documents in measured_documents(shards):
            losses = document_losses(
                model,
                part,
                documents,
                compute=self.compute,
                console=self.console,
                title=f"measuring {name}, {split}",
            )
            with atomic_write(folder / f"{split}.npz") as stream:
                np.savez(stream, nats=losses.nats, tokens=losses.tokens, n_bytes=losses.n_bytes)
            out |= {f"{split}_loss": losses.loss, f"{split}_perplexity": losses.perplexity}
        self.console.say(f"{name}: held-out perplexity {out['heldout_perplexity']:.2f}")
        return out

    # Samples (paper Tables 7 to 11)

    def draw_samples(self, shards: Shards, plan: Json) -> Json:
        """The smallest and the largest model go on from the same held-out contexts."""
        context, length = CONTEXT * 3 // 4, CONTEXT // 4
        split, tok = shards.heldout, shards.tokenizer
        long = [i for i in range(split.n_documents) if len(split.document(i)) >= context + length]
        long = long or [i for i in range(split.n_documents) if len(split.document(i)) >= 2 * length]
        chosen = sorted(np.random.default_rng(self.config.seed).permutation(long)[:SAMPLES].tolist())
        texts = [split.document(i) for i in chosen]
        cuts = [min(context, len(t) // 2) if len(t) < context + length else context for t in texts]
        prompts = [t[:c].tolist() for t, c in zip(texts, cuts, strict=True)]
        names = [plan["ladder"][0]["name"], plan["ladder"][-1]["name"]]
        drawn = [
            generate_ids(
                load(self.work.folder / "ladder" / n),
                prompts,
                length,
                Sampling(),
                self.config.seed,
                self.compute,
            )
            for n in names
        ]
        samples = [
            {
                "title": split.document_ids[i],
                "context": tok.decode(prompt),
                "original": tok.decode(text[cut : cut + length].tolist()),
                "smallest": tok.decode(small),
                "largest": tok.decode(large),
            }
            for i, prompt, text, cut, small, large in zip(chosen, prompts, texts, cuts, *drawn, strict=True)
        ]
        note = (
            f"top-k 40, temperature 1, seed {self.config.seed}; contexts are the first {context} tokens of "
            f"held-out documents chosen by the seed, completions have at most {length}; none was picked by hand"
        )
        return {"samples": samples, "samples_note": note}

    # The report

    def describe(self, corpus: Json, tokens: Json, shards: Shards) -> Json:
        """What is known before any model is trained."""
        return {
            "title": "GPT-2, reproduced on this machine",
            "made": {
                "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "command": command(self.config),
                "machine": machine(self.compute.threads),
                "versions": versions(),
                "seeds": {
                    "split": SPLIT_SEED,
                    "weights and batches": self.config.seed,
                    "samples": self.config.seed,
                },
                "dtype": self.compute.dtype,
            },
            "source": {"kind": corpus["kind"], "description": corpus["description"]},
            "funnel": [
                *corpus["funnel"],
                {"step": "tokens to train on", "count": tokens["train_tokens"], "unit": "tokens", "note": ""},
            ],
            "drops": corpus["drops"],
            "tokenizer": {k: tokens[k] for k in ("n_vocab", "merges_first", "compression")},
            "data": {
                "documents": tokens["documents"],
                "heldout_documents": tokens["heldout_documents"],
                "train_tokens": tokens["train_tokens"],
                "heldout_tokens": tokens["heldout_tokens"],
                "context": CONTEXT,
                "heldout_rule": "whole sources (a module, a file, a page) chosen by a hash of their name, "
                f"seed {SPLIT_SEED}",
            },
            "ladder": [],
            "training_documents_in_both_splits": len(
                set(shards.train.document_ids) & set(shards.heldout.document_ids)
            ),
        }

    def finish(self, results: Json) -> None:
        """Write results.json, report.html and, for later use, the largest model as `model`."""
        folder = self.work.folder
        results["report"] = str((folder / "report.html").resolve())
        results["documents"] = results["data"]["documents"]
        results["heldout_documents"] = results["data"]["heldout_documents"]
        results["tokens"] = results["data"]["train_tokens"]
        if results["ladder"]:
            load(folder / "ladder" / results["ladder"][-1]["name"]).save(folder / "model")
        write_json(folder / "results.json", results)
        write_report(results, folder / "report.html")


def too_little(tokens: Json) -> str | None:
    """Why there can be no ladder, in a sentence, or None."""
    if tokens["heldout_documents"] < FEWEST_HELDOUT or tokens["train_tokens"] < FEWEST_TOKENS:
        return (
            f"There are {tokens['heldout_documents']} held-out documents and "
            f"{tokens['train_tokens']:,} training tokens, but an honest ladder needs at least {FEWEST_HELDOUT} and {FEWEST_TOKENS:,}: "
            "no models were trained; give more text."
        )
    return None


def measured_documents(shards: Shards) -> Iterator[tuple[str, Split, list[int]]]:
    """The documents whose loss is measured: all held-out ones, and as many of the training documents."""
    heldout = pick_documents(shards.heldout, shards.heldout.n_documents)
    yield "heldout", shards.heldout, heldout
    yield "train", shards.train, pick_documents(shards.train, len(heldout), SPLIT_SEED)


def measured_tokens(shards: Shards) -> list[Any]:
    """The documents of `measured_documents`, cut to what counts of them."""
    return [part.document(i)[:LIMIT] for _, part, documents in measured_documents(shards) for i in documents]


def describe_ladder(rungs: list[Json], plan: Json) -> list[Json]:
    """The ladder as the report shows it: each size with its interval, and compared with the one below."""
    out: list[Json] = []
    for i, rung in enumerate(rungs):
        losses: Losses = rung["losses"]["heldout"]
        row = {k: v for k, v in rung.items() if k not in ("losses", "config", "trial_seconds_per_step")}
        row |= {k: rung["config"][k] for k in ("n_layer", "n_head", "n_embd")}
        row |= {
            "batch_tokens": BATCH * CONTEXT,
            "heldout_interval": list(perplexity_interval(losses)),
            "bits_per_byte": losses.bits_per_byte,
            "epochs": plan["epochs"],
            "versus_previous": None,
        }
        if i:
            row["versus_previous"] = dataclasses.asdict(compare(losses, rungs[i - 1]["losses"]["heldout"]))
        out.append(row)
    return out


def compression(name: str, documents: list[Document], tokenizer: Tokenizer) -> Json:
    """Tokens that our vocabulary and GPT-2's own need for the same text."""
    texts = [d.text for d in documents]
    return {
        "text": name,
        "bytes": sum(len(t.encode()) for t in texts),
        "ours": len(tokenizer.encode_batch(texts)[0]),
        "gpt2": len(Tokenizer.gpt2().encode_batch(texts)[0]),
    }


def first_merges(tokenizer: Tokenizer, n: int) -> list[str]:
    """The first merges learned, a space shown as such."""
    return [tokenizer.decode([256 + i]) for i in range(min(n, tokenizer.n_vocab - 257))]


def plain_result(built: Any) -> Json:
    """A build's result as the later stages read it."""
    facts: Json = dataclasses.asdict(built)
    return {**facts, "documents_path": str(built.documents)}


def read_losses(path: Path) -> Losses:
    """The losses that a measuring stage saved."""
    with np.load(path) as arrays:
        return Losses(arrays["nats"], arrays["tokens"], arrays["n_bytes"])


def thin(points: list[Any], at_most: int) -> list[Any]:
    """Every k-th point, the last one always."""
    step = max(1, -(-len(points) // at_most))
    return [p for i, p in enumerate(points) if (len(points) - 1 - i) % step == 0]


def parameter_name(n: int) -> str:
    """'0.11M', '4.6M', '124M'."""
    return f"{n / 1e6:.2f}M" if n < 1e6 else f"{n / 1e6:.1f}M" if n < 1e7 else f"{n / 1e6:.0f}M"


def machine(threads: int) -> Json:
    """What the numbers were measured on."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(":")[2].strip()
            for line in info.read_text().split("\n")
            if line.startswith("model name")
        ]
        processor = names[0] if names else processor
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_gb": round(memory),
        "system": platform.platform(terse=True),
    }


def command(config: ReproduceConfig) -> str:
    """The command line that gives this configuration."""
    words = ["gpt2", "reproduce", "--minutes", f"{config.minutes:g}"]
    words += ["--text", config.text.name] if config.text else []
    words += ["--pages", *(p.name for p in config.pages)] if config.pages else []
    words += ["--links", config.links.name] if config.links else []
    return " ".join(words)
