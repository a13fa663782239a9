"""Wet ground: Fresnel's equations at textbook values, the film as a sum over reflections, and the deleted points."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dataloader.corruptions.ground import Ground, GroundReturn, find_ground, fit_return
from dataloader.corruptions.wet_ground import AIR, WATER, film_transmission, fresnel, wet_ground
from tests.support.weather import make_sweep, random_sweep, real_sweep, same_sweep, well_formed
from utils.scan.sensor import NUSCENES, SEMANTICKITTI

BOUNDARIES = [(AIR, WATER), (WATER, AIR), (1.0, 1.5)]


@pytest.mark.parametrize(("n1", "n2"), BOUNDARIES)
def test_normal_incidence(n1, n2) -> None:
    for reflected, transmitted in fresnel(n1, n2, np.zeros(1)):
        assert reflected[0] == pytest.approx(((n1 - n2) / (n1 + n2)) ** 2)
        assert transmitted[0] == pytest.approx(4 * n1 * n2 / (n1 + n2) ** 2)


@pytest.mark.parametrize(("n1", "n2"), BOUNDARIES)
def test_brewsters_angle_lets_all_parallel_light_through(n1, n2) -> None:
    (r_s, _), (r_p, t_p) = fresnel(n1, n2, np.array([math.atan(n2 / n1)]))
    assert r_p[0] == pytest.approx(0.0, abs=1e-20) and t_p[0] == pytest.approx(1.0) and r_s[0] > 0.01


@pytest.mark.parametrize(("n1", "n2"), BOUNDARIES)
def test_no_power_is_lost_at_a_boundary(n1, n2) -> None:
    steepest = math.asin(min(n2 / n1, 1.0)) - 1e-6
    for reflected, transmitted in fresnel(n1, n2, np.linspace(0.0, steepest, 500)):
        assert reflected + transmitted == pytest.approx(np.ones(500), abs=1e-9)


def test_a_beam_through_a_boundary_and_back_meets_the_same_transmission() -> None:
    """T is the same from air and from water at the two angles of one ray (Stokes' relations)."""
    angle = np.linspace(0.0, 1.5, 100)
    inside = np.arcsin(np.sin(angle) * AIR / WATER)
    for (_, into), (_, out) in zip(fresnel(AIR, WATER, angle), fresnel(WATER, AIR, inside), strict=True):
        assert into == pytest.approx(out, rel=1e-9)


def test_the_film_is_the_sum_over_bounces() -> None:
    angle, ground = np.linspace(0.05, 1.5, 40), np.linspace(0.05, 1.0, 40)
    inside = np.arcsin(np.sin(angle) * AIR / WATER)
    into, out = fresnel(AIR, WATER, angle), fresnel(WATER, AIR, inside)
    expected = []
    for (_, t_in), (r_out, t_out) in zip(into, out, strict=True):
        light, total = t_in * ground, np.zeros(40)
        for _ in range(2000):
            total += light * t_out
            light = light * r_out * ground
        expected.append(total)
    assert film_transmission(angle, ground) == pytest.approx(np.maximum(*expected), rel=1e-6)


def road(count: int = 4000, seed: int = 0, reflectance: float = 0.04, sensor=SEMANTICKITTI, tilt: float = 0.0):
    """Makes a flat road with one reflectance per metre of distance, and a wall of 300 points above it."""
    rng = np.random.default_rng(seed)
    azimuth, far = rng.uniform(-np.pi, np.pi, count), rng.uniform(3.0, 60.0, count)
    x, y = far * np.cos(azimuth), far * np.sin(azimuth)
    xyz = np.c_[x, y, -1.73 + tilt * x]
    distance = np.linalg.norm(xyz, axis=1)
    intensity = reflectance * distance * (1.73 / distance) * rng.uniform(0.5, 1.5, count)
    wall = np.c_[np.full(300, 20.0), rng.uniform(-5, 5, 300), rng.uniform(-0.5, 3.0, 300)]
    labels = np.r_[np.full(count, sensor.ground[0]), np.full(300, 13 if sensor is SEMANTICKITTI else 15)]
    return make_sweep(
        np.r_[xyz, wall], sensor.intensity_max * np.r_[intensity, np.full(300, 0.5)], labels=labels, sensor=sensor
    )


def slow_wet(sweep, height, floor, weakest=5 / 255):
    """Computes row -> intensity of the remaining points, one by one, with Fresnel's equations in sines and tangents."""
    unit = sweep.sensor.intensity_max
    ground = [i for i in range(len(sweep)) if sweep.labels[i] in sweep.sensor.ground]
    d = {i: math.dist((0, 0, 0), sweep.xyz[i].tolist()) for i in ground}
    cos = {i: -float(sweep.xyz[i, 2]) / d[i] for i in ground}
    normal = {i: float(sweep.intensity[i]) / unit / cos[i] for i in ground}
    a, b = np.polyfit([d[i] for i in ground], [normal[i] for i in ground], 1)
    bins: dict[int, list[float]] = {}
    for i in ground:
        if 10 <= d[i] < 70 and normal[i] > weakest:
            bins.setdefault(int((d[i] - 10) / 1.2), []).append(normal[i])
    lows = [(10 + (k + 0.5) * 1.2, min(values)) for k, values in bins.items() if len(values) > 5]
    low_a, low_b = np.polyfit([x for x, _ in lows], [y for _, y in lows], 1) if len(lows) > 3 else (a, b)
    wetness = min(max(height / 1.2, 0.0), 1.0)
    kept = {}
    for i in range(len(sweep)):
        if i not in d:
            kept[int(sweep.rows[i])] = float(sweep.intensity[i])
            continue
        power = 15 * (a * d[i] + b)
        rho = normal[i] / power
        theta = math.acos(cos[i])
        inner = math.asin(math.sin(theta) * AIR / WATER)
        r_s = (math.sin(theta - inner) / math.sin(theta + inner)) ** 2
        r_p = (math.tan(theta - inner) / math.tan(theta + inner)) ** 2
        held = min(max(rho, 0.05), 1.0)
        film = max((1 - r) ** 2 * held / (1 - held * r) for r in (r_s, r_p))
        new = min(power * cos[i] * ((1 - wetness) * rho + wetness * film / theta), float(sweep.intensity[i]) / unit)
        if new > floor * min(low_a * d[i] + low_b, a * d[i] + b) * cos[i]:
            kept[int(sweep.rows[i])] = new * unit
    return kept


@pytest.mark.parametrize("sensor", [SEMANTICKITTI, NUSCENES], ids=lambda s: s.name)
@pytest.mark.parametrize(("height", "floor"), [(0.2, 0.3), (1.0, 0.3), (1.2, 0.7)])
@pytest.mark.parametrize("weakest", [5 / 255, math.inf])
def test_wet_ground_is_what_the_slow_version_gives(height, floor, weakest, sensor) -> None:
    sweep = road(sensor=sensor)
    wet = wet_ground(sweep, np.random.default_rng(0), water_height=height, noise_floor=floor, weakest=weakest)
    slow = slow_wet(sweep, height, floor, weakest)
    assert wet.rows.tolist() == [row for row in sweep.rows.tolist() if row in slow]
    assert wet.intensity == pytest.approx([slow[row] for row in wet.rows.tolist()], rel=1e-4, abs=1e-6)
    assert well_formed(wet)


def test_more_water_leaves_less() -> None:
    sweep = road()
    left = [
        len(wet_ground(sweep, np.random.default_rng(0), water_height=h, weakest=math.inf)) for h in (0, 0.4, 0.8, 1.2)
    ]
    assert left == sorted(left, reverse=True) and left[-1] < left[0]


def test_only_the_ground_is_touched_and_the_order_kept() -> None:
    sweep = road()
    wet = wet_ground(sweep, np.random.default_rng(0), water_height=1.2, weakest=math.inf)
    assert (np.diff(wet.rows) < 0).all() and not wet.altered.any()
    wall = ~np.isin(sweep.labels, SEMANTICKITTI.ground)
    assert same_sweep(wet.select(~np.isin(wet.labels, SEMANTICKITTI.ground)), sweep.select(wall))
    row = {int(r): i for i, r in enumerate(sweep.rows)}
    before = sweep.select(np.array([row[int(r)] for r in wet.rows]))
    assert np.array_equal(wet.xyz, before.xyz) and (wet.intensity <= before.intensity).all()


def test_little_ground_is_left_alone() -> None:
    sweep = road(999)
    assert wet_ground(sweep, np.random.default_rng(0)) is sweep
    assert len(wet_ground(sweep, np.random.default_rng(0), min_ground=0, weakest=math.inf)) < len(sweep)
    empty = random_sweep(0)
    assert len(wet_ground(empty, np.random.default_rng(0), min_ground=0, ground="plane")) == 0


def test_a_tilted_plane_is_found_without_labels() -> None:
    sweep = road(tilt=0.1)
    ground = find_ground(sweep, np.random.default_rng(0), "plane")
    labelled = np.flatnonzero(sweep.labels == SEMANTICKITTI.ground[0])
    assert np.isin(labelled, ground.rows).mean() > 0.99
    normal = np.array([-0.1, 0.0, 1.0]) / math.hypot(0.1, 1.0)
    expected = -(sweep.xyz[ground.rows] @ normal) / sweep.ranges()[ground.rows]
    assert ground.cosine == pytest.approx(expected, abs=2e-3)
    assert well_formed(wet_ground(sweep, np.random.default_rng(0), ground="plane"))


@pytest.mark.parametrize("ground", ["labels", "plane"])
def test_strange_sweeps_give_no_nan(ground) -> None:
    """The ground is straight below the sensor, above it, at it, dark, or all in one place."""
    straight = make_sweep([[0, 0, -1.7]] * 20 + [[0, 0, 0], [5, 0, 2]], 0.5, labels=[9] * 22)
    dark = make_sweep(random_sweep(200).xyz, 0.0, labels=[9] * 200)
    for sweep in (straight, dark):
        assert well_formed(wet_ground(sweep, np.random.default_rng(0), ground=ground, min_ground=0))


def test_the_low_fit_follows_the_weakest_of_each_bin() -> None:
    distance = np.repeat(np.linspace(10.5, 69.5, 50), 8)
    normalised = np.tile([1.0, 2, 3, 4, 5, 6, 7, 8], 50) * (0.1 + 0.01 * distance)
    ground = Ground(np.arange(400), distance, np.full(400, 0.1), normalised)
    low = fit_return(ground, 0.0).low
    assert low[0] * 40 + low[1] == pytest.approx(0.5, rel=0.02)
    few = fit_return(ground, math.inf)
    assert few.low == few.mean and few.mean[0] * 40 + few.mean[1] == pytest.approx(4.5 * 0.5, rel=1e-6)


def test_the_noise_is_never_above_the_mean_return_nor_below_zero() -> None:
    """A low fit from a few far bins, which is flat and high, must not be used for the ground near the sensor."""
    distance = np.array([5.0, 30.0, 60.0, 200.0])
    fits = GroundReturn(mean=(0.064, 0.64), low=(0.01, 3.0))
    assert fits.noise(distance, 0.5) == pytest.approx([0.5 * 0.96, 0.5 * 2.56, 0.5 * 3.6, 0.5 * 5.0])
    assert GroundReturn(mean=(0.064, 0.64), low=(0.05, -0.5)).noise(distance[:1], 0.7) == pytest.approx([0.0])


def test_a_wrong_ground_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="needed"):
        wet_ground(road(), np.random.default_rng(0), ground="map")  # type: ignore[arg-type]


def test_a_real_scan_loses_ground_far_away_first() -> None:
    sweep = real_sweep()
    wet = wet_ground(sweep, np.random.default_rng(0), water_height=1.2, weakest=math.inf)
    ground = np.isin(sweep.labels, SEMANTICKITTI.ground)
    left = np.isin(sweep.rows, wet.rows)
    assert left[~ground].all() and 0.05 < left[ground].mean() < 0.95
    assert sweep.ranges()[ground & left].mean() < sweep.ranges()[ground & ~left].mean()
    assert same_sweep(wet, wet_ground(sweep, np.random.default_rng(9), water_height=1.2, weakest=math.inf))
