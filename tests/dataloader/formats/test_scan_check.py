"""The checks when scans are listed: doubtful scans give one note for each kind, good scans none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dataloader.formats.scan_check import KITTI, NUSCENES, Notes, check_sizes, look_at_scans, note_small_scans
from tests.support.scans import sweep
from utils.errors import UserError


def notes_of(folder: Path, *scans: np.ndarray, form=KITTI) -> tuple[str, ...]:
    paths = [folder / f"{number:06d}.bin" for number in range(len(scans))]
    for path, scan in zip(paths, scans, strict=True):
        scan.astype(np.float32).tofile(path)
    notes = Notes()
    look_at_scans(paths, form, notes)
    return notes.lines()


def with_column(axis: int, values) -> np.ndarray:
    scan = sweep()
    scan[:, axis] = values(scan[:, axis])
    return scan


DOUBTFUL = {
    "reflectance 0..255": (sweep(top=255), "divide it by 255"),
    "reflectance 0..65535": (sweep(top=65535), "divide it by 65535"),
    "no reflectance": (with_column(3, np.zeros_like), "intensity is 0 for every point"),
    "reflectance around 0": (with_column(3, lambda x: x - 0.5), "negative"),
    "one reflectance": (with_column(3, np.ones_like), "intensity is 1 for every point"),
    "reflectance divided twice": (with_column(3, lambda x: x / 255), "intensity ends at 0.00"),
    "axes of a camera": (sweep()[:, [1, 2, 0, 3]] * np.array([-1, -1, 1, 1]), "farther up and down (z)"),
    "cut off": (np.where(np.arange(4096)[:, None] < 3000, sweep(), 0), "the last 1096 of 4096 points are zeros"),
    "flat": (with_column(2, np.zeros_like), "z is 0 for every point"),
    "no x": (with_column(0, np.zeros_like), "x is 0 for every point"),
    "map": (sweep() + np.array([455_000, 5_423_000, 110, 0]), "around (455000, 5423000, "),
    "beside": (sweep() + np.array([0, -850, 0, 0]), "not around their sensor"),
    "millimetres": (sweep() * np.array([1000, 1000, 1000, 1]), "are these metres?"),
    "unit cube": (sweep() * np.array([0.01, 0.01, 0.01, 1]), "are these metres?"),
    "hardly any": (np.where(np.arange(4096)[:, None] % 20 > 0, np.nan, sweep()), "only 205 of 4096 points"),
    "nothing": (np.where(np.arange(4) < 3, np.nan, sweep()), "no point has usable coordinates"),
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_doubtful_scans_are_noted_once(tmp_path, name) -> None:
    scan, wanted = DOUBTFUL[name]
    lines = notes_of(tmp_path, scan, scan)
    assert len(lines) == 1 and wanted in lines[0] and "likewise 1 more" in lines[0]
    assert lines[0].startswith(str(tmp_path / "000000.bin")) and "\n" not in lines[0]


SECOND = np.arange(4096)[:, None] % 2 > 0


def crosstalk(scan: np.ndarray) -> np.ndarray:
    """Moves a hundredth of the points by 3 m and 3 in intensity, as Robo3D does."""
    rng = np.random.default_rng(0)
    return np.where(rng.random((len(scan), 1)) < 0.01, scan + rng.normal(0, 3, scan.shape), scan)


@pytest.mark.parametrize(
    "scan",
    [
        sweep(), sweep()[sweep()[:, 0] > 0], sweep()[::50], sweep()[:3], np.zeros((3, 4)), crosstalk(sweep()),
        np.where(SECOND, np.nan, sweep()), np.where(SECOND, 0, sweep()),
        sweep() + np.array([30, 0, 1.7, 0]),
    ],
    ids=["whole", "front", "sparse", "three", "three zeros", "crosstalk", "half nan", "half zeros", "on a mast"],
)  # fmt: skip
def test_sound_scans_are_not(tmp_path, scan) -> None:
    assert notes_of(tmp_path, scan) == ()


def test_the_scale_of_nuscenes_is_another(tmp_path) -> None:
    ring = np.arange(4096) % 32
    assert notes_of(tmp_path, np.c_[sweep(top=255), ring], form=NUSCENES) == ()
    assert "multiply it by 255" in notes_of(tmp_path, np.c_[sweep(), ring], form=NUSCENES)[0]


def test_the_first_the_middle_and_the_last_scan_are_read(tmp_path) -> None:
    good, bad = sweep(), sweep().astype(np.float64).view(np.float32)
    assert notes_of(tmp_path, good, bad, good, sweep(top=255), good) == ()
    for place in (0, 2, 4):
        scans = [good] * 5
        scans[place] = bad
        with pytest.raises(UserError, match=rf"00000{place}\.bin: holds float64"):
            notes_of(tmp_path, *scans)


def test_a_scan_without_any_place_is_refused(tmp_path) -> None:
    scan = np.zeros((100, 4))
    scan[:, 3] = 0.5
    with pytest.raises(UserError, match=r"every point is \(0, 0, 0\)"):
        notes_of(tmp_path, scan)
    scan[:, :3] = sweep()[0, :3]
    with pytest.raises(UserError, match="every point is "):
        notes_of(tmp_path, scan)


@pytest.mark.parametrize(
    ("values", "labels", "wanted"),
    [
        (np.c_[sweep(), np.zeros(4096)].astype(np.float32), 4096, "5 float32 columns"),
        (sweep().astype(np.float64), 4096, "float64"),
        (sweep()[:, :3], 4096, "3 float32 columns"),
        (sweep(), 4000, "4000 labels for 4096 points"),
        (sweep(), 0, "0 labels for 4096 points"),
        (sweep(), 1024, "1 bytes for each of the 4096 points, as have uint8 labels, where uint32 are wanted"),
        (sweep(), 2048, "as have uint16 labels"),
        (sweep(), 8192, "as have 64-bit labels"),
        (np.full((200, 5), 7, np.float32), 200, "20 bytes for each label, as has float32 of five columns"),
        (np.zeros((0, 4)), 4096, "no points"),
    ],
)
def test_sizes_that_do_not_fit(tmp_path, values, labels, wanted) -> None:
    scan, label = tmp_path / "0.bin", tmp_path / "0.label"
    values.tofile(scan)
    with pytest.raises(UserError) as caught:
        check_sizes(scan, scan.stat().st_size, label, 4 * labels, KITTI)
    assert wanted in str(caught.value) and str(tmp_path / "0.") in str(caught.value)


def test_small_scans_are_counted() -> None:
    notes = Notes()
    sizes = {Path(f"{number}.bin"): 16 * (9000 if number == 5 else 100_000 + number) for number in range(9)}
    note_small_scans(sizes, notes)
    note_small_scans({Path("a.bin"): 160, Path("b.bin"): 320}, notes)
    (line,) = notes.lines()
    assert line.startswith("5.bin: has less than a tenth") and "(1 scans have)" in line
