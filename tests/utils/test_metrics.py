from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from utils.metrics import ScoreCard, format_table
from utils.point_counts import SegmentationMetrics

GOLDEN = Path(__file__).parents[1] / "golden" / "losses_schedule_metrics.npz"
NAMES = ("unlabeled", *(f"class {c}" for c in range(1, 20)))


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN)


def count(prediction, labels, inside=None, names=NAMES, skip_unseen=False) -> SegmentationMetrics:
    metric = SegmentationMetrics(names, skip_unseen)
    inside = np.ones(len(labels), dtype=bool) if inside is None else inside
    metric.update(torch.from_numpy(prediction), torch.from_numpy(labels), torch.from_numpy(inside))
    return metric


def slow_iou(prediction, labels, classes):
    """Computes the IoU from sets of points, one class at a time."""
    ious = []
    for c in range(1, classes):
        predicted = set(np.flatnonzero((prediction == c) & (labels != 0)))
        true = set(np.flatnonzero(labels == c))
        ious.append(len(predicted & true) / len(predicted | true) if predicted | true else 0.0)
    return np.array(ious)


def test_golden_official_and_published(golden):
    scores = count(golden["iou_pred"], golden["iou_gt"]).scores()
    np.testing.assert_allclose(scores.iou, golden["iou_official"], atol=1e-12)
    np.testing.assert_allclose(scores.published_iou, golden["iou_reference_drops_pred0"], atol=1e-12)
    assert scores.miou == pytest.approx(golden["iou_official"].mean())
    assert scores.published_miou == pytest.approx(golden["iou_reference_drops_pred0"].mean())


def test_points_outside_are_dropped_from_the_published_figure_alone(golden):
    """The published code predicts 0 outside; giving those points a class must change the official figure only."""
    inside = golden["iou_pred"] != 0
    guess = np.where(inside, golden["iou_pred"], 7).astype(np.uint8)
    scores = count(guess, golden["iou_gt"], inside).scores()
    np.testing.assert_allclose(scores.published_iou, golden["iou_reference_drops_pred0"], atol=1e-12)
    np.testing.assert_allclose(scores.iou, slow_iou(guess, golden["iou_gt"], 20), atol=1e-12)
    labelled = golden["iou_gt"] != 0
    assert scores.accuracy == pytest.approx(np.mean(guess[labelled] == golden["iou_gt"][labelled]))
    assert scores.points == labelled.sum()


def test_updates_and_processes_add_up(golden):
    prediction, labels = golden["iou_pred"], golden["iou_gt"]
    inside = np.arange(len(labels)) % 3 > 0
    whole = count(prediction, labels, inside)
    parts = SegmentationMetrics(NAMES)
    for rows in np.array_split(np.arange(len(labels)), 7):
        parts.update(*(torch.from_numpy(column[rows]) for column in (prediction, labels, inside)))
    half = len(labels) // 2
    first = count(prediction[:half], labels[:half], inside[:half])
    second = count(prediction[half:], labels[half:], inside[half:])
    assert torch.equal(parts.compute(), whole.compute())
    assert torch.equal(first.compute() + second.compute(), whole.compute())
    assert whole.compute().sum() == len(labels)


def test_processes_are_summed_when_computed(golden, monkeypatch):
    """Here a second process has counted the same."""
    metric = count(golden["iou_pred"], golden["iou_gt"])
    own = metric.counts.clone()
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda counts: counts.mul_(2))
    assert metric.scores().points == 2 * (golden["iou_gt"] != 0).sum()
    assert torch.equal(metric.counts, own)  # and each process goes on with its own


def test_reset():
    metric = count(np.array([1, 2]), np.array([1, 1]))
    metric.reset()
    metric.update(torch.tensor([1, 2, 2]), torch.tensor([1, 1, 0]), torch.tensor([True, False, True]))
    scores = metric.scores()
    assert scores.points == 2
    assert scores.accuracy == 0.5


def test_absent_classes():
    """Ground truth has classes 1 and 2; class 3 is predicted only, class 4 nowhere."""
    labels = np.array([1, 1, 2, 2, 0], dtype=np.uint8)
    prediction = np.array([1, 1, 2, 3, 4], dtype=np.uint8)
    scores = count(prediction, labels, names=NAMES[:5]).scores()
    np.testing.assert_allclose(scores.iou, [1, 0.5, 0, 0])
    assert scores.miou == pytest.approx(1.5 / 4)
    assert scores.miou_present == pytest.approx(1.5 / 2)


def test_confusion_is_prediction_by_ground_truth():
    scores = count(np.array([2, 2, 1]), np.array([1, 1, 0]), names=NAMES[:3]).scores()
    assert scores.confusion[2, 1] == 2
    assert scores.confusion.sum() == 2


@pytest.mark.parametrize("skip_unseen", [False, True])
def test_what_moves_has_a_mean_of_its_own(skip_unseen):
    """Classes 3 and 4 of five move; of them, 4 neither occurs nor is predicted; nor does 5, which stands."""
    rng = np.random.default_rng(2)
    labels, prediction = rng.integers(0, 4, 500).astype(np.uint8), rng.integers(1, 4, 500).astype(np.uint8)
    metric = SegmentationMetrics(NAMES[:6], skip_unseen, moving=(3, 4))
    metric.update(torch.from_numpy(prediction), torch.from_numpy(labels), torch.ones(500, dtype=torch.bool))
    scores, iou = metric.scores(), slow_iou(prediction, labels, 6)
    expected = (iou[2], iou[:2].mean()) if skip_unseen else (iou[2] / 2, iou[:2].sum() / 3)
    assert (scores.moving_miou, scores.static_miou) == pytest.approx(expected)
    assert scores.miou == pytest.approx(iou[:3].mean() if skip_unseen else iou.mean())
    named = scores.named()
    assert (named["val/mIoU_moving"], named["val/mIoU_static"]) == pytest.approx(expected)
    line = f"Moving classes: {100 * expected[0]:.2f}%, static: {100 * expected[1]:.2f}%"
    assert format_table(scores, best=0.5).splitlines()[-2] == line

    whole = count(prediction, labels, names=NAMES[:6], skip_unseen=skip_unseen).scores()
    assert whole.moving_miou is whole.static_miou is None and "moving" not in "".join(whole.named())
    assert "Moving" not in format_table(whole, best=0.5) and whole.miou == scores.miou


def test_nothing_moves_and_everything_moves():
    """A mean over no class that counts is 0, as that of all classes is."""
    unseen = SegmentationMetrics(NAMES[:3], True, moving=(2,))
    unseen.update(torch.tensor([1, 1]), torch.tensor([1, 1]), torch.ones(2, dtype=torch.bool))
    assert (unseen.scores().moving_miou, unseen.scores().static_miou) == (0, 1)
    every = SegmentationMetrics(NAMES[:3], False, moving=(1, 2))
    every.update(torch.tensor([1, 1]), torch.tensor([1, 1]), torch.ones(2, dtype=torch.bool))
    assert (every.scores().moving_miou, every.scores().static_miou) == (0.5, 0)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@pytest.mark.parametrize("skip_unseen", [False, True])
def test_nothing_counted_is_zero_not_nan(skip_unseen):
    scores = SegmentationMetrics(NAMES, skip_unseen).scores()
    assert (scores.miou, scores.miou_present, scores.published_miou, scores.accuracy, scores.points) == (0, 0, 0, 0, 0)


def test_scores_leaves_the_state_alone(golden):
    metric = count(golden["iou_pred"], golden["iou_gt"])
    before = metric.counts.clone()
    metric.scores()
    metric.scores()
    assert torch.equal(metric.counts, before)


def test_table_is_what_users_know():
    counts = np.zeros((2, 3, 3), dtype=np.int64)
    counts[1] = [[0, 0, 0], [0, 9683, 0], [0, 317, 0]]
    table = format_table(ScoreCard.from_counts(counts, ("unlabeled", "car", "bicycle")), best=0.68587)
    assert table.splitlines() == [
        "Validation per class iou:",
        "car : 96.83%",
        "bicycle : 0.00%",
        "Current val miou is 48.415 while the best val miou is 68.587",
    ]


def pairs_without(rng, classes, no_truth, no_prediction, points=4000):
    """Draws (prediction, ground truth) over K classes; predictions are never 0, and some classes do not occur."""
    truth = rng.choice([c for c in range(classes) if c not in no_truth], points)
    others = rng.choice([c for c in range(1, classes) if c not in no_prediction], points)
    right = (rng.random(points) < 0.6) & ~np.isin(truth, [0, *no_prediction])
    return np.where(right, truth, others).astype(np.uint8), truth.astype(np.uint8)


@pytest.mark.parametrize(
    "no_truth, no_prediction",
    [
        ((), ()),
        ((3,), (3,)),
        ((3,), ()),
        ((), (5,)),
        ((2, 7, 16), (2, 7, 9)),
        (tuple(range(2, 17)), tuple(range(3, 17))),
    ],
    ids=["all", "unseen", "predicted only", "never predicted", "some of each", "one class"],
)
def test_skip_unseen_is_the_mean_of_the_nuscenes_devkit(no_truth, no_prediction):
    devkit = pytest.importorskip("nuscenes.eval.lidarseg.utils")
    rng = np.random.default_rng(len(no_truth))
    judge = devkit.ConfusionMatrix(17, 0)
    metric = SegmentationMetrics(NAMES[:17], skip_unseen=True)
    for _ in range(3):
        prediction, labels = pairs_without(rng, 17, no_truth, no_prediction)
        judge.update(labels, prediction)
        inside = torch.from_numpy(rng.random(len(labels)) < 0.9)
        metric.update(torch.from_numpy(prediction), torch.from_numpy(labels), inside)
    scores = metric.scores()
    np.testing.assert_allclose(scores.iou, judge.get_per_class_iou()[1:], atol=1e-9)  # NaN where the devkit has NaN
    assert scores.miou == pytest.approx(judge.get_mean_iou(), abs=1e-9)
    assert np.isnan(scores.iou).sum() == len(set(no_truth) & set(no_prediction))


def test_the_published_mean_is_over_what_occurs_or_is_predicted_inside():
    """Class 3 occurs outside the volume alone: the official figure counts it, the published one has not seen it. That
    one leaves classes out whatever the benchmark does."""
    labels, prediction = np.array([1, 1, 2, 3], np.uint8), np.array([1, 2, 2, 3], np.uint8)
    inside = np.array([True, True, True, False])
    scores = count(prediction, labels, inside, NAMES[:5], skip_unseen=True).scores()
    np.testing.assert_allclose(scores.iou, [0.5, 0.5, 1, np.nan])
    np.testing.assert_allclose(scores.published_iou, [0.5, 0.5, np.nan, np.nan])
    assert (scores.miou, scores.published_miou) == (pytest.approx(2 / 3), pytest.approx(0.5))
    every = count(prediction, labels, inside, NAMES[:5]).scores()
    assert (every.miou, every.published_miou) == (pytest.approx(2 / 4), pytest.approx(0.5))
    np.testing.assert_allclose(every.published_iou, scores.published_iou)
    assert every.miou_present == scores.miou_present and every.accuracy == scores.accuracy


@pytest.mark.parametrize("skip_unseen", [False, True])
def test_the_published_mean_is_numpys_nanmean_over_the_published_histogram(skip_unseen):
    """The published score is computed from a histogram of classes 1..K-1, with 0 / 0 for a class that is not in it."""
    rng = np.random.default_rng(4)
    prediction = rng.choice([0, 1, 2, 3, 5, 7], 3000).astype(np.uint8)  # 7 is predicted only
    labels = rng.choice([0, 1, 2, 5, 6], 3000).astype(np.uint8)  # 6 occurs only; 4, 8 and 9 are nowhere
    inside = rng.random(3000) < 0.8
    kept = inside & (prediction > 0) & (labels > 0)
    hist = np.histogram2d(labels[kept], prediction[kept], bins=9, range=[[0.5, 9.5]] * 2)[0]
    with np.errstate(invalid="ignore"):
        ious = np.diag(hist) / (hist.sum(0) + hist.sum(1) - np.diag(hist))
    scores = count(prediction, labels, inside, NAMES[:10], skip_unseen).scores()
    np.testing.assert_allclose(scores.published_iou, ious, atol=1e-12)
    assert np.isnan(ious).sum() == 3 and scores.published_miou == pytest.approx(np.nanmean(ious))
    assert scores.named()["val/mIoU_published"] == scores.published_miou


def test_skip_unseen_counts_a_class_whose_points_have_no_prediction():
    scores = count(np.array([0, 1]), np.array([2, 1]), names=NAMES[:4], skip_unseen=True).scores()
    np.testing.assert_allclose(scores.iou, [1, 0, np.nan])
    assert scores.miou == pytest.approx(0.5)


def test_the_table_names_absent_classes():
    scores = count(
        np.array([1, 1]), np.array([1, 2]), names=("noise", "car", "bus", "truck"), skip_unseen=True
    ).scores()
    assert format_table(scores, best=0.25).splitlines()[1:] == [
        "car : 50.00%",
        "bus : 0.00%",
        "truck : absent",
        "Current val miou is 25.000 while the best val miou is 25.000",
    ]
