"""Corrupted scans against the bytes they were written from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dataloader.datasets.corrupted import Origin, SubsetFormat
from dataloader.datasets.nuscenes.corrupted import CorruptedNuScenes
from dataloader.datasets.nuscenes.source import NuScenes
from dataloader.datasets.semantickitti.corrupted import CorruptedKITTI
from tests.support.robustness import kept_rows, token_of_scans, write_nuscenes, write_semantickitti
from utils.errors import UserError
from utils.labels import LabelMap
from utils.scan.records import Segmentation, WholeScan

ROOT = Path(__file__).resolve().parents[3]
NUSCENES_MAP = LabelMap.load(ROOT / "config" / "label_mapping" / "nuscenes.yaml")
VERSION = "v1.0-mini"


@pytest.fixture
def kitti(golden_sequences, tmp_path):
    """Two subsets in the layout of Yan et al., one in that of Robo3D."""
    return write_semantickitti(golden_sequences / "08", tmp_path / "C", ("clean_data", "fog_light", "snow/heavy"))


@pytest.mark.parametrize(("number", "name"), enumerate(("clean_data", "fog_light", "snow/heavy")))
def test_scans_are_the_bytes_and_strange_labels_are_ignored(kitti, golden_sequences, label_map, number, name):
    source = CorruptedKITTI(kitti / name, name, label_map)
    assert len(source) == 2 and source.num_cameras == 0 and source.absent == ()
    for index, stem in enumerate(("000000", "000001")):
        points = np.fromfile(golden_sequences / "08" / "velodyne" / f"{stem}.bin", "<f4").reshape(-1, 4)
        raw = np.fromfile(golden_sequences / "08" / "labels" / f"{stem}.label", "<u4") & 0xFFFF
        rows = kept_rows(len(points), number)
        scan = source.read(index)
        assert scan.frame == source.frame(index) and scan.image is None
        assert (scan.frame.sequence, scan.frame.name) == (name.replace("/", "_"), stem)
        assert scan.frame.path == str(kitti / name / "velodyne" / f"{stem}.bin")
        np.testing.assert_array_equal(scan.xyz, points[rows, :3])
        np.testing.assert_array_equal(scan.intensity, points[rows, 3])
        wanted = label_map.to_learning[raw[rows]].copy()
        wanted[: 5 * number] = 0
        np.testing.assert_array_equal(scan.labels, wanted)
        assert wanted.any() and np.isnan(scan.pixels).all()
        np.testing.assert_array_equal(scan.index, np.arange(len(rows)))


@pytest.mark.parametrize("raw", [21, 22, 23, 5, 65535])
def test_any_unknown_id_is_ignored(kitti, label_map, raw):
    path = kitti / "fog_light" / "labels" / "000000.label"
    labels = np.fromfile(path, "<u4")
    labels[:] = raw | 7 << 16
    labels[-1] = 10
    labels.tofile(path)
    scan = CorruptedKITTI(kitti / "fog_light", "fog_light", label_map).read(0)
    assert not scan.labels[:-1].any() and scan.labels[-1] == 1 and scan.instances[0] == 7


def test_the_map_itself_stays_strict(label_map):
    assert not (label_map.ignoring_unknown().to_learning == 255).any()
    with pytest.raises(UserError, match="label id 21"):
        label_map.learning_ids(np.array([21], dtype=np.uint16), "file")
    known = label_map.to_learning != 255
    np.testing.assert_array_equal(label_map.ignoring_unknown().to_learning[known], label_map.to_learning[known])


def test_no_scans_is_an_empty_source_and_no_labels_an_error(kitti, label_map):
    assert len(CorruptedKITTI(kitti / "rain", "rain", label_map)) == 0
    (kitti / "fog_light" / "labels" / "000001.label").unlink()
    with pytest.raises(UserError, match=r"labels/000001\.label: missing \(1 of 2 scans of fog_light have no labels\)"):
        CorruptedKITTI(kitti / "fog_light", "fog_light", label_map)


def test_scan_and_labels_of_different_length(kitti, label_map):
    path = kitti / "fog_light" / "labels" / "000000.label"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match=r"fog_light/labels/000000\.label: \d+ labels for \d+ points"):
        CorruptedKITTI(kitti / "fog_light", "fog_light", label_map).read(0)


@pytest.fixture(scope="module")
def nuscenes_c(demo_trees, tmp_path_factory):
    """The clean split, and where two of its subsets lie."""
    tree = demo_trees["nuScenes"]
    root = write_nuscenes(tree, VERSION, tmp_path_factory.mktemp("C"), ("fog/light", "snow/heavy"))
    return NuScenes(tree, VERSION, "mini_val", NUSCENES_MAP), tree, root


@pytest.mark.parametrize(("number", "name"), enumerate(("fog/light", "snow/heavy")))
def test_nuscenes_scans_are_found_by_name_and_labels_by_token(nuscenes_c, number, name):
    clean, tree, root = nuscenes_c
    source = CorruptedNuScenes(root / name, name, clean, VERSION)
    assert len(source) == len(clean) > 0  # mini_val only: the folder has those of mini_train too
    assert len(list((root / name / "samples" / "LIDAR_TOP").iterdir())) > len(clean)
    tokens = token_of_scans(tree, VERSION)
    for index in range(len(clean)):
        of_clean, scan = clean.read(index, None), source.read(index)
        assert scan.frame.name == of_clean.frame.name == tokens[Path(scan.frame.path).name]
        assert scan.frame.sequence == of_clean.frame.sequence
        rows = kept_rows(len(of_clean), number)
        np.testing.assert_array_equal(scan.xyz, of_clean.xyz[rows])
        np.testing.assert_array_equal(scan.intensity, of_clean.intensity[rows])
        wanted = of_clean.labels[rows].copy()
        wanted[: 5 * number] = 0
        np.testing.assert_array_equal(scan.labels, wanted)


def test_nuscenes_subsets_that_do_not_fit(nuscenes_c, tmp_path):
    clean, _, _ = nuscenes_c
    assert len(CorruptedNuScenes(tmp_path / "fog", "fog", clean, VERSION)) == 0
    scans = tmp_path / "snow" / "samples" / "LIDAR_TOP"
    scans.mkdir(parents=True)
    (scans / "other.pcd.bin").touch()
    with pytest.raises(UserError, match=r"none of those of the validation split of v1\.0-mini"):
        CorruptedNuScenes(tmp_path / "snow", "snow", clean, VERSION)
    (scans / Path(clean.frame(0).path).name).touch()
    with pytest.raises(UserError, match=rf"{clean.frame(0).name}_lidarseg\.bin: missing \(1 of 1 scans of snow"):
        CorruptedNuScenes(tmp_path / "snow", "snow", clean, VERSION)


def predicted(source) -> Segmentation:
    scan = source.read(0)
    count = len(scan)
    prediction = torch.arange(count, dtype=torch.int64).remainder(16).add(1).to(torch.uint8)
    nothing = torch.zeros(count)
    return Segmentation(WholeScan(scan.frame, nothing, nothing, nothing, nothing), prediction)


def test_predictions_are_filed_as_the_labels_are(kitti, nuscenes_c, label_map, tmp_path):
    source = CorruptedKITTI(kitti / "snow/heavy", "snow/heavy", label_map)
    SubsetFormat(source.files).predictions(tmp_path / "kitti").write(predicted(source))
    written = np.fromfile(tmp_path / "kitti" / "labels" / "000000.label", "<u4")
    assert len(written) == len(source.read(0))
    np.testing.assert_array_equal(label_map.to_learning[written], predicted(source).prediction.numpy())

    clean, _, root = nuscenes_c
    source = CorruptedNuScenes(root / "fog/light", "fog/light", clean, VERSION)
    SubsetFormat(source.files).predictions(tmp_path / "nuscenes").write(predicted(source))
    name = f"lidarseg/{VERSION}/{source.frame(0).name}_lidarseg.bin"
    np.testing.assert_array_equal(
        np.fromfile(tmp_path / "nuscenes" / name, np.uint8), predicted(source).prediction.numpy()
    )
    assert (root / "fog/light" / name).is_file()  # where the labels are


def test_the_note_of_the_tool(tmp_path):
    assert Origin.read(tmp_path) is None
    note = {"options": {"family": "yan", "seed": 3}, "subsets": {"fog_light": {"frames": 2}}}
    (tmp_path / "corruptions.json").write_text(json.dumps(note))
    origin = Origin.read(tmp_path)
    assert origin is not None and origin.options["seed"] == 3 and origin.finished == {"fog_light": 2}
    large, deep = '{"options": {}, "subsets": {"x": {"frames": 1e999}}}', "[" * 100_000
    for text in (
        large,
        deep,
        "{",
        "[]",
        '{"options": 3, "subsets": {}}',
        '{"options": {}}',
        '{"options": {}, "subsets": [1]}',
    ):
        (tmp_path / "corruptions.json").write_text(text)
        with pytest.raises(UserError, match=r"corruptions\.json: not readable"):
            Origin.read(tmp_path)
