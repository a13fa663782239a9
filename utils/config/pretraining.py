"""The config of a pre-training without labels (--pretrain_distill): what would look at labels is left out of it."""

from __future__ import annotations

from typing import Any

from utils.config.data import SemanticKITTIImages
from utils.config.model import ModelParams
from utils.config.schedules import PlateauParams
from utils.config.schema import Config
from utils.corruptions import LOOK_AT_LABELS
from utils.errors import UserError


def label_free(config: Config, teacher_given: bool) -> tuple[Config, list[str]]:
    """Returns the config of a pre-training, and lines for the user about what was left out of it.

    The config is that of the training that follows, so what it asks of labels is no mistake: it is said, not refused.

    Args:
        config: the experiment.
        teacher_given: whether --checkpoint gives the weights of the teacher.

    Raises:
        UserError: the network has no teacher, the teacher would be a random network, or the schedule follows a score.
    """
    model, data = config.model_params, config.dataset_params
    if not isinstance(model, ModelParams):
        raise UserError(
            f"--pretrain_distill learns from camera images, which {model.model_architecture} "
            "(model_params.model_architecture) is not given; it is for arch_2dpass"
        )
    if not model.frozen_teacher and not (model.pretrained2d or teacher_given):
        raise UserError(
            "--pretrain_distill needs a teacher that has learned something, and this ResNet-34 has random weights: "
            "set model_params.pretrained2d=true (ImageNet), or give --pretrain2d and --checkpoint (the image branch of "
            "a 2DPASS, or a ResNet-34)"
        )
    if isinstance(config.train_params.lr_scheduler, PlateauParams):
        raise UserError(
            "train_params.lr_scheduler ReduceLROnPlateau follows a score, and --pretrain_distill, which looks at no "
            "labels, has none: choose another"
        )
    changes: dict[str, Any] = {}
    idle: list[str] = []
    if isinstance(data, SemanticKITTIImages) and data.dataset_type != "point_image_dataset_semkitti":
        changes["dataset_type"] = "point_image_dataset_semkitti"
        idle.append(f"dataset_params.dataset_type {data.dataset_type} (the mixing)")
    if data.mixing is not None:
        changes["mixing"] = None
        idle.append("dataset_params.mixing")
    if data.label_fraction is not None:
        changes["label_fraction"] = None
        idle.append("dataset_params.label_fraction (all scans are learned from)")
    if (corruption := data.corruption_aug) is not None:
        kept = tuple(name for name in corruption.corruptions if name not in LOOK_AT_LABELS)
        if lost := [name for name in corruption.corruptions if name not in kept]:
            changes["corruption_aug"] = corruption.model_copy(update={"corruptions": kept}) if kept else None
            idle.append(f"dataset_params.corruption_aug {', '.join(lost)}")
    if not idle:
        return config, []
    notes = [f"note: --pretrain_distill looks at no labels and leaves out what is about them: {'; '.join(idle)}"]
    return config.model_copy(update={"dataset_params": data.model_copy(update=changes)}), notes
