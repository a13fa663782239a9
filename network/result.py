"""The labels of a cloud, as a `Segmenter` returns them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils import locations
from utils.errors import UserError
from utils.results.point_files import FORMATS, LabelledPoints
from utils.scan.sensor import Sensor


@dataclass(frozen=True, repr=False)
class Result(LabelledPoints):
    """A frozen record of a labelled cloud; row i of every column is point i of what the segmenter was given.

    Attributes:
        sensor: the sensor of the training, whose frame `aligned` is in.
        aligned: (N, 3) float32 metres, the points as the network saw them; NaN where there is no return.
        title: name of the cloud.
    """

    sensor: Sensor
    aligned: NDArray[np.float32]
    title: str

    def __repr__(self) -> str:
        shares = (f"{name} {100 * count / len(self):.0f} %" for name, count in self.counts().items())
        return f"Result({self.title}: {len(self):,} points, {', '.join(shares)})"

    def save(self, path: str | Path, confidence: bool = True) -> None:
        """Writes the labels as .label, .npy, .ply or .las, whichever the suffix says; the file appears whole.

        Args:
            path: the file; a path, or a URL of fsspec.
            confidence: put the confidence of each point into a .ply. A .las always has it, .label and .npy never.

        Raises:
            UserError: the suffix is none of these, or laspy is not installed.
            OSError: the file cannot be written.
        """
        suffix = str(path).rpartition(".")[2].lower()
        if suffix not in FORMATS:
            raise UserError(f"{path}: labels are saved as {', '.join(f'.{name}' for name in FORMATS)}; choose one")
        locations.write(str(path), FORMATS[suffix](self, confidence))

    def draw(self, path: str | Path) -> None:
        """Draws the labels from above and as the sensor sees them, into a PNG.

        Raises:
            UserError: the suffix is not .png.
            OSError: the file cannot be written.
        """
        if Path(path).suffix.lower() != ".png":
            raise UserError(f"{path}: pictures are drawn as .png; name it so")
        from utils.pictures.scans import draw_scan  # here: matplotlib takes half a second to import

        there = np.isfinite(self.aligned).all(axis=1)
        picture = (self.aligned[there], self.sensor, None, self.labels[there], self.colors, self.names, path)
        draw_scan(*picture, title=self.title)
