from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

from dataloader.datasets.nuscenes.predictions import NuScenesFormat
from tests.support.submissions import expected, segmentation_of
from utils.errors import UserError
from utils.results.predictions import Sink
from utils.scan.records import Frame

EVAL_SET = "mini_val"
TOKENS = ("9d9bf11fb0e144c8b446d54a8a00184f", "e0845f5322254dafadbbed75aaa07969", "e93e98b63d3b40209056d129dc53ceee")


def segmentation(token, classes, sequence="scene-0103"):
    return segmentation_of(Frame(sequence, token, f"samples/LIDAR_TOP/{token}.pcd.bin"), classes)


def results():
    rng = np.random.default_rng(0)
    points = (40, 1, 7)
    return [segmentation(t, rng.integers(1, 17, n).tolist()) for t, n in zip(TOKENS, points, strict=True)]


def fill(sink, done):
    for result in done:
        sink.write(result)
    return sink.finish(expected(done))


def validate(folder, eval_set, done):
    """What the nuscenes-devkit's validate_submission asks of a folder, step by step."""
    with open(folder / eval_set / "submission.json") as file:
        meta = json.load(file)["meta"]
    assert set(meta) == {"use_camera", "use_lidar", "use_radar", "use_map", "use_external"}
    assert all(type(value) is bool for value in meta.values())
    for result in done:
        ids = np.fromfile(folder / "lidarseg" / eval_set / f"{result.whole.frame.name}_lidarseg.bin", dtype=np.uint8)
        assert len(ids) == len(result.prediction)
        assert ((ids > 0) & (ids < 17)).all()
        assert ids.tolist() == result.prediction.tolist()


@pytest.fixture(params=["predictions", "submission"])
def any_sink(request, tmp_path) -> Sink:
    return getattr(NuScenesFormat(EVAL_SET, uses_camera=True), request.param)(tmp_path / "out")


def test_the_folder_is_what_the_devkit_reads(any_sink, tmp_path):
    done = results()
    fill(any_sink, done)
    validate(tmp_path / "out", EVAL_SET, done)
    files = {path.relative_to(tmp_path / "out").as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    layout = {f"lidarseg/{EVAL_SET}/{token}_lidarseg.bin" for token in TOKENS} | {f"{EVAL_SET}/submission.json"}
    assert files - {"submission.zip"} == layout  # nothing half-written is left


def test_the_devkit_reads_the_files_back(tmp_path):
    data_io = pytest.importorskip("nuscenes.utils.data_io")
    done = results()
    folder = fill(NuScenesFormat("val", uses_camera=False).predictions(tmp_path), done)
    assert folder == tmp_path
    for result in done:
        read = data_io.load_bin_file(str(folder / "lidarseg" / "val" / f"{result.whole.frame.name}_lidarseg.bin"))
        assert read.tolist() == result.prediction.tolist()


def test_the_zip_unpacks_to_such_a_folder(tmp_path):
    done = results()
    path = fill(NuScenesFormat("test", uses_camera=True).submission(tmp_path / "out"), done)
    assert path == tmp_path / "out" / "submission.zip"
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        files = {f"lidarseg/test/{result.whole.frame.name}_lidarseg.bin" for result in done} | {"test/submission.json"}
        assert sorted(archive.namelist()) == sorted({"lidarseg/", "lidarseg/test/", "test/"} | files)
        archive.extractall(tmp_path / "unpacked")
    validate(tmp_path / "unpacked", "test", done)


@pytest.mark.parametrize("uses_camera", [False, True])
def test_meta_says_what_the_method_has_seen(uses_camera, tmp_path):
    fill(NuScenesFormat(EVAL_SET, uses_camera).predictions(tmp_path), results())
    meta = json.loads((tmp_path / EVAL_SET / "submission.json").read_text())["meta"]
    assert meta.pop("use_camera") is uses_camera and meta.pop("use_lidar") is True
    assert set(meta.values()) == {False}


def test_only_expected_frames_are_zipped(tmp_path):
    done = results()
    sink = NuScenesFormat("test", uses_camera=True).submission(tmp_path)
    for result in done:
        sink.write(result)
    with zipfile.ZipFile(sink.finish(expected(done[:1]))) as archive:
        files = [name for name in archive.namelist() if not name.endswith("/")]
    assert files == [f"lidarseg/test/{TOKENS[0]}_lidarseg.bin", "test/submission.json"]


@pytest.mark.parametrize("wrong", [0, 17, 255])
def test_a_point_outside_the_classes_makes_no_zip(wrong, tmp_path):
    sink = NuScenesFormat("test", uses_camera=True).submission(tmp_path)
    with pytest.raises(UserError, match=rf"{TOKENS[0]}_lidarseg\.bin: 2 points have class id {wrong}\b") as caught:
        fill(sink, [segmentation(TOKENS[0], [1, wrong, 16, wrong])])
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("submission.zip*"))


def test_missing_frames_are_named_and_counted(any_sink):
    done = results()
    any_sink.write(done[0])
    with pytest.raises(UserError, match=rf"{TOKENS[1]}_lidarseg\.bin: missing, 2 of 3 frames"):
        any_sink.finish(expected(done))


@pytest.mark.parametrize("points", [6, 8])
def test_wrong_number_of_points(points, any_sink):
    done = results()
    for result in done:
        any_sink.write(result)
    frames = expected(done)
    frames[2] = (frames[2][0], points)
    with pytest.raises(UserError, match=rf"{TOKENS[2]}_lidarseg\.bin: 7 bytes, not {points} points of 1 bytes"):
        any_sink.finish(frames)
