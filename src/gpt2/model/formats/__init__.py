"""Every form in which GPT-2s are kept, read and written.

workbench.py    ours: safetensors, OpenAI's parameter names, Linear orientation
openai.py       OpenAI's checkpoint folder (a TensorFlow bundle), without TensorFlow
huggingface.py  Hugging Face's folder: safetensors, sharded safetensors, old `.bin`
nanogpt.py      nanoGPT's `ckpt.pt`
llmc.py         llm.c's `.bin`, with its tokenizer file
gguf.py         GGUF in f32, f16 and q8_0

Each file has the same three functions: `recognise(path)` looks at content and never at names,
`open_source(path)` reads shape and vocabulary but no weights, `write(path, source)` writes tensor by tensor.
Between them stands `Source`: our names, our orientation ([out, in]), one tensor at a time, so that converting
a model needs little more memory than its largest tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from gpt2.model.transformer import GPT2Config
from gpt2.tokens.bpe import Tokenizer


@dataclass(frozen=True)
class Source:
    """An opened model: shape and vocabulary are known, weights are read one at a time."""

    format: str
    """Name of the format it was found in: workbench, openai, huggingface, nanogpt, llmc, gguf."""
    path: Path
    """The file or folder it was opened from."""
    config: GPT2Config
    """Shape of the network; `vocab_size` without padding."""
    tokenizer: Tokenizer
    """Its vocabulary; GPT-2's own where the format carries none."""
    tensor: Callable[[str], Tensor]
    """Weights by our name, as `GPT2(config).state_dict()` has them: [out, in], finite, of any float type."""


def parameter_shapes(config: GPT2Config) -> dict[str, tuple[int, ...]]:
    """Name and shape of each weight of a network, in the order of its `state_dict()`."""
    C, V, T = config.n_embd, config.vocab_size, config.n_ctx
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (V, C), "wpe.weight": (T, C)}
    for i in range(config.n_layer):
        for part, shape in (
            ("ln_1", (C,)),
            ("attn.c_attn", (3 * C, C)),
            ("attn.c_proj", (C, C)),
            ("ln_2", (C,)),
            ("mlp.c_fc", (4 * C, C)),
            ("mlp.c_proj", (C, 4 * C)),
        ):
            shapes[f"h.{i}.{part}.weight"] = shape
            shapes[f"h.{i}.{part}.bias"] = shape[:1]
    return shapes | {"ln_f.weight": (C,), "ln_f.bias": (C,)}
