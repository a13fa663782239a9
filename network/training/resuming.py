"""The state of a training, read from a checkpoint and checked before a run resumes from it.

The content that Lightning restores is built here from the parts that are needed: weights, moments of the optimiser,
and numbers. Nothing else from a file reaches the trainer, in particular no path.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import torch
from torch import Tensor

from network.models.segmentation_network import SegmentationNetwork
from network.training.moments import checked_optimizer
from network.weights.entries import Wrong, count, entry, is_number, plain_values, section
from network.weights.loading import check_fit, check_geometry
from network.weights.pickled import shown
from utils.command.flags import LARGEST
from utils.config.schedules import PlateauParams
from utils.config.train import TrainParams
from utils.errors import UserError
from utils.results.run_settings import RULES, Plain, Rule, refuse_changes

# Of the settings that must not change within a training, those that checkpoints of every version name.
FIXED_ON_RESUME = tuple(
    key.removeprefix("train_params.")
    for key, rule in RULES.items()
    if rule is Rule.REFUSE and key.startswith("train_params.")
)
LOSS = re.compile(r"train/\w{1,40}")
_PLAIN = (str, int, float, bool, type(None))
# The file of a best checkpoint: a name in the run's folder, never a path.
BEST_FILE = re.compile(r"best-epoch=\d{1,9}-\w{1,40}=-?\d{1,9}\.\d{1,9}(-v\d{1,9})?\.ckpt")


@dataclass(frozen=True)
class TrainingState:
    """A training as a checkpoint left it.

    Attributes:
        path: the checkpoint.
        epochs: number of finished epochs.
        scans: number of scans of the next epoch that all processes together have trained on.
        content: what the trainer restores, in Lightning's layout; it consists of checked parts only.
    """

    path: Path
    epochs: int
    scans: int
    content: dict[str, Any]


def fixed_on_resume(training: TrainParams) -> dict[str, Plain]:
    """Returns the settings that must not change within a training: those of its optimiser and its schedule."""
    return {key: value for key, value in training.model_dump(mode="json").items() if key in FIXED_ON_RESUME}


def is_resumable(content: Mapping[str, Any]) -> bool:
    """Returns whether a run can resume from a checkpoint: this program wrote it, with the state of the optimiser.

    Of any other checkpoint only the weights are used.
    """
    return "2dpass" in content and "optimizer_states" in content


def check_resumable(
    network: SegmentationNetwork, content: Mapping[str, Any], training: TrainParams, path: str | Path
) -> TrainingState:
    """Checks that a training can resume from a checkpoint, and returns the state to resume from.

    Args:
        network: the network of this run, with all parameters that the optimiser will train.
        content: the content from `read_checkpoint`, for which `is_resumable` is true.
        training: the settings of this run.
        path: path of the checkpoint, for messages.

    Raises:
        UserError: the checkpoint is of another network or of other settings, or a part of it is missing or damaged; the
            message names it.
    """
    try:
        state = section(content, "state_dict")
        if {f"network.{name}" for name in network.state_dict()} != set(state):
            raise UserError(
                f"{path}: was trained with another network (with or without --baseline_only); resume with the same, "
                "or start a new training from its weights with --fine_tune"
            )
        check_geometry(network, content, path)
        return _training_state(network, content, training, path)
    except Wrong as wrong:
        raise UserError(
            f"{path}: {wrong} is missing or damaged; resume from another checkpoint of the run, or start a new "
            "training from its weights with --fine_tune"
        ) from None


def _training_state(
    network: SegmentationNetwork, content: Mapping[str, Any], training: TrainParams, path: str | Path
) -> TrainingState:
    ours = section(content, "2dpass")
    stored = _stored_settings(ours)
    # First, since the moments of another optimiser are not damaged, and the message has to say so.
    refuse_changes(stored, {f"train_params.{key}": value for key, value in fixed_on_resume(training).items()}, path)
    epoch, steps = entry(content, "epoch", count), entry(content, "global_step", count)
    # Earlier versions wrote a checkpoint at the end of an epoch only.
    scans = entry(ours, "scans_of_epoch", count, "2dpass.") if "scans_of_epoch" in ours else 0
    epochs = epoch if scans else epoch + 1
    restored = {
        "epoch": epochs - 1,  # the last one that is complete
        "global_step": steps,
        "lr_schedulers": [],  # schedules and loops follow from the settings and the number of finished epochs
        "loops": None,
        "callbacks": _callbacks(section(content, "callbacks"), epochs, steps),
        "2dpass": {
            **stored,
            **_progress(ours, training, epochs, steps),
            "scans_of_epoch": scans,
            "means_of_epoch": _means(ours) if scans else {},
        },
        **_loss_scale(content),
        "optimizer_states": [checked_optimizer(content, network, training, steps)],
        "state_dict": _weights(network, content, "state_dict", path),
        **_averages(network, content, steps, path),
    }
    return TrainingState(Path(path), epochs, scans, restored)


def _means(ours: Mapping[str, Any]) -> dict[str, list[float]]:
    """Returns sum and weight of the losses of an epoch that was begun; a sum may be infinite or NaN."""
    found = section(ours, "means_of_epoch", "2dpass.")
    for name, pair in found.items():
        known = type(name) is str and LOSS.fullmatch(name) is not None
        numbers = type(pair) is list and [type(part) for part in pair] == [float, float]
        if not known or not numbers or not 1 <= pair[1] <= LARGEST or not pair[1].is_integer():
            raise Wrong("2dpass.means_of_epoch")
    return dict(found)


def _stored_settings(ours: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of the training that a checkpoint holds, in the form in which they are compared."""
    before = section(ours, "train_params", "2dpass.")
    for key in FIXED_ON_RESUME:
        value = before.get(key)
        if not all(type(part) in _PLAIN for part in (value if type(value) is list else [value])):
            raise Wrong(f"2dpass.train_params.{key}")
    stored: dict[str, Any] = {"train_params": {key: before.get(key) for key in FIXED_ON_RESUME}}
    if "settings" in ours:  # earlier versions kept none
        stored["settings"] = plain_values(section(ours, "settings", "2dpass."), "2dpass.settings")
        for key, value in stored["settings"].items():
            if type(value) is dict:
                raise Wrong(f"2dpass.settings.{shown(key)}")
    return stored


def _weights(network: SegmentationNetwork, content: Mapping[str, Any], key: str, path: str | Path) -> dict[str, Tensor]:
    state, wanted = section(content, key), {f"network.{name}": v for name, v in network.state_dict().items()}
    if set(state) != set(wanted):
        raise Wrong(key)
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            raise Wrong(f"{key}.{name}")
    check_fit(wanted, state, path)
    return dict(state)


def _callbacks(states: Mapping[Any, Any], epochs: int, steps: int) -> dict[str, Any]:
    """Returns the checked states of the callbacks, by key.

    They are the count of early stopping, the scores of the best checkpoints by file name, and the last step of weight
    averaging.
    """
    checked: dict[str, Any] = {}
    for key in states:
        if type(key) is not str:
            continue
        kind = key.partition("{")[0]
        if kind == "EarlyStopping":
            state, where = section(states, key, "callbacks."), f"callbacks.{kind}."
            checked[key] = {
                "wait_count": entry(state, "wait_count", _up_to(epochs), where),
                "best_score": entry(state, "best_score", _score, where),
            }
        elif kind == "ModelCheckpoint" and not key.startswith("ModelCheckpoint{'monitor': None"):
            state = section(states, key, "callbacks.")
            best = section(state, "best_k_models", f"callbacks.{kind}.")
            names = [(PurePath(path).name, path) for path in best if type(path) is str]
            checked[key] = {
                "best_k_models": {
                    name: entry(best, path, _score, f"callbacks.{kind}.best_k_models.")
                    for name, path in names
                    if BEST_FILE.fullmatch(name)
                }
            }
        elif kind in ("LateWeightAveraging", "MovingAverage"):
            state, where = section(states, key, "callbacks."), f"callbacks.{kind}."
            checked[key] = {"latest_update_step": entry(state, "latest_update_step", _up_to(steps), where)}
    return checked


def _progress(ours: Mapping[str, Any], training: TrainParams, epochs: int, steps: int) -> dict[str, Any]:
    best_miou = entry(ours, "best_miou", _real, "2dpass.")
    if not 0 <= best_miou <= 1:
        raise Wrong("2dpass.best_miou")
    checked = {
        "best_miou": best_miou,
        "skipped_batches": entry(ours, "skipped_batches", _up_to(steps), "2dpass."),
        "plateau": None,
    }
    if isinstance(training.lr_scheduler, PlateauParams):
        plateau, where = section(ours, "plateau", "2dpass."), "2dpass.plateau."
        checked["plateau"] = {
            "best": entry(plateau, "best", _score, where),
            **{
                key: entry(plateau, key, _up_to(epochs), where)
                for key in ("num_bad_epochs", "cooldown_counter", "last_epoch")
            },
        }
    return checked


def _averages(network: SegmentationNetwork, content: Mapping[str, Any], steps: int, path: str | Path) -> dict[str, Any]:
    """Returns the state of an average of weights: the weights in training, and the number of weights in the average."""
    if "averaging_state" not in content:
        return {}
    number = section(content, "averaging_state").get("n_averaged")
    if not isinstance(number, Tensor) or number.dtype != torch.int64 or number.shape != ():
        raise Wrong("averaging_state.n_averaged")
    if not 1 <= number <= steps:  # a number that no training reaches would hold the average where it is
        raise Wrong("averaging_state.n_averaged")
    return {
        "averaging_state": {"n_averaged": number},
        "current_model_state": _weights(network, content, "current_model_state", path),
    }


def _loss_scale(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the state of --precision 16: the factor of the loss, and how it changes."""
    if "MixedPrecision" not in content:
        return {}
    scaler, where = section(content, "MixedPrecision"), "MixedPrecision."
    scale, growth, backoff = (entry(scaler, key, _real, where) for key in ("scale", "growth_factor", "backoff_factor"))
    interval = entry(scaler, "growth_interval", count, where)
    if not (0 < scale <= 2.0**64 and 1 < growth <= 1024 and 0 < backoff < 1 and interval > 0):
        raise Wrong("MixedPrecision")
    tracker = entry(scaler, "_growth_tracker", count, where)
    numbers = {"scale": scale, "growth_factor": growth, "backoff_factor": backoff, "growth_interval": interval}
    return {"MixedPrecision": {**numbers, "_growth_tracker": tracker}}


def _up_to(most: int) -> Callable[[Any], int | None]:
    """Returns a check of a count that is at most `most`."""
    return lambda value: value if count(value) is not None and value <= most else None


def _real(value: Any) -> float | None:
    return float(value) if is_number(value) else None


def _score(value: Any) -> float | None:
    """Returns a score in 0..1, or -inf before the first one; None if the value is no score."""
    if isinstance(value, Tensor) and value.is_floating_point() and value.numel() == 1:
        value = value.item()
    known = type(value) in (int, float) and (0 <= value <= 1 or value == -math.inf)
    return float(value) if known else None
