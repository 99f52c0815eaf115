"""GLUE's nine tasks and its diagnostic: what they ask, what they are measured by, what others reached.

Wang et al., GLUE: A Multi-Task Benchmark and Analysis Platform for Natural Language Understanding, 2018. CoLA is
measured by Matthews' correlation, as accuracy rewards saying that every sentence is well-formed; MRPC and QQP by
accuracy and F1; STS-B by Pearson's and Spearman's correlation; the rest by accuracy, MNLI on matched and
mismatched genres; the diagnostic AX, which has no training data and is asked of MNLI's classifier, by Matthews'
correlation over three classes (R_3). GLUE's average is over tasks, those with two figures averaged first.

PUBLISHED has each figure with its split, for test and development figures, and accuracy and F1, must not be
mixed: QQP's 70.3 is a test F1, 89.6 a development accuracy. WNLI's development set is adversarial to its
training set; always saying the majority's answer is the best that is known there.

    TASKS["cola"].labels
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gpt2.errors import ConfigError, nearest

PAIRS = (("sentence1", "sentence2"), ("premise", "hypothesis"), ("Premise", "Hypothesis"))
"""Columns that two texts stand in: GLUE's own names first."""


@dataclass(frozen=True)
class GlueTask:
    """A task of GLUE."""

    name: str
    title: str
    texts: tuple[tuple[str, ...], ...]
    """Columns of the texts: GLUE's names, and others that they are known by."""
    label: str
    """GLUE's column of the label."""
    labels: tuple[str, ...]
    """Names of the classes, in the order of their numbers; none for a score from 0 to 5."""
    metrics: tuple[str, ...]
    """Official figures, the first being the one to choose by."""
    bare: tuple[int, ...] = ()
    """In files without a header, the places of texts and label."""
    numbers: bool = False
    """Whether GLUE's files have the classes' numbers in place of their names."""
    both: bool = False
    """Whether the order of two texts means nothing."""
    files: dict[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    """Other names under which splits are known, besides TITLE/train.tsv and NAME_train.tsv."""

    @property
    def pair(self) -> bool:
        """Whether an item is two texts."""
        return len(self.texts[0]) == 2

    @property
    def written(self) -> tuple[str, ...]:
        """The classes as GLUE's files and the leaderboard have them."""
        return tuple(map(str, range(len(self.labels)))) if self.numbers else self.labels

    @property
    def splits(self) -> dict[str, str]:
        """Held-out splits with labels, by the name that a submission has for the like of them."""
        return (
            {"MNLI-m": "dev_matched", "MNLI-mm": "dev_mismatched"}
            if self.name == "mnli"
            else {self.title: "dev"}
        )


ENTAILMENT = ("entailment", "not_entailment")
PARAPHRASE = ("different", "paraphrase")
NLI = ("entailment", "neutral", "contradiction")

TASKS: dict[str, GlueTask] = {
    task.name: task
    for task in (
        GlueTask(
            "cola",
            "CoLA",
            (("sentence",),),
            "label",
            ("unacceptable", "acceptable"),
            ("matthews",),
            bare=(3, 1),
            numbers=True,
            files={
                "train": (("cola_in_domain_train.tsv",), ("in_domain_train.tsv",)),
                "dev": (
                    ("cola_in_domain_dev.tsv", "cola_out_of_domain_dev.tsv"),
                    ("in_domain_dev.tsv", "out_of_domain_dev.tsv"),
                ),
            },
        ),
        GlueTask(
            "sst2",
            "SST-2",
            (("sentence",),),
            "label",
            ("negative", "positive"),
            ("accuracy",),
            bare=(0, 1),
            numbers=True,
        ),
        GlueTask(
            "mrpc",
            "MRPC",
            (("#1 String", "#2 String"), *PAIRS),
            "Quality",
            PARAPHRASE,
            ("accuracy", "f1"),
            numbers=True,
            both=True,
            files={
                "train": (("mrpc_msr_paraphrase_train.txt",), ("msr_paraphrase_train.txt",)),
                "dev": (("mrpc_msr_paraphrase_test.txt",), ("msr_paraphrase_test.txt",)),
            },
        ),
        GlueTask(
            "qqp",
            "QQP",
            (("question1", "question2"),),
            "is_duplicate",
            PARAPHRASE,
            ("accuracy", "f1"),
            numbers=True,
            both=True,
        ),
        GlueTask("stsb", "STS-B", PAIRS, "score", (), ("pearson", "spearman"), bare=(5, 6, 4), both=True),
        GlueTask("mnli", "MNLI", PAIRS, "gold_label", NLI, ("accuracy",)),
        GlueTask("qnli", "QNLI", (("question", "sentence"),), "label", ENTAILMENT, ("accuracy",)),
        GlueTask(
            "rte",
            "RTE",
            PAIRS,
            "label",
            ENTAILMENT,
            ("accuracy",),
            bare=(1, 2, 3),
            files={"train": (("rte_train.tsv", "rte_val.tsv"),)},
        ),
        GlueTask(
            "wnli",
            "WNLI",
            PAIRS,
            "label",
            ENTAILMENT[::-1],
            ("accuracy",),
            bare=(1, 2, 3),
            numbers=True,
            files={"train": (("wnli_train.tsv", "wnli_val.tsv"),)},
        ),
        GlueTask(
            "ax",
            "AX",
            PAIRS,
            "Label",
            NLI,
            ("matthews",),
            files={
                "dev": (("diagnostic-full.tsv",),),
                "test": (("diagnostic.tsv",),),
            },
        ),
    )
}


def glue_task(name: str) -> GlueTask:
    """A task by its name, or by its title in any case; `ConfigError` for another."""
    titles = {task.title.lower(): task for task in TASKS.values()}
    found = TASKS.get(name) or titles.get(name.lower())
    if found is None:
        raise ConfigError(f"GLUE has no task {name!r}{nearest(name, TASKS)}; it has {', '.join(TASKS)}")
    return found


PUBLISHED: tuple[tuple[str, str, dict[str, str]], ...] = (
    (
        "GPT-1",
        "test, as Devlin et al. (2018) tabulate it",
        {
            "MNLI": "82.1/81.4",
            "QQP": "70.3 F1",
            "QNLI": "87.4",
            "SST-2": "91.3",
            "CoLA": "45.4",
            "STS-B": "80.0 Spearman",
            "MRPC": "82.3 F1",
            "RTE": "56.0",
        },
    ),
    (
        "BERT base",
        "test (Devlin et al. 2018)",
        {
            "MNLI": "84.6/83.4",
            "QQP": "71.2 F1",
            "QNLI": "90.5",
            "SST-2": "93.5",
            "CoLA": "52.1",
            "STS-B": "85.8 Spearman",
            "MRPC": "88.9 F1",
            "RTE": "66.4",
        },
    ),
    (
        "BERT large",
        "test (Devlin et al. 2018)",
        {
            "MNLI": "86.7/85.9",
            "QQP": "72.1 F1",
            "QNLI": "92.7",
            "SST-2": "94.9",
            "CoLA": "60.5",
            "STS-B": "86.5 Spearman",
            "MRPC": "89.3 F1",
            "RTE": "70.1",
        },
    ),
    (
        "GPT-2 124M",
        "dev, 3 epochs at 5e-5 (fusion_bench)",
        {
            "MNLI": "82.1",
            "QQP": "89.6 accuracy",
            "QNLI": "88.3",
            "SST-2": "91.2",
            "CoLA": "76.8 accuracy",
            "MRPC": "80.4 accuracy",
            "RTE": "65.3",
        },
    ),
    (
        "GPT 345M",
        "dev, 3 epochs at 2e-5, 5 for MRPC and WNLI (PaddleFleetX)",
        {
            "MNLI": "84.24/84.82",
            "QQP": "86.09/81.06 F1",
            "QNLI": "90.45",
            "SST-2": "93.01",
            "CoLA": "60.47",
            "STS-B": "85.80/85.82",
            "MRPC": "81.91/87.02 F1",
            "RTE": "70.40",
            "WNLI": "40.85",
        },
    ),
)
"""Who, on what, and the figures by title. Where two stand, they are the task's metrics in order."""
