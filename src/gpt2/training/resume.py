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
from typing import Any

import torch
from safetensors.torch import save_file

from gpt2.errors import FormatError
from gpt2.model.checkpoint import Model, fill, read_card, write_model
from gpt2.workspace import atomic_folder, read_json, recover_folder, write_json

CHECKPOINT = "checkpoint"


def save(run: Path, model: Model, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Replace the run's checkpoint by the state after `step` steps."""
    states = {name: optimizer.state[p] for name, p in model.net.named_parameters()}
    with atomic_folder(run / CHECKPOINT, "state.json") as folder:
        write_model(model, folder)
        save_file(flat(states), folder / "optimizer.safetensors")
        write_json(folder / "state.json", {"step": step})


def saved_step(run: Path) -> int:
    """Steps done at the last checkpoint; 0 when there is none."""
    recover_folder(run / CHECKPOINT)
    path = run / CHECKPOINT / "state.json"
    if not path.exists():
        return 0
    state = read_json(path)
    step = state.get("step") if isinstance(state, dict) else None
    if type(step) is not int or step < 1:
        raise FormatError(f"{path} names no step; delete {run / CHECKPOINT} to start anew")
    return step


def restore(run: Path, model: Model, optimizer: torch.optim.Optimizer) -> int:
    """Put the last checkpoint into model and optimizer; returns the steps it had done, 0 without one."""
    step = saved_step(run)
    if step:
        folder = run / CHECKPOINT
        states = {
            name: {
                "step": torch.zeros((), device=p.device),
                "exp_avg": torch.zeros_like(p),
                "exp_avg_sq": torch.zeros_like(p),
            }
            for name, p in model.net.named_parameters()
        }
        fill(model.net.state_dict(), folder / "model.safetensors")
        fill(flat(states), folder / "optimizer.safetensors")
        for name, p in model.net.named_parameters():
            optimizer.state[p] = states[name]
        model.card = read_card(folder / "card.json")
    return step


def flat(states: dict[str, Any]) -> dict[str, torch.Tensor]:
    """AdamW's tensors of each weight, under names such as `wte.weight/exp_avg`."""
    return {f"{name}/{key}": value for name, state in states.items() for key, value in state.items()}
