"""A checkpoint of a minute network, with all that main.py writes into one."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from network.assemble import build_network
from network.weights.description import describe
from tests.support.networks import randomize_norms
from utils.config.loading import load_config
from utils.config.schema import Config
from utils.labels import LabelMap
from utils.paths import REPOSITORY
from utils.scan.statistics import Statistics

DEMO = REPOSITORY / "config" / "2DPASS-demo.yaml"


def small_config(*overrides: str, config: Path = DEMO) -> Config:
    """Loads a config with narrow layers."""
    width = "model_params.hiden_size=4" if config == DEMO else "model_params.cr=0.1"
    return load_config(config, [width, *overrides])


def write_checkpoint(path: Path, config: Config, statistics: Statistics | None = None, described: bool = True) -> Path:
    """Writes a checkpoint of random weights; without a description it is as those of earlier versions."""
    torch.manual_seed(0)
    network = build_network(config, baseline_only=True)
    randomize_norms(network)
    _spread_classes(network)
    label_map = LabelMap.load(REPOSITORY / config.dataset_params.label_mapping)
    ours: dict[str, object] = {"geometry": network.geometry()}
    if described:
        ours["description"] = describe(config, label_map, statistics)
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": weights, "2dpass": ours}, path)
    return path


def _spread_classes(network: nn.Module) -> None:
    """Draws the last layer so that its features, which are positive, choose no class on average."""
    (*_, last) = (module for module in network.modules() if isinstance(module, nn.Linear))
    nn.init.normal_(last.weight)
    with torch.no_grad():
        last.weight -= last.weight.mean(dim=1, keepdim=True)
        last.bias.zero_()
