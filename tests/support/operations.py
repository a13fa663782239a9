"""Counts the operations and launches of an evaluation and of a training step on a GPU, without one.

    python -m tests.support.operations
    python -m tests.support.operations --names

Tensors are on torch's meta device, which has shapes and no values. The Triton backend runs as it does on a GPU, but its
kernels are counted and not started. An operation is one of torch that computes something, and so starts at least one
kernel; views and new memory are none. What libraries start inside of one operation (a sort: several kernels) is not
seen here. Autocast, which the meta device does not know, is played by casting the arguments of linear layers.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from network.evaluation.bucket import Bucket, Kind
from network.evaluation.frozen import freeze
from network.evaluation.graphed import Graph
from network.evaluation.voting import segment
from network.models.arch_2dpass import Arch2DPASS
from network.models.distillation import MSFSKD
from network.models.losses import SegmentationLoss
from network.models.network_3d import Network3D
from network.ops import together
from network.ops.constant import kept_constant
from network.sparse import triton_backend, triton_geometry, triton_kernels
from network.teachers.resnet34 import ImageBranch
from network.voxels.joint import Plan, voxelize_jointly
from utils.scan.records import Batch, Frame, WholeScan
from utils.scan.volume import Volume

POINTS, VISIBLE, CLASSES, CHANNELS = 123_021, 20_000, 20, 64  # of a scan of SemanticKITTI
VOLUME = Volume((-50.0, -50.0, -4.0), (50.0, 50.0, 2.0), (1000, 1000, 60))
SIZES = (66000, 36000, 17000, 7500, 3200, 66000, 36000, 18000, 10500, 36000, 17000, 7300, 3200, 39000)

NO_KERNEL = {
    "_reshape_alias", "_unsafe_view", "alias", "as_strided", "detach", "diagonal", "empty", "empty_like",
    "empty_strided", "expand", "lift_fresh", "narrow", "new_empty", "new_empty_strided", "permute", "select", "slice",
    "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold", "unsqueeze", "view",
}  # fmt: skip


@dataclass
class Count:
    """Operations of torch and launches of Triton kernels, by name.

    Attributes:
        operations, launches: how often each occurred.
    """

    operations: Counter[str] = field(default_factory=Counter)
    launches: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return f"{self.operations.total():5d} operations {self.launches.total():5d} launches"


class _Operations(TorchDispatchMode):
    def __init__(self, count: Count) -> None:
        super().__init__()
        self.count = count

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.split("::")[1]
        if name not in NO_KERNEL:
            self.count.operations[name] += 1
        return func(*args, **(kwargs or {}))


class _Autocast(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is F.linear:
            args = [x.to(torch.bfloat16) if isinstance(x, Tensor) else x for x in args]
        return func(*args, **(kwargs or {}))


@contextmanager
def on_gpu(dtype: torch.dtype | None = None) -> Iterator[None]:
    """Makes tensors without values on what stands for a GPU, with autocast to `dtype` if it is not None."""
    with (
        mock.patch.object(torch, "autocast", lambda *args, **kwargs: nullcontext()),
        mock.patch.object(torch, "is_autocast_enabled", lambda *args: dtype is not None),
        mock.patch.object(torch, "get_autocast_dtype", lambda *args: dtype),
        mock.patch.object(triton_backend, "_check_device", lambda device: None),
        mock.patch.object(together, "read", lambda until: [20_000 * (i + 1) for i in range(len(until))]),
        torch.device("meta"),
        _Autocast() if dtype is not None else nullcontext(),
    ):
        yield
    kept_constant.cache_clear()


@contextmanager
def counting() -> Iterator[Count]:
    """Yields a count of what is done in the block."""
    count = Count()

    def launch(kernel, *arguments, **constants) -> None:
        function = getattr(kernel, "base_fn", kernel)
        count.launches[getattr(function, "__name__", None) or function.fn.__name__] += 1

    places = [(triton_geometry, "launch"), (triton_kernels, "launch"), (triton_kernels, "launch_tuned")]
    with ExitStack() as stack:
        for module, name in places:
            stack.enter_context(mock.patch.object(module, name, launch))
        stack.enter_context(_Operations(count))
        yield count


def make_network(image: bool = False) -> Network3D | Arch2DPASS:
    """Makes the network of SemanticKITTI: four scales, 64 channels."""
    scales, criterion = (2, 4, 8, 16), SegmentationLoss(torch.rand(CLASSES))
    network = Network3D(VOLUME, scales, CHANNELS, CLASSES, triton_backend.BACKEND, criterion, 0.1)
    if not image:
        return network
    heads = MSFSKD(scales, CHANNELS, CLASSES, criterion, 1.0, 0.05)
    return Arch2DPASS(network, ImageBranch(CHANNELS, scales), heads)


def make_batch() -> Batch:
    """Makes one scan, for training or evaluation."""
    flags, rows = torch.zeros(POINTS, dtype=torch.bool), torch.zeros(POINTS, dtype=torch.int64)
    whole = WholeScan(Frame("08", "000000", "made-up"), torch.rand(POINTS, 3), rows.to(torch.uint8), flags, rows)
    return Batch(
        points=torch.rand(POINTS, 4),
        scan_ids=rows,
        labels=rows,
        pixels=torch.zeros(POINTS, 2, dtype=torch.int64),
        visible=torch.zeros(VISIBLE, dtype=torch.int64),
        images=torch.rand(1, 3, 320, 480),
        lengths=(POINTS,),
        whole=(whole,),
    )


def count_evaluation(dtype: torch.dtype | None = None) -> dict[str, Count]:
    """Counts the stages of an evaluation of one scan with fixed sizes, as a graph repeats it, and all of it."""
    with on_gpu(dtype), torch.no_grad():
        network, batch = freeze(make_network().eval(), dtype), make_batch()
        assert isinstance(network, Network3D)
        kind = Kind.of(batch, dtype)
        padding = network.padding(kind.points, kind.columns)
        assert padding is not None
        bucket = Bucket(kind, padding, batch.points.device)
        bucket.sizes = SIZES
        stages, plan = {}, Plan.of(network.scale_list)
        assert plan is not None
        with counting():  # what is made once and kept
            graph = Graph(network, bucket, lambda work: (work(), lambda: None))
        with counting() as stages["points into the bucket"]:
            bucket.load(batch)
        with counting() as stages["voxels"]:
            voxels = voxelize_jointly(
                bucket.points, bucket.scan_ids, 2, VOLUME, plan, network.backend, bucket.filling()
            )
        with counting() as stages["network, kernel maps"]:
            network(voxels)
        with counting() as stages["all"]:
            graph._work()
            segment(graph, batch, with_confidence=True)
    return stages


def count_training(dtype: torch.dtype | None = None) -> dict[str, Count]:
    """Counts the forward and the backward pass of a training step of 2DPASS with its image branch."""
    with on_gpu(dtype):
        network, batch = make_network(image=True).train(), make_batch()
        stages = {}
        with counting() as stages["forward"]:
            loss = network.training_losses(batch)["loss"]
        with counting() as stages["backward"]:
            loss.backward()
    return stages


def main() -> None:
    """Prints the counts."""
    parser = argparse.ArgumentParser(description="counts operations and launches on a GPU, without one")
    parser.add_argument("--names", action="store_true", help="list the operations by name")
    names = parser.parse_args().names
    for title, function in (("evaluation", count_evaluation), ("training step", count_training)):
        for dtype in (None, torch.bfloat16):
            print(f"{title}, {'fp32' if dtype is None else 'bf16'}")
            for stage, count in function(dtype).items():
                print(f"  {stage:24s} {count}")
                if names:
                    print(f"    {dict(count.operations.most_common())}\n    {dict(count.launches)}")


if __name__ == "__main__":
    main()
