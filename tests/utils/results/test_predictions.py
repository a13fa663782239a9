from __future__ import annotations

import stat
import struct
import zipfile
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from dataloader.datasets.semantickitti.predictions import SemanticKITTIFormat
from tests.support.full_disk import files_of_at_most
from tests.support.submissions import expected, segmentation_of
from utils.errors import UserError
from utils.labels import LabelMap
from utils.results.predictions import Sink
from utils.scan.records import Frame

TO_RAW = [0, 10, 40, 252]
FORMAT = SemanticKITTIFormat(cast(LabelMap, SimpleNamespace(to_raw=np.array(TO_RAW, dtype=np.uint32))))


def segmentation(sequence, name, classes):
    return segmentation_of(Frame(sequence, name, f"{sequence}/velodyne/{name}.bin"), classes)


def results():
    rng = np.random.default_rng(0)
    counts = {("11", "000000"): 50, ("11", "000001"): 7, ("12", "000000"): 1}
    return [segmentation(*key, rng.integers(1, 4, points).tolist()) for key, points in counts.items()]


def read_labels(content: bytes) -> list[int]:
    """The benchmark's format, value by value: little-endian uint32."""
    return [struct.unpack_from("<I", content, at)[0] for at in range(0, len(content), 4)]


def validate_zip(path, points_of):
    """What semantic-kitti-api's validate_submission.py asks for, step by step, from the names and sizes in the zip.

    Args:
        path: the zip.
        points_of: {sequence: {frame: points}} of the data.
    """
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    assert len(set(names)) == len(names)
    folders = [name for name in names if name.endswith("/")]
    wanted = ["sequences/", *(f"sequences/{s}/{below}" for s in points_of for below in ("", "predictions/"))]
    for folder in wanted:
        assert folder in folders, f"Directory {folder} missing inside zip file"
    files = {
        f"sequences/{sequence}/predictions/{frame}.label": 4 * points
        for sequence, frames in points_of.items()
        for frame, points in frames.items()
    }
    assert {name: size for name, size in sizes.items() if name not in folders} == files
    assert sorted(folders) == sorted(wanted)
    for name in files:  # whoever unpacks entry by entry has the folder first
        assert names.index(name) > max(names.index(folder) for folder in folders if name.startswith(folder))


@pytest.fixture(params=["predictions", "submission"])
def any_sink(request, tmp_path) -> Sink:
    return getattr(FORMAT, request.param)(tmp_path / "out")


def test_round_trip(tmp_path):
    sink = FORMAT.submission(tmp_path)
    done = results()
    for result in done:
        sink.write(result)
    path = sink.finish(expected(done))
    assert path == tmp_path / "submission.zip"
    validate_zip(path, {"11": {"000000": 50, "000001": 7}, "12": {"000000": 1}})
    with zipfile.ZipFile(path) as archive:
        for result in done:
            frame = result.whole.frame
            content = archive.read(f"sequences/{frame.sequence}/predictions/{frame.name}.label")
            assert read_labels(content) == [TO_RAW[c] for c in result.prediction.tolist()]


def test_nothing_half_written_is_left(any_sink, tmp_path):
    done = results()
    for result in done:
        any_sink.write(result)
    any_sink.finish(expected(done))
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert files - {"submission.zip"} == {"000000.label", "000001.label"}


def test_only_expected_frames_are_zipped(tmp_path):
    sink = FORMAT.submission(tmp_path)
    done = results()
    for result in done:
        sink.write(result)
    path = sink.finish([(done[0].whole.frame, None)])
    validate_zip(path, {"11": {"000000": 50}})


def filled(folder):
    sink = FORMAT.submission(folder)
    done = results()
    for result in done:
        sink.write(result)
    return sink, expected(done)


def test_the_same_predictions_are_the_same_zip_whenever_it_is_made(tmp_path, monkeypatch):
    zips = []
    for number, clock in enumerate((1e9, 1.7e9)):
        sink, frames = filled(tmp_path / str(number))
        monkeypatch.setattr("time.time", lambda clock=clock: clock)
        zips.append(sink.finish(frames).read_bytes())
    assert zips[0] == zips[1]


def test_the_zip_unpacks_into_files_and_folders_that_can_be_read(tmp_path):
    sink, frames = filled(tmp_path / "out")
    with zipfile.ZipFile(sink.finish(frames)) as archive:
        modes = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
        archive.extractall(tmp_path / "unpacked")
    for name, mode in modes.items():
        assert stat.S_ISDIR(mode) == name.endswith("/") and mode & 0o444 == 0o444, name
        assert (tmp_path / "unpacked" / name).is_dir() == name.endswith("/")


def test_a_full_disk_leaves_no_half_zip(tmp_path):
    sink = FORMAT.submission(tmp_path)
    done = [segmentation("11", f"{frame:06d}", [1, 2]) for frame in range(40)]
    for result in done:
        sink.write(result)
    (tmp_path / "submission.zip").write_bytes(b"that of an earlier test")
    with files_of_at_most(3000), pytest.raises(OSError) as caught:
        sink.finish(expected(done))
    assert caught.value.filename == str(tmp_path / "submission.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sequences", "submission.zip"]
    assert (tmp_path / "submission.zip").read_bytes() == b"that of an earlier test"
    validate_zip(sink.finish(expected(done)), {"11": {f"{frame:06d}": 2 for frame in range(40)}})


def test_written_again_takes_the_new(tmp_path):
    writer = FORMAT.predictions(tmp_path)
    writer.write(segmentation("11", "000000", [1, 2, 3]))
    writer.write(segmentation("11", "000000", [3, 3]))
    folder = writer.finish([(Frame("11", "000000", ""), 2)])
    assert read_labels((folder / "sequences/11/predictions/000000.label").read_bytes()) == [252, 252]


def test_missing_frames_are_named_and_counted(any_sink):
    done = results()
    any_sink.write(done[0])
    with pytest.raises(UserError, match=r"sequences/11/predictions/000001\.label: missing, 2 of 3 frames"):
        any_sink.finish(expected(done))


def test_an_empty_file_is_noticed_without_a_count(any_sink, tmp_path):
    any_sink.write(segmentation("11", "000000", [1, 2]))
    (file,) = tmp_path.rglob("000000.label")
    file.write_bytes(b"")
    with pytest.raises(UserError, match=r"0 bytes, not whole points"):
        any_sink.finish([(Frame("11", "000000", ""), None)])


@pytest.mark.parametrize("points", [6, 8])
def test_wrong_number_of_points(any_sink, points):
    done = results()
    for result in done:
        any_sink.write(result)
    frames = expected(done)
    frames[1] = (frames[1][0], points)
    with pytest.raises(UserError, match=rf"000001\.label: 28 bytes, not {points} points"):
        any_sink.finish(frames)


def test_truncated_file_is_noticed_without_a_count(any_sink, tmp_path):
    any_sink.write(segmentation("11", "000000", [1, 2]))
    (file,) = tmp_path.rglob("000000.label")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"7 bytes, not whole points"):
        any_sink.finish([(Frame("11", "000000", ""), None)])


def test_a_point_without_class_makes_no_zip(tmp_path):
    sink = FORMAT.submission(tmp_path)
    sink.write(segmentation("11", "000000", [1, 0, 0]))
    with pytest.raises(UserError, match=r"000000\.label: 2 points have class id 0"):
        sink.finish([(Frame("11", "000000", ""), 3)])
    assert not list(tmp_path.glob("submission.zip*"))


def test_an_empty_split_is_refused(any_sink):
    with pytest.raises(UserError, match="no frames"):
        any_sink.finish([])
