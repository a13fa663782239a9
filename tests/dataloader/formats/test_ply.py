"""Polygon files of all three kinds, made by hand and by plyfile."""

from __future__ import annotations

import struct
import sys

import numpy as np
import pytest
from plyfile import PlyData, PlyElement

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

FORMS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}


def header(form, count, *lines) -> bytes:
    properties = [f"property float {name}" for name in ("x", "y", "z", "intensity")]
    head = ["ply", f"format {form} 1.0", "comment of a test", f"element vertex {count}", *properties, *lines]
    return "\n".join([*head, "end_header", ""]).encode()


def plain(form, cloud=CLOUD, count=None) -> bytes:
    """A file of x, y, z and intensity as float32."""
    if form == "ascii":
        body = "\n".join(" ".join(f"{value:.9g}" for value in row) for row in cloud).encode() + b"\n"
    else:
        body = cloud.astype(FORMS[form] + "f4").tobytes()
    return header(form, len(cloud) if count is None else count) + body


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_points_are_those_of_the_file(tmp_path, form, newline) -> None:
    path = tmp_path / "scan.ply"
    content = plain(form, with_lost_returns())
    end = len(content) if form == "ascii" else content.index(b"end_header\n") + 11
    path.write_bytes(content[:end].replace(b"\n", newline) + content[end:])
    assert_is(read(path), with_lost_returns())


def structured(name="scalar_Intensity", number="f4", **more) -> np.ndarray:
    table = np.zeros(len(CLOUD), [("nx", "u1"), ("z", "f4"), ("x", "f4"), (name, number), ("y", "f4"), *more.items()])
    for axis, column in enumerate(("x", "y", "z", name)):
        table[column] = CLOUD[:, axis] if axis < 3 or number[0] == "f" else CLOUD[:, axis] * 255
    return table


BIG = structured().dtype.newbyteorder(">")
FACES = np.empty(2, [("vertex_indices", "O")])
FACES["vertex_indices"] = [np.array([0, 1, 2], "i4"), np.array([3, 4, 5, 6], "i4")]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", ["faces after", "faces before", "camera before", "lists in vertices", "none"])
def test_points_of_plyfile(tmp_path, form, place) -> None:
    table = structured(tags="O") if place == "lists in vertices" else structured()
    if place == "lists in vertices":
        table["tags"] = [np.arange(n % 3, dtype="i4") for n in range(len(table))]
    elements = [PlyElement.describe(table, "vertex")]
    faces = PlyElement.describe(FACES, "face")
    camera = PlyElement.describe(np.zeros(3, [("view_px", "f4"), ("view_py", "f8")]), "camera")
    elements = {"faces after": [*elements, faces], "faces before": [faces, *elements]}.get(place, elements)
    elements = [camera, *elements] if place == "camera before" else elements
    PlyData(elements, text=form == "ascii", byte_order=FORMS[form]).write(tmp_path / "scan.ply")
    if (form, place) == ("binary_big_endian", "lists in vertices"):  # plyfile writes such numbers in the other order
        head = PlyData(elements, byte_order=">").header.encode() + b"\n"
        rows = [structured().astype(BIG), table["tags"]]
        body = [
            row.tobytes() + bytes([len(tags)]) + tags.astype(">i4").tobytes() for row, tags in zip(*rows, strict=True)
        ]
        (tmp_path / "scan.ply").write_bytes(head + b"".join(body))
    assert_is(read(tmp_path / "scan.ply"), CLOUD)


@pytest.mark.parametrize("name", ["intensity", "i", "Reflectance", "scalar_reflectance"])
@pytest.mark.parametrize("number", ["u1", "u2", "f8"])
def test_names_and_types_of_intensity(tmp_path, name, number) -> None:
    table = structured(name, number)
    PlyData([PlyElement.describe(table, "vertex")]).write(tmp_path / "scan.ply")
    cloud = read(tmp_path / "scan.ply")
    assert cloud.intensity is not None
    np.testing.assert_array_equal(cloud.intensity, table[name].astype(np.float32))


def test_doubles_keep_their_digits(tmp_path) -> None:
    table = np.zeros(3, [(axis, "f8") for axis in "xyz"])
    table["x"] = [455_000.123456789, 1.0, 9e7]
    PlyData([PlyElement.describe(table, "vertex")]).write(tmp_path / "scan.ply")
    cloud = read(tmp_path / "scan.ply")
    assert cloud.xyz[:, 0].tolist() == table["x"].tolist() and cloud.intensity is None


@pytest.mark.parametrize("form", FORMS)
def test_wrong_counts_are_one_line(tmp_path, form) -> None:
    path = tmp_path / "scan.ply"
    for count in (0, 254, 10**9, 10**15, 10**30, -1, "many"):
        path.write_bytes(plain(form, count=count))
        assert ("holds no points" if count == 0 else str(count)[:20]) in line_of(path)
    path.write_bytes(plain(form, count=252))
    assert "252" in line_of(path)
    path.write_bytes(plain(form, count=252).replace(b"end_header", b"element face 1\nend_header"))
    assert len(read(path)) == 252  # what follows belongs to the face


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"element vertex", b"element point", "no element vertex"),
        (b"property float x\n", b"", "no x"),
        (b"property float x\n", b"property list uchar float x\n", "lists"),
        (b"property float x\n", b"property float128 x\n", "float128"),
        (b"format ", b"format odd_", "odd_"),
        (b"format ", b"comment ", "end_header"),
        (b"end_header\n", b"", "header"),
        (b"ply\n", b"plx\n", "begin with ply"),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_wrong_headers_are_one_line(tmp_path, form, old, new, words) -> None:
    path = tmp_path / "scan.ply"
    path.write_bytes(plain(form).replace(old, new, 1))
    assert words in line_of(path)


def test_endless_elements_before_the_vertices_end(tmp_path) -> None:
    path = tmp_path / "scan.ply"
    for before in (b"element face 9999999999\n", b"element face 999999999\nproperty list uchar int vertex_indices\n"):
        for form in FORMS:
            path.write_bytes(plain(form).replace(b"element vertex", before + b"element vertex"))
            if b"list" in before or form == "ascii":
                line_of(path)
            else:
                assert_is(read(path), CLOUD)  # rows without properties take no bytes
    body = struct.pack("<i", -1) + CLOUD.tobytes()
    odd = header("binary_little_endian", 253).replace(
        b"element vertex", b"element face 1\nproperty list int int n\nelement empty 999999999999\nelement vertex"
    )
    path.write_bytes(odd + body)
    line_of(path)


@pytest.mark.parametrize("form", FORMS)
def test_damaged_files_give_points_or_one_line(tmp_path, form) -> None:
    content = plain(form)
    start = content.index(b"end_header") + 11
    assert assert_points_or_line(tmp_path / "scan.ply", cut(content, start), 253) >= 24
    assert assert_points_or_line(tmp_path / "scan.ply", flipped(content, 0, start), 253) > 20
    whole = content.replace(b"property float y", b"property list uchar int tags\nproperty float y")
    assert_points_or_line(tmp_path / "scan.ply", flipped(whole, 0, start, most=40), 253)


def test_a_missing_library_is_named(tmp_path, monkeypatch) -> None:
    """Vertices without lists need none."""
    monkeypatch.setitem(sys.modules, "plyfile", None)
    for form in FORMS:
        (tmp_path / "scan.ply").write_bytes(plain(form))
        assert_is(read(tmp_path / "scan.ply"), CLOUD)
        whole = plain(form, count=150).replace(b"property float y", b"property list uchar int tags\nproperty float y")
        (tmp_path / "scan.ply").write_bytes(whole)
        assert "pip install plyfile" in line_of(tmp_path / "scan.ply")
