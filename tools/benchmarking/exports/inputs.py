"""The scans and the checkpoint that `benchmark.py export` measures with."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dataloader.formats.layout import Layout
from dataloader.formats.open import open_clouds
from network.models.segmentation_network import SegmentationNetwork
from network.weights.configuration import Tested
from network.weights.description import describe
from tools.benchmarking.frame import full_size
from tools.benchmarking.subject import settled_network
from tools.demo_world.semantickitti import write_tree
from utils.config.schema import Config
from utils.fetching.references import is_reference, shown
from utils.files import whole_file
from utils.labels import LabelMap
from utils.paths import resolve_path
from utils.scan.records import Batch
from utils.scan.volume import in_volume

Points = NDArray[np.float32]
"""(N, 4) x, y, z, metres, and intensity."""


def read_scans(paths: list[Path] | None, columns: tuple[str, ...] | None, folder: Path) -> list[Points]:
    """Reads the scans, or makes one up in the folder; `columns`: see `Layout`.

    Raises:
        UserError: a file cannot be read, or is no point cloud.
    """
    if paths is None:
        write_tree(folder / "demo", full_size())
        paths, columns = [folder / "demo" / "00" / "velodyne" / "000000.bin"], ("x", "y", "z", "i")
    return [_read(path, Layout(columns)) for path in paths]


def _read(path: Path, layout: Layout) -> Points:
    cloud = open_clouds(path, layout).read(0)
    intensity = np.zeros(len(cloud), np.float32) if cloud.intensity is None else cloud.intensity
    return np.column_stack([cloud.xyz, intensity]).astype(np.float32)


def make_checkpoint(config: Config, points: Points, path: Path) -> None:
    """Writes a checkpoint of random weights, always the same, with the statistics of a scan in its BatchNorms."""
    network = settled_network(config, _batch(points, config))
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    label_map = LabelMap.load(resolve_path(config.dataset_params.label_mapping))
    ours = {"geometry": network.geometry(), "description": describe(config, label_map, None)}
    with whole_file(path) as file:
        torch.save({"state_dict": weights, "2dpass": ours}, file)


def _batch(points: Points, config: Config) -> Batch:
    low, high = config.dataset_params.bounds
    seen = torch.from_numpy(points[in_volume(points[:, :3], low, high)])
    none = torch.zeros(len(seen), dtype=torch.int64)
    return Batch(seen, none, none, none, none, None, (len(seen),))


def describe_inputs(
    args: argparse.Namespace, tested: Tested, network: SegmentationNetwork, scans: list[Points]
) -> list[str]:
    """Describes the scans and the network."""
    named = [f"{path.name}: " for path in args.scans or ()] or ["made up: "]
    points = ", ".join(f"{name}{len(scan):,} points" for name, scan in zip(named, scans, strict=True))
    weights = sum(parameter.numel() for parameter in network.parameters())
    if args.checkpoint is None:
        origin = f"random weights, {args.config.name}"
    else:  # a link may hold a password
        origin = f"checkpoint {shown(args.checkpoint) if is_reference(args.checkpoint) else args.checkpoint}"
    architecture = tested.config.model_params.model_architecture
    return [
        f"Input: {points}.",
        f"Network: {architecture}, {weights / 1e6:.2f} million weights; {origin}.",
    ]
