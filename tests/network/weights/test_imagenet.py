"""The file of ImageNet weights is downloaded once and checked every time."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from network.teachers.resnet34 import ImageBranch
from network.weights import imagenet
from tests.support.networks import refusal


@pytest.fixture
def branch() -> ImageBranch:
    return ImageBranch(4, (2, 4, 8, 16))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provides the path where the file is looked for."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints" / imagenet.NAME


def published(branch: ImageBranch) -> dict[str, Tensor]:
    """Makes weights like those of torchvision's file: without counters, with a classifier."""
    own = {name: tensor for name, tensor in branch.state_dict().items() if not name.startswith("decoders.")}
    weights = {name: torch.rand_like(tensor) for name, tensor in own.items() if tensor.dim()}
    return {**weights, "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}


def put(content: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves a file and makes its hash the expected one."""
    torch.save(content, place)
    monkeypatch.setattr(imagenet, "DIGEST", hashlib.sha256(place.read_bytes()).hexdigest()[:8])


def test_name_and_hash_are_torchvisions() -> None:
    assert imagenet.DIGEST == "b627a593" and imagenet.NAME == "resnet34-b627a593.pth"


@pytest.mark.parametrize("scales", [(2, 4, 8, 16), (2, 4)])
def test_weights_go_in_whole(branch, place, monkeypatch, scales) -> None:
    """The file has all stages, also where the network has fewer."""
    weights = published(branch)
    put(weights, place, monkeypatch)
    network = ImageBranch(4, scales)
    imagenet.load_imagenet_weights(network)
    state = network.state_dict()
    own = {name for name in state if not name.startswith("decoders.") and not name.endswith("num_batches_tracked")}
    assert own < weights.keys() and len(own) > 30
    assert all(torch.equal(state[name], weights[name]) for name in own)


def test_it_is_downloaded_once_and_its_hash_is_given(branch, place, monkeypatch) -> None:
    asked = []

    def download(url: str, path: str, digest: str) -> None:
        asked.append((url, Path(path), digest))
        torch.save(published(branch), path)

    torch.save(published(branch), place)
    monkeypatch.setattr(imagenet, "DIGEST", hashlib.sha256(place.read_bytes()).hexdigest()[:8])
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    imagenet.load_imagenet_weights(branch)
    assert not asked
    place.unlink()
    monkeypatch.setattr(imagenet, "DIGEST", "")
    imagenet.load_imagenet_weights(branch)
    assert asked == [(imagenet.URL, place, "")]


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><html></html>", b"PK\x03\x04"])
def test_another_file_in_the_cache_is_named(branch, place, content) -> None:
    place.write_bytes(content)
    message = refusal(imagenet.load_imagenet_weights, branch)
    assert message.startswith(f"{place}: not the ImageNet weights") and "remove it" in message


def test_what_is_no_file_is_named(branch, place) -> None:
    place.mkdir()
    assert str(place) in refusal(imagenet.load_imagenet_weights, branch)


@pytest.mark.parametrize("kind", ["list", "shapes", "foreign", "NaN", "incomplete"])
def test_a_file_of_that_hash_is_still_not_trusted(branch, place, monkeypatch, kind) -> None:
    """Eight digits of a hash can be found by trial and error."""
    weights = published(branch)
    content = {
        "list": list(weights.values()),
        "shapes": {name: tensor[..., :1] for name, tensor in weights.items()},
        "foreign": {"encoder.weight": torch.ones(3)},
        "NaN": {**weights, "conv1.weight": torch.full_like(weights["conv1.weight"], torch.nan)},
        "incomplete": {name: tensor for name, tensor in weights.items() if name != "conv1.weight"},
    }[kind]
    before = {name: tensor.clone() for name, tensor in branch.state_dict().items()}
    put(content, place, monkeypatch)
    assert refusal(imagenet.load_imagenet_weights, branch).startswith(str(place))
    assert all(torch.equal(tensor, before[name]) for name, tensor in branch.state_dict().items())


def test_without_a_network_it_says_what_to_do(branch, place, monkeypatch) -> None:
    def offline(*_) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    message = refusal(imagenet.load_imagenet_weights, branch)
    assert "no route to host" in message and imagenet.NAME in message and str(place.parent) in message
