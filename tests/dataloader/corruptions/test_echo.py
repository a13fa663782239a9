from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dataloader.corruptions.echo import incomplete_echo
from tests.support.corruptions import made_up_sweep, same
from utils.scan.sensor import NUSCENES, SEMANTICKITTI

# Robo3D: car, bicycle, motorcycle, truck, other-vehicle; bicycle, bus, car, construction, motorcycle, trailer, truck.
VEHICLES = {"SemanticKITTI": {1, 2, 3, 4, 5}, "nuScenes": {2, 3, 4, 5, 6, 9, 10}}


@pytest.mark.parametrize("sensor", [SEMANTICKITTI, NUSCENES], ids=lambda sensor: sensor.name)
@pytest.mark.parametrize("ratio", [0.75, 0.85, 0.95])
def test_vehicles_lose_a_fixed_share_and_nothing_else_does(sensor, ratio):
    sweep = made_up_sweep(4003, sensor)
    found = incomplete_echo(sweep, np.random.default_rng(0), ratio)
    for label in range(20):
        before, after = int((sweep.labels == label).sum()), int((found.labels == label).sum())
        assert after == before - (int(ratio * before) if label in VEHICLES[sensor.name] else 0)
    assert same(found, sweep.select(np.isin(sweep.rows, found.rows)))


def test_a_class_of_ten_points_stays_whole():
    sweep = replace(made_up_sweep(21), labels=np.repeat([1, 4], [10, 11]).astype(np.uint8))
    found = incomplete_echo(sweep, np.random.default_rng(0), 0.95)
    assert np.bincount(found.labels, minlength=5).tolist() == [0, 10, 0, 0, 1]


def test_which_points_go_is_random():
    sweep = replace(made_up_sweep(40), labels=np.full(40, 1, np.uint8))
    lost = np.zeros(40)
    for seed in range(400):
        lost[np.setdiff1d(sweep.rows, incomplete_echo(sweep, np.random.default_rng(seed), 0.75).rows)] += 1
    assert lost.min() > 240 and lost.max() < 360  # 300 expected, deviation 8.7


def test_other_classes_and_an_empty_sweep():
    sweep = made_up_sweep(1000)
    found = incomplete_echo(sweep, np.random.default_rng(0), 1.0, classes=(9,))
    assert same(found, sweep.select(sweep.labels != 9))
    assert len(incomplete_echo(made_up_sweep(0), np.random.default_rng(0))) == 0
