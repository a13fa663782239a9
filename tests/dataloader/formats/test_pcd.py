"""Files as the Point Cloud Library writes them, made by hand and by pypcd4."""

from __future__ import annotations

import struct
import sys

import numpy as np
import pytest
from pypcd4.pypcd4 import Encoding, PointCloud

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

TYPES = {
    "f4": "F 4",
    "f8": "F 8",
    "u1": "U 1",
    "u2": "U 2",
    "u4": "U 4",
    "i1": "I 1",
    "i2": "I 2",
    "i4": "I 4",
    "i8": "I 8",
}


def header(names, kinds, points, data, counts=None, **changes) -> bytes:
    types = [TYPES[kind].split() for kind in kinds]
    lines = {
        "VERSION": "0.7",
        "FIELDS": " ".join(names),
        "SIZE": " ".join(size for _, size in types),
        "TYPE": " ".join(sign for sign, _ in types),
        "COUNT": " ".join(map(str, counts or [1] * len(names))),
        "WIDTH": points,
        "HEIGHT": 1,
        "VIEWPOINT": "0 0 0 1 0 0 0",
        "POINTS": points,
        "DATA": data,
    }
    lines.update(changes)
    text = "".join(f"{key} {value}\n" for key, value in lines.items() if value is not None)
    return b"# .PCD v0.7 - Point Cloud Data file format\n" + text.encode()


def plain(data: str, cloud=CLOUD, **changes) -> bytes:
    """A file of x, y, z and intensity as float32."""
    if data == "ascii":
        body = "\n".join(" ".join(f"{value:.9g}" for value in row) for row in cloud).encode() + b"\n"
    elif data == "binary":
        body = cloud.astype("<f4").tobytes()
    else:
        body = packed(cloud.astype("<f4").T.tobytes())
    return header(["x", "y", "z", "intensity"], ["f4"] * 4, len(cloud), data, **changes) + body


def packed(content: bytes) -> bytes:
    """LZF of literals alone: runs of up to 32 bytes, each after its length less one."""
    runs = b"".join(bytes([len(content[n : n + 32]) - 1]) + content[n : n + 32] for n in range(0, len(content), 32))
    return struct.pack("<II", len(runs), len(content)) + runs


KINDS = ("ascii", "binary", "binary_compressed")


@pytest.mark.parametrize("data", KINDS)
def test_points_are_those_of_the_file(tmp_path, data) -> None:
    path = tmp_path / "scan.PCD"
    path.write_bytes(plain(data, with_lost_returns()))
    assert_is(read(path), with_lost_returns())


@pytest.mark.parametrize("encoding", [Encoding.BINARY, Encoding.BINARY_COMPRESSED])
def test_points_of_pypcd4(tmp_path, encoding) -> None:
    cloud = PointCloud.from_points(
        [CLOUD[:, 3], np.arange(len(CLOUD)), CLOUD[:, 2], CLOUD[:, 0], CLOUD[:, 1]],
        ["reflectivity", "ring", "z", "x", "y"],
        [np.float64, np.uint16, np.float32, np.float32, np.float32],
    )
    cloud.save(tmp_path / "scan.pcd", encoding)
    assert_is(read(tmp_path / "scan.pcd"), CLOUD)


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "i1", "i2", "i4", "i8", "f8"])
@pytest.mark.parametrize("data", KINDS)
def test_types_and_fields_of_several_numbers(tmp_path, kind, data) -> None:
    rng = np.random.default_rng(0)
    names, kinds, counts = (
        ["_", "i", "normal", "z", "y", "x", "_"],
        ["u1", kind, "f4", kind, "f4", "f8", "u2"],
        [3, 1, 2, 1, 1, 1, 1],
    )
    columns = {
        "i": rng.integers(0, 100, 9).astype(kind), "z": rng.integers(0, 100, 9).astype(kind),
        "y": rng.normal(size=9).astype("f4"), "x": rng.normal(size=9) + 4e6,
    }  # fmt: skip
    blocks = [
        columns.get(name, rng.integers(0, 9, (9, count)).astype(own)).reshape(9, count)
        for name, own, count in zip(names, kinds, counts, strict=True)
    ]
    if data == "ascii":
        body = "\n".join(
            "  ".join(repr(value.item()) for block in blocks for value in block[n]) for n in range(9)
        ).encode()
    elif data == "binary":
        body = b"".join(block[n].tobytes() for n in range(9) for block in blocks)
    else:
        body = packed(b"".join(block.tobytes() for block in blocks))
    path = tmp_path / "scan.pcd"
    path.write_bytes(header(names, kinds, 9, data, counts, WIDTH=3, HEIGHT=3) + body)
    cloud = read(path)
    for axis, name in enumerate("xyz"):
        np.testing.assert_array_equal(cloud.xyz[:, axis], columns[name])
    assert cloud.intensity is not None
    np.testing.assert_array_equal(cloud.intensity, columns["i"].astype(np.float32))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"WIDTH": 10**15, "POINTS": 10**15}, "missing"),
        ({"WIDTH": 10**300, "POINTS": 10**300}, "WIDTH"),
        ({"WIDTH": -1, "POINTS": -1}, "WIDTH"),
        ({"WIDTH": 252, "POINTS": 253}, "252 x 1"),
        ({"WIDTH": 254, "POINTS": 254}, "254 points"),
        ({"WIDTH": 0, "POINTS": 0}, "holds no points"),
        ({"WIDTH": None, "POINTS": None}, "POINTS"),
        ({"SIZE": "4 4 4"}, "SIZE"),
        ({"SIZE": "4 4 4 16"}, "SIZE"),
        ({"TYPE": "F F F Q"}, "TYPE"),
        ({"COUNT": "1 1 1 0"}, "COUNT"),
        ({"COUNT": "1 1 1 999999999"}, "COUNT"),
        ({"COUNT": "1 1 2 1"}, "COUNT"),
        ({"FIELDS": "a b c d"}, "no x, y, z"),
        ({"FIELDS": None}, "FIELDS"),
        ({"DATA": "binary_lz4"}, "DATA"),
        ({"DATA": ""}, "DATA"),
    ],
)
@pytest.mark.parametrize("data", KINDS)
def test_wrong_headers_are_one_line(tmp_path, data, changes, words) -> None:
    path = tmp_path / "scan.pcd"
    path.write_bytes(plain(data, **changes))
    line = line_of(path)
    assert any(part in line for part in (words, "and it has 253", "its points unpack to"))


def test_sizes_of_packed_points_are_checked(tmp_path) -> None:
    path = tmp_path / "scan.pcd"
    whole = plain("binary_compressed")
    start = whole.index(b"DATA binary_compressed\n") + 23
    for sizes in ((1, 4048), (2**32 - 1, 4048), (4175, 2**32 - 1), (4175, 4047), (0, 0), (0, 4048)):
        path.write_bytes(whole[:start] + struct.pack("<II", *sizes) + whole[start + 8 :])
        line_of(path)
    huge = header(["x", "y", "z"], ["f4"] * 3, 10**8, "binary_compressed")
    path.write_bytes(huge + struct.pack("<II", 30, 12 * 10**8) + bytes(30))
    assert "unpack" in line_of(path)


@pytest.mark.parametrize("data", KINDS)
def test_damaged_files_give_points_or_one_line(tmp_path, data) -> None:
    content = plain(data)
    start = content.index(b"DATA")
    assert assert_points_or_line(tmp_path / "scan.pcd", cut(content, start), len(CLOUD)) >= 24
    contents = flipped(content, 0, start + 40)
    assert assert_points_or_line(tmp_path / "scan.pcd", contents, len(CLOUD)) > 20


def test_a_missing_library_is_named(tmp_path, monkeypatch) -> None:
    """The other kinds need none."""
    monkeypatch.setitem(sys.modules, "pypcd4", None)
    monkeypatch.setitem(sys.modules, "pypcd4.pypcd4", None)
    for data in KINDS:
        (tmp_path / "scan.pcd").write_bytes(plain(data))
        if data == "binary_compressed":
            assert "pip install pypcd4" in line_of(tmp_path / "scan.pcd")
        else:
            assert_is(read(tmp_path / "scan.pcd"), CLOUD)
