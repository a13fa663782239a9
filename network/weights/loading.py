"""Loading of weights from the content of a checkpoint, whoever wrote it: either all tensors fit, or none is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from network.models.segmentation_network import SegmentationNetwork
from network.weights.entries import is_number
from network.weights.pickled import OddTensor, shown
from network.weights.published_folder import IMAGES, OURS
from network.weights.reading import config_beside
from network.weights.released import is_released, translate
from utils.errors import UserError

# The keys under which programs store weights; this one and Lightning use the first.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "network", "net", "weights")
_MAX_WRAPPERS = 3  # nested in each other
_PREFIXES = ("module.", "model.", "network.", "net.")
_COMPILED = "_orig_mod."  # torch.compile puts it anywhere in a name
_SHARED = 4  # number of tensors that may share a value, on average
_MAX_NUMBERS = 16  # in one entry of the geometry

_Entry = Tensor | OddTensor


def canonical_state(content: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    """Finds the network's tensors in a checkpoint, whoever wrote it, and gives them the names of this project.

    Returns:
        Plain dense tensors under the full names of `Arch2DPASS`, also if only its 3D network was stored.

    Raises:
        UserError: there are none, one is not plain, or several places hold tensors.
    """
    entries = _entries(content)
    for _ in range(_MAX_WRAPPERS):
        wrappers = [key for key in _WRAPPERS if _holds_tensors(content.get(key))]
        if not wrappers:
            break
        if len(wrappers) > 1 and wrappers[0] != "state_dict":
            raise UserError(
                f"{path}: holds weights under {' and under '.join(map(repr, wrappers))}; save those that are meant, "
                "alone, under 'state_dict'"
            )
        content = content[wrappers[0]]
        entries = _entries(content)
    if not entries:
        raise UserError(f"{path}: holds no weights (no state_dict); is it a checkpoint?")
    tensors = _unprefixed(_plain(entries, path), path)
    if is_released(tensors):
        return translate(tensors, path)
    if _is_baseline(tensors):
        return {f"network_3d.{name}": tensor for name, tensor in tensors.items()}
    return tensors


def _entries(content: Any) -> dict[str, _Entry]:
    if not isinstance(content, Mapping):
        return {}
    return {name: v for name, v in content.items() if isinstance(name, str) and isinstance(v, (Tensor, OddTensor))}


def _holds_tensors(content: Any, depth: int = _MAX_WRAPPERS) -> bool:
    """Returns whether a value holds tensors, itself or in a wrapper."""
    if not isinstance(content, Mapping) or depth == 0:
        return False
    return bool(_entries(content)) or any(_holds_tensors(content.get(key), depth - 1) for key in _WRAPPERS)


def _plain(entries: Mapping[str, _Entry], path: str | Path) -> dict[str, Tensor]:
    """Refuses tensors that are not plain and dense, and values that stand under many names."""
    plain = {}
    for name, tensor in entries.items():
        kind = _oddity(tensor)
        if kind is not None or not isinstance(tensor, Tensor):
            raise UserError(
                f"{path}: tensor {shown(name)} is {kind}; only plain dense tensors of numbers are taken, save it as one"
            )
        plain[name] = tensor
    held = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in plain.values()}
    if sum(tensor.nbytes for tensor in plain.values()) > _SHARED * sum(held.values()):
        # A change of layout would make a copy for each of the names.
        raise UserError(f"{path}: the same values stand under many names; save every tensor with its own")
    return plain


def _oddity(tensor: _Entry) -> str | None:
    if isinstance(tensor, OddTensor):
        return tensor.kind
    if tensor.is_meta or tensor.is_nested or tensor.is_quantized:
        return "without values, nested or quantised"
    return None if tensor.layout == torch.strided else "sparse"


def _unprefixed(tensors: Mapping[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """Removes from the names what wrappers around the network have put before all of them."""
    names = {name: name.replace(_COMPILED, "") for name in tensors}
    while prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in names.values())), None):
        names = {name: short.removeprefix(prefix) for name, short in names.items()}
    if len(set(names.values())) < len(names):
        raise UserError(f"{path}: holds two tensors of one name, compiled and not; save one of them alone")
    return {names[name]: tensor for name, tensor in tensors.items()}


def _is_baseline(names: Iterable[str]) -> bool:
    """Returns whether these are names of the tensors of 2DPASS's 3D network alone."""
    return any(name.startswith("encoder.") for name in names)


def has_image_branch(content: Mapping[str, Any], path: str | Path) -> bool:
    """Returns whether the network of a checkpoint was trained with camera images.

    A published one has the 3D network alone, and says so.
    """
    ours = content.get(OURS)
    return (isinstance(ours, Mapping) and ours.get(IMAGES) is True) or holds_image_branch(content, path)


def holds_image_branch(content: Mapping[str, Any], path: str | Path) -> bool:
    """Returns whether the weights of an image branch are in a checkpoint."""
    return any(name.startswith("image_branch.") for name in canonical_state(content, path))


def check_geometry(network: SegmentationNetwork, content: Mapping[str, Any], path: str | Path) -> None:
    """Refuses weights that were trained with other voxels than those of the network, if the checkpoint names them.

    Raises:
        UserError: the voxels differ; the message says how.
    """
    ours = content.get("2dpass")
    before = ours.get("geometry") if isinstance(ours, Mapping) else None
    if not isinstance(before, Mapping):
        return  # a published checkpoint does not name its voxels
    now = network.geometry()
    for key in now:
        numbers = before.get(key, [])
        if not isinstance(numbers, (list, tuple)) or len(numbers) > _MAX_NUMBERS or not all(map(is_number, numbers)):
            raise UserError(f"{path}: 2dpass.geometry.{key} is damaged; download or copy the file again")
    changed = [f"{key} was {_listed(before[key])}, is {_listed(value)}" for key, value in now.items()
               if key in before and list(before[key]) != value]  # fmt: skip
    if changed:
        raise UserError(f"{path}: was trained with other voxels: {'; '.join(changed)}; give the config of its training")


def _listed(value: Iterable[float]) -> str:
    """Returns the numbers as a text, as a config has them."""
    return ", ".join(f"{number:g}" for number in value)


def load_weights(network: nn.Module, content: Mapping[str, Any], path: str | Path) -> None:
    """Loads the weights of a checkpoint into a network, all or none.

    Args:
        network: any network; a `Network3D` takes the 3D part of an `Arch2DPASS` checkpoint.
        content: from `read_checkpoint`.
        path: path of the checkpoint, for error messages.

    Raises:
        UserError: tensors are missing, left over, of another shape or type, or not finite; the message names them.
    """
    network.load_state_dict(fitting_weights(network, content, path), strict=False)


def fitting_weights(network: nn.Module, content: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    """Returns the tensors that `load_weights` would load into a network, which may be on the device `meta`.

    Arguments and errors are those of `load_weights`.
    """
    state = own_weights(network, content, path)
    check_fit(network.state_dict(), state, path)
    return state


def own_weights(network: nn.Module, content: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    """Returns the tensors of a checkpoint under the names of a network, which they need not fit.

    Arguments are those of `load_weights`, errors those of `canonical_state`.
    """
    state = canonical_state(content, path)
    if _is_baseline(network.state_dict()):
        prefix = "network_3d."
        state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return state


def load_image_branch(
    network: nn.Module, content: Mapping[str, Any], path: str | Path, whole_backbone: bool = False
) -> str:
    """Loads the tensors of the 2D branch that fit (--pretrain2d), from a 2DPASS or a torchvision ResNet-34 checkpoint.

    Args:
        network: the network with the branch.
        content: from `read_checkpoint`.
        path: path of the checkpoint, for messages.
        whole_backbone: whether all tensors but those of the decoders have to fit.

    Returns:
        One line that says what was loaded.

    Raises:
        UserError: the network has no 2D branch, nothing fits, or what fits has no finite values, or the
            whole backbone is wanted and is not there.
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
    backbone = [k for k in own if not k.startswith(f"{prefix}decoders.") and not k.endswith("num_batches_tracked")]
    if whole_backbone and (lacking := [k for k in backbone if k not in fitting]):
        raise UserError(
            f"{path}: does not hold a whole ResNet-34 to learn from, {lacking[0]} and {len(lacking) - 1} more tensors "
            "are missing or of another shape; --pretrain2d wants a 2DPASS or ResNet-34 checkpoint"
        )
    check_fit({k: own[k] for k in fitting}, fitting, path)
    network.load_state_dict(fitting, strict=False)
    return f"2D branch: {len(fitting)} of {len(own)} tensors taken from {path}"


def check_fit(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], path: str | Path) -> None:
    """Refuses tensors that are not exactly those of a network.

    Args:
        wanted: tensors of the network, by name.
        found: plain dense tensors of the checkpoint, by name.
        path: path of the checkpoint, for error messages.

    Raises:
        UserError: tensors are missing, left over, of another shape or type, or hold impossible values.
    """
    problems = list(differences(wanted, found).values())
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError(
            f"{path}: a checkpoint of another model or config, {len(problems)} tensors differ: "
            f"{'; '.join(problems[:3])}{more}; give the --config (and --baseline_only) it was trained with"
            f"{config_beside(path)}"
        )
    for name, tensor in wanted.items():
        fault = _fault(name, found[name], tensor.dtype)
        if fault is not None:
            raise UserError(f"{path}: tensor {name} {fault}; the file is damaged or its training failed, use another")


def differences(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, str]:
    """Returns a phrase for each tensor that is missing, left over or of another shape, by name."""
    shapes = {
        k: f"{k} is {list(found[k].shape)} in the file, {list(wanted[k].shape)} by the config"
        for k in wanted
        if k in found and found[k].shape != wanted[k].shape
    }
    missing = {k: f"{k} is missing in the file" for k in wanted if k not in found}
    extra = {k: f"{shown(k)} is only in the file" for k in found if k not in wanted}
    return shapes | missing | extra


def _fault(name: str, found: Tensor, dtype: torch.dtype) -> str | None:
    """Describes why a tensor of the right shape cannot be loaded; None if it can."""
    whole = found.dtype not in (torch.bool,) and not found.is_floating_point() and not found.is_complex()
    if not (found.is_floating_point() if dtype.is_floating_point else whole):
        return f"is {plain_name(found.dtype)}, not {plain_name(dtype)}"
    if dtype.is_floating_point and not bool(torch.isfinite(found.to(dtype)).all()):
        return "holds NaN or inf"
    # These are a variance and a number of batches, of BatchNorm.
    if name.endswith(("running_var", "num_batches_tracked")) and bool((found < 0).any()):
        return "is negative"
    return None


def plain_name(dtype: torch.dtype) -> str:
    """Returns the name of a dtype without its module: "float32" for `torch.float32`."""
    return str(dtype).removeprefix("torch.")
