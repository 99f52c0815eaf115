"""TensorFlow reads the OpenAI folders that we write, and we read what TensorFlow writes.

Installs TensorFlow in an environment that is thrown away (1.6 GB; needs pip's index), writes a 124M network of
random weights as OpenAI's folder, and lets TensorFlow read it twice: by `tf.train.load_checkpoint`, and as
OpenAI's own code does, by a Saver that restores variables of these names. That Saver then writes a checkpoint
of its own, which our reader must open. All three must hold the same numbers to the bit.

    python -m acceptance.tensorflow_reader
    TENSORFLOW_PYTHON=ENVIRONMENT/bin/python ...    with a TensorFlow that is there already
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import venv
from pathlib import Path

import torch

from gpt2.model.config import GPT2Config
from gpt2.model.formats import Source, openai, parameter_shapes
from gpt2.model.transformer import GPT2
from gpt2.tokens.bpe import Tokenizer

PACKAGE = "tensorflow-cpu==2.21.0"

THEIRS = """
import hashlib, json, sys
import numpy as np
import tensorflow as tf

ours, theirs = sys.argv[1:]
reader = tf.train.load_checkpoint(ours)
shapes = reader.get_variable_to_shape_map()
found = {}
for name, shape in shapes.items():
    values = reader.get_tensor(name)
    assert values.dtype == np.float32 and list(values.shape) == shape, name
    found[name] = [shape, hashlib.sha256(values.tobytes()).hexdigest()]

v1 = tf.compat.v1
v1.disable_eager_execution()
for name, shape in shapes.items():
    v1.get_variable(name, shape, tf.float32)
saver = v1.train.Saver()
with v1.Session() as session:
    saver.restore(session, ours + "/model.ckpt")
    saver.save(session, theirs + "/model", global_step=1000)
json.dump([tf.__version__, found], open(theirs + "/found.json", "w"))
"""


def main() -> None:
    """Write, read by TensorFlow, read back; raises `AssertionError` at the first difference."""
    with tempfile.TemporaryDirectory() as scratch:
        python = os.environ.get("TENSORFLOW_PYTHON") or build(Path(scratch) / "environment")
        ours, theirs = Path(scratch) / "ours", Path(scratch) / "theirs"
        net = GPT2(GPT2Config.size("124M"), seed=0)
        weights = {name: w + 0.01 * torch.randn_like(w) for name, w in net.state_dict().items()}
        source = Source("workbench", ours, net.config, Tokenizer.gpt2(), weights.__getitem__)
        openai.write(ours, source)
        theirs.mkdir()
        command = [python, "-c", THEIRS, str(ours), str(theirs)]
        run = subprocess.run(command, stderr=subprocess.PIPE, text=True)  # it talks a lot when all is well
        assert run.returncode == 0, run.stderr[-3000:]
        version, found = json.loads((theirs / "found.json").read_text())
        for file in ("hparams.json", "encoder.json", "vocab.bpe"):
            shutil.copy(ours / file, theirs)
        back, again = openai.open_source(theirs), openai.open_source(ours)
        wanted = dict(openai.stored(n, s) for n, s in parameter_shapes(net.config).items())
        assert {name: tuple(shape) for name, (shape, _) in found.items()} == wanted
        for name, weight in weights.items():
            assert torch.equal(weight, back.tensor(name)), f"TensorFlow's {name} comes back changed"
            assert torch.equal(weight, again.tensor(name)), f"our {name} comes back changed"
        index = (theirs / "model-1000.index").read_bytes()
        assert (ours / "model.ckpt.index").read_bytes() == index, "our index is another than TensorFlow's"
        print(f"TensorFlow {version} reads the {len(found)} tensors of our folder and restores them by name")
        print("we read the checkpoint that it wrote from them; equal to the bit")
        print("and the two index files are equal byte for byte")


def build(folder: Path) -> str:
    """An environment with TensorFlow; returns its interpreter."""
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "-qq", PACKAGE], check=True)
    print(f"installed {PACKAGE}")
    return python


if __name__ == "__main__":
    main()
