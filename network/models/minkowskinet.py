"""MinkowskiNet is a sparse U-Net with residual blocks (Choy et al., CVPR 2019; widths of Tang et al., ECCV 2020)."""

from __future__ import annotations

from torch import Tensor

from network.models.voxel_network import VoxelNetwork
from network.voxels.voxel_pyramid import Pyramid


class MinkowskiNet(VoxelNetwork):
    """A U-Net on voxels that goes down to stride 16 and back up to stride 1."""

    def forward(self, voxels: Pyramid) -> Tensor:
        """Computes the (V0, K) logits of the finest voxels."""
        x0 = self.stem(voxels.features, voxels.levels[0].kernel_map)
        x1 = self.stage1(x0, voxels, level=1)
        x2 = self.stage2(x1, voxels, level=2)
        x3 = self.stage3(x2, voxels, level=3)
        x4 = self.stage4(x3, voxels, level=4)
        y1 = self.up1(x4, x3, voxels, level=3)
        y2 = self.up2(y1, x2, voxels, level=2)
        y3 = self.up3(y2, x1, voxels, level=1)
        y4 = self.up4(y3, x0, voxels, level=0)
        return self.classifier(y4)
