"""The input of the benchmarks: one frame, real or made up, as a data set of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dataloader.datasets.semantickitti.sequences import sequences_of
from tools.benchmarking.subject import Subject
from tools.demo_world.options import DemoOptions
from tools.demo_world.semantickitti import write_tree
from utils.config.data import SemanticKITTIImages
from utils.config.loading import load_config
from utils.config.model import ModelParams
from utils.config.schema import Config
from utils.errors import UserError
from utils.files import write_bytes
from utils.labels import LabelMap
from utils.paths import resolve_path

FULL_SIZE = DemoOptions(1, 1, 1, beams=64, azimuth_steps=2048, image_size=(1241, 376))
_FILES = ("velodyne/{}.bin", "labels/{}.label", "image_2/{}.png", "calib.txt")
_LOADERS = ("train_data_loader", "val_data_loader")
_LOST = 0.01  # share of the points that a copy of a frame lacks
_DISTINCT = 64  # copies that differ; any more are links to them


class Origin(NamedTuple):
    """The place of a frame in a data set, or none for a made-up one.

    Attributes:
        data_path: the folder of the sequences; None makes a sweep up.
        sequence, frame: such as "00" and "000000".
    """

    data_path: Path | None = None
    sequence: str = "00"
    frame: str = "000000"


def full_size(**changes: int) -> DemoOptions:
    """Returns the options of a made-up sweep of full size, with one worker process per processor and with `changes`."""
    return replace(FULL_SIZE, workers=os.cpu_count() or 1, **changes)


def prepare(
    origin: Origin,
    config: str | Path,
    overrides: Sequence[str],
    folder: Path,
    demo: DemoOptions | None = None,
    copies: tuple[int, int] = (1, 1),
) -> Subject:
    """Makes a data set of one frame: the first training and the first validation sequence, under `folder`.

    Args:
        origin: the frame.
        config: the experiment.
        overrides: its changed keys, KEY=VALUE.
        folder: an empty folder.
        demo: the options of the made-up sweep; None: `full_size`.
        copies: frames to write into the training and into the validation sequence; all but the first lack one point
            in a hundred, at random, so that they differ in their sizes.

    Raises:
        UserError: a file of the frame is missing, or the configuration is wrong.
    """
    checked = configure(config, overrides, folder)
    data_path, sequence, frame = origin
    if data_path is None:
        data_path = folder / "demo"
        write_tree(data_path, demo or full_size())
        _, sequence, frame = Origin()
    label_map = LabelMap.load(resolve_path(checked.dataset_params.label_mapping))
    for part, count in zip(("train", "valid"), copies, strict=True):
        target = folder / sequences_of(part, label_map)[0]
        _copy_frame(data_path / sequence, frame, target)
        for number in range(1, count):
            _vary_frame(target, int(frame), number)
    return Subject(checked)


def configure(config: str | Path, overrides: Sequence[str], folder: Path) -> Config:
    """Loads the experiment, on the data set that `prepare` makes.

    Raises:
        UserError: the configuration is wrong, or not one of 2DPASS on SemanticKITTI.
    """
    checked = load_config(config, overrides)
    if not isinstance(checked.model_params, ModelParams) or not isinstance(checked.dataset_params, SemanticKITTIImages):
        raise UserError(f"{config}: only 2DPASS on SemanticKITTI is measured; choose such an experiment with --config")
    paths = [f"dataset_params.{part}.data_path={json.dumps(str(folder))}" for part in _LOADERS]
    # Random weights are as fast as ImageNet's, and need no download.
    return load_config(config, [*overrides, *paths, "model_params.pretrained2d=false"])


def _copy_frame(source: Path, frame: str, target: Path) -> None:
    for pattern in _FILES:
        name = pattern.format(frame)
        try:
            content = (source / name).read_bytes()
        except OSError as error:
            raise UserError(
                f"{source / name}: cannot read it ({error.strerror}); a frame is measured with its scan, labels, image "
                "and calibration: choose another with --data_path, --sequence and --frame"
            ) from error
        write_bytes(target / name, content)


def _vary_frame(folder: Path, frame: int, number: int) -> None:
    """Writes frame `frame + number`: the frame without some of its points, or a link to such a one made before."""
    points, labels, image = _FILES[:3]
    if number >= _DISTINCT:
        for pattern in (points, labels):
            earlier = folder / pattern.format(f"{frame + number % (_DISTINCT - 1) + 1:06d}")
            _link(earlier, folder / pattern.format(f"{frame + number:06d}"))
    else:
        rows = np.fromfile(folder / points.format(f"{frame:06d}"), "<f4").reshape(-1, 4)
        kept = np.random.default_rng(number).random(len(rows)) >= _LOST
        write_bytes(folder / points.format(f"{frame + number:06d}"), rows[kept].tobytes())
        ids = np.fromfile(folder / labels.format(f"{frame:06d}"), "<u4")
        write_bytes(folder / labels.format(f"{frame + number:06d}"), ids[kept].tobytes())
    _link(folder / image.format(f"{frame:06d}"), folder / image.format(f"{frame + number:06d}"))


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        write_bytes(target, source.read_bytes())


def describe(subject: Subject) -> list[str]:
    """Describes the input: its points, and its voxels at each scale."""
    voxels = " / ".join(f"{len(subject.voxel_set(scale)):,}" for scale in subject.scales)
    whole = subject.batch.whole[0]
    model = subject.model
    return [
        f"Input: {len(whole.xyz):,} points, {len(subject.batch.points):,} of them in the volume; {voxels} voxels at "
        f"scales {' / '.join(map(str, subject.scales))}.",
        f"Network: {len(model.scale_list)} scales x {model.hiden_size} channels.",
    ]
