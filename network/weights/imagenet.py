"""The ImageNet weights of ResNet-34, as torchvision publishes them."""

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
DIGEST = NAME.removesuffix(".pth").rpartition("-")[2]  # the first digits of the SHA-256 of the file


def load_imagenet_weights(network: nn.Module) -> None:
    """Loads the ImageNet weights into a ResNet-34, and downloads them first if torch.hub's folder has none.

    Args:
        network: has the parameters of torchvision's ResNet-34 except the classifier; its `decoders` do not change.

    Raises:
        UserError: the weights cannot be downloaded, or the file there is another one.
    """
    own = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("decoders.")}
    network.load_state_dict(read_imagenet_weights(own), strict=False)


def read_imagenet_weights(wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Reads the weights, and downloads them first if torch.hub's folder has none.

    Args:
        wanted: tensors of the network, by torchvision's names, of all stages of ResNet-34 or the first of them; the
            file must have all but the counters of BatchNorm.

    Returns:
        Those tensors of the file by name.

    Raises:
        UserError: they cannot be downloaded, or the file there is another one.
    """
    path = _find()
    state = canonical_state(read_checkpoint(path), path)
    state = {name: tensor for name, tensor in state.items() if name in wanted}
    # The file was written when BatchNorm did not count its batches yet.
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
