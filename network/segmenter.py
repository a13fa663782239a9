"""Labels for points of any origin, from Python: a checkpoint in, a `Segmenter` out, which is called with arrays.

segmenter = Segmenter.load("best.ckpt")
result = segmenter(points)                  # (N, 4) x, y, z, intensity, or (N, 3)
result.names[result.labels[0]]              # the class of the first point
results = segmenter.sequence(clouds, poses) # of a drive, for networks that take the scans before each one
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, overload

import numpy as np
import torch
from numpy.typing import NDArray

from network.assemble import load_for_test
from network.evaluation.graphed import GraphedEvaluation
from network.models.segmentation_network import SegmentationNetwork
from network.past import (
    History,
    checked_number,
    checked_numbers,
    checked_past,
    checked_trajectory,
)
from network.points import Points, as_cloud
from network.preparing import Preparation, Prepared
from network.result import Result
from network.trained_past import TrainedPast
from network.weights.configuration import Tested, open_for_test
from network.weights.description import read_description
from utils.errors import UserError
from utils.scan.alignment import Alignment
from utils.scan.batch import pack
from utils.scan.fitting import Fit, Misfit, diagnose
from utils.scan.past_cloud import PastCloud
from utils.scan.point_cloud import PointCloud
from utils.scan.records import Segmentation
from utils.scan.sensor import sensor_called
from utils.scan.views import random_views

Past = PastCloud | tuple[Points, Any, float]
"""An earlier cloud: its points, the motion from its frame to the current one, and its age."""

Precision = Literal["32", "bf16", "16"]
_AUTOCAST = {"32": None, "bf16": torch.bfloat16, "16": torch.float16}


class MisfitWarning(UserWarning):
    """A warning that a scan does not fit the scans that the network was trained on."""


class NoPastWarning(UserWarning):
    """A warning that a network that was trained with past scans is given none."""


class Segmenter:
    """A callable that labels point clouds with a trained network.

    It keeps no state between calls, so that several threads may call it at once. The same points always get the same
    labels: the views of a vote are the same ones for every cloud.

    Attributes:
        names: K names of the classes, the ignored one first.
        colors: (K, 3) uint8 RGB.
        label_map: the classes with their raw ids.
        sensor: the sensor of the training; its frame is the one that points are expected in.
        statistics: statistics of the training; None for published checkpoints and those of earlier versions.
        device: where the network is.
        alignment: what is done to points before the network sees them.
        past: the past scans of the training: how many, and the unit of their ages.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        tested: Tested,
        *,
        device: str | torch.device | None = None,
        precision: Precision = "32",
        votes: int = 1,
        alignment: Alignment | None = None,
        fit: Fit = "warn",
        seed: int = 0,
    ) -> None:
        config = tested.config
        description = read_description(tested.content, tested.path)
        self.label_map = tested.classes
        self.names: tuple[str, ...] = self.label_map.names
        self.colors = self.label_map.colors
        self.statistics = None if description is None else description.statistics
        self.sensor = sensor_called(config.dataset_params.pc_dataset_type)
        self.device = _device(device)
        self.alignment = alignment or Alignment()
        if precision not in _AUTOCAST:
            raise ValueError(f"precision must be one of {', '.join(_AUTOCAST)}, not {precision!r}")
        if precision == "16" and self.device.type == "cpu":
            raise ValueError('precision "16" needs a GPU; use "bf16" or "32" on the CPU')
        if fit not in get_args(Fit):
            raise ValueError(f'fit must be "warn", "auto" or "off", not {fit!r}')
        self._dtype, self._fit = _AUTOCAST[precision], fit
        if not isinstance(votes, int) or votes < 1:
            raise ValueError(f"votes must be a whole number of 1 or more, not {votes!r}")
        views = random_views(votes, np.random.default_rng([seed, 0]))
        self._preparation = Preparation(self.sensor, self.statistics, *config.dataset_params.bounds, views)
        self._input_dims = config.model_params.input_dims
        self.past = TrainedPast.of(config)
        network.warm_up(self.device, self._dtype or torch.float32, training=False)
        network = network.to(self.device).eval().requires_grad_(False)
        self._evaluation = GraphedEvaluation.of(network, self.device)

    @staticmethod
    def load(
        checkpoint: str | Path, config: str | Path | None = None, overrides: Sequence[str] = (), **settings: Any
    ) -> Segmenter:
        """Loads a checkpoint.

        Args:
            checkpoint: the file, from main.py or published.
            config: YAML of the experiment; needed for published checkpoints and those of earlier versions alone.
            overrides: `KEY=VALUE` texts that change keys of the config.
            settings: `device` ("cuda", "cuda:1", "cpu" or a `torch.device`; default: a GPU, if there is one),
                `precision` ("32", "bf16" or "16"), `votes` (views per scan, test-time augmentation; default 1),
                `alignment` (see `utils.scan.alignment.Alignment`), `fit` ("warn": clouds that do not fit the training
                give a `MisfitWarning`; "auto": they are put right as far as they can be; "off": nothing is compared),
                `seed` (of the views).

        Raises:
            UserError: the file is missing, damaged or of another network, or there is no config that fits it.
            ValueError: a setting has an impossible value.
        """
        named = None if config is None else str(config)
        tested = open_for_test(str(checkpoint), "default", named, overrides, _nothing)
        return Segmenter.of(tested, **settings)

    @staticmethod
    def of(tested: Tested, **settings: Any) -> Segmenter:
        """Builds the segmenter of a checkpoint that has been read; `settings` as in `load`."""
        network, _ = load_for_test(tested.config, tested.path, tested.content)
        return Segmenter(network, tested, **settings)

    @overload
    def __call__(self, points: Points, past: Sequence[Past] | None = None) -> Result: ...

    @overload
    def __call__(self, points: Sequence[Points]) -> list[Result]: ...

    def __call__(self, points: Points | Sequence[Points], past: Sequence[Past] | None = None) -> Result | list[Result]:
        """Labels a cloud, or each of a list of clouds that have nothing to do with each other.

        Args:
            points: (N, 4) x, y, z (metres, in the frame of the training data) and intensity (in its unit), or (N, 3)
                without intensities; NumPy or torch, on any device. A row with a NaN, or (0, 0, 0), is no return. Or a
                list of such arrays, of any lengths.
            past: earlier clouds of the same sensor, for one cloud and a network that was trained with past scans: of
                each its points, the motion (3, 4) or (4, 4) from the sensor's frame then to its frame now (in the axes
                and the unit of the points), and its age, above 0, in the unit `past.ages`. An empty list: there are
                none, at the start of a drive. `sequence` makes all of that of poses.

        Returns:
            The result for one cloud, or a list of results. Labels and all else are NumPy arrays, and of the points of
            the cloud alone, not of past ones.

        Raises:
            ValueError: the array has another shape or holds no numbers, a motion is none, or the network takes no past.
            UserError: there is no point that the network could label, or its outputs are NaN.
        """
        if points is None or isinstance(points, str | Path):
            raise ValueError(
                f"points must be an array, not {points!r}; files are for predict.py, or np.load and the like"
            )
        if past is None and self.past.scans:
            warnings.warn(f"{self.past}; it is given none here, see sequence()", NoPastWarning, stacklevel=2)
        if isinstance(points, PointCloud | np.ndarray | torch.Tensor):
            return self._one(as_cloud(points), self._checked_past(past))
        if past is not None:
            raise ValueError("past goes with one cloud, not with a list of clouds; sequence() takes those in order")
        return [self._one(as_cloud(each, f"cloud {number}")) for number, each in enumerate(points)]

    def sequence(
        self,
        clouds: Iterable[Points],
        poses: NDArray[Any] | torch.Tensor | Sequence[Any],
        past_scans: int | None = None,
        numbers: Sequence[int] | None = None,
        times: Sequence[float] | None = None,
    ) -> Iterator[Result]:
        """Labels the clouds of a drive, in order, each with the points of those before it.

        It takes a cloud when its result is wanted, and keeps the last `past_scans` ones, no more.

        Args:
            clouds: the clouds, from the first to the last; each as for a call. A generator will do.
            poses: (n, 4, 4) or (n, 3, 4), the pose of the sensor at each cloud, in any frame that all share; in the
                axes and the unit of the clouds.
            past_scans: how many clouds before each one are used; default: as in the training. 0: none.
            numbers: the frame number of each cloud, where some are left out; default: 0, 1, 2 and so on.
            times: when each was taken, seconds; for networks whose `past.ages` are seconds.

        Returns:
            An iterator of the results, one for each cloud, of its own points.

        Raises:
            ValueError: poses, numbers or times are none, or do not fit together; the network takes no past scans; or
                its ages are seconds, and there are no times.
            UserError: as for a call, when it is the turn of the cloud; the iterator goes on with the next one.
        """
        most = checked_number(self.past.scans if past_scans is None else past_scans)
        trajectory = checked_trajectory(poses, times)
        if most and not self.past.taken:
            raise ValueError(f"{self.past}; past_scans=0 labels each cloud alone")
        if most and self.past.ages == "seconds" and times is None:
            raise ValueError("the network has learned ages in seconds: times must say when each cloud was taken")
        if most and self.past.ages == "scans" and times is not None:
            raise ValueError("the network has learned ages in scans: leave out times; numbers says which are left out")
        history = History(trajectory, checked_numbers(numbers, len(trajectory)), most, self.past.ages)
        named = (as_cloud(each, f"cloud {number}") for number, each in enumerate(clouds))
        # A generator would end at the first cloud that has no usable point; the drive goes on after it.
        return map(lambda step: self._one(*step), history.steps(named))

    def diagnose(
        self, clouds: Sequence[PointCloud], given: Alignment | None = None
    ) -> tuple[tuple[Misfit, ...], Alignment]:
        """Compares clouds of one source with the training data; see `utils.scan.fitting.diagnose`.

        Without statistics of the training nothing is known of what fits, and nothing is found.
        """
        given = self.alignment if given is None else given
        if self.statistics is None:
            return (), given
        return diagnose(clouds, self.sensor, self.statistics, given)

    def prepare(
        self,
        cloud: PointCloud,
        alignment: Alignment | None = None,
        advice: str = "",
        past: Sequence[PastCloud] = (),
    ) -> Prepared:
        """Prepares a cloud on the CPU, while the network may be busy: alignment, volume, nearest points.

        Args:
            cloud: the points.
            alignment: what is done to them; None: what the segmenter was made with.
            advice: what to do about a cloud outside the volume, for the error; "": not known.
            past: earlier clouds, the newest first. They are moved to the cloud, and then aligned as it is.

        Raises:
            UserError: no point of the cloud is a return, or none lies inside the volume.
        """
        return self._preparation.prepare(cloud, alignment or self.alignment, advice, past)

    def segment(self, prepared: Sequence[Prepared]) -> list[Result]:
        """Runs the network on clouds that are prepared, as one batch.

        Raises:
            UserError: the outputs of the network are NaN or infinite.
        """
        samples = [one.sample for one in prepared]
        batch = pack(samples, with_images=False, input_dims=self._input_dims).to(self.device)
        with torch.inference_mode(), torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not None):
            found = self._evaluation.segment(batch, with_confidence=True)
        if not all(bool(each.finite) for each in found):
            raise UserError(
                "the network's outputs are NaN or infinite; its training has failed or its checkpoint is damaged (or "
                "--precision 16 is too narrow for it): take another checkpoint, or --precision 32"
            )
        return [self._result(one, each) for one, each in zip(prepared, found, strict=True)]

    def _checked_past(self, past: Sequence[Past] | None) -> list[PastCloud]:
        found = checked_past(() if past is None else past)
        if found and not self.past.taken:
            raise ValueError(f"{self.past}; leave out past")
        return found

    def _one(self, cloud: PointCloud, past: Sequence[PastCloud] = ()) -> Result:
        alignment = self.alignment
        if self._fit != "off":
            found, fitted = self.diagnose([cloud])
            if self._fit == "auto":
                alignment = fitted
            else:
                for misfit in found:
                    remedy = f"; fit='auto' puts it right, as does predict.py {misfit.remedy}" if misfit.remedy else ""
                    warnings.warn(f"{cloud.name}: {misfit.text}{remedy}", MisfitWarning, stacklevel=3)
        return self.segment([self.prepare(cloud, alignment, past=past)])[0]

    def _result(self, prepared: Prepared, segmentation: Segmentation) -> Result:
        there = np.isfinite(prepared.aligned).all(axis=1)
        inside = segmentation.whole.inside.cpu().numpy()
        assert segmentation.confidence is not None
        return Result(
            xyz=prepared.cloud.xyz,
            intensity=prepared.cloud.intensity,
            labels=np.where(there, segmentation.prediction.cpu().numpy(), 0).astype(np.uint8),
            confidence=np.where(inside, segmentation.confidence.float().cpu().numpy(), 0).astype(np.float32),
            names=self.names,
            colors=self.colors,
            raw_ids=self.label_map.to_raw,
            sensor=self.sensor,
            aligned=prepared.aligned,
            title=prepared.cloud.name,
        )


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f'device must be "cpu", "cuda" or "cuda:1", not {device!r}') from None
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"there is no device {found}; this process sees {torch.cuda.device_count()} CUDA devices")
    return found


def _nothing(line: str) -> None:
    pass
