"""Source + augmentation + test-time views = the items that are batched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from dataloader.augment.geometry import augment_points, drop_points
from dataloader.augment.image import bottom_crop, color_jitter, flip_horizontally, random_left
from dataloader.augment.mixing import NOTHING, mix_instances
from dataloader.augment.options import AugmentOptions
from dataloader.augment.weather import CorruptionOptions, apply_corruption, draw_corruption
from dataloader.datasets.chosen import fingerprint
from dataloader.datasets.past_sweeps import PastSweep, SourceWithPast
from dataloader.datasets.source import Source
from utils.errors import UserError
from utils.scan.evaluation import evaluation_sample
from utils.scan.records import Frame, Rows, Sample, Scan
from utils.scan.views import random_views
from utils.scan.volume import in_volume, past_in_volume


class SegmentationDataset(Dataset[Sample]):
    """Items for training (augmented, with the image if the source has one) or evaluation (as measured, no image).

    An item is a function of (seed, epoch, index) alone: workers, ranks and resumed runs see the same one. The scan is
    read once, however many votes are asked for.

    Args:
        source: where scans come from.
        low, high: the volume, 3 numbers each (m); the network sees the points strictly inside.
        augment: what to do to training items; None makes evaluation items.
        num_vote: views per scan at evaluation; 1 is the scan as it is.
        seed: of all randomness, not negative.
        limit: only the first so many items (--debug); None for all.
    """

    def __init__(
        self,
        source: Source,
        low: Sequence[float],
        high: Sequence[float],
        augment: AugmentOptions | None = None,
        num_vote: int = 1,
        seed: int = 0,
        limit: int | None = None,
    ) -> None:
        self.source = source
        self._with_past = source if isinstance(source, SourceWithPast) else None
        self.low, self.high = tuple(low), tuple(high)
        self.augment = augment
        self.num_vote = num_vote
        self.seed = seed
        self._length = len(source) if limit is None else min(limit, len(source))

    def __len__(self) -> int:
        return self._length

    def fingerprint(self) -> str:
        """Describes which scans these are: their number, and a digest of their names in order."""
        return fingerprint(self.frames())

    def frames(self) -> list[Frame]:
        """Lists which scans these are."""
        return [self.source.frame(index) for index in range(self._length)]

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """Makes item `index` of epoch 0, or item (epoch, index).

        Raises:
            UserError: a file is bad, or no point of the scan lies inside the volume.
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < self._length:
            raise IndexError(f"item {index} of {self._length}")
        if self.augment is None:
            return self._evaluation_item(index)
        return self._training_item(index, self.augment, np.random.default_rng([self.seed, epoch, index]))

    def _training_item(self, index: int, options: AugmentOptions, rng: np.random.Generator) -> Sample:
        chosen = NOTHING if options.mixing is None else options.mixing.choose(rng)
        camera = int(rng.integers(self.source.num_cameras)) if self.source.num_cameras else None
        scan = self._cropped_and_dropped(index, camera, options, rng)
        if len(scan) == 0:
            raise self.nothing_inside(self.source.read(index, None))
        if scan.image is not None or scan.image_features is not None:
            scan = _augment_image(scan, options, rng)
        for pair in chosen.pairs:
            scan = pair.mix(scan, lambda: self._cropped_and_dropped(self._another(index, rng), None, options, rng), rng)
        if chosen.pairs and not (inside := self._inside(scan)).all():  # things may have been turned out of the volume
            scan = scan.select(inside)
        scan = augment_points(scan, options, rng)
        if chosen.instances:
            other = self._cropped_and_dropped(int(rng.integers(self._length)), None, options, rng)
            scan = mix_instances(scan, augment_points(other, options, rng))
        if options.mixing is not None and not options.past_labels:
            scan = replace(scan, labels=np.where(scan.ages == 0, scan.labels, np.uint8(0)))
        return Sample(scan)

    def _another(self, index: int, rng: np.random.Generator) -> int:
        """Draws the number of another scan; of one scan there is no other."""
        if self._length == 1:
            return index
        return (index + 1 + int(rng.integers(self._length - 1))) % self._length

    def _cropped_and_dropped(
        self, index: int, camera: int | None, options: AugmentOptions, rng: np.random.Generator
    ) -> Scan:
        """Reads a scan for training, its past sweeps after it; what is drawn for it comes before what they draw."""
        measured = self.source.read(index, camera)
        corrupt = _drawn(options.corruption, rng)
        scan = measured if corrupt is None else corrupt(measured)
        inside = self._inside(scan)
        if not inside.any() and corrupt is not None:  # the corruption may have left nothing
            scan, corrupt = measured, None
            inside = self._inside(scan)
        past = self._past_of(index)
        if not past:
            return scan.select(_kept(inside, options, rng))
        scans, rows = [scan], [_kept(inside, options, rng)]
        for sweep in past:
            scan = self._past_scan(sweep, options, corrupt)
            scans.append(scan)
            rows.append(_kept(past_in_volume(scan.xyz, self.low, self.high), options, rng))
        return Scan.concatenate(scans, rows)

    def _past_scan(self, sweep: PastSweep, options: AugmentOptions, corrupt: Corrupt | None) -> Scan:
        """Reads a past sweep for training; it is corrupted as the current one is, by draws of its own."""
        # Labels and instances say what is to be mixed in; the labels that are not wanted go when that is done.
        scan = self._read_past(sweep, options.past_labels or options.mixing is not None)
        return sweep.moved(scan if corrupt is None else corrupt(scan))

    def _inside(self, scan: Scan) -> NDArray[np.bool_]:
        return in_volume(scan.xyz, self.low, self.high)

    def _past_of(self, index: int) -> Sequence[PastSweep]:
        return () if self._with_past is None else self._with_past.past(index)

    def _read_past(self, sweep: PastSweep, with_labels: bool) -> Scan:
        assert self._with_past is not None  # it has named the sweep
        return self._with_past.read_past(sweep, with_labels)

    def _evaluation_item(self, index: int) -> Sample:
        scan = self.source.read(index, None)
        inside = self._inside(scan)
        if not inside.any():
            raise self.nothing_inside(scan)
        views = random_views(self.num_vote, np.random.default_rng([self.seed, index]))
        return evaluation_sample(scan, inside, views, [self._past_inside(sweep) for sweep in self._past_of(index)])

    def _past_inside(self, sweep: PastSweep) -> Scan:
        """Reads the points of a past sweep that lie inside the volume, without their labels."""
        scan = sweep.moved(self._read_past(sweep, with_labels=False))
        inside = past_in_volume(scan.xyz, self.low, self.high)
        return scan if inside.all() else scan.select(inside)

    def nothing_inside(self, scan: Scan) -> UserError:
        """Makes the error about a scan that has no point for the network."""
        path, finite = scan.frame.path, scan.xyz[np.isfinite(scan.xyz).all(axis=1)]
        if not len(finite):
            return UserError(f"{path}: no point has finite coordinates; unpack the scan again, or remove it")
        places = ", ".join(f"{value:.0f}" for value in np.median(finite, axis=0))
        return UserError(
            f"{path}: no point lies inside the volume {list(self.low)} to {list(self.high)}, most lie around "
            f"({places}) m; check the file (metres around the sensor?), or dataset_params.min_volume_space and "
            "max_volume_space"
        )


def _kept(inside: NDArray[np.bool_], options: AugmentOptions, rng: np.random.Generator) -> Rows:
    """Chooses the points inside the volume that are trained on."""
    # numpy takes rows by number faster than by a mask without order.
    return np.flatnonzero(drop_points(inside, rng)) if options.dropout else inside


Corrupt = Callable[[Scan], Scan]
"""A function that corrupts a whole sweep."""


def _drawn(options: CorruptionOptions | None, rng: np.random.Generator) -> Corrupt | None:
    """Draws a corruption, with the chance that the options give; each sweep is corrupted by draws of its own."""
    if options is None or rng.random() >= options.chance:
        return None
    drawn, sensor = draw_corruption(options.names, rng, options.sensor), options.sensor
    return lambda scan: apply_corruption(drawn, scan, rng, sensor)


def _augment_image(scan: Scan, options: AugmentOptions, rng: np.random.Generator) -> Scan:
    """Crops, jitters and flips the image, pixels included."""
    if options.bottom_crop is not None and scan.image is not None:
        scan = bottom_crop(scan, options.bottom_crop, random_left(scan.image.shape[1], options.bottom_crop[0], rng))
    if options.color_jitter is not None and scan.image is not None:
        scan = replace(scan, image=color_jitter(scan.image, options.color_jitter, rng))
    return flip_horizontally(scan) if rng.random() < options.flip2d else scan
