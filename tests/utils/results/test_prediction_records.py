"""Which scans a second run takes as done."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.networks import refusal
from utils import locations
from utils.results.point_files import LabelledPoints
from utils.results.prediction_records import FOLDER, PredictionRecords, Results

POINTS = LabelledPoints(
    np.ones((5, 3)),
    None,
    np.ones(5, np.uint8),
    np.array([0.5, 0.5, 0.5, 0.5, 0], np.float32),
    ("unlabeled", "car"),
    np.zeros((2, 3), np.uint8),
    np.array([0, 10], np.uint32),
)
SETTINGS = {"checkpoint": "abc", "num_vote": 1}


@pytest.fixture(params=["path", "url"])
def output(request, tmp_path) -> str:
    return str(tmp_path) if request.param == "path" else f"memory://{tmp_path.name}"


def records(output, settings=SETTINGS, suffixes=("label", "ply"), overwrite=False) -> PredictionRecords:
    return PredictionRecords(output, settings, suffixes, overwrite)


def make(output, target="drive/0", source="drive/0.bin", files=("label", "ply"), finish=True) -> None:
    known = records(output)
    known.begin(target, source)
    for suffix in files:
        locations.write(locations.join(output, f"{target}.{suffix}"), b"x")
    if finish:
        known.finish(target, source, POINTS, 0.5, "")


def test_only_a_finished_scan_with_all_its_files_is_done(output):
    assert not records(output).is_done("drive/0", "drive/0.bin")
    make(output, finish=False)  # killed at the end
    assert not records(output).is_done("drive/0", "drive/0.bin")
    make(output, files=("label",))  # another run wants more formats
    assert records(output, suffixes=("label",)).is_done("drive/0", "drive/0.bin")
    assert not records(output, suffixes=("label", "las")).is_done("drive/0", "drive/0.bin")
    make(output)
    assert records(output).is_done("drive/0", "drive/0.bin")
    assert not records(output, overwrite=True).is_done("drive/0", "drive/0.bin")
    found = records(output).find("drive/0")
    assert found is not None and found.complete
    assert found.classes == {"car": 5} and (found.points, found.unseen) == (5, 1)


def test_results_of_others_are_not_overwritten(output):
    make(output)
    assert "of drive/0.bin" in refusal(records(output).is_done, "drive/0", "drive/0.pcd")
    for settings, key in (({"checkpoint": "other", "num_vote": 1}, "checkpoint"), ({**SETTINGS, "fit": True}, "fit")):
        line = refusal(records(output, settings).is_done, "drive/0", "drive/0.bin")
        assert f"another {key}" in line and "--overwrite" in line
    locations.write(locations.join(output, "mine.label"), b"precious")
    assert "not from predict.py" in refusal(records(output).is_done, "mine", "mine.bin")


def test_a_scan_that_has_changed_is_not_done(tmp_path):
    scan, folder = tmp_path / "0.bin", tmp_path / "bag"
    folder.mkdir()
    locations.write("memory://changing/0.bin", b"12")
    for place, file in (
        (str(scan), str(scan)),
        (str(folder), str(folder / "0.db3")),
        *[("memory://changing/0.bin",) * 2],
    ):
        versions = []
        for content in (b"12", b"123"):
            locations.write(file, content)
            versions.append(locations.version(place))
        assert all(versions) and len(set(versions)) == 2
    known = records(str(tmp_path), suffixes=("label",))
    known.begin("0", "0.bin", "5 bytes")
    locations.write(str(tmp_path / "0.label"), b"x")
    known.finish("0", "0.bin", POINTS, 0.5, "")
    assert known.is_done("0", "0.bin", "5 bytes") and not known.is_done("0", "0.bin", "6 bytes")
    assert locations.version(str(tmp_path / "none")) == locations.version("memory://none") == ""


def test_files_of_an_earlier_way_are_not_done(output):
    make(output)
    other = PredictionRecords(output, {"checkpoint": "other"}, ("label",), overwrite=True)
    other.begin("drive/0", "drive/0.bin")  # the .ply is still that of the first
    other.finish("drive/0", "drive/0.bin", POINTS, 0.5, "")
    assert records(output, {"checkpoint": "other"}, ("label",)).is_done("drive/0", "drive/0.bin")
    assert not records(output, {"checkpoint": "other"}).is_done("drive/0", "drive/0.bin")
    assert locations.join(output, "drive/0.ply") in Results()


@pytest.mark.parametrize("first, second", [(("ply",), ("label", "confidence.npy")), (("confidence.npy",), ("ply",))])
def test_a_ply_without_confidences_is_not_one_with_them(output, first, second):
    make(output, files=("label", "ply", "confidence.npy"), finish=False)
    for suffixes in (first, second):
        known = records(output, suffixes=suffixes, overwrite=True)
        known.begin("drive/0", "drive/0.bin")
        known.finish("drive/0", "drive/0.bin", POINTS, 0.5, "")
    assert records(output, suffixes=second).is_done("drive/0", "drive/0.bin")
    assert not records(output, suffixes=("ply", "confidence.npy")).is_done("drive/0", "drive/0.bin")


def test_results_are_told_in_whichever_folder_they_are(output):
    deep = locations.join(output, "scans/out")
    make(deep, files=("label", "ply", "npy"))
    for name in ("mine.ply", "other/0.ply", "scans/out/drive/1.ply"):
        locations.write(locations.join(output, name), b"x")
    found = [name for name in locations.files_below(output) if name in Results()]
    assert found == [locations.join(deep, "drive/0.label"), locations.join(deep, "drive/0.ply")]


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b'{"source": 1}', b"\xff\xfe", b"[" * 100000])
def test_a_damaged_note_is_none(tmp_path, content):
    make(str(tmp_path))
    Path(tmp_path, FOLDER, "drive/0.json").write_bytes(content)
    assert records(str(tmp_path)).find("drive/0") is None
