"""The settings of a training run, which are stored in its checkpoints and compared when it is resumed."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from utils.config.schema import Config, leaves
from utils.errors import UserError
from utils.text import shortened

Plain = str | int | float | bool | None | list[Any]
Settings = Mapping[str, Plain]
"""The values by name: a dotted key of the config, a flag, or a fact about the data, such as "classes"."""

TEACHER = "weights of the frozen teacher"
"""The setting that says which weights a teacher has that is not trained; None: there is none."""


class Rule(Enum):
    """The handling of a setting that has changed when a run is resumed."""

    REFUSE = "refused: it would be another training, and the weights and counts of this one would not fit"
    NOTE = "accepted with a note to the user: losses or scores change with it"
    TAKE = "accepted: the losses do not depend on it, or it is checked elsewhere"


_LOADER = {
    "data_path": Rule.TAKE,  # the same scans may lie elsewhere; see "training scans"
    "batch_size": Rule.NOTE,
    "shuffle": Rule.NOTE,
    "num_workers": Rule.TAKE,
    "rotate_aug": Rule.NOTE,
    "flip_aug": Rule.NOTE,
    "scale_aug": Rule.NOTE,
    "scale_z_aug": Rule.NOTE,
    "transform_aug": Rule.NOTE,
    "dropout_aug": Rule.NOTE,
}
RULES: dict[str, Rule] = {
    # flags, and facts about the data
    "--seed": Rule.NOTE,
    "--precision": Rule.NOTE,
    "--monitor": Rule.NOTE,  # best checkpoint, early stopping and plateau start again with the other score
    "--SWA": Rule.NOTE,  # but an average that was begun is not dropped
    "number of devices": Rule.NOTE,
    "steps per epoch": Rule.NOTE,
    "training scans": Rule.NOTE,
    "validation scans": Rule.NOTE,
    "classes": Rule.REFUSE,
    TEACHER: Rule.REFUSE,  # its heads have learned from the features of these
    # the optimiser and its schedule
    "train_params.optimizer": Rule.REFUSE,
    "train_params.lr_scheduler": Rule.REFUSE,
    "train_params.learning_rate": Rule.REFUSE,
    "train_params.momentum": Rule.REFUSE,
    "train_params.nesterov": Rule.REFUSE,
    "train_params.weight_decay": Rule.REFUSE,
    "train_params.decay_step": Rule.REFUSE,
    "train_params.decay_rate": Rule.REFUSE,
    "train_params.betas": Rule.REFUSE,
    "train_params.milestones": Rule.REFUSE,
    "train_params.warmup_steps": Rule.REFUSE,
    "train_params.warmup_epochs": Rule.REFUSE,
    "train_params.final_share": Rule.REFUSE,
    "train_params.pct_start": Rule.REFUSE,
    "train_params.div_factor": Rule.REFUSE,
    "train_params.final_div_factor": Rule.REFUSE,
    "train_params.cycle_momentum": Rule.REFUSE,
    "train_params.max_num_epochs": Rule.NOTE,
    "train_params.lambda_seg2d": Rule.NOTE,
    "train_params.lambda_xm": Rule.NOTE,
    "train_params.lambda_lovasz": Rule.NOTE,
    "train_params.trainval": Rule.NOTE,
    "train_params.swa_epoch_start": Rule.NOTE,
    "train_params.gradient_clip_norm": Rule.NOTE,
    "train_params.accumulate_grad_batches": Rule.NOTE,
    "train_params.label_smoothing": Rule.NOTE,
    "train_params.ema_decay": Rule.NOTE,  # but an average that was begun is not dropped
    "train_params.sync_batchnorm": Rule.NOTE,
    # the data
    "dataset_params.training_size": Rule.NOTE,
    "dataset_params.label_fraction": Rule.REFUSE,  # a training on few labels stays one
    "dataset_params.dataset_type": Rule.NOTE,
    "dataset_params.pc_dataset_type": Rule.REFUSE,
    "dataset_params.version": Rule.TAKE,  # see "training scans"
    "dataset_params.collate_type": Rule.TAKE,
    "dataset_params.ignore_label": Rule.TAKE,
    "dataset_params.label_mapping": Rule.TAKE,  # see "classes"
    "dataset_params.past_scans": Rule.NOTE,
    "dataset_params.past_sweeps": Rule.NOTE,
    "dataset_params.past_labels": Rule.NOTE,
    "dataset_params.seg_labelweights": Rule.NOTE,
    "dataset_params.corruption_aug": Rule.NOTE,
    "dataset_params.mixing": Rule.NOTE,
    "dataset_params.past_predictions": Rule.NOTE,
    "dataset_params.past_steps": Rule.NOTE,
    "dataset_params.color_jitter": Rule.NOTE,
    "dataset_params.flip2d": Rule.NOTE,
    "dataset_params.bottom_crop": Rule.NOTE,
    "dataset_params.resize": Rule.NOTE,
    "dataset_params.teacher_cache": Rule.TAKE,  # it keeps what would be computed
    "dataset_params.image_normalizer": Rule.REFUSE,
    "dataset_params.max_volume_space": Rule.TAKE,  # compared when the weights are loaded, as is all of model_params
    "dataset_params.min_volume_space": Rule.TAKE,
    **{f"dataset_params.train_data_loader.{key}": rule for key, rule in _LOADER.items()},
    "dataset_params.val_data_loader": Rule.TAKE,
    "model_params": Rule.TAKE,
    "format_version": Rule.TAKE,
}

# The settings on which the learning rate depends, beside the number of finished epochs.
_EPOCHS = {"train_params.max_num_epochs"}
_STEPS = {"steps per epoch", "number of devices", "dataset_params.training_size"}
_LENGTH = {
    "CosineAnnealingLR": _EPOCHS,
    "CosineAnnealingWarmRestarts": _EPOCHS | _STEPS,
    "CosineAnnealingWarmup": _EPOCHS | _STEPS,
    "OneCycleLR": _EPOCHS | _STEPS,
}


def config_settings(config: Config) -> dict[str, Plain]:
    """Returns the settings of a config by dotted key, down to the keys that have a rule."""
    found = leaves(config.model_dump(mode="json"), RULES)
    return {key: str(value) if isinstance(value, dict) else value for key, value in found}


def flattened(config: Config) -> dict[str, Plain]:
    """Returns every key of a config with its value, by dotted key."""
    return dict(leaves(config.model_dump(mode="json")))


def check_settings(content: Mapping[str, Any], now: Settings, path: str | Path) -> list[str]:
    """Compares the settings in a checkpoint with those of the run that resumes from it.

    Args:
        content: content of the checkpoint, for which `is_resumable` is true.
        now: settings of this run.
        path: path of the checkpoint, for messages.

    Returns:
        Lines for the user: what has changed, and what that means for the learning rate.

    Raises:
        UserError: a setting has changed that must not change.
    """
    epochs, total = content["epoch"] + 1, now["train_params.max_num_epochs"]
    if isinstance(total, int) and epochs > total:
        raise UserError(f"{path}: {epochs} epochs are done already, train_params.max_num_epochs is {total}; raise it")
    _refuse_lost_average(content, now, path)
    changed = refuse_changes(content["2dpass"], now, path, content["global_step"] // epochs if epochs else None)
    lines = []
    if noted := [text for key, text in changed.items() if RULES[key] is Rule.NOTE]:
        lines.append(f"note: changed since this run was begun, and taken as it is now: {'; '.join(noted)}")
    if _LENGTH.get(str(now["train_params.lr_scheduler"]), set()) & changed.keys():
        lines.append(
            f"note: the learning rate goes on where it would be after {epochs} of {total} epochs of a run that has "
            "these settings from the start"
        )
    return lines


def _refuse_lost_average(content: Mapping[str, Any], now: Settings, path: str | Path) -> None:
    """Refuses to resume without the average of the weights, or with another kind of it."""
    if "averaging_state" not in content:
        return
    moving = (content["2dpass"].get("settings") or {}).get("train_params.ema_decay") is not None
    if not (now["train_params.ema_decay"] is not None if moving else now["--SWA"]):
        again = "set train_params.ema_decay" if moving else "give --SWA"
        raise UserError(
            f"{path}: holds averaged weights beside those in training; {again} again, or start a new "
            "training from the average with --fine_tune"
        )


def refuse_changes(
    ours: Mapping[str, Any], now: Settings, path: str | Path, steps_per_epoch: int | None = None
) -> dict[str, str]:
    """Compares the settings of this run with those of a checkpoint, as far as both have them.

    Args:
        ours: `settings` and `train_params` of the checkpoint as plain values; earlier versions have the latter only.
        now: settings of this run, all of them or some.
        path: path of the checkpoint, for messages.
        steps_per_epoch: steps per epoch of the training so far; None: not known.

    Returns:
        A phrase for each allowed change, by the name of the setting.

    Raises:
        UserError: a setting has changed that must not change.
    """
    before = {f"train_params.{key}": value for key, value in ours["train_params"].items()}
    if steps_per_epoch is not None:
        before["steps per epoch"] = steps_per_epoch
    before |= ours.get("settings") or {}
    changed = {
        key: f"{key} was {_shown(before[key])}, is {_shown(value)}"
        for key, value in now.items()
        if key in before and not _same(before[key], value)
    }
    if refused := [text for key, text in changed.items() if RULES[key] is Rule.REFUSE]:
        raise UserError(
            f"{path}: settings changed since: {'; '.join(refused)}; resume with the same, or start a new "
            "training from its weights with --fine_tune"
        )
    return changed


def _same(before: object, now: Plain) -> bool:
    """Returns whether a stored value, of any type, equals this one."""
    if isinstance(now, list):
        return isinstance(before, list) and len(before) == len(now) and all(map(_same, before, now))
    return isinstance(before, str | int | float | bool | None) and before == now


def _shown(value: object) -> str:
    """Returns a value as a short text in one line, whatever characters are in it."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    text = text.encode("unicode_escape").decode("ascii")
    return shortened(text, 60)
