"""Files that are not four (or five) float32 columns are recognised, whatever their size; real scans are accepted."""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path

import numpy as np
import pytest

from dataloader.formats.files import read_point_file
from dataloader.formats.point_layout import foreign_layout
from tests.support.scans import sweep
from utils.errors import UserError

KITTI, NUSCENES = sweep(), np.c_[sweep(top=255).round(3), np.arange(4096) % 32].astype(np.float32)
RNG = np.random.default_rng(0)


def content_of(values: np.ndarray | bytes) -> np.ndarray:
    return np.frombuffer(values if isinstance(values, bytes) else np.ascontiguousarray(values).tobytes(), np.uint8)


def npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def columns(*more: np.ndarray | float) -> np.ndarray:
    """Makes KITTI's four columns and further ones."""
    return np.column_stack([KITTI, *(np.broadcast_to(column, len(KITTI)) for column in more)]).astype(np.float32)


ring, noise = np.arange(4096) // 256, RNG.normal(size=4096)
FOREIGN = {
    "three columns": (KITTI[:, :3], "3 float32 columns"),
    "five, ring": (columns(ring), "5 float32 columns"),
    "five, zeros": (columns(0.0), "5 float32 columns"),
    "five, shuffled": (RNG.permutation(columns(ring)), "5 float32 columns"),
    "six": (columns(ring, noise), "6 float32 columns"),
    "seven": (columns(noise, noise[::-1], 0.0), "7 float32 columns"),
    "eight, ring": (columns(ring, 0.0, 0.0, 0.0), "8 float32 columns"),
    "eight, padded": (
        np.column_stack([KITTI[:, :3], np.ones(4096), KITTI[:, 3], np.zeros((4096, 3))]).astype(np.float32),
        "8 float32 columns",
    ),
    "float64": (KITTI.astype(np.float64), "float64"),
    "float64 with all digits": (KITTI + 1e-9 * RNG.normal(size=KITTI.shape), "float64"),
    "float64 with few digits": (np.round(KITTI.astype(np.float64) * 8) / 8, "float64"),
    "float64 in a map": (KITTI + np.array([455_000.0, 5_423_000.0, 110.0, 0.0]), "float64"),
    "float64, three": (KITTI[:, :3].astype(np.float64), "float64"),
    "float64, five": (columns(ring).astype(np.float64), "float64"),
    "big-endian": (KITTI.astype(">f4"), "big-endian float32"),
    "eight, of an Ouster": (
        np.column_stack(
            [KITTI[:, :3], np.ones(4096), KITTI[:, 3], np.linspace(0, 1, 4096), 99 * KITTI[:, 3], ring]
        ).astype(np.float32),
        "8 float32 columns",
    ),
    "float16, near": ((KITTI / 2 + np.float32(0.01)).astype(np.float16), "float16"),
    "integers for reflectance": (
        np.column_stack([KITTI[:, :3], (KITTI[:, 3] * 255).astype(np.int32).view(np.float32)]),
        "no intensities",
    ),
    "header of 16 bytes": (np.array([4096, 4, 0, 0], np.int32).tobytes() + KITTI.tobytes(), "a header before"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(8) + KITTI.tobytes(), "an HDF5 file"),
    "gzip": (gzip.compress(KITTI.tobytes()), "a gzip file"),
    "pcd without its comment": (b"VERSION .7\nFIELDS x y z i\nDATA binary\n" + KITTI.tobytes(), "a .pcd file"),
    "float16": (KITTI.astype(np.float16), "float16"),
    "millimetres as integers": ((KITTI * 1000).astype(np.int32), "32-bit integers"),
    "labels": (RNG.integers(0, 260, 4096).astype(np.uint32) | 1 << 28, "no coordinates"),
    "noise": (RNG.integers(0, 256, 40000).astype(np.uint8), "no coordinates"),
    "denormal": (KITTI * np.float32(1e-40), "no coordinates"),
    "1e30": (KITTI * np.float32(1e30), "no coordinates"),
    "zeros": (np.zeros_like(KITTI), "zeros"),
    "npy": (npy(KITTI), ".npy"),
    "text": ("\n".join(" ".join(f"{value:.3f}" for value in row) for row in KITTI[:99]).encode(), "text"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 1994688\n", "text"),
    "ply": (b"ply\nformat binary_little_endian 1.0\n" + KITTI.tobytes(), ".ply"),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("left_out", [0, 16, 20])
def test_foreign_files_are_named(name, left_out) -> None:
    """They are also named if some bytes are missing, whether or not the size is then a multiple of 16."""
    values, wanted = FOREIGN[name]
    content = content_of(values)
    content = content[: len(content) - left_out]
    found = foreign_layout(content, columns=4)
    assert found is not None and wanted in found


@pytest.mark.parametrize("name", ["three columns", "six", "float64", "float64, five", "float16", "npy", "zeros"])
def test_foreign_files_are_named_where_five_columns_are_wanted(name) -> None:
    values, wanted = FOREIGN[name]
    found = foreign_layout(content_of(values), columns=5)
    assert found is not None and wanted in found


def test_four_and_five_columns_are_told_apart() -> None:
    for ours, other in ((KITTI, 5), (NUSCENES, 4)):
        assert foreign_layout(content_of(ours), ours.shape[1]) is None
        assert foreign_layout(content_of(ours), other) == f"{ours.shape[1]} float32 columns"


def changed(change: str, scan: np.ndarray) -> np.ndarray:
    """Changes a scan as real scans may differ, or as people may change them."""
    scan, rng = scan.copy(), np.random.default_rng(1)
    some = rng.random(len(scan)) < 0.6
    if change in ("nan", "inf"):
        scan[some, :3] = np.nan if change == "nan" else np.inf
    elif change == "all nan":
        scan[:, :3] = np.nan
    elif change == "no return is 0":
        scan[some] = 0
    elif change == "no return is the largest float":
        scan[some, :3] = np.finfo(np.float32).max
    elif change == "front":
        return scan[scan[:, 0] > 0]
    elif change == "sparse":
        return scan[::40]
    elif change == "shuffled":
        return rng.permutation(scan)
    elif change == "no intensity":
        scan[:, 3] = 0
    elif change == "intensity 0..255":
        scan[:, 3] *= 255
    elif change == "intensity around 0":
        scan[:, 3] -= 0.5
    elif change == "flat":
        scan[:, 2] = 0
    elif change == "in a map":
        scan[:, :3] += [455_000, 5_423_000, 110]
    elif change == "alternating beams":
        scan[::2, 2] -= 2
        scan[1::2, :3] *= 3
    return scan


CHANGES = (
    "none", "nan", "inf", "all nan", "no return is 0", "no return is the largest float", "front", "sparse", "shuffled",
    "no intensity", "intensity 0..255", "intensity around 0", "flat", "in a map", "alternating beams",
)  # fmt: skip


def real_and_made_up() -> list[np.ndarray]:
    files = sorted((Path(__file__).parents[2] / "golden" / "semantickitti_tree").rglob("velodyne/*.bin"))
    if "TWODPASS_REAL_DATA" in os.environ:
        files += sorted(Path(os.environ["TWODPASS_REAL_DATA"]).glob("*/velodyne/*.bin"))[:4]
    return [KITTI, NUSCENES, *(np.fromfile(file, "<f4").reshape(-1, 4) for file in files)]


@pytest.mark.parametrize("change", CHANGES)
def test_no_scan_is_taken_for_another_file(change) -> None:
    for scan in real_and_made_up():
        assert foreign_layout(content_of(changed(change, scan)), scan.shape[1]) is None


def test_no_part_of_a_scan_is_taken_for_another_file() -> None:
    """The parts are runs, samples and neighbourhoods, down to few points."""
    for scan in real_and_made_up():
        for size in (1, 5, 64, 100, 700):
            for begin in range(0, len(scan) - size, len(scan) // 12):
                for part in (scan[begin : begin + size], np.sort(RNG.choice(scan, size, replace=False), axis=0)[::-1]):
                    assert foreign_layout(content_of(part), scan.shape[1]) is None


def test_reading_refuses_in_one_line(tmp_path) -> None:
    path = tmp_path / "000000.bin"
    columns(ring).tofile(path)
    assert path.stat().st_size % 16 == 0
    with pytest.raises(UserError) as caught:
        read_point_file(path, columns=4)
    assert str(path) in str(caught.value) and "5 float32 columns" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_nothing_measures_reads_as_no_point(tmp_path) -> None:
    points = KITTI.copy()
    points[0, :3] = [1e30, 2, 3]
    points[1, 1] = -3e38
    points[2, 3] = 1e30
    points[3, 0] = 9e7  # a map's coordinate
    points.tofile(tmp_path / "scan.bin")
    xyz, intensity = read_point_file(tmp_path / "scan.bin", columns=4)
    assert np.isnan(xyz).sum() == 2 and np.isnan(xyz[0, 0]) and np.isnan(xyz[1, 1])
    assert intensity[2] == 0 and xyz[3, 0] == np.float32(9e7)
    np.testing.assert_array_equal(xyz[4:], points[4:, :3])
    np.testing.assert_array_equal(intensity[3:], points[3:, 3])
