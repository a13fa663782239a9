"""The data sets, and what of them a config asks for."""

from __future__ import annotations

from dataloader.corruptions.families import added_labels
from dataloader.datasets.data_set import DataSet, Part, Request
from dataloader.datasets.nuscenes import source as nuscenes
from dataloader.datasets.semantickitti import source as semantickitti
from utils.config.loaders import LoaderParams
from utils.config.messages import nearest_key
from utils.config.schema import Config
from utils.errors import UserError
from utils.labels import LabelMap
from utils.names import shown
from utils.paths import expand_home, resolve_path

DATA_SETS: dict[str, DataSet] = {data_set.name: data_set for data_set in (semantickitti.DATA_SET, nuscenes.DATA_SET)}
"""By `dataset_params.pc_dataset_type`."""


def data_set_of(config: Config) -> DataSet:
    """Looks up the data set of a config.

    Raises:
        UserError: there is none of that name.
    """
    name = config.dataset_params.pc_dataset_type
    if name in DATA_SETS:
        return DATA_SETS[name]
    nearest = nearest_key(name, list(DATA_SETS))
    hint = f", did you mean {nearest}?" if nearest else ""
    raise UserError(f"dataset_params.pc_dataset_type must be {' or '.join(DATA_SETS)}, found {shown(name)}{hint}")


def request(
    config: Config,
    part: Part,
    loader: LoaderParams,
    label_map: LabelMap,
    images: bool = False,
    debug: bool = False,
    labels: bool = True,
) -> Request:
    """Makes the request for one part of the data set of a config.

    Args:
        config: the experiment.
        loader: where the scans lie.
        part, label_map, images, debug, labels: see `Request`.

    Raises:
        UserError: `data_path` is a file, or names a home folder that is not there.
    """
    path = expand_home(loader.data_path, key="data_path")
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: data_path is not a folder")
    return Request(config.dataset_params, path, part, label_map, images, debug, labels)


def load_label_map(config: Config, stored: LabelMap | None = None) -> LabelMap:
    """Loads the label map of a config; it ignores the points that a corruption has added to scans of its data set.

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
    return label_map.adding(added_labels(data_set_of(config).name))
