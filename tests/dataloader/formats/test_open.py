"""What is the same for all formats: suffixes, files that are none, and what goes to other processes."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest

from dataloader.formats.open import SUFFIXES, Layout, is_bag_folder, is_point_file, open_clouds
from tests.support.point_files import CLOUD, assert_is, line_of, read, write_every_format
from utils.errors import UserError


def test_suffixes_are_known_in_any_case(tmp_path) -> None:
    assert all(is_point_file(tmp_path / f"scan{suffix}") for suffix in SUFFIXES)
    assert is_point_file(tmp_path / "SCAN.PCD.BIN") and is_point_file(tmp_path / "a.b.LaZ")
    for name in ("scan.png", "scan", "bin", ".bin", "._scan.bin", "scan.bin.gz", "scan.label"):
        assert not is_point_file(tmp_path / name)


def test_unknown_suffixes_are_one_line_with_those_known(tmp_path) -> None:
    path = tmp_path / "scan.e57"
    path.write_bytes(b"x")
    line = line_of(path)
    assert all(suffix in line for suffix in SUFFIXES)
    assert "folder" in line_of(tmp_path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_no_file_is_one_line(tmp_path, suffix) -> None:
    assert "no such file" in line_of(tmp_path / f"gone{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    assert "folder" in line_of(tmp_path / f"folder{suffix}")
    os.mkfifo(tmp_path / f"pipe{suffix}")
    assert "not an ordinary file" in line_of(tmp_path / f"pipe{suffix}")
    (tmp_path / f"link{suffix}").symlink_to(tmp_path / f"link{suffix}")
    assert "cannot be read" in line_of(tmp_path / f"link{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_without_points_are_one_line(tmp_path, suffix) -> None:
    path = tmp_path / f"scan{suffix}"
    for content in (b"", b"\x00", b"\n\n\n", b"\x00" * 999, b"\xff" * 999, b"x y z i\n", b"# x y z\n"):
        path.write_bytes(content)
        line_of(path)


def test_names_that_steer_a_terminal_are_escaped(tmp_path) -> None:
    path = tmp_path / "\x1b[2Jscan\n.pcd"
    path.write_bytes(b"x")
    with pytest.raises(UserError) as caught:
        open_clouds(path, Layout()).read(0)
    assert "\\x1b[2Jscan\\n.pcd" in str(caught.value) and str(caught.value).isprintable()


def test_a_pipe_beside_is_no_bag(tmp_path) -> None:
    os.mkfifo(tmp_path / "metadata.yaml")
    assert not is_bag_folder(tmp_path) and not is_bag_folder(tmp_path / "gone")


def test_one_cloud_in_every_format(tmp_path) -> None:
    paths = write_every_format(tmp_path, CLOUD)
    names = [path.name.lower() for path in paths]
    assert {suffix for suffix in SUFFIXES if not any(name.endswith(suffix) for name in names)} == {".xyz", ".asc"}
    for path in paths:
        cloud = read(path)
        if path.suffix in (".las", ".laz"):
            np.testing.assert_allclose(cloud.xyz, CLOUD[:, :3], rtol=0, atol=2.0**-24)
            assert cloud.intensity is not None
            np.testing.assert_array_equal(cloud.intensity, np.round(CLOUD[:, 3] * 65535))
        else:
            assert_is(cloud, CLOUD)


def test_clouds_go_to_other_processes(tmp_path) -> None:
    CLOUD.tofile(tmp_path / "scan.bin")
    clouds = pickle.loads(pickle.dumps(open_clouds(tmp_path / "scan.bin", Layout())))
    assert len(clouds) == 1 and clouds.label(0) == ""
    cloud = clouds.read(0)
    assert_is(cloud, CLOUD)
    assert cloud.name == str(tmp_path / "scan.bin") and cloud.xyz.flags.writeable and np.shape(cloud.xyz) == (253, 3)
