"""The frame that the benchmarks measure on, and the data and networks made for it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from dataloader.datamodule import DataModule
from dataloader.dataset import SegmentationDataset
from network.assemble import build_network, sparse_backend
from network.models.arch_2dpass import Arch2DPASS
from network.models.network_3d import Network3D
from network.models.segmentation_network import SegmentationNetwork
from network.sparse.layers import BatchNorm
from network.voxels.voxelize import Voxels, VoxelSet
from tools.benchmarking.plain import network as plain_network
from tools.benchmarking.plain import versions as plain_versions
from utils.config.data import PointImageDataset
from utils.config.model import ModelParams
from utils.config.schema import Config
from utils.labels import LabelMap
from utils.paths import resolve_path
from utils.scan.batch import collate
from utils.scan.records import Batch


class Subject:
    """One frame with its batches, networks and voxels, each made when it is first asked for.

    Args:
        config: the experiment; its data_path holds one training and one validation sequence, each with only this frame.
    """

    def __init__(self, config: Config) -> None:
        assert isinstance(config.model_params, ModelParams) and isinstance(config.dataset_params, PointImageDataset)
        self.config = config
        self.model = config.model_params
        path = resolve_path(config.dataset_params.label_mapping)
        self.label_map = LabelMap.load(path)
        self.learning_map: dict[int, int] = yaml.safe_load(path.read_text(encoding="utf-8"))["learning_map"]
        self.data = DataModule(config, self.label_map, fit=True)

    @cached_property
    def in_torch(self) -> Subject:
        """The same frame for networks that compute in PyTorch alone; see `network.native.library.switched_off`."""
        model = self.model.model_copy(update={"sparse_backend": "torch"})
        return Subject(self.config.model_copy(update={"model_params": model}))

    def evaluation_set(self, votes: int) -> SegmentationDataset:
        """Opens the frame as an evaluation set with `votes` views."""
        return DataModule(self.config, self.label_map, fit=False, num_vote=votes).evaluation_set

    @property
    def training_set(self) -> SegmentationDataset:
        """The frame as a training set."""
        assert self.data.training_set is not None
        return self.data.training_set

    def plain_source(self, dataset: SegmentationDataset) -> plain_versions.PlainSource:
        """Opens the frame of a data set in the plain way."""
        frame = dataset.source.frame(0)
        return plain_versions.PlainSource(Path(frame.path).parents[1], frame.name, self.learning_map)

    @cached_property
    def batch(self) -> Batch:
        """The frame as the evaluation sees it."""
        return collate([self.data.evaluation_set[0]], False)

    @cached_property
    def training_batch(self) -> Batch:
        """The frame as one training step sees it, augmented and with its image."""
        return collate([self.training_set[0]], True)

    @cached_property
    def network(self) -> Network3D:
        """The 3D network, in evaluation (see `settled_network`)."""
        return settled_network_3d(self.config, self.batch)

    @cached_property
    def network_2dpass(self) -> Arch2DPASS:
        """The training model, as initialised."""
        torch.manual_seed(0)
        network = build_network(self.config)
        assert isinstance(network, Arch2DPASS)
        return network.train()

    @cached_property
    def voxels(self) -> Voxels:
        """The voxels of the batch at all scales."""
        return self.network.voxelize(self.batch)

    @cached_property
    def geometry(self) -> plain_versions.Geometry:
        """The voxels of the batch at all scales, found in the plain way."""
        return plain_network.geometry_of(self.network, self.batch)

    @property
    def scales(self) -> list[int]:
        """The distinct scales, scale 1 first."""
        return list(dict.fromkeys([1, *self.model.scale_list]))

    @property
    def convolved(self) -> list[int]:
        """The scales on which the encoder convolves."""
        return list(dict.fromkeys([1, *self.model.scale_list[:-1]]))

    def voxel_set(self, scale: int, voxels: Voxels | None = None) -> VoxelSet:
        """Returns the voxels of one scale."""
        voxels = voxels or self.voxels
        return voxels.base if scale == 1 else voxels.scales[self.model.scale_list.index(scale)]

    def kernel_map(self, scale: int) -> Any:
        """Makes the map of a 3x3x3 convolution at a scale, with the backend of the network."""
        return sparse_backend(self.model.sparse_backend).submanifold_map(self.voxel_set(scale).keys, 3)

    def rows_in(self, scale: int) -> Tensor:
        """Finds for every plain voxel the row of the same voxel of ours, (V,)."""
        grid, ours = self.geometry.grids[scale], self.voxel_set(scale)
        return torch.zeros(len(grid.coordinates), dtype=torch.long).scatter(0, grid.inverse, ours.inverse)


def settled_network_3d(config: Config, batch: Batch) -> Network3D:
    """Makes the 3D network of 2DPASS as `settled_network` does."""
    network = settled_network(config, batch)
    assert isinstance(network, Network3D)
    return network


def settled_network(config: Config, batch: Batch) -> SegmentationNetwork:
    """Makes a network in evaluation, without what only training needs, on the device of a batch.

    Its weights are random and always the same; its BatchNorms have the statistics of the batch, so that activations are
    as large as in a trained network.
    """
    torch.manual_seed(0)
    network = build_network(config, baseline_only=True)
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.momentum = 1.0
            nn.init.normal_(module.weight, 1.0, 0.1)
            nn.init.normal_(module.bias, 0.0, 0.1)
    network.to(batch.points.device)
    with torch.no_grad():
        network.train().predict(batch)
    return network.eval()
