"""Published weights of vision transformers: found in the hub's cache, checked, and refused in one line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from network.assemble import build_network
from network.models.network_3d import Network3D
from network.teachers.foundation_weights import load_encoder
from network.teachers.published import CONFIG, WEIGHTS
from network.weights.widening import load_to_fine_tune
from tests.support.foundations import TINY, Hub, make_model
from tests.support.networks import golden_config, refusal
from utils.results.run_settings import TEACHER

NAME = "dinov2-small"


def _pair(layer: str) -> tuple[str, str]:
    return f"{layer}.weight", f"{layer}.bias"


@pytest.mark.parametrize("name", TINY)
def test_what_the_cache_has_is_loaded_with_its_digest(name, hub: Hub) -> None:
    model = make_model(name)
    folder = hub.add(name, model)
    torch.manual_seed(7)
    encoder = load_encoder(name)
    drawn = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(drawn, torch.rand(3))  # what is drawn after the loading is what would be drawn without it
    found = encoder.model.state_dict()
    assert all(torch.equal(found[key], tensor) for key, tensor in model.state_dict().items())
    assert all(tensor.dtype == torch.float32 for tensor in found.values())
    assert not encoder.model.training and encoder.dimensions == 16
    digest = os.popen(f"sha256sum {folder / WEIGHTS}").read()[:16]
    assert encoder.identity == f"{name} sha256:{digest}"
    patch, registers = (14, 0) if name == NAME else (16, 4)
    assert (encoder.patch_size, encoder._first_patch) == (patch, 1 + registers)


PUBLISHED = {
    "dinov2-small": {
        "embeddings": ("cls_token", "mask_token", "position_embeddings", *_pair("patch_embeddings.projection")),
        "encoder.layer.{}": (
            *(name for part in ("query", "key", "value") for name in _pair(f"attention.attention.{part}")),
            *(
                name
                for part in ("attention.output.dense", "mlp.fc1", "mlp.fc2", "norm1", "norm2")
                for name in _pair(part)
            ),
            "layer_scale1.lambda1",
            "layer_scale2.lambda1",
        ),
        "layernorm": ("weight", "bias"),
    },
    "dinov3-vits16": {
        "embeddings": ("cls_token", "mask_token", "register_tokens", *_pair("patch_embeddings")),
        "layer.{}": (
            *(name for part in ("q_proj", "v_proj", "o_proj") for name in _pair(f"attention.{part}")),
            "attention.k_proj.weight",
            *(name for part in ("mlp.up_proj", "mlp.down_proj", "norm1", "norm2") for name in _pair(part)),
            "layer_scale1.lambda1",
            "layer_scale2.lambda1",
        ),
        "norm": ("weight", "bias"),
    },
}
"""Names of tensors of the published files, of which transformers has other ones by now: prefix -> rest."""


@pytest.mark.parametrize("name", TINY)
def test_the_files_of_these_tests_name_tensors_as_published(name, hub: Hub) -> None:
    wanted = {
        f"{prefix.format(layer)}.{rest}"
        for prefix, names in PUBLISHED[name].items()
        for layer in range(2 if "{}" in prefix else 1)
        for rest in names
    }
    assert load_file(hub.add(name) / WEIGHTS).keys() == wanted


def test_what_is_missing_is_said_with_where_to_put_it(hub: Hub, monkeypatch) -> None:
    line = refusal(load_encoder, NAME)
    assert line.startswith("model_params.backbone_2d dinov2-small: facebook/dinov2-small is not in ")
    for words in (str(hub.folder), "HF_HUB_OFFLINE is set", "models--facebook--dinov2-small", "HF_HOME"):
        assert words in line
    assert "hf download facebook/dinov2-small config.json model.safetensors" in line and "licence" not in line
    assert "accept the licence on https://huggingface.co/facebook/dinov3-vits16" in refusal(
        load_encoder, "dinov3-vits16"
    )
    monkeypatch.setitem(sys.modules, "transformers", None)
    line = refusal(load_encoder, NAME)
    assert "transformers is not installed" in line and "model_params.backbone_2d=resnet34" in line


def _change_config(folder: Path, **values: object) -> None:
    found = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(found | values))


def _change_weights(folder: Path, function) -> None:
    state = load_file(folder / WEIGHTS)
    function(state)
    save_file(state, folder / WEIGHTS)


def _cut(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def _grow(folder: Path) -> None:
    with open(folder / WEIGHTS, "r+b") as file:
        file.truncate(1 << 40)  # takes no room on the disk


SPOILED = {
    "another width": (lambda folder: _change_config(folder, hidden_size=10**9), "hidden_size is '1000000000', not 16"),
    "a text": (lambda folder: _change_config(folder, patch_size="14"), "patch_size is '14', not 14"),
    "many layers": (lambda folder: _change_config(folder, num_hidden_layers=3), "num_hidden_layers is '3', not 2"),
    "another model": (lambda folder: _change_config(folder, model_type="dinov3_vit"), "model_type is 'dinov3_vit'"),
    "no JSON": (lambda folder: (folder / CONFIG).write_text("[" * 10**5), "is no config of a model"),
    "a list": (lambda folder: (folder / CONFIG).write_text("[]"), "is no config of a model"),
    "half a file": (_cut, "is damaged"),
    "a terabyte": (_grow, "bytes for"),
    "a pickle": (lambda folder: torch.save({}, folder / WEIGHTS), "is damaged"),
    "no bias": (lambda folder: _change_weights(folder, lambda s: s.pop("layernorm.bias")), "has no tensor layernorm."),
    "NaN": (lambda folder: _change_weights(folder, lambda s: s["layernorm.bias"].fill_(torch.nan)), "or holds NaN"),
    "another shape": (
        lambda folder: _change_weights(folder, lambda s: s.update({"layernorm.bias": torch.zeros(8)})),
        "has tensors of other shapes",
    ),
    "whole numbers": (
        lambda folder: _change_weights(
            folder, lambda s: s.update({"layernorm.bias": torch.zeros(16, dtype=torch.int8)})
        ),
        "is no fp32",
    ),
    "numbers of 8 bits": (
        lambda folder: _change_weights(
            folder, lambda s: s.update({"layernorm.bias": torch.zeros(16).to(torch.float8_e4m3fn)})
        ),
        "is no fp32",
    ),
}


@pytest.mark.parametrize("spoil", SPOILED)
def test_files_of_another_model_are_refused(spoil, hub: Hub) -> None:
    change, words = SPOILED[spoil]
    change(hub.add(NAME))
    line = refusal(load_encoder, NAME)
    assert "not the published dinov2-small" in line and words in line
    assert line.partition(": ")[0].endswith((CONFIG, WEIGHTS)) and "models--facebook--dinov2-small" in line


def test_only_a_training_with_a_teacher_loads_it(hub: Hub, monkeypatch) -> None:
    config = golden_config(f"model_params.backbone_2d={NAME}")
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert isinstance(build_network(config, baseline_only=True), Network3D)
    assert "transformers" in refusal(build_network, config)
    monkeypatch.undo()


def test_fine_tuning_with_another_teacher_starts_the_image_branch_new(hub: Hub) -> None:
    """The heads of two models have the same shapes here; only the digest tells them apart."""
    hub.add(NAME)
    hub.add("dinov3-vits16")
    first, second = (build_network(golden_config(f"model_params.backbone_2d={name}")) for name in TINY)
    content: dict[str, Any] = {
        "state_dict": first.state_dict(),
        "2dpass": {"settings": {TEACHER: first.teacher_weights()}},
    }
    new = {name: tensor.clone() for name, tensor in second.state_dict().items() if name.startswith("image_branch.")}
    (line,) = load_to_fine_tune(second, content, "x.ckpt", ["class"] * 20)
    assert line.startswith("new teacher, dinov3-vits16 sha256:") and "in place of 'dinov2-small sha256:" in line
    for name, tensor in second.state_dict().items():
        assert torch.equal(tensor, new.get(name, first.state_dict()[name])), name
    assert load_to_fine_tune(first, content, "x.ckpt", ["class"] * 20) == ()
