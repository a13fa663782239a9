"""Snow, compared with a slow beam-by-beam version and with published statistics, and its properties."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dataloader.corruptions.ground import find_ground, fit_return
from dataloader.corruptions.snow import Focus, detection_threshold, scatter, snow, strongest_return
from dataloader.corruptions.snowflakes import Flakes, draw_flakes, occlusion, snowfall
from tests.support.weather import make_sweep, random_sweep, real_sweep, same_sweep, well_formed
from utils.scan.sensor import NUSCENES, SEMANTICKITTI

DIVERGENCE = 3e-3
PULSE = 299_792_458.0 * 10e-9


# ---- particles


@pytest.mark.parametrize(
    ("rate", "velocity", "rain", "occupancy", "gunn", "sekhon", "discs"),
    [
        (0.5, 2.0, 2.2384, 6.944e-7, 17.32, 15.94, 40_001),
        (1.0, 1.6, 8.8480, 1.736e-6, 8.955, 8.585, 26_730),
        (2.5, 1.6, 34.975, 4.340e-6, 4.630, 4.625, 17_864),
        (1.5, 0.6, 70.784, 6.944e-6, 3.300, 3.368, None),
    ],
)
def test_the_published_statistics(rate, velocity, rain, occupancy, gunn, sekhon, discs) -> None:
    statistics = snowfall(rate, velocity)
    assert statistics.rain_rate == pytest.approx(rain, rel=1e-4)
    assert statistics.occupancy == pytest.approx(occupancy, rel=1e-3)
    assert statistics.slope / 100 == pytest.approx(gunn, rel=3e-4)
    assert snowfall(rate, velocity, "sekhon").slope / 100 == pytest.approx(sekhon, rel=4e-4)
    if discs is not None:
        assert statistics.flakes_per_line == pytest.approx(discs, rel=3e-4)


@pytest.mark.parametrize(("rate", "velocity"), [(0.5, 2.0), (2.5, 1.6)])
def test_drawn_flakes_have_the_statistics_they_are_drawn_from(rate, velocity) -> None:
    statistics = snowfall(rate, velocity)
    flakes = draw_flakes(statistics, np.full(6, 80.0), np.random.default_rng(0))
    assert len(flakes.line) == pytest.approx(6 * statistics.flakes_per_line, rel=1e-4)
    assert (np.diff(flakes.line) >= 0).all() and (flakes.radius <= 0.01).all()
    assert np.mean(flakes.radius**2) == pytest.approx(1 / (3 * statistics.slope**2), rel=0.05)
    assert np.pi * np.sum(flakes.radius**2) / (6 * np.pi * 80**2) == pytest.approx(statistics.occupancy, rel=0.05)
    # Uniform over the disc: quartiles of distance^2 and azimuth.
    assert np.quantile((flakes.distance / 80) ** 2, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.01)
    assert np.quantile(flakes.azimuth / (2 * np.pi), [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.01)


def test_flakes_beyond_the_line_are_dropped() -> None:
    reach = np.array([0.0, 10.0, 40.0])
    flakes = draw_flakes(snowfall(1.0, 1.6), reach, np.random.default_rng(0))
    assert set(flakes.line) == {1, 2} and (flakes.distance < reach[flakes.line]).all()
    assert (flakes.line == 1).sum() == pytest.approx(26_730 / 64, rel=0.2)


@pytest.mark.parametrize("wrong", [(-1.0, 1.0, "gunn"), (1.0, 0.0, "gunn"), (1.0, 1.0, "marshall")])
def test_wrong_snowfall_is_refused(wrong) -> None:
    with pytest.raises(ValueError, match="needed"):
        snowfall(*wrong)


# ---- the slow version: one beam, one flake at a time


def slow_shares(flakes: Flakes, line: int, azimuth: float, distance: float) -> tuple[list[tuple[float, float]], float]:
    """Lists (distance, share) of the flakes in a beam, front to back, and returns the share left for its point."""
    gaps = [(-DIVERGENCE / 2, DIVERGENCE / 2)]  # unclaimed parts of the beam
    shares = []
    of_line = [i for i in np.flatnonzero(flakes.line == line) if flakes.distance[i] < distance]
    for i in sorted(of_line, key=lambda i: flakes.distance[i]):
        offset = math.remainder(float(flakes.azimuth[i]) - azimuth, 2 * math.pi)
        half = math.asin(flakes.radius[i] / flakes.distance[i])
        low, high = max(offset - half, -DIVERGENCE / 2), min(offset + half, DIVERGENCE / 2)
        if low >= high:
            continue
        claimed, left = 0.0, []
        for a, b in gaps:
            inner = (max(a, low), min(b, high))
            if inner[0] < inner[1]:
                claimed += inner[1] - inner[0]
                left += [(x, y) for x, y in ((a, inner[0]), (inner[1], b)) if x < y]
            else:
                left.append((a, b))
        gaps = left
        shares.append((float(flakes.distance[i]), claimed / DIVERGENCE))
    return shares, sum(b - a for a, b in gaps) / DIVERGENCE


def slow_report(shares, visible, intensity, distance, mode, full, loss) -> tuple[float, float, bool]:
    """Computes the intensity (0..255) and range that one beam reports, and whether that is a flake."""
    if not any(share > 0 for _, share in shares):
        return intensity, distance, False
    echoes = [(d, 0.9 * full * share) for d, share in shares if share > 0]
    target = min(max(intensity - 255 * loss(distance), 0.0), full) * distance**2 if mode == "physical" else 0.9 * full
    echoes.append((distance, target * visible))
    best, where = 0.0, None
    for step in range(int((distance + PULSE) / 0.1) + 1):
        total, at = 0.0, step * 0.1
        for d, strength in echoes:
            if d <= at <= d + PULSE:
                overlap = min(max((d - 0.9) / 0.1, 0.0), 1.0)
                total += strength * overlap / d**2 * math.sin(math.pi * (at - d) / PULSE) ** 2
        if total > best:
            best, where = total, at
    if where is None:
        return 0.0, distance, False
    new = where - PULSE / 2
    reported = math.trunc(min(max(best + full * loss(new), 0.0), full))
    return (reported, distance, False) if abs(new - distance) < 0.2 else (reported, new, True)


def crowded(seed: int, flakes: int = 400, beams: int = 60):
    """Makes large flakes, several per beam; some beams and flakes are at azimuth 0 or next to the sensor."""
    rng = np.random.default_rng(seed)
    azimuth = np.where(rng.random(beams) < 0.3, rng.uniform(-0.002, 0.002, beams), rng.uniform(-np.pi, np.pi, beams))
    line = rng.integers(0, 3, beams)
    # Flakes gather around the beams, so that many overlap.
    near = rng.integers(0, beams, flakes)
    centre = np.mod(azimuth[near] + rng.normal(0, 2.5e-3, flakes), 2 * np.pi)
    distance = np.where(rng.random(flakes) < 0.1, rng.uniform(0.02, 1.0, flakes), rng.uniform(1.0, 70.0, flakes))
    radius = np.minimum(rng.exponential(0.01, flakes), 0.99 * distance)
    order = np.argsort(line[near], kind="stable")
    return (
        Flakes(line[near][order], centre[order], distance[order], radius[order]),
        line, azimuth, rng.uniform(2.0, 75.0, beams), np.round(255 * rng.random(beams) * (rng.random(beams) > 0.1)),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_shares_are_claimed_front_to_back(seed) -> None:
    flakes, line, azimuth, distance, _ = crowded(seed)
    shade = occlusion(flakes, line, azimuth, distance, DIVERGENCE)
    most = 0
    for beam in range(len(line)):
        shares, visible = slow_shares(flakes, line[beam], azimuth[beam], distance[beam])
        mine = shade.beam == beam
        assert shade.distance[mine].tolist() == [d for d, _ in shares]
        assert shade.share[mine] == pytest.approx([share for _, share in shares], abs=1e-12)
        assert shade.visible[beam] == pytest.approx(visible, abs=1e-12)
        most = max(most, len(shares))
    assert most > 8
    assert np.bincount(shade.beam, shade.share, len(line)) + shade.visible == pytest.approx(np.ones(len(line)))


@pytest.mark.parametrize("mode", ["physical", "reference"])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("focused", [False, True])
def test_what_is_reported_is_what_the_slow_version_reports(seed, mode, focused) -> None:
    flakes, line, azimuth, distance, intensity = crowded(seed, flakes=150)
    focus = Focus(np.array([12.5, 0.25, 24.0]), np.array([0.8, 0.4, 2.0])) if focused else None
    full = np.where(line == 1, 230.0, 255.0)
    shade = occlusion(flakes, line, azimuth, distance, DIVERGENCE)
    got = scatter(shade, intensity, distance, line, mode=mode, full=full, focus=focus)
    for beam in range(len(line)):

        def loss(d: float, beam: int = beam) -> float:
            if focus is None:
                return 0.0
            best = (1 - 100 * float(focus.distance[line[beam]]) / 13100) ** 2
            return float(focus.slope[line[beam]]) * abs(best - (1 - d / 120) ** 2)

        shares, visible = slow_shares(flakes, line[beam], azimuth[beam], distance[beam])
        slow = slow_report(shares, visible, intensity[beam], distance[beam], mode, full[beam], loss)
        assert (got[0][beam], got[2][beam]) == (slow[0], slow[2])
        assert got[1][beam] == pytest.approx(slow[1], abs=1e-9)
    assert got[2].any() and not got[2].all()


def test_a_beam_hidden_by_flakes_at_the_window_answers_nothing() -> None:
    """Below 0.9 m the receiver sees nothing, so flakes there only hide: no echo may come from rounding."""
    flakes = Flakes(np.zeros(7, np.int64), np.linspace(0.9985, 1.0015, 7), np.full(7, 0.5), np.full(7, 2e-4))
    shade = occlusion(flakes, np.zeros(1), np.ones(1), np.array([20.0]), DIVERGENCE)
    assert shade.visible[0] == 0.0 and shade.share.sum() == pytest.approx(1.0)
    focus = Focus(np.array([12.5]), np.array([0.8]))
    for mode in ("physical", "reference"):
        got = scatter(shade, np.array([200.0]), np.array([20.0]), np.zeros(1, np.int64), mode=mode,
                      full=np.array([255.0]), focus=focus)  # fmt: skip
        assert [column[0] for column in got] == [0.0, 20.0, False]


def test_more_beams_than_are_summed_at_once() -> None:
    """Each beam's result does not depend on the beams beside it."""
    rng = np.random.default_rng(0)
    beam = np.sort(rng.integers(0, 5000, 9000))
    distance, amplitude = rng.uniform(1, 70, 9000), rng.uniform(0, 200, 9000)
    ranges, signal = strongest_return(beam, distance, amplitude, 5000)
    for one in (0, 17, 2047, 2048, 4999):
        mine = beam == one
        alone = strongest_return(np.zeros(mine.sum(), np.int64), distance[mine], amplitude[mine], 1)
        assert (alone[0][0], alone[1][0]) == (ranges[one], signal[one])


# ---- the corruption


def test_an_unhidden_point_keeps_its_intensity_in_the_signal() -> None:
    """A single pulse has its maximum A / R^2 half its length after its range, up to the grid of 0.1 m."""
    distance = np.array([5.0, 33.33, 71.0])
    ranges, signal = strongest_return(np.arange(3), distance, 80.0 * distance**2, 3)
    assert ranges - PULSE / 2 == pytest.approx(distance, abs=0.051)
    assert (signal <= 80.0).all() and (signal >= 80.0 * math.cos(math.pi * 0.051 / PULSE) ** 2).all()


@pytest.mark.parametrize("sensor", [SEMANTICKITTI, NUSCENES], ids=lambda s: s.name)
@pytest.mark.parametrize("mode", ["physical", "reference"])
@pytest.mark.parametrize("count", [0, 1, 5000])
def test_snow_is_well_formed_and_repeats(count, mode, sensor) -> None:
    sweep = random_sweep(count, sensor=sensor)
    runs = [snow(sweep, np.random.default_rng(5), rate=2.5, mode=mode) for _ in range(2)]
    assert same_sweep(*runs) and well_formed(runs[0])
    assert (np.diff(runs[0].rows) < 0).all()  # the order of the sweep
    assert runs[0].intensity.min(initial=0) >= 0 and runs[0].intensity.max(initial=0) <= sensor.intensity_max


@pytest.mark.parametrize("mode", ["physical", "reference"])
def test_scattered_points_come_nearer_on_their_ray_and_the_rest_stays(mode) -> None:
    sweep = random_sweep(6000)
    sweep.intensity[::3] = 0.0  # a dark point answers less than any flake
    snowed = snow(sweep, np.random.default_rng(1), rate=2.5, mode=mode, delete=False)
    hit = snowed.altered
    assert 0.01 < hit.mean() < 0.5 and np.array_equal(snowed.rows, sweep.rows)
    assert np.array_equal(snowed.xyz[~hit], sweep.xyz[~hit])
    assert (snowed.ranges()[hit] < sweep.ranges()[hit]).all() and (snowed.ranges()[hit] > 0.5).all()
    cosine = np.einsum("ij,ij->i", snowed.xyz[hit], sweep.xyz[hit]) / snowed.ranges()[hit] / sweep.ranges()[hit]
    assert cosine == pytest.approx(np.ones(hit.sum()), abs=1e-5)


def test_the_intensity_scale_does_not_matter() -> None:
    kitti = random_sweep(4000)
    bytes_ = make_sweep(kitti.xyz, kitti.intensity * 255, labels=kitti.labels, ring=kitti.ring % 32, sensor=NUSCENES)
    units = make_sweep(kitti.xyz, kitti.intensity, labels=kitti.labels, ring=kitti.ring % 32,
                       sensor=NUSCENES.__class__(**{**vars(NUSCENES), "intensity_max": 1.0}))  # fmt: skip
    first, second = (snow(s, np.random.default_rng(2), delete=False) for s in (bytes_, units))
    assert np.array_equal(first.altered, second.altered)
    assert second.intensity * 255 == pytest.approx(first.intensity, abs=1.01)


def test_no_snow_changes_nothing_and_deletes_only_weak_points() -> None:
    sweep = random_sweep(5000)
    assert same_sweep(snow(sweep, np.random.default_rng(0), rate=0.0, delete=False), sweep)
    left = snow(sweep, np.random.default_rng(0), rate=0.0)
    threshold = detection_threshold(sweep, np.random.default_rng(0), noise_floor=0.7, weakest=5 / 255,
                                    ground="labels", min_ground=1000, mode="physical")  # fmt: skip
    assert threshold is not None and 0 < len(left) < len(sweep)
    assert left.rows.tolist() == sweep.rows[255.0 * sweep.intensity.astype(np.float64) > threshold].tolist()


def test_points_of_intensity_0_are_deleted_even_where_the_threshold_is_0() -> None:
    sweep = random_sweep(5000)
    sweep.intensity[::3] = 0.0
    left = snow(sweep, np.random.default_rng(0), rate=0.0, noise_floor=0.0)
    assert left.rows.tolist() == sweep.rows[sweep.intensity > 0].tolist()


def test_a_flake_is_reported_however_weak() -> None:
    sweep = random_sweep(6000)
    sweep.intensity[::3] = 0.0
    whole = snow(sweep, np.random.default_rng(0), rate=2.5, delete=False)
    left = snow(sweep, np.random.default_rng(0), rate=2.5, noise_floor=1e6)
    assert len(left) < 0.5 * len(whole) and left.altered.sum() == whole.altered.sum() > 20


def test_the_threshold_is_the_polynomial_through_the_ground_points() -> None:
    sweep = random_sweep(4000)
    ground = find_ground(sweep, np.random.default_rng(0))
    each = 255 * 0.7 * fit_return(ground, 5 / 255).noise(ground.distance, 1.0) * ground.cosine
    expected = np.polyval(np.polyfit(ground.distance, each, 2), sweep.ranges())
    options = {"noise_floor": 0.7, "weakest": 5 / 255, "ground": "labels", "min_ground": 1000}
    raw = detection_threshold(sweep, np.random.default_rng(0), mode="reference", **options)
    assert raw == pytest.approx(expected, rel=1e-6, abs=1e-6)
    held = detection_threshold(sweep, np.random.default_rng(0), mode="physical", **options)
    assert held is not None and (held >= 0).all()
    inside = (sweep.ranges() <= ground.distance.max()) & (sweep.ranges() >= ground.distance.min())
    assert held[inside] == pytest.approx(np.maximum(expected[inside], 0), rel=1e-6, abs=1e-6)


def test_without_ground_nothing_is_deleted() -> None:
    sweep = random_sweep(1500)  # 750 ground points
    assert len(snow(sweep, np.random.default_rng(0))) == 1500


def test_a_wrong_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="needed"):
        snow(random_sweep(5), np.random.default_rng(0), mode="other")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rate", "velocity", "touched", "physical", "reference", "median"),
    [(0.5, 2.0, 0.368, 0.046, 0.026, 13.2), (1.0, 1.6, 0.296, 0.043, 0.030, 15.9), (2.5, 1.6, 0.237, 0.038, 0.032, 18)],
)
def test_figures_of_a_real_scan(rate, velocity, touched, physical, reference, median) -> None:
    """The figures of an independent prototype, for one scan and one seed, are met within about a tenth."""
    sweep = real_sweep()
    azimuth = np.arctan2(sweep.xyz[:, 1].astype(float), sweep.xyz[:, 0].astype(float))
    reach = np.zeros(64)
    np.maximum.at(reach, sweep.ring, sweep.ranges())
    flakes = draw_flakes(snowfall(rate, velocity), reach, np.random.default_rng(0))
    shade = occlusion(flakes, sweep.ring, azimuth, sweep.ranges(), DIVERGENCE)
    assert len(np.unique(shade.beam[shade.share > 0])) / len(sweep) == pytest.approx(touched, rel=0.05)
    for mode, share in (("physical", physical), ("reference", reference)):
        snowed = snow(sweep, np.random.default_rng(0), rate=rate, velocity=velocity, delete=False, mode=mode)  # type: ignore[arg-type]
        assert snowed.altered.mean() == pytest.approx(share, rel=0.12)
        if mode == "physical":
            assert np.median(snowed.ranges()[snowed.altered]) == pytest.approx(median, rel=0.12)
