"""Small clouds, damaged files, and the check that reading one gives points or one clear line."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import laspy
import numpy as np
from plyfile import PlyData, PlyElement
from pypcd4.pypcd4 import Encoding
from pypcd4.pypcd4 import PointCloud as Pcd

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


def text_of(cloud: np.ndarray, delimiter: str = " ") -> str:
    """Writes rows of float32 numbers as text that has all their digits."""
    return "".join(delimiter.join(f"{value:.9g}" for value in row) + "\n" for row in cloud)


def write_every_format(folder: Path, cloud: np.ndarray) -> list[Path]:
    """Writes the points of (N, 4) float32 in each format, by libraries or by hand, and returns the paths.

    `.las` and `.laz` round to 2**-24 m, and end at 128 m. The bags have one message, in a folder of each kind. A `.bin`
    of four columns is there only if its size is not that of five as well.
    """
    from tests.support.bags import KINDS, message, write_bag

    count, plain = len(cloud), cloud.astype("<f4")
    table = plain.view([(name, "<f4") for name in ("x", "y", "z", "intensity")])[:, 0]
    head = "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z intensity\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\n"
    head += f"WIDTH {count}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {count}\nDATA "
    if count % 5:
        plain.tofile(folder / "kitti.bin")
    np.c_[plain, np.arange(count) % 32].astype("<f4").tofile(folder / "nuscenes.pcd.bin")
    (folder / "ascii.pcd").write_text(f"{head}ascii\n{text_of(plain)}")
    (folder / "binary.pcd").write_bytes(f"{head}binary\n".encode() + plain.tobytes())
    pcd = Pcd.from_points(plain, ("x", "y", "z", "i"), [np.float32] * 4)
    pcd.save(folder / "compressed.pcd", Encoding.BINARY_COMPRESSED)
    for name, order in (("little", "<"), ("big", ">"), ("ascii", "=")):
        vertices = PlyElement.describe(table, "vertex")
        PlyData([vertices], text=name == "ascii", byte_order=order).write(folder / f"{name}.ply")
    survey = laspy.LasData(laspy.LasHeader(point_format=3, version="1.2"))
    survey.header.scales = np.full(3, 2.0**-24)
    survey.x, survey.y, survey.z = (plain[:, axis].astype(float) for axis in range(3))
    survey.intensity = np.round(plain[:, 3] * 65535).astype(np.uint16)
    for suffix in ("las", "laz"):
        survey.write(str(folder / f"survey.{suffix}"))
    np.save(folder / "table.npy", plain)
    np.savez_compressed(folder / "table.npz", points=plain, pose=np.eye(4))
    (folder / "table.txt").write_text(text_of(plain))
    (folder / "table.csv").write_text("x,y,z,intensity\n" + text_of(plain, ","))
    (folder / "table.pts").write_text(f"{count}\n{text_of(plain)}")
    bags = []
    for kind in KINDS:
        (folder / kind).mkdir()
        bags.append(write_bag(folder / kind, kind, {"/lidar": [message(plain, kind.startswith("bag"))]}))
    return sorted(path for path in folder.iterdir() if path.is_file()) + bags
