"""Writing of checkpoint files, and their reading by the trainer."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from network.training.resuming import TrainingState
from utils.errors import UserError
from utils.files import whole_file


class WholeFileCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoint files, each written whole or not at all, and restored only from what has been checked.

    Lightning's own writer gathers the file in memory, then in the folder for temporary files, and copies it over the
    target from there. On another file system that copy can be cut short, and the last good checkpoint is lost. Its own
    reader restores whatever a file holds.

    Args:
        resumed: the training to resume; None: a new training.
    """

    def __init__(self, resumed: TrainingState | None = None) -> None:
        super().__init__()
        self.resumed = resumed

    def load_checkpoint(self, path: str | Path, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Returns the checked content of the checkpoint that the training resumes from.

        Raises:
            UserError: `path` is another checkpoint, which Lightning has found by itself (when SLURM restarts a job).
        """
        if self.resumed is None or Path(path) != self.resumed.path:
            raise UserError(f"{path}: not restored, it was not asked for; give it to --checkpoint, or move it away")
        return {**self.resumed.content, "pytorch-lightning_version": version("pytorch-lightning")}

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes a checkpoint.

        Raises:
            OSError: it cannot be written; `path` is then as it was.
        """
        with whole_file(path) as file:
            torch.save(checkpoint, file)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Removes a checkpoint file; never a folder."""
        Path(path).unlink(missing_ok=True)
