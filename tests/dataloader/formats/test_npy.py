"""NumPy files of one table or several arrays, and such that claim more than they have."""

from __future__ import annotations

import io
import struct
import zipfile

import numpy as np
import pytest

from dataloader.formats.open import Layout, parse_columns
from tests.support.point_files import (
    CLOUD,
    assert_is,
    assert_points_or_line,
    cut,
    flipped,
    line_of,
    read,
    with_lost_returns,
)

RING = np.c_[CLOUD, np.arange(253) % 32]
WHOLE = (CLOUD * 100).astype(np.int16)


def saved(array, **options) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        (with_lost_returns(), with_lost_returns()),
        (CLOUD[:, :3], CLOUD[:, :3]),
        (RING, RING[:, :4]),
        (np.asfortranarray(CLOUD), CLOUD),
        (CLOUD.astype(">f8"), CLOUD),
        (CLOUD.astype(np.float16), CLOUD.astype(np.float16)),
        (WHOLE, WHOLE),
        (WHOLE.astype(">u8")[:, :3] % 100, WHOLE.astype(">u8")[:, :3] % 100),
    ],
)
def test_tables_of_any_type(tmp_path, array, wanted) -> None:
    np.save(tmp_path / "scan.npy", array)
    np.savez(tmp_path / "scan.npz", array)
    assert_is(read(tmp_path / "scan.npy"), wanted)
    assert_is(read(tmp_path / "scan.npz"), wanted)


def test_other_widths_need_columns(tmp_path) -> None:
    path = tmp_path / "scan.npy"
    np.save(path, np.c_[np.zeros(253), CLOUD, np.zeros(253)].astype(np.float32))
    assert "6 columns" in line_of(path) and "--columns" in line_of(path)
    assert_is(read(path, Layout(parse_columns("_,x,y,z,i,_"))), CLOUD)
    assert "names 4" in line_of(path, Layout(parse_columns("x,y,z,i")))
    np.save(path, CLOUD.T)
    assert "transpose" in line_of(path)


def structured(*fields) -> np.ndarray:
    table = np.zeros((11, 23), list(fields))
    for axis, name in enumerate(("x", "Y", "z", "Intensity")):
        if name in (table.dtype.names or ()) and table[name].ndim == 2:
            table[name] = CLOUD[:, axis].reshape(11, 23)
    return table


def test_named_fields(tmp_path) -> None:
    path = tmp_path / "scan.npy"
    np.save(path, structured(("t", "u8"), ("z", ">f4"), ("x", "f8"), ("Intensity", "f4"), ("Y", "f4"), ("n", "f4", 3)))
    assert_is(read(path), CLOUD)
    np.save(path, structured(("x", "f4"), ("Y", "f4"), ("Intensity", "f4")))
    assert "no z" in line_of(path)
    np.save(path, structured(("x", "f4", 2), ("Y", "f4"), ("z", "f4")))
    assert "no plain numbers" in line_of(path)


@pytest.mark.parametrize(
    ("arrays", "wanted"),
    [
        ({"points": CLOUD, "labels": np.zeros(253, int)}, CLOUD),
        ({"XYZ": CLOUD[:, :3], "intensity": CLOUD[:, 3:], "names": np.array(["a", "b"])}, CLOUD),
        ({"anything": CLOUD, "pose": np.eye(6), "meta": np.array({"a": 1}, dtype=object)}, CLOUD),
        ({"points": CLOUD, "pose": np.eye(4)}, CLOUD),
        ({axis: CLOUD[:, n] for n, axis in enumerate(("x", "y", "z", "reflectance"))}, CLOUD),
        ({axis: CLOUD[:, n] for n, axis in enumerate("xyz")}, CLOUD[:, :3]),
        ({"points": structured(("x", "f4"), ("Y", "f4"), ("z", "f4"), ("Intensity", "f4")), "n": np.eye(4)}, CLOUD),
    ],
)
def test_archives_of_several_arrays(tmp_path, arrays, wanted) -> None:
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "scan.npz", **arrays)
        assert_is(read(tmp_path / "scan.npz"), wanted)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": CLOUD, "b": CLOUD}, "several of its arrays"),
        ({"points": CLOUD, "xyz": CLOUD[:, :3]}, "several of its arrays"),
        ({"a": np.eye(8), "b": np.eye(9)}, "none of its arrays"),
        ({"points": CLOUD[:, :3], "intensity": CLOUD[:9, 3]}, "9 intensities for 253 points"),
        ({"x": CLOUD[:, 0], "y": CLOUD[:, 1], "z": CLOUD[:9, 2]}, "different lengths"),
        ({"meta": np.array({"a": 1}, dtype=object)}, "no array of numbers"),
        ({}, "no array of numbers"),
        ({"points": CLOUD[:0]}, "holds no points"),
    ],
)
def test_archives_that_do_not_say_it(tmp_path, arrays, words) -> None:
    np.savez(tmp_path / "scan.npz", **arrays)
    assert words in line_of(tmp_path / "scan.npz")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (CLOUD[:0], "holds no points"),
        (CLOUD.astype(complex), "complex"),
        (CLOUD > 0, "bool"),
        (CLOUD.astype("S8"), "S8"),
        (np.array([{"a": 1}] * 3), "Python objects"),
        (CLOUD[:, 0], "(253,)"),
        (np.float32(3), "()"),
        (CLOUD[None], "(1, 253, 4)"),
        (np.zeros((3, 0)), "0 columns"),
    ],
)
def test_arrays_that_are_no_points(tmp_path, array, words) -> None:
    np.save(tmp_path / "scan.npy", array)
    assert words in line_of(tmp_path / "scan.npy")


def header_of(text: str, version=1) -> bytes:
    head = text.encode() + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(head)) + head


@pytest.mark.parametrize("version", [1, 2, 3])
def test_headers_that_lie_are_one_line(tmp_path, version) -> None:
    path, body = tmp_path / "scan.npy", CLOUD.tobytes()
    good = "{'descr': '<f4', 'fortran_order': False, 'shape': (253, 4), }"
    path.write_bytes(header_of(good, version) + body)
    assert_is(read(path), CLOUD)
    for old, new in (
        ("253", "254"),
        ("253", "252"),
        ("253", "-1"),
        ("253", "2.5"),
        ("253, 4", "4611686018427387904, 4"),
        ("(253, 4)", "(253, 4" + ", 1" * 70 + ")"),
        ("(253, 4)", "253"),
        ("'<f4'", "'|O'"),
        ("'<f4'", "'<f4, <f4'"),
        ("'<f4'", "'|V0'"),
        ("'<f4'", "[('x', '|V99999999999')]"),
        ("'<f4'", "__import__('os')"),
        ("'<f4'", "'\\d'"),
        ("{", "{" * 3000),
        ("}", ""),
    ):
        path.write_bytes(header_of(good.replace(old, new), version) + body)
        line_of(path)


def test_archives_that_unpack_to_far_more_are_one_line(tmp_path) -> None:
    path = tmp_path / "scan.npz"
    np.savez_compressed(path, np.zeros((2**20, 5), np.float32))
    assert path.stat().st_size < 30_000 and "times as large" in line_of(path)
    np.savez_compressed(path, np.zeros((2**10, 5), np.float32))
    assert len(read(path)) == 2**10
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.npy", saved(CLOUD))
    assert "packed in another way" in line_of(path)


@pytest.mark.parametrize("save", [np.save, np.savez, np.savez_compressed])
def test_damaged_files_give_points_or_one_line(tmp_path, save) -> None:
    path = tmp_path / ("scan.npy" if save is np.save else "scan.npz")
    save(path, CLOUD)
    content = path.read_bytes()
    assert assert_points_or_line(path, cut(content, 128), 253) >= 24
    assert_points_or_line(path, flipped(content, 0, 200), 253)
    if save is not np.save:
        assert_points_or_line(path, flipped(content, len(content) - 120, len(content)), 253)
        assert assert_points_or_line(path, flipped(content, 300, 3000, most=50), 253) > 40  # its sum is checked
