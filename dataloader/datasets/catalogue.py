"""Config -> where scans come from, and how predictions for them are filed and drawn: the one place that knows all
data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dataloader.corruptions.families import added_labels
from dataloader.datasets.corrupted import CorruptedKITTI, CorruptedNuScenes
from dataloader.datasets.nuscenes import NuScenes
from dataloader.datasets.nuscenes_predictions import NuScenesFormat
from dataloader.datasets.semantickitti import SemanticKITTI
from dataloader.datasets.semantickitti_predictions import SemanticKITTIFormat
from dataloader.datasets.source import Source
from utils.config.data import NuScenesImages
from utils.config.loaders import LoaderParams
from utils.config.schema import Config
from utils.errors import UserError
from utils.labels import LabelMap
from utils.paths import expand_home, resolve_path
from utils.results.predictions import PredictionFormat
from utils.scan.sensor import NUSCENES_LIDAR, SEMANTICKITTI_LIDAR, Lidar

Part = Literal["train", "trainval", "valid", "test"]
"""Of a data set: to train on, all with labels, to validate on, to submit."""

_MINI = "v1.0-mini"
_TRAINVAL_SPLITS = {"train": "train", "valid": "val", "trainval": "trainval"}
_MINI_SPLITS = {"train": "mini_train", "valid": "mini_val"}


def open_source(
    config: Config, part: Part, loader: LoaderParams, label_map: LabelMap, images: bool = False, debug: bool = False
) -> Source:
    """The scans of one part of the data set of a config.

    Args:
        config: the experiment.
        part: which scans.
        loader: where they lie.
        label_map: ids, and the splits of SemanticKITTI.
        images: offer camera images; only with a point_image data set.
        debug: nuScenes: v1.0-mini.

    Raises:
        UserError: something is missing there; see the sources.
    """
    data = config.dataset_params
    path = _data_path(loader.data_path)
    if data.pc_dataset_type == "SemanticKITTI":
        return SemanticKITTI(path, part, label_map, load_image=images)
    version, split = _version_and_split(config, part, debug)
    image_size = data.resize if images and isinstance(data, NuScenesImages) else None
    return NuScenes(path, version, split, label_map, image_size)


def prediction_format(
    config: Config, part: Part, label_map: LabelMap, uses_camera: bool, debug: bool = False
) -> PredictionFormat:
    """How the benchmark of the data set wants its predictions.

    Args:
        config, part, label_map, debug: as of `open_source`.
        uses_camera: the network was trained with images, which the nuScenes benchmark asks for.
    """
    if config.dataset_params.pc_dataset_type == "SemanticKITTI":
        return SemanticKITTIFormat(label_map)
    return NuScenesFormat(_version_and_split(config, part, debug)[1], uses_camera)


def open_corrupted(
    config: Config, folder: Path, name: str, label_map: LabelMap, clean: Source | None, debug: bool = False
) -> CorruptedKITTI | CorruptedNuScenes:
    """The scans of one subset of a corrupted validation set; none if its folder has none.

    Args:
        config, label_map, debug: as of `open_source`.
        folder: of the subset.
        name: of the subset.
        clean: the clean validation split; nuScenes needs it, to know which scan is which.

    Raises:
        UserError: a scan has no labels, or (nuScenes) none of the scans is one of the validation split.
    """
    if isinstance(clean, NuScenes):
        return CorruptedNuScenes(folder, name, clean, _version_and_split(config, "valid", debug)[0])
    return CorruptedKITTI(folder, name, label_map)


def load_label_map(config: Config, stored: LabelMap | None = None) -> LabelMap:
    """Load the label map of a config; it ignores the points that a corruption has added to scans of its data set.

    Args:
        config: the experiment.
        stored: the label map in a checkpoint; where there is one, it counts.

    Raises:
        UserError: its file is damaged, or has another number of classes than the config.
    """
    data, classes = config.dataset_params, config.model_params.num_classes
    label_map = LabelMap.load(resolve_path(data.label_mapping)) if stored is None else stored
    if len(label_map.names) != classes:
        raise UserError(
            f"model_params.num_classes is {classes}, but {data.label_mapping} has {len(label_map.names)} classes (0, "
            "the ignored one, among them)"
        )
    return label_map.adding(added_labels(data.pc_dataset_type))


def skips_unseen(config: Config) -> bool:
    """Whether classes that never occur are left out of the mean: in nuscenes-devkit, not in semantic-kitti-api."""
    return config.dataset_params.pc_dataset_type == "nuScenes"


def lidar_of(config: Config) -> Lidar:
    """What took the scans of the data set of a config."""
    return SEMANTICKITTI_LIDAR if config.dataset_params.pc_dataset_type == "SemanticKITTI" else NUSCENES_LIDAR


def _version_and_split(config: Config, part: Part, debug: bool) -> tuple[str, str]:
    """The tables and the official split of a part of nuScenes."""
    if part == "test":
        return "v1.0-test", "test"
    version = _MINI if debug else config.dataset_params.version or "v1.0-trainval"
    splits = _MINI_SPLITS if version == _MINI else _TRAINVAL_SPLITS
    if part not in splits:
        raise UserError(
            f"train_params.trainval: {version} has no such split; leave out trainval, or what chose {version} (--debug "
            "or dataset_params.version)"
        )
    return version, splits[part]


def _data_path(name: str) -> Path:
    path = expand_home(name, key="data_path")
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: data_path is not a folder")
    return path
