"""Tiny random vision transformers of the real classes under the names of published ones, in a hub's cache of their
own, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from network.teachers.published import CONFIG, FOUNDATIONS, WEIGHTS, Foundation

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
TINY = {
    "dinov2-small": FOUNDATIONS["dinov2-small"].sizes | SIZES | {"image_size": 42},
    "dinov3-vits16": FOUNDATIONS["dinov3-vits16"].sizes | SIZES | {"intermediate_size": 32},
}
"""Values of a config.json by the name of the model."""


def make_model(name: str, seed: int = 0, **sizes: int) -> nn.Module:
    """Makes a random model of the real class whose features differ from patch to patch."""
    from transformers.models.dinov2.configuration_dinov2 import Dinov2Config
    from transformers.models.dinov2.modeling_dinov2 import Dinov2Model
    from transformers.models.dinov3_vit.configuration_dinov3_vit import DINOv3ViTConfig
    from transformers.models.dinov3_vit.modeling_dinov3_vit import DINOv3ViTModel

    torch.manual_seed(seed)
    values: dict[str, Any] = {**TINY[name], "initializer_range": 0.2, **sizes}
    if name.startswith("dinov2"):
        return Dinov2Model(Dinov2Config(**values))
    return DINOv3ViTModel(DINOv3ViTConfig(**values))


class Hub:
    """A hub's cache that has tiny models under the names of published ones; nothing is asked of a network.

    Args:
        folder: an empty folder.
        monkeypatch: undoes all at the end of a test.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from huggingface_hub import constants

        self.folder = folder
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        for name, sizes in TINY.items():
            known = FOUNDATIONS[name]
            tiny = Foundation(known.repository, known.family, sizes, known.gated)
            monkeypatch.setitem(FOUNDATIONS, name, tiny)

    def add(self, name: str, model: nn.Module | None = None) -> Path:
        """Writes a model as the hub's library keeps it; returns the folder of its files."""
        place = self.folder / f"models--{FOUNDATIONS[name].repository.replace('/', '--')}"
        files = place / "snapshots" / ("0" * 40)
        (place / "refs").mkdir(parents=True, exist_ok=True)
        (place / "refs" / "main").write_text("0" * 40)
        (model or make_model(name)).save_pretrained(files)  # type: ignore[operator]
        assert {CONFIG, WEIGHTS} <= {file.name for file in files.iterdir()}
        return files


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Makes a hub's cache in a folder of the test, with no model in it."""
    return Hub(tmp_path / "hub", monkeypatch)
