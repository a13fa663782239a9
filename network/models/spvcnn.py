"""SPVCNN adds a point branch to MinkowskiNet, which keeps the detail that coarse voxels lose (Tang et al., ECCV 2020,
section 3)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from network.models.losses import SegmentationLoss
from network.models.voxel_network import PUBLISHED_BLOCKS, VoxelNetwork
from network.ops.linear import Linear
from network.ops.mlp import MLP
from network.sparse.layers import BatchNorm, SparseBackend
from network.voxels.voxel_pyramid import Pyramid

DROPOUT = 0.3


class SPVCNN(VoxelNetwork):
    """The U-Net of MinkowskiNet with a point branch (z): the two exchange features at strides 1, 16, 4 and 1.

    The "points" of the branch are the finest voxels. So at stride 1 points and voxels are the same rows, and features
    need not be moved. The arguments are those of `VoxelNetwork`.
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
        super().__init__(channels, num_classes, voxel_size, backend, criterion, lambda_lovasz, input_dims, layer_blocks)
        c = channels
        self.point_mlp1 = _point_mlp(c[0], c[4])
        self.point_mlp2 = _point_mlp(c[4], c[6])
        self.point_mlp3 = _point_mlp(c[6], c[8])
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, voxels: Pyramid) -> Tensor:
        """Computes the (V0, K) logits of the finest voxels."""
        z0 = x0 = self.stem(voxels.features, voxels.levels[0].kernel_map)
        x1 = self.stage1(z0, voxels, level=1)
        x2 = self.stage2(x1, voxels, level=2)
        x3 = self.stage3(x2, voxels, level=3)
        x4 = self.stage4(x3, voxels, level=4)
        z1 = voxels.trilinear(4)(x4) + self.point_mlp1(z0)

        y0 = self.dropout(voxels.levels[4].mean_of_points(z1))
        y1 = self.up1(y0, x3, voxels, level=3)
        y2 = self.up2(y1, x2, voxels, level=2)
        z2 = voxels.trilinear(2)(y2) + self.point_mlp2(z1)

        y2 = self.dropout(voxels.levels[2].mean_of_points(z2))
        y3 = self.up3(y2, x1, voxels, level=1)
        y4 = self.up4(y3, x0, voxels, level=0)
        z3 = y4 + self.point_mlp3(z2)
        return self.classifier(z3)


def _point_mlp(c_in: int, c_out: int) -> MLP:
    return MLP(Linear(c_in, c_out), BatchNorm(c_out), nn.ReLU(inplace=True))
