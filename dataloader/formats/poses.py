"""Files of poses: where a sensor was at each of its scans, and of times.

Two forms are read, told apart by the numbers of a line. KITTI's has 12, the 3 x 4 matrix [rotation | position in
metres] row by row. That of the TUM benchmark has 8: the time in seconds, the position, and the rotation as a quaternion
x, y, z, w. Lines that begin with # are comments.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.files import require_regular
from utils.names import shown
from utils.scan.trajectory import FARTHEST, Trajectory, first_not_later, rotation_fault, rotations_of

KITTI, TUM = 12, 8
"""The numbers on a line of either form."""

_LARGEST = 1 << 28  # bytes of a file; a day at 10 scans a second has 150 MB
_LATEST = 1e11  # seconds since 1970 are 2e9; nanoseconds and microseconds are more
_NORM = 1e-2  # by which the length of a quaternion may differ from 1; numbers of three digits leave 1e-3
_Lines = list[tuple[int, list[float]]]


def read_poses(path: str | Path) -> NDArray[np.float64]:
    """Reads poses in KITTI's form, (N, 4, 4) float64, one per line of the file.

    Raises:
        UserError: the file is missing or has no lines, or a line has another number of numbers, one that is not finite,
            or no rotation; the message names the file and the line.
    """
    path = Path(path)
    return _poses_of_kitti(_lines(path, (KITTI,), "poses"), path)


def read_trajectory(path: str | Path) -> Trajectory:
    """Reads poses of either form, one per line of the file; those of the TUM form have times.

    Raises:
        UserError: see `read_poses`; or the times do not increase.
    """
    path = Path(path)
    lines = _lines(path, (KITTI, TUM), "poses")
    if len(lines[0][1]) == KITTI:
        return Trajectory(_poses_of_kitti(lines, path))
    return Trajectory(_poses_of_tum(lines, path), _increasing(lines, path))


def read_times(path: str | Path) -> NDArray[np.float64]:
    """Reads times, (N,) float64 seconds, one per line of the file, as in KITTI's times.txt.

    Raises:
        UserError: the file is missing or has no lines, or a line is no number, or not later than the one before it.
    """
    path = Path(path)
    return _increasing(_lines(path, (1,), "times"), path)


def _lines(path: Path, widths: tuple[int, ...], what: str) -> _Lines:
    """Reads the lines of a file with their numbers, from 1 on; each has as many words as the first.

    Args:
        path: the file.
        widths: the numbers of words that a line may have.
        what: what the file holds, for messages.
    """
    try:
        require_regular(path)
        size = path.stat().st_size
        if size > _LARGEST:
            raise UserError(f"{path}: too large for a file of {what} ({size} bytes); name the right file")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot read the {what} ({error.strerror or error}); name a file of {what} as KITTI's"
        ) from error
    if b"\0" in content:
        raise UserError(f"{path}: has bytes that are no text, as UTF-16 has; name a file of {what} in UTF-8 or ASCII")
    lines = content.decode("utf-8-sig", errors="replace").splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if not line.lstrip().startswith("#")]
    if not numbered:
        raise UserError(f"{path}: the file has no {what}; it wants a line of {_some(widths)} for each scan")
    first = len(numbered[0][1].split())
    wanted = (first,) if first in widths else widths
    return [(number, _numbers(line, number, path, wanted)) for number, line in numbered]


def _numbers(line: str, number: int, path: Path, widths: tuple[int, ...]) -> list[float]:
    words = line.split()
    if len(words) not in widths:
        raise UserError(
            f"{path}: line {number} has {len(words)} numbers, and {_some(widths)} {'is' if widths == (1,) else 'are'} "
            "wanted; repair the line, or name the right file"
        )
    try:
        if "_" in line:  # Python reads 1_0 as 10
            raise ValueError
        return [float(word) for word in words]
    except ValueError:
        bad = next(word for word in words if not _is_number(word))
        raise UserError(f"{path}: line {number} holds {shown(bad)}, which is no number; repair the line") from None


def _some(widths: tuple[int, ...]) -> str:
    if widths == (1,):
        return "1 number (seconds)"
    named = {KITTI: "12 (3 x 4, row by row)", TUM: "8 (time x y z qx qy qz qw)"}
    return f"{' or '.join(named[width] for width in widths)} numbers"


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return "_" not in word


def _poses_of_kitti(lines: _Lines, path: Path) -> NDArray[np.float64]:
    matrices = np.array([numbers for _, numbers in lines])
    _refuse_far(matrices, lines, path)
    poses = np.tile(np.eye(4), (len(lines), 1, 1))
    poses[:, :3] = matrices.reshape(-1, 3, 4)
    if (fault := rotation_fault(poses[:, :3, :3])) is not None:
        row, what = fault
        raise UserError(
            f"{path}: line {lines[row][0]} holds no rotation ({what}); a pose is 12 numbers, [rotation | position] "
            "row by row"
        )
    return poses


def _poses_of_tum(lines: _Lines, path: Path) -> NDArray[np.float64]:
    values = np.array([numbers[1:] for _, numbers in lines])
    _refuse_far(values, lines, path)
    norms = np.linalg.norm(values[:, 3:], axis=1)
    if (bad := ~(np.abs(norms - 1) <= _NORM)).any():
        row = int(bad.argmax())
        raise UserError(
            f"{path}: line {lines[row][0]} holds no rotation (the length of its quaternion is {norms[row]:.3g}, not "
            "1); a pose is time x y z qx qy qz qw"
        )
    poses = np.tile(np.eye(4), (len(lines), 1, 1))
    poses[:, :3, :3] = rotations_of(np.roll(values[:, 3:], 1, axis=1) / norms[:, None])  # w comes last
    poses[:, :3, 3] = values[:, :3]
    return poses


def _refuse_far(values: NDArray[np.float64], lines: _Lines, path: Path) -> None:
    if (bad := ~(np.abs(values) < FARTHEST).all(axis=1)).any():  # NaN is not
        number = lines[int(bad.argmax())][0]
        raise UserError(f"{path}: line {number} must hold finite numbers below {FARTHEST:g}; repair the line")


def _increasing(lines: _Lines, path: Path) -> NDArray[np.float64]:
    """Returns the first number of each line, seconds.

    Raises:
        UserError: one is no time, or not later than the one before it.
    """
    times = np.array([numbers[0] for _, numbers in lines])
    if (bad := ~(np.abs(times) < _LATEST)).any():
        number = lines[int(bad.argmax())][0]
        raise UserError(f"{path}: line {number} must hold a time in seconds, below {_LATEST:g}; repair the line")
    if (row := first_not_later(times)) is not None:
        raise UserError(
            f"{path}: the time of line {lines[row][0]} is not later than that of the line before; put the lines in "
            "the order of the scans"
        )
    return times
