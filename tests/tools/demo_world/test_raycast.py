"""Rays, surfaces and ground against slow and obvious geometry."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.demo import scene_of, thing
from tools.demo_world import semantickitti
from tools.demo_world.geometry import raycast
from tools.demo_world.geometry.ground import CURB, Zone, raised
from tools.demo_world.geometry.raycast import Shape
from tools.demo_world.geometry.surfaces import surfaces
from tools.demo_world.sensors import camera, lidar
from tools.demo_world.street import world
from tools.demo_world.street.objects import put


def inside(shape, unit):
    """Returns whether (n, 3) positions lie in a unit shape, by the shapes' cross-sections."""
    x, y, z = np.abs(unit[:, 0]), np.abs(unit[:, 1]), unit[:, 2]
    height = (z + 1) / 2  # 0 at the bottom, 1 at the top
    slab = (height >= 0) & (height <= 1)
    if shape == Shape.BOX:
        return slab & (x <= 1) & (y <= 1)
    if shape == Shape.GABLE:
        return slab & (x <= 1) & (y <= 1 - height)
    if shape == Shape.CABIN:
        return slab & (x <= 1 - 0.32 * height) & (y <= 1 - 0.16 * height)
    if shape == Shape.COLUMN:
        return slab & (x * x + y * y <= 1)
    return x * x + y * y + z * z <= 1


@pytest.mark.parametrize("shape", [Shape.BOX, Shape.GABLE, Shape.CABIN, Shape.BALL, Shape.COLUMN])
def test_cast_finds_what_marching_along_the_ray_finds(shape):
    rng = np.random.default_rng(int(shape))
    half, place, yaw = np.array([1.4, 0.7, 0.9]), np.array([5.0, -2.0, 1.0]), 0.7
    origin = np.array([0.5, 1.0, 0.2])
    targets = place + rng.uniform(-1.6, 1.6, (300, 3))
    directions = (targets - origin) / np.linalg.norm(targets - origin, axis=1, keepdims=True)
    scene = scene_of(put(thing(shape, tuple(half)), tuple(place), yaw))
    hits = raycast.cast(origin, directions[None].astype(np.float32), scene)

    step = 0.004
    t = np.arange(0, 10, step)
    turn = np.array([[np.cos(yaw), np.sin(yaw), 0], [-np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    for ray, found in zip(directions, hits.distance[0], strict=True):
        along = inside(shape, ((origin + t[:, None] * ray - place) @ turn.T) / half)
        if along.any():
            assert abs(t[along.argmax()] - found) <= 1.01 * step
        elif np.isfinite(found):  # a corner cut so short that the march stepped over it
            middle = origin + (found + step / 2) * ray
            near = inside(shape, ((middle - place) @ turn.T / half)[None] * 0.99)
            assert near.all()
    assert 50 < np.isfinite(hits.distance).sum() < 300


@pytest.mark.parametrize("shape", [Shape.BOX, Shape.GABLE, Shape.CABIN, Shape.BALL, Shape.COLUMN])
def test_normals_are_across_the_surface_and_towards_the_viewer(shape):
    rng = np.random.default_rng(3)
    origin, place = np.array([0.0, 0.0, 0.5]), np.array([4.0, 1.0, 0.0])
    middle = place + rng.uniform(-1, 1, (200, 1, 3)) - origin
    rays = middle + 0.004 * np.array([[0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])  # a ray and two close beside it
    rays = (rays / np.linalg.norm(rays, axis=-1, keepdims=True)).astype(np.float32)
    scene = scene_of(put(thing(shape, (1.2, 0.8, 1.0)), tuple(place), -0.4))
    hits = raycast.cast(origin, rays, scene)
    rows = np.isfinite(hits.distance).all(axis=1)
    hits = raycast.Hits(hits.distance[rows], hits.primitive[rows])
    found = surfaces(origin, rays[rows], scene, hits)
    point, normal = found.point.reshape(-1, 3, 3).astype(np.float64), found.normal.reshape(-1, 3, 3)
    slopes = np.cross(point[:, 1] - point[:, 0], point[:, 2] - point[:, 0])
    slopes /= np.linalg.norm(slopes, axis=1, keepdims=True)
    one_face = np.abs(normal - normal[:, :1]).max(axis=(1, 2)) < 0.02
    agreement = np.abs((slopes * normal[:, 0]).sum(axis=1))[one_face]
    assert len(agreement) > 40
    assert agreement.min() > 0.98
    assert ((normal * rays[rows]).sum(axis=-1) < 0.02).all()


def test_ground_is_where_its_height_says():
    street = world.build(5, 0, 60).street
    rng = np.random.default_rng(0)
    origin = np.array([20.0, street.place(20, -1.8)[1], 1.73])
    azimuth, slope = rng.uniform(0, 2 * np.pi, 400), np.radians(rng.uniform(3, 30, 400))
    rays = np.stack([np.cos(azimuth) * np.cos(slope), np.sin(azimuth) * np.cos(slope), -np.sin(slope)], axis=1)
    distance, zone = street.cast(origin, tuple(axis[None].astype(np.float32) for axis in rays.T))
    t = np.arange(2, 40, 0.01)
    curbs = 0
    for ray, reached, hit in zip(rays, distance[0], zone[0], strict=True):
        path = origin + t[:, None] * ray
        height = np.where(raised(street.zone(path[:, 0], path[:, 1])), CURB, 0.0)
        below = path[:, 2] <= height
        if below.any():
            assert abs(t[below.argmax()] - reached) < 0.03
            end = (origin + reached * ray)[2]
            curbs += hit == Zone.CURB
            assert -0.01 < end < CURB + 0.01
            if hit != Zone.CURB:
                assert end == pytest.approx(CURB if raised(hit) else 0.0, abs=1e-3)
    assert curbs > 0


@pytest.mark.parametrize(("s", "d"), [(0.0, 0.0), (13.0, -8.0), (57.0, 21.0), (-40.0, 3.5)])
def test_street_coordinates_undo_place(s, d):
    street = world.build(1, 8, 30).street
    x, y, _ = street.place(s, d)
    back = street.coordinates(np.array([x]), np.array([y]))
    assert back[0][0] == pytest.approx(s, abs=0.02)
    assert back[1][0] == pytest.approx(d, abs=0.02)


def tilted(pose, angle):
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    pose = pose.copy()
    pose[:3, :3] = pose[:3, :3] @ turn
    return pose


@pytest.mark.parametrize("angle", [0.0, 0.15])
def test_windows_lose_nothing(monkeypatch, angle):
    """Trying every primitive on every ray finds the same as trying it only where it can appear."""
    street = world.build(2, 0, 20)
    scene, pose = street.scene(0.4), tilted(semantickitti.lidar_pose(street, 0.4), angle)
    looking = np.eye(4)
    looking[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    intrinsics = np.array([[55.0, 0, 47], [0, 55.0, 31], [0, 0, 1]])

    def observe():
        swept = lidar.sweep(scene, pose, lidar.LidarSpec(24, 200), np.random.default_rng(0))
        seen = camera.render(scene, pose @ looking, intrinsics, (96, 64), np.random.default_rng(0))
        shade = camera.cast_shadows(scene, pose[:3, 3], reach=20, texel=0.5)
        return swept.xyz, swept.primitive, seen.depth, seen.primitive, shade.height

    quick = observe()
    monkeypatch.setattr(lidar, "_windows", lambda *_: None)
    monkeypatch.setattr(camera, "_windows", lambda *_: None)
    monkeypatch.setattr(camera, "_boxes", lambda *_: None)
    for fast, slow in zip(quick, observe(), strict=True):
        np.testing.assert_array_equal(fast, slow)
