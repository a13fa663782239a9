"""Checkpoints of a pre-training by distillation (--pretrain_distill): what they may be used for.

Their network has no classifier. They are to be fine-tuned; a test of them would say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.errors import UserError

PRETRAINING = "pretraining"
"""The key below `2dpass` that says that a checkpoint is of a pre-training; others do not have it."""
HEAD = "pretraining_head."
"""What the names of the tensors begin with that serve the pre-training alone."""


def is_pretraining(content: Mapping[str, Any]) -> bool:
    """Tells whether a checkpoint, or its outline, is of a pre-training that was not fine-tuned."""
    ours = content.get("2dpass")
    return isinstance(ours, Mapping) and ours.get(PRETRAINING) is True


def refuse_untrained(content: Mapping[str, Any], path: str | Path) -> None:
    """Refuses to predict with a checkpoint of a pre-training.

    Raises:
        UserError: it is one.
    """
    if is_pretraining(content):
        raise UserError(
            f"{path}: is of a pre-training without labels and has no classifier yet; fine-tune it first: main.py "
            f"--config CONFIG --fine_tune --checkpoint {path}"
        )


def check_use(content: Mapping[str, Any], path: str | Path, pretraining: bool) -> None:
    """Checks that a training without --fine_tune and --pretrain2d may go on from a checkpoint.

    Args:
        content: from `read_outline` or `read_checkpoint`.
        path: path of the checkpoint, for messages.
        pretraining: whether --pretrain_distill was given.

    Raises:
        UserError: one of them is a pre-training, and the other is not.
    """
    if pretraining and not is_pretraining(content):
        raise UserError(
            f"{path}: is not of a pre-training, so --pretrain_distill cannot go on with it; to learn from its image "
            "branch, give --pretrain2d, too"
        )
    if is_pretraining(content) and not pretraining:
        raise UserError(
            f"{path}: is of a pre-training; give --fine_tune to train the network with labels from its weights, or "
            "--pretrain_distill to go on with the pre-training"
        )
