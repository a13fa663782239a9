"""The training scans of an experiment as the network gets them: mixed and augmented."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dataloader.catalogue import data_set_of, load_label_map
from dataloader.opening import open_training
from tools.viewing.frames import DiskFrames
from tools.viewing.predictions import Places
from utils.command.importing import importing
from utils.config.schema import Config
from utils.errors import UserError
from utils.labels import LabelMap
from utils.pictures.raster import CameraPicture
from utils.scan.sensor import Sensor
from utils.viewer.records import ShownCamera, ShownScan

if TYPE_CHECKING:  # it imports torch, which a refusal does not need
    from dataloader.dataset import SegmentationDataset


class TrainingFrames(DiskFrames):
    """The items of an epoch of training, in the order of the scans.

    Args:
        items: the items.
        epoch: whose items they are, from 0.
        label_map: names and colours of the classes.
        sensor: the LiDAR of the scans.
        past_key: what the ages of points are called in the config, `past_scans` or `past_sweeps`.
    """

    def __init__(
        self, items: SegmentationDataset, epoch: int, label_map: LabelMap, sensor: Sensor, past_key: str
    ) -> None:
        self._items, self._epoch, self._past_key = items, epoch, past_key
        self._frames = [items.source.frame(index) for index in range(len(items))]
        super().__init__(sensor, label_map, label_map, [frame.path for frame in self._frames], (), Places([], []))

    def title(self, index: int) -> str:
        """Returns the title of an item, with its scan and what it depends on."""
        frame = self._frames[index]
        made = f"epoch {self._epoch}, seed {self._items.seed}"
        return f"Training item {index} of {len(self)} ({made}): {frame.sequence}, scan {frame.name}"

    def find(self, frame: str) -> int:
        """Finds the number of an item by itself, or by the sequence and the name of its scan, such as "00/000012"."""
        names = [f"{each.sequence}/{each.name}" for each in self._frames]
        if frame in names:
            return names.index(frame)
        if frame.isascii() and frame.isdecimal() and len(frame) < 10 and int(frame) < len(names):
            return int(frame)
        raise UserError(
            f"--frame {frame}: no such training scan; give a number from 0 to {len(names) - 1}, or one of {names[0]} "
            f"to {names[-1]}"
        )

    def no_labels(self, index: int) -> str | None:
        """Returns None: training scans have labels."""
        return None

    def notes(self) -> list[str]:
        """Returns what is doubtful in the scans."""
        return list(self._items.source.notes)

    def _read(self, index: int) -> ShownScan:
        scan = self._items[self._epoch, index].scan
        cameras = []
        if scan.image is not None:
            cameras = [[ShownCamera(CameraPicture("the camera", scan.image, np.asarray(scan.pixels)))]]
        current, foreign = scan.ages == 0, scan.index < 0  # points of past scans have no row in the file either
        return ShownScan(
            self.title(index),
            scan.xyz,
            np.asarray(scan.intensity),
            np.asarray(scan.labels),
            age=scan.age,
            age_unit="scans" if self._past_key == "past_scans" else "s",
            cameras=cameras,
            mixed=foreign & current if (foreign & current).any() else None,
        )


def open_training_frames(config: Config, seed: int, epoch: int) -> TrainingFrames:
    """Opens the training scans of a config.

    Raises:
        UserError: they, their labels or their pictures are missing, or no file of classes is there.
    """
    label_map = load_label_map(config)
    source = open_training(config, label_map)
    with importing():
        from dataloader.datamodule import training_items

    items = training_items(config, label_map, source, seed=seed)
    return TrainingFrames(items, epoch, label_map, data_set_of(config).sensor, config.dataset_params.past_key)
