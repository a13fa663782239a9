"""The scans that an experiment asks for, found on disk before anything slow: neither torch nor a scan is needed yet."""

from __future__ import annotations

from dataclasses import dataclass

from dataloader.catalogue import data_set_of, request
from dataloader.datasets.chosen import choose
from dataloader.datasets.data_set import Part
from dataloader.datasets.past_sweeps import refuse_lone_scans
from dataloader.datasets.source import Source
from utils.config.data import PointImageDataset
from utils.config.schema import Config
from utils.errors import UserError
from utils.labels import LabelMap

DEBUG_ITEMS = 100
"""So many items of each split --debug takes."""


@dataclass(frozen=True)
class Sources:
    """The scans of an experiment.

    Attributes:
        evaluated: those to validate or to test on.
        training: those to train on, a part of them with `dataset_params.label_fraction`; None for a test.
    """

    evaluated: Source
    training: Source | None = None


def open_sources(
    config: Config,
    label_map: LabelMap,
    fit: bool,
    submit: bool = False,
    debug: bool = False,
    images: bool = True,
    labels: bool = True,
) -> Sources:
    """Finds the scans of a config on disk.

    Args:
        config: the experiment.
        label_map: ids and splits.
        fit: whether to find those of a training, too.
        submit: evaluate the test split, else the validation split.
        debug: take the small edition of the data set, if it has one.
        images: whether training items are to have their camera image, if the data set has images.
        labels: whether labels are read. Without them nothing is evaluated: `Sources.evaluated` is then the training
            scans.

    Raises:
        UserError: something is missing there.
    """
    data, data_set = config.dataset_params, data_set_of(config)
    evaluated = None
    if labels:
        part: Part = "test" if submit else "valid"
        evaluated = data_set.open(request(config, part, data.val_data_loader, label_map, debug=debug))
        refuse_lone_scans(data, evaluated)
        if not fit:
            return Sources(evaluated)
    training = open_training(config, label_map, debug, images, labels)
    return Sources(training if evaluated is None else evaluated, training)


def open_training(
    config: Config, label_map: LabelMap, debug: bool = False, images: bool = True, labels: bool = True
) -> Source:
    """Finds the training scans of a config on disk; the arguments are those of `open_sources`.

    Raises:
        UserError: something is missing there.
    """
    data, part = config.dataset_params, "trainval" if config.train_params.trainval else "train"
    wanted = request(config, part, data.train_data_loader, label_map, images and has_images(config), debug, labels)
    refuse_lone_scans(data, training := data_set_of(config).open(wanted))
    return training if data.label_fraction is None else choose(training, data.label_fraction)


def has_images(config: Config) -> bool:
    """Returns whether the data set of a config comes with camera images."""
    return isinstance(config.dataset_params, PointImageDataset)


def refuse_too_few(scans: int, processes: int) -> None:
    """Refuses an evaluation in which a process would have nothing to do.

    Raises:
        UserError: there are fewer scans than processes.
    """
    if scans < processes:
        raise UserError(f"{scans} scans to evaluate are too few for {processes} processes; use fewer devices")
