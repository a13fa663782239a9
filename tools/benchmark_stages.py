"""What `tools/benchmark.py` measures: each stage as the project does it, the plain way, and how the results compare."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dataloader.dataset import SegmentationDataset
from network.arch_2dpass import Arch2DPASS
from network.sparse.coordinates import unpack
from network.sparse.torch_backend import PairMap, submanifold_map
from network.voting import segment
from network.voxelize import Voxels
from tools import plain_network, plain_versions
from tools.benchmark_subject import Subject
from utils.schedules import build_optimizer
from utils.structures import Batch


@dataclass(frozen=True)
class Difference:
    """How far two results are apart.

    Attributes:
        value: largest absolute difference of numbers; or how many entries differ, where they are ids.
        out_of: largest absolute number of the plain result; or how many entries there are.
    """

    value: float
    out_of: float

    def __str__(self) -> str:
        return f"{self.value:.2g} of {self.out_of:.3g}" if self.value else "0"


@dataclass(frozen=True)
class Stage:
    """One line of the benchmark.

    Attributes:
        name: what is measured.
        ours, plain: do it once, from the same input. Only the results of the first call of each are compared.
        plain_name: what the plain way is.
        compare: (result of ours, result of plain) -> how far they are apart.
    """

    name: str
    ours: Callable[[], Any]
    plain_name: str
    plain: Callable[[], Any]
    compare: Callable[[Any, Any], Difference]


def largest_difference(ours: Iterable[Tensor], plain: Iterable[Tensor]) -> Difference:
    """Over pairs of tensors of equal shape."""
    pairs = [(a.detach().double(), b.detach().double()) for a, b in zip(ours, plain, strict=True)]
    if any(a.shape != b.shape for a, b in pairs):
        return Difference(float("inf"), 0.0)
    return Difference(max(float((a - b).abs().max()) for a, b in pairs), max(float(b.abs().max()) for _, b in pairs))


def count_different(ours: Iterable[Tensor], plain: Iterable[Tensor]) -> Difference:
    """Rows that are not equal, over pairs of tensors of equal length."""
    rows = [(a != b).reshape(len(a), -1).any(1) for a, b in zip(ours, plain, strict=True)]
    return Difference(float(sum(int(r.sum()) for r in rows)), float(sum(map(len, rows))))


def all_stages(
    subject: Subject, precisions: Sequence[str], wanted: Callable[[str], bool] = lambda name: True
) -> Iterator[Stage]:
    """The stages with a wanted name, in the order in which a scan goes through them, each made when its turn comes.

    Args:
        subject: the frame.
        precisions: "32", "bf16" or both; for the networks.
        wanted: whether to measure the stage of that name.
    """
    channels, scales = subject.config.model_params.hiden_size, len(subject.scales)
    makers: dict[str, Callable[[Subject, str], Stage]] = {
        "label map": _label_map,
        "evaluation item, 1 vote": partial(_evaluation_item, votes=1),
        "evaluation item, 12 votes": partial(_evaluation_item, votes=12),
        "training item": _training_item,
        f"voxels at {scales} scales, input features": _voxelisation,
        f"kernel maps at {len(subject.convolved)} scales": _kernel_maps,
        "mean over voxels, forward": partial(_scatter_mean, backward=False),
        "mean over voxels, forward + backward": partial(_scatter_mean, backward=True),
        f"convolution 3x3x3, {channels} to {channels}, forward": partial(_convolution, backward=False),
        f"convolution 3x3x3, {channels} to {channels}, forward + backward": partial(_convolution, backward=True),
    }
    for name, maker in (
        ("3D network", _network),
        ("points to labels", _points_to_labels),
        ("training step of 2DPASS", _training_step),
    ):
        for precision in precisions:
            makers[f"{name}, {'fp32' if precision == '32' else precision}"] = partial(maker, precision=precision)
    return (maker(subject, name) for name, maker in makers.items() if wanted(name))


def _label_map(s: Subject, name: str) -> Stage:
    frame = s.data.evaluated.source.frame(0)
    path = Path(frame.path).parents[1] / "labels" / f"{frame.name}.label"
    raw = (np.fromfile(path, dtype="<u4") & 0xFFFF).astype(np.uint16)
    return Stage(
        name,
        lambda: s.label_map.learning_ids(raw, path),
        "np.vectorize(dict.get)",
        lambda: plain_versions.map_labels(raw, s.learning_map),
        lambda ours, plain: count_different([torch.from_numpy(ours)], [torch.from_numpy(plain)]),
    )


def _evaluation_item(s: Subject, name: str, votes: int) -> Stage:
    dataset = s.evaluated(votes)
    source = s.plain_source(dataset)
    item_views = dataset[0].views
    views = [np.eye(3, 4, dtype=np.float32)] if item_views is None else list(item_views)

    def ours() -> tuple[list[Tensor], Tensor]:
        batch = s.collate(dataset[0], False)
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


def _training_item(s: Subject, name: str) -> Stage:
    plain = SegmentationDataset(
        s.plain_source(s.trained), s.trained.low, s.trained.high, augment=s.trained.augment, seed=s.trained.seed
    )

    def columns(batch: Batch) -> list[Tensor]:
        assert batch.images is not None
        return [batch.points, batch.labels, batch.pixels, batch.images]

    return Stage(
        name,
        lambda: s.collate(s.trained[0], True),
        "np.vectorize, all points projected",
        lambda: s.collate(plain[0], True),
        lambda ours, plain: largest_difference(columns(ours), columns(plain)),
    )


def _voxelisation(s: Subject, name: str) -> Stage:
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


def _kernel_maps(s: Subject, name: str) -> Stage:
    def compare(ours: list[PairMap], plain: list[plain_versions.Pairs]) -> Difference:
        differing = total = 0
        for scale, kernel_map, pairs in zip(s.convolved, ours, plain, strict=True):
            rows, size = s.rows_in(scale), kernel_map.num_outputs
            centre = torch.arange(size)
            listed = [p if k != kernel_map.identity else (centre, centre) for k, p in enumerate(_pairs(kernel_map))]
            codes = [_pair_codes(listed, size), _pair_codes([(rows[i], rows[o]) for i, o in pairs], size)]
            differing += int((torch.unique(torch.cat(codes), return_counts=True)[1] == 1).sum())
            total += len(codes[1])
        return Difference(float(differing), float(total))

    return Stage(
        name,
        lambda: [submanifold_map(s.voxel_set(scale).keys, 3) for scale in s.convolved],
        "27 searchsorted",
        lambda: [plain_versions.kernel_map(s.geometry.grids[scale].coordinates) for scale in s.convolved],
        compare,
    )


def _pairs(kernel_map: PairMap) -> plain_versions.Pairs:
    return list(zip(kernel_map.inputs, kernel_map.outputs, strict=True))


def _pair_codes(pairs: plain_versions.Pairs, size: int) -> Tensor:
    """(offset, output row, input row) of every pair as one number."""
    return torch.cat([(offset * size + outputs) * size + inputs for offset, (inputs, outputs) in enumerate(pairs)])


def _scatter_mean(s: Subject, name: str, backward: bool) -> Stage:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(len(s.batch.points), s.config.model_params.hiden_size, generator=generator)
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


def _convolution(s: Subject, name: str, backward: bool) -> Stage:
    generator = torch.Generator().manual_seed(0)
    channels, rows = s.config.model_params.hiden_size, s.rows_in(1)
    features, gradient = torch.randn(2, len(rows), channels, generator=generator)
    weight = torch.randn(27, channels, channels, generator=generator) / (27 * channels) ** 0.5
    kernel_map = submanifold_map(s.voxels.base.keys, 3)
    pairs = s.geometry.grids[1].pairs

    def compare(ours: list[Tensor], plain: list[Tensor]) -> Difference:
        # Plain rows are in another order; the weight's gradient has none.
        ordered = [tensor[rows] if len(tensor) == len(rows) else tensor for tensor in ours]
        return largest_difference(ordered, plain)

    def run(
        convolve: Callable[[Tensor, Tensor], Tensor], order: Tensor | slice
    ) -> Callable[[], list[Tensor]]:  # fmt: skip
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
    """The value, and with `gradient` those of the inputs."""
    if gradient is None:
        with torch.no_grad():
            return [function(inputs)]
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    value = function(leaves)
    return [value.detach(), *torch.autograd.grad(value, leaves, gradient)]


def _autocast(precision: str) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")


def _evaluate(function: Callable[[], Tensor], precision: str) -> Callable[[], Tensor]:
    def run() -> Tensor:
        with torch.no_grad(), _autocast(precision):
            return function()

    return run


def _network(s: Subject, name: str, precision: str) -> Stage:
    return Stage(
        name,
        _evaluate(lambda: s.network(s.voxels).logits, precision),
        "MLPs, head on points; unfused BatchNorm; plain convolution",
        _evaluate(lambda: plain_network.forward(s.network, s.geometry)[0], precision),
        lambda ours, plain: largest_difference([ours], [plain]),
    )


def _points_to_labels(s: Subject, name: str, precision: str) -> Stage:
    return Stage(
        name,
        _evaluate(lambda: segment(s.network, s.batch)[0].prediction, precision),
        "plain voxels, kernel maps and network",
        _evaluate(lambda: plain_network.predict(s.network, s.batch), precision),
        lambda ours, plain: count_different([ours], [plain]),
    )


def _training_step(s: Subject, name: str, precision: str) -> Stage:
    def plain_losses(network: Arch2DPASS) -> dict[str, Tensor]:
        return plain_network.training_losses(network, s.training_batch)

    return Stage(
        name,
        _TrainingStep(s, copy.deepcopy, lambda network: network.training_losses(s.training_batch), precision),
        "as above; autograd, full-size image features, Lovasz per class",
        _TrainingStep(s, plain_network.standard_layout, plain_losses, precision),
        lambda ours, plain: largest_difference([ours], [plain]),
    )


class _TrainingStep:
    """A step of the optimiser on a copy of the network that is made at the first call.

    Returns:
        The losses in order of their names, and the norm of the gradient.
    """

    def __init__(
        self,
        subject: Subject,
        duplicate: Callable[[Arch2DPASS], Arch2DPASS],
        losses: Callable[[Arch2DPASS], dict[str, Tensor]],
        precision: str,
    ) -> None:
        self.subject, self.duplicate, self.losses, self.precision = subject, duplicate, losses, precision

    @cached_property
    def network(self) -> Arch2DPASS:
        return self.duplicate(self.subject.network_2dpass)

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        p = self.subject.config.train_params
        return build_optimizer(
            self.network.parameters(), p.optimizer, p.learning_rate, p.momentum, p.nesterov, p.weight_decay
        )

    def __call__(self) -> Tensor:
        self.optimizer.zero_grad()
        with _autocast(self.precision):
            losses = self.losses(self.network)
        losses["loss"].backward()
        limit = self.subject.config.train_params.gradient_clip_norm
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), limit)
        self.optimizer.step()
        return torch.stack([losses[name].detach() for name in sorted(losses)] + [norm])
