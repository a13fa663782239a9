"""Keys that a flag of the command leaves without an effect: refused where they ask for something."""

from __future__ import annotations

from collections.abc import Iterator

from utils.config.kinds import asks_something, is_default
from utils.config.model import ModelParams
from utils.config.schema import Config, architectures
from utils.config.train import TrainParams
from utils.errors import UserError


def refuse_idle(config: Config, baseline_only: bool, averaging: bool) -> None:
    """Refuses a training whose flags leave out what its config asks for.

    The image keys of the data set are not among them: published files hold them, and --baseline_only is for such files.

    Args:
        config: the experiment.
        baseline_only: whether --baseline_only was given, for the 3D network alone.
        averaging: whether --SWA was given.

    Raises:
        UserError: there are such keys; the message names them, and the flags that they need or exclude.
    """
    if problems := [*_of_the_image_branch(config, baseline_only), *_of_averaging(config, averaging)]:
        raise UserError("; ".join(problems))


def _of_the_image_branch(config: Config, baseline_only: bool) -> Iterator[str]:
    model, training = config.model_params, config.train_params
    if not baseline_only or not isinstance(model, ModelParams):
        return
    if model.pretrained2d:
        yield _with_baseline_only("model_params.pretrained2d", "true")
    for name, field in TrainParams.model_fields.items():
        value = getattr(training, name)
        if architectures(field) and asks_something(value, field):
            yield _with_baseline_only(f"train_params.{name}", f"{value:g}")


def _with_baseline_only(key: str, value: str) -> str:
    return f"{key} is {value}, but --baseline_only trains the 3D network without its image branch: remove one of them"


def _of_averaging(config: Config, averaging: bool) -> Iterator[str]:
    start = config.train_params.swa_epoch_start
    if not averaging and not is_default(start, TrainParams.model_fields["swa_epoch_start"]):
        yield f"train_params.swa_epoch_start is {start:g}, but only --SWA averages weights: give --SWA, or remove it"
