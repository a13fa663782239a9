"""The model as a program of torch.export: `model.pt2`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from network.models.segmentation_network import SegmentationNetwork
from utils.errors import UserError


def write_program(
    network: SegmentationNetwork, description: Mapping[str, Any], folder: Path, weights: str
) -> dict[str, dict[str, Any]]:
    """Writes `model.pt2` into the folder.

    Args:
        network: in evaluation mode, without gradients, on the CPU.
        description: from `model_file.describe`.
        folder: where the file goes.
        weights: how the weights are stored, of `model_file.WEIGHTS`.

    Returns:
        Name of each file that was written -> what `model.json` says of it besides its sha256.
    """
    raise UserError("--format torch: not there yet; choose onnx")
