"""Tables without a header: KITTI's, nuScenes', those whose columns are named; what is not certain is asked about."""

from __future__ import annotations

import argparse

import numpy as np
import pytest

from dataloader.formats.open import Layout, open_clouds, parse_columns, parse_dtype
from tests.support.point_files import CLOUD, assert_is, line_of, read, with_lost_returns
from tests.support.scans import sweep
from utils.errors import UserError

KITTI = sweep(beams=16, turn=50)  # 800 points: 12,800 bytes, which are 640 points of five columns
RING = np.c_[KITTI, np.arange(800) % 16].astype("<f4")
ODD_RING = np.c_[sweep(top=255)[:253], np.arange(253) % 32].astype("<f4")


def test_the_size_tells_kitti_from_nuscenes(tmp_path) -> None:
    kitti, nuscenes = tmp_path / "000000.bin", tmp_path / "scan.BIN"
    with_lost_returns().tofile(kitti)
    ODD_RING.tofile(nuscenes)
    assert_is(read(kitti), with_lost_returns())
    assert_is(read(nuscenes), ODD_RING[:, :4])
    assert read(kitti).xyz.dtype == np.float32


def test_a_size_that_fits_both_is_asked_about(tmp_path) -> None:
    path = tmp_path / "000000.bin"
    for content, likely in ((KITTI, "it looks like KITTI"), (RING, "it looks like nuScenes")):
        content.tofile(path)
        line = line_of(path)
        assert "--columns x,y,z,i (" in line and "--columns x,y,z,i,_ (" in line and likely in line
    assert_is(read(path, Layout(parse_columns("x,y,z,i,_"))), RING[:, :4])
    np.zeros(80, np.uint8).tofile(path)
    assert "looks like" not in line_of(path)


def test_files_beside_it_settle_the_question(tmp_path) -> None:
    """They are named, or lie in its folder."""
    for name in ("kitti", "both", "nuscenes", "damaged", "alone"):
        (tmp_path / name).mkdir()
    kitti, both, nuscenes, damaged = (tmp_path / name / "1.bin" for name in ("kitti", "both", "nuscenes", "damaged"))
    CLOUD.tofile(kitti)
    KITTI.tofile(both)
    ODD_RING.tofile(nuscenes)
    damaged.write_bytes(bytes(17))
    (tmp_path / "kitti" / "2.txt").write_bytes(bytes(20))
    KITTI.tofile(path := tmp_path / "alone" / "0.bin")

    gone = tmp_path / "gone.bin"
    assert_is(open_clouds(path, Layout(), iter([damaged, gone, both, kitti])).read(0), KITTI)
    for some in ([both], [damaged], [kitti, nuscenes], []):
        with pytest.raises(UserError, match="say which"):
            open_clouds(path, Layout(), iter(some))
    for folder, content in (("kitti", KITTI), ("nuscenes", RING)):
        content.tofile(tmp_path / folder / "0.bin")
        assert_is(read(tmp_path / folder / "0.bin"), content[:, :4])
    RING.tofile(tmp_path / "kitti" / "0.bin")
    assert "5 columns of nuScenes" in line_of(tmp_path / "kitti" / "0.bin")  # the content is looked at in any case


def test_the_name_of_nuscenes_settles_it(tmp_path) -> None:
    path = tmp_path / "n015__LIDAR_TOP__1.pcd.bin"
    RING.tofile(path)
    assert_is(read(path), RING[:, :4])
    KITTI.tofile(path)
    assert "4 columns of KITTI" in line_of(path) and "--columns" in line_of(path)


@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f4", ">f8", "<f2", "<i4", ">i2", "<u2"])
@pytest.mark.parametrize("columns", ["x,y,z", "i,z,y,x", "X, Y ,Z,_,_,Reflectance", "time,x,y,z,_,_,intensity"])
def test_named_columns_of_any_type(tmp_path, dtype, columns) -> None:
    rng = np.random.default_rng(0)
    values = {name: rng.integers(1, 99, 50).astype(dtype) for name in "xyzi"}
    short = {"reflectance": "i", "intensity": "i"}
    names = parse_columns(columns)
    table = np.stack([values.get(short.get(name, name), np.full(50, 7, dtype)) for name in names], axis=1)
    path = tmp_path / "scan.bin"
    table.astype(dtype).tofile(path)
    cloud = read(path, Layout(names, parse_dtype(dtype)))
    np.testing.assert_array_equal(cloud.xyz, np.stack([values[axis] for axis in "xyz"], axis=1).astype(float))
    assert cloud.xyz.dtype == (np.float32 if dtype[1:] in ("f4", "f2") else np.float64)
    if len(names) == 3:
        assert cloud.intensity is None
    else:
        assert cloud.intensity is not None
        np.testing.assert_array_equal(cloud.intensity, values["i"].astype(np.float32))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (KITTI.astype("<f8"), "float64"),
        (KITTI[:, :3], "3 float32 columns"),
        (np.c_[KITTI, RING[:, 4:], RING[:, 4:]].astype("<f4"), "6 float32 columns"),
        (KITTI.astype(">f4"), "big-endian"),
        (b"1.0 2.0 3.0 4.0\n" * 100, "text"),
        (b"# .PCD v0.7 - x\n" * 100, ".pcd file"),
    ],
)
def test_other_tables_are_named(tmp_path, content, words) -> None:
    path = tmp_path / "scan.bin"
    whole = content if isinstance(content, bytes) else np.ascontiguousarray(content).tobytes()
    for part in (whole, whole[: len(whole) // 80 * 80], whole[:-3]):
        path.write_bytes(part)
        line = line_of(path)
        assert words in line and "--columns" in line and "--dtype" in line


def test_files_that_are_cut_off_are_one_line(tmp_path) -> None:
    path = tmp_path / "scan.bin"
    path.write_bytes(b"")
    assert "empty" in line_of(path)
    for size in (1, 15, 17, 19, 16 * 253 - 1):
        path.write_bytes(CLOUD.tobytes()[:size])
        assert ("16 bytes" if size > 100 else "--columns") in line_of(path)
        assert "5 columns" in line_of(path, Layout(parse_columns("x,y,z,i,_")))
    CLOUD.tofile(path)
    assert "--columns" in line_of(path, Layout(dtype="<f8"))


def test_a_wrong_type_is_noticed(tmp_path) -> None:
    path = tmp_path / "scan.bin"
    KITTI.tofile(path)
    assert "no coordinates" in line_of(path, Layout(parse_columns("x,y,z,i"), ">f4"))
    lost = KITTI.copy()
    lost[: len(lost) * 3 // 4, :3] = np.finfo(np.float32).max  # a marker of lost returns
    lost.tofile(path)
    assert read(path, Layout(parse_columns("x,y,z,i"))).measured.sum() == 200


@pytest.mark.parametrize(
    "text", ["", "x,y", "x,y,z,x", "x,y,z,i,intensity", "x,y,z,foo,foo", "x y z", "x,y,z,,i", "\x1b,y"]
)
def test_wrong_columns_are_refused(text) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        parse_columns(text)


@pytest.mark.parametrize(
    "text", ["", " ", "f3", "O", "U4", "f4,f4", "complex64", "datetime64", "V8", "(", "bool", "pickle"]
)
def test_wrong_types_are_refused(text) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        parse_dtype(text)


def test_types_have_several_names() -> None:
    assert [parse_dtype(text) for text in ("f4", "float64", ">f8", "uint16", "=i4", "int8")] == [
        "<f4", "<f8", ">f8", "<u2", "<i4", "|i1",
    ]  # fmt: skip
