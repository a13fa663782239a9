"""A check of whether the bytes of a scan file are the float32 columns of its data set, and what they are if not.

A file of points has no header, so a wrong file can be read without an error: as other points, and more or fewer of
them. Text and files with a header are recognised by their first bytes. Other number types are recognised by values that
no coordinate has. Another number of columns is recognised by the columns themselves: x, y, z and intensity have
different distributions, and if a file is cut into rows of a wrong length, every column is a mixture of all of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FARTHEST = 1e8
"""Largest size of a coordinate, metres; maps in UTM or around the Earth's centre stay below 1e8."""

FEWEST_ROWS = 64
"""Files of fewer points are not checked: they say too little."""

_TINIEST = 1e-20  # a number that is smaller than this and not 0 is not a measurement
_HEAD_ROWS = 4  # rows that a header may fill: it holds small integers, which read as numbers below 1e-37
_ROWS = 512  # rows of a scan that are always checked
_MOST_ROWS = 1 << 18  # rows that are checked after a suspicion
_CLIP = 3.0  # metres; the columns differ most near 0: reflectance ends at 1, the ground is 2 m below the sensor
_DIFFERENT = 0.02  # smallest share of the variance between columns: 0.05 to 0.9 in scans, far less in mixtures
_CHANCE = 30  # divided by the number of words: the share that a mixture may reach by chance

_HEADERS = (
    (b"\x93NUMPY", "a NumPy .npy file"),
    (b"PK\x03\x04", "a zip archive (or .npz file)"),
    (b"# .PCD", "a .pcd file"),
    (b"VERSION", "a .pcd file"),
    (b"ply\n", "a .ply file"),
    (b"ply\r", "a .ply file"),
    (b"LASF", "a .las file"),
    (b"\x89PNG", "a PNG image"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x1f\x8b\x08\x00", "a gzip file"),
    (b"\x1f\x8b\x08\x08", "a gzip file"),
    (b"BZh91AY&SY", "a bzip2 file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"#ROSBAG", "a rosbag"),
    (b"\xef\xbb\xbf", "text"),
)
_NUMBERS = (
    ("<f8", "float64 numbers", (1e-12, 1e7)),
    (">f4", "big-endian float32 numbers", (1e-7, 1e7)),
    (">f8", "big-endian float64 numbers", (1e-12, 1e7)),
    ("<i4", "32-bit integers", (0, 1e7)),
    ("<f2", "float16 numbers", (1e-4, 1e4)),
)
"""Type, name, and the range of absolute values that nearly all its coordinates and intensities have, except 0."""

_WIDTHS = {
    8: "float16 of four columns or float32 of two",
    12: "float32 of three columns (no intensity)",
    16: "float32 of four columns",
    20: "float32 of five columns",
    24: "float32 of six columns or float64 of three",
    28: "float32 of seven columns",
    32: "float64 of four columns or float32 of eight",
    40: "float64 of five columns",
    48: "float64 of six columns",
}
_TEXT = np.zeros(256, dtype=bool)
_TEXT[[*b"\t\n\v\f\r", *range(32, 127)]] = True


def by_bytes_per_point(size: float) -> str | None:
    """Returns the layout that has `size` bytes per point, such as "float32 of five columns"; None if there is none."""
    return _WIDTHS.get(int(size)) if size == int(size) else None


def foreign_layout(content: NDArray[np.uint8], columns: int) -> str | None:
    """Finds out whether a scan file holds something other than the columns of its data set.

    A sample is checked first, which takes some microseconds; only after a suspicion a large part of the file is.

    Args:
        content: (bytes,) uint8, not empty; it need not be a whole number of points.
        columns: number of float32 columns of the data set; the first four are x, y, z and intensity.

    Returns:
        None if the content may be such points; else what it is, such as "5 float32 columns".
    """
    head = content[:64].tobytes()
    for magic, name in _HEADERS:
        if head.startswith(magic):
            return name
    if _TEXT[content[:64]].all() and _TEXT[content].all():
        return "text"
    row = 4 * columns
    # In the middle of the file, at a multiple of 8 bytes, so that doubles are aligned too.
    start = max(len(content) // (2 * row) - _ROWS // 2, 0) // 2 * 2 * row
    sample = content[start : start + _ROWS * row]
    with np.errstate(invalid="ignore"):  # other numbers, read as float32, may be signalling NaNs
        if _foreign_numbers(sample, columns) is None:
            return "a header before the points" if _has_header(content[: _HEAD_ROWS * row], columns) else None
        return _foreign_numbers(content[: _MOST_ROWS * row], columns)


def _has_header(head: NDArray[np.uint8], columns: int) -> bool:
    """Returns whether there are integers where the coordinates of the first points should be."""
    rows = len(head) // (4 * columns)
    size = np.abs(head[: rows * 4 * columns].view("<f4").reshape(rows, columns)[:, :3])
    return bool(((size > 0) & (size < np.finfo(np.float32).tiny)).any())


def _foreign_numbers(content: NDArray[np.uint8], columns: int) -> str | None:
    words = content[: len(content) // 4 * 4].view("<f4")
    rows = len(words) // columns
    if rows < FEWEST_ROWS:
        return None
    size = np.abs(words)
    if not size.any():
        return "zeros alone (a copy that was cut off?)"
    absurd = (size > FARTHEST) | ((size < _TINIEST) & (size > 0))  # NaN is neither: it is a point without a return
    share = np.count_nonzero(absurd) / len(words)
    points = size[: rows * columns].reshape(rows, columns)
    # In doubles of few digits every other word is 0.
    if share > 0.01 or (columns % 2 == 0 and points[:, 1].any() and not points[:, ::2].any()):
        for kind, name, sizes in _NUMBERS:
            if _are_coordinates(content, kind, sizes):
                return name
    table = absurd[: rows * columns].reshape(rows, columns)
    for column in range(4):  # x, y, z and intensity; one of them alone may be integers
        if _not_a_marker(points[:, column], table[:, column]) > 0.5:
            example = words[column::columns][table[:, column].argmax()]
            return f"numbers such as {example:.3g}, which are no {'intensities' if column == 3 else 'coordinates'}"
    if _every_other_row_is_none(points) or _every_other_row_is_positive(words[: rows * columns].reshape(rows, columns)):
        return f"{2 * columns} float32 columns"
    if _are_halves(words):
        return "float16 numbers"
    return _other_columns(words, columns)


def _not_a_marker(size: NDArray[np.float32], absurd: NDArray[np.bool_]) -> float:
    """Computes the share of absurd words, (N,), without the largest number, which may mark "nothing measured"."""
    return float(np.mean(absurd & (size < np.fmax.reduce(size))))


def _every_other_row_is_none(points: NDArray[np.float32]) -> bool:
    """Returns whether every second row has no y and z beyond 0..1: then there are twice as many columns.

    Such rows hold further columns, like a direction or a colour. Rows of zeros may be points without a return.
    """
    for first in (0, 1):
        flat, other = points[first::2, 1:3], points[1 - first :: 2, 1:3]
        if (
            np.fmax.reduce(flat, axis=None) <= 1
            and points[first::2].any()
            and np.median(np.nan_to_num(other.max(axis=1))) > 1
        ):
            return True
    return False


def _every_other_row_is_positive(points: NDArray[np.float32]) -> bool:
    """Returns whether only every second row has negative x, y or z: then there are twice as many columns.

    The other rows hold times and rings. Points are around their sensor, and the ground is below it.
    """
    for first in (0, 1):
        positive, other = points[first::2, :3], points[1 - first :: 2, :3]
        filled = np.mean((positive > 0).any(axis=1))  # NaN is not above 0
        if filled > 0.5 and not (positive < 0).any() and np.count_nonzero((other < 0).mean(axis=0) > 0.1) > 1:
            return True
    return False


def _are_halves(words: NDArray[np.float32]) -> bool:
    """Returns whether the words are pairs of float16: then the lower half of a word is a number of ordinary size too.

    The lower half of a float32 is the end of its mantissa: arbitrary bits, or few different values in rounded numbers.
    """
    lower = words.view("<u2")[::2]
    exponent = lower >> 10 & 31
    if np.mean(((exponent > 1) & (exponent < 29)) | (lower & 0x7FFF == 0)) < 0.99:
        return False
    return len(np.unique(lower)) > 64


def _are_coordinates(content: NDArray[np.uint8], kind: str, sizes: tuple[float, float]) -> bool:
    """Returns whether the content, read as numbers of `kind`, has the sizes of coordinates; some may be NaN."""
    width = np.dtype(kind).itemsize
    size = np.abs(content[: len(content) // width * width].view(kind).astype(np.float64))
    fitting = ((size > sizes[0]) & (size < sizes[1])) | (size == 0)
    missing = np.isnan(size)
    return bool((fitting | missing).mean() > 0.99 and missing.mean() < 0.5 and (size > 0).any())


def _other_columns(words: NDArray[np.float32], columns: int) -> str | None:
    """Returns the number of columns, in words, if it is not `columns`; else None."""
    limited = np.clip(np.nan_to_num(words, nan=0.0, posinf=_CLIP, neginf=-_CLIP), -_CLIP, _CLIP).astype(np.float64)
    features = np.stack([limited, np.abs(limited)])
    features -= features.mean(axis=1, keepdims=True)
    spread = float((features**2).sum())
    if spread == 0:
        return None
    ours = _between_columns(features, columns) / spread
    if ours >= 0.25:
        return None  # no other number of columns can reach four times that
    # Multiples of `columns` are not tried: with alternating beams every second point differs.
    others = {c: _between_columns(features, c) / spread for c in range(3, 10) if c % columns}
    best = max(others, key=lambda c: others[c])
    smallest = min(c for c in others if others[c] > 0.95 * others[best])  # 6 columns explain whatever 3 do
    clear = others[best] > max(_DIFFERENT, _CHANCE / len(words)) and ours < 0.25 * others[best]
    if clear:
        return f"{smallest} float32 columns"
    alike = columns == 4 and ours > _CHANCE / len(words) and _between_columns(features, 2) > 0.9 * ours * spread
    return "2 float32 columns" if alike else None  # x looks like z, and y like intensity


def _between_columns(features: NDArray[np.float64], columns: int) -> float:
    """Computes the part of the sum of squares of (2, W) centred `features` that lies between the columns."""
    rows = features.shape[1] // columns
    means = features[:, : rows * columns].reshape(2, rows, columns).mean(axis=1)
    return float((means**2).sum()) * rows
