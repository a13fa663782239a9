"""The page docs/reference/models.md: what each configuration file builds, its parameters counted by building it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from network.assemble import build_network, parameter_count
from network.models.voxel_network import PUBLISHED_BLOCKS
from network.teachers.published import FOUNDATIONS
from tools.documenting.markdown import code, page, table
from utils.config.loading import load_config
from utils.config.model import ModelParams
from utils.config.schema import Config
from utils.paths import REPOSITORY

_INTRODUCTION = """\
One row for each file in `config/`. The parameters are counted on the networks that the files build: those that a
test needs, and those that are trained. 2DPASS trains an image branch beside its 3D network, which a test does not need.

**The mIoU are quoted** (validation split, trained on the training split, %): from the README of the published code, and
for `-mix-` from mmdetection3d, whose recipe those files hold. None of them has been measured with this code;
[Measured](../results/measured.md) says what has."""


@dataclass(frozen=True)
class _Unloaded:
    """An encoder of a frozen teacher of which only the number of features is known: enough to count what is trained."""

    dimensions: int
    identity: str = ""

    @staticmethod
    def of(config: Config) -> _Unloaded | None:
        """Returns that of a config; None if it has no frozen teacher."""
        model = config.model_params
        if not isinstance(model, ModelParams) or not model.frozen_teacher:
            return None
        return _Unloaded(FOUNDATIONS[model.backbone_2d].sizes["hidden_size"])

    def feature_size(self, height: int, width: int) -> tuple[int, int]:
        raise NotImplementedError

    def encode(self, images: Tensor) -> Tensor:
        raise NotImplementedError


QUOTED = {
    "MinkowskiNet-semantickitti": ("65.1", "67.1"),
    "SPVCNN-semantickitti": ("65.9", "67.8"),
    "2DPASS-semantickitti": ("68.7", "70.0"),
    "2DPASS-large-semantickitti": ("70.7", "72.0"),
    "MinkowskiNet-nuscenes": ("74.3", "76.0"),
    "SPVCNN-nuscenes": ("74.9", "76.9"),
    "2DPASS-base-nuscenes": ("76.7", "79.6"),
    "2DPASS-nuscenes": ("78.0", "80.5"),
}
"""mIoU with one view and with several, by configuration file, of the published code."""
QUOTED_RECIPES = {"MinkUNet34-mix-semantickitti": ("68.3 to 69.3", ""), "SPVCNN-mix-semantickitti": ("68.7", "")}
"""The same, of mmdetection3d."""


def models_page() -> str:
    """Returns the page."""
    header = ("config", "data set", "network", "parameters at test", "in training", "mIoU, one view", "mIoU, TTA")
    paths = sorted((REPOSITORY / "config").glob("*.yaml"), key=lambda path: ("demo" in path.stem, path.stem))
    return page("Models", _INTRODUCTION, table(header, map(_row, paths), right=(3, 4, 5, 6)))


def _row(path: Path) -> tuple[str, ...]:
    config = load_config(path)
    counts = (f"{millions(config, alone):.2f} M" for alone in (True, False))
    data = config.dataset_params.pc_dataset_type
    return code(path.name), data, _network(config), *counts, *(QUOTED | QUOTED_RECIPES).get(path.stem, ("", ""))


def millions(config: Config, baseline_only: bool) -> float:
    """Returns the millions of trainable parameters of the network of a config, without allocating it."""
    with torch.device("meta"):
        encoder = _Unloaded.of(config)
        return parameter_count(build_network(config, baseline_only, imagenet=False, encoder=encoder)) / 1e6


def _network(config: Config) -> str:
    model = config.model_params
    if isinstance(model, ModelParams):
        return f"2DPASS, {len(model.scale_list)} scales x {model.hiden_size} channels"
    name = {"minkowskinet": "MinkowskiNet", "spvcnn": "SPVCNN"}[model.model_architecture]
    widths = [int(model.cr * width) for width in model.layer_num]
    blocks = "" if model.layer_blocks == PUBLISHED_BLOCKS else f", blocks {' '.join(map(str, model.layer_blocks))}"
    return f"{name}, voxels of {100 * model.voxel_size:g} cm, {min(widths)} to {max(widths)} channels{blocks}"
