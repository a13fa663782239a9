"""The records that the viewer and the pictures of tools/view.py show, and where they come from.

The viewer knows no data set, no file format and no network: whoever wants to show scans gives it `Frames`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from utils.pictures.raster import CameraPicture
from utils.scan.sensor import Sensor


@dataclass(frozen=True)
class CameraPose:
    """A frozen record of where a pinhole camera is, and how much it sees.

    Attributes:
        matrix: (4, 4) float64, camera frame (x right, y down, z forward) to the frame of the scan, metres.
        focal: focal lengths (x, y), pixels of `size`.
        size: width and height of the image that `focal` belongs to, pixels.
        center: where the axis of the camera meets the image (x, y), pixels of `size`; None: in its middle.
    """

    matrix: NDArray[np.float64]
    focal: tuple[float, float]
    size: tuple[int, int]
    center: tuple[float, float] | None = None

    @staticmethod
    def of(projection: NDArray[np.float64], size: tuple[int, int]) -> CameraPose | None:
        """Takes a projection apart into the camera's numbers and its place (Hartley and Zisserman, section 6.2.4).

        Args:
            projection: (3, 4) float64, from (x, y, z, 1) in the frame of the scan to (u, v, w), in metres; u / w and
                v / w are the column and the row in an image of `size`. A positive multiple of it is the same
                camera.
            size: width and height of the image, pixels.

        Returns:
            The pose; a skew of the pixels is left out. None if there is no such camera: the projection mirrors what it
            sees, or sends it onto a line.
        """
        left, shift = projection[:, :3], projection[:, 3]
        if not np.isfinite(projection).all() or not np.linalg.det(left) > 0:
            return None
        # The rows are those of K R, K triangular and R a rotation: R row by row from the last one on.
        scale = np.linalg.norm(left[2])
        across, down, ahead = left / scale
        middle = float(across @ ahead), float(down @ ahead)
        y = _unit(down - middle[1] * ahead)
        skew = float(across @ y)
        x = _unit(across - middle[0] * ahead - skew * y)
        focal = float(across @ x), float(down @ y)
        depth = shift[2] / scale
        from_y = (shift[1] / scale - middle[1] * depth) / focal[1]
        from_x = (shift[0] / scale - middle[0] * depth - skew * from_y) / focal[0]
        matrix = np.eye(4)
        matrix[:3, :3] = np.stack([x, y, ahead], axis=1)
        matrix[:3, 3] = -matrix[:3, :3] @ [from_x, from_y, depth]
        return CameraPose(matrix, focal, size, middle) if np.isfinite(matrix).all() else None


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector / np.linalg.norm(vector)


@dataclass(frozen=True)
class ShownCamera:
    """A frozen record of a camera picture of a scan.

    Attributes:
        picture: the image, and the pixel of each point in it.
        pose: where the camera is; None: not known, and there is no frustum.
    """

    picture: CameraPicture
    pose: CameraPose | None = None

    def select(self, kept: NDArray[np.bool_]) -> ShownCamera:
        """Returns the picture with the pixels of the points of a (N,) mask alone."""
        return replace(self, picture=replace(self.picture, pixels=self.picture.pixels[kept]))


AgeUnit = Literal["scans", "s"]
"""The unit of ages."""


@dataclass(frozen=True)
class ShownScan:
    """A frozen record of a scan with all that is known of it; row i of every column is the same point.

    Points of past scans may be among them, moved into the frame of this one; `age` tells them apart. They are shown,
    and neither counted nor judged.

    Attributes:
        title: what it is, for people: "Sequence 08, scan 000012", or a path.
        xyz: (N, 3) float32 metres, frame of the sensor, z up. A row that is not finite is not shown.
        intensity: (N,) float32, in any unit; None: not known.
        labels: (N,) learning ids of the truth, 0 where a point does not count; None: not known.
        predictions: name -> (N,) learning ids, 0 where there is none. None, one, or two to be shown side by side.
        confidences: name as in `predictions` -> (N,) float32, 0..1, where it is known; NaN for a point without one.
        conditions: name as in `predictions` -> a line about the conditions of its scores, where they are known:
            views, split and checkpoint.
        age: (N,) float32, how old the scan of a point is, in `age_unit`: 0 for this one, more for a past one; None: all
            points are of this scan.
        age_unit: "scans", or "s" for seconds.
        mixed: (N,) bool, whether a point comes from another scan, which was mixed into this one for training; of past
            points it is not known. None: nothing was mixed in.
        cameras: rows of pictures, laid out like the cameras on the car; empty if there are none.
        note: a warning about the scan, such as that it does not fit the network; "" for none.
    """

    title: str
    xyz: NDArray[np.float32]
    intensity: NDArray[np.float32] | None = None
    labels: NDArray[np.integer] | None = None
    predictions: Mapping[str, NDArray[np.integer]] = field(default_factory=dict)
    confidences: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    age: NDArray[np.float32] | None = None
    cameras: Sequence[Sequence[ShownCamera]] = ()
    note: str = ""
    age_unit: AgeUnit = "s"
    mixed: NDArray[np.bool_] | None = None
    conditions: Mapping[str, str] = field(default_factory=dict)

    @property
    def current(self) -> NDArray[np.bool_]:
        """The (N,) mask of the points of this scan, not of past ones."""
        return np.ones(len(self.xyz), dtype=bool) if self.age is None else self.age <= 0

    def select(self, kept: NDArray[np.bool_]) -> ShownScan:
        """Returns the scan with the points of a (N,) mask alone."""
        if kept.all():
            return self
        return replace(
            self,
            xyz=self.xyz[kept],
            intensity=None if self.intensity is None else self.intensity[kept],
            labels=None if self.labels is None else self.labels[kept],
            predictions={name: ids[kept] for name, ids in self.predictions.items()},
            confidences={name: values[kept] for name, values in self.confidences.items()},
            age=None if self.age is None else self.age[kept],
            mixed=None if self.mixed is None else self.mixed[kept],
            cameras=[[camera.select(kept) for camera in row] for row in self.cameras],
        )


class Frames(Protocol):
    """The scans that are shown, in their order. `read` is called from several threads at once."""

    @property
    def names(self) -> Sequence[str]:
        """The K names of the classes and, after them, of points that a corruption has added."""
        ...

    @property
    def colors(self) -> NDArray[np.uint8]:
        """The colours of `names`, (K + added, 3) uint8 RGB."""
        ...

    @property
    def num_classes(self) -> int:
        """The number K, the ignored class 0 included; labels from K on are shown and not judged."""
        ...

    @property
    def sensor(self) -> Sensor:
        """The LiDAR of the scans, or that of the training data for scans of another one."""
        ...

    def __len__(self) -> int: ...

    def title(self, index: int) -> str:
        """Returns the title of a scan, without reading it."""
        ...

    def read(self, index: int) -> ShownScan:
        """Reads a scan.

        Raises:
            UserError: a file of it is missing or damaged.
        """
        ...
