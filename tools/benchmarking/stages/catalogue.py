"""All stages in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from tools.benchmarking import data_stages, network_stages
from tools.benchmarking.stage import Stage
from tools.benchmarking.subject import Subject


def all_stages(
    subject: Subject, precisions: Sequence[str], wanted: Callable[[str], bool] = lambda name: True
) -> Iterator[Stage]:
    """The stages with a wanted name, in the order in which a scan goes through them, each made when its turn comes.

    Args:
        subject: the frame.
        precisions: "32", "bf16" or both; for the networks.
        wanted: whether to measure the stage of that name.
    """
    channels, scales = subject.model.hiden_size, len(subject.scales)
    makers: dict[str, Callable[[Subject, str], Stage]] = {
        "label map": data_stages.label_map,
        "evaluation item, 1 vote": partial(data_stages.evaluation_item, votes=1),
        "evaluation item, 12 votes": partial(data_stages.evaluation_item, votes=12),
        "training item": data_stages.training_item,
        f"voxels at {scales} scales, input features": data_stages.voxelisation,
        f"kernel maps at {len(subject.convolved)} scales": data_stages.kernel_maps,
        "mean over voxels, forward": partial(data_stages.scatter_mean, backward=False),
        "mean over voxels, forward + backward": partial(data_stages.scatter_mean, backward=True),
        f"convolution 3x3x3, {channels} to {channels}, forward": partial(data_stages.convolution, backward=False),
        f"convolution 3x3x3, {channels} to {channels}, forward + backward": partial(
            data_stages.convolution, backward=True
        ),
    }
    for name, maker in (
        ("3D network", network_stages.network),
        ("points to labels", network_stages.points_to_labels),
        ("training step of 2DPASS", network_stages.training_step),
    ):
        for precision in precisions:
            makers[f"{name}, {'fp32' if precision == '32' else precision}"] = partial(maker, precision=precision)
    return (maker(subject, name) for name, maker in makers.items() if wanted(name))
