"""Points of past scans: they are shown, by their age too, and neither counted nor judged."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.shown import POINTS, MadeFrames, aged, make_scan, plain
from tests.utils.viewer.test_legend import Parsed
from tests.utils.viewer.test_loading import wait_for
from tests.utils.viewer.test_palette import plain_contrast
from tests.utils.viewer.test_server import Looked
from utils.labels import LabelMap
from utils.viewer import legend
from utils.viewer.choice import Choice
from utils.viewer.coloring import Look, color, visible
from utils.viewer.compose import classes_there, compose
from utils.viewer.loading import prepare
from utils.viewer.palette import DARK, GROUNDS, Ground, class_colors
from utils.viewer.records import ShownScan
from utils.viewer.saving import save_html

COLORS, K = MadeFrames.colors, MadeFrames.num_classes


@pytest.fixture
def past(scan: ShownScan) -> ShownScan:
    """A scan with points of past ones among its own; row 3 is not finite."""
    return aged(scan)


def alone(past: ShownScan) -> ShownScan:
    """The points of the scan itself, picked column by column."""
    assert past.age is not None and past.intensity is not None and past.labels is not None
    own = np.flatnonzero(past.age == 0)
    predictions = {name: ids[own] for name, ids in past.predictions.items()}
    confidences = {name: values[own] for name, values in past.confidences.items()}
    return ShownScan("alone", past.xyz[own], past.intensity[own], past.labels[own], predictions, confidences)


def test_scores_and_numbers_are_those_of_the_scan_alone(past: ShownScan) -> None:
    frame, other = prepare(past, K), prepare(alone(past), K)
    assert 0 < len(other.scan.xyz) < len(frame.scan.xyz)
    for name, counts in other.counts.items():
        for field in ("hits", "true", "predicted"):
            assert np.array_equal(getattr(frame.counts[name], field), getattr(counts, field))
    for coloring in ("prediction", "truth", "errors"):
        choice = Choice(coloring=coloring)
        shown, expected = (compose(MadeFrames(), each, choice) for each in (frame, other))
        for one, wanted in ((shown.points, expected.points), (shown.iou, expected.iou)):
            assert one is not None and wanted is not None and np.array_equal(one, wanted, equal_nan=True)
    for coloring in ("errors", "differences"):
        texts = [Parsed(legend.key(each.scan, "first", coloring, DARK, K)).text for each in (frame, other)]
        assert texts[0] == texts[1] and re.search(r"\d", texts[0])


def test_past_points_are_faint_where_the_scan_is_judged_and_have_their_classes_elsewhere(past: ShownScan) -> None:
    assert past.age is not None
    gone = past.age > 0
    for coloring in ("errors", "differences"):
        rgb = color(past, "first", Look(coloring), COLORS, K)
        assert (rgb[gone] == DARK.faint).all() and (rgb[~gone] != DARK.faint).any()
    rgb = color(past, "first", Look("prediction"), COLORS, K)
    assert np.array_equal(rgb, class_colors(DARK, COLORS)[past.predictions["first"]])


def test_past_points_are_switched_off_whatever_their_class(past: ShownScan) -> None:
    assert past.age is not None
    first, gone = past.predictions["first"], past.age > 0
    assert visible(past, "first", Look(), len(COLORS)).all()
    assert np.array_equal(visible(past, "first", Look(past=False), len(COLORS)), ~gone)
    both = Look("prediction", hidden=frozenset({1}), past=False)
    assert np.array_equal(visible(past, "first", both, len(COLORS)), ~gone & (first != 1))
    assert visible(replace(past, age=None), "first", Look(past=False), len(COLORS)).all()


@pytest.mark.parametrize("ground", GROUNDS.values(), ids=lambda ground: ground.name)
def test_the_newer_a_point_the_more_it_stands_out(scan: ShownScan, ground: Ground) -> None:
    ages = np.linspace(0, 5, POINTS, dtype=np.float32)
    rgb = color(replace(scan, age=ages), "first", Look("age", ground=ground), COLORS, K)
    first, middle, last = (plain_contrast(rgb[row], ground.color) for row in (0, POINTS // 2, -1))
    assert first > middle > last
    # A few old points among many new ones have the last colour, not that of a quantile.
    rare = np.zeros(POINTS, dtype=np.float32)
    rare[0] = 5
    assert np.array_equal(color(replace(scan, age=rare), "first", Look("age", ground=ground), COLORS, K)[0], rgb[-1])


@pytest.mark.parametrize(
    ("unit", "oldest", "text"),
    [("scans", 4, "0 scans4 scans"), ("scans", 1, "0 scans1 scan"), ("s", 1, "0 s1 s"), ("s", 0.45, "0 s0.45 s")],
)
def test_the_legend_names_the_unit(scan: ShownScan, unit, oldest: float, text: str) -> None:
    ages = np.repeat([0, oldest], [POINTS - 1, 1]).astype(np.float32)
    key = legend.key(replace(plain(scan), age=ages, age_unit=unit), None, "age", DARK, K)
    assert Parsed(key).text == text


def test_the_page_tells_points_of_the_scan_from_past_ones_and_switches_these_off() -> None:
    looked = Looked(MadeFrames(change=aged))
    scan = aged(make_scan(0))
    kept = np.isfinite(scan.xyz).all(axis=1)
    own = int((scan.current & kept).sum())
    wait_for(lambda: f"{own} points, and {POINTS - 1 - own} of past scans" in looked.panel.title.content)
    assert looked.panel.past.visible and len(looked.points().points) == POINTS - 1
    looked.choose(past=False)
    assert len(looked.points().points) == own
    looked.viewer.stop()
    without = Looked(MadeFrames())
    assert not without.panel.past.visible and "past" not in without.panel.title.content
    without.viewer.stop()


def test_classes_of_past_points_are_named_while_they_are_shown(scan: ShownScan) -> None:
    labels, ages = np.ones(POINTS, dtype=int), np.zeros(POINTS, dtype=np.float32)
    labels[5], ages[5] = 3, 1
    frame = prepare(replace(plain(scan), labels=labels, age=ages), K)
    for past, there in ((True, [1, 3]), (False, [1])):
        shown = compose(MadeFrames(), frame, Choice(past=past))
        assert np.flatnonzero(classes_there(MadeFrames(), frame, shown)).tolist() == there


def test_a_saved_page_has_the_points_by_age_beside_their_classes(tmp_path: Path) -> None:
    frames = MadeFrames(change=lambda scan: aged(replace(scan, predictions={})))
    pages = []
    for choice in (Choice(), Choice(past=False), Choice(coloring="age")):
        save_html(frames, [0], tmp_path / "page.html", choice)
        pages.append((tmp_path / "page.html").read_text())
    assert [("</span> car" in page, page.count("linear-gradient")) for page in pages] == [
        (True, 1),
        (True, 0),
        (False, 1),
    ]


@pytest.mark.parametrize("ground", GROUNDS.values(), ids=lambda ground: ground.name)
def test_what_moves_has_a_colour_of_its_own(ground: Ground) -> None:
    label_map = LabelMap.load("config/label_mapping/semantic-kitti-multiscan.yaml")
    colors = class_colors(ground, label_map.colors).astype(int)
    for moving in range(20, 26):
        others = np.delete(colors, moving, axis=0)
        assert np.abs(others - colors[moving]).max(axis=1).min() >= 40, label_map.names[moving]
