"""The published weights of DINOv2 and DINOv3: which repository of the hub has them, and how they are read.

What comes from there is not trusted. Only `config.json`, as numbers to compare, and `model.safetensors` are read, never
a pickle or code, and a network is built with the sizes that its name promises here, after the files agree with them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging import CRITICAL
from pathlib import Path
from typing import Any

import torch
from torch import nn

from network.teachers.foundation import FoundationEncoder
from network.teachers.hub import find
from utils.errors import UserError
from utils.files import read_text, require_regular, sha256_of

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_MOST_OF_CONFIG = 1 << 20  # bytes
_SLACK = 1.25  # by which a file may be larger than the parameters in fp32
_UNUSED = ("mask_token",)  # ends of names of tensors that features do not depend on: a file may lack them
_DIGITS = 16  # of the digest


@dataclass(frozen=True)
class Foundation:
    """A frozen record of a published vision transformer.

    Attributes:
        repository: its name on the hub.
        family: `model_type` of its config.json: "dinov2" or "dinov3_vit".
        sizes: the values of its config.json on which the shapes of its tensors depend.
        gated: whether the hub gives it only to those who have accepted its licence.
    """

    repository: str
    family: str
    sizes: dict[str, int | bool]
    gated: bool = False

    @property
    def patch_size(self) -> int:
        """Edge of a patch, pixels."""
        return self.sizes["patch_size"]

    @property
    def num_registers(self) -> int:
        """The number of tokens between the class token and those of the patches."""
        return self.sizes.get("num_register_tokens", 0)


def _dinov2(size: str, width: int, layers: int, heads: int) -> Foundation:
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    more = {"patch_size": 14, "image_size": 518, "mlp_ratio": 4, "num_channels": 3, "use_swiglu_ffn": False}
    return Foundation(f"facebook/dinov2-{size}", "dinov2", sizes | more)


def _dinov3(size: str, width: int, layers: int, heads: int) -> Foundation:
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    more = {"patch_size": 16, "num_register_tokens": 4, "intermediate_size": 4 * width, "num_channels": 3}
    return Foundation(f"facebook/dinov3-{size}-pretrain-lvd1689m", "dinov3_vit", sizes | more, gated=True)


FOUNDATIONS = {
    "dinov2-small": _dinov2("small", 384, 12, 6),
    "dinov2-base": _dinov2("base", 768, 12, 12),
    "dinov2-large": _dinov2("large", 1024, 24, 16),
    "dinov3-vits16": _dinov3("vits16", 384, 12, 6),
    "dinov3-vitb16": _dinov3("vitb16", 768, 12, 12),
    "dinov3-vitl16": _dinov3("vitl16", 1024, 24, 16),
}
"""By the value of `model_params.backbone_2d`."""


def load_encoder(name: str) -> FoundationEncoder:
    """Loads a published model from the hub's cache, and downloads it first if the cache does not have it.

    Args:
        name: one of `FOUNDATIONS`.

    Raises:
        UserError: transformers is not installed, the files cannot be had, or they are not those of the model.
    """
    foundation = FOUNDATIONS[name]
    kinds = _classes(name, foundation)
    key = f"model_params.backbone_2d {name}"
    config, weights = find(key, foundation.repository, (CONFIG, WEIGHTS), foundation.gated)
    _check_config(config, name, foundation)
    with torch.random.fork_rng(devices=[]), _quiet():  # what is drawn later must not depend on this
        model = _read_model(*kinds, weights, name, foundation)
    identity = f"{name} sha256:{sha256_of(weights)[:_DIGITS]}"
    return FoundationEncoder(model, foundation.patch_size, foundation.num_registers, identity)


def _classes(name: str, foundation: Foundation) -> tuple[type[Any], type[Any]]:
    """Imports the classes of the config and of the network of a model."""
    try:
        if foundation.family == "dinov2":
            from transformers import Dinov2Config, Dinov2Model

            return Dinov2Config, Dinov2Model
        from transformers import DINOv3ViTConfig, DINOv3ViTModel

        return DINOv3ViTConfig, DINOv3ViTModel
    except ImportError as error:
        raise UserError(
            f"model_params.backbone_2d {name}: transformers is not installed, or too old for it ({error}); pip install "
            "the version that requirements.txt names, or set model_params.backbone_2d=resnet34"
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps transformers from writing progress bars and reports of its own."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _check_config(path: Path, name: str, foundation: Foundation) -> None:
    try:
        require_regular(path)
        if path.stat().st_size > _MOST_OF_CONFIG:
            raise ValueError
        found = json.loads(read_text(path))
        if not isinstance(found, dict):
            raise ValueError
    except (ValueError, RecursionError):
        raise _other(path, name, foundation, "is no config of a model") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    for key, wanted in {"model_type": foundation.family, **foundation.sizes}.items():
        value = found.get(key)
        if type(value) is not type(wanted) or value != wanted:
            raise _other(path, name, foundation, f"{key} is {str(value)[:40]!r}, not {wanted!r}")


def _read_model(
    config_class: type[Any], model_class: type[Any], path: Path, name: str, foundation: Foundation
) -> nn.Module:
    """Reads the weights into a network of the sizes that its name promises."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = config_class(**foundation.sizes)
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in model_class(config).parameters())
    try:
        require_regular(path)
        if (size := path.stat().st_size) > _SLACK * 4 * count + _MOST_OF_CONFIG:
            raise _other(path, name, foundation, f"has {size} bytes for {count} parameters")
        state = load_file(path)
    except (SafetensorError, ValueError) as error:
        raise _other(path, name, foundation, f"is damaged ({str(error)[:80]})") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    if odd := [key for key, tensor in state.items() if not tensor.is_floating_point() or not tensor.isfinite().all()]:
        raise _other(path, name, foundation, f"tensor {odd[0][:80]!r} holds NaN, inf or whole numbers")
    try:
        model, about = model_class.from_pretrained(
            None, config=config, state_dict=state, dtype=torch.float32, output_loading_info=True
        )
    except (RuntimeError, ValueError):
        raise _other(path, name, foundation, "has tensors of other shapes") from None
    if lacking := [key for key in sorted(about["missing_keys"]) if not key.endswith(_UNUSED)]:
        raise _other(path, name, foundation, f"has no tensor {lacking[0]}")
    return model


def _other(path: Path, name: str, foundation: Foundation, problem: str) -> UserError:
    return UserError(
        f"{path}: not the published {name}: {problem}; remove the folder models--"
        f"{foundation.repository.replace('/', '--')} from the hub's cache, and get {foundation.repository} again"
    )


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path}: cannot be read ({error.strerror}); see to the file and its permissions")
