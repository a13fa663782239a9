"""Config -> the scans of an experiment and their loaders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from dataloader.augment.mixing import Mixing
from dataloader.augment.options import AugmentOptions
from dataloader.augment.weather import CorruptionOptions, severities_of
from dataloader.catalogue import data_set_of
from dataloader.dataset import SegmentationDataset
from dataloader.datasets.chosen import chosen_number
from dataloader.datasets.past_sweeps import refuse_lone_scans
from dataloader.datasets.source import Source
from dataloader.experiment import Experiment
from dataloader.first_look import measure_usable, refuse_unlabelled, refuse_unusable
from dataloader.mixing import mixing_of
from dataloader.opening import DEBUG_ITEMS, Sources, has_images, open_sources, refuse_too_few
from dataloader.sampler import EpochSampler, ShardSampler, steps_per_epoch
from dataloader.workers import start_worker, starting_workers
from utils.config.data import CorruptionAugmentation, DatasetParams, PointImageDataset, SemanticKITTIImages
from utils.config.loaders import LoaderParams
from utils.config.model import ModelParams
from utils.config.schema import Config
from utils.errors import UserError
from utils.labels import LabelMap
from utils.scan.batch import pack
from utils.scan.records import Frame, Sample
from utils.scan.sensor import Sensor
from utils.scan.statistics import Statistics


class LazyLoader(DataLoader[Sample]):
    """Asks for the first item when the first batch is wanted, not before.

    Lightning makes an iterator before it tells the sampler which epoch it is; loader processes would by then have been
    asked for items of another one.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        yield from super().__iter__()

    def _get_iterator(self) -> Any:
        with starting_workers():
            return super()._get_iterator()


class DataModule:
    """The scans of an experiment, which are looked at when it is made, and their loaders.

    Args:
        config: the experiment.
        label_map: ids and splits.
        fit: prepare training and validation; otherwise the test.
        num_vote: views per scan at test.
        submit: test on the test split, else on the validation split.
        seed: of order and augmentation.
        debug: a hundred items, no workers, and the small edition of the data set if it has one (nuScenes: v1.0-mini).
        images: give training items their camera image, if the data set has images.
        num_devices: processes over all nodes, for the length of an epoch.
        source: scans to evaluate in place of those of the config.
        sources: all scans, if they have been found already; `fit`, `submit` and `source` are then those of them.
        labels: read the labels; without them there is nothing to evaluate, and `evaluation_set` has training scans.

    Attributes:
        statistics: of the training scans, as measured; None without `fit` and without `labels`.
    """

    def __init__(
        self,
        config: Config,
        label_map: LabelMap,
        fit: bool = False,
        num_vote: int = 1,
        submit: bool = False,
        seed: int = 0,
        debug: bool = False,
        images: bool = True,
        num_devices: int = 1,
        source: Source | None = None,
        sources: Sources | None = None,
        labels: bool = True,
    ) -> None:
        self.config, self.debug, self.seed = config, debug, seed
        data, data_set = config.dataset_params, data_set_of(config)
        self.images = images and has_images(config)
        low, high = data.bounds
        make = partial(SegmentationDataset, low=low, high=high, seed=seed, limit=DEBUG_ITEMS if debug else None)
        if source is not None:
            refuse_lone_scans(data, source)
            sources = Sources(source)
        if sources is None:
            sources = open_sources(config, label_map, fit, submit, debug, images, labels)
        self.evaluation_set = make(source=sources.evaluated, num_vote=num_vote)
        refuse_too_few(len(self.evaluation_set), num_devices)
        refuse_unusable(self.evaluation_set)
        self.training_set: SegmentationDataset | None = None
        self.statistics: Statistics | None = None
        if sources.training is not None:
            scans = make(source=sources.training)
            if labels:
                refuse_unlabelled(self.evaluation_set, "val_data_loader")
                self.statistics = measure_usable(scans, config.model_params.num_classes, data_set.sensor)
                refuse_unlabelled(scans, "train_data_loader")
            # The scans have been looked at: to cut objects out of all of them may take minutes.
            workers, limit = (0, DEBUG_ITEMS) if debug else (data.train_data_loader.num_workers, None)
            self.training_set = training_items(config, label_map, scans.source, self.images, seed, limit, workers)
            size = len(self.training_set) if debug else expected_scans(data) or len(self.training_set)
            accumulated = config.train_params.accumulate_grad_batches
            self.steps_per_epoch = steps_per_epoch(size, data.train_data_loader.batch_size, num_devices, accumulated)

    @staticmethod
    def of(experiment: Experiment, **how: Any) -> DataModule:
        """Opens the scans of an experiment; `how` are the arguments that are no part of it.

        Raises:
            UserError: something is missing there.
        """
        fixed = {"seed": experiment.seed, "debug": experiment.debug, "num_devices": experiment.devices.count}
        return DataModule(experiment.config, experiment.label_map, **fixed, **how)

    def train_dataloader(
        self, rank: int = 0, world_size: int = 1, pin_memory: bool = False, begun: tuple[int, int] = (0, 0)
    ) -> DataLoader[Sample]:
        """Makes the loader of the training set, in an order that the seed and the epoch give.

        Args:
            rank, world_size: number of this process, and of all of them, which share the scans.
            pin_memory: whether batches lie in page-locked memory, from where they go to a GPU.
            begun: an epoch, and its first scans that are left out, since they have been trained on.
        """
        assert self.training_set is not None
        params = self.config.dataset_params.train_data_loader
        sampler = EpochSampler(len(self.training_set), params.shuffle, self.seed, rank, world_size)
        sampler.begin_within(*begun)
        return self._loader(self.training_set, params, sampler, self.images, pin_memory)

    def val_dataloader(self, rank: int = 0, world_size: int = 1, pin_memory: bool = False) -> DataLoader[Sample]:
        """Makes the loader of the evaluation set; test and validation share it. Arguments as for `train_dataloader`."""
        params = self.config.dataset_params.val_data_loader
        # Shared out without padding: a padded scan would be counted twice.
        sampler = ShardSampler(len(self.evaluation_set), rank, world_size)
        return self._loader(self.evaluation_set, params, sampler, False, pin_memory)

    @property
    def notes(self) -> list[str]:
        """Lines for the user about what is doubtful in the scans."""
        datasets = [self.evaluation_set] if self.training_set is None else [self.training_set, self.evaluation_set]
        return list(dict.fromkeys(note for dataset in datasets for note in dataset.source.notes))

    def expected_frames(self) -> Iterable[tuple[Frame, int | None]]:
        """Lists every frame that a test evaluates."""
        source = self.evaluation_set.source
        return ((source.frame(i), None) for i in range(len(self.evaluation_set)))

    def _loader(
        self, dataset: SegmentationDataset, params: LoaderParams, sampler: Sampler, with_images: bool, pin_memory: bool
    ) -> DataLoader[Sample]:
        workers = 0 if self.debug else params.num_workers
        return LazyLoader(
            dataset,
            batch_size=params.batch_size,
            sampler=sampler,
            num_workers=workers,
            collate_fn=partial(pack, with_images=with_images, input_dims=self.config.model_params.input_dims),
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
            # From Python 3.14 on the default would import everything again in every loader process, through a server
            # that outlives a killed run.
            multiprocessing_context="fork" if workers else None,
            generator=torch.Generator(),  # of the loader processes; else the network's dice would be thrown for them
            worker_init_fn=start_worker,
        )


def expected_scans(data: DatasetParams) -> int | None:
    """Returns how many scans a config expects to train on; None: they are to be counted."""
    if data.training_size is None or data.label_fraction is None:
        return data.training_size
    return chosen_number(data.training_size, data.label_fraction)


def training_items(
    config: Config,
    label_map: LabelMap,
    source: Source,
    images: bool = True,
    seed: int = 0,
    limit: int | None = None,
    processes: int = 0,
) -> SegmentationDataset:
    """Makes the items that a config trains on: scans of `source`, mixed and augmented.

    Args:
        config: the experiment.
        label_map: its classes.
        source: the training scans.
        images: whether items have their camera image.
        seed: of all randomness.
        limit: only the first so many items; None for all.
        processes: that cut objects out of the scans, if some are to be pasted and that has not been done yet; 0: this
            one does.
    """
    low, high = config.dataset_params.bounds
    number = len(source) if limit is None else min(limit, len(source))
    augment = _augmentation(config, images, mixing_of(config, label_map, source, number, processes))
    return SegmentationDataset(source, low, high, augment, seed=seed, limit=limit)


def _augmentation(config: Config, images: bool, mixing: Mixing | None) -> AugmentOptions:
    data = config.dataset_params
    loader = data.train_data_loader
    options = AugmentOptions(
        rotate=loader.rotate_aug,
        flip=loader.flip_aug,
        scale=loader.scale_aug,
        scale_z=loader.scale_z_aug,
        translate=loader.transform_aug,
        dropout=loader.dropout_aug,
        past_labels=data.past_labels,
        mixing=mixing,
    )
    if (wanted := data.corruption_aug) is not None:
        options = replace(options, corruption=_corruption(wanted, data_set_of(config).sensor))
    if not images or not isinstance(data, PointImageDataset):
        return options
    model = config.model_params
    if isinstance(model, ModelParams) and model.frozen_teacher:
        return options  # its features are to depend on the image alone
    crop = data.bottom_crop if isinstance(data, SemanticKITTIImages) else None
    return replace(options, bottom_crop=crop, color_jitter=data.color_jitter, flip2d=data.flip2d)


def _corruption(wanted: CorruptionAugmentation, sensor: Sensor) -> CorruptionOptions:
    known = severities_of(sensor)
    if lacking := [name for name in wanted.corruptions if name not in known]:
        raise UserError(
            f"dataset_params.corruption_aug: {lacking[0]} is not known for scans of {sensor.name}; name some of "
            f"{', '.join(known)}"
        )
    return CorruptionOptions(wanted.chance, wanted.corruptions, sensor)
