from __future__ import annotations

import struct
import zipfile
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from tests.submission_support import expected, segmentation_of
from utils.errors import UserError
from utils.labels import LabelMap
from utils.structures import Frame
from utils.submission import SemanticKITTIFormat, Sink

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
    """What semantic-kitti-api's validate_submission.py asks for, step by step.

    Args:
        path: the zip.
        points_of: {sequence: {frame: points}} of the data.
    """
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert {name.split("/")[0] for name in names} == {"sequences"}
        for sequence, frames in points_of.items():
            folder = f"sequences/{sequence}/predictions/"
            assert any(name.startswith(folder) for name in names), f"no {folder}"
            assert len([name for name in names if name.startswith(folder)]) == len(frames)
            for frame, points in frames.items():
                assert archive.getinfo(f"{folder}{frame}.label").file_size == 4 * points


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
