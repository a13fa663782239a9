"""2DPASS (ECCV 2022) written down point by point, with the weights of this project's modules.

The counterpart of `versions` for whole networks: MLPs and head run on points, BatchNorm is not folded,
convolutions are differentiated by autograd, image features are upsampled to the size of the image. The benchmark
measures the project's networks against these, and tests check that logits, losses, gradients and running statistics
agree. Of the project's modules only the weights are taken, and layers that are torch's own.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.models.arch_2dpass import Arch2DPASS
from network.models.distillation import FusionBlock
from network.models.network_3d import EncoderBlock, Network3D
from network.sparse.layers import ResidualBlock
from network.teachers.resnet34 import ImageBranch
from tools.benchmarking.plain.versions import Geometry, VoxelGrid, convolve, wide
from utils.scan.records import Batch


def geometry_of(network: Network3D, batch: Batch) -> Geometry:
    """Finds the voxels of a batch at all scales of the network."""
    return Geometry(batch.points, batch.scan_ids, network.volume, network.scale_list)


def forward(network: Network3D, geometry: Geometry) -> tuple[Tensor, list[Tensor]]:
    """Computes (P, K) logits, and the features (V, C) of each block's voxel branch on the block's finer voxels."""
    grid = geometry.grids[1]
    x = grid.mean(network.embed_voxels(F.relu(network.embed_points(geometry.features))))
    on_points, voxel_features = [], []
    for block, scale in zip(network.encoder, network.scale_list, strict=True):
        assert isinstance(block, EncoderBlock)
        coarse = geometry.grids[scale]
        v = x
        for residual in block.voxel_branch:
            assert isinstance(residual, ResidualBlock)
            v = _residual(residual, v, grid)
        q = coarse.mean(_point_branch(block, x + v, grid))
        x = q + coarse.mean(v[grid.inverse])
        voxel_features.append(v)
        on_points.append(q[coarse.inverse])
        grid = coarse
    logits = network.classifier(F.relu(F.linear(torch.cat(on_points, 1), network.head.weight, network.head.bias)))
    return logits, voxel_features


def _residual(block: ResidualBlock, x: Tensor, grid: VoxelGrid) -> Tensor:
    inner = F.leaky_relu(_norm(block.conv1.norm, convolve(x, block.conv1.weight, grid.pairs)), 0.1)
    outer = _norm(block.conv2.norm, convolve(inner, block.conv2.weight, grid.pairs))
    assert block.shortcut is not None
    return F.leaky_relu(outer + _norm(block.shortcut.norm, x @ block.shortcut.weight[0]), 0.1)


def _norm(layer: nn.Module, x: Tensor) -> Tensor:
    """Applies BatchNorm over rows; in training the running statistics are updated."""
    assert isinstance(layer, nn.BatchNorm1d)
    mean, var = layer.running_mean, layer.running_var
    return F.batch_norm(x, mean, var, layer.weight, layer.bias, layer.training, momentum=0.1, eps=1e-5)


def _point_branch(block: EncoderBlock, f: Tensor, grid: VoxelGrid) -> Tensor:
    """Computes a block's point branch, (V, C) -> (P, C)."""
    count, group = grid.groups
    sums = wide(f.new_zeros(count, f.shape[1])).index_add(0, group, wide(f))
    first, _, norm1, second, _, norm2, third, _ = block.pooled_mlp
    pooled = sums / torch.bincount(group)[:, None]
    for linear, norm in ((first, norm1), (second, norm2)):
        pooled = _norm(norm, F.leaky_relu(linear(pooled), 0.1))
    pooled = F.leaky_relu(third(pooled), 0.1)[group]
    identity = F.leaky_relu(block.identity(f), 0.1)
    both = torch.cat([identity[grid.inverse], pooled[grid.inverse]], dim=1)
    merged = F.leaky_relu(F.linear(both, block.merge.weight, block.merge.bias), 0.1)
    return block.output(merged)


def predict(network: Network3D, batch: Batch) -> Tensor:
    """Predicts the class of every point of the file, (N,) uint8, for a batch of one scan."""
    logits, _ = forward(network, geometry_of(network, batch))
    return (logits[:, 1:].argmax(dim=1) + 1)[batch.whole[0].donor].to(torch.uint8)


def standard_layout(network: Arch2DPASS) -> Arch2DPASS:
    """Copies a network; the image branch of the copy keeps its weights in the order that PyTorch starts from."""
    network = copy.deepcopy(network)
    for parameter in network.image_branch.parameters():
        parameter.data = parameter.data.contiguous()
    return network


def baseline_losses(network: Network3D, batch: Batch) -> dict[str, Tensor]:
    """Computes the losses of `Network3D.training_losses`."""
    logits, _ = forward(network, geometry_of(network, batch))
    losses = _point_losses(network, logits, batch)
    return {**losses, "loss": losses["loss_ce"] + losses["loss_lovasz"]}


def _point_losses(network: Network3D, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
    return {
        "loss_ce": _cross_entropy(logits, batch.labels, network.criterion.weights),
        "loss_lovasz": network.lambda_lovasz * lovasz_softmax(logits, batch.labels),
    }


def training_losses(network: Arch2DPASS, batch: Batch) -> dict[str, Tensor]:
    """Computes the losses of `Arch2DPASS.training_losses`."""
    network_3d, heads = network.network_3d, network.distillation
    branch = network.image_branch
    assert batch.images is not None and isinstance(branch, ImageBranch)
    geometry = geometry_of(network_3d, batch)
    logits, voxel_features = forward(network_3d, geometry)
    maps = _image_features(branch, branch.normalize(batch.images))
    weights = heads.criterion.weights
    losses = _point_losses(network_3d, logits, batch)
    losses["loss_3d"] = losses["loss_ce"] + losses["loss_lovasz"]
    visible = (batch.pixels >= 0).all(1)
    rows, (row, col), labels = batch.scan_ids[visible], batch.pixels[visible].unbind(1), batch.labels[visible]
    share = 1 / len(heads.scale_list)
    fused_features = []
    for i, (block, scale) in enumerate(zip(heads.blocks, heads.scale_list, strict=True)):
        assert isinstance(block, FusionBlock)
        grid = geometry.grids[heads.scale_list[i - 1] if i else 1]
        pure_3d = block.predict_3d(voxel_features[i])
        image_features = maps[scale].permute(0, 2, 3, 1)[rows, row, col]
        in_view = grid.inverse[visible]
        u = _fuse(block, voxel_features[i][in_view], image_features)
        fused = block.predict_fused(u)
        student, teacher = F.log_softmax(pure_3d[in_view].float(), 1), F.softmax(fused.float(), 1).detach()
        divergence = F.kl_div(student, teacher, reduction="none").mean()
        losses[f"loss_scale{scale}_{i}"] = (
            _segmentation_loss(pure_3d, _majority(grid, batch, heads.num_classes), weights)
            + share * heads.lambda_seg2d * _segmentation_loss(fused, labels, weights)
            + share * heads.lambda_xm * divergence
        )
        fused_features.append(u)
    losses["loss_fusion"] = _segmentation_loss(heads.classifier(torch.cat(fused_features, 1)), labels, weights)
    losses["loss"] = sum((v for k, v in losses.items() if k not in ("loss_ce", "loss_lovasz")), torch.zeros(()))
    return losses


def _image_features(branch: ImageBranch, images: Tensor) -> dict[int, Tensor]:
    """Computes the image features, scale -> (B, C, H, W), at the size of the images."""
    x = F.max_pool2d(F.relu(branch.bn1(branch.conv1(images))), 3, stride=2, padding=1)
    maps = {}
    for number, scale in enumerate(branch.scales, start=1):
        x = branch.get_submodule(f"layer{number}")(x)
        if str(scale) in branch.decoders:
            maps[scale] = F.interpolate(branch.decoders[str(scale)](x), images.shape[2:], mode="nearest")
    return maps


def _fuse(block: FusionBlock, g: Tensor, h: Tensor) -> Tensor:
    z = block.fuse(torch.cat([h, F.relu(block.learner(g))], dim=1))
    return F.relu(z * torch.sigmoid(block.gate(z)))


def _majority(grid: VoxelGrid, batch: Batch, num_classes: int) -> Tensor:
    """Finds the most frequent label of each voxel's points, (V,); of equally frequent ones the lowest.

    A past point has a vote if it has a label.
    """
    votes = torch.zeros(len(grid.coordinates), num_classes, dtype=torch.long)
    past = batch.points[:, 4] > 0 if batch.points.shape[1] > 4 else torch.zeros_like(batch.labels, dtype=torch.bool)
    rows = torch.nonzero(~(past & (batch.labels == 0)))[:, 0]
    votes.index_put_((grid.inverse[rows], batch.labels[rows]), torch.ones_like(rows), accumulate=True)
    return torch.from_numpy(votes.numpy().argmax(axis=1))


def _segmentation_loss(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    return _cross_entropy(logits, labels, weights) + lovasz_softmax(logits, labels)


def _cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    return nn.functional.cross_entropy(logits.float(), labels, weights, ignore_index=0)


def lovasz_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """Computes Lovasz-softmax (Berman et al., CVPR 2018) of (R, K) logits, class by class; label 0 is ignored."""
    counted = labels != 0
    probabilities, labels = logits[counted].float().softmax(1), labels[counted]
    losses = []
    for number in labels.unique():
        member = (labels == number).float()
        errors, order = (member - probabilities[:, number]).abs().sort(descending=True)
        member = member[order]
        intersection = member.sum() - member.cumsum(0)
        union = member.sum() + (1 - member).cumsum(0)
        jaccard = 1 - intersection / union
        losses.append((errors * torch.diff(jaccard, prepend=torch.zeros(1))).sum())
    return torch.stack(losses).mean()
