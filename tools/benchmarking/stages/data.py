"""The stages from files to kernel maps, and those of single operations of the networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dataloader.dataset import SegmentationDataset
from network.sparse.coordinates import unpack
from network.sparse.native_backend import NativeMap
from network.sparse.torch_backend import PairMap
from network.voxels.voxelize import Voxels
from tools.benchmarking.plain import network as plain_network
from tools.benchmarking.plain import versions as plain_versions
from tools.benchmarking.stages.stage import Difference, Stage, count_different, largest_difference
from tools.benchmarking.subject import Subject
from utils.scan.batch import collate
from utils.scan.records import Batch


def label_map(s: Subject, name: str) -> Stage:
    """Makes the stage that maps the raw ids of a label file to learning ids."""
    frame = s.data.evaluation_set.source.frame(0)
    path = Path(frame.path).parents[1] / "labels" / f"{frame.name}.label"
    raw = (np.fromfile(path, dtype="<u4") & 0xFFFF).astype(np.uint16)
    return Stage(
        name,
        lambda: s.label_map.learning_ids(raw, path),
        "np.vectorize(dict.get)",
        lambda: plain_versions.map_labels(raw, s.learning_map),
        lambda ours, plain: count_different([torch.from_numpy(ours)], [torch.from_numpy(plain)]),
    )


def evaluation_item(s: Subject, name: str, votes: int) -> Stage:
    """Makes the stage that reads the frame for evaluation, with `votes` views."""
    dataset = s.evaluation_set(votes)
    source = s.plain_source(dataset)
    item_views = dataset[0].views
    views = [np.eye(3, 4, dtype=np.float32)] if item_views is None else list(item_views)

    def ours() -> tuple[list[Tensor], Tensor]:
        batch = collate([dataset[0]], False)
        points = [batch.points] if batch.views is None else [batch.view(number).points for number in range(votes)]
        return points, batch.whole[0].donor

    def compare(ours: tuple[list[Tensor], Tensor], plain: tuple[list[Tensor], Tensor]) -> Difference:
        # Of two points equally near, either may be the donor: it is the distance that has to be the same.
        inside, everything = s.batch.points[:, :3], s.batch.whole[0].xyz
        distances = [(everything - inside[donor]).norm(dim=1) for _, donor in (ours, plain)]
        return largest_difference([*ours[0], distances[0]], [*plain[0], distances[1]])

    return Stage(
        name,
        ours,
        "scan, PNG, np.vectorize per vote; KD-tree of all points",
        lambda: plain_versions.evaluation_views(source, dataset.low, dataset.high, views),
        compare,
    )


def training_item(s: Subject, name: str) -> Stage:
    """Makes the stage that reads and augments the frame for a training step, with its image."""
    plain = SegmentationDataset(
        s.plain_source(s.training_set),
        s.training_set.low,
        s.training_set.high,
        augment=s.training_set.augment,
        seed=s.training_set.seed,
    )

    def columns(batch: Batch) -> list[Tensor]:
        assert batch.images is not None
        return [batch.points, batch.labels, batch.pixels, batch.images]

    return Stage(
        name,
        lambda: collate([s.training_set[0]], True),
        "np.vectorize, all points projected",
        lambda: collate([plain[0]], True),
        lambda ours, plain: largest_difference(columns(ours), columns(plain)),
    )


def voxelisation(s: Subject, name: str) -> Stage:
    """Makes the stage that finds the voxels at all scales and computes the input features."""

    def compare(ours: Voxels, plain: plain_versions.Geometry) -> Difference:
        sets = {scale: s.voxel_set(scale, ours) for scale in s.scales}
        at_points = [torch.stack(unpack(voxels.keys), 1)[voxels.inverse] for voxels in sets.values()]
        return count_different(at_points, [plain.grids[k].coordinates[plain.grids[k].inverse] for k in sets])

    return Stage(
        name,
        lambda: s.network.voxelize(s.batch),
        "torch.unique(dim=0) over rows",
        lambda: plain_network.geometry_of(s.network, s.batch),
        compare,
    )


def kernel_maps(s: Subject, name: str) -> Stage:
    """Makes the stage that finds the pairs of the 3x3x3 kernel, on every scale with convolutions."""

    def compare(ours: list[PairMap | NativeMap], plain: list[plain_versions.Pairs]) -> Difference:
        differing = total = 0
        in_pairs = [found.plain if isinstance(found, NativeMap) else found for found in ours]
        for scale, kernel_map, pairs in zip(s.convolved, in_pairs, plain, strict=True):
            rows, size = s.rows_in(scale), kernel_map.num_outputs
            centre = torch.arange(size)
            listed = [p if k != kernel_map.identity else (centre, centre) for k, p in enumerate(_pairs(kernel_map))]
            codes = [_pair_codes(listed, size), _pair_codes([(rows[i], rows[o]) for i, o in pairs], size)]
            differing += int((torch.unique(torch.cat(codes), return_counts=True)[1] == 1).sum())
            total += len(codes[1])
        return Difference(float(differing), float(total), is_count=True)

    return Stage(
        name,
        lambda: [_complete(s.kernel_map(scale)) for scale in s.convolved],
        "27 searchsorted",
        lambda: [plain_versions.kernel_map(s.geometry.grids[scale].coordinates) for scale in s.convolved],
        compare,
    )


def _complete(kernel_map: PairMap | NativeMap) -> PairMap | NativeMap:
    """Returns a kernel map once its schedule is made, which the first convolution would do otherwise."""
    assert isinstance(kernel_map, NativeMap) or kernel_map.schedule.chunks
    return kernel_map


def _pairs(kernel_map: PairMap) -> plain_versions.Pairs:
    return list(zip(kernel_map.inputs, kernel_map.outputs, strict=True))


def _pair_codes(pairs: plain_versions.Pairs, size: int) -> Tensor:
    """Codes the (offset, output row, input row) of every pair as one number."""
    return torch.cat([(offset * size + outputs) * size + inputs for offset, (inputs, outputs) in enumerate(pairs)])


def scatter_mean(s: Subject, name: str, backward: bool) -> Stage:
    """Makes the stage that takes the mean of the points in each voxel, with or without its gradient."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(len(s.batch.points), s.model.hiden_size, generator=generator)
    base = s.voxels.base
    gradient = torch.randn(len(base), values.shape[1], generator=generator)

    def run(mean: Callable[[Tensor], Tensor]) -> Callable[[], list[Tensor]]:
        return lambda: _forward_backward(lambda v: mean(v[0]), [values], gradient if backward else None)

    return Stage(
        name,
        run(base.mean_of_points),
        "torch.scatter_reduce",
        run(lambda v: plain_versions.scatter_mean(v, base.inverse, len(base))),
        largest_difference,
    )


def convolution(s: Subject, name: str, backward: bool) -> Stage:
    """Makes the stage of one 3x3x3 convolution at scale 1, with or without its gradients."""
    generator = torch.Generator().manual_seed(0)
    channels, rows = s.model.hiden_size, s.rows_in(1)
    features, gradient = torch.randn(2, len(rows), channels, generator=generator)
    weight = torch.randn(27, channels, channels, generator=generator) / (27 * channels) ** 0.5
    kernel_map = s.kernel_map(1)
    pairs = s.geometry.grids[1].pairs

    def compare(ours: list[Tensor], plain: list[Tensor]) -> Difference:
        # Plain rows are in another order; the weight's gradient has none.
        ordered = [tensor[rows] if tensor.dim() == 2 else tensor for tensor in ours]
        return largest_difference(ordered, plain)

    def run(convolve: Callable[[Tensor, Tensor], Tensor], order: Tensor | slice) -> Callable[[], list[Tensor]]:
        inputs, upstream = [features[order], weight], gradient[order] if backward else None
        return lambda: _forward_backward(lambda v: convolve(*v), inputs, upstream)

    return Stage(
        name,
        run(kernel_map.convolve, slice(None)),
        "loop over offsets" + (", autograd" if backward else ""),
        run(lambda x, w: plain_versions.convolve(x, w, pairs), rows),
        compare,
    )


def _forward_backward(
    function: Callable[[list[Tensor]], Tensor], inputs: list[Tensor], gradient: Tensor | None
) -> list[Tensor]:
    """Returns the value, and if `gradient` is given also the gradients of the inputs."""
    if gradient is None:
        with torch.no_grad():
            return [function(inputs)]
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    value = function(leaves)
    return [value.detach(), *torch.autograd.grad(value, leaves, gradient)]
