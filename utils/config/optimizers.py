"""The optimisers: the kinds of `train_params.optimizer`. Another one is a class here and an entry of
`OptimizerParams`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo
from pydantic import field_validator as check

from utils.config.fields import NotNegative, Positive
from utils.config.kinds import FlatKind

_NAME = "The optimiser."


class OptimizerSettings(FlatKind):
    """What every optimiser has."""

    learning_rate: Positive = Field(description="Peak learning rate.")


class SGDParams(OptimizerSettings):
    """Stochastic gradient descent, as published for the full-size runs."""

    name: Literal["SGD"] = Field(description=_NAME)
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.9, description="Momentum.")
    nesterov: bool = Field(default=True, description="Nesterov momentum; it needs a momentum above 0.")
    weight_decay: NotNegative = Field(default=1e-4, description="L2 penalty on the weights.")

    @check("nesterov")
    @classmethod
    def _nesterov_has_momentum(cls, nesterov: bool, info: ValidationInfo) -> bool:
        if nesterov and info.data.get("momentum") == 0:
            raise ValueError("must be false where momentum is 0")
        return nesterov


class AdamParams(OptimizerSettings):
    """Adam with its usual betas; as published, the learning rate is all that it takes."""

    name: Literal["Adam"] = Field(description=_NAME)


OptimizerParams = SGDParams | AdamParams
