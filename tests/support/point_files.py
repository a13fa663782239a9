"""Small clouds, damaged files, and the check that reading one gives points or one clear line."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dataloader.formats.open import Layout, open_clouds
from tests.support.scans import sweep
from utils.errors import UserError
from utils.scan.point_cloud import PointCloud

CLOUD = sweep(beams=8, turn=32)[:253]
"""(253, 4) float32; as KITTI's `.bin` its size is no multiple of 20."""


def with_lost_returns() -> np.ndarray:
    """Makes CLOUD with rows of NaN and infinity, and intensities that are no numbers."""
    cloud = CLOUD.copy()
    cloud[5, :3] = np.nan
    cloud[9, 1] = np.inf
    cloud[11, 0] = -3e38
    cloud[[5, 20], 3] = np.nan, -np.inf
    return cloud


def assert_is(cloud: PointCloud, wanted: np.ndarray) -> None:
    """Checks that a cloud has the same points, to the last bit of float32, in the same order."""
    points = wanted[:, :3].astype(np.float64)
    points[~(np.abs(points) < 1e8)] = np.nan
    np.testing.assert_array_equal(cloud.xyz.astype(np.float32), points.astype(np.float32))
    assert cloud.measured.sum() == np.isfinite(points).all(axis=1).sum()
    if wanted.shape[1] > 3:
        assert cloud.intensity is not None and cloud.intensity.dtype == np.float32
        strength = wanted[:, 3].astype(np.float32)
        np.testing.assert_array_equal(cloud.intensity, np.where(np.isfinite(strength), strength, 0))
    else:
        assert cloud.intensity is None


def read(path: Path, layout: Layout | None = None) -> PointCloud:
    """Reads the first cloud of a file; no library may warn."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)  # pytest's own, of other tests
        cloud = open_clouds(path, layout or Layout()).read(0)
    assert not heard, [str(warning.message) for warning in heard]
    return cloud


def line_of(path: Path, layout: Layout | None = None) -> str:
    """Returns the one line that says what is wrong with a file; it begins with its path."""
    try:
        cloud = read(path, layout)
    except UserError as error:
        line = str(error)
    else:
        raise AssertionError(f"{len(cloud)} points were read")
    assert line.startswith(str(path)) and line.isprintable() and len(line) < 800 + len(str(path)), line
    return line


def cut(content: bytes, header: int) -> Iterator[bytes]:
    """Yields the beginnings of a file: each within the first bytes of its header, and some of the rest."""
    places = {*range(min(header, 12)), *np.linspace(0, len(content) - 1, 24).astype(int).tolist(), len(content) - 1}
    for place in sorted(places):
        yield content[:place]


def flipped(content: bytes, begin: int, end: int, seed: int = 0, most: int = 80) -> Iterator[bytes]:
    """Yields a file with one byte changed, for places between `begin` and `end`, in several ways."""
    rng = np.random.default_rng(seed)
    for place in rng.permutation(np.arange(begin, end))[:most]:
        changed = bytearray(content)
        changed[place] = (changed[place] ^ (1 << rng.integers(8)), 255, 0, ord("9"))[rng.integers(4)]
        yield bytes(changed)


def assert_points_or_line(path: Path, contents: Iterator[bytes], points: int, layout: Layout | None = None) -> int:
    """Checks that each content is read as so many points, or gives one line; returns how many gave a line."""
    lines = 0
    for content in contents:
        path.write_bytes(content)
        try:
            cloud = read(path, layout)
        except UserError as error:
            line = str(error)
            assert line.startswith(str(path)) and line.isprintable(), line
            lines += 1
        else:
            assert len(cloud) == points
    return lines
