"""The record of points as a file, a message or an array has them, before anything is known about their frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PointCloud:
    """A frozen record of the N points of a file, a message of a bag or an array, in their order there.

    Attributes:
        name: where they come from, for messages: a path, with the topic and the number of the message for a bag.
        xyz: (N, 3) float64 or float32, the numbers of the file. A row with NaN or infinity is a beam without a return.
        intensity: (N,) float32 in the unit of the file; a number that is not finite is 0. None: the file has none.
    """

    name: str
    xyz: NDArray[np.floating[Any]]
    intensity: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.xyz)

    @property
    def measured(self) -> NDArray[np.bool_]:
        """An (N,) bool mask of the points that are returns: three finite coordinates, not all 0.

        Drivers write (0, 0, 0) or NaN for a beam without a return, to keep the rows of an organised cloud complete.
        """
        return np.isfinite(self.xyz).all(axis=1) & self.xyz.any(axis=1)
