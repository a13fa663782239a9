"""Points as text: what stands between the columns, headers, counts, and what is no number."""

from __future__ import annotations

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


def body(delimiter=" ", cloud=CLOUD, end="\n") -> str:
    return "".join(delimiter.join(f"{value:.9g}" for value in row) + end for row in cloud)


@pytest.mark.parametrize("delimiter", [" ", "  ", "\t", ",", ", ", ";", " ; "])
def test_points_are_those_of_the_file(tmp_path, delimiter) -> None:
    for end in ("\n", "\r\n", " \n", "\n\n"):
        for head in ("", "\ufeff", "\n\n", "# made by hand\n", "// a comment, with commas; and more\n"):
            for name, cloud in (("scan.txt", with_lost_returns()[:40]), ("scan.XYZ", CLOUD[:40, :3])):
                path = tmp_path / name
                path.write_bytes((head + body(delimiter, cloud, end)).encode())
                assert_is(read(path), cloud)


@pytest.mark.parametrize(
    "head",
    [
        "ring,Z,X,Intensity,Y",
        '"ring","z","x","intensity","y"',
        "ring;z;x;i;y",
        "#ring z x reflectance y",
        "//ring,Z,X,Scalar_Intensity,Y",
        "ring, z [m], x [m], intensity (raw), y [m]",
        "# columns follow\n#\n# ring z x i y\n# all in metres",
        "ring\tz\tx\tremission\ty",
    ],
)
@pytest.mark.parametrize("delimiter", [",", " ", ";"])
def test_headers_name_the_columns(tmp_path, head, delimiter) -> None:
    table = np.c_[np.arange(253), CLOUD[:, [2, 0, 3, 1]]]
    path = tmp_path / "scan.csv"
    path.write_text(f"{head}\n{body(delimiter, table)}")
    assert_is(read(path), CLOUD)
    assert_is(read(path, Layout(parse_columns("_,x,y,z,i"))), CLOUD[:, [2, 0, 3, 1]])


def test_other_names_than_x_y_z_need_columns(tmp_path) -> None:
    path = tmp_path / "scan.csv"
    path.write_text("Points_m_XYZ:0,Points_m_XYZ:1,Points_m_XYZ:2,strength\n" + body(","))
    assert "--columns" in line_of(path)
    assert_is(read(path, Layout(parse_columns("x,y,z,i"))), CLOUD)


def test_columns_that_are_no_numbers_may_be_left_out(tmp_path) -> None:
    path = tmp_path / "scan.csv"
    path.write_text("x,y,z,intensity,class\n" + "".join(f"{x},{y},{z},{i},car #{x}\n" for x, y, z, i in CLOUD.tolist()))
    assert_is(read(path), CLOUD)


def test_first_line_with_the_number_of_points(tmp_path) -> None:
    path = tmp_path / "scan.pts"
    path.write_text(f"253\n{body()}")
    assert_is(read(path), CLOUD)
    for count in (252, 254, 10**30):
        path.write_text(f"{count}\n{body()}")
        assert f"says {count}" in line_of(path)
    path.write_text(f"253\n{body(cloud=np.c_[CLOUD, CLOUD])}")
    assert "8 columns" in line_of(path) and "--columns" in line_of(path)


def test_empty_cells_are_lost_returns(tmp_path) -> None:
    cloud = with_lost_returns()[:12]
    path = tmp_path / "scan.csv"
    for head in ("", "x,y,z,i\n"):
        path.write_text(head + body(",", cloud).replace("nan", ""))
        assert_is(read(path), cloud)
        path.write_text(head + body(",", cloud[5:]).replace("nan", ""))
        assert_is(read(path), cloud[5:])  # the first row is empty
    for columns in (3, 4):
        path.write_text(body(",", CLOUD[:, :columns], ",\n"))
        assert_is(read(path), CLOUD[:, :columns])  # nothing stands behind the last comma


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("x y z\n", "holds no points"),
        ("# nothing\n\n", "holds no points"),
        ("1 2\n3 4\n", "2 columns"),
        ("1 2 3 4 5\n", "5 columns"),
        ("a b c\n1 2 3\n", "names no x, y and z"),
        ("x y z i t\n1 2 3\n", "its header names 5"),
        ("1,5;2,5;3,5\n", "names no x, y and z"),
        ("1 2 3\n1 2\n", ""),
        ("1 2 3\n1 two 3\n", ""),
        ("1 2 3 4\n5 6 7\n8 9 0 1\n", ""),
        ("1 2 3\n1 2 3 4\n", "cut off"),
        ("1\n2\n3\n", "one number"),
        ("12.5\n1 2 3\n", "one number"),
        ("ncols 4\nnrows 6\n1 2 3 4\n", "names no x"),
        ("version: 1\nn_points: 68\n{\n1 2\n}\n", "names no x"),
        ("1 2 3\n\0\0\0\n", "no text"),
        ("1 2 3\n" + "\x1b[2J" * 9 + "\n", "is damaged"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:01\nsize 199\n", "names no x"),
    ],
)
def test_text_that_is_no_table_is_one_line(tmp_path, content, words) -> None:
    path = tmp_path / "scan.asc"
    path.write_text(content)
    assert words in line_of(path)
    path.write_bytes(body().encode("utf-16"))
    assert "no text" in line_of(path)


def test_columns_that_do_not_fit_are_one_line(tmp_path) -> None:
    path = tmp_path / "scan.txt"
    path.write_text(body())
    assert "--columns names 5" in line_of(path, Layout(parse_columns("x,y,z,i,_")))


@pytest.mark.parametrize("delimiter", [" ", ","])
def test_damaged_files_give_points_or_one_line(tmp_path, delimiter) -> None:
    content = f"253\n# x y z i\n{body(delimiter)}".encode()
    assert assert_points_or_line(tmp_path / "scan.txt", cut(content, 14), 253) >= 24
    assert assert_points_or_line(tmp_path / "scan.txt", flipped(content, 0, 500, most=40), 253) > 20
