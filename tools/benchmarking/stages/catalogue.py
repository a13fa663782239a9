"""All stages in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

from network.native.library import library, switched_off
from tools.benchmarking.flags import PRECISIONS
from tools.benchmarking.stages import data, networks, past, voxel_models
from tools.benchmarking.stages.stage import Stage
from tools.benchmarking.subject import Subject

Maker = Callable[[Subject, str], Stage]
"""A function that makes a stage, given its name."""


def all_stages(
    subject: Subject,
    precisions: Sequence[str],
    wanted: Callable[[str], bool] = lambda name: True,
    width: float = 1.0,
) -> dict[str, Callable[[], Stage]]:
    """Returns the wanted stages in the order in which a scan goes through them: name -> function that makes the stage.

    Args:
        subject: the frame.
        precisions: "32", "bf16" or both; for the networks.
        wanted: whether to measure the stage of that name.
        width: factor of the channels of the voxel models (`model_params.cr`).
    """
    channels, scales = subject.model.hiden_size, len(subject.scales)
    convolution = f"convolution 3x3x3, {channels} to {channels}, forward"
    makers: dict[str, Maker] = {
        "label map": data.label_map,
        "evaluation item, 1 vote": partial(data.evaluation_item, votes=1),
        "evaluation item, 12 votes": partial(data.evaluation_item, votes=12),
        "training item": data.training_item,
        f"evaluation item of {past.SCANS} scans": partial(past.item, training=False),
        f"training item of {past.SCANS} scans": partial(past.item, training=True),
    }
    native: dict[str, Maker] = {
        f"voxels at {scales} scales, input features": data.voxelisation,
        f"kernel maps at {len(subject.convolved)} scales": data.kernel_maps,
        "mean over voxels, forward": partial(data.scatter_mean, backward=False),
        "mean over voxels, forward + backward": partial(data.scatter_mean, backward=True),
        convolution: partial(data.convolution, backward=False),
        f"{convolution} + backward": partial(data.convolution, backward=True),
    }
    for name, maker in (
        ("3D network", networks.network),
        ("points to labels", networks.points_to_labels),
        ("training step of 2DPASS", networks.training_step),
        ("training step of the 3D network alone", networks.baseline_step),
    ):
        for precision in precisions:
            native[f"{name}, {PRECISIONS[precision]}"] = partial(maker, precision=precision)
    for model in voxel_models.CONFIGS:
        for precision in precisions:
            for what, make in (("", voxel_models.evaluation), ("training step of ", voxel_models.training_step)):
                title = f"{what}{model}, {PRECISIONS[precision]}"
                native[title] = partial(make, model=model, width=width, precision=precision)
    makers |= {name: partial(_in_both_ways, maker) for name, maker in native.items()}
    return {name: partial(maker, subject, name) for name, maker in makers.items() if wanted(name)}


def _in_both_ways(maker: Maker, subject: Subject, name: str) -> Stage:
    """Makes a stage that has native code, and beside it the same in PyTorch alone, where native code is used.

    The plain way takes layers of the project, such as linear ones: native code is off for it.
    """
    stage = maker(subject, name)
    if library() is None:
        return stage

    @cache
    def made() -> Stage:
        return maker(subject.in_torch, name)

    return replace(stage, plain=_without_native(stage.plain), torch=_without_native(lambda: made().ours()))


def _without_native(way: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        with switched_off():
            return way()

    return run
