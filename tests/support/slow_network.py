"""The 3D network of 2DPASS written point by point, for comparison with the one that computes on voxels.

Everything the method describes per point is computed per point here (P rows), voxels are found with dictionaries and
sparse convolutions are loops over coordinates. Only the weights are taken from the network under test.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from network.models.network_3d import Network3D
from utils.scan.records import Batch
from utils.scan.volume import Volume

Cell = tuple[int, int, int, int]  # scan, z, y, x


class Groups:
    """Rows with equal keys: the voxels of points, or the pooling groups of voxels."""

    def __init__(self, key_of_row: Sequence[Hashable]) -> None:
        number: dict[Hashable, int] = {}
        self.inverse = torch.tensor([number.setdefault(key, len(number)) for key in key_of_row])
        self.keys = list(number)

    def mean(self, values: Tensor) -> Tensor:
        """(rows, C) -> (groups, C), every row counted once."""
        members = defaultdict(list)
        for row, group in enumerate(self.inverse.tolist()):
            members[group].append(row)
        return torch.stack([values[members[group]].mean(0) for group in range(len(self.keys))])


def cells(batch: Batch, volume: Volume, scale: int) -> list[Cell]:
    """Voxel of every point."""
    result = []
    for scan, point in zip(batch.scan_ids.tolist(), batch.points.numpy(), strict=True):
        x, y, z = (
            math.floor(np.float32(math.ceil(g / scale)) * (p - np.float32(lo)) / (np.float32(hi) - np.float32(lo)))
            for g, p, lo, hi in zip(volume.grid, point[:3], volume.low, volume.high, strict=True)
        )
        result.append((scan, z, y, x))
    return result


class SlowBaseline:
    """Forward pass of a `Network3D` in float64, from the description of the method.

    Args:
        network: whose weights, running statistics and scales to use.
        training: batch statistics in BatchNorm; then `running` collects the updated running statistics.
    """

    def __init__(self, network: Network3D, training: bool) -> None:
        self.network, self.training = network, training
        self.weights = dict(network.named_parameters())
        self.buffers = dict(network.named_buffers())
        self.running: dict[str, Tensor] = {}

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, name: str, x: Tensor) -> Tensor:
        mean, var = self.buffers[f"{name}.running_mean"], self.buffers[f"{name}.running_var"]
        if self.training:
            self.running[f"{name}.running_mean"] = 0.9 * mean + 0.1 * x.mean(0).detach()
            self.running[f"{name}.running_var"] = 0.9 * var + 0.1 * x.var(0, unbiased=True).detach()
            mean, var = x.mean(0), x.var(0, unbiased=False)
        normalized = (x - mean) / torch.sqrt(var + 1e-5)
        return normalized * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def convolution(self, name: str, x: Tensor, voxels: list[Cell], size: int) -> Tensor:
        """out[p] = sum over d of W[d] in[p + d]; W's first axis runs over d with z slowest and x fastest."""
        weight = self.weights[f"{name}.weight"]
        row = {voxel: i for i, voxel in enumerate(voxels)}
        reach = range(-(size // 2), size // 2 + 1)
        out = []
        for b, z, y, x_ in voxels:
            total = x.new_zeros(weight.shape[2])
            for d, (dz, dy, dx) in enumerate(itertools.product(reach, repeat=3)):
                neighbour = row.get((b, z + dz, y + dy, x_ + dx))
                if neighbour is not None:
                    total = total + x[neighbour] @ weight[d]
            out.append(total)
        return torch.stack(out)

    def residual_block(self, name: str, x: Tensor, voxels: list[Cell]) -> Tensor:
        def conv_norm(layer: str, value: Tensor, size: int) -> Tensor:
            return self.norm(f"{name}.{layer}.norm", self.convolution(f"{name}.{layer}", value, voxels, size))

        inner = F.leaky_relu(conv_norm("conv1", x, 3), 0.1)
        return F.leaky_relu(conv_norm("conv2", inner, 3) + conv_norm("shortcut", x, 1), 0.1)

    def pooled(self, name: str, f: Tensor, voxels: list[Cell]) -> Tensor:
        groups = Groups([(b, z // 2, y // 2, x // 2) for b, z, y, x in voxels])
        h = groups.mean(f)
        h = self.norm(f"{name}.2", F.leaky_relu(self.linear(f"{name}.0", h), 0.1))
        h = self.norm(f"{name}.5", F.leaky_relu(self.linear(f"{name}.3", h), 0.1))
        return F.leaky_relu(self.linear(f"{name}.6", h), 0.1)[groups.inverse]

    def input_features(self, batch: Batch, voxels: Groups) -> Tensor:
        volume, points = self.network.volume, batch.points.double()
        xyz = points[:, :3]
        interval = (torch.tensor(volume.high).double() - torch.tensor(volume.low)) / torch.tensor(volume.grid)
        index = torch.tensor([(x, y, z) for _, z, y, x in voxels.keys])[voxels.inverse]  # type: ignore[misc]
        corner = index * interval + torch.tensor(volume.low)
        return torch.cat([points, xyz - voxels.mean(xyz)[voxels.inverse], xyz - corner], dim=1)

    def __call__(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """Per-point logits, and per block the voxel branch's features gathered to the points (P, C)."""
        scales = self.network.scale_list
        fine = Groups(cells(batch, self.network.volume, 1))
        embedded = self.linear("embed_voxels", F.relu(self.linear("embed_points", self.input_features(batch, fine))))
        x = fine.mean(embedded)
        outputs, voxel_features = [], []
        for i, scale in enumerate(scales):
            coarse = Groups(cells(batch, self.network.volume, scale))
            name = f"encoder.{i}"
            voxels: list[Cell] = fine.keys  # type: ignore[assignment]
            v = self.residual_block(f"{name}.voxel_branch.0", x, voxels)
            v = self.residual_block(f"{name}.voxel_branch.1", v, voxels)
            f = x + v
            identity = F.leaky_relu(self.linear(f"{name}.identity", f), 0.1)
            joint = torch.cat([identity, self.pooled(f"{name}.pooled_mlp", f, voxels)], dim=1)[fine.inverse]
            q = coarse.mean(self.linear(f"{name}.output", F.leaky_relu(self.linear(f"{name}.merge", joint), 0.1)))
            x = q + coarse.mean(v[fine.inverse])
            outputs.append(q[coarse.inverse])
            voxel_features.append(v[fine.inverse])
            fine = coarse
        hidden = F.relu(self.linear("head", torch.cat(outputs, dim=1)))
        return self.linear("classifier", hidden), voxel_features
