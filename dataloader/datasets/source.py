"""The protocol of sources of scans, which every data set follows."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from utils.feature_files import FeatureFiles, Picture
from utils.scan.records import Frame, Scan


@runtime_checkable
class SourceWithPictures(Protocol):
    """A source whose images can be replaced by kept features of a frozen teacher."""

    features: FeatureFiles | None
    """The kept features, which `read` then takes in place of the images; None: it reads images."""

    def picture(self, index: int, camera: int) -> Picture:
        """Tells which picture the image of a camera is."""
        ...

    def pixels_of(self, picture: Picture) -> NDArray[np.uint8]:
        """Reads a picture, (H, W, 3) uint8 RGB of its size."""
        ...


class Source(Protocol):
    """A source of scans on disk; see `dataloader.datasets.semantickitti.source.SemanticKITTI`."""

    @property
    def num_cameras(self) -> int:
        """Images per scan to choose from; 0 if images are not to be read."""
        ...

    @property
    def absent(self) -> tuple[str, ...]:
        """Sequences that belong to the split but are not on disk."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for the user about what is doubtful in these scans."""
        ...

    def __len__(self) -> int: ...

    def frame(self, index: int) -> Frame:
        """Tells which scan number `index` is."""
        ...

    def read(self, index: int, camera: int | None = 0) -> Scan:
        """Reads scan number `index`, with the image of `camera`, or with none."""
        ...
