"""A 2D convolution that is evaluated only at the cells where its result is needed, as a sparse convolution.

The image decoders would compute a feature for every cell of a feature map, but the points fall into few of them: on a
480 x 320 crop a LiDAR scan hits one cell in five at half the resolution. On a CPU, computing only those is several
times as fast.
"""

from __future__ import annotations

import torch
from torch import Tensor

from network.sparse.native_backend import NativeMap


def convolve_at(features: Tensor, weight: Tensor, cells: Tensor) -> Tensor:
    """Computes some cells of a `conv2d` of stride 1 and padding k // 2, without bias.

    Args:
        features: (B, C_in, h, w), fastest in channels_last.
        weight: (C_out, C_in, k, k), k odd.
        cells: (U,) int64, ascending and distinct cells of the result: (image * h + row) * w + column.

    Returns:
        (U, C_out) in the type of the features.
    """
    c_out, c_in, k, _ = weight.shape
    h, w = features.shape[2:]
    flat = features.permute(0, 2, 3, 1).reshape(-1, c_in)
    matrices = weight.permute(2, 3, 1, 0).reshape(k * k, c_in, c_out)
    return _grid_map(cells, len(flat), h, w, k).convolve(flat, matrices)


def _grid_map(cells: Tensor, num_inputs: int, h: int, w: int, k: int) -> NativeMap:
    row, column = torch.div(cells, w, rounding_mode="floor") % h, cells % w
    reach = range(-(k // 2), k // 2 + 1)
    inputs, outputs = [], []
    for dy in reach:
        in_rows = (row + dy >= 0) & (row + dy < h)
        for dx in reach:
            there = (in_rows & (column + dx >= 0) & (column + dx < w)).nonzero()[:, 0]
            outputs.append(there)
            inputs.append(cells[there] + (dy * w + dx))
    ends = torch.tensor([0, *map(len, inputs)]).cumsum(0)
    return NativeMap(num_inputs, len(cells), torch.cat(inputs).int(), torch.cat(outputs).int(), ends)
