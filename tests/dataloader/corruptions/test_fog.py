"""Fog, compared with a slow quadrature and with published tables and thresholds, and bounds that always hold."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad

from dataloader.corruptions.fog import ALPHAS, FIXED_BETA, backscatter, fog, fog_response, look_up, noisy_ranges
from tests.support.weather import make_sweep, random_sweep, real_sweep, same_sweep, well_formed
from utils.scan.sensor import NUSCENES, SEMANTICKITTI

# FogSim's tables at their plateau, on a grid of 0.05 m: alpha -> R_peak (m), I_max (s/m^2).
PLATEAU = {
    0.0: (4.70, 4.645e-9),
    0.005: (4.70, 4.568e-9),
    0.01: (4.70, 4.493e-9),
    0.02: (4.70, 4.347e-9),
    0.03: (4.65, 4.206e-9),
    0.06: (4.65, 3.816e-9),
    0.1: (4.60, 3.362e-9),
    0.12: (4.60, 3.158e-9),
    0.15: (4.55, 2.880e-9),
    0.2: (4.50, 2.476e-9),
}
# Range beyond which everything becomes fog: beta -> one per alpha of ALPHAS.
THRESHOLDS = {
    0.005: (117.1, 79.4, 63.2, 47.1, 38.6, 26.4),
    0.008: (92.6, 66.8, 54.5, 41.6, 34.5, 24.1),
    0.05: (37.0, 31.8, 28.4, 23.8, 20.8, 15.8),
    0.06: (33.8, 29.4, 26.4, 22.3, 19.7, 15.1),
    0.2: (18.5, 17.1, 16.0, 14.4, 13.1, 10.7),
}


def slow_response(reach: float, alpha: float) -> float:
    """Computes the integral over time as it stands in the paper."""
    speed, pulse = 299_792_458.0, 20e-9

    def integrand(time: float) -> float:
        r = reach - speed * time / 2.0
        if r <= 0.9:
            return 0.0
        return np.sin(np.pi * time / (2 * pulse)) ** 2 * np.exp(-2 * alpha * r) / r**2 * min((r - 0.9) / 0.1, 1.0)

    kinks = sorted({t for edge in (0.9, 1.0) if 0 < (t := 2 * (reach - edge) / speed) < 2 * pulse})
    parts = [0.0, *kinks, 2 * pulse]
    return sum(quad(integrand, a, b, epsabs=0, epsrel=1e-9)[0] for a, b in pairwise(parts))


@pytest.mark.parametrize("alpha", [0.0, 0.03, 0.2])
@pytest.mark.parametrize("reach", [1.1, 2.0, 3.3, 4.4])
def test_the_response_is_the_integral_of_the_paper(alpha, reach) -> None:
    """Before the peak, the maximum over all ranges up to the surface is the value at the surface."""
    _, maxima = look_up(fog_response(alpha), np.array([reach]), "physical")
    assert maxima[0] == pytest.approx(slow_response(reach, alpha), rel=3e-5)


@pytest.mark.parametrize("mode", ["physical", "reference"])
@pytest.mark.parametrize("alpha", PLATEAU)
def test_the_published_plateau(alpha, mode) -> None:
    peak, maximum = PLATEAU[alpha]
    peaks, maxima = look_up(fog_response(alpha, mode), np.array([6.0, 30.0, 200.0, 300.0]), mode)
    assert peaks == pytest.approx(peak, abs=0.06 if mode == "physical" else 0.1)
    assert maxima == pytest.approx(maximum, rel=3e-4 if mode == "physical" else 1e-3)


def test_published_entries_below_the_plateau() -> None:
    """The pairs of FogSim's table are found at the grid point at or below the surface."""
    for alpha, at_two, at_three in ((0.005, 3.74e-10, 2.017e-9), (0.06, 3.30e-10, 1.749e-9), (0.2, 2.40e-10, 1.223e-9)):
        peaks, maxima = look_up(fog_response(alpha, "reference"), np.array([2.0, 3.0, 1.0, 0.0]), "reference")
        assert maxima[:2] == pytest.approx([at_two, at_three], rel=2e-3)
        assert peaks[:2] == pytest.approx([1.9, 2.9], abs=0.01)
        assert maxima[2:] == pytest.approx([0.0, 0.0], abs=1e-12)
    peaks, maxima = look_up(fog_response(0.06, "reference"), np.array([50.0]), "reference")
    assert peaks[0] == pytest.approx(4.6023, abs=5e-5)
    assert maxima[0] == pytest.approx(3.8156e-9, rel=3e-5)


def first_fog(alpha: float, beta: float | str) -> float:
    """Finds the nearest point that becomes fog, on a ray with a point every 5 cm."""
    reach = np.arange(5.0, 300.0, 0.05)
    sweep = make_sweep(np.c_[reach, 0 * reach, 0 * reach], 0.37)
    return float(reach[fog(sweep, np.random.default_rng(0), alpha=alpha, beta=beta).altered].min())  # type: ignore[arg-type]


@pytest.mark.parametrize("beta", THRESHOLDS)
def test_the_published_thresholds(beta) -> None:
    assert [first_fog(alpha, beta) for alpha in ALPHAS] == pytest.approx(THRESHOLDS[beta], abs=0.11)


def test_the_thresholds_of_both_rules_for_beta() -> None:
    alphas = (0.005, 0.06, 0.2)
    assert [first_fog(alpha, "mor") for alpha in alphas] == pytest.approx([259.8, 35.6, 13.6], abs=0.11)
    assert [first_fog(alpha, "fixed") for alpha in alphas] == pytest.approx([138.0, 35.6, 15.8], abs=0.11)
    assert pytest.approx(9.213e-4, rel=1e-4) == FIXED_BETA
    assert backscatter("mor", 0.0) == 0.0


def test_what_is_not_fog_stays_and_fades_and_what_is_moves_along_its_ray() -> None:
    sweep = random_sweep(3000)
    foggy = fog(sweep, np.random.default_rng(1), alpha=0.03, beta=0.05)
    clear = ~foggy.altered
    assert 0.1 < foggy.altered.mean() < 0.9
    assert np.array_equal(foggy.xyz[clear], sweep.xyz[clear])
    faded = sweep.intensity[clear] * np.exp(-2 * 0.03 * sweep.ranges()[clear])
    assert foggy.intensity[clear] == pytest.approx(faded, rel=1e-5)
    before = sweep.xyz[foggy.altered] / sweep.ranges()[foggy.altered][:, None]
    after = foggy.xyz[foggy.altered] / foggy.ranges()[foggy.altered][:, None]
    assert after == pytest.approx(before, abs=1e-5)
    assert np.array_equal(foggy.rows, sweep.rows) and np.array_equal(foggy.labels, sweep.labels)


@pytest.mark.parametrize("variant", ["v1", "v2", "v3", "v4"])
@pytest.mark.parametrize("seed", range(3))
def test_physical_fog_lies_between_the_sensor_and_the_surface(variant, seed) -> None:
    rng = np.random.default_rng(seed)
    surface = np.r_[rng.uniform(1.0, 12.0, 4000), 0.3]
    peaks = np.minimum(surface, 4.6)
    ranges = noisy_ranges(peaks, surface, 10.0, variant, "physical", rng)
    assert (ranges > 0.0).all() and (ranges <= surface * (1 + 1e-12)).all()
    assert np.unique(ranges).size > 1000


def test_physical_v1_gathers_nowhere() -> None:
    """Draws that would leave the space before the surface are drawn again, so that they do not gather at its bounds."""
    surface = np.random.default_rng(0).uniform(6.0, 30.0, 4000)
    ranges = noisy_ranges(np.full(4000, 4.6), surface, 10.0, "v1", "physical", np.random.default_rng(1))
    assert not np.isin(ranges, [0.9]).any() and np.mean(ranges > 0.999 * surface) < 0.01


def test_reference_noise_follows_the_formulas() -> None:
    """Each factor stays in its bounds; v1 gives some points a negative range, as the published formula does."""
    surface, rng = np.full(20_000, 8.0), np.random.default_rng(0)
    factor = {v: noisy_ranges(surface / 2, surface, 10.0, v, "reference", rng) / 4.0 for v in ("v1", "v2", "v3", "v4")}
    assert (factor["v1"] < 0).any() and factor["v1"][factor["v1"] > 0].min() == pytest.approx(8 / 18, rel=1e-2)
    assert [factor["v2"].min(), factor["v2"].max()] == pytest.approx([0.5, 2.0], rel=1e-2)
    assert [factor["v3"].min(), factor["v3"].max()] == pytest.approx([0.5, 4.0], rel=1e-2)
    assert factor["v4"].min() >= 1.0 and factor["v4"].mean() == pytest.approx(1 + 10 * (2 / 22) / 4, rel=1e-2)


def test_both_intensity_scales_give_the_same_fog() -> None:
    kitti = random_sweep(2000, sensor=SEMANTICKITTI)
    nuscenes = make_sweep(kitti.xyz, kitti.intensity * 255, sensor=NUSCENES)
    for rounding in (False, True):
        first = fog(kitti, np.random.default_rng(3), alpha=0.06, rounding=rounding)
        second = fog(nuscenes, np.random.default_rng(3), alpha=0.06, rounding=rounding)
        assert np.mean(first.altered != second.altered) < 2e-3  # float32 of i * 255 may round to the other side
        same = first.altered == second.altered
        assert second.intensity[same & ~first.altered] == pytest.approx(
            first.intensity[same & ~first.altered] * 255, abs=1.01 if rounding else 1e-3
        )


def test_rounding_gives_whole_steps_and_cap_holds_the_largest() -> None:
    sweep = random_sweep(4000)
    free = fog(sweep, np.random.default_rng(0), alpha=0.01, beta=0.2, cap=False)
    capped = fog(sweep, np.random.default_rng(0), alpha=0.01, beta=0.2)
    assert free.intensity.max() > 2.0 and capped.intensity.max() == 1.0
    assert np.array_equal(free.altered, capped.altered)
    rounded = fog(sweep, np.random.default_rng(0), alpha=0.01, beta=0.2, rounding=True)
    steps = rounded.intensity[~rounded.altered] * 255
    assert steps == pytest.approx(np.round(steps), abs=1e-3)


@pytest.mark.parametrize("mode", ["physical", "reference"])
@pytest.mark.parametrize("count", [0, 1, 500])
def test_fog_is_well_formed_and_repeats(count, mode) -> None:
    sweep = random_sweep(count)
    runs = [fog(sweep, np.random.default_rng(5), beta=0.2, mode=mode) for _ in range(2)]
    assert same_sweep(*runs) and well_formed(runs[0]) and len(runs[0]) == count


def test_a_point_at_the_sensor_or_without_intensity_never_becomes_fog() -> None:
    sweep = make_sweep([[0, 0, 0], [0.5, 0, 0], [60, 0, 0]], [1.0, 1.0, 0.0])
    for mode in ("physical", "reference"):
        foggy = fog(sweep, np.random.default_rng(0), alpha=0.2, beta=0.2, mode=mode)  # type: ignore[arg-type]
        assert not foggy.altered.any() and well_formed(foggy)


def test_alpha_is_drawn_from_the_six() -> None:
    """Without backscatter (beta 0), the loss of intensity shows which alpha was drawn."""
    sweep = make_sweep([[10.0, 0, 0]], 1.0)
    drawn = [-np.log(fog(sweep, np.random.default_rng(s), beta=0.0).intensity[0]) / 20 for s in range(200)]
    assert sorted(set(np.round(drawn, 4))) == pytest.approx(sorted(ALPHAS), abs=1e-4)


@pytest.mark.parametrize("option", [{"alpha": -1.0}, {"alpha": 0.1, "beta": "x"}, {"alpha": 0.1, "mode": "x"},
                                    {"alpha": 0.2, "beta": 0.2, "variant": "v5"}])  # fmt: skip
def test_a_wrong_option_is_refused(option) -> None:
    with pytest.raises(ValueError, match="needed"):
        fog(random_sweep(10), np.random.default_rng(0), **option)


def test_fractions_of_a_real_scan() -> None:
    """The fractions were computed independently, for frame 000000 of sequence 00 (124,668 points)."""
    sweep = real_sweep()
    assert len(sweep) == 124_668

    def share(**options) -> float:
        return float(fog(sweep, np.random.default_rng(0), **options).altered.mean())

    for beta, expected in ((0.008, 0.022), (0.05, 0.091), (0.2, 0.254)):
        assert np.mean([share(alpha=alpha, beta=beta) for alpha in ALPHAS]) == pytest.approx(expected, abs=1e-3)
    assert [share(alpha=a) for a in (0.005, 0.06, 0.2)] == pytest.approx([0.0, 0.030, 0.284], abs=1e-3)
    rounded = [share(alpha=a, rounding=True) for a in (0.005, 0.06, 0.2)]
    assert rounded == pytest.approx([0.0, 0.030, 0.318], abs=1e-3)
    assert [share(alpha=0.06, beta=b) for b in (0.005, 0.06, 0.2)] == pytest.approx([0.063, 0.232, 0.418], abs=1e-3)
