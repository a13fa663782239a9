"""A published configuration, with helpers that change it key by key and check how it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydantic
import pytest
import yaml

from utils.config.kinds import FlatKind
from utils.config.loading import load_config
from utils.errors import UserError

CONFIG_FOLDER = Path(__file__).resolve().parents[2] / "config"
SHIPPED = sorted(CONFIG_FOLDER.glob("*.yaml"))

# A published run of 2DPASS on SemanticKITTI, key by key as it is printed at its start.
PUBLISHED = """
format_version: 1
model_params:
  model_architecture: arch_2dpass
  input_dims: 4
  spatial_shape: [1000, 1000, 60]
  scale_list: [2, 4, 8, 16]
  hiden_size: 64
  num_classes: 20
  backbone_2d: resnet34
  pretrained2d: False
dataset_params:
  training_size: 19132
  dataset_type: point_image_dataset_semkitti
  pc_dataset_type: SemanticKITTI
  collate_type: collate_fn_default
  ignore_label: 0
  label_mapping: ./config/label_mapping/semantic-kitti.yaml
  bottom_crop: [480, 320]
  color_jitter: [0.4, 0.4, 0.4]
  flip2d: 0.5
  image_normalizer: [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]
  max_volume_space: [50, 50, 2]
  min_volume_space: [-50, -50, -4]
  seg_labelweights: [0, 55437630, 320797, 541736, 2578735, 3274484, 552662, 184064, 78858, 240942562, 17294618,
    170599734, 6369672, 230413074, 101130274, 476491114, 9833174, 129609852, 4506626, 1168181]
  train_data_loader:
    data_path: ./dataset/SemanticKitti/dataset/sequences/
    batch_size: 8
    shuffle: True
    num_workers: 8
    rotate_aug: True
    flip_aug: True
    scale_aug: True
    transform_aug: True
    dropout_aug: True
  val_data_loader:
    data_path: ./dataset/SemanticKitti/dataset/sequences/
    shuffle: False
    num_workers: 8
    batch_size: 1
    rotate_aug: False
    flip_aug: False
    scale_aug: False
    transform_aug: False
    dropout_aug: False
train_params:
  max_num_epochs: 64
  learning_rate: 0.24
  optimizer: SGD
  lr_scheduler: CosineAnnealingWarmRestarts
  momentum: 0.9
  nesterov: True
  weight_decay: 1e-4
  lambda_seg2d: 1
  lambda_xm: 0.05
"""


# A published run of 2DPASS on nuScenes; its batch size is not published.
PUBLISHED_NUSCENES = """
format_version: 1
model_params:
  model_architecture: arch_2dpass
  input_dims: 4
  spatial_shape: [1000, 1000, 70]
  scale_list: [2, 4, 8, 16, 16, 16]
  hiden_size: 256
  num_classes: 17
  backbone_2d: resnet34
  pretrained2d: False
dataset_params:
  training_size: 28130
  dataset_type: point_image_dataset_nus
  pc_dataset_type: nuScenes
  collate_type: collate_fn_default
  ignore_label: 0
  label_mapping: ./config/label_mapping/nuscenes.yaml
  resize: [400, 240]
  color_jitter: [0.4, 0.4, 0.4]
  flip2d: 0.5
  image_normalizer: [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]
  max_volume_space: [50, 50, 3]
  min_volume_space: [-50, -50, -4]
  train_data_loader:
    data_path: ./dataset/nuscenes/
    batch_size: 4
    shuffle: True
    num_workers: 8
    rotate_aug: True
    flip_aug: True
    scale_aug: True
    transform_aug: True
    dropout_aug: True
  val_data_loader:
    data_path: ./dataset/nuscenes/
    shuffle: False
    num_workers: 8
    batch_size: 1
    rotate_aug: False
    flip_aug: False
    scale_aug: False
    transform_aug: False
    dropout_aug: False
train_params:
  max_num_epochs: 80
  learning_rate: 0.24
  optimizer: SGD
  lr_scheduler: CosineAnnealingLR
  momentum: 0.9
  nesterov: True
  weight_decay: 1e-4
  lambda_seg2d: 1
  lambda_xm: 0.05
  lambda_lovasz: 1
"""

# A published run of MinkowskiNet on nuScenes; its number of classes goes by num_class.
PUBLISHED_VOXEL = """
format_version: 1
model_params:
  model_architecture: minkowskinet
  input_dims: 4
  voxel_size: 0.05
  cr: 1
  layer_num: [32, 32, 64, 128, 256, 256, 128, 96, 96]
  num_class: 17
dataset_params:
  training_size: 28130
  dataset_type: voxel_dataset
  pc_dataset_type: nuScenes
  collate_type: collate_fn_voxel
  ignore_label: 0
  label_mapping: ./config/label_mapping/nuscenes.yaml
  train_data_loader:
    data_path: ./dataset/nuscenes/
    batch_size: 32
    shuffle: True
    num_workers: 8
    rotate_aug: True
    flip_aug: True
    scale_aug: True
    transform_aug: True
    dropout_aug: True
  val_data_loader:
    data_path: ./dataset/nuscenes/
    shuffle: False
    num_workers: 8
    batch_size: 1
    rotate_aug: False
    flip_aug: False
    scale_aug: False
    transform_aug: False
    dropout_aug: False
train_params:
  max_num_epochs: 80
  learning_rate: 0.24
  optimizer: SGD
  lr_scheduler: CosineAnnealingLR
  momentum: 0.9
  nesterov: True
  weight_decay: 1e-4
"""


def plain(value: Any) -> Any:
    """Converts models and tuples at every level to dicts and lists, as a YAML file has them."""
    if isinstance(value, pydantic.BaseModel):
        mapping: dict[str, Any] = {}
        for name in type(value).model_fields:
            below = plain(getattr(value, name))
            if isinstance(getattr(value, name), FlatKind):  # its keys stand beside its name
                mapping[name] = below.pop("name")
                mapping.update(below)
            else:
                mapping[name] = below
        return mapping
    return [plain(entry) for entry in value] if isinstance(value, tuple) else value


def contained(published: Any, found: Any) -> bool:
    """Returns whether every key of `published` is in `found` with an equal value; a key that is false may be
    missing."""
    if isinstance(published, dict):
        return all(contained(value, found[key]) if key in found else value is False for key, value in published.items())
    return bool(published == found)


def set_key(raw: dict[str, Any], key: str, value: Any) -> None:
    """Sets a dotted key in the nested dicts of a config; the value REMOVED removes the key."""
    *sections, leaf = key.split(".")
    for section in sections:
        raw = raw[section]
    if value is REMOVED:
        del raw[leaf]
    else:
        raw[leaf] = value


REMOVED = object()
RAW, RAW_NUSCENES, RAW_VOXEL = (
    yaml.safe_load(text.replace("1e-4", "0.0001")) for text in (PUBLISHED, PUBLISHED_NUSCENES, PUBLISHED_VOXEL)
)


def refusal(path: Path, overrides: tuple[str, ...] = ()) -> str:
    """Returns the message with which the file is refused: one line that begins with the file's name."""
    with pytest.raises(UserError) as caught:
        load_config(path, overrides)
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    assert line.startswith(f"{path}: ")
    return line.removeprefix(f"{path}: ")
