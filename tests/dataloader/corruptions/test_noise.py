from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dataloader.corruptions.noise import crosstalk, global_outliers, local_distortion, motion_blur
from tests.support.corruptions import COLUMNS, made_up_sweep, same
from utils.scan.sensor import NUSCENES

ALL = [
    lambda sweep, rng: motion_blur(sweep, rng, 0.3),
    lambda sweep, rng: crosstalk(sweep, rng, 0.01),
    lambda sweep, rng: local_distortion(sweep, rng, 0.1, clip=2.0, jitter_intensity=True),
    lambda sweep, rng: global_outliers(sweep, rng, 0.5, intensity="scan"),
]


@pytest.mark.parametrize("corrupt", ALL)
def test_the_sweep_it_is_given_stays_as_it_is(corrupt):
    sweep, copy = made_up_sweep(), made_up_sweep()
    corrupt(sweep, np.random.default_rng(1))
    assert same(sweep, copy)


@pytest.mark.parametrize("corrupt", ALL)
@pytest.mark.parametrize("count", [0, 1, 7])
def test_types_and_tiny_sweeps(corrupt, count):
    sweep = made_up_sweep(count)
    found = corrupt(sweep, np.random.default_rng(1))
    for name in COLUMNS:
        assert getattr(found, name).dtype == getattr(sweep, name).dtype
        assert getattr(found, name).shape[1:] == getattr(sweep, name).shape[1:]
    assert len({len(getattr(found, name)) for name in COLUMNS}) == 1
    assert np.isfinite(found.xyz).all() and np.isfinite(found.intensity).all()


@pytest.mark.parametrize("corrupt", ALL)
def test_the_draws_come_from_the_generator(corrupt):
    one, again, other = (corrupt(made_up_sweep(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert same(one, again)
    assert not same(one, other)


def test_motion_blur_moves_the_sweep_and_a_little_every_point():
    sweep = made_up_sweep(20000)
    offsets = []
    for seed in range(200):
        found = motion_blur(sweep, np.random.default_rng(seed), 0.25)
        moved = (found.xyz - sweep.xyz).astype(np.float64)
        offset = moved.mean(axis=0)
        offsets.append(offset)
        jitter = moved - offset
        # Clipping at three deviations takes 1.3 % off the deviation.
        assert np.allclose(jitter.std(axis=0), [0.025, 0.025, 0.0125], rtol=0.05)
        assert (np.abs(jitter) <= np.array([0.075, 0.075, 0.0375]) + 0.002).all()
        assert same(found, sweep, tuple(name for name in COLUMNS if name != "xyz"))
    spread = np.array(offsets)
    assert np.allclose(spread.std(axis=0), 0.25, rtol=0.2)
    assert np.abs(spread).max() <= 0.75 + 0.002


def test_the_offset_of_motion_blur_is_clipped():
    class Extreme(np.random.Generator):
        def standard_normal(self, size=(), *args, **kwargs):
            return np.full(size or (), 9.0)

    sweep = made_up_sweep(3)
    moved = motion_blur(sweep, Extreme(np.random.PCG64(0)), 0.2).xyz - sweep.xyz
    assert np.allclose(moved, [0.6 + 0.06, 0.6 + 0.06, 0.6 + 0.03], atol=1e-5)


@pytest.mark.parametrize("sensor_name", ["SemanticKITTI", "nuScenes"])
def test_crosstalk_hits_a_fixed_number_in_place_and_intensity(sensor_name):
    sweep = made_up_sweep(30000) if sensor_name == "SemanticKITTI" else made_up_sweep(30000, NUSCENES)
    found = crosstalk(sweep, np.random.default_rng(3), 0.0299999)
    hit = found.altered
    assert hit.sum() == 899  # the fraction is cut off, not rounded
    assert same(found.select(~hit), sweep.select(~hit))
    noise = np.column_stack([found.xyz - sweep.xyz, found.intensity - sweep.intensity])[hit]
    assert np.allclose(noise.std(axis=0), 3.0, rtol=0.1)  # of any scale of intensity, beyond its bounds too
    assert np.abs(noise.mean(axis=0)).max() < 0.4
    assert np.abs(np.corrcoef(noise.T) - np.eye(4)).max() < 0.15
    assert same(found, sweep, ("labels", "ring", "rows"))
    assert found.intensity.min() < 0


def test_local_distortion_moves_a_fifth():
    sweep = made_up_sweep(30004)
    found = local_distortion(sweep, np.random.default_rng(3), 0.1)
    hit = found.altered
    assert hit.sum() == 6000
    assert same(found.select(~hit), sweep.select(~hit))
    assert same(found, sweep, ("intensity", "labels", "ring", "rows"))
    moved = (found.xyz - sweep.xyz)[hit]
    assert np.allclose(moved.std(axis=0), 0.1, rtol=0.05)
    assert np.abs(moved).max() > 0.3
    clipped = local_distortion(sweep, np.random.default_rng(3), 0.1, clip=2.0)
    assert 0.19 < np.abs(clipped.xyz - sweep.xyz).max() < 0.2001


def test_local_distortion_of_the_intensity_stays_in_bounds():
    sweep = made_up_sweep(5000, NUSCENES)
    found = local_distortion(sweep, np.random.default_rng(3), 0.2, jitter_intensity=True)
    changed = found.intensity - sweep.intensity
    assert found.intensity.min() >= 0 and found.intensity.max() <= 255
    assert np.abs(changed[~found.altered]).max() == 0
    assert 25 < changed[found.altered].std() < 51


def test_an_altered_point_stays_altered():
    sweep = replace(made_up_sweep(100), altered=np.arange(100) < 50)
    for corrupt in ALL:
        assert corrupt(sweep, np.random.default_rng(0)).altered[:50].all()


def test_global_outliers_fill_the_box():
    sweep = made_up_sweep(9999)
    box = (-60.0, -10.0, -4.0, 60.0, 30.0, 8.0)
    found = global_outliers(sweep, np.random.default_rng(3), 0.5, volume=box)
    assert len(found) == 9999 + 4999
    assert same(found.select(np.arange(9999)), sweep)
    added = found.select(np.arange(9999, len(found)))
    assert added.altered.all() and (added.rows == -1).all() and (added.labels == 0).all()
    low, high = np.array(box[:3]), np.array(box[3:])
    share = (added.xyz - low) / (high - low)
    assert share.min() >= 0 and share.max() <= 1
    for axis in range(3):
        counts = np.histogram(share[:, axis], bins=10, range=(0, 1))[0]
        assert np.abs(counts / 500 - 1).max() < 0.2
    assert 0 <= added.intensity.min() < 0.01 and 0.99 < added.intensity.max() <= 1
    assert added.ring.min() >= 0 and added.ring.max() <= 63


def test_options_of_global_outliers():
    sweep = replace(made_up_sweep(1000), intensity=np.where(np.arange(1000) % 2, 0.25, 0.75).astype(np.float32))
    rng = np.random.default_rng(0)
    added = global_outliers(sweep, rng, 0.5, volume=None, intensity="scan").select(np.arange(1000, 1500))
    assert set(added.intensity.tolist()) == {0.25, 0.75}
    assert (added.xyz >= sweep.xyz.min(axis=0)).all() and (added.xyz <= sweep.xyz.max(axis=0)).all()
    assert np.ptp(added.xyz[:, 0]) > 70
    assert global_outliers(sweep, rng, 0.5, intensity="zero").intensity[1000:].max() == 0
    assert len(global_outliers(sweep, rng, 0.0009)) == 1000
