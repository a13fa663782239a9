"""The `train_params` of a configuration: the optimiser, its schedule, and the length of the training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo
from pydantic import field_validator as check

from utils.config.fields import Epochs, NotNegative, Positive, Section, Share


class TrainParams(Section):
    """Optimisation and the weights of the losses."""

    max_num_epochs: Epochs = Field(description="Epochs.")
    learning_rate: Positive = Field(description="Peak learning rate.")
    optimizer: Literal["SGD", "Adam"] = Field(description="The optimiser.")
    lr_scheduler: Literal["StepLR", "ReduceLROnPlateau", "CosineAnnealingLR", "CosineAnnealingWarmRestarts"] = Field(
        description="Schedule of the learning rate; CosineAnnealingWarmRestarts is a per-step cosine after a warm-up."
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.9, description="Momentum of SGD.")
    nesterov: bool = Field(default=True, description="Nesterov momentum, for SGD.")
    weight_decay: NotNegative = Field(default=1e-4, description="L2 penalty on the weights.")
    lambda_seg2d: NotNegative = Field(default=1.0, description="Weight of the segmentation loss of the fused branch.")
    lambda_xm: NotNegative = Field(default=0.05, description="Weight of the distillation (KL) loss.")
    lambda_lovasz: NotNegative | None = Field(
        default=None,
        description="Weight of Lovasz-Softmax in the loss of the 3D head; null: 0.1 for 2DPASS, 1 for voxel models.",
    )
    trainval: bool = Field(default=False, description="Train on the validation sequences too.")
    decay_step: Epochs | None = Field(
        default=None, description="Epochs per decay (StepLR), or of patience (ReduceLROnPlateau)."
    )
    decay_rate: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="Factor of each decay (StepLR, ReduceLROnPlateau)."
    )
    swa_epoch_start: Share = Field(default=0.75, description="Share of the epochs after which --SWA averages weights.")
    gradient_clip_norm: Positive = Field(default=1.0, description="Largest gradient norm.")
    sync_batchnorm: bool = Field(default=False, description="Share batch statistics between devices.")

    @check("nesterov")
    @classmethod
    def _nesterov_has_momentum(cls, nesterov: bool, info: ValidationInfo) -> bool:
        if nesterov and info.data.get("optimizer") == "SGD" and info.data.get("momentum") == 0:
            raise ValueError("must be false where momentum is 0")
        return nesterov

    @check("decay_step", "decay_rate")
    @classmethod
    def _decay_is_set(cls, value: float | None, info: ValidationInfo) -> float | None:
        scheduler = info.data.get("lr_scheduler")
        if value is None and scheduler in ("StepLR", "ReduceLROnPlateau"):
            raise ValueError(f"must be set for lr_scheduler {scheduler}")
        return value
