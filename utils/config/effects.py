"""Keys that a flag of the command leaves without an effect: refused where they ask for something."""

from __future__ import annotations

from collections.abc import Iterator

from utils.config.data import PointImageDataset
from utils.config.kinds import asks_something, is_default
from utils.config.model import ModelParams
from utils.config.schema import Config, architectures
from utils.config.train import TrainParams
from utils.errors import UserError

_OF_IMAGES = ("bottom_crop", "color_jitter", "flip2d", "image_normalizer")
"""Keys of the data set about how an image is changed; `resize` also says what is read, and always has its effect."""


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
    if isinstance(config.dataset_params, PointImageDataset) and config.dataset_params.teacher_cache is not None:
        yield _with_baseline_only("dataset_params.teacher_cache", config.dataset_params.teacher_cache)
    if model.pretrained2d:
        yield _with_baseline_only("model_params.pretrained2d", "true")
    for name, field in TrainParams.model_fields.items():
        value = getattr(training, name)
        if architectures(field) and asks_something(value, field):
            yield _with_baseline_only(f"train_params.{name}", f"{value:g}")


def _with_baseline_only(key: str, value: str) -> str:
    return f"{key} is {value}, but --baseline_only trains the 3D network without its image branch: remove one of them"


def idle_image_keys(config: Config, baseline_only: bool) -> list[str]:
    """Returns a line about the image keys that a frozen teacher does not follow, if there are any.

    Published files hold them, so they are not refused. Arguments are those of `refuse_idle`.
    """
    model, data = config.model_params, config.dataset_params
    if baseline_only or not isinstance(model, ModelParams) or not model.frozen_teacher:
        return []
    fields = {name: field for name, field in type(data).model_fields.items() if name in _OF_IMAGES}
    keys = [name for name, field in fields.items() if asks_something(getattr(data, name), field)]
    if not keys:
        return []
    return [
        f"note: model_params.backbone_2d {model.backbone_2d} sees the whole image as it is, without an effect of "
        f"dataset_params.{', '.join(keys)}"
    ]


def _of_averaging(config: Config, averaging: bool) -> Iterator[str]:
    start, decay = config.train_params.swa_epoch_start, config.train_params.ema_decay
    if averaging and decay is not None:
        yield f"train_params.ema_decay is {decay:g}, but --SWA averages weights in another way: remove one of them"
    if not averaging and not is_default(start, TrainParams.model_fields["swa_epoch_start"]):
        yield f"train_params.swa_epoch_start is {start:g}, but only --SWA averages weights: give --SWA, or remove it"
