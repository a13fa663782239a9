"""How checkpoints reach the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from utils.files import whole_file


class WholeFileCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoint files, each written whole or not at all.

    Lightning's own writer gathers the file in memory, then in the folder for temporary files, and copies it over the
    target from there. On another file system that copy can be cut short, and the last good checkpoint is lost.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            OSError: it cannot be written; `path` is then as it was.
        """
        with whole_file(path) as file:
            torch.save(checkpoint, file)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint file; never a folder."""
        Path(path).unlink(missing_ok=True)
