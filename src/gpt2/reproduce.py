"""The main job: the paper in miniature, from links to a report, on this machine.

    links -> pages -> documents -> tokens -> four GPT-2s -> perplexity and cloze questions -> samples -> report

It follows the paper's own order: links that enough others voted for, pages fetched and made into text
(2.1), a byte-level BPE vocabulary (2.2), a ladder of GPT-2s that differ in size (2.3, Table 2), perplexity
on held-out documents against size (Figure 4), zero-shot cloze questions made of these (3.2, 3.3, Figure 2),
and samples of the smallest and the largest model from the same contexts (Tables 7 to 11).

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
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpt2.console import QUIET, Console, duration
from gpt2.corpus.build import BuildConfig, build, input_digest
from gpt2.corpus.documents import Document, read_documents
from gpt2.errors import ConfigError, InputError, TooLittleData
from gpt2.evaluation.run import evaluate
from gpt2.model.checkpoint import load
from gpt2.model.device import choose
from gpt2.report import write_report
from gpt2.studies import cloze, samples, scaling
from gpt2.studies.scaling import BATCH, CONTEXT
from gpt2.tokens.bpe import Tokenizer
from gpt2.tokens.shards import Shards, choose_heldout, write_shards
from gpt2.workspace import Json, Workspace, digest, remove, versions, write_json

SPLIT_SEED = 2019
HELDOUT = 0.05
"""The paper held out 5 % of WebText."""
FEWEST_HELDOUT = 60
FEWEST_SOURCES = 10
"""Held-out documents must be of so many groups: the pieces of one source are alike."""
FEWEST_TOKENS = 1_500_000
ITEMS = 200
"""Of each of the paper's tasks, at most; `gpt2 evaluate` has no such limit."""
SECONDS_AFTER = 25
"""What cloze questions, samples and report take."""


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
    data: Path | None = None
    """Folder with the paper's data sets, on which the largest model is measured, in time beyond `minutes`."""
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
    source = BuildConfig(text=config.text, pages=config.pages, links=(config.links,) if config.links else ())
    for path in (
        *source.given,
        *([config.data] if config.data else []),
    ):  # refused before anything is written
        if not path.exists():
            raise InputError(f"there is no file or folder {path}; check the path")
    with Workspace(config.out) as work:
        return Reproduction(config, source, work, console).results()


class Reproduction:
    """One run of the main job: its stages in order, each a method that does its work once."""

    def __init__(
        self, config: ReproduceConfig, source: BuildConfig, work: Workspace, console: Console
    ) -> None:
        self.config, self.source, self.work, self.console = config, source, work, console
        self.compute = choose()
        self.stages: list[Json] = []
        self.shapes, self.n_vocab = scaling.shapes_for(config.minutes)

    def results(self) -> Json:
        """All stages, then the report."""
        began = time.time()
        key = {"source": self.source, "input": input_digest(self.source)}
        corpus = self.stage("corpus", key, self.build_corpus)
        key = {"corpus": corpus["digest"], "n_vocab": self.n_vocab}
        file = self.work.folder / "corpus" / corpus["documents"]
        tokens = self.stage("tokens", key, lambda folder: self.make_tokens(folder, file))
        shards = Shards.open(self.work.folder / "tokens" / "shards")
        results = self.describe(corpus, tokens, shards)
        few = too_little(tokens)
        if few:
            self.console.say(few)
            results["remarks"] = [few]
        else:
            key = {"tokens": tokens["digest"], "corpus": corpus["digest"]}
            questions = self.stage("questions", key, lambda folder: self.ask_about(folder, file, shards))
            results["cloze"] = questions
            key = {
                "tokens": tokens["digest"],
                "minutes": float(self.config.minutes),
                "seed": self.config.seed,
            }
            plan = self.stage("plan", key, lambda _: self.make_plan(shards))
            key["plan"] = plan
            results["ladder"] = self.climb(plan, key, shards, questions)
            results |= self.stage("samples", key, lambda _: self.draw_samples(shards, plan))
            if self.config.data:
                key["data"] = self.config.data
                found = self.stage("tables", key, lambda folder: self.fill_tables(folder, plan))
                results["tables"] = found["rows"]
            results["data"]["tokens_seen"] = plan["steps"] * BATCH * CONTEXT
        results["stages"] = self.stages
        results["made"]["seconds"] = round(sum(s["seconds"] for s in self.stages), 1)
        self.finish(results)
        self.console.say(f"report: {results['report']}  ({duration(time.time() - began)})")
        return results

    def stage(self, name: str, settings: Json, work: Callable[[Path], Json]) -> Json:
        """Run a stage once, say so, and remember how long it took."""
        if self.work.finished(name, settings) is None:
            self.console.say(f"\n{name}")
        result = self.work.run(name, settings, work)
        self.stages.append({"name": name, "seconds": self.work.seconds(name)})
        return result

    # Documents (paper 2.1)

    def build_corpus(self, folder: Path) -> Json:
        """Links to pages to documents."""
        built = build(self.source, folder, self.console)
        place = built.documents.relative_to(folder)
        return {**dataclasses.asdict(built), "documents": place}

    # Tokens (paper 2.2)

    def make_tokens(self, folder: Path, corpus: Path) -> Json:
        """Choose what is held out, learn a vocabulary on the rest, write both as token shards."""
        documents = list(read_documents(corpus))
        share = min(0.2, max(HELDOUT, 1.2 * FEWEST_HELDOUT / max(1, len(documents))))
        try:
            heldout = choose_heldout([d.group for d in documents], share, SPLIT_SEED)
        except TooLittleData as error:
            self.console.say(str(error))
            heldout = set()
        training = [d.text for d in documents if d.group not in heldout]
        self.console.say(
            f"learning a vocabulary of {self.n_vocab:,} from {len(training):,} training documents"
        )
        try:
            tokenizer = Tokenizer.learn(training, self.n_vocab)
        except TooLittleData as error:
            self.console.say(f"{error}; GPT-2's own vocabulary is used instead")
            tokenizer = Tokenizer.gpt2()
        rows = ((d.id, d.group, d.text, d.url) for d in documents)
        write_shards(rows, tokenizer, folder / "shards", heldout, console=self.console)
        shards = Shards.open(folder / "shards")
        kept_out = [d for d in documents if d.group in heldout]
        seen = [shards.train.n_tokens, shards.heldout.n_tokens, shards.heldout.document_ids]
        return {
            "digest": digest([tokenizer.fingerprint, *seen]),
            "n_vocab": tokenizer.n_vocab,
            "merges_first": first_merges(tokenizer, 12),
            "documents": len(documents),
            "heldout_documents": shards.heldout.n_documents,
            "heldout_groups": len(heldout),
            "train_tokens": shards.train.n_tokens,
            "heldout_tokens": shards.heldout.n_tokens,
            "compression": [
                compression("held-out documents", kept_out, tokenizer)
                if kept_out
                else compression("all documents", documents, tokenizer)
            ],
        }

    # The ladder (paper 2.3, Figure 4)

    def make_plan(self, shards: Shards) -> Json:
        """How many steps each size is trained for: what a timed trial says the time left allows."""
        spent = sum(s["seconds"] for s in self.stages)
        left = 0.97 * (self.config.minutes * 60 - spent - SECONDS_AFTER)
        return scaling.plan_ladder(self.shapes, shards, left, self.config.seed, self.compute, self.console)

    def climb(self, plan: Json, key: Json, shards: Shards, questions: Json) -> list[Json]:
        """Train each size, measure it and put the questions to it."""
        rungs, losses = [], []
        for rung in plan["ladder"]:
            name, settings = rung["name"], {**key, "rung": rung}
            trained = self.stage(f"ladder/{name}", settings, lambda folder: self.train(folder, plan, shards))
            measured = self.stage(f"measured/{name}", settings, lambda folder: self.measure(folder, shards))
            asked = self.stage(f"cloze/{name}", settings, lambda folder: self.answer(folder, questions))
            rungs.append({**rung, **trained, **measured, "cloze": asked})
            losses.append(scaling.read_losses(self.work.folder / "measured" / name, "heldout"))
        _, split, documents = next(scaling.measured_documents(shards))
        groups = [split.groups[i] for i in documents]
        return scaling.describe_ladder(rungs, losses, groups, plan["epochs"])

    def train(self, folder: Path, plan: Json, shards: Shards) -> Json:
        """Train the size that the folder is named after."""
        rung = next(r for r in plan["ladder"] if r["name"] == folder.name)
        seed = self.config.seed
        return scaling.train_rung(rung, plan["steps"], folder, seed, shards, self.compute, self.console)

    def measure(self, folder: Path, shards: Shards) -> Json:
        """Measure the size that the folder is named after."""
        model = self.work.folder / "ladder" / folder.name
        return scaling.measure_rung(folder.name, model, shards, folder, self.compute, self.console)

    # Cloze questions (paper 3.2, 3.3)

    def ask_about(self, folder: Path, corpus: Path, shards: Shards) -> Json:
        """Make questions of the held-out documents."""
        made = cloze.make_questions(read_documents(corpus), set(shards.heldout.document_ids), folder)
        said = ", ".join(f"{n:,} {kind}" for kind, n in made["counts"].items())
        self.console.say(f"cloze questions of held-out documents: {said or 'none, for want of prose'}")
        return made

    def answer(self, folder: Path, questions: Json) -> Json:
        """What the size that the folder is named after makes of the questions."""
        model, path = load(self.work.folder / "ladder" / folder.name), self.work.folder / "questions"
        title = f"asking {folder.name}"
        return cloze.measure_questions(
            model, path / "cloze.jsonl", questions, self.compute, self.console, title
        )

    # Samples (paper Tables 7 to 11)

    def draw_samples(self, shards: Shards, plan: Json) -> Json:
        """The smallest and the largest model go on from the same held-out contexts."""
        small, large = (load(self.work.folder / "ladder" / plan["ladder"][k]["name"]) for k in (0, -1))
        return samples.draw_samples(small, large, shards, self.config.seed, self.compute)

    # The paper's tables (paper 3)

    def fill_tables(self, folder: Path, plan: Json) -> Json:
        """The largest model on the paper's own tasks, as far as the user has their data."""
        largest = self.work.folder / "ladder" / plan["ladder"][-1]["name"]
        return evaluate(
            largest,
            data=self.config.data,
            out=folder / "items",
            limit=ITEMS,
            compute=self.compute,
            console=self.console,
        ).json()

    # The report

    def describe(self, corpus: Json, tokens: Json, shards: Shards) -> Json:
        """What is known before any model is trained."""
        seed = self.config.seed
        last = {"step": "training tokens", "count": tokens["train_tokens"], "unit": "tokens", "note": ""}
        known = ("documents", "heldout_documents", "train_tokens", "heldout_tokens")
        return {
            "title": "GPT-2, reproduced on this machine",
            "made": {
                "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "command": command(self.config),
                "machine": machine(self.compute.threads),
                "versions": versions(),
                "seeds": {"split": SPLIT_SEED, "weights and batches": seed, "samples": seed},
                "dtype": self.compute.dtype,
            },
            "source": {"kind": corpus["kind"], "description": corpus["description"]},
            "funnel": [*corpus["funnel"], last],
            "drops": corpus["drops"],
            "tokenizer": {k: tokens[k] for k in ("n_vocab", "merges_first", "compression")},
            "data": {k: tokens[k] for k in known}
            | {
                "context": CONTEXT,
                "heldout_rule": "whole sources (a module, a file, a page) chosen by a hash of their name, "
                f"seed {SPLIT_SEED}",
            },
            "ladder": [],
            "tables": [],
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
        else:
            remove(folder / "model")  # what an earlier run on more text had left
        write_json(folder / "results.json", results)
        write_report(results, folder / "report.html")


def too_little(tokens: Json) -> str | None:
    """Why there can be no ladder, in a sentence, or None."""
    heldout, sources, training = (tokens[k] for k in ("heldout_documents", "heldout_groups", "train_tokens"))
    if heldout < FEWEST_HELDOUT or sources < FEWEST_SOURCES or training < FEWEST_TOKENS:
        return (
            f"There are {heldout} held-out documents of {sources} sources and {training:,} training tokens, "
            f"but an honest ladder needs at least {FEWEST_HELDOUT}, {FEWEST_SOURCES} and {FEWEST_TOKENS:,}: "
            "no models were trained; give more text."
        )
    return None


def compression(name: str, documents: Sequence[Document], tokenizer: Tokenizer) -> Json:
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


def machine(threads: int) -> Json:
    """What the numbers were measured on."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().split("\n") if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else processor,
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": platform.platform(terse=True),
    }


def command(config: ReproduceConfig) -> str:
    """The command line that gives this configuration; folders without what stands above them."""
    words = ["gpt2", "reproduce", "--minutes", f"{config.minutes:g}"]
    words += ["--text", config.text.name] if config.text else []
    words += ["--pages", *(p.name for p in config.pages)] if config.pages else []
    words += ["--links", config.links.name] if config.links else []
    words += ["--data", config.data.name] if config.data else []
    words += ["--seed", str(config.seed)] if config.seed else []
    return shlex.join(words)
