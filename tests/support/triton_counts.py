"""A program that counts the products that the Triton backend computes beside those that are needed, on a scan.

    python -m tests.support.triton_counts                     # on a made-up rough surface
    python -m tests.support.triton_counts velodyne/000000.bin # on a scan of SemanticKITTI

The counting is plain PyTorch and shares no code with the kernels, but for the bits of the codes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from network.sparse.coordinates import pack
from network.sparse.torch_backend import submanifold_map
from network.sparse.triton_geometry import significance

LOW, HIGH, GRID = (-50.0, -50.0, -4.0), (50.0, 50.0, 2.0), (1000, 1000, 60)  # the volume of 2DPASS, metres and cells


def rough_surface(side: int) -> Tensor:
    """Makes the (V,) sorted keys of a slope with gaps, whose height is uneven: masks are as various as on a scan."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    uneven = torch.rand(side, side, generator=generator) < 0.2
    kept = torch.rand(side, side, generator=generator) < 0.8
    return pack(torch.zeros_like(x), (x + 2 * y) // 8 + uneven, y, x)[kept].sort().values


def live_offsets(keys: Tensor) -> Tensor:
    """Tells for (V,) voxels at which of the 27 offsets they have a neighbour: (27, V) bool."""
    live = torch.zeros(27, len(keys), dtype=torch.bool)
    for offset, rows in enumerate(submanifold_map(keys, 3).outputs):
        live[offset, rows] = True
    live[13] = True
    return live


def computed_products(live: Tensor, rows: int, groups: int) -> int:
    """Counts the rows that are multiplied at any offset, in tiles of so many rows.

    Args:
        live: (27, V) bool, see `live_offsets`.
        rows: rows of a tile.
        groups: 1, or 3 to sort the rows for each z level.
    """
    bits = significance(27, groups)
    count = 0
    for part in live.split(27 // groups):
        code = sum(row.long() << bit for row, bit in zip(part, bits, strict=True))
        assert isinstance(code, Tensor)
        for power in range(5):
            code = code ^ (code >> (1 << power))
        ordered = part[:, code.argsort(stable=True, descending=True)]
        padded = torch.nn.functional.pad(ordered, (0, -live.shape[1] % rows))
        count += rows * int(padded.view(len(part), -1, rows).any(2).sum())
    return count


def voxels_of_scan(file: str, scale: int) -> Tensor:
    """Reads the points of a scan; returns the (V,) sorted keys of its voxels at a scale."""
    points = torch.from_numpy(np.fromfile(file, "<f4").reshape(-1, 4))[:, :3]
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    cells = torch.tensor([-(-size // scale) for size in GRID])
    inside = ((points >= low) & (points < high)).all(1)
    x, y, z = torch.floor(cells * (points[inside] - low) / (high - low)).long().unbind(1)
    return torch.unique(pack(torch.zeros_like(x), z, y, x))


def report(name: str, keys: Tensor) -> str:
    """Describes the products of one voxel set in a line."""
    live = live_offsets(keys)
    needed = int(live.sum())
    ratios = [
        f"{rows} rows {computed_products(live, rows, 1) / needed:.2f} / {computed_products(live, rows, 3) / needed:.2f}"
        for rows in (64, 128, 256)
    ]
    visits = sum(int(part.any(0).sum()) for part in live.split(9)) / len(keys)
    return (
        f"{name}: {len(keys):,} voxels, {needed / len(keys):.2f} products each; computed over needed, in one group / "
        f"by level: {', '.join(ratios)}; visits of a row by level {visits:.2f}"
    )


def main(arguments: Sequence[str]) -> None:
    """Prints the counts at each scale."""
    if not arguments:
        print(report("surface", rough_surface(300)))
    for file in arguments:
        for scale in (1, 2, 4, 8, 16):
            print(report(f"scale {scale}", voxels_of_scan(file, scale)))


if __name__ == "__main__":
    main(sys.argv[1:])
