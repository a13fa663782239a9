"""The traits of a scan, against what a made-up scan is known to have."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.scans import sweep
from utils.scan.traits import LEAST_POINTS, PERCENTAGES, quantiles_of, traits_of


def found(points: np.ndarray):
    x, y, z, intensity = points.T
    return traits_of(x, y, z, intensity)


@pytest.mark.parametrize("beams", [16, 32, 64])
def test_a_scan_beam_by_beam(beams) -> None:
    points = sweep(beams, 720)
    traits = found(points)
    assert traits is not None
    assert traits.beams == beams
    assert traits.ground == pytest.approx(-1.73, abs=0.05)
    assert traits.rotation == pytest.approx(1, abs=0.01) and traits.start == pytest.approx(0, abs=0.05)
    assert traits.step == pytest.approx(0, abs=0.01)
    assert (traits.bottom, traits.top) == pytest.approx((-25, 3), abs=0.05)
    assert traits.reach == pytest.approx(np.median(np.linalg.norm(points[:, :3], axis=1)), abs=0.2)
    assert traits.level == pytest.approx(np.percentile(points[:, 3], (50, 75, 95)).mean(), rel=0.02)


def test_a_scan_of_all_beams_in_turn_clockwise() -> None:
    """As nuScenes has them; it begins on the left."""
    points = sweep(32, 720).reshape(32, 720, 4).transpose(1, 0, 2)
    points = np.roll(points, -180, axis=0)[::-1].reshape(-1, 4)
    traits = found(points)
    assert traits is not None
    assert traits.rotation < -0.95 and traits.start == pytest.approx(np.pi / 2, abs=0.05)
    assert traits.step == pytest.approx(28 / 31, rel=0.01) and traits.beams == 32


def test_points_in_no_order_and_a_long_street() -> None:
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.normal(0, (30, 10, 1), (20_000, 3)), rng.random(20_000)])
    traits = found(points.astype(np.float32))
    assert traits is not None
    assert abs(traits.rotation) < 0.1
    assert traits.elongation == pytest.approx(np.log(3), abs=0.05)
    assert found(points[: LEAST_POINTS - 1]) is None


def test_quantiles_over_scans_also_of_angles_at_half_a_turn() -> None:
    scans = [found(np.roll(sweep(16, 256, seed=n).reshape(16, 256, 4), shift, axis=1).reshape(-1, 4))
             for n, shift in enumerate((126, 128, 130))]  # fmt: skip
    quantiles = quantiles_of(scan for scan in scans if scan is not None)
    assert quantiles["start"][-1] - quantiles["start"][0] == pytest.approx(4 * 2 * np.pi / 256, rel=0.05)
    reaches = [scan.reach for scan in scans if scan is not None]
    assert quantiles["reach"] == pytest.approx(np.percentile(reaches, PERCENTAGES))
    assert quantiles_of([]) == {}
