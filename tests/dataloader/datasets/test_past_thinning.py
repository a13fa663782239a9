"""Past points thinned by the class of an earlier prediction, against a point-by-point account of what is kept."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import predict
from dataloader.augment.options import AugmentOptions
from dataloader.catalogue import data_set_of, load_label_map, request
from dataloader.dataset import SegmentationDataset
from dataloader.datasets.past_thinning import Thinning
from dataloader.datasets.semantickitti.source import SemanticKITTI
from dataloader.datasets.source import Source
from network.weights import configuration
from utils.config.loading import load_config
from utils.errors import UserError
from utils.labels import LabelMap

ROOT = Path(__file__).parents[3]
MAPPINGS = ROOT / "config" / "label_mapping"
BOUNDS = (-50, -50, -4), (50, 50, 2)
SCANS, POINTS, PAST = 7, 60, 5
PUBLISHED_STEPS = [0, 0, 2, 2, 2, 2, 2, 2, 2, 0, 4, 4, 4, 0, 4, 0, 2, 4, 2, 2]
STANDING = [0, 10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81]
MOVING = [252, 253, 254, 255, 259, 258]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A drive that stands, in data/00, and the prediction of it in out; a point's intensity says which point it is."""
    rng = np.random.default_rng(0)
    sequence, made = tmp_path / "data" / "00", tmp_path / "out" / "sequences" / "00" / "predictions"
    for path in (sequence / "velodyne", sequence / "labels", made):
        path.mkdir(parents=True)
    for frame in range(SCANS):
        points = rng.uniform(-3, 1.9, (POINTS, 4)).astype("<f4")
        points[:, 3] = (frame * POINTS + np.arange(POINTS)) / 1000
        points.tofile(sequence / "velodyne" / f"{frame:06d}.bin")
        np.full(POINTS, 40, "<u4").tofile(sequence / "labels" / f"{frame:06d}.label")
        # every class, some as parts of instances
        raw = np.resize(np.array(STANDING + MOVING, "<u4"), POINTS) | rng.integers(0, 3, POINTS).astype("<u4") << 16
        rng.permutation(raw).astype("<u4").tofile(made / f"{frame:06d}.label")
    (sequence / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n" * SCANS)
    (sequence / "calib.txt").write_text("Tr: 1 0 0 0 0 1 0 0 0 0 1 0\n")
    return tmp_path


@pytest.fixture
def source(folder: Path) -> Callable[..., Source]:
    """Opens the drive as a config asks for it."""

    def open_source(mapping: str = "semantic-kitti-multiscan", **keys: Any) -> Source:
        values = {
            "label_mapping": MAPPINGS / f"{mapping}.yaml",
            "past_scans": PAST,
            "past_predictions": folder / "out",
            "train_data_loader.data_path": folder / "data",
        } | keys
        overrides = [f"dataset_params.{key}={value}" for key, value in values.items()]
        if mapping == "semantic-kitti":
            overrides.append("model_params.num_classes=20")
        config = load_config(ROOT / "config" / "MinkowskiNet-multiscan-demo.yaml", overrides)
        wanted = request(config, "train", config.dataset_params.train_data_loader, load_label_map(config))
        return data_set_of(config).open(wanted)

    return open_source


def prediction(folder: Path, frame: int) -> Path:
    return folder / "out" / "sequences" / "00" / "predictions" / f"{frame:06d}.label"


def kept_of(folder: Path, now: int, steps: dict[int, int], past: int = PAST) -> list[int]:
    """The points that scan `now` is to have, one by one."""
    wanted = [now * POINTS + row for row in range(POINTS)]
    for age in range(1, past + 1):
        if now - age < 0:
            continue
        for row, label in enumerate(np.fromfile(prediction(folder, now - age), "<u4").tolist()):
            step = steps[label % 65536]
            if step and age % step == 0:
                wanted.append((now - age) * POINTS + row)
    return wanted


def points_of(dataset: SegmentationDataset, index: int) -> list[int]:
    return np.round(dataset[index].scan.intensity * 1000).astype(int).tolist()


SINGLE = dict(zip(STANDING, PUBLISHED_STEPS, strict=True)) | {252: 0, 253: 2, 254: 2, 255: 2, 259: 2, 258: 2}
MULTI = SINGLE | dict.fromkeys(MOVING, 1)
OWN = [3, 1, *([0] * 23), 5]


@pytest.mark.parametrize(
    ("mapping", "keys", "steps"),
    [
        ("semantic-kitti", {}, SINGLE),  # what moves is of the class that it is without moving
        ("semantic-kitti-multiscan", {}, MULTI),
        ("semantic-kitti-multiscan", {"past_steps": OWN}, dict(zip(STANDING + MOVING, OWN, strict=True))),
    ],
)
def test_a_point_is_kept_where_the_step_of_its_class_divides_its_age(
    mapping: str, keys: dict[str, Any], steps: dict[int, int], folder: Path, source
) -> None:
    opened = source(mapping, **keys)
    tested = SegmentationDataset(opened, *BOUNDS)
    trained = SegmentationDataset(opened, *BOUNDS, augment=AugmentOptions())
    for now in (0, 1, 4, SCANS - 1):
        assert points_of(tested, now) == points_of(trained, now) == kept_of(folder, now, steps)
    ages = np.unique(tested[SCANS - 1].scan.ages).tolist()
    assert ages == [0, *(age for age in range(1, PAST + 1) if any(s and age % s == 0 for s in steps.values()))]


def test_a_scan_of_which_nothing_is_kept_is_not_read(source) -> None:
    assert [sweep.age for sweep in source("semantic-kitti").past(SCANS - 1)] == [2, 4]


def test_without_predictions_all_points_stay(folder: Path, source) -> None:
    dataset = SegmentationDataset(source(past_predictions="null"), *BOUNDS)
    assert points_of(dataset, SCANS - 1) == kept_of(folder, SCANS - 1, dict.fromkeys(STANDING + MOVING, 1))


def test_points_of_no_file_are_kept_and_others_follow_their_row(folder: Path, source) -> None:
    """A corruption leaves points out, exchanges them, and adds some, before they are thinned."""
    (sweep, *_) = source().past(SCANS - 1)
    assert (sweep.frame.name, sweep.age) == ("000005", 1)
    rows = np.random.default_rng(1).permutation(np.append(np.arange(0, POINTS, 2), [-1, -1]))
    scan = source().read(5, None).select(np.abs(rows))
    kept = sweep.moved(replace(scan, index=rows))
    raw = np.fromfile(prediction(folder, 5), "<u4") % 65536
    wanted = [number for number, row in enumerate(rows) if row < 0 or MULTI[int(raw[row])] == 1]
    assert 2 < len(wanted) < len(rows)
    np.testing.assert_array_equal(kept.xyz, scan.xyz[wanted])


@pytest.mark.parametrize("place", ["", "sequences", "a_test/predictions", "a_test/submission"])
def test_the_folder_may_be_any_on_the_way_to_the_sequences(place: str, folder: Path, source) -> None:
    (folder / "out").rename(folder / "made")
    (folder / "out" / place).parent.mkdir(parents=True, exist_ok=True)
    if place.startswith("a_test"):
        (folder / "made").rename(folder / "out" / place)
        named = folder / "out" / "a_test"
    else:
        (folder / "made").rename(folder / "out")
        named = folder / "out" / place
    assert len(source(past_predictions=named).past(4)) == 4


def _one_missing(folder: Path) -> None:
    prediction(folder, 2).unlink()


def _all_of_the_sequence(folder: Path) -> None:
    (folder / "out" / "sequences" / "00").rename(folder / "out" / "sequences" / "08")


def _short(folder: Path) -> None:
    prediction(folder, 3).write_bytes(prediction(folder, 3).read_bytes()[:-4])


def _broken(folder: Path) -> None:
    prediction(folder, 3).write_bytes(prediction(folder, 3).read_bytes()[:-3])


def _unknown(folder: Path) -> None:
    np.full(POINTS, 300, "<u4").tofile(prediction(folder, 0))


def _empty(folder: Path) -> None:
    (folder / "out").rename(folder / "other")
    (folder / "out").mkdir()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_one_missing, r"000002\.label: missing \(1 of 7 scans of sequence 00 have no prediction\).*every split"),
        (_all_of_the_sequence, r"000000\.label: missing \(7 of 7 scans"),
        (_short, r"000003\.label: 59 labels for 60 points; .*predict the scan again"),
        (_broken, r"000003\.label: 59\.25 labels for 60 points"),
        (_unknown, r"000000\.label: label id 300 on 60 points is not in the label mapping"),
        (_empty, r"out: holds no sequences/<sequence>/predictions.*--save_prediction"),
        (lambda folder: (folder / "out").rename(folder / "gone"), r"out: no such folder.*past_predictions"),
    ],
)
def test_predictions_that_cannot_be_used_are_one_line_at_the_start(
    spoil: Callable[[Path], object], words: str, folder: Path, source
) -> None:
    spoil(folder)
    with pytest.raises(UserError, match=words) as caught:
        source()
    assert "\n" not in str(caught.value)


def test_the_command_in_the_line_about_a_missing_prediction_is_one(folder: Path, source) -> None:
    (folder / "data").rename(folder / "my data")
    _one_missing(folder)
    with pytest.raises(UserError) as caught:
        source(**{"train_data_loader.data_path": folder / "my data"})
    words = shlex.split(str(caught.value).partition(" is read: ")[2])
    assert words[:2] == ["python", "predict.py"]
    args = predict.build_parser().parse_args(words[2:])
    assert Path(args.output) == prediction(folder, 2).parent
    assert args.inputs == [str(folder / "my data" / "00" / "velodyne" / "*.bin")]


def test_a_prediction_that_shrinks_while_it_is_used_is_refused(folder: Path, source) -> None:
    dataset = SegmentationDataset(source(), *BOUNDS)
    for spoil in (_short, _broken):
        spoil(folder)
        with pytest.raises(UserError, match=r"000003\.label: .*predict the scan again"):
            dataset[5]


def test_steps_that_keep_nothing_and_classes_without_usual_steps_are_refused(folder: Path, source) -> None:
    with pytest.raises(UserError, match=r"past_steps keep no class in any of 1 past scans; raise .*past_scans to 2"):
        source("semantic-kitti", past_scans=1)
    assert len(source(past_scans=1).past(3)) == 1  # what moves
    label_map = LabelMap.load(MAPPINGS / "semantic-kitti.yaml")
    other = replace(label_map, to_raw=np.where(label_map.to_raw == 99, 99, label_map.to_raw + 1000))
    params = load_config(
        ROOT / "config" / "MinkowskiNet-multiscan-demo.yaml", [f"dataset_params.past_predictions={folder / 'out'}"]
    ).dataset_params
    with pytest.raises(UserError, match=r"past_steps is wanted .* 20 learning ids: unlabeled \(raw id 1000\)"):
        Thinning.of(params, other)
    assert isinstance(source(), SemanticKITTI)


def test_predict_says_that_it_does_not_thin(folder: Path, monkeypatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(predict, "say", said.append)
    monkeypatch.setattr(predict, "find_drives", lambda *arguments: None)
    args = predict.build_parser().parse_args(["drive", "--checkpoint", "x", "--poses", "poses.txt", "--output", "out"])
    for thinned in ("null", folder / "out"):
        overrides = [f"dataset_params.past_predictions={thinned}"]
        config = load_config(ROOT / "config" / "MinkowskiNet-multiscan-demo.yaml", overrides)
        predict._drives(args, configuration.Tested(Path("x"), config, None), [])
    assert ["was trained with past points thinned by their class" in line for line in said].count(True) == 1
