"""The kinds of `train_params.optimizer`.

A new optimiser is a class here, an entry of `OptimizerParams`, and a case in `network.training.optimizers`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo
from pydantic import field_validator as check

from utils.config.fields import NotNegative, list_of
from utils.config.kinds import FlatKind

_NAME = "The optimiser."
_BETA = Annotated[float, Field(ge=0, lt=1)]


class SGDParams(FlatKind):
    """Stochastic gradient descent, as published for the full-size runs."""

    name: Literal["SGD"] = Field(default="SGD", description=_NAME)
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.9, description="Share of the last step that is added to the next one."
    )
    nesterov: bool = Field(default=True, description="Nesterov momentum; it needs a momentum above 0.")
    weight_decay: NotNegative = Field(default=1e-4, description="L2 penalty on the weights.")

    @check("nesterov")
    @classmethod
    def _nesterov_has_momentum(cls, nesterov: bool, info: ValidationInfo) -> bool:
        if nesterov and info.data.get("momentum") == 0:
            raise ValueError("must be false where momentum is 0")
        return nesterov


class AdamParams(FlatKind):
    """Adam with its usual betas; as published, it takes nothing but the learning rate."""

    name: Literal["Adam"] = Field(default="Adam", description=_NAME)


class AdamWParams(FlatKind):
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019)."""

    name: Literal["AdamW"] = Field(default="AdamW", description=_NAME)
    weight_decay: NotNegative = Field(
        default=0.01, description="Share of a weight, times the learning rate, that each step takes away."
    )
    betas: Annotated[tuple[_BETA, _BETA], list_of(2)] = Field(
        default=(0.9, 0.999), description="Decay rates of the means of gradients and of their squares."
    )


OptimizerParams = SGDParams | AdamParams | AdamWParams
