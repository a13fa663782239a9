"""The 3D network of 2DPASS (the paper's "3D baseline"): an encoder of sparse residual blocks and point MLPs.

The MLPs that the method describes per point are computed on voxels wherever a point's value depends on its voxel
alone; a mean that counts every voxel once per point makes that exactly the same, at a fraction of the cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from network.models.losses import SegmentationLoss
from network.models.segmentation_network import SegmentationNetwork
from network.ops.sums import RowSum
from network.sparse.layers import LEAKY_SLOPE, BatchNorm, KernelMap, ResidualBlock, SparseBackend, leaky_relu
from network.voxels.voxelize import Pool, Voxels, voxelize
from utils.scan.records import Batch
from utils.scan.volume import Volume


class ConcatLinear(nn.Linear):
    """Linear(concat(parts)), each part multiplied where it lives and only then gathered to the common rows."""

    def forward(self, *parts: tuple[Tensor, RowSum | None]) -> Tensor:  # type: ignore[override]
        """Each part is ((rows_i, C_i) features, which of them to pick or None if all R are there) -> (R, out)."""
        matrices = self.weight.split([features.shape[1] for features, _ in parts], dim=1)
        bias: Tensor | None = self.bias
        out: Tensor | None = None
        for (features, pick), matrix in zip(parts, matrices, strict=True):
            product = F.linear(features, matrix, bias)
            product = product if pick is None else pick(product)
            out = product if out is None else out.add_(product)
            bias = None
        assert out is not None
        return out


class EncoderBlock(nn.Module):
    """From the voxels of one scale to those of the next: voxel branch (sparse) and point branch (MLPs)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        c, half = channels, channels // 2
        self.voxel_branch = nn.ModuleList([ResidualBlock(c, c), ResidualBlock(c, c)])
        self.pooled_mlp = nn.Sequential(
            nn.Linear(c, half), nn.LeakyReLU(LEAKY_SLOPE), BatchNorm(half),
            nn.Linear(half, half), nn.LeakyReLU(LEAKY_SLOPE), BatchNorm(half),
            nn.Linear(half, c), nn.LeakyReLU(LEAKY_SLOPE),
        )  # fmt: skip
        self.identity = nn.Linear(c, c)
        self.merge = ConcatLinear(2 * c, c)
        self.output = nn.Linear(c, c)

    def forward(self, x: Tensor, kernel_map: KernelMap, pool: Pool, to_coarse: RowSum) -> tuple[Tensor, Tensor, Tensor]:
        """One step of the encoder.

        Args:
            x: (V_l, C) features on the fine voxels.
            kernel_map: of the fine voxels.
            pool: groups of them.
            to_coarse: mean from the fine onto the coarse voxels.

        Returns:
            The features of the voxel branch (V_l, C), the block's output (V_s, C), the next block's input (V_s, C).
        """
        v = x
        for block in self.voxel_branch:
            v = block(v, kernel_map)
        f = x + v
        pooled = self.pooled_mlp(pool.mean(f))
        merged = leaky_relu(self.merge((leaky_relu(self.identity(f)), None), (pooled, pool.back)))
        q = self.output(to_coarse(merged))  # a linear layer and a mean may change places
        return v, q, q + to_coarse(v)


@dataclass(frozen=True)
class Features3D:
    """What the 3D network computes.

    Attributes:
        logits: (P, K) per point.
        voxel_features: per block, (V_l, C) features of its voxel branch on `voxels.finer(block)`.
    """

    logits: Tensor
    voxel_features: list[Tensor]


class Network3D(SegmentationNetwork):
    """The pure 3D network: all that is used at test time, and with --baseline_only all there is."""

    def __init__(
        self,
        volume: Volume,
        scale_list: Sequence[int],
        channels: int,
        num_classes: int,
        backend: SparseBackend,
        criterion: SegmentationLoss,
        lambda_lovasz: float,
    ) -> None:
        super().__init__()
        self.volume, self.scale_list, self.backend = volume, tuple(scale_list), backend
        self.lambda_lovasz = lambda_lovasz
        self.embed_points = nn.Linear(10, channels)
        self.embed_voxels = nn.Linear(channels, channels)
        self.encoder = nn.ModuleList([EncoderBlock(channels) for _ in scale_list])
        self.head = ConcatLinear(len(scale_list) * channels, 128)
        self.classifier = nn.Linear(128, num_classes)
        self.criterion = criterion

    def geometry(self) -> dict[str, list[float]]:
        """The volume, its grid and the scales."""
        volume = self.volume
        return {
            "min_volume_space": list(volume.low),
            "max_volume_space": list(volume.high),
            "spatial_shape": list(volume.grid),
            "scale_list": list(self.scale_list),
        }

    def voxelize(self, batch: Batch) -> Voxels:
        """The voxels of a batch at all scales of this network."""
        return voxelize(batch.points, batch.scan_ids, self.volume, self.scale_list, self.backend)

    def forward(self, voxels: Voxels) -> Features3D:
        x = self.embed_voxels(voxels.base.mean_of_points(F.relu(self.embed_points(voxels.features), inplace=True)))
        voxel_features, outputs = [], []
        for i, block in enumerate(self.encoder):
            v, q, x = block(x, voxels.finer(i).kernel_map, voxels.pools[i], voxels.means[i])
            voxel_features.append(v)
            outputs.append(q)
        hidden = F.relu(self.head(*zip(outputs, voxels.signature_rows, strict=True)), inplace=True)
        return Features3D(voxels.signature_of_point(self.classifier(hidden)), voxel_features)

    def predict(self, batch: Batch) -> Tensor:
        """(P, K) logits; images are never looked at."""
        return self(self.voxelize(batch)).logits

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalar losses; "loss" is their total."""
        return self.point_losses(self(self.voxelize(batch)).logits, batch)

    def point_losses(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy and Lovasz of per-point logits, and their total."""
        ce, lovasz = self.criterion.terms(logits, batch.labels, self.lambda_lovasz)
        return {"loss": ce + lovasz, "loss_ce": ce, "loss_lovasz": lovasz}
