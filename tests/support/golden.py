"""Golden data: outputs of the published networks, and the rule that fills their weights (tests/golden/README.md)."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from utils.scan.records import Batch

GOLDEN = Path(__file__).parents[1] / "golden"


def released_state(name: str) -> dict[str, Tensor]:
    """Returns every tensor of a released state dict, filled by name."""
    shapes = json.loads((GOLDEN / f"{name}_state_dict.json").read_text())
    return {key: _fill(key, shape) for key, shape in shapes.items()}


def _fill(name: str, shape: list[int]) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.long)
    n = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if name.endswith("running_var"):
        n = 1 + 0.1 * np.abs(n)
    elif name.endswith("running_mean"):
        n = 0.1 * n
    elif len(shape) == 1 and name.endswith("weight"):
        n = 1 + 0.1 * n
    elif name.endswith("bias"):
        n = 0.1 * n
    else:
        n = n / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(n, dtype=np.float32))


def golden_batch(golden: dict[str, np.ndarray]) -> Batch:
    """Builds the batch of inputs of an `arch_2dpass_*.npz` file."""
    scans = range(sum(key.startswith("points_") for key in golden))
    all_pixels = []
    for b in scans:
        of_scan = np.full((len(golden[f"points_{b}"]), 2), -1, dtype=np.int64)
        of_scan[golden[f"point2img_index_{b}"]] = golden[f"img_indices_{b}"]
        all_pixels.append(of_scan)
    pixels = torch.from_numpy(np.concatenate(all_pixels))
    lengths = tuple(len(golden[f"points_{b}"]) for b in scans)
    return Batch(
        points=torch.from_numpy(np.concatenate([golden[f"points_{b}"] for b in scans])),
        scan_ids=torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)),
        labels=torch.from_numpy(np.concatenate([golden[f"labels_{b}"] for b in scans]).astype(np.int64)),
        pixels=pixels,
        visible=torch.nonzero(pixels[:, 0] >= 0)[:, 0],
        images=torch.from_numpy(golden["img"].astype(np.float32)),
        lengths=lengths,
    )
