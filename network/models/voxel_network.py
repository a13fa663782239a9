"""What MinkowskiNet and SPVCNN share: points -> voxels, the U-Net's stages, and the loss on voxels.

Both come from "Searching Efficient 3D Architectures with Sparse Point-Voxel Convolution" (Tang et al., ECCV 2020);
MinkowskiNet is the U-Net of Choy et al., CVPR 2019, at those widths.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from network.models.losses import SegmentationLoss
from network.models.segmentation_network import SegmentationNetwork
from network.sparse.layers import KernelMap, ResidualBlock, SparseBackend, SparseConvNorm
from network.voxels.voxel_pyramid import Pyramid, build_pyramid
from utils.scan.records import Batch

LEVELS = 5  # strides 1, 2, 4, 8, 16
RELU = 0.0  # a LeakyReLU of that slope


class Stem(nn.Module):
    """Two convolutions at full resolution."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv1 = SparseConvNorm(c_in, c_out, 3)
        self.conv2 = SparseConvNorm(c_out, c_out, 3)

    def forward(self, x: Tensor, kernel_map: KernelMap) -> Tensor:
        """(V, C_in) -> (V, C_out)."""
        return self.conv2(self.conv1(x, kernel_map, slope=RELU), kernel_map, slope=RELU)


class _Blocks(nn.Sequential):
    """Two residual blocks, the first of which changes the width."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(
            ResidualBlock(c_in, c_out, RELU, keep_identity=True), ResidualBlock(c_out, c_out, RELU, keep_identity=True)
        )

    def forward(self, x: Tensor, kernel_map: KernelMap) -> Tensor:  # type: ignore[override]
        for block in self:
            x = block(x, kernel_map)
        return x


class DownStage(nn.Module):
    """To the next coarser level: a convolution of size and stride 2, then two residual blocks."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.reduce = SparseConvNorm(c_in, c_in, 2)
        self.blocks = _Blocks(c_in, c_out)

    def forward(self, x: Tensor, pyramid: Pyramid, level: int) -> Tensor:
        """(V_fine, C_in) on the level before -> (V, C_out) on `level`."""
        x = self.reduce(x, pyramid.down[level - 1], slope=RELU)
        return self.blocks(x, pyramid.levels[level].kernel_map)


class UpStage(nn.Module):
    """Back to the next finer level: the transposed convolution, the encoder's features beside it, two blocks."""

    def __init__(self, c_in: int, c_skip: int, c_out: int) -> None:
        super().__init__()
        self.expand = SparseConvNorm(c_in, c_out, 2)
        self.blocks = _Blocks(c_out + c_skip, c_out)

    def forward(self, x: Tensor, skip: Tensor, pyramid: Pyramid, level: int) -> Tensor:
        """(V_coarse, C_in) on the next coarser level and (V, C_skip) of the encoder -> (V, C_out) on `level`."""
        x = self.expand(x, pyramid.up[level], slope=RELU)
        return self.blocks(torch.cat([x, skip], dim=1), pyramid.levels[level].kernel_map)


class VoxelNetwork(SegmentationNetwork):
    """A network on voxels of a fixed size; a point takes the prediction of its voxel. Subclasses say how it flows.

    Args:
        channels: 9 widths: stem, four stages down, four up (`layer_num` times `cr`).
        num_classes: K.
        voxel_size: metres.
        backend: the sparse convolutions.
        criterion: the loss, taken on voxels with the label of the voxel's first point.
        lambda_lovasz: weight of Lovasz-softmax beside the cross-entropy.
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_classes: int,
        voxel_size: float,
        backend: SparseBackend,
        criterion: SegmentationLoss,
        lambda_lovasz: float = 1.0,
    ) -> None:
        super().__init__()
        self.voxel_size, self.backend, self.lambda_lovasz = voxel_size, backend, lambda_lovasz
        c = channels
        self.stem = Stem(4, c[0])
        self.stage1 = DownStage(c[0], c[1])
        self.stage2 = DownStage(c[1], c[2])
        self.stage3 = DownStage(c[2], c[3])
        self.stage4 = DownStage(c[3], c[4])
        self.up1 = UpStage(c[4], c[3], c[5])
        self.up2 = UpStage(c[5], c[2], c[6])
        self.up3 = UpStage(c[6], c[1], c[7])
        self.up4 = UpStage(c[7], c[0], c[8])
        self.classifier = nn.Linear(c[8], num_classes)
        self.criterion = criterion

    def forward(self, voxels: Pyramid) -> Tensor:
        """(V0, K) logits of the finest voxels."""
        raise NotImplementedError

    def geometry(self) -> dict[str, list[float]]:
        """The size of the voxels."""
        return {"voxel_size": [self.voxel_size]}

    def voxelize(self, batch: Batch) -> Pyramid:
        """The voxels of a batch at all levels of this network."""
        return build_pyramid(batch, self.voxel_size, LEVELS, self.backend)

    def predict(self, batch: Batch) -> Tensor:
        """(P, K) logits."""
        voxels = self.voxelize(batch)
        return self(voxels).index_select(0, voxels.inverse)

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalar losses; "loss" is their total."""
        voxels = self.voxelize(batch)
        ce, lovasz = self.criterion.terms(self(voxels), batch.labels[voxels.first], self.lambda_lovasz)
        return {"loss": ce + lovasz, "loss_ce": ce, "loss_lovasz": lovasz}
