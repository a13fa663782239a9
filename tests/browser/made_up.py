"""Made-up scans for the viewer, and a program that shows them.

python -m tests.browser.made_up                    # three small scans, each of other classes
python -m tests.browser.made_up real_size          # scans of 64 beams and 125,000 points
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    from utils.command.start import begin

    begin()

from tests.support.scans import sweep
from utils.command.process import run_command
from utils.labels import LabelMap
from utils.pictures.raster import CameraPicture
from utils.scan.sensor import SEMANTICKITTI, Sensor
from utils.viewer.records import CameraPose, ShownCamera, ShownScan

ROOT = Path(__file__).resolve().parents[2]
CAR, ROAD, SIDEWALK, BUILDING, VEGETATION = 1, 9, 11, 13, 15


@dataclass(frozen=True)
class MadeUp:
    """A frozen record of scans of SemanticKITTI's classes, as `utils.viewer.records.Frames` asks for them."""

    scans: tuple[ShownScan, ...]
    sensor: Sensor = SEMANTICKITTI

    @cached_property
    def _labels(self) -> LabelMap:
        return LabelMap.load(ROOT / "config" / "label_mapping" / "semantic-kitti.yaml")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self._labels.names

    @property
    def colors(self) -> np.ndarray:
        """The colours of the classes, (K, 3) uint8."""
        return self._labels.colors

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.names)

    def __len__(self) -> int:
        return len(self.scans)

    def title(self, index: int) -> str:
        """Returns the title of a scan."""
        return self.scans[index].title

    def read(self, index: int) -> ShownScan:
        """Returns a scan."""
        return self.scans[index]


def camera(xyz: np.ndarray, color: tuple[int, int, int]) -> ShownCamera:
    """Makes a camera at the origin that looks ahead, with a picture of one colour, and the points that it sees."""
    width, height, focal = 320, 120, 200.0
    ahead, right, down = xyz[:, 0], -xyz[:, 1], -xyz[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = np.stack((height / 2 + focal * down / ahead, width / 2 + focal * right / ahead), 1)
    seen = (ahead > 0.5) & (pixels >= 0).all(1) & (pixels < (height, width)).all(1)
    pixels[~seen] = np.nan
    matrix = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], np.float64)
    image = np.full((height, width, 3), color, np.uint8)
    picture = CameraPicture("front", image, pixels.astype(np.float32))
    return ShownCamera(picture, CameraPose(matrix, (focal, focal), (width, height)))


def small(title: str, left: int, right: int, mistaken: int, share: float = 0.0, count: int = 12000) -> ShownScan:
    """Makes a disc of 30 m with one class on the left of the car and one on its right, and a flat camera picture.

    Args:
        title: title of the scan.
        left, right: learning ids of the classes.
        mistaken: learning id of the class that is predicted, in place of the true one, for the points at the back.
        share: how much of the diameter is predicted wrongly; without any, there is no camera.
        count: number of points.
    """
    rng = np.random.default_rng(len(title))
    reach, azimuth = 30 * np.sqrt(rng.uniform(0.01, 1, count)), rng.uniform(-np.pi, np.pi, count)
    columns = (reach * np.cos(azimuth), reach * np.sin(azimuth), rng.uniform(-1.8, -1.6, count))
    xyz = np.stack(columns, 1).astype(np.float32)
    labels = np.where(xyz[:, 1] > 0, left, right)
    predicted = np.where(xyz[:, 0] < 60 * share - 30, mistaken, labels)
    return ShownScan(
        title=title,
        xyz=xyz,
        intensity=(reach / 30).astype(np.float32),
        labels=labels,
        predictions={"prediction": predicted},
        confidences={"prediction": np.where(labels == predicted, 0.9, 0.2).astype(np.float32)},
        cameras=[[camera(xyz, (40, 90, 120))]] if share else [],
    )


def small_scans() -> MadeUp:
    """Makes three scans; the second is predicted the worst, the third has one class alone and no camera."""
    return MadeUp(
        (
            small("first", ROAD, CAR, SIDEWALK, share=0.3),
            small("second", VEGETATION, BUILDING, CAR, share=0.6),
            small("third", SIDEWALK, SIDEWALK, SIDEWALK),
        )
    )


def with_past_scan() -> MadeUp:
    """Makes a scan of road and cars with the points of one past scan, of buildings, 20 m to its left."""
    scan = small("with a past scan", ROAD, CAR, CAR)
    count = len(scan.xyz)
    past = np.full(count, BUILDING)
    assert scan.labels is not None
    return MadeUp(
        (
            ShownScan(
                title=scan.title,
                xyz=np.concatenate([scan.xyz, scan.xyz + np.array([0, 20, 0], np.float32)]),
                labels=np.concatenate([scan.labels, past]),
                predictions={name: np.concatenate([ids, past]) for name, ids in scan.predictions.items()},
                age=np.repeat(np.array([0, 1], np.float32), count),
                age_unit="scans",
            ),
        )
    )


def real_size() -> MadeUp:
    """Makes four scans of 64 beams and 125,000 points, or reads the first two below TWODPASS_REAL_DATA."""
    folder = Path(os.environ.get("TWODPASS_REAL_DATA", ""), "00")
    if "TWODPASS_REAL_DATA" in os.environ:
        return MadeUp(tuple(_real(folder, f"{i:06d}") for i in range(2)))
    return MadeUp(tuple(_swept(i) for i in range(4)))


def _swept(seed: int) -> ShownScan:
    points = sweep(beams=64, turn=1953, seed=seed)
    classes = np.roll([ROAD, SIDEWALK, VEGETATION, BUILDING], seed)  # so that each scan looks different
    low, high = np.where(np.abs(points[:, 1]) < 4, 0, 1), np.where(points[:, 2] > 0, 3, 2)
    return _scan(f"made up {seed}", points, classes[np.where(points[:, 2] < -1.6, low, high)])


def _real(folder: Path, frame: str) -> ShownScan:
    points = np.fromfile(folder / "velodyne" / f"{frame}.bin", np.float32).reshape(-1, 4)
    file = folder / "labels" / f"{frame}.label"
    names = LabelMap.load(ROOT / "config" / "label_mapping" / "semantic-kitti.yaml")
    return _scan(frame, points, names.learning_ids(np.fromfile(file, np.uint32) & np.uint32(0xFFFF), file))


def _scan(title: str, points: np.ndarray, labels: np.ndarray) -> ShownScan:
    predicted = np.where(points[:, 0] < -20, CAR, labels)
    return ShownScan(title, points[:, :3], points[:, 3], labels, {"prediction": predicted})


MADE = {"small": small_scans, "real_size": real_size}


def main() -> None:
    """Shows the scans that the first argument names."""
    from utils.viewer.server import view

    view(MADE[sys.argv[1] if len(sys.argv) > 1 else "small"](), port=0)


if __name__ == "__main__":
    sys.exit(run_command(main))
