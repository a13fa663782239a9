"""Config -> Lightning DataModule."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
from torch.utils.data import DataLoader, Sampler

from dataloader.augment import AugmentOptions
from dataloader.batch import collate
from dataloader.dataset import SegmentationDataset, Source
from dataloader.sampler import EpochSampler, ShardSampler
from dataloader.semantickitti import SemanticKITTI, Split
from utils.config import Config, LoaderParams, expand_home
from utils.errors import UserError
from utils.labels import LabelMap
from utils.schedules import steps_per_epoch
from utils.structures import Frame, Sample

DEBUG_ITEMS = 100


class DataModule(pl.LightningDataModule):
    """The loaders of an experiment. Frames are listed when it is made, so what is missing is said before anything slow.

    Args:
        config: the experiment.
        label_map: ids and splits.
        fit: prepare training and validation; otherwise the test.
        num_vote: views per scan at test.
        submit: test on the test split, else on the validation split.
        seed: of order and augmentation.
        debug: a hundred items, no workers.
        images: give training items their camera image.
        num_devices: processes over all nodes, for the length of an epoch.
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
    ) -> None:
        super().__init__()
        self.config, self.debug, self.images, self.seed = config, debug, images, seed
        data = config.dataset_params
        limit = DEBUG_ITEMS if debug else None
        make = partial(
            SegmentationDataset, low=data.min_volume_space, high=data.max_volume_space, seed=seed, limit=limit
        )
        self.evaluated = make(
            source=self._source(data.val_data_loader, "test" if submit else "valid", label_map, images=False),
            num_vote=num_vote,
        )
        if len(self.evaluated) < num_devices:
            raise UserError(
                f"{len(self.evaluated)} scans to evaluate are too few for {num_devices} processes; use fewer devices"
            )
        self.trained: SegmentationDataset | None = None
        if fit:
            split = "trainval" if config.train_params.trainval else "train"
            self.trained = make(
                source=self._source(data.train_data_loader, split, label_map, images),
                augment=_augmentation(config, images),
            )
            size = len(self.trained) if debug or data.training_size is None else data.training_size
            self.steps_per_epoch = steps_per_epoch(size, data.train_data_loader.batch_size, num_devices)

    def _source(self, loader: LoaderParams, split: Split, label_map: LabelMap, images: bool) -> Source:
        return SemanticKITTI(_data_path(loader.data_path), split, label_map, load_image=images)

    def train_dataloader(self) -> DataLoader[Sample]:
        assert self.trained is not None
        params = self.config.dataset_params.train_data_loader
        sampler = EpochSampler(len(self.trained), params.shuffle, self.seed, *self._rank())
        return self._loader(self.trained, params, sampler, self.images)

    def val_dataloader(self) -> DataLoader[Sample]:
        params = self.config.dataset_params.val_data_loader
        # Shared out without padding: a padded scan would be counted twice.
        return self._loader(self.evaluated, params, ShardSampler(len(self.evaluated), *self._rank()), False)

    test_dataloader = val_dataloader

    def expected_frames(self) -> Iterable[tuple[Frame, int | None]]:
        """Every frame that a test evaluates."""
        source = self.evaluated.source
        return ((source.frame(i), None) for i in range(len(self.evaluated)))

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loader(
        self, dataset: SegmentationDataset, params: LoaderParams, sampler: Sampler, with_images: bool
    ) -> DataLoader[Sample]:
        workers = 0 if self.debug else params.num_workers
        normalizer = self.config.dataset_params.image_normalizer
        return DataLoader(
            dataset,
            batch_size=params.batch_size,
            sampler=sampler,
            num_workers=workers,
            collate_fn=partial(collate, normalizer=normalizer, with_images=with_images),
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            persistent_workers=workers > 0,
        )


def _augmentation(config: Config, images: bool) -> AugmentOptions:
    data = config.dataset_params
    loader = data.train_data_loader
    return AugmentOptions(
        rotate=loader.rotate_aug,
        flip=loader.flip_aug,
        scale=loader.scale_aug,
        translate=loader.transform_aug,
        dropout=loader.dropout_aug,
        mix_instances=data.dataset_type == "point_image_dataset_mix_semkitti",
        bottom_crop=data.bottom_crop if images else None,
        color_jitter=data.color_jitter if images else None,
        flip2d=data.flip2d if images else 0.0,
    )


def _data_path(name: str) -> Path:
    path = expand_home(name, key="data_path")
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: data_path is not a folder")
    return path
