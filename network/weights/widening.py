"""Fine-tuning: a network begins its training with the weights of one that knew fewer columns or other classes.

Three things can be new by themselves: the age of the points, the classes of what moves, and the branches that teach a
3D network with images, where a checkpoint has none. The widened network begins as the old one was: the age has no
influence yet, and what moves looks like what stands. For other classes the last layers start as those of a new network
(`new_head`). Everything else has to fit, as always.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from network.models.segmentation_network import SegmentationNetwork
from network.weights.description import read_description
from network.weights.loading import check_fit, differences, own_weights
from network.weights.pretrained import HEAD, is_pretraining
from network.weights.reading import config_beside
from utils.errors import UserError
from utils.names import shown
from utils.results.run_settings import TEACHER

_MOVING = "moving-"
"""What the name of a class has before that of the same things standing still, as in the semantic-kitti-api."""
_ALONE = "or published as a 3D network alone (--baseline_only)"
_IMAGE_BRANCH, _DISTILLATION = "image_branch.", "distillation."


@dataclass(frozen=True)
class _Widened:
    """Weights in the shapes of a network, as far as widening can bring them there.

    Attributes:
        weights: all tensors of the checkpoint, under the names of the network.
        old: what the checkpoint does not know, a phrase each; empty if nothing was widened.
        new: how what it does not know starts, a line each.
    """

    weights: dict[str, Tensor]
    old: tuple[str, ...] = ()
    new: tuple[str, ...] = ()


def load_to_fine_tune(
    network: SegmentationNetwork,
    content: Mapping[str, Any],
    path: str | Path,
    names: Sequence[str],
    new_head: bool = False,
) -> tuple[str, ...]:
    """Loads the weights of a checkpoint into a network for a new training, widened where that is needed.

    Args:
        network: any network; a `Network3D` takes the 3D part of an `Arch2DPASS` checkpoint.
        content: from `read_checkpoint`.
        path: path of the checkpoint, for messages.
        names: K names of the classes of the network.
        new_head: leave the tensors that have an entry for each class as they are in the network, whatever the
            checkpoint knows.

    Returns:
        A line for each thing that is new.

    Raises:
        UserError: something does not fit that cannot be widened, see `network.weights.loading.load_weights`; or,
            without `new_head`, the classes are others.
    """
    if is_pretraining(content):
        if new_head:
            raise UserError(f"{path}: is of a pre-training, whose last layers begin new anyway; leave out --new_head")
        return _load_pretrained(network, content, path)
    if new_head:
        found = _with_new_branches(network, _Widened(own_weights(network, content, path)))
        widened = _with_new_head(network, _with_age(network, found))
    else:
        widened = _widened(network, content, path, names)
        _refuse_other_head(network, widened, path)
        _refuse_other_names(content, path, names)
    widened = _with_new_teacher(network, content, widened)
    check_fit(network.state_dict(), widened.weights, path)
    network.load_state_dict(widened.weights, strict=False)
    return widened.new


def _load_pretrained(network: SegmentationNetwork, content: Mapping[str, Any], path: str | Path) -> tuple[str, ...]:
    """Loads what a pre-training without labels has learned: all but what begins new, since only labels teach it.

    That is the classifier, the distillation of `Arch2DPASS`, and its image branch, if the teacher was another network.
    """
    found = {name: w for name, w in own_weights(network, content, path).items() if not name.startswith(HEAD)}
    wanted, outputs = network.state_dict(), set(network.output_weights())
    new = outputs | {name for name in wanted if name.startswith(_DISTILLATION)}
    own, taught = ({name for name in names if name.startswith(_IMAGE_BRANCH)} for names in (wanted, found))
    if own != taught:  # the teacher was another network
        found = {name: tensor for name, tensor in found.items() if name not in taught}
        new |= own
    widened = _with_age(network, _Widened(found))
    check_fit({name: tensor for name, tensor in wanted.items() if name not in new}, widened.weights, path)
    network.load_state_dict(widened.weights, strict=False)
    parts = [
        part
        for part, prefix in (("classifier", ""), ("image branch", _IMAGE_BRANCH), ("distillation", _DISTILLATION))
        if (new & outputs if not prefix else any(name.startswith(prefix) for name in new))
    ]
    return (*widened.new, f"begin new, since a pre-training without labels teaches no class: {', '.join(parts)}")


def refuse_narrower(
    network: SegmentationNetwork, content: Mapping[str, Any], path: str | Path, names: Sequence[str]
) -> None:
    """Refuses to go on from a checkpoint whose weights would have to be widened; arguments as of `load_to_fine_tune`.

    Raises:
        UserError: the checkpoint knows fewer columns of the points or fewer classes, or does not fit at all.
    """
    widened = _widened(network, content, path, names)
    _refuse_other_head(network, widened, path)
    if widened.old:
        check_fit(network.state_dict(), widened.weights, path)  # first what --fine_tune does not help
        raise UserError(
            f"{path}: was trained {' and '.join(widened.old)}, unlike the network of this config; give --fine_tune, to "
            "start a new training from its weights, or the --config it was trained with"
        )


def _with_new_teacher(network: SegmentationNetwork, content: Mapping[str, Any], found: _Widened) -> _Widened:
    """Replaces the image branch of the checkpoint by that of the network, if one of them has another frozen teacher."""
    own = {name: tensor for name, tensor in network.state_dict().items() if name.startswith(_IMAGE_BRANCH)}
    others = {name: tensor for name, tensor in found.weights.items() if not name.startswith(_IMAGE_BRANCH)}
    now, before = network.teacher_weights(), frozen_teacher(content)
    if not own or now == before or len(others) == len(found.weights):
        return found
    line = (
        f"new teacher, {now or 'one that is trained along'}, in place of "
        f"{'one that was trained along' if before is None else shown(before)}: the image branch starts as in a new "
        "network"
    )
    return _Widened({**others, **own}, found.old, (*found.new, line))


def frozen_teacher(content: Mapping[str, Any]) -> str | None:
    """Returns what a checkpoint says of the weights of its frozen teacher; None if it had none."""
    ours = content.get("2dpass")
    settings = ours.get("settings") if isinstance(ours, Mapping) else None
    teacher = settings.get(TEACHER) if isinstance(settings, Mapping) else None
    return teacher if type(teacher) is str else None


def _with_new_branches(network: SegmentationNetwork, found: _Widened) -> _Widened:
    """Adds the image branch and the distillation of a network to the weights of a 3D network, which has neither."""
    teaching = (_IMAGE_BRANCH, _DISTILLATION)
    own = {name: tensor for name, tensor in network.state_dict().items() if name.startswith(teaching)}
    if not own or not found.weights or any(name.startswith(teaching) for name in found.weights):
        return found
    line = "image branch and distillation start as in a new network, since the checkpoint has the 3D network alone"
    return _Widened({**found.weights, **own}, (*found.old, _ALONE), (*found.new, line))


def _with_new_head(network: SegmentationNetwork, found: _Widened) -> _Widened:
    """Replaces what the checkpoint has for each class by what the network has."""
    own, names = network.state_dict(), network.output_weights()
    parts = " and ".join(dict.fromkeys(name.rpartition(".")[2] for name in names))
    layers = ", ".join(dict.fromkeys(name.rpartition(".")[0] for name in names))
    return _Widened(
        {**found.weights, **{name: own[name] for name in names}},
        found.old,
        (
            *found.new,
            f"new head of {len(own[names[0]])} classes, which starts as in a new network: {parts} of {layers}",
        ),
    )


def _refuse_other_head(network: SegmentationNetwork, found: _Widened, path: str | Path) -> None:
    """Refuses weights that would all fit if the network had as many classes as they know."""
    wanted, known = network.state_dict(), _known_classes(network, found.weights)
    heads = {name: wanted[name] for name in network.output_weights()}
    if not heads:  # of a pre-training
        return
    classes = len(next(iter(heads.values())))
    resized = {name: tensor[:1].expand(known, *tensor.shape[1:]) for name, tensor in heads.items()}
    if known not in (0, classes) and not differences(wanted | resized, found.weights):
        raise UserError(
            f"{path}: was trained with {known} classes, the config has {classes}; give --fine_tune --new_head to start "
            f"the last layers new, or the --config it was trained with{config_beside(path)}"
        )


def _refuse_other_names(content: Mapping[str, Any], path: str | Path, names: Sequence[str]) -> None:
    """Refuses a head for as many classes, but others, as far as the checkpoint names them."""
    description = read_description(content, path)
    known = () if description is None else description.label_map.names
    if len(known) != len(names):
        return
    if others := [number for number, name in enumerate(names) if known[number] != name]:
        number, more = others[0], f", and {len(others) - 1} more differ" if others[1:] else ""
        raise UserError(
            f"{path}: was trained with other classes: class {number} is {shown(known[number])} there, {names[number]} "
            f"here{more}; give --new_head, too, to start the last layers new, or the label mapping it was trained with"
        )


def _widened(
    network: SegmentationNetwork, content: Mapping[str, Any], path: str | Path, names: Sequence[str]
) -> _Widened:
    columns = _with_age(network, _with_new_branches(network, _Widened(own_weights(network, content, path))))
    known = _known_classes(network, columns.weights)
    if not 0 < known < len(names) or (statics := _counterparts(names, known)) is None:
        return columns
    description = read_description(content, path)  # a published checkpoint has none
    if description is not None and description.label_map.names != tuple(names[:known]):
        return columns
    rows = [*range(known), *statics]
    weights = {name: columns.weights[name][rows] for name in network.output_weights() if name in columns.weights}
    pairs = ", ".join(f"{names[new]} as {names[old]}" for new, old in enumerate(statics, start=known))
    return _Widened(
        {**columns.weights, **weights},
        (*columns.old, f"with {known} of the {len(names)} classes"),
        (*columns.new, f"new classes, whose weights start as those of what stands still: {pairs}"),
    )


def _with_age(network: SegmentationNetwork, found: _Widened) -> _Widened:
    """Adds zeros for the age to the weights of a network without it."""
    wanted, weights = network.state_dict(), dict(found.weights)
    for name, axis in network.input_weights().items():
        column = [1 if at == axis else extent for at, extent in enumerate(wanted[name].shape)]
        narrow = [extent - 1 if at == axis else extent for at, extent in enumerate(wanted[name].shape)]
        if not network.takes_age or name not in weights or list(weights[name].shape) != narrow:
            return found
        weights[name] = torch.cat([weights[name], weights[name].new_zeros(column)], dim=axis)
    new = "new column of points, whose weights start at 0: age"
    return _Widened(weights, (*found.old, "without the age of points"), (*found.new, new))


def _known_classes(network: SegmentationNetwork, weights: Mapping[str, Tensor]) -> int:
    """Counts the classes that weights know; 0 if they do not agree."""
    rows = {next(iter(weights[name].shape), 0) for name in network.output_weights() if name in weights}
    return rows.pop() if len(rows) == 1 else 0


def _counterparts(names: Sequence[str], known: int) -> list[int] | None:
    """Returns, for each class from `known` on, that of the same things standing still; None if one has none."""
    statics = {f"{_MOVING}{name}": number for number, name in enumerate(names[:known]) if number > 0}
    return [statics[name] for name in names[known:]] if set(names[known:]) <= statics.keys() else None
