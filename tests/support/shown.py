"""Small made-up scans for the viewer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from utils.errors import UserError
from utils.pictures.raster import CameraPicture
from utils.scan.sensor import SEMANTICKITTI
from utils.viewer.records import CameraPose, ShownCamera, ShownScan

POINTS = 400


def make_scan(index: int) -> ShownScan:
    """Returns a scan of 400 points with all that can be known of a single scan; row 3 is not finite."""
    rng = np.random.default_rng(index)
    xyz = rng.uniform(-40, 40, (POINTS, 3)).astype(np.float32)
    xyz[:, 2] = rng.uniform(-2, 3, POINTS)
    xyz[3] = np.nan
    labels = rng.integers(0, 5, POINTS)
    wrong = rng.random(POINTS) < 0.1 * (index + 1)
    first = np.where(wrong | (labels == 0), rng.integers(1, 4, POINTS), labels)
    second = np.where(labels == 1, 2, labels)
    image = rng.integers(0, 255, (20, 40, 3)).astype(np.uint8)
    pixels = np.where(xyz[:, :1] > 0, rng.uniform(0, 20, (POINTS, 2)), np.nan).astype(np.float32)
    pose = np.array([[0.0, 0, 1, 0.3], [-1, 0, 0, 0], [0, -1, 0, -0.1], [0, 0, 0, 1]])
    camera = ShownCamera(CameraPicture("front", image, pixels), CameraPose(pose, (30.0, 30.0), (40, 20)))
    return ShownScan(
        title=f"scan {index}",
        xyz=xyz,
        intensity=rng.random(POINTS).astype(np.float32),
        labels=labels,
        predictions={"first": first, "second": second},
        confidences={"first": rng.random(POINTS).astype(np.float32)},
        cameras=[[camera]],
    )


def aged(scan: ShownScan) -> ShownScan:
    """Returns the scan with points of two past ones among its own, 0.1 s and 0.2 s old."""
    return replace(scan, age=np.random.default_rng(9).integers(0, 3, len(scan.xyz)).astype(np.float32) / 10)


@dataclass
class MadeFrames:
    """The frames of made-up scans. Class 4 is one that a corruption has added: it is shown and not judged.

    Attributes:
        number: number of frames.
        broken: frames that cannot be read.
        change: applied to each scan.
        gate: reading waits for it.
        reads: indices in the order in which they were read.
    """

    number: int = 4
    broken: tuple[int, ...] = ()
    change: Callable[[ShownScan], ShownScan] = lambda scan: scan
    gate: threading.Event = field(default_factory=threading.Event)
    reads: list[int] = field(default_factory=list)

    names = ("unlabeled", "car", "<b>road", "sidewalk", "snow")
    colors = np.array([[0, 0, 0], [100, 150, 245], [255, 0, 255], [75, 0, 75], [255, 255, 255]], dtype=np.uint8)
    num_classes = 4
    sensor = SEMANTICKITTI

    def __post_init__(self) -> None:
        self.gate.set()

    def __len__(self) -> int:
        return self.number

    def title(self, index: int) -> str:
        """Returns a title that would be markup if it were not escaped."""
        return f"<i>scan</i> {index}"

    def read(self, index: int) -> ShownScan:
        """Makes a scan.

        Raises:
            UserError: the frame is one of `broken`.
        """
        self.gate.wait(10)
        self.reads.append(index)
        if index in self.broken:
            raise UserError(f"{index}.bin: is <cut> off; copy it again")
        return self.change(make_scan(index))


def plain(scan: ShownScan) -> ShownScan:
    """Returns the scan with nothing but its points."""
    return replace(scan, intensity=None, labels=None, predictions={}, confidences={}, age=None, cameras=())
