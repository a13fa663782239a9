"""The published DINOv2 and DINOv3: which repository of the hub has them. Neither torch nor transformers is needed here.

What comes from the hub is not trusted: only `config.json`, as values to compare, and `model.safetensors` are read.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

from network.teachers.hub import find
from utils.errors import UserError
from utils.files import read_text, require_regular

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MOST_OF_CONFIG = 1 << 20  # bytes


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


def find_weights(name: str) -> Path:
    """Finds the weights of a published model in the hub's cache, and downloads them first if they are not there.

    Args:
        name: one of `FOUNDATIONS`.

    Raises:
        UserError: transformers is not installed, the files cannot be had, or their config.json is another model's.
    """
    foundation = FOUNDATIONS[name]
    if importlib.util.find_spec("transformers") is None:
        raise no_transformers(name)
    key = f"model_params.backbone_2d {name}"
    config, weights = find(key, foundation.repository, (CONFIG, WEIGHTS), foundation.gated)
    _check_config(config, name, foundation)
    return weights


def _check_config(path: Path, name: str, foundation: Foundation) -> None:
    try:
        require_regular(path)
        if path.stat().st_size > MOST_OF_CONFIG:
            raise ValueError
        found = json.loads(read_text(path))
        if not isinstance(found, dict):
            raise ValueError
    except (ValueError, RecursionError):
        raise other_model(path, name, "is no config of a model") from None
    except OSError as error:
        raise unreadable(path, error) from None
    for key, wanted in {"model_type": foundation.family, **foundation.sizes}.items():
        value = found.get(key)
        if type(value) is not type(wanted) or value != wanted:
            raise other_model(path, name, f"{key} is {str(value)[:40]!r}, not {wanted!r}")


def no_transformers(name: str, reason: str = "") -> UserError:
    """Makes the error about a model whose library is missing, or too old, which `reason` tells then."""
    fault = f"or too old for it ({reason})" if reason else "which it needs"
    return UserError(
        f"model_params.backbone_2d {name}: transformers is not installed, {fault}; pip install the version that "
        "requirements.txt names, or set model_params.backbone_2d=resnet34"
    )


def other_model(path: Path, name: str, problem: str) -> UserError:
    """Makes the error about a file that is not of the model of that name."""
    repository = FOUNDATIONS[name].repository
    return UserError(
        f"{path}: not the published {name}: {problem}; remove the folder models--{repository.replace('/', '--')} from "
        f"the hub's cache, and get {repository} again"
    )


def unreadable(path: Path, error: OSError) -> UserError:
    """Makes the error about a file that is there and cannot be read."""
    return UserError(f"{path}: cannot be read ({error.strerror}); see to the file and its permissions")
