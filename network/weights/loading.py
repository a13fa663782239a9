"""Reading checkpoints, ours and published ones, as the untrusted input they are.

They are read with torch's weights-only unpickler. Of the classes that Lightning 1.3 wrote beside the weights, a fixed
list is let through as inert stand-ins; anything else in the pickle, above all anything callable, is refused.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from network.weights.released import is_released, translate
from network.segmentation_network import SegmentationNetwork
from utils.config import TrainParams
from utils.errors import UserError


class _StandIn:
    """Takes the place of a foreign class in a pickle: holds what was stored and can do nothing."""

    def __init__(self, *arguments: Any) -> None:
        self.stored: Any = arguments

    def __setstate__(self, state: Any) -> None:
        self.stored = state


_FOREIGN_RECORDS = (  # dicts with attributes; an OrderedDict can take their entries, no other subclass of dict may
    "easydict.EasyDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)
_FOREIGN_CLASSES = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
    "pytorch_lightning.callbacks.lr_monitor.LearningRateMonitor",
    "pytorch_lightning.callbacks.swa.StochasticWeightAveraging",
    "argparse.Namespace",
    "pathlib.PosixPath",
)
# How torch's unpickler names what it refuses: a global, or else the class or function it would have had to use.
_CULPRIT = re.compile(r"GLOBAL (\S+) (?:was|whose)|but got <class '(\S+)'>|unrecognized function (<[^>]*>)")


def _allowed() -> list[Any]:
    scalar = np.dtype(np.float64).type(0).__reduce__()[0]  # what numpy scalars are rebuilt with
    number_types = [type(np.dtype(t)) for t in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    return [
        *((OrderedDict, name) for name in _FOREIGN_RECORDS),
        *((_StandIn, name) for name in _FOREIGN_CLASSES),
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *number_types,
    ]


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint file, on the CPU, without running any code in it.

    Raises:
        UserError: no such file, not a checkpoint, truncated, or it holds something other than weights and settings.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such checkpoint file; give the path of a .ckpt file to --checkpoint")
    try:
        with torch.serialization.safe_globals(_allowed()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the unpickler thinks of the pickle; the error below is enough
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can make the unpickler fail in any way
        refused = _CULPRIT.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if refused is None:
            raise UserError(f"{path}: not a checkpoint file, or a damaged one; download or copy it again") from None
        raise UserError(
            f"{path}: refused, it holds more than weights and settings ({refused[refused.lastindex or 0]}), which "
            "could run code; use a checkpoint from a source you trust, saved as a state dict"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, not a checkpoint")
    return content


def canonical_state(content: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    """The network's tensors of a checkpoint, whoever wrote it, under our names (those of `Arch2DPASS` in full, also if
    only its 3D network was stored).

    Raises:
        UserError: there are none.
    """
    state = content.get("state_dict", content)
    entries = state.items() if isinstance(state, Mapping) else ()
    tensors = {k: v for k, v in entries if isinstance(k, str) and isinstance(v, Tensor) and v.layout == torch.strided}
    if not tensors:
        raise UserError(f"{path}: holds no weights (no state_dict); is it a checkpoint?")
    if is_released(tensors):
        return translate(tensors, path)
    tensors = {k.removeprefix("network."): v for k, v in tensors.items()}
    if _is_baseline(tensors):
        return {f"network_3d.{k}": v for k, v in tensors.items()}
    return tensors


def _is_baseline(names: Iterable[str]) -> bool:
    """Whether these are the tensors of 2DPASS's 3D network alone."""
    return any(name.startswith("encoder.") for name in names)


def has_image_branch(content: Mapping[str, Any], path: str | Path) -> bool:
    """Whether the network of a checkpoint was trained with camera images."""
    return any(name.startswith("image_branch.") for name in canonical_state(content, path))


# Settings that must not change within a training; the number of epochs may.
FIXED_ON_RESUME = (
    "optimizer", "lr_scheduler", "learning_rate", "momentum", "nesterov", "weight_decay", "decay_step", "decay_rate",
)  # fmt: skip


def is_resumable(content: Mapping[str, Any]) -> bool:
    """Whether training can continue from it exactly: our own checkpoint, optimiser included."""
    ours, optimizers = content.get("2dpass"), content.get("optimizer_states")
    return (
        isinstance(ours, Mapping)
        and isinstance(ours.get("train_params"), Mapping)
        and isinstance(optimizers, list)
        and len(optimizers) == 1
        and isinstance(content.get("epoch"), int)
        and "pytorch-lightning_version" in content
    )


def check_geometry(network: SegmentationNetwork, content: Mapping[str, Any], path: str | Path) -> None:
    """Refuse weights that were trained with other voxels than the network has, where the checkpoint says with which.

    Raises:
        UserError: they differ; says in what.
    """
    ours = content.get("2dpass")
    before = ours.get("geometry") if isinstance(ours, Mapping) else None
    if not isinstance(before, Mapping):
        return  # a published checkpoint does not say
    now = network.geometry()
    changed = [f"{key} was {_plain(before[key])}, is {_plain(value)}" for key, value in now.items()
               if key in before and list(before[key]) != value]  # fmt: skip
    if changed:
        raise UserError(f"{path}: was trained with other voxels: {'; '.join(changed)}; give the config of its training")


def _plain(value: list[float]) -> str:
    """A list as the config has it, one number as itself."""
    return ", ".join(f"{number:g}" for number in value)


def check_resumable(
    network: SegmentationNetwork, content: Mapping[str, Any], training: TrainParams, path: str | Path
) -> None:
    """Refuse to continue a training with another network or other settings than it was begun with.

    Raises:
        UserError: they differ; says in what.
    """
    names = {f"network.{name}" for name in network.state_dict()}
    if names != set(content["state_dict"]):
        raise UserError(
            f"{path}: was trained with another network (with or without --baseline_only); resume with the same, "
            "or start anew from its weights with --fine_tune"
        )
    check_geometry(network, content, path)
    before = content["2dpass"]["train_params"]
    changed = [f"{key} was {before.get(key)}, is {getattr(training, key)}" for key in FIXED_ON_RESUME
               if before.get(key) != getattr(training, key)]  # fmt: skip
    if changed:
        raise UserError(
            f"{path}: train_params changed since: {'; '.join(changed)}; resume with the same, "
            "or start anew from its weights with --fine_tune"
        )


def load_weights(network: nn.Module, content: Mapping[str, Any], path: str | Path) -> None:
    """Put a checkpoint's weights into a network, all or nothing.

    Args:
        network: any network; a `Baseline` takes the 3D part of an `Arch2DPASS` checkpoint.
        content: from `read_checkpoint`.
        path: for error messages.

    Raises:
        UserError: tensors are missing, left over or of another shape; says which.
    """
    state = canonical_state(content, path)
    own = network.state_dict()
    if _is_baseline(own):
        prefix = "network_3d."
        state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    _compare(own, state, path)
    network.load_state_dict(state, strict=False)


def load_image_branch(network: nn.Module, content: Mapping[str, Any], path: str | Path) -> str:
    """Take the tensors of the 2D branch that fit (--pretrain2d), from a 2DPASS or a torchvision ResNet-34 checkpoint.

    Returns:
        One line that says what was taken.

    Raises:
        UserError: the network has no 2D branch, or nothing fits.
    """
    prefix = "image_branch."
    own = {k: v for k, v in network.state_dict().items() if k.startswith(prefix)}
    if not own:
        raise UserError("--pretrain2d: a network without 2D branch (--baseline_only) has nothing to load it into")
    state = canonical_state(content, path)
    state = {k if k.startswith(prefix) else prefix + k: v for k, v in state.items()}
    fitting = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
    if not fitting:
        raise UserError(f"{path}: no tensor fits the 2D branch; --pretrain2d wants a 2DPASS or ResNet-34 checkpoint")
    network.load_state_dict(fitting, strict=False)
    return f"2D branch: {len(fitting)} of {len(own)} tensors taken from {path}"


def _compare(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], path: str | Path) -> None:
    shapes = [
        f"{k} is {list(found[k].shape)} in the file, {list(wanted[k].shape)} by the config"
        for k in wanted
        if k in found and found[k].shape != wanted[k].shape
    ]
    missing = [f"{k} is missing in the file" for k in wanted if k not in found]
    extra = [f"{k} is only in the file" for k in found if k not in wanted]
    problems = shapes + missing + extra
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError(
            f"{path}: a checkpoint of another model or config, {len(problems)} tensors differ: "
            f"{'; '.join(problems[:3])}{more}; give the --config (and --baseline_only) it was trained with"
        )
