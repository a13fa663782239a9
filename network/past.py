"""Earlier clouds of a sequence, as they are given to a `Segmenter` from Python: checked, and kept as long as needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from network.points import as_cloud
from utils.scan.motion import Motion
from utils.scan.past_cloud import MOST_PAST, PastCloud
from utils.scan.point_cloud import PointCloud
from utils.scan.trajectory import FARTHEST, Ages, Trajectory, first_not_later, rotation_fault


class History:
    """The last clouds of a sequence, from which the past of the next one is taken.

    Args:
        trajectory: the poses of all clouds, with their times where `ages` are seconds.
        numbers: (n,) the frame number of each, increasing; a number that is left out is a gap.
        most: a past cloud has one of the `most` numbers before the current one.
        ages: the unit of the ages.
    """

    def __init__(self, trajectory: Trajectory, numbers: Sequence[int], most: int, ages: Ages) -> None:
        self._trajectory, self._numbers, self._most, self._ages = trajectory, numbers, most, ages
        self._kept: OrderedDict[int, PointCloud] = OrderedDict()

    def steps(self, clouds: Iterable[PointCloud]) -> Iterator[tuple[PointCloud, list[PastCloud]]]:
        """Yields each cloud with its past, the newest first; no more clouds are kept than one needs.

        Raises:
            ValueError: there are more clouds than poses, or fewer.
        """
        count = 0
        for row, cloud in enumerate(clouds):
            count = row + 1
            if count > len(self._trajectory):
                raise ValueError(f"there are {len(self._trajectory)} poses, and more clouds; give one pose for each")
            yield cloud, self._past_of(row)
            if self._most:
                self._kept[row] = cloud
        if count < len(self._trajectory):
            raise ValueError(f"there are {len(self._trajectory)} poses, and {count} clouds; give one pose for each")

    def _past_of(self, row: int) -> list[PastCloud]:
        now = self._numbers[row]
        while self._kept and self._numbers[next(iter(self._kept))] < now - self._most:
            self._kept.popitem(last=False)
        return [
            PastCloud(self._kept[past], self._trajectory.motion(past, row), self._age(past, row))
            for past in reversed(self._kept)
        ]

    def _age(self, past: int, row: int) -> float:
        if self._ages == "seconds":
            return self._trajectory.seconds(past, row)
        return float(self._numbers[row] - self._numbers[past])


def moved(past: PastCloud) -> PointCloud:
    """Returns the returns of a past cloud in the frame of the current one, in float64.

    They stay so until the alignment has brought them near the origin: a cloud in map coordinates is far away.
    """
    cloud, rows = past.cloud, past.cloud.measured
    xyz = cloud.xyz[rows].astype(np.float64) @ past.motion[:, :3].T + past.motion[:, 3]
    return PointCloud(cloud.name, xyz, None if cloud.intensity is None else cloud.intensity[rows])


def checked_number(past_scans: Any) -> int:
    """Returns a number of past scans.

    Raises:
        ValueError: it is none.
    """
    is_whole = isinstance(past_scans, int | np.integer) and not isinstance(past_scans, bool)
    if not is_whole or not 0 <= past_scans <= MOST_PAST:
        raise ValueError(f"past_scans must be a whole number of 0 to {MOST_PAST}, not {past_scans!r}")
    return int(past_scans)


def checked_numbers(numbers: Any, count: int) -> list[int]:
    """Returns the frame numbers of `count` clouds; 0, 1, 2 and so on for None.

    Raises:
        ValueError: they are no whole numbers, do not increase, or are more or fewer.
    """
    if numbers is None:
        return list(range(count))
    found = _array(numbers, "numbers")
    if found.shape != (count,) or found.dtype.kind not in "iu":
        raise ValueError(f"numbers must be {count} whole numbers, one for each pose, not {_described(found)}")
    listed = found.tolist()
    if any(later <= earlier for earlier, later in pairwise(listed)):
        raise ValueError("numbers must increase from each cloud to the next")
    return listed


def checked_trajectory(poses: Any, times: Any = None) -> Trajectory:
    """Returns poses (n, 4, 4) or (n, 3, 4), and times (n,) or None, as a trajectory.

    Raises:
        ValueError: they have another shape, are not finite, hold no rotations, or the times do not increase.
    """
    found = _array(poses, "poses")
    if found.ndim != 3 or found.shape[1:] not in ((4, 4), (3, 4)):
        raise ValueError(f"poses must have the shape (n, 4, 4) or (n, 3, 4), not {found.shape}")
    matrices = np.stack([_matrix(pose, f"pose {row}") for row, pose in enumerate(found)]) if len(found) else found
    if not len(found):
        return Trajectory(np.zeros((0, 4, 4)), None if times is None else np.zeros(0))
    return Trajectory(matrices, None if times is None else _times(times, len(found)))


def checked_past(past: Any) -> list[PastCloud]:
    """Returns past clouds that were given as a sequence of (points, motion, age) or of `PastCloud`.

    Raises:
        ValueError: one is something else, its motion is none, or its age is not above 0.
    """
    if isinstance(past, str | bytes | np.ndarray | torch.Tensor) or not isinstance(past, Iterable):
        raise ValueError("past must be a list of (points, motion, age), one for each past cloud")
    found = []
    for number, given in enumerate(past):
        name = f"past cloud {number}"
        if isinstance(given, PastCloud):
            given = (given.cloud, given.motion, given.age)
        if not isinstance(given, tuple | list) or len(given) != 3:
            raise ValueError(f"{name} must be (points, motion, age), not {type(given).__name__}")
        points, motion, age = given
        found.append(PastCloud(as_cloud(points, name), _motion(motion, name), _age(age, name)))
    return found


def _motion(motion: Any, name: str) -> Motion:
    found = _array(motion, f"the motion of {name}")
    if found.shape not in ((4, 4), (3, 4)):
        raise ValueError(f"the motion of {name} must have the shape (3, 4) or (4, 4), not {found.shape}")
    return _matrix(found, f"the motion of {name}")[:3]


def _matrix(given: NDArray[Any], name: str) -> NDArray[np.float64]:
    """Returns a pose (4, 4) of a real array (3, 4) or (4, 4)."""
    matrix = np.eye(4)
    matrix[: len(given)] = given
    if not (np.abs(matrix) < FARTHEST).all():  # NaN is not
        raise ValueError(f"{name} must hold finite numbers below {FARTHEST:g}")
    if (matrix[3] != [0, 0, 0, 1]).any():
        raise ValueError(f"{name} must end with the row 0, 0, 0, 1")
    if (fault := rotation_fault(matrix[None, :3, :3])) is not None:
        raise ValueError(f"{name} holds no rotation: {fault[1]}")
    return matrix


def _age(age: Any, name: str) -> float:
    try:
        value = float(age)
    except (TypeError, ValueError, RuntimeError):
        value = np.nan
    if not 0 < value < FARTHEST:
        raise ValueError(f"the age of {name} must be a number above 0, not {age!r}")
    return value


def _times(times: Any, count: int) -> NDArray[np.float64]:
    found = _array(times, "times")
    if found.shape != (count,) or not np.isfinite(found).all():
        raise ValueError(f"times must be {count} finite numbers, one for each pose, not {_described(found)}")
    found = found.astype(np.float64)
    if (row := first_not_later(found)) is not None:
        raise ValueError(f"times must increase from each cloud to the next; number {row} is not later than the last")
    return found


def _array(given: Any, name: str) -> NDArray[Any]:
    """Returns real numbers as an array.

    Raises:
        ValueError: they are something else.
    """
    try:
        found = given.detach().cpu().numpy() if isinstance(given, torch.Tensor) else np.asarray(given)
    except (TypeError, ValueError, RuntimeError):
        found = np.asarray(None)
    if found.dtype.kind not in "fiu":
        raise ValueError(f"{name} must be real numbers in an array, not {type(given).__name__}")
    return found


def _described(found: NDArray[Any]) -> str:
    return f"{found.dtype} of the shape {found.shape}"
