"""Surveys as laspy writes them, plain and compressed."""

from __future__ import annotations

import struct
import sys

import laspy
import numpy as np
import pytest
from laspy._compression import lazrsbackend
from laspy._compression.lazrsbackend import LazrsPointWriter

from tests.support.point_files import CLOUD, assert_points_or_line, cut, flipped, line_of, read

SCALE = 0.001


def write(path, form=3, version=None, offsets=(0.0, 0.0, 0.0), cloud=CLOUD, extra=False):
    """Writes the cloud; returns the coordinates that the file can hold."""
    header = laspy.LasHeader(point_format=form, version=version)
    header.scales, header.offsets = np.full(3, SCALE), np.array(offsets)
    if extra:
        header.add_extra_dim(laspy.ExtraBytesParams("confidence", "f4"))
    data = laspy.LasData(header)
    data.x, data.y, data.z = (cloud[:, axis].astype(float) + offsets[axis] for axis in range(3))
    data.intensity = (cloud[:, 3] * 65535).astype(np.uint16)
    data.write(path)
    return np.round(cloud[:, :3].astype(float) / SCALE) * SCALE + np.array(offsets)


@pytest.mark.parametrize("suffix", [".las", ".LAZ"])
@pytest.mark.parametrize(("form", "version"), [(0, "1.2"), (3, "1.3"), (6, "1.4"), (10, "1.4")])
def test_points_are_those_of_the_file(tmp_path, suffix, form, version) -> None:
    path = tmp_path / f"street{suffix}"
    wanted = write(path, form, version, offsets=(455_000.0, 5_423_000.0, 110.0), extra=form == 6)
    cloud = read(path)
    assert cloud.xyz.dtype == np.float64 and cloud.intensity is not None
    np.testing.assert_allclose(cloud.xyz, wanted, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(cloud.intensity, (CLOUD[:, 3] * 65535).astype(np.uint16).astype(np.float32))


class VariableChunks(LazrsPointWriter):
    """A writer of chunks of different sizes, as cloud-optimised files (COPC) have them; the last one is empty."""

    def __init__(self, dest, point_format, parallel) -> None:
        super().__init__(dest, point_format, parallel=False)
        self.vlr = type(self.vlr).new_for_compression(point_format.id, point_format.num_extra_bytes, True)

    def write_points(self, points) -> None:
        content, row = np.frombuffer(points.array, np.uint8), points.array.dtype.itemsize
        assert self.compressor is not None
        for begin, end in ((0, 7), (7, 100), (100, 253)):
            self.compressor.compress_many(content[begin * row : end * row])
            self.compressor.finish_current_chunk()


@pytest.mark.parametrize("form", [3, 6, 8])
def test_chunks_of_any_size(tmp_path, form, monkeypatch) -> None:
    path = tmp_path / "street.laz"
    many = np.resize(CLOUD, (50_001, 4))  # the writers' chunks have 50,000 points
    np.testing.assert_allclose(read_written(path, form, many), np.round(many[:, :3].astype(float), 3), atol=1e-6)
    monkeypatch.setattr(lazrsbackend, "LazrsPointWriter", VariableChunks)
    np.testing.assert_allclose(read_written(path, form, CLOUD), np.round(CLOUD[:, :3].astype(float), 3), atol=1e-6)


def read_written(path, form, cloud) -> np.ndarray:
    write(path, form, "1.4", cloud=cloud)
    return read(path).xyz


PLACES = {"header": 94, "start": 96, "records": 100, "row": 105, "points": 107}


@pytest.mark.parametrize("suffix", [".las", ".laz"])
@pytest.mark.parametrize("place", PLACES)
def test_wrong_sizes_are_one_line(tmp_path, suffix, place) -> None:
    path = tmp_path / f"street{suffix}"
    write(path, form=0, version="1.2")
    content = path.read_bytes()
    kind = "<H" if place in ("header", "row") else "<I"
    for value in (0, 2 ** (8 * struct.calcsize(kind)) - 1, *([252, 254, 10**6] if place == "points" else [])):
        changed = bytearray(content)
        struct.pack_into(kind, changed, PLACES[place], value)
        path.write_bytes(changed)
        if place == "records" and value == 0 and suffix == ".las":
            continue  # this file has no such record
        if place == "points" and suffix == ".laz" and value in (252, 254):
            continue  # the number of points in a chunk is not in it, before the point formats 6 to 10
        assert place != "points" or str(value) in line_of(path) or value == 0
        line_of(path)


@pytest.mark.parametrize("form", [6, 7, 8, 10])
def test_sizes_in_packed_points_are_checked(tmp_path, form) -> None:
    """lazrs would take so much memory, and end the process if there is none."""
    path = tmp_path / "street.laz"
    write(path, form, extra=form == 6)
    content = path.read_bytes()
    start = struct.unpack_from("<I", content, 96)[0]
    row = struct.unpack_from("<H", content, 105)[0]
    table = struct.unpack_from("<q", content, start)[0]
    for place, kind in (
        (start, "<q"),
        (table + 4, "<I"),
        (table + 8, "<I"),
        *((start + 8 + row + 4 * n, "<I") for n in range(10)),
    ):
        for value in (0x7FFFFFFF, 10**5, 252):
            changed = bytearray(content)
            struct.pack_into(kind, changed, place, value)
            path.write_bytes(changed)
            line_of(path)


def test_scales_that_are_no_numbers_are_one_line(tmp_path) -> None:
    path = tmp_path / "street.las"
    write(path)
    content = path.read_bytes()
    for place, value in ((131, 0.0), (139, np.nan), (155, np.inf)):
        changed = bytearray(content)
        struct.pack_into("<d", changed, place, value)
        path.write_bytes(changed)
        assert "scale" in line_of(path)


@pytest.mark.parametrize("suffix", [".las", ".laz"])
@pytest.mark.parametrize("form", [3, 6])
def test_damaged_files_give_points_or_one_line(tmp_path, suffix, form, capfd) -> None:
    path = tmp_path / f"street{suffix}"
    write(path, form)
    content = path.read_bytes()
    start = struct.unpack_from("<I", content, 96)[0]
    assert assert_points_or_line(path, cut(content, start), 253) >= 24
    counts = {*range(107, 111), *range(247, 255)}
    keep = [
        changed
        for changed in flipped(content, 0, start + 60, most=120)
        if all(changed[n] == content[n] for n in counts)
    ]
    assert_points_or_line(path, iter(keep), 253)
    assert_points_or_line(path, flipped(content, len(content) - 100, len(content)), 253)
    assert capfd.readouterr() == ("", "")


def test_a_missing_library_is_named(tmp_path, monkeypatch) -> None:
    path = tmp_path / "street.laz"
    write(path)
    monkeypatch.setitem(sys.modules, "lazrs", None)
    assert "pip install 'laspy[lazrs]'" in line_of(path)
    monkeypatch.setitem(sys.modules, "laspy", None)
    assert "pip install 'laspy[lazrs]'" in line_of(path)
