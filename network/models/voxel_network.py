"""The parts that MinkowskiNet and SPVCNN share: points -> voxels, the stages of the U-Net, and the loss on voxels.

Both come from "Searching Efficient 3D Architectures with Sparse Point-Voxel Convolution" (Tang et al., ECCV 2020).
MinkowskiNet is the U-Net of Choy et al. (CVPR 2019) with the widths of that paper.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from network.models.losses import SegmentationLoss
from network.models.segmentation_network import SegmentationNetwork
from network.ops.linear import Linear
from network.sparse.layers import KernelMap, ResidualBlock, SparseBackend, SparseConvNorm
from network.voxels.voxel_pyramid import Pyramid, build_pyramid
from utils.scan.records import Batch

LEVELS = 5  # strides 1, 2, 4, 8, 16
PUBLISHED_BLOCKS = (2, 2, 2, 2, 2, 2, 2, 2)  # of the four stages down and the four up
RELU = 0.0  # a LeakyReLU of slope 0 is a ReLU


class Stem(nn.Module):
    """The first two convolutions, at full resolution."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv1 = SparseConvNorm(c_in, c_out, 3)
        self.conv2 = SparseConvNorm(c_out, c_out, 3)

    def forward(self, x: Tensor, kernel_map: KernelMap) -> Tensor:
        """Computes (V, C_out) features from (V, C_in)."""
        return self.conv2(self.conv1(x, kernel_map, slope=RELU), kernel_map, slope=RELU)


class _Blocks(nn.Sequential):
    """The residual blocks of a stage, the first of which changes the width."""

    def __init__(self, c_in: int, c_out: int, count: int) -> None:
        widths = [c_in] + [c_out] * (count - 1)
        super().__init__(*(ResidualBlock(width, c_out, RELU, keep_identity=True) for width in widths))

    def forward(self, x: Tensor, kernel_map: KernelMap) -> Tensor:  # type: ignore[override]
        for block in self:
            x = block(x, kernel_map)
        return x


class DownStage(nn.Module):
    """A stage that leads to the next coarser level: a convolution of size and stride 2, then residual blocks."""

    def __init__(self, c_in: int, c_out: int, blocks: int) -> None:
        super().__init__()
        self.reduce = SparseConvNorm(c_in, c_in, 2)
        self.blocks = _Blocks(c_in, c_out, blocks)

    def forward(self, x: Tensor, pyramid: Pyramid, level: int) -> Tensor:
        """Computes (V, C_out) features on `level` from (V_fine, C_in) on the next finer level."""
        x = self.reduce(x, pyramid.down[level - 1], slope=RELU)
        return self.blocks(x, pyramid.levels[level].kernel_map)


class UpStage(nn.Module):
    """A stage that leads back to the next finer level: a transposed convolution, a skip connection, then blocks."""

    def __init__(self, c_in: int, c_skip: int, c_out: int, blocks: int) -> None:
        super().__init__()
        self.expand = SparseConvNorm(c_in, c_out, 2)
        self.blocks = _Blocks(c_out + c_skip, c_out, blocks)

    def forward(self, x: Tensor, skip: Tensor, pyramid: Pyramid, level: int) -> Tensor:
        """Computes (V, C_out) features on `level`.

        Args:
            x: (V_coarse, C_in) features on the next coarser level.
            skip: (V, C_skip) features of the encoder on `level`.
            pyramid: the voxels of all levels.
            level: number of the result's level; 0 is the finest.
        """
        x = self.expand(x, pyramid.up[level], slope=RELU)
        return self.blocks(torch.cat([x, skip], dim=1), pyramid.levels[level].kernel_map)


class VoxelNetwork(SegmentationNetwork):
    """The base class of U-Nets on voxels of a fixed size; a point takes the prediction of its voxel.

    Subclasses define `forward`: how features flow through the stages.

    Args:
        channels: 9 widths: stem, four stages down, four stages up (`layer_num` times `cr`).
        num_classes: K.
        voxel_size: edge of a voxel, metres.
        backend: the sparse convolutions.
        criterion: the loss, computed on voxels with the label of each voxel's first point.
        lambda_lovasz: weight of Lovasz-softmax beside the cross-entropy.
        input_dims: numbers per point: 4, or 5 with the age.
        layer_blocks: 8 numbers of residual blocks: of the four stages down, of the four stages up.
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_classes: int,
        voxel_size: float,
        backend: SparseBackend,
        criterion: SegmentationLoss,
        lambda_lovasz: float = 1.0,
        input_dims: int = 4,
        layer_blocks: Sequence[int] = PUBLISHED_BLOCKS,
    ) -> None:
        super().__init__()
        self.voxel_size, self.backend, self.lambda_lovasz = voxel_size, backend, lambda_lovasz
        self.takes_age = input_dims > 4
        c, blocks = channels, layer_blocks
        self.stem = Stem(input_dims, c[0])
        self.stage1 = DownStage(c[0], c[1], blocks[0])
        self.stage2 = DownStage(c[1], c[2], blocks[1])
        self.stage3 = DownStage(c[2], c[3], blocks[2])
        self.stage4 = DownStage(c[3], c[4], blocks[3])
        self.up1 = UpStage(c[4], c[3], c[5], blocks[4])
        self.up2 = UpStage(c[5], c[2], c[6], blocks[5])
        self.up3 = UpStage(c[6], c[1], c[7], blocks[6])
        self.up4 = UpStage(c[7], c[0], c[8], blocks[7])
        self.classifier = Linear(c[8], num_classes)
        self.criterion = criterion

    def forward(self, voxels: Pyramid) -> Tensor:
        """Computes the (V0, K) logits of the finest voxels."""
        raise NotImplementedError

    def geometry(self) -> dict[str, list[float]]:
        """Returns the edge of a voxel, metres, by the name of its config key."""
        return {"voxel_size": [self.voxel_size]}

    def input_weights(self) -> dict[str, int]:
        """Returns the weights of the first convolution."""
        return {"stem.conv1.weight": 1}

    def output_weights(self) -> list[str]:
        """Returns the weights of the last layer."""
        return ["classifier.weight", "classifier.bias"]

    def voxelize(self, batch: Batch) -> Pyramid:
        """Computes the voxels of a batch at all levels of this network."""
        return build_pyramid(batch, self.voxel_size, LEVELS, self.backend)

    def predict(self, batch: Batch) -> Tensor:
        """Computes the (P, K) logits of the points: those of their voxels."""
        voxels = self.voxelize(batch)
        return self(voxels).index_select(0, voxels.inverse)

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Computes named scalar losses; "loss" is their total."""
        voxels = self.voxelize(batch)
        ce, lovasz = self.criterion.terms(self(voxels), batch.labels[voxels.first], self.lambda_lovasz)
        return {"loss": ce + lovasz, "loss_ce": ce, "loss_lovasz": lovasz}
