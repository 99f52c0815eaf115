"""The whole of *Language Models are Unsupervised Multitask Learners* (Radford et al., 2019) in one package.

    tok = gpt2.Tokenizer.gpt2()                      # GPT-2's vocabulary, inside the package
    net = gpt2.GPT2(gpt2.GPT2Config.size("124M"))    # a torch module: net(ids) -> logits
    m = gpt2.load("reproduce")                       # a network with its tokenizer
    gpt2.generate(m, ["The meaning of"], top_k=40)
    gpt2.score(m, ["A sentence."])[0].logprob

Names are imported when first used, so `import gpt2` costs nothing. No library below phones home: their
telemetry is switched off here, before any of them is imported.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

for _switch, _value in {
    "DO_NOT_TRACK": "1",
    "DAFT_ANALYTICS_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}.items():
    os.environ.setdefault(_switch, _value)

__version__ = "0.1.0"

_HOMES = {
    "Tokenizer": "gpt2.tokens.bpe",
    "Shards": "gpt2.tokens.shards",
    "GPT2": "gpt2.model.transformer",
    "GPT2Config": "gpt2.model.config",
    "Model": "gpt2.model.checkpoint",
    "load": "gpt2.model.checkpoint",
    "convert": "gpt2.model.formats",
    "generate": "gpt2.inference.continuations",
    "stream": "gpt2.inference.continuations",
    "score": "gpt2.inference.scoring",
    "evaluate": "gpt2.evaluation.run",
    "verify": "gpt2.evaluation.verify",
    "train": "gpt2.training.trainer",
    "TrainConfig": "gpt2.training.plan",
    "OptimizerConfig": "gpt2.training.optimizer",
    "Document": "gpt2.corpus.documents",
    "extract": "gpt2.corpus.extract",
    "BuildConfig": "gpt2.corpus.build",
    "finetune_text": "gpt2.finetuning.text",
    "TextConfig": "gpt2.finetuning.text",
    "LoraConfig": "gpt2.finetuning.lora",
    "load_adapter": "gpt2.finetuning.adapter",
    "ReproduceConfig": "gpt2.reproduce",
}

__all__ = [
    "GPT2",
    "BuildConfig",
    "Document",
    "GPT2Config",
    "LoraConfig",
    "Model",
    "OptimizerConfig",
    "ReproduceConfig",
    "Shards",
    "TextConfig",
    "Tokenizer",
    "TrainConfig",
    "convert",
    "evaluate",
    "extract",
    "finetune_text",
    "generate",
    "load",
    "load_adapter",
    "score",
    "stream",
    "train",
    "verify",
]

if TYPE_CHECKING:
    from gpt2.corpus.build import BuildConfig
    from gpt2.corpus.documents import Document
    from gpt2.corpus.extract import extract
    from gpt2.evaluation.run import evaluate
    from gpt2.evaluation.verify import verify
    from gpt2.finetuning.adapter import load_adapter
    from gpt2.finetuning.lora import LoraConfig
    from gpt2.finetuning.text import TextConfig, finetune_text
    from gpt2.inference.continuations import generate, stream
    from gpt2.inference.scoring import score
    from gpt2.model.checkpoint import Model, load
    from gpt2.model.config import GPT2Config
    from gpt2.model.formats import convert
    from gpt2.model.transformer import GPT2
    from gpt2.reproduce import ReproduceConfig
    from gpt2.tokens.bpe import Tokenizer
    from gpt2.tokens.shards import Shards
    from gpt2.training.optimizer import OptimizerConfig
    from gpt2.training.plan import TrainConfig
    from gpt2.training.trainer import train


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    try:
        return importlib.import_module(f"gpt2.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"gpt2.{name}":
            raise
        raise AttributeError(f"module 'gpt2' has no attribute {name!r}") from None
