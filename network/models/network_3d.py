"""The 3D network of 2DPASS (the paper's "3D baseline") is an encoder of sparse residual blocks and point MLPs.

The paper describes the MLPs per point. Here they are computed per voxel wherever a point's value depends on its voxel
alone. A mean that counts a voxel once for each of its points gives the same result, at a fraction of the cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from network.models.losses import SegmentationLoss
from network.models.segmentation_network import SegmentationNetwork
from network.ops.linear import ConcatLinear, Linear
from network.ops.mlp import MLP
from network.ops.sums import RowSum
from network.ops.together import Finish
from network.sparse.layers import LEAKY_SLOPE, BatchNorm, KernelMap, ResidualBlock, SparseBackend
from network.voxels.joint import Plan, fits, padding, voxelize_jointly
from network.voxels.voxelize import Pool, Voxels, voxelize
from utils.scan.records import Batch
from utils.scan.volume import Volume

HIDDEN = 128
"""The number of features of a point before the classifier."""
RELU = 0.0  # a LeakyReLU of slope 0 is a ReLU


class EncoderBlock(nn.Module):
    """A block that leads from the voxels of one scale to those of the next, by a sparse branch and a point branch."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        c, half = channels, channels // 2
        self.voxel_branch = nn.ModuleList([ResidualBlock(c, c), ResidualBlock(c, c)])
        self.pooled_mlp = MLP(
            Linear(c, half), nn.LeakyReLU(LEAKY_SLOPE), BatchNorm(half),
            Linear(half, half), nn.LeakyReLU(LEAKY_SLOPE), BatchNorm(half),
            Linear(half, c), nn.LeakyReLU(LEAKY_SLOPE),
        )  # fmt: skip
        self.identity = Linear(c, c)
        self.merge = ConcatLinear(2 * c, c)
        self.output = Linear(c, c)

    def forward(
        self, x: Tensor, kernel_map: KernelMap, pool: Pool, to_coarse: RowSum, last: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Computes one step of the encoder, from V_l fine to V_s coarse voxels.

        Args:
            x: (V_l, C) features on the fine voxels.
            kernel_map: kernel map of the fine voxels.
            pool: groups of the fine voxels.
            to_coarse: mean from the fine to the coarse voxels, every fine voxel counted once for each of its points.
            last: whether no block follows.

        Returns:
            (V_l, C) features of the voxel branch, (V_s, C) output of the block, (V_s, C) input of the next block.
        """
        v = x
        for block in self.voxel_branch:
            v = block(v, kernel_map)
        f = x + v
        pooled = self.pooled_mlp(pool.mean(f))
        merged = self.merge((self.identity(f, LEAKY_SLOPE), None), (pooled, pool.back), slope=LEAKY_SLOPE)
        # A linear layer and a mean commute; after the mean there are fewer rows.
        if last:
            q = self.output(to_coarse(merged))
            return v, q, q
        q, following = self.output.with_sum(to_coarse(merged), to_coarse(v))
        return v, q, following


@dataclass(frozen=True)
class Features3D:
    """A frozen record of the results of the 3D network.

    Attributes:
        logits: (P, K) logits of the points.
        voxel_features: for each block, (V_l, C) features of its voxel branch on the voxels `voxels.finer(block)`.
    """

    logits: Tensor
    voxel_features: list[Tensor]


class Network3D(SegmentationNetwork):
    """The 3D network of 2DPASS, which works without images: always at test time, and in training with --baseline_only.

    Args:
        volume: the box that is divided into voxels, and its grid.
        scale_list: scale of the voxels after each encoder block.
        channels: C.
        num_classes: K.
        backend: the sparse convolutions.
        criterion: the segmentation loss.
        lambda_lovasz: weight of Lovasz-softmax beside the cross-entropy.
        input_dims: numbers per point: 4, or 5 with the age.
    """

    def __init__(
        self,
        volume: Volume,
        scale_list: Sequence[int],
        channels: int,
        num_classes: int,
        backend: SparseBackend,
        criterion: SegmentationLoss,
        lambda_lovasz: float,
        input_dims: int = 4,
    ) -> None:
        super().__init__()
        self.volume, self.scale_list, self.backend = volume, tuple(scale_list), backend
        self.lambda_lovasz, self.takes_age = lambda_lovasz, input_dims > 4
        self.embed_points = Linear(input_dims + 6, channels)  # and two offsets in the voxel
        self.embed_voxels = Linear(channels, channels)
        self.encoder = nn.ModuleList([EncoderBlock(channels) for _ in scale_list])
        self.head = ConcatLinear(len(scale_list) * channels, HIDDEN)
        self.classifier: nn.Module = Linear(HIDDEN, num_classes)
        self.criterion = criterion

    def geometry(self) -> dict[str, list[float]]:
        """Returns the volume (metres), its grid and the scales, by the names of their config keys."""
        volume = self.volume
        return {
            "min_volume_space": list(volume.low),
            "max_volume_space": list(volume.high),
            "spatial_shape": list(volume.grid),
            "scale_list": list(self.scale_list),
        }

    def input_weights(self) -> dict[str, int]:
        """Returns the weights of the first layer."""
        return {"embed_points.weight": 1}

    def output_weights(self) -> list[str]:
        """Returns the weights of the last layer."""
        return ["classifier.weight", "classifier.bias"]

    def voxelize(self, batch: Batch) -> Voxels:
        """Computes the voxels of a batch at all scales of this network."""
        plan = Plan.of(self.scale_list)
        if batch.points.device.type != "cpu" and plan is not None and fits(plan, batch.num_scans, len(batch.points)):
            points, scan_ids = batch.points, batch.scan_ids
            return voxelize_jointly(points, scan_ids, batch.num_scans, self.volume, plan, self.backend)
        return voxelize(batch.points, batch.scan_ids, self.volume, self.scale_list, self.backend)

    def forward(self, voxels: Voxels) -> Features3D:
        """Computes the (P, K) logits of the points and the features of each block."""
        x = self.embed_voxels(voxels.base.mean_of_points(self.embed_points(voxels.features, RELU)))
        voxel_features, outputs = [], []
        for i, block in enumerate(self.encoder):
            last = i == len(self.encoder) - 1
            v, q, x = block(x, voxels.finer(i).kernel_map, voxels.pools[i], voxels.means[i], last)
            voxel_features.append(v)
            outputs.append(q)
        hidden = self.head(*zip(outputs, voxels.signature_rows, strict=True), slope=RELU)
        return Features3D(voxels.signature_of_point(self.classifier(hidden)), voxel_features)

    def predict(self, batch: Batch) -> Tensor:
        """Computes (P, K) logits from the points alone; images are not used."""
        return self(self.voxelize(batch)).logits

    def padding(self, count: int, columns: int) -> Tensor | None:
        """Makes points that lie outside of the volume or in it; see `SegmentationNetwork.padding`."""
        plan = Plan.of(self.scale_list)
        return None if plan is None else padding(count, columns, self.volume, plan)

    def predict_padded(self, points: Tensor, scan_ids: Tensor, num_scans: int, finish: Finish) -> Tensor:
        """Computes (P, K) logits of a padded batch; see `SegmentationNetwork.predict_padded`."""
        plan = Plan.of(self.scale_list)
        assert plan is not None
        return self(voxelize_jointly(points, scan_ids, num_scans, self.volume, plan, self.backend, finish)).logits

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Computes named scalar losses; "loss" is their total."""
        return self.point_losses(self(self.voxelize(batch)).logits, batch)

    def point_losses(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Computes the cross-entropy and Lovasz-softmax of (P, K) logits, and their total, as named scalars."""
        ce, lovasz = self.criterion.terms(logits, batch.labels, self.lambda_lovasz)
        return {"loss": ce + lovasz, "loss_ce": ce, "loss_lovasz": lovasz}
