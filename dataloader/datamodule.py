"""Config -> Lightning DataModule."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Sampler

from dataloader.augment.options import AugmentOptions
from dataloader.augment.weather import CorruptionOptions, severities_of
from dataloader.catalogue import data_set_of, request
from dataloader.dataset import SegmentationDataset
from dataloader.datasets.data_set import Part
from dataloader.datasets.past_sweeps import refuse_lone_scans
from dataloader.datasets.source import Source
from dataloader.first_look import measure_usable, refuse_unlabelled, refuse_unusable
from dataloader.sampler import EpochSampler, ShardSampler, steps_per_epoch
from dataloader.workers import start_worker, starting_workers
from utils.config.data import CorruptionAugmentation, PointImageDataset, SemanticKITTIImages
from utils.config.loaders import LoaderParams
from utils.config.schema import Config
from utils.errors import UserError
from utils.labels import LabelMap
from utils.scan.batch import collate
from utils.scan.records import Frame, Sample
from utils.scan.sensor import Sensor
from utils.scan.statistics import Statistics

DEBUG_ITEMS = 100


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


class DataModule(pl.LightningDataModule):
    """The loaders of an experiment. Frames are listed when it is made, so what is missing is said before anything slow.

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

    Attributes:
        statistics: of the training scans, as measured; None without `fit`.
    """

    def __init__(
        self,
        config: Config,
        label_map: LabelMap,
        fit: bool,
        num_vote: int = 1,
        submit: bool = False,
        seed: int = 0,
        debug: bool = False,
        images: bool = True,
        num_devices: int = 1,
        source: Source | None = None,
    ) -> None:
        super().__init__()
        self.config, self.debug, self.seed = config, debug, seed
        data, data_set = config.dataset_params, data_set_of(config)
        self.images = images and isinstance(data, PointImageDataset)
        self.evaluated_part: Part = "test" if submit else "valid"
        low, high = data.bounds
        make = partial(SegmentationDataset, low=low, high=high, seed=seed, limit=DEBUG_ITEMS if debug else None)
        if source is None:
            part = self.evaluated_part
            source = data_set.open(request(config, part, data.val_data_loader, label_map, debug=debug))
        refuse_lone_scans(data, source)
        self.evaluation_set = make(source=source, num_vote=num_vote)
        if len(self.evaluation_set) < num_devices:
            raise UserError(
                f"{len(self.evaluation_set)} scans to evaluate are too few for {num_devices} processes; "
                "use fewer devices"
            )
        refuse_unusable(self.evaluation_set)
        self.training_set: SegmentationDataset | None = None
        self.statistics: Statistics | None = None
        if fit:
            refuse_unlabelled(self.evaluation_set, "val_data_loader")
            part = "trainval" if config.train_params.trainval else "train"
            wanted = request(config, part, data.train_data_loader, label_map, self.images, debug)
            refuse_lone_scans(data, source := data_set.open(wanted))
            self.training_set = make(source=source, augment=_augmentation(config, self.images))
            self.statistics = measure_usable(self.training_set, config.model_params.num_classes, data_set.sensor)
            refuse_unlabelled(self.training_set, "train_data_loader")
            size = len(self.training_set) if debug or data.training_size is None else data.training_size
            self.steps_per_epoch = steps_per_epoch(size, data.train_data_loader.batch_size, num_devices)

    def train_dataloader(self) -> DataLoader[Sample]:
        """Makes the loader of the training set, in an order that the seed and the epoch give."""
        assert self.training_set is not None
        params = self.config.dataset_params.train_data_loader
        sampler = EpochSampler(len(self.training_set), params.shuffle, self.seed, *self._rank())
        return self._loader(self.training_set, params, sampler, self.images)

    def val_dataloader(self) -> DataLoader[Sample]:
        """Makes the loader of the evaluation set; test and validation share it."""
        params = self.config.dataset_params.val_data_loader
        # Shared out without padding: a padded scan would be counted twice.
        return self._loader(self.evaluation_set, params, ShardSampler(len(self.evaluation_set), *self._rank()), False)

    test_dataloader = val_dataloader

    @property
    def notes(self) -> list[str]:
        """Lines for the user about what is doubtful in the scans."""
        datasets = [self.evaluation_set] if self.training_set is None else [self.training_set, self.evaluation_set]
        return list(dict.fromkeys(note for dataset in datasets for note in dataset.source.notes))

    def expected_frames(self) -> Iterable[tuple[Frame, int | None]]:
        """Lists every frame that a test evaluates."""
        source = self.evaluation_set.source
        return ((source.frame(i), None) for i in range(len(self.evaluation_set)))

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loader(
        self, dataset: SegmentationDataset, params: LoaderParams, sampler: Sampler, with_images: bool
    ) -> DataLoader[Sample]:
        workers = 0 if self.debug else params.num_workers
        return LazyLoader(
            dataset,
            batch_size=params.batch_size,
            sampler=sampler,
            num_workers=workers,
            collate_fn=partial(collate, with_images=with_images, input_dims=self.config.model_params.input_dims),
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            persistent_workers=workers > 0,
            # From Python 3.14 on the default would import everything again in every loader process, through a server
            # that outlives a killed run.
            multiprocessing_context="fork" if workers else None,
            generator=torch.Generator(),  # of the loader processes; else the network's dice would be thrown for them
            worker_init_fn=start_worker,
        )


def _augmentation(config: Config, images: bool) -> AugmentOptions:
    data = config.dataset_params
    loader = data.train_data_loader
    options = AugmentOptions(
        rotate=loader.rotate_aug,
        flip=loader.flip_aug,
        scale=loader.scale_aug,
        translate=loader.transform_aug,
        dropout=loader.dropout_aug,
        past_labels=data.past_labels,
        mix_instances=data.dataset_type == "point_image_dataset_mix_semkitti",
    )
    if (wanted := data.corruption_aug) is not None:
        options = replace(options, corruption=_corruption(wanted, data_set_of(config).sensor))
    if not images or not isinstance(data, PointImageDataset):
        return options
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
