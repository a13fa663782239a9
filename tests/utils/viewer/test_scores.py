"""The scores of a single scan, against a count point by point."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from utils.viewer.records import ShownScan
from utils.viewer.scores import count, judge

K = 4


def slow_iou(labels: list[int], prediction: list[int], c: int) -> float:
    """The IoU of a class, from sets of points."""
    judged = [i for i, label in enumerate(labels) if 0 < label < K]
    true = {i for i in judged if labels[i] == c}
    predicted = {i for i in judged if prediction[i] == c}
    return len(true & predicted) / len(true | predicted) if true | predicted else math.nan


@pytest.mark.parametrize("size", [0, 1, 2, 5, 30])
def test_iou_and_miou_are_those_of_a_count_by_hand(size: int) -> None:
    rng = np.random.default_rng(size)
    for _ in range(50):
        check([(int(rng.integers(K + 1)), int(rng.integers(K))) for _ in range(size)])


def check(pairs: list[tuple[int, int]]) -> None:
    labels, prediction = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    counts = count(np.array(labels, dtype=np.int64), np.array(prediction, dtype=np.int64), K)
    expected = [math.nan] + [slow_iou(labels, prediction, c) for c in range(1, K)]
    assert np.allclose(counts.iou, expected, equal_nan=True)
    present = [expected[c] for c in range(1, K) if c in labels]
    assert np.isclose(counts.miou, np.mean(present) if present else math.nan, equal_nan=True)
    for c in range(1, K):
        wrong = sum((label == c) != (guess == c) for label, guess in pairs if 0 < label < K)
        assert counts.wrong[c] == wrong


def test_counts_of_two_scans_add_up_to_those_of_both(scan: ShownScan) -> None:
    ids = scan.predictions["first"]
    assert scan.labels is not None
    halves = count(scan.labels[:100], ids[:100], K) + count(scan.labels[100:], ids[100:], K)
    assert np.array_equal(halves.iou, count(scan.labels, ids, K).iou, equal_nan=True)


def test_without_truth_nothing_is_judged(scan: ShownScan) -> None:
    assert judge(replace(scan, labels=None), K) == {}
    assert list(judge(scan, K)) == ["first", "second"]
