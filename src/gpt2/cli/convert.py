"""gpt2 convert: a model from one format to another.

gpt2 convert reproduce for-transformers --to huggingface
gpt2 convert gpt2_124M.bin gpt2.gguf --to gguf --kind q8_0
gpt2 convert reproduce small --to int8
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import gpt2
from gpt2.cli.talk import TALK, Talk


def convert(
    source: Path,
    target: Path,
    *,
    to: Literal["workbench", "openai", "huggingface", "nanogpt", "llmc", "gguf", "int8", "int4", "bfloat16"],
    kind: Literal["float32", "bfloat16", "f32", "f16", "q8_0"] | None = None,
    talk: Talk = TALK,
) -> None:
    """Write a model in another format, one tensor at a time.

    Parameters
    ----------
    source:
        File or folder of a model in any known format, found by its content, or its name on the hub.
    target:
        Folder to write, or for nanogpt, llmc and gguf a file; nothing is replaced.
    to:
        The format to write. int8, int4 and bfloat16 are ours, rounded, for quick generation on a processor.
    kind:
        Number format: for llmc float32 or bfloat16, for gguf f32, f16 or q8_0; the first when not given.
    """
    read = gpt2.convert(source, target, to, kind)
    c = read.config
    talk.facts(
        {
            "source": source,
            "from": read.format,
            "target": target,
            "to": to,
            "layers": c.n_layer,
            "channels": c.n_embd,
            "parameters": c.num_parameters(),
        }
    )
