"""LiDAR and camera, compared with their options and the KITTI formulas."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.support.demo import read_calibration, read_scan, scene_of, thing
from tools.demo_world import semantickitti
from tools.demo_world.geometry.materials import REFLECTANCE, Material
from tools.demo_world.geometry.raycast import Shape
from tools.demo_world.options import DemoOptions
from tools.demo_world.semantickitti import write_tree
from tools.demo_world.sensors import camera, lidar
from tools.demo_world.street.objects import put


def wall_sweep(**changes):
    """Measures a wall that fills the view ahead of the sensor, 10 m away."""
    scene = scene_of(put(thing(Shape.BOX, (1, 400, 400)), (11.0, 0, 0), 0.0))
    spec = lidar.LidarSpec(
        **{"beams": 32, "azimuth_steps": 1024, "range_noise": 0.0, "dropout": 0.0, "ghosts": 0.0, **changes}
    )
    return lidar.sweep(scene, np.eye(4), spec, np.random.default_rng(0))


def test_lidar_without_noise_is_exact():
    swept = wall_sweep()
    np.testing.assert_allclose(swept.xyz[:, 0], 10.0, atol=1e-4)
    elevation = np.degrees(np.arcsin(swept.xyz[:, 2] / np.linalg.norm(swept.xyz, axis=1)))
    np.testing.assert_allclose(elevation, np.linspace(2.0, -24.8, 32)[swept.beam], atol=1e-3)


def test_range_noise_is_along_the_ray():
    xyz = wall_sweep(range_noise=0.05).xyz.astype(np.float64)
    distance = np.linalg.norm(xyz, axis=1)
    error = distance - 10.0 * distance / xyz[:, 0]
    assert error.std() == pytest.approx(0.05, rel=0.05)
    assert abs(error.mean()) < 0.005


def test_dropout_is_the_share_of_lost_points():
    near = {"reach": 1e6}  # nothing is too faint
    assert len(wall_sweep(dropout=0.3, **near).xyz) / len(wall_sweep(**near).xyz) == pytest.approx(0.7, abs=0.02)


def test_shadow_falls_where_a_ray_to_the_sun_says():
    """One box hangs in the air; positions on the plane z = 0 are judged by walking towards the sun."""
    half, centre = np.array([2.0, 1.0, 0.5]), np.array([1.0, -1.0, 4.0])
    scene = scene_of(put(thing(Shape.BOX, tuple(half)), tuple(centre), 0.0))
    shadows = camera.cast_shadows(scene, np.zeros(3), reach=12, texel=0.05)
    points = np.zeros((3000, 3), np.float32)
    points[:, :2] = np.random.default_rng(0).uniform(-6, 6, (3000, 2))
    lit = shadows.lit(points, np.array([[0, 0, 1]], np.float32))
    walk = points[:, None] + np.arange(0, 8, 0.01)[None, :, None] * scene.sun
    blocked = np.any((np.abs(walk - centre) <= half).all(axis=-1), axis=-1)
    assert blocked.sum() > 50
    assert np.mean((lit > 0.5) == ~blocked) > 0.985  # all but the edge


def test_points_projected_with_the_calibration_meet_the_pixels_surface(tmp_path):
    """The pixel of a point is P2 [Tr; 0 0 0 1] (x, y, z, 1) as in KITTI; camera and LiDAR stand apart, so edges
    differ."""
    options = DemoOptions(2, 1, 1, range_noise=0.0, dropout=0.0, beams=16, image_size=(620, 188))
    write_tree(tmp_path, options)
    calib = read_calibration(tmp_path, "00")
    scene, swept, picture = semantickitti.observe(options, 0, 1)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "00" / "image_2" / "000001.png")), picture.image)
    scan = read_scan(tmp_path, "00", 1)
    np.testing.assert_array_equal(scan[:, :3], swept.xyz)

    homogeneous = np.column_stack([scan[:, :3].astype(np.float64), np.ones(len(scan))])
    u, v, w = calib["P2"] @ np.vstack([calib["Tr"], [0, 0, 0, 1]]) @ homogeneous.T
    ahead = (scan[:, 0] > 0) & (u > 3 * w) & (u < 617 * w) & (v > 3 * w) & (v < 185 * w)
    ahead &= swept.primitive > 0  # no ghosts
    column, row = (u / w)[ahead].astype(int), (v / w)[ahead].astype(int)
    point, depth = swept.primitive[ahead], w[ahead]

    around = np.lib.stride_tricks.sliding_window_view(picture.primitive, (7, 7)).reshape(182, 614, 49)
    flat = (around == around[..., :1]).all(axis=-1)[row - 3, column - 3]
    assert flat.sum() > 500
    kind = scene.primitives["kind"]
    same = kind[picture.primitive[row, column]] == kind[point]
    close = np.abs(picture.depth[row, column] - depth) < 0.1 + 0.03 * depth  # a pixel of road covers metres far off
    assert np.mean(same[flat]) > 0.97
    assert np.mean(close[flat]) > 0.97
    # and it is the calibration that makes them meet: a shift of ten pixels does not.
    assert np.mean(kind[picture.primitive[row, (column + 30) % 620]] == kind[point]) < 0.9


def test_reflectance_of_a_material_is_an_option():
    """A painted wall is seen along its normal: the sensor measures its reflectance and noise of 0.03."""
    column = wall_sweep(beams=2, azimuth_steps=8192)
    usual, dark = column, wall_sweep(beams=2, azimuth_steps=8192, reflectance=(("PAINTED", 0.1), ("METAL", 0.9)))
    for swept, wanted in ((usual, REFLECTANCE[Material.PAINTED]), (dark, 0.1)):
        ahead = np.abs(swept.xyz[:, 1]) < 2
        assert swept.reflectance[ahead].mean() == pytest.approx(wanted, abs=0.02)
