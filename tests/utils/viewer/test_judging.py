"""The search for the worst frame and the worst class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.support.shown import MadeFrames, make_scan
from utils.viewer.judging import Judge
from utils.viewer.loading import Loader
from utils.viewer.records import ShownScan
from utils.viewer.scores import count


def judged(frames: MadeFrames) -> Judge:
    judge = Judge(frames, Loader(frames))
    judge.start()
    judge.join()
    return judge


def confused(scan: ShownScan) -> ShownScan:
    """Class 1 is right in frame 0 only; class 2 is always right; most points of class 3 are wrong in frame 2."""
    index = int(scan.title.split()[1])
    assert scan.labels is not None
    ids = np.where(scan.labels > 0, scan.labels, 1)
    if index:
        ids = np.where(scan.labels == 1, 2, ids)
    if index == 2:
        ids = np.where(scan.labels == 3, 1, ids)
    return replace(scan, predictions={"only": ids})


def test_frames_come_in_the_order_of_their_miou_and_the_unreadable_one_is_left_out() -> None:
    frames = MadeFrames(number=6, broken=(2,))
    judge = judged(frames)
    assert judge.done == 6
    expected = {}
    for index in (0, 1, 3, 4, 5):
        scan = make_scan(index)
        assert scan.labels is not None
        expected[index] = count(scan.labels, scan.predictions["first"], 4).miou
    order = sorted(expected, key=lambda index: expected[index])
    seen: list[int] = []
    while (found := judge.worst_frame("first", seen)) is not None:
        assert found[1] == expected[found[0]]
        seen.append(found[0])
    assert seen == order
    assert judge.worst_frame("nobody") is None


def test_classes_come_in_the_order_of_their_iou_each_with_the_frame_where_most_is_wrong() -> None:
    judge = judged(MadeFrames(number=4, change=confused))
    worst, iou, frame = judge.worst_class("only") or (0, 0.0, 0)
    assert worst == 1 and iou < 0.5 and frame == 2  # class 3 is taken for class 1 there
    second = judge.worst_class("only", [1])
    assert second is not None and second[0] == 2  # class 1 is taken for class 2 in three frames
    third = judge.worst_class("only", [1, 2])
    assert third is not None and third[0] == 3 and third[2] == 2
    assert judge.worst_class("only", [1, 2, 3]) is None


def test_without_truth_there_is_nothing_worst() -> None:
    judge = judged(MadeFrames(change=lambda scan: replace(scan, labels=None)))
    assert judge.done == 4
    assert judge.worst_frame("first") is None and judge.worst_class("first") is None
