"""Files of poses: where a sensor was at each of its scans.

KITTI's form is read: one line per scan with 12 numbers, the 3 x 4 matrix [rotation | position in metres] row by row.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.files import require_regular
from utils.names import shown

_LARGEST = 1 << 28  # bytes of a file; a day at 10 scans a second has 150 MB
_FARTHEST = 1e9  # metres from the origin; the circumference of the earth has 4e7
_SKEW = 1e-3  # of the products of two axes; KITTI's seven digits leave 1e-6


def read_poses(path: str | Path) -> NDArray[np.float64]:
    """Reads poses, (N, 4, 4) float64, one per line of the file.

    Raises:
        UserError: the file is missing or has no lines, or a line has another number of numbers, one that is not finite,
            or no rotation; the message names the file and the line.
    """
    path = Path(path)
    try:
        require_regular(path)
        if path.stat().st_size > _LARGEST:
            raise UserError(f"{path}: too large for a file of poses ({path.stat().st_size} bytes); name the right file")
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot read the poses ({error.strerror}); name a file of poses as KITTI's") from error
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise UserError(f"{path}: the file has no poses; it wants a line of 12 numbers for each scan")
    matrices = np.array([_numbers(line, number, path) for number, line in enumerate(lines, start=1)])
    poses = np.tile(np.eye(4), (len(lines), 1, 1))
    poses[:, :3] = matrices.reshape(-1, 3, 4)
    _refuse_skewed(poses[:, :3, :3], path)
    return poses


def _numbers(line: str, number: int, path: Path) -> list[float]:
    words = line.split()
    if len(words) != 12:
        raise UserError(f"{path}: line {number} has {len(words)} numbers, a pose has 12 (3 x 4, row by row)")
    try:
        found = [float(word) for word in words]
    except ValueError:
        bad = next(word for word in words if not _is_number(word))
        raise UserError(f"{path}: line {number} holds {shown(bad)}, a pose has 12 numbers; repair the line") from None
    if not all(abs(value) < _FARTHEST for value in found):  # NaN is not
        raise UserError(f"{path}: line {number} must hold finite numbers below {_FARTHEST:g}; repair the line")
    return found


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _refuse_skewed(rotations: NDArray[np.float64], path: Path) -> None:
    """Refuses matrices (N, 3, 3) whose axes are not orthogonal and of length 1, or that mirror."""
    if (fault := rotation_fault(rotations)) is not None:
        row, what = fault
        raise UserError(
            f"{path}: line {row + 1} holds no rotation ({what}); a pose is 12 numbers, [rotation | position] row by row"
        )


def rotation_fault(rotations: NDArray[np.float64]) -> tuple[int, str] | None:
    """Finds the first of some matrices (N, 3, 3) that is no rotation: its number, and why; None if all are."""
    with np.errstate(over="ignore", invalid="ignore"):
        products = np.swapaxes(rotations, 1, 2) @ rotations
        skew = np.abs(products - np.eye(3)).max(axis=(1, 2))
        volumes = np.linalg.det(rotations)
    bad = ~(skew <= _SKEW) | ~(volumes > 0)
    if not bad.any():
        return None
    row = int(bad.argmax())
    what = (
        f"its determinant is {volumes[row]:.3g}" if skew[row] <= _SKEW else "its axes are not orthogonal, of length 1"
    )
    return row, what
