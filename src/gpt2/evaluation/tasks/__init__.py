"""The paper's tasks, one file each; see `gpt2.evaluation.task` for what a task is."""
