"""The `train_params` of a configuration: the optimiser, its schedule, and the length of the training."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationInfo
from pydantic import field_validator as check

from utils.config.fields import Epochs, ForKinds, NotNegative, Positive, PositiveInt, Share
from utils.config.kinds import SectionOfKinds
from utils.config.optimizers import AdamWParams, OptimizerParams, SGDParams
from utils.config.schedules import OneCycleParams, ScheduleParams

_MOMENTUM = 0.9  # the default of SGD, and of AdamW's first beta


class TrainParams(SectionOfKinds):
    """Optimisation and the weights of the losses."""

    max_num_epochs: Epochs = Field(description="Length of the training, in epochs.")
    learning_rate: Positive = Field(description="Learning rate at the peak of the schedule.")
    optimizer: OptimizerParams = Field(discriminator="name", description="The optimiser.")
    lr_scheduler: ScheduleParams = Field(
        discriminator="name",
        description="Schedule of the learning rate; CosineAnnealingWarmRestarts is a per-step cosine after a warm-up.",
    )
    lambda_seg2d: Annotated[NotNegative, ForKinds("arch_2dpass")] = Field(
        default=1.0, description="Weight of the segmentation loss of the fused branch; not with --baseline_only."
    )
    lambda_xm: Annotated[NotNegative, ForKinds("arch_2dpass")] = Field(
        default=0.05, description="Weight of the distillation (KL) loss; not with --baseline_only."
    )
    lambda_lovasz: NotNegative | None = Field(
        default=None,
        description="Weight of Lovasz-Softmax in the loss of the 3D head; null: 0.1 for 2DPASS, 1 for voxel models.",
    )
    trainval: bool = Field(
        default=False, description="Train on the validation scans too; not with the nuScenes tables v1.0-mini."
    )
    swa_epoch_start: Share = Field(
        default=0.75, description="Share of the epochs after which weights are averaged; only with --SWA."
    )
    gradient_clip_norm: Positive = Field(
        default=1.0, description="Gradients with a larger norm are scaled down to this one."
    )
    accumulate_grad_batches: PositiveInt = Field(
        default=1,
        description="Batches whose mean gradient makes an optimiser step; the last step of an epoch may have fewer.",
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0,
        description="Share of each target in the cross-entropy that is spread evenly over the classes but the ignored.",
    )
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Decay per optimiser step of a moving average of the weights, which validation, checkpoints and "
        "test then use; null: none. Not with --SWA.",
    )
    sync_batchnorm: bool = Field(
        default=False, description="Share batch statistics between GPUs; without an effect on one GPU and on CPUs."
    )

    @check("lr_scheduler")
    @classmethod
    def _momentum_is_set_once(cls, schedule: ScheduleParams, info: ValidationInfo) -> ScheduleParams:
        if not isinstance(schedule, OneCycleParams) or not schedule.cycle_momentum:
            return schedule
        match info.data.get("optimizer"):
            case SGDParams(momentum=momentum) if momentum != _MOMENTUM:
                key = "momentum"
            case AdamWParams(betas=(first, _)) if first != _MOMENTUM:
                key = "betas"
            case _:
                return schedule
        raise ValueError(
            f"OneCycleLR sets the momentum in every step, so that train_params.{key} has no effect: remove it, or set "
            "train_params.cycle_momentum to false"
        )
