"""The demo data against slow and obvious geometry, against the KITTI formulas, and against itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial import KDTree

from tools import make_demo_data
from tools.demo_world import camera, lidar, raycast, semantickitti, world
from tools.demo_world.ground import CURB, Zone, raised
from tools.demo_world.materials import Material
from tools.demo_world.objects import Kind, part, put
from tools.demo_world.options import DemoOptions
from tools.demo_world.raycast import Scene, Shape
from tools.demo_world.semantickitti import write_tree
from tools.demo_world.surfaces import surfaces
from utils.errors import UserError
from utils.labels import UNKNOWN, LabelMap

TINY = DemoOptions(train_frames=2, val_frames=1, test_frames=1, beams=8, azimuth_steps=128, image_size=(96, 64))
SHORT = DemoOptions(train_frames=4, val_frames=3, test_frames=1, image_size=(96, 64))
LABEL_MAPPING = Path(__file__).parents[2] / "config" / "label_mapping" / "semantic-kitti.yaml"
THINGS = {10, 11, 13, 15, 18, 20, 30, 31, 32, 252, 253, 254, 255, 257, 258, 259}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    output = tmp_path_factory.mktemp("tiny") / "sequences"
    write_tree(output, TINY)
    return output


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """The default sensor for a few frames."""
    output = tmp_path_factory.mktemp("short") / "sequences"
    write_tree(output, SHORT)
    return output


def read_scan(output, sequence, frame):
    return np.fromfile(output / sequence / "velodyne" / f"{frame:06d}.bin", "<f4").reshape(-1, 4)


def read_labels(output, sequence, frame):
    labels = np.fromfile(output / sequence / "labels" / f"{frame:06d}.label", "<u4")
    return labels & 0xFFFF, labels >> 16


def read_calibration(output, sequence):
    lines = (output / sequence / "calib.txt").read_text().splitlines()
    return {line.split(":")[0]: np.array(line.split(":")[1].split(), float).reshape(3, 4) for line in lines}


def file_bytes(output):
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in output.rglob("*") if path.is_file()}


def scene_of(*items):
    sun = np.array([0.3, 0.2, 0.9])
    return Scene(np.concatenate([world.ground_rows(), *items]), None, sun / np.linalg.norm(sun))


def thing(shape, half):
    return part(Kind.CAR, shape, (0, 0, 0), half, Material.PAINTED)


# --- geometry -----------------------------------------------------------------------------------------------------


def inside(shape, unit):
    """Whether (n, 3) positions lie in a unit shape: the shapes' definitions in words of their cross-sections."""
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


# --- sensors ------------------------------------------------------------------------------------------------------


def wall_sweep(**changes):
    """A wall that fills what is ahead of the sensor, 10 m away."""
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
    """One box in the air; positions on the plane z = 0, judged by walking towards the sun."""
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
    """Pixel of a point: P2 [Tr; 0 0 0 1] (x, y, z, 1) as in KITTI; camera and LiDAR stand apart, so edges differ."""
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


# --- files --------------------------------------------------------------------------------------------------------


def test_tree_is_semantickittis(tiny):
    names = set(file_bytes(tiny))
    expected = {"demo_world.json"}
    for sequence, frames in (("00", 2), ("08", 1), ("11", 1)):
        expected |= {f"{sequence}/calib.txt", f"{sequence}/poses.txt"}
        for frame in range(frames):
            expected |= {f"{sequence}/velodyne/{frame:06d}.bin", f"{sequence}/image_2/{frame:06d}.png"}
            expected |= {f"{sequence}/labels/{frame:06d}.label"} if sequence != "11" else set()
    assert names == expected
    assert not (tiny / "11" / "labels").exists()
    for sequence, frames in (("00", 2), ("08", 1), ("11", 1)):
        for frame in range(frames):
            scan = read_scan(tiny, sequence, frame)
            assert 300 < len(scan) <= 8 * 128
            assert np.isfinite(scan).all()
            assert 0 <= scan[:, 3].min() < scan[:, 3].max() <= 1
            assert np.linalg.norm(scan[:, :3], axis=1).max() <= 80.01
            with Image.open(tiny / sequence / "image_2" / f"{frame:06d}.png") as image:
                assert (image.size, image.mode) == ((96, 64), "RGB")
                assert np.asarray(image).std() > 20
            if sequence != "11":
                assert len(read_labels(tiny, sequence, frame)[0]) == len(scan)


def test_calibration_and_poses_are_kittis(short):
    calib = read_calibration(short, "08")
    assert list(calib) == ["P0", "P1", "P2", "P3", "Tr"]
    assert np.linalg.det(calib["Tr"][:, :3]) == pytest.approx(1)
    np.testing.assert_allclose(calib["Tr"][:, :3] @ calib["Tr"][:, :3].T, np.eye(3), atol=1e-10)
    assert (calib["P0"][:, 3] == 0).all()
    assert 0 < calib["P2"][0, 3] / calib["P2"][0, 0] < 0.1 < -calib["P1"][0, 3] / calib["P1"][0, 0] < 1
    poses = np.loadtxt(short / "00" / "poses.txt").reshape(-1, 3, 4)
    assert len(poses) == SHORT.train_frames
    np.testing.assert_allclose(poses[0], np.eye(4)[:3], atol=1e-9)
    assert (np.diff(poses[:, 2, 3]) > 1).all()  # z is forward


def test_poses_bring_standing_things_together(short):
    homes = []
    calib = np.vstack([read_calibration(short, "00")["Tr"], [0, 0, 0, 1]])
    for frame in (0, 3):
        raw, _ = read_labels(short, "00", frame)
        homes.append(read_scan(short, "00", frame)[np.isin(raw, [50, 51, 52, 80, 71])][:, :3].astype(np.float64))
    pose = np.vstack([np.loadtxt(short / "00" / "poses.txt")[3].reshape(3, 4), [0, 0, 0, 1]])
    moved = np.linalg.inv(calib) @ pose @ calib @ np.column_stack([homes[1], np.ones(len(homes[1]))]).T
    near = np.linalg.norm(homes[1], axis=1) < 20
    tree = KDTree(homes[0])
    with_pose, without = np.median(tree.query(moved[:3].T[near])[0]), np.median(tree.query(homes[1][near])[0])
    assert with_pose < 0.25
    assert with_pose < 0.5 * without


def test_scans_have_the_classes_and_the_extent_of_real_ones(short):
    labels = LabelMap.load(LABEL_MAPPING)
    for sequence, frames in (("00", SHORT.train_frames), ("08", SHORT.val_frames)):
        raw = np.concatenate([read_labels(short, sequence, frame)[0] for frame in range(frames)])
        scan = np.concatenate([read_scan(short, sequence, frame) for frame in range(frames)])
        learning = labels.to_learning[raw]
        assert (learning != UNKNOWN).all()
        assert len(set(learning.tolist()) - {0}) >= 14
        assert {60, 252} <= set(raw.tolist())  # ids that only the learning map makes one with road and car
        assert 0 < np.mean(learning == 0) < 0.1
        assert np.median(scan[raw == 40][:, 2]) == pytest.approx(-1.73, abs=0.02)
        inside_volume = (np.abs(scan[:, :2]) < 50).all(axis=1) & (scan[:, 2] > -4) & (scan[:, 2] < 2)
        assert 0.9 < inside_volume.mean() < 1.0


def test_instances_are_things_and_stay_themselves(short):
    semantic_of: dict[int, int] = {}
    frames_of: dict[int, set[int]] = {}
    for frame in range(SHORT.train_frames):
        raw, instance = read_labels(short, "00", frame)
        assert (np.isin(raw, list(THINGS)) == (instance > 0)).all()
        for number, name in set(zip(instance.tolist(), raw.tolist(), strict=True)):
            if number:
                assert semantic_of.setdefault(number, name) == name
                frames_of.setdefault(number, set()).add(frame)
    assert len(semantic_of) > 10
    assert sum(len(seen) == SHORT.train_frames for seen in frames_of.values()) > 5


def test_same_options_same_bytes_whatever_the_workers(tiny, tmp_path):
    write_tree(tmp_path, DemoOptions(**{**vars(TINY), "workers": 2}))
    assert file_bytes(tmp_path) == file_bytes(tiny)


def test_seed_and_sequence_make_other_streets(tiny, tmp_path):
    write_tree(tmp_path, DemoOptions(**{**vars(TINY), "seed": 1}))
    other, one = file_bytes(tmp_path), file_bytes(tiny)
    for name in ("00/velodyne/000000.bin", "00/image_2/000000.png", "08/velodyne/000000.bin"):
        assert other[name] != one[name]
    assert len({one[f"{sequence}/velodyne/000000.bin"] for sequence in ("00", "08", "11")}) == 3


# --- what is there already ----------------------------------------------------------------------------------------


@pytest.fixture
def copy(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "sequences")
    return tmp_path / "sequences"


CHANGED = DemoOptions(**{**vars(TINY), "train_frames": 1, "seed": 3})


def test_complete_set_is_left_alone(copy, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    monkeypatch.setattr(semantickitti, "_write_frame", lambda *_: pytest.fail("wrote a frame"))
    summary = write_tree(copy, TINY)
    assert not summary.fresh
    assert summary.frames == 4
    assert before == {path: path.stat().st_mtime_ns for path in copy.rglob("*")}


def test_incomplete_set_is_made_again(copy, tiny):
    (copy / "08" / "image_2" / "000000.png").unlink()
    assert write_tree(copy, TINY).fresh
    assert file_bytes(copy) == file_bytes(tiny)


def test_other_options_need_overwrite_which_spares_foreign_files(copy):
    before = file_bytes(copy)
    with pytest.raises(UserError, match="--overwrite"):
        write_tree(copy, CHANGED)
    assert file_bytes(copy) == before
    (copy / "notes.txt").write_text("mine")
    write_tree(copy, CHANGED, overwrite=True)
    after = file_bytes(copy)
    assert after["notes.txt"] == b"mine"
    assert "00/velodyne/000001.bin" not in after
    assert after["00/velodyne/000000.bin"] != before["00/velodyne/000000.bin"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_foreign_tree_stays(tmp_path, overwrite):
    foreign = tmp_path / "00" / "velodyne" / "000000.bin"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"real data")
    with pytest.raises(UserError, match="00"):
        write_tree(tmp_path, TINY, overwrite=overwrite)
    assert file_bytes(tmp_path) == {"00/velodyne/000000.bin": b"real data"}


@pytest.mark.parametrize("names", [["../outside.txt"], "nothing", [3]])
def test_note_that_is_not_ours_removes_nothing(tmp_path, names):
    (tmp_path / "outside.txt").write_text("mine")
    output = tmp_path / "sequences"
    output.mkdir()
    note = {"options": {}, "format": 1, "complete": True, "files": names}
    (output / "demo_world.json").write_text(json.dumps(note))
    with pytest.raises(UserError, match=r"demo_world\.json"):
        write_tree(output, TINY, overwrite=True)
    assert (tmp_path / "outside.txt").exists()


@pytest.mark.parametrize(
    "change",
    [{"train_frames": 0}, {"beams": 1}, {"dropout": 1.0}, {"image_size": (8, 64)}, {"vertical_fov": (-20.0, 2.0)}],
)
def test_senseless_options_are_refused(change):
    with pytest.raises(UserError, match=next(iter(change))):
        DemoOptions(**change)


def test_command_line(tmp_path, capsys):
    flags = (
        "--train_frames 1 --val_frames 1 --test_frames 1 --beams 8 --azimuth_steps 64 --image_size 32 32 --workers 1"
    )
    command = [*flags.split(), "--output", str(tmp_path / "demo")]
    assert make_demo_data.main(command) == 0
    assert str(tmp_path / "demo") in capsys.readouterr().out
    assert len(read_scan(tmp_path / "demo", "11", 0)) > 100
    assert make_demo_data.main(command) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert make_demo_data.main([*command, "--seed", "4"]) == 2
    complaint = capsys.readouterr().err.strip()
    assert "--overwrite" in complaint
    assert "\n" not in complaint
