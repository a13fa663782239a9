"""The construction of networks from a config: the only place where modules are put together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from network.models.arch_2dpass import Arch2DPASS
from network.models.distillation import MSFSKD
from network.models.losses import SegmentationLoss, class_weights
from network.models.minkowskinet import MinkowskiNet
from network.models.network_3d import Network3D
from network.models.pretraining import DistillationPretraining, StageTeacher
from network.models.segmentation_network import SegmentationNetwork
from network.models.spvcnn import SPVCNN
from network.models.voxel_network import VoxelNetwork
from network.sparse import auto_backend, native_backend, spconv_backend, torch_backend
from network.sparse.layers import SparseBackend
from network.teachers.foundation import FoundationTeacher
from network.teachers.foundation_weights import load_encoder
from network.teachers.resnet34 import ImageBranch
from network.teachers.teacher import Encoder, Teacher
from network.weights.imagenet import load_imagenet_weights
from network.weights.loading import check_geometry, fitting_weights
from network.weights.reading import read_checkpoint
from utils.config.data import PointImageDataset
from utils.config.model import ModelParams, VoxelModelParams
from utils.config.schema import Config
from utils.config.train import TrainParams
from utils.errors import UserError
from utils.scan.volume import Volume

_BACKENDS = {
    backend.name: backend
    for backend in (
        auto_backend.BACKEND,
        torch_backend.BACKEND,
        native_backend.BACKEND,
        spconv_backend.BACKEND,
        spconv_backend.TRITON_PACKAGE,
    )
}
_VOXEL_NETWORKS: dict[str, type[VoxelNetwork]] = {"minkowskinet": MinkowskiNet, "spvcnn": SPVCNN}


def build_network(
    config: Config,
    baseline_only: bool = False,
    imagenet: bool = True,
    encoder: Encoder | None = None,
    pretraining: bool = False,
) -> SegmentationNetwork:
    """Builds the network of a config with initial weights.

    Args:
        config: the experiment.
        baseline_only: build only the 3D network of 2DPASS; the voxel models are not changed by it.
        imagenet: load ImageNet weights into the 2D branch if the config asks for them; False where a checkpoint
            overwrites them.
        encoder: what a frozen teacher sees images with; None: the model that the config names, from the hub's cache.
        pretraining: build the 3D network and a frozen teacher, for a pre-training of 2DPASS without labels.

    Raises:
        UserError: Triton or transformers is not installed, or weights cannot be downloaded or are damaged.
    """
    model, data, training = config.model_params, config.dataset_params, config.train_params
    if isinstance(model, VoxelModelParams):
        return build_voxel_network(config, sparse_backend(model.sparse_backend))
    assert isinstance(data, PointImageDataset)  # the config has been checked for it
    volume = Volume(data.min_volume_space, data.max_volume_space, model.spatial_shape)
    criterion = _criterion(config)
    network_3d = _network_3d(model, training, volume, criterion)
    if baseline_only:
        return network_3d
    if model.frozen_teacher:
        scales = () if pretraining else model.scale_list  # its heads learn from labels
        teacher = FoundationTeacher(encoder or load_encoder(model.backbone_2d), model.hiden_size, scales)
    else:
        branch = StageTeacher if pretraining else ImageBranch
        teacher = branch(model.hiden_size, model.scale_list, data.image_normalizer)
        if model.pretrained2d and imagenet:
            load_imagenet_weights(teacher)
    if pretraining:
        assert isinstance(teacher, StageTeacher | FoundationTeacher)
        return DistillationPretraining(network_3d, teacher)
    return _arch_2dpass(model, training, network_3d, teacher, criterion)


def load_for_test(
    config: Config, checkpoint: Path, content: dict[str, Any] | None = None
) -> tuple[SegmentationNetwork, dict[str, Any]]:
    """Builds the network of a config with the weights of a checkpoint, and returns it with the checkpoint's content.

    For 2DPASS it is the 3D network alone, which is all that a test needs.

    Args:
        config: the config to test with, see `network.weights.configuration`.
        checkpoint: the file.
        content: the content of the file, if it was read already.

    Raises:
        UserError: the file is not a checkpoint, or a checkpoint of another network.
    """
    content = read_checkpoint(checkpoint) if content is None else content
    # The config may come from the checkpoint, and name any size: memory is asked for when the weights are that large.
    with torch.device("meta"):
        empty = build_network(config, baseline_only=True)
    weights = fitting_weights(empty, content, checkpoint)
    network = build_network(config, baseline_only=True)
    network.load_state_dict(weights, strict=False)
    check_geometry(network, content, checkpoint)
    return network, content


def build_voxel_network(config: Config, backend: SparseBackend) -> VoxelNetwork:
    """Builds the voxel model of a config on a sparse backend of one's own."""
    model, training = config.model_params, config.train_params
    assert isinstance(model, VoxelModelParams)
    return _VOXEL_NETWORKS[model.model_architecture](
        [int(model.cr * width) for width in model.layer_num],
        model.num_classes,
        model.voxel_size,
        backend,
        _criterion(config),
        1.0 if training.lambda_lovasz is None else training.lambda_lovasz,
        model.input_dims,
        model.layer_blocks,
    )


def _criterion(config: Config) -> SegmentationLoss:
    counts = config.dataset_params.seg_labelweights
    return SegmentationLoss(None if counts is None else class_weights(counts), config.train_params.label_smoothing)


def _network_3d(model: ModelParams, training: TrainParams, volume: Volume, criterion: SegmentationLoss) -> Network3D:
    return Network3D(
        volume,
        model.scale_list,
        model.hiden_size,
        model.num_classes,
        sparse_backend(model.sparse_backend),
        criterion,
        0.1 if training.lambda_lovasz is None else training.lambda_lovasz,
        model.input_dims,
    )


def _arch_2dpass(
    model: ModelParams,
    training: TrainParams,
    network_3d: Network3D,
    teacher: Teacher,
    criterion: SegmentationLoss,
) -> Arch2DPASS:
    distillation = MSFSKD(
        model.scale_list,
        model.hiden_size,
        model.num_classes,
        criterion,
        training.lambda_seg2d,
        training.lambda_xm,
    )
    return Arch2DPASS(network_3d, teacher, distillation)


def sparse_backend(name: str) -> SparseBackend:
    """Returns the sparse backend with a name that `model_params.sparse_backend` may have.

    Raises:
        UserError: Triton is not installed.
    """
    if name != "triton":
        return _BACKENDS[name]
    try:
        from network.sparse import triton_backend  # here, because it imports Triton
    except ImportError as error:
        raise UserError(
            "model_params.sparse_backend: triton is not installed; pip install the version that your torch names, or "
            "set model_params.sparse_backend=auto"
        ) from error
    return triton_backend.BACKEND


def parameter_count(module: nn.Module) -> int:
    """Counts the trainable parameters of a module."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
