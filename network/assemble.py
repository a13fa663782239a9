"""Config -> network. The one place where modules are put together."""

from __future__ import annotations

from torch import nn

from network.arch_2dpass import Arch2DPASS
from network.baseline import Baseline
from network.distillation import MSFSKD
from network.image_branch import ImageBranch
from network.losses import SegmentationLoss, class_weights
from network.sparse import spconv_backend, torch_backend
from network.voxelize import MapMaker, Volume
from utils.config import Config

# "auto" is the reference until another backend has been measured to be faster and right.
_MAP_MAKERS: dict[str, MapMaker] = {
    "auto": torch_backend.submanifold_map,
    "torch": torch_backend.submanifold_map,
    "spconv": spconv_backend.submanifold_map,
}


def build_network(config: Config, baseline_only: bool = False, imagenet: bool = True) -> Arch2DPASS | Baseline:
    """The network of a config, freshly initialised.

    Args:
        config: the experiment.
        baseline_only: the 3D network alone.
        imagenet: ImageNet weights in the 2D branch if the config says so (not when a checkpoint overwrites them).
    """
    model, data, training = config.model_params, config.dataset_params, config.train_params
    counts = data.seg_labelweights
    criterion = SegmentationLoss(None if counts is None else class_weights(counts))
    volume = Volume(data.min_volume_space, data.max_volume_space, model.spatial_shape)
    network_3d = Baseline(
        volume,
        model.scale_list,
        model.hiden_size,
        model.num_classes,
        _MAP_MAKERS[model.sparse_backend],
        criterion,
        training.lambda_lovasz,
    )
    if baseline_only:
        return network_3d
    image_branch = ImageBranch(model.hiden_size, model.scale_list)
    if model.pretrained2d and imagenet:
        image_branch.load_imagenet_weights()
    distillation = MSFSKD(
        model.scale_list,
        model.hiden_size,
        model.num_classes,
        criterion,
        training.lambda_seg2d,
        training.lambda_xm,
    )
    return Arch2DPASS(network_3d, image_branch, distillation)


def parameter_count(module: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
