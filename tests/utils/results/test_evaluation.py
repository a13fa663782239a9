from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dataloader.datasets.nuscenes.predictions import NuScenesFormat
from dataloader.datasets.semantickitti.predictions import SemanticKITTIFormat
from utils.labels import LabelMap
from utils.point_counts import SegmentationMetrics
from utils.results.conditions import Conditions, TrainedOn
from utils.results.evaluation import EvaluationOutput
from utils.scan import sensor
from utils.scan.records import Frame, Segmentation, WholeScan

CONFIG = Path(__file__).parents[3] / "config" / "label_mapping"
KITTI, NUSCENES = LabelMap.load(CONFIG / "semantic-kitti.yaml"), LabelMap.load(CONFIG / "nuscenes.yaml")
FORMATS = {
    "semantickitti": (KITTI, SemanticKITTIFormat(KITTI), sensor.SEMANTICKITTI, "sequences/08/predictions/000000.label"),
    "nuscenes": (
        NUSCENES,
        NuScenesFormat("val", uses_camera=True),
        sensor.NUSCENES,
        "lidarseg/val/000000_lidarseg.bin",
    ),
}


def result(labels, prediction):
    points = len(labels)
    rng = np.random.default_rng(0)
    whole = WholeScan(
        frame=Frame("08", "000000", "08/velodyne/000000.bin"),
        xyz=torch.from_numpy(rng.uniform(-20, 20, (points, 3)).astype(np.float32)),
        labels=torch.tensor(labels, dtype=torch.uint8),
        inside=torch.ones(points, dtype=torch.bool),
        donor=torch.arange(points),
    )
    return Segmentation(whole, torch.tensor(prediction, dtype=torch.uint8))


CONDITIONS = Conditions("validation", 1, 3, "last.ckpt", TrainedOn(True, 0.01))


def scores_of(segmentation, names, skip_unseen):
    metric = SegmentationMetrics(names, skip_unseen)
    metric.update(segmentation.prediction, segmentation.whole.labels, segmentation.whole.inside)
    return metric.scores()


@pytest.mark.parametrize("name", FORMATS)
def test_predictions_are_filed_as_the_data_set_wants(name, tmp_path):
    label_map, file_format, lidar, path = FORMATS[name]
    done = result([1, 1, 2, 0], [1, 2, 2, 3])
    expected = [(done.whole.frame, 4)]
    output = EvaluationOutput(
        tmp_path, label_map, lambda: expected, file_format, lidar, CONDITIONS, submit=True, save_predictions=True
    )
    output.open(tmp_path / "test")
    output.write(done)
    lines = output.finish(scores_of(done, label_map.names, skip_unseen=False))
    submission = tmp_path / "test" / "submission"
    assert f"submission: {submission / 'submission.zip'} (1 frames)" in lines
    assert f"predictions: {tmp_path / 'test' / 'predictions'} (1 frames)" in lines
    kept = (tmp_path / "test" / "predictions" / path).read_bytes()
    assert kept == (submission / path).read_bytes()
    ids = [1, 2, 2, 3] if name == "nuscenes" else [10, 11, 11, 15]
    assert np.frombuffer(kept, np.uint8 if name == "nuscenes" else "<u4").tolist() == ids


@pytest.mark.parametrize("skip_unseen", [False, True])
def test_scores_are_json_also_for_classes_that_are_absent(skip_unseen, tmp_path):
    done, single = result([1, 1, 2, 0], [1, 2, 2, 3]), result([1, 1, 2, 0], [1, 1, 2, 3])
    _, file_format, lidar, _ = FORMATS["nuscenes"]
    output = EvaluationOutput(tmp_path, NUSCENES, list, file_format, lidar, CONDITIONS, settings={"past_sweeps": 2})
    output.open(tmp_path)
    output.write(done)
    output.finish(scores_of(done, NUSCENES.names, skip_unseen), scores_of(single, NUSCENES.names, skip_unseen))

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    record = json.loads((tmp_path / "scores.json").read_text(), parse_constant=refuse)
    assert list(record["iou"]) == list(NUSCENES.names[1:]) == list(record["published_iou"])
    assert (record["iou"]["barrier"], record["iou"]["bicycle"]) == (0.5, 0.5)
    assert record["iou"]["truck"] == (None if skip_unseen else 0)
    assert record["val/mIoU"] == pytest.approx(0.5 if skip_unseen else 1 / 16)
    assert record["num_vote"] == record["views"] == 3 and record["points"] == 3 and record["past_sweeps"] == 2
    assert (record["split"], record["scans"], record["checkpoint"]) == ("validation", 1, "last.ckpt")
    assert record["trained_on_split"] is True and record["label_fraction"] == 0.01
    assert record["one_view"]["iou"]["barrier"] == 1 and record["one_view"]["val/acc"] == 1
    assert record["one_view"].keys() == {key for key in record if key.startswith("val/")} | {"iou", "published_iou"}
    assert (tmp_path / "confusion.png").is_file() and (tmp_path / "pictures" / "08_000000.png").is_file()


def test_tests_of_one_second_have_folders_of_their_own(tmp_path):
    label_map, file_format, lidar, _ = FORMATS["semantickitti"]
    outputs = [
        EvaluationOutput(tmp_path / "test_1", label_map, lambda: [], file_format, lidar, CONDITIONS) for _ in range(2)
    ]
    assert [output.make_folder().name for output in outputs] == ["test_1", "test_1-2"]
