"""Frames that are read ahead and kept."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from tests.support.shown import POINTS, MadeFrames, aged, make_scan, plain
from utils.errors import UserError
from utils.viewer.loading import Loader, prepare
from utils.viewer.records import ShownScan


def wait_for(condition) -> None:
    until = time.monotonic() + 10
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    assert condition()


def test_a_point_that_is_not_finite_goes_from_every_column(scan: ShownScan) -> None:
    scan = aged(scan)
    frame = prepare(scan, 4).scan
    kept = np.delete(np.arange(POINTS), 3)
    assert np.array_equal(frame.xyz, scan.xyz[kept])
    for name in ("intensity", "labels", "age"):
        assert np.array_equal(getattr(frame, name), getattr(scan, name)[kept])
    for name in scan.predictions:
        assert np.array_equal(frame.predictions[name], scan.predictions[name][kept])
    assert np.array_equal(frame.confidences["first"], scan.confidences["first"][kept])
    pixels = scan.cameras[0][0].picture.pixels[kept]
    assert np.array_equal(frame.cameras[0][0].picture.pixels, pixels, equal_nan=True)


def test_a_scan_far_from_the_origin_stands_around_its_middle_and_one_around_the_sensor_stays(scan: ShownScan) -> None:
    assert np.array_equal(prepare(scan, 4).origin, np.zeros(3))
    far = replace(scan, xyz=(scan.xyz + np.array([400_000, 50_000, 120])).astype(np.float32))
    frame = prepare(far, 4)
    assert np.abs(frame.scan.xyz - frame.origin).max() < 100
    assert -2.5 < prepare(scan, 4).floor < -1


@pytest.mark.parametrize("rows", [0, 5])
def test_a_scan_without_a_point_to_show_is_a_frame(rows: int) -> None:
    empty = ShownScan("empty", np.full((rows, 3), np.nan, dtype=np.float32), labels=np.zeros(rows, dtype=int))
    frame = prepare(empty, 4)
    assert len(frame.scan.xyz) == 0 and frame.floor == 0


def test_frames_ahead_are_read_and_kept_only_as_far_as_memory_allows() -> None:
    frames = MadeFrames(number=12)
    size = prepare(make_scan(0), 4).size
    loader = Loader(frames, memory=4 * size)
    for index in range(12):
        assert loader.ask(index, [index + 1, index + 2]).result(10).scan.title == f"scan {index}"
    wait_for(lambda: len(frames.reads) >= 12)
    loader.ask(11).result(10)
    kept = [index for index in range(12) if loader.known(index) is not None]
    assert 11 in kept and len(kept) <= 4
    assert len(frames.reads) == 12  # no frame was read twice
    loader.ask(0).result(10)
    assert frames.reads[-1] == 0
    loader.close()


def test_the_frame_that_is_asked_for_does_not_wait_for_frames_nobody_wants_any_more() -> None:
    frames = MadeFrames(number=50)
    frames.gate.clear()
    loader = Loader(frames)
    loader.ask(0, range(1, 20))
    wanted = loader.ask(40)
    frames.gate.set()
    wanted.result(10)
    wait_for(lambda: 40 in frames.reads)
    assert len(frames.reads) <= 3  # two were being read already
    loader.close()


def test_a_frame_that_fails_says_why_and_is_tried_again() -> None:
    frames = MadeFrames(broken=(1,))
    told = []
    loader = Loader(frames, lambda: told.append(1))
    with pytest.raises(UserError, match=r"1\.bin"):
        loader.ask(1).result(10)
    assert loader.known(1) is None
    loader.drop(1)
    frames.broken = ()
    assert loader.ask(1).result(10).scan.title == "scan 1"
    wait_for(lambda: len(told) == 2)
    loader.close()


def test_the_size_of_a_frame_counts_every_array(scan: ShownScan) -> None:
    assert prepare(scan, 4).size > prepare(plain(scan), 4).size + 20 * 40 * 3
