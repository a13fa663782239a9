"""The published weights of DINOv2 and DINOv3, read into networks of transformers.

Only safetensors are read, never a pickle or code, and a network is built with the sizes that its name promises, after
the file agrees with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from logging import CRITICAL
from pathlib import Path
from typing import Any

import torch
from torch import nn

from network.teachers.foundation import FoundationEncoder
from network.teachers.published import (
    FOUNDATIONS,
    MOST_OF_CONFIG,
    Foundation,
    find_weights,
    no_transformers,
    other_model,
    unreadable,
)
from utils.files import require_regular, sha256_of

_SLACK = 1.25  # by which a file may be larger than the parameters in fp32
_UNUSED = ("mask_token",)  # ends of names of tensors that features do not depend on: a file may lack them
_FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_DIGITS = 16  # of the digest


def load_encoder(name: str) -> FoundationEncoder:
    """Loads a published model from the hub's cache, and downloads it first if the cache does not have it.

    Args:
        name: one of `FOUNDATIONS`.

    Raises:
        UserError: transformers is not installed, the files cannot be had, or they are not those of the model.
    """
    foundation, weights = FOUNDATIONS[name], find_weights(name)
    kinds = _classes(name, foundation)
    with torch.random.fork_rng(devices=[]), _quiet():  # what is drawn later must not depend on this
        model = _read_model(*kinds, weights, name, foundation)
    identity = f"{name} sha256:{sha256_of(weights)[:_DIGITS]}"
    return FoundationEncoder(model, foundation.patch_size, foundation.num_registers, identity)


def _classes(name: str, foundation: Foundation) -> tuple[type[Any], type[Any]]:
    """Imports the classes of the config and of the network of a model.

    From their own modules: `transformers` itself names every model, which a type checker reads for twenty seconds.
    """
    try:
        if foundation.family == "dinov2":
            from transformers.models.dinov2.configuration_dinov2 import Dinov2Config
            from transformers.models.dinov2.modeling_dinov2 import Dinov2Model

            return Dinov2Config, Dinov2Model
        from transformers.models.dinov3_vit.configuration_dinov3_vit import DINOv3ViTConfig
        from transformers.models.dinov3_vit.modeling_dinov3_vit import DINOv3ViTModel

        return DINOv3ViTConfig, DINOv3ViTModel
    except ImportError as error:
        raise no_transformers(name, str(error)) from None


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
        if (size := path.stat().st_size) > _SLACK * 4 * count + MOST_OF_CONFIG:
            raise other_model(path, name, f"has {size} bytes for {count} parameters")
        state = load_file(path)
    except (SafetensorError, ValueError) as error:
        raise other_model(path, name, f"is damaged ({str(error)[:80]})") from None
    except OSError as error:
        raise unreadable(path, error) from None
    if odd := [key for key, tensor in state.items() if tensor.dtype not in _FLOATS or not tensor.isfinite().all()]:
        raise other_model(path, name, f"tensor {odd[0][:80]!r} is no fp32, bf16 or fp16, or holds NaN or inf")
    try:
        model, about = model_class.from_pretrained(
            None, config=config, state_dict=state, dtype=torch.float32, output_loading_info=True
        )
    except (RuntimeError, ValueError):
        raise other_model(path, name, "has tensors of other shapes") from None
    if lacking := [key for key in sorted(about["missing_keys"]) if not key.endswith(_UNUSED)]:
        raise other_model(path, name, f"has no tensor {lacking[0]}")
    return model
