"""Small made-up batches and networks for the tests of network/."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from network.models.losses import SegmentationLoss
from network.models.network_3d import Network3D
from network.sparse import torch_backend
from utils.config.loading import load_config
from utils.config.schema import Config
from utils.errors import UserError
from utils.scan.records import Batch
from utils.scan.volume import Volume

CONFIG = Path(__file__).resolve().parents[2] / "config" / "2DPASS-semantickitti.yaml"

# Voxels of about 10 cm. In z no scale nests in the next: 17, 9, 5, 3 and 2 cells.
VOLUME = Volume((-2.0, -2.0, -1.0), (2.0, 2.0, 0.5), (40, 40, 17))
CLASSES = 5


def make_batch(
    lengths: Sequence[int] = (60, 40), seed: int = 0, spread: float = 0.6, image: tuple[int, int] | None = None
) -> Batch:
    """Makes clustered points, a few of them outside the volume; with `image` (H, W) about half of them have a pixel."""
    generator = torch.Generator().manual_seed(seed)
    total = sum(lengths)
    xyz = spread * torch.randn(total, 3, generator=generator)
    pixels = torch.full((total, 2), -1)
    images = None
    if image is not None:
        images = torch.randn(len(lengths), 3, *image, generator=generator)
        seen = torch.rand(total, generator=generator) < 0.5
        pixels = torch.stack([torch.randint(size, (total,), generator=generator) for size in image], dim=1)
        pixels[~seen] = -1
    return Batch(
        points=torch.cat([xyz, torch.rand(total, 1, generator=generator)], dim=1),
        scan_ids=torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)),
        labels=torch.randint(CLASSES, (total,), generator=generator),
        pixels=pixels,
        visible=torch.nonzero(pixels[:, 0] >= 0)[:, 0],
        images=images,
        lengths=tuple(lengths),
    )


def with_ages(batch: Batch) -> Batch:
    """Returns the batch with the age of each point: of each scan, the first half is its own, the rest past.

    Past points have no pixel; about half of them have no label.
    """
    past = torch.cat([torch.arange(length) >= (length + 1) // 2 for length in batch.lengths])
    generator = torch.Generator().manual_seed(0)
    ages = torch.randint(1, 4, (len(past),), generator=generator) * past
    kept = ~past | (torch.rand(len(past), generator=generator) < 0.5)
    pixels = torch.where(past[:, None], -1, batch.pixels)
    return replace(
        batch,
        points=torch.cat([batch.points, ages[:, None].float()], dim=1),
        labels=batch.labels * kept,
        pixels=pixels,
        visible=torch.nonzero(pixels[:, 0] >= 0)[:, 0],
    )


def make_network_3d(
    scale_list: Sequence[int] = (2, 4, 8), channels: int = 6, seed: int = 0, input_dims: int = 4
) -> Network3D:
    """Builds a tiny 3D network whose BatchNorms have random weights and statistics."""
    torch.manual_seed(seed)
    network = Network3D(
        VOLUME, scale_list, channels, CLASSES, torch_backend.BACKEND, SegmentationLoss(None), 0.1, input_dims
    )
    randomize_norms(network)
    return network


def randomize_norms(network: nn.Module) -> None:
    """Draws affine weights and running statistics of all BatchNorms, as after some training."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.weight, 1.0, 0.2)
            nn.init.normal_(module.bias, 0.0, 0.2)
            nn.init.normal_(module.running_mean, 0.0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Computes the largest deviation, relative to the largest expected value."""
    assert found.shape == expected.shape
    if expected.numel() == 0:
        return 0.0
    found, expected = found.detach().double(), expected.detach().double()
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))


def golden_config(*overrides: str) -> Config:
    """Loads the config of the golden SemanticKITTI checkpoint, which has 16 channels."""
    return load_config(CONFIG, ["model_params.hiden_size=16", *overrides])


def refusal(function: Callable[..., Any], *arguments: Any) -> str:
    """Returns the one line with which a call is refused."""
    with pytest.raises(UserError) as caught:
        function(*arguments)
    message = str(caught.value)
    assert "\n" not in message and "Traceback" not in message
    assert len(message) < 700
    return message
