"""The state of a training run on disk: the model's own folder plus the optimizer's tensors and the step.

    RUN/
      train.json        what was asked for and what was derived from it: the step count above all
      metrics.jsonl     one line a logged step
      checkpoint/       the last saved state; a whole model folder, with optimizer.safetensors and state.json

The checkpoint is replaced as a folder, by renaming, so there is always a whole one. Since batches and
learning rate depend on the step alone, weights, optimizer and step are all there is to save.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from gpt2.errors import FormatError
from gpt2.model.checkpoint import Model, load_weights, read_tensors, write_model
from gpt2.workspace import atomic_folder, read_json, recover_folder, write_json

CHECKPOINT = "checkpoint"


def save(run: Path, model: Model, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Replace the run's checkpoint by the state after `step` steps."""
    names = {id(p): name for name, p in model.net.named_parameters()}
    tensors = {
        f"{names[id(p)]}/{key}": value.contiguous()
        for group in optimizer.param_groups
        for p in group["params"]
        for key, value in optimizer.state[p].items()
    }
    with atomic_folder(run / CHECKPOINT, "state.json") as folder:
        write_model(model, folder)
        save_file(tensors, folder / "optimizer.safetensors")
        write_json(folder / "state.json", {"step": step})


def saved_step(run: Path) -> int:
    """Steps done at the last checkpoint; 0 when there is none."""
    recover_folder(run / CHECKPOINT)
    path = run / CHECKPOINT / "state.json"
    if not path.exists():
        return 0
    step = read_json(path).get("step")
    if not isinstance(step, int):
        raise FormatError(f"{path} names no step; delete {run / CHECKPOINT} to start anew")
    return step


def restore(run: Path, model: Model, optimizer: torch.optim.Optimizer) -> int:
    """Put the last checkpoint into model and optimizer; returns the steps it had done, 0 without one."""
    step = saved_step(run)
    if not step:
        return 0
    folder = run / CHECKPOINT
    load_weights(model.net, folder / "model.safetensors")
    tensors = read_tensors(folder / "optimizer.safetensors")
    names = {id(p): name for name, p in model.net.named_parameters()}
    for group in optimizer.param_groups:
        for p in group["params"]:
            prefix = names[id(p)] + "/"
            state = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
            if not state:
                raise FormatError(f"{folder / 'optimizer.safetensors'} lacks the state of {prefix[:-1]!r}")
            optimizer.state[p] = {k: v if k == "step" else v.to(p.device) for k, v in state.items()}
    return step
