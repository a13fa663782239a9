"""The record of a data set, which is all that the program knows of it; `catalogue` lists the records.

A data set is added by one file here with its source and its `DataSet`, a line in `catalogue.DATA_SETS`, a label mapping
and a config. Nothing else asks for a data set's name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from dataloader.datasets.source import Source
from utils.config.data import DatasetParams
from utils.corruptions import families_of
from utils.errors import UserError
from utils.labels import LabelMap
from utils.paths import REPOSITORY
from utils.results.predictions import PredictionFiles, PredictionFormat
from utils.scan.sensor import Sensor

Part = Literal["train", "trainval", "valid", "test"]
"""Of a data set: to train on, all with labels, to validate on, to submit."""


@dataclass(frozen=True)
class Request:
    """A request for scans of a data set.

    Attributes:
        params: the `dataset_params` of the experiment.
        path: the folder that `data_path` of the loader names.
        part: which scans.
        label_map: ids, and for some data sets the sequences of each part.
        images: offer camera images, if `params` are those of a data set with images.
        debug: take the small edition of the data set, if it has one.
        labels: read the labels, if the part has some; without, no label file is opened, and all points have label 0.
    """

    params: DatasetParams
    path: Path
    part: Part
    label_map: LabelMap
    images: bool = False
    debug: bool = False
    labels: bool = True


@runtime_checkable
class CorruptedSource(Source, Protocol):
    """The scans of one subset of a corrupted validation set; it may have none."""

    @property
    def files(self) -> PredictionFiles:
        """The files of predictions on the subset."""
        ...

    @property
    def takes_all(self) -> bool:
        """True if it has every scan of its folder; otherwise it has those of the edition that is tested."""
        ...


@dataclass(frozen=True)
class DataSet:
    """One data set.

    Attributes:
        sensor: what took its scans; it also has the name of the data set.
        label_mapping: the usual label mapping.
        skips_unseen: whether the data set's own evaluation leaves classes that never occur out of the mean
            (nuscenes-devkit), or counts them as 0 (semantic-kitti-api).
        open: gives the scans that are asked for; raises UserError where something is missing.
        prediction_format: gives the way the benchmark wants the predictions on these scans. The second argument says
            whether the network was trained with images, which the nuScenes benchmark asks for.
        open_corrupted: gives the scans in one folder of a corrupted validation set. The arguments are the request for
            the clean scans, the folder, the name of the subset, and what opens the clean scans, should it need them;
            raises UserError where a scan has no labels or the folder is of other scans. None: there are no such sets.
        things: names of the raw ids that are countable objects, for the mixing of scans; empty: there are none.
        surfaces: names of the raw ids of ground that things stand on.
        has_instances: whether its scans tell one object from another (`Scan.instances`).
    """

    sensor: Sensor
    label_mapping: str
    skips_unseen: bool
    open: Callable[[Request], Source]
    prediction_format: Callable[[Request, bool], PredictionFormat]
    open_corrupted: Callable[[Request, Path, str, Callable[[], Source]], CorruptedSource] | None = None
    things: tuple[str, ...] = ()
    surfaces: tuple[str, ...] = ()
    has_instances: bool = True

    @property
    def name(self) -> str:
        """The name, as in `dataset_params.pc_dataset_type`; the runs on it lie in logs/<name>."""
        return self.sensor.name

    @property
    def families(self) -> tuple[str, ...]:
        """The families of corruptions that robust_test.py can test on it."""
        return () if self.open_corrupted is None else families_of(self.name)

    @property
    def label_mapping_path(self) -> Path:
        """The file of the usual label mapping."""
        return REPOSITORY / self.label_mapping


def no_root(root: Path, where: str) -> UserError:
    """Makes the error of a data set whose folder is not there.

    Args:
        root: the folder.
        where: what to do, for a data set that is downloaded.
    """
    made = {"sequences": "", "nuscenes": " --dataset nuscenes"}
    if root.parts[-3:-1] == ("dataset", "demo") and root.name in made:  # where tools/make_demo_data.py puts them
        where = f"make the data of the demo: python tools/make_demo_data.py{made[root.name]}"
    return UserError(f"{root}: no such folder; {where}")
