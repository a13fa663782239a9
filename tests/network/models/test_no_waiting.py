"""In a training step and an evaluation on a GPU, the host waits only for the numbers of voxels and of pairs.

These tests need no GPU. Tensors are on torch's meta device: they have shapes but no values, so every operation whose
result the host would have to wait for (`item`, `nonzero`, `unique`, a mask as an index) raises an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from network.evaluation.voting import segment
from network.models.arch_2dpass import Arch2DPASS
from network.models.distillation import MSFSKD
from network.models.losses import SegmentationLoss
from network.models.minkowskinet import MinkowskiNet
from network.models.network_3d import Network3D
from network.models.segmentation_network import SegmentationNetwork
from network.models.spvcnn import SPVCNN
from network.ops import together
from network.ops.constant import kept_constant
from network.ops.distinct import Distinct, Ranking
from network.ops.together import Reading
from network.sparse.layers import SparseBackend, finish
from network.teachers.resnet34 import ImageBranch
from network.training.gradient_guard import GradientGuard
from network.training.optimizers import build_optimizer
from network.voxels import voxel_pyramid, voxelize
from tests.support.operations import count_evaluation
from utils.config.optimizers import AdamParams, SGDParams
from utils.point_counts import SegmentationMetrics
from utils.scan.records import Batch, Frame, WholeScan
from utils.scan.volume import Volume

CLASSES, SCALES, CHANNELS = 5, (2, 4, 8, 8), 16
POINTS, VISIBLE = (300, 200), 60


@dataclass(frozen=True)
class FakeMap:
    """A stand-in for the map of a backend that does not wait."""

    num_outputs: int
    num_inputs: int

    def convolve(self, features, weight, bias=None, residual=None, slope=1.0) -> Tensor:
        out = (features @ weight.sum(0)).sum(0, keepdim=True).expand(self.num_outputs, -1)
        return finish(out.clone() if bias is None else out + bias, residual, slope)

    def transposed(self) -> FakeMap:
        return FakeMap(self.num_inputs, self.num_outputs)


BACKEND = SparseBackend(
    "fake",
    lambda keys, kernel_size: FakeMap(len(keys), len(keys)),
    lambda keys, parent, num_coarse: FakeMap(num_coarse, len(keys)),
)


def counted(asked: list[int]) -> object:
    """Returns a `collect` with made-up numbers in place of those that the host would wait for."""

    def collect(rankings: Iterable[Ranking]) -> list[Distinct]:
        rankings = list(rankings)
        asked.append(len(rankings))
        return [ranking.finish(max(len(ranking.order) * 2 // 3, 1)) for ranking in rankings]

    return collect


def joint_sizes(asked: list[int], until: Tensor) -> list[int]:
    """Makes up the numbers of distinct values of several lists, added up."""
    asked.append(len(until))
    return [sum(POINTS) * 2 // 3 * (number + 1) for number in range(len(until))]


@pytest.fixture
def asked(monkeypatch) -> Iterator[list[int]]:
    """Yields a list of how many numbers the host asks for at each wait; tensors have no values inside."""
    asked: list[int] = []
    for module in (voxelize, voxel_pyramid):
        monkeypatch.setattr(module, "collect", counted(asked))
    monkeypatch.setattr(together, "read", lambda until: joint_sizes(asked, until))
    # The meta device knows no autocast.
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *args: False)
    with torch.device("meta"):
        yield asked
    kept_constant.cache_clear()


def fake_batch(views: int = 0, columns: int = 4) -> Batch:
    total = sum(POINTS)
    whole = tuple(
        WholeScan(
            Frame("08", "000000", "made-up"),
            torch.rand(n + 10, 3),
            torch.zeros(n + 10, dtype=torch.uint8),
            torch.ones(n + 10, dtype=torch.bool),
            torch.zeros(n + 10, dtype=torch.int64),
        )
        for n in POINTS
    )
    return Batch(
        points=torch.rand(total, columns),
        scan_ids=torch.zeros(total, dtype=torch.int64),
        labels=torch.zeros(total, dtype=torch.int64),
        pixels=torch.zeros(total, 2, dtype=torch.int64),
        visible=torch.zeros(VISIBLE, dtype=torch.int64),
        images=torch.rand(len(POINTS), 3, 32, 48),
        lengths=POINTS,
        whole=whole,
        views=torch.rand(len(POINTS), views, 3, 4) if views else None,
    )


def make(name: str, columns: int = 4) -> SegmentationNetwork:
    criterion = SegmentationLoss(torch.rand(CLASSES))
    if name in ("minkowskinet", "spvcnn"):
        kind = MinkowskiNet if name == "minkowskinet" else SPVCNN
        return kind([8] * 9, CLASSES, 0.1, BACKEND, criterion, input_dims=columns)
    volume = Volume((-10.0, -10.0, -4.0), (10.0, 10.0, 2.0), (200, 200, 60))
    network = Network3D(volume, SCALES, CHANNELS, CLASSES, BACKEND, criterion, 0.1, columns)
    heads = MSFSKD(SCALES, CHANNELS, CLASSES, criterion, 1.0, 0.05)
    return Arch2DPASS(network, ImageBranch(CHANNELS, SCALES), heads)


NETWORKS = ["arch_2dpass", "minkowskinet", "spvcnn"]
WAITS = {"arch_2dpass": 2, "minkowskinet": 1, "spvcnn": 1}


@pytest.mark.parametrize(("optimizer", "columns"), [(SGDParams, 4), (AdamParams, 4), (AdamParams, 5)])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_training_step(asked, name, optimizer, columns) -> None:
    network = make(name, columns).train()
    guard, stepped = GradientGuard(network), build_optimizer(network.parameters(), optimizer(), 0.1)
    guard.remember()
    losses = network.training_losses(fake_batch(columns=columns))
    losses["loss"].backward()
    guard.judge(nn.utils.clip_grad_norm_(network.parameters(), 1.0), stepped)
    assert losses["loss"].device.type == "meta"
    assert len(asked) == WAITS[name]


class Operations(TorchDispatchMode):
    """A mode that counts operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.split("::")[1]
        self.counts[name] += 1
        if name in ADDING:
            assert not any(isinstance(t, Tensor) and t.is_floating_point() for t in args), name
        return func(*args, **(kwargs or {}))


ADDING = {"index_add", "index_add_", "index_put", "index_put_", "_index_put_impl_", "scatter_add", "scatter_add_"}

# What is known, how points and voxels are grouped, is not sorted again for the gradients. What else there is: the means
# between different scales, the rows of the tuples at each scale but the one they are sorted by, the points in the image
# at each scale, and what they see there; in SPVCNN the two interpolations.
SORTED_BACKWARD = {"arch_2dpass": 3 + 2 + 4 + 3, "minkowskinet": 0, "spvcnn": 2}


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_sort_only_what_is_not_known_and_add_in_a_fixed_order(asked, name) -> None:
    """The order of a sum differs from run to run if several threads of a GPU add to one number."""
    network = make(name).train()
    with Operations() as forward:
        loss = network.training_losses(fake_batch())["loss"]
    with Operations() as backward:
        loss.backward()
    assert forward.counts["sort"] > 0
    assert backward.counts["sort"] == SORTED_BACKWARD[name]


@pytest.mark.parametrize(("views", "columns"), [(0, 4), (3, 4), (3, 5)])
@pytest.mark.parametrize("name", NETWORKS)
def test_an_evaluation(asked, name, views, columns) -> None:
    network = make(name, columns).eval()
    metrics = SegmentationMetrics([f"class {i}" for i in range(CLASSES)])
    with torch.no_grad():
        for segmentation in segment(network, fake_batch(views, columns)):
            assert segmentation.prediction.device.type == "meta"
            metrics.update(segmentation.prediction, segmentation.whole.labels, segmentation.whole.inside)
    assert len(asked) == WAITS[name] * max(views, 1)


@pytest.mark.parametrize(("dtype", "launches"), [(None, 12 + 3 * 4 + 12), (torch.bfloat16, 12 + 16)])
def test_the_operations_of_an_evaluation_under_a_graph_are_counted_and_nothing_waits(dtype, launches) -> None:
    """In fp32, offsets are split by level at scale 1, where there is enough to do: three launches for a convolution."""
    with mock.patch.object(Reading, "__call__", side_effect=AssertionError("the host would wait")):
        counts = count_evaluation(dtype)
    assert counts["all"].operations.total() <= 200
    assert counts["all"].launches.total() <= launches
    assert counts["voxels"].operations["sort"] == 2
    assert not {"_local_scalar_dense", "nonzero", "_unique2"} & counts["all"].operations.keys()


@pytest.mark.parametrize(
    "waiting",
    [
        lambda x: x.sum().item(),
        lambda x: x.nonzero(),
        lambda x: x.unique(),
        lambda x: x[x > 0],
        lambda x: bool((x > 0).any()),
        lambda x: torch.repeat_interleave(x.long()),
    ],
)
def test_waiting_would_be_seen(asked, waiting) -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        waiting(torch.rand(5))
