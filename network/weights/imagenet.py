"""ResNet-34's ImageNet weights, as torchvision publishes them."""

from __future__ import annotations

from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor, nn

from network.weights.loading import canonical_state, check_fit
from network.weights.reading import read_checkpoint
from utils.errors import UserError
from utils.files import sha256_of

URL = "https://download.pytorch.org/models/resnet34-b627a593.pth"
NAME = URL.rpartition("/")[2]
DIGEST = NAME.removesuffix(".pth").rpartition("-")[2]  # how the SHA-256 of the file begins


def load_imagenet_weights(network: nn.Module) -> None:
    """Give a ResNet-34 its ImageNet weights, downloading them into torch.hub's folder where they are not there yet.

    Args:
        network: with the parameters of torchvision's ResNet-34, but for the classifier; its `decoders` keep theirs.

    Raises:
        UserError: the weights cannot be downloaded, or the file there is another one.
    """
    own = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("decoders.")}
    network.load_state_dict(read_imagenet_weights(own), strict=False)


def read_imagenet_weights(wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read the weights, downloading them into torch.hub's folder where they are not there yet.

    Args:
        wanted: the tensors of the network, by torchvision's names; all but the counters of BatchNorm have to be there.

    Returns:
        Those of the file, without its classifier.

    Raises:
        UserError: they cannot be downloaded, or the file there is another one.
    """
    path = _find()
    state = canonical_state(read_checkpoint(path), path)
    state = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    # The file is of a time when BatchNorm did not count its batches.
    counters = {name: tensor for name, tensor in wanted.items() if name.endswith("num_batches_tracked")}
    check_fit(wanted, counters | state, path)
    return state


def _find() -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / NAME
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(URL, str(path), DIGEST)
        except (OSError, RuntimeError, HTTPException) as error:
            raise UserError(
                f"model_params.pretrained2d: the ImageNet weights could not be downloaded ({error}); "
                f"put {NAME} into {path.parent}, or set it to false"
            ) from None
    try:
        found = sha256_of(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); see to the file and its permissions") from None
    if not found.startswith(DIGEST):
        raise UserError(
            f"{path}: not the ImageNet weights of that name (its SHA-256 begins with {found[:8]}, not {DIGEST}); "
            "remove it, and they are downloaded again, or set model_params.pretrained2d to false"
        )
    return path
