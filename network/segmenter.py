"""Labels for points of any origin, from Python: a checkpoint in, a `Segmenter` out, which is called with arrays.

segmenter = Segmenter.load("best.ckpt")
result = segmenter(points)                  # (N, 4) x, y, z, intensity, or (N, 3)
result.names[result.labels[0]]              # the class of the first point
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, overload

import numpy as np
import torch
from numpy.typing import NDArray

from network.assemble import load_for_test
from network.models.segmentation_network import SegmentationNetwork
from network.result import Result
from network.voting import segment
from network.weights.configuration import Tested, open_for_test
from network.weights.description import read_description
from utils.errors import UserError
from utils.labels import LabelMap
from utils.paths import resolve_path
from utils.scan.alignment import Alignment
from utils.scan.batch import collate
from utils.scan.evaluation import evaluation_sample
from utils.scan.fitting import Fit, Misfit, diagnose
from utils.scan.point_cloud import PointCloud
from utils.scan.records import Frame, Sample, Scan, Segmentation, no_pixels
from utils.scan.sensor import sensor_called
from utils.scan.statistics import PERCENTAGES
from utils.scan.views import random_views
from utils.scan.volume import in_volume

Points = NDArray[Any] | torch.Tensor | PointCloud
"""(N, 3) x, y, z or (N, 4) x, y, z, intensity, any float or integer type; or a cloud that a reader has made."""

Precision = Literal["32", "bf16", "16"]
_AUTOCAST = {"32": None, "bf16": torch.bfloat16, "16": torch.float16}


class MisfitWarning(UserWarning):
    """A warning that a scan does not fit the scans that the network was trained on."""


@dataclass(frozen=True)
class Prepared:
    """A frozen record of a cloud on its way to the network.

    Attributes:
        cloud: as it was given.
        aligned: (N, 3) float32 metres, in the frame of the training; NaN where there is no return.
        sample: what is batched.
    """

    cloud: PointCloud
    aligned: NDArray[np.float32]
    sample: Sample


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
        self.label_map = _label_map(tested)
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
        self._low, self._high = config.dataset_params.bounds
        self._views = random_views(votes, np.random.default_rng([seed, 0]))
        network.warm_up(self.device, self._dtype or torch.float32, training=False)
        self._network = network.to(self.device).eval().requires_grad_(False)

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
    def __call__(self, points: Points) -> Result: ...

    @overload
    def __call__(self, points: Sequence[Points]) -> list[Result]: ...

    def __call__(self, points: Points | Sequence[Points]) -> Result | list[Result]:
        """Labels a cloud, or each of a list of clouds.

        Args:
            points: (N, 4) x, y, z (metres, in the frame of the training data) and intensity (in its unit), or (N, 3)
                without intensities; NumPy or torch, on any device. A row with a NaN, or (0, 0, 0), is no return. Or a
                list of such arrays, of any lengths.

        Returns:
            The result for one cloud, or a list of results. Labels and all else are NumPy arrays.

        Raises:
            ValueError: the array has another shape or holds no numbers.
            UserError: there is no point that the network could label, or its outputs are NaN.
        """
        if points is None or isinstance(points, str | Path):
            raise ValueError(
                f"points must be an array, not {points!r}; files are for predict.py, or np.load and the like"
            )
        if isinstance(points, PointCloud | np.ndarray | torch.Tensor):
            return self._one(as_cloud(points))
        return [self._one(as_cloud(each, f"cloud {number}")) for number, each in enumerate(points)]

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

    def prepare(self, cloud: PointCloud, alignment: Alignment | None = None, advice: str = "") -> Prepared:
        """Prepares a cloud on the CPU, while the network may be busy: alignment, volume, nearest points.

        Args:
            cloud: the points.
            alignment: what is done to them; None: what the segmenter was made with.
            advice: what to do about a cloud outside the volume, for the error; "": not known.

        Raises:
            UserError: no point of the cloud is a return, or none lies inside the volume.
        """
        aligned = (alignment or self.alignment).apply(cloud, self.sensor, self.statistics)
        there = cloud.measured & np.isfinite(aligned.xyz).all(axis=1)
        if not there.any():
            raise UserError(f"{cloud.name}: none of its {len(cloud)} points is a return (all are NaN or 0)")
        xyz = np.array(aligned.xyz, dtype=np.float32)
        xyz[~there] = np.nan
        inside = in_volume(xyz, self._low, self._high)
        if not inside.any():
            places = ", ".join(f"{value:.0f}" for value in np.median(xyz[there], axis=0))
            raise UserError(
                f"{cloud.name}: no point lies inside the volume of the network, {_corner(self._low)} to "
                f"{_corner(self._high)} m around the sensor, most lie around ({places}); put it right with "
                f"{advice or '--center, --axes, --sensor_height or --length_scale'}, or with --fit auto"
            )
        intensity = aligned.intensity
        if intensity is None:
            intensity = np.full(len(xyz), self._usual_intensity(), dtype=np.float32)
        none = np.zeros(len(xyz), dtype=np.int32)
        scan = Scan(
            frame=Frame("", cloud.name, cloud.name),
            xyz=xyz,
            intensity=intensity,
            labels=none.astype(np.uint8),
            instances=none,
            index=np.arange(len(xyz), dtype=np.int64),
            pixels=no_pixels(len(xyz)),
        )
        return Prepared(cloud, xyz, evaluation_sample(scan, inside, self._views))

    def segment(self, prepared: Sequence[Prepared]) -> list[Result]:
        """Runs the network on clouds that are prepared, as one batch.

        Raises:
            UserError: the outputs of the network are NaN or infinite.
        """
        batch = collate([one.sample for one in prepared], with_images=False).to(self.device)
        with torch.inference_mode(), torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not None):
            found = segment(self._network, batch, with_confidence=True)
        if not all(bool(each.finite) for each in found):
            raise UserError(
                "the network's outputs are NaN or infinite; its training has failed or its checkpoint is damaged (or "
                "--precision 16 is too narrow for it): take another checkpoint, or --precision 32"
            )
        return [self._result(one, each) for one, each in zip(prepared, found, strict=True)]

    def _one(self, cloud: PointCloud) -> Result:
        alignment = self.alignment
        if self._fit != "off":
            found, fitted = self.diagnose([cloud])
            if self._fit == "auto":
                alignment = fitted
            else:
                for misfit in found:
                    remedy = f"; fit='auto' puts it right, as does predict.py {misfit.remedy}" if misfit.remedy else ""
                    warnings.warn(f"{cloud.name}: {misfit.text}{remedy}", MisfitWarning, stacklevel=3)
        return self.segment([self.prepare(cloud, alignment)])[0]

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

    def _usual_intensity(self) -> float:
        """Returns what stands in for intensities that a cloud does not have: the median of the training."""
        return 0.0 if self.statistics is None else self.statistics.intensity[PERCENTAGES.index(50)]


def as_cloud(points: Points, name: str = "the array") -> PointCloud:
    """Returns an array of points as a cloud.

    Args:
        points: see `Points`.
        name: what messages call it.

    Raises:
        ValueError: the array is not (N, 3) or (N, 4) with N of 1 or more, or does not hold real numbers.
    """
    if isinstance(points, PointCloud):
        return points
    if isinstance(points, torch.Tensor):
        points = _numpy(points, name)
    array = np.asarray(points)
    if array.ndim != 2 or array.shape[1] not in (3, 4) or not len(array):
        hint = "; points[:, :4] takes the first columns" if array.ndim == 2 and array.shape[1] > 4 else ""
        hint = "; it looks turned: points.T" if array.ndim == 2 and array.shape[0] in (3, 4) else hint
        shape = f"(N, 3) or (N, 4), N of 1 or more, not {array.shape}{hint}"
        raise ValueError(f"{name}: points must have the shape {shape}")
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name}: points must be real numbers, not {array.dtype}")
    real = np.float64 if array.dtype.itemsize > 4 or array.dtype.kind != "f" else np.float32
    intensity = None
    if array.shape[1] == 4:
        intensity = np.nan_to_num(array[:, 3].astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    return PointCloud(name, array[:, :3].astype(real), intensity)


def _numpy(points: torch.Tensor, name: str) -> NDArray[Any]:
    """Returns the numbers of a tensor; those of types that NumPy does not have as float32."""
    if points.layout != torch.strided or points.is_quantized or points.device.type == "meta":
        raise ValueError(f"{name}: points must be in a dense tensor, not a sparse, quantized or meta one")
    points = points.detach().cpu().resolve_conj().resolve_neg()
    return (points.float() if points.is_floating_point() and points.element_size() < 4 else points).numpy()


def _label_map(tested: Tested) -> LabelMap:
    """Returns the classes of a checkpoint, or of the file that its config names.

    Raises:
        UserError: the file is missing or damaged, or has another number of classes than the network.
    """
    if tested.label_map is not None:
        return tested.label_map
    key, classes = "dataset_params.label_mapping", tested.config.model_params.num_classes
    label_map = LabelMap.load(resolve_path(tested.config.dataset_params.label_mapping, key=key))
    if len(label_map.names) != classes:
        raise UserError(f"{key} has {len(label_map.names)} classes, but model_params.num_classes is {classes}")
    return label_map


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


def _corner(corner: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in corner) + ")"


def _nothing(line: str) -> None:
    pass
