"""What points are coloured by, and which of them are shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.support.shown import MadeFrames, aged, plain
from utils.pictures.raster import NOT_JUDGED, RIGHT, WRONG, paint, paint_errors
from utils.viewer.coloring import Look, color, colorings, labellings, pick, scale, spread, visible
from utils.viewer.palette import CONTRAST, DARK, GROUNDS, LIGHT, Ground, class_colors, contrast, origin_colors
from utils.viewer.records import ShownScan

COLORS, K = MadeFrames.colors, MadeFrames.num_classes
ALL = ["prediction", "truth", "errors", "differences", "confidence", "intensity", "height", "age"]


def test_a_scan_is_offered_the_colourings_that_it_has_the_data_for(scan: ShownScan) -> None:
    scan = aged(scan)
    assert colorings(scan) == ALL
    assert colorings(plain(scan)) == ["height"]
    one = replace(scan, predictions={"first": scan.predictions["first"]})
    assert colorings(one) == [coloring for coloring in ALL if coloring != "differences"]
    assert colorings(replace(plain(scan), labels=scan.labels)) == ["truth", "height"]
    assert pick("errors", colorings(plain(scan))) == "height"
    assert pick("errors", ALL) == "errors"
    assert pick(None, []) is None


@pytest.mark.parametrize("ground", GROUNDS.values(), ids=lambda ground: ground.name)
def test_classes_have_the_colours_of_the_legend_as_the_pictures_paint_them(scan: ShownScan, ground: Ground) -> None:
    legend = class_colors(ground, COLORS)
    rgb = color(scan, "second", Look("prediction", ground=ground), COLORS, K)
    assert np.array_equal(rgb, paint(scan.predictions["second"], legend))
    assert scan.labels is not None
    rgb = color(scan, "second", Look("truth", ground=ground), COLORS, K)
    assert np.array_equal(rgb, paint(scan.labels, legend))


def test_errors_are_red_where_the_pictures_paint_them_red_and_added_points_are_not_judged(scan: ShownScan) -> None:
    rgb = color(scan, "first", Look("errors"), COLORS, K)
    assert scan.labels is not None
    truth = np.where(scan.labels == 4, 0, scan.labels)
    assert np.array_equal(rgb, paint_errors(truth, scan.predictions["first"]))
    light = color(scan, "first", Look("errors", ground=LIGHT), COLORS, K)
    assert (light[truth == 0] == LIGHT.faint).all() and LIGHT.faint != NOT_JUDGED
    assert np.array_equal(light[truth > 0], rgb[truth > 0])


def test_differences_are_red_and_agreement_is_grey(scan: ShownScan) -> None:
    rgb = color(scan, "first", Look("differences"), COLORS, K)
    for one, other, seen in zip(*scan.predictions.values(), rgb, strict=True):
        assert tuple(seen) == (RIGHT if one == other else WRONG)


@pytest.mark.parametrize("ground", GROUNDS.values(), ids=lambda ground: ground.name)
def test_a_point_that_was_mixed_in_stands_out_and_the_origin_of_past_ones_is_not_known(
    scan: ShownScan, ground: Ground
) -> None:
    mixed = np.arange(len(scan.xyz)) % 3 == 0
    scan = replace(aged(scan), mixed=mixed)
    assert colorings(scan) == [*ALL, "origin"]
    rgb = color(scan, None, Look("origin", ground=ground), COLORS, K)
    for seen, foreign, current in zip(rgb, mixed, scan.current, strict=True):
        assert tuple(seen) == (tuple(origin_colors(ground)[int(foreign)]) if current else ground.faint)
    assert (contrast(origin_colors(ground)[:2], ground) >= CONTRAST).all()
    kept = scan.select(mixed)
    assert kept.mixed is not None and kept.mixed.all()


def test_numbers_are_ordered_by_the_ramp_and_unknown_ones_are_faint() -> None:
    values = np.array([0.0, 1.0, np.nan, 0.5, np.inf, -5.0, 7.0], dtype=np.float32)
    rgb = scale(values, 0.0, 1.0, DARK).astype(int)
    assert tuple(rgb[2]) == tuple(rgb[4]) == DARK.faint
    assert tuple(rgb[5]) == tuple(rgb[0]) and tuple(rgb[6]) == tuple(rgb[1])
    assert rgb[0].sum() < rgb[3].sum() < rgb[1].sum()
    low, high = spread(np.append(np.arange(1001.0), np.nan))
    assert (low, high) == pytest.approx((10, 990))
    assert spread(np.full(3, np.nan)) == (0.0, 0.0)


@pytest.mark.parametrize("coloring", ["confidence", "intensity", "height"])
def test_every_number_colours_its_own_column(scan: ShownScan, coloring: str) -> None:
    column = {"confidence": scan.confidences["first"], "height": scan.xyz[:, 2]}.get(coloring)
    column = getattr(scan, coloring) if column is None else column
    rgb = color(scan, "first", Look(coloring), COLORS, K)
    assert np.array_equal(rgb, scale(column, *spread(column), DARK))
    if coloring == "confidence":  # only one prediction has it
        assert (color(scan, "second", Look(coloring), COLORS, K) == DARK.faint).all()


def test_a_class_that_is_switched_off_goes_with_the_labels_that_are_shown(scan: ShownScan) -> None:
    def shown(coloring: str, *hidden: int) -> np.ndarray:
        return visible(scan, "first", Look(coloring, frozenset(hidden)), len(COLORS))

    first, second = scan.predictions.values()
    assert shown("prediction").all()
    assert np.array_equal(shown("prediction", 1, 2), ~np.isin(first, [1, 2]))
    assert np.array_equal(shown("truth", 1), scan.labels != 1)
    assert np.array_equal(shown("height", 1), first != 1)
    assert np.array_equal(shown("errors", 0, 1, 3, 4), (first == 2) | (scan.labels == 2))
    assert np.array_equal(shown("differences", 0, 2, 3, 4), (first == 1) | (second == 1))
    assert not shown("prediction", 0, 1, 2, 3, 4).any()
    assert visible(plain(scan), None, Look("height", frozenset({1})), len(COLORS)).all()
    assert len(labellings(plain(scan), None, "height")) == 0


def test_the_points_beside_the_class_that_is_looked_at_are_faint(scan: ShownScan) -> None:
    rgb = color(scan, "first", Look("prediction", marked=2), COLORS, K)
    whole = color(scan, "first", Look("prediction"), COLORS, K)
    meant = scan.predictions["first"] == 2
    assert np.array_equal(rgb[meant], whole[meant])
    assert (rgb[~meant] == DARK.faint).all()
