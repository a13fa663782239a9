"""Scans of one's own beside the labels that predict.py has written for them."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from threading import Lock

import numpy as np
import pytest

from dataloader.catalogue import DATA_SETS
from dataloader.formats.layout import Layout
from dataloader.inputs import OpenFiles
from tools.viewing.scan_files import ScanFileFrames
from utils.errors import UserError
from utils.labels import LabelMap
from utils.results.prediction_records import PredictionRecord, PredictionRecords
from utils.scan.sensor import SEMANTICKITTI

KITTI = LabelMap.load(DATA_SETS["SemanticKITTI"].label_mapping_path)


@pytest.fixture
def drive(tmp_path):
    """Writes three scans, two of them with labels, as docs/guides/predict.md says where these go."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(("left/000000", "left/000001", "right/000000")):
        points = rng.uniform(-30, 30, (100 + number, 4)).astype(np.float32)
        points[:7] = np.nan
        points[7] = 0
        (tmp_path / "drive" / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "drive" / f"{name}.npy", points)
        if number != 1:
            labels = tmp_path / "out" / "drive" / f"{name}.label"
            labels.parent.mkdir(parents=True, exist_ok=True)
            np.full(len(points), (10, 0, 40)[number], "<u4").tofile(labels)
            np.save(labels.with_suffix(".confidence.npy"), np.full(len(points), 0.5, np.float32))
    return tmp_path


def frames(drive, *folders, inputs=("drive",)):
    named = [str(drive / name) for name in inputs]
    return ScanFileFrames(named, Layout(), SEMANTICKITTI, KITTI, [drive / folder for folder in folders])


def test_scans_are_shown_with_their_labels_and_without(drive):
    shown = frames(drive, "out")
    scans = [shown.read(number) for number in range(len(shown))]
    assert [len(scan.xyz) for scan in scans] == [100, 101, 102]
    found = [{int(label) for ids in scan.predictions.values() for label in ids} for scan in scans]
    assert found == [{1}, set(), {9}]  # car, no file, road
    assert [list(scan.confidences) for scan in scans] == [["prediction"], [], ["prediction"]]
    assert all(scan.labels is None and scan.intensity is not None for scan in scans)
    for number, scan in enumerate(scans):
        points = np.load(shown.title(number))
        assert not np.isfinite(scan.xyz[:8]).any()  # no returns
        np.testing.assert_array_equal(scan.xyz[8:], points[8:, :3])
    (note,) = shown.notes()
    assert "1 of 3 scans have no prediction there" in note and "left/000001.label" in note
    assert shown.find("drive/right/000000") == shown.find("2") == 2
    with pytest.raises(UserError, match=r"--frame 3: .* 0 to 2, or a name such as drive/left/000000"):
        shown.find("3")


def test_results_among_the_scans_are_no_scans(drive):
    inside = drive / "drive" / "out"
    (drive / "out").rename(inside)
    records = PredictionRecords(str(inside), {}, ("label", "confidence.npy"))
    for target in ("drive/left/000000", "drive/right/000000"):
        records.begin(target, f"{target}.npy")
    assert len(frames(drive, "drive/out")) == 3
    assert len(frames(drive)) == 3


@pytest.mark.parametrize(
    ("alignment", "moved"),
    [("--center 500000,5400000.5,120", True), ("", False), ("--center=here", False), ("'", False), ("--help", False)],
)
def test_scans_are_shown_where_predict_had_them(drive, alignment, moved):
    near = np.random.default_rng(1).uniform(-30, 30, (50, 3))
    far = near + np.array([500000, 5400000.5, 120])
    np.save(drive / "map.npy", far)
    target = drive / "out" / "map.label"
    np.full(50, 10, "<u4").tofile(target)
    note = drive / "out" / ".predict" / "map.json"
    note.parent.mkdir()
    note.write_text(json.dumps(asdict(PredictionRecord("map.npy", {}, ("label",), alignment=alignment))))
    scan = frames(drive, "out", inputs=("map.npy",)).read(0)
    np.testing.assert_allclose(scan.xyz, near if moved else far, atol=1e-5 if moved else 0.5)


def test_several_threads_read_at_once_and_a_file_is_read_by_one(drive, monkeypatch):
    shown, reading = frames(drive, "out"), Lock()
    alone = [shown.read(number).xyz.tobytes() for number in range(3)] * 20
    read = OpenFiles.read

    def watched(self, scan):
        assert reading.acquire(blocking=False)  # a bag is not made for two at once
        cloud = read(self, scan)
        time.sleep(0.001)
        reading.release()
        return cloud

    monkeypatch.setattr(OpenFiles, "read", watched)
    with ThreadPoolExecutor(6) as pool:
        assert [scan.xyz.tobytes() for scan in pool.map(shown.read, [0, 1, 2] * 20)] == alone


def test_what_cannot_be_used_is_said(drive):
    (drive / "drive" / "left" / "cut.pcd").write_text("# .PCD v0.7\n")
    assert len(frames(drive, "out")) == 4
    with pytest.raises(UserError, match=r"left.cut\.pcd"):
        frames(drive, "out").read(2)
    assert "nowhere" in frames(drive, "out", inputs=("drive", "nowhere")).notes()[0]
    with pytest.raises(UserError, match="nowhere"):
        frames(drive, inputs=("nowhere",))
    with pytest.raises(UserError, match=r"left.000000\.label: missing; .* that predict.py has written"):
        frames(drive, "nothing")
