from __future__ import annotations

import numpy as np

from utils.pictures import raster
from utils.scan.sensor import NUSCENES, SEMANTICKITTI


def colors_in(picture):
    codes = np.unique(picture.astype(np.int64) @ [1 << 16, 1 << 8, 1])
    return {(code >> 16, code >> 8 & 255, code & 255) for code in codes.tolist()}


def test_birds_eye_view_puts_points_where_they_are():
    """With 10 m per pixel, forward is up, left is left, points outside are dropped, higher points cover lower ones."""
    xyz = np.array([[45, 35, 0], [-45, -45, 0], [45, 35, 1], [51, 0, 0], [np.nan, 0, 0]], dtype=np.float32)
    rgb = np.array([[9, 0, 0], [0, 9, 0], [0, 0, 9], [200, 0, 0], [200, 0, 0]], dtype=np.uint8)
    picture = raster.birds_eye_view(xyz, SEMANTICKITTI, rgb, size=10, dot=1)
    assert tuple(picture[0, 1]) == (0, 0, 9)
    assert tuple(picture[9, 9]) == (0, 9, 0)
    assert not (picture[..., 0] == 200).any()


def test_birds_eye_view_never_hides_an_error():
    xyz = np.array([[5, 5, -1], [5, 5, 2]], dtype=np.float32)
    rgb = np.array([raster.WRONG, raster.RIGHT], dtype=np.uint8)
    assert raster.WRONG in colors_in(raster.birds_eye_view(xyz, SEMANTICKITTI, rgb, size=10))
    assert raster.RIGHT not in colors_in(raster.birds_eye_view(xyz, SEMANTICKITTI, rgb, size=10))


def test_range_view_puts_points_where_they_are():
    """Ahead is the middle, left is left, low is low, the nearer point covers the farther."""
    xyz = np.array([[20, 0.1, 0], [10, 0.05, 0], [0, 10, 0], [10, -0.1, -4]], dtype=np.float32)
    rgb = np.array([[1, 0, 0], [2, 0, 0], [3, 0, 0], [4, 0, 0]], dtype=np.uint8)
    picture = raster.range_view(xyz, SEMANTICKITTI, rgb)
    assert picture.shape == (64, 1024, 3)
    place = {value: np.argwhere(picture[..., 0] == value) for value in (1, 2, 3, 4)}
    assert [len(place[value]) for value in (1, 2, 3, 4)] == [0, 1, 1, 1]
    assert place[2][0][1] == 511  # just left of the middle
    assert place[3][0][1] == 256  # a quarter turn to the left
    assert place[4][0][1] > 511
    assert place[4][0][0] > place[2][0][0]


def test_errors_are_painted():
    rgb = raster.paint_errors(np.array([1, 1, 0]), np.array([1, 2, 1]))
    assert rgb.tolist() == [list(raster.RIGHT), list(raster.WRONG), list(raster.NOT_JUDGED)]


def test_class_colors_are_kept_and_unlabelled_is_seen():
    colors = np.array([(0, 0, 0), (1, 2, 3), (4, 5, 6)], dtype=np.uint8)
    assert raster.paint(np.array([2, 0, 1]), colors).tolist() == [[4, 5, 6], list(raster.UNLABELLED), [1, 2, 3]]
    assert colors[0].tolist() == [0, 0, 0]  # the map itself is untouched


def test_camera_view_scales_the_pixels_with_the_picture():
    image = np.full((10, 20, 3), 100, dtype=np.uint8)
    pixels = np.array([[2.5, 7.5], [np.nan, np.nan]], dtype=np.float32)
    rgb = np.array([[255, 0, 0], [0, 255, 0]], dtype=np.uint8)
    picture = raster.camera_view(raster.CameraPicture("camera", image, pixels), rgb, width=40, dot=1)
    assert picture.shape == (20, 40, 3)
    assert np.argwhere((picture == rgb[0]).all(axis=2)).tolist() == [[5, 15]]
    assert tuple(rgb[1].tolist()) not in colors_in(picture)
    assert picture[0, 0, 0] < 100  # darkened, so that the points stand out


def test_range_view_leaves_out_what_the_sensor_cannot_see():
    above_and_below = np.array([[10, 0, 5], [10, 0, -8]], dtype=np.float32)
    rgb = np.full((2, 3), 200, dtype=np.uint8)
    picture = raster.range_view(above_and_below, SEMANTICKITTI, rgb)
    assert colors_in(picture) == {raster.BACKGROUND}


def test_the_frame_of_nuscenes_is_turned_so_that_ahead_is_up_and_in_the_middle():
    """In nuScenes x points right and y ahead: the points are 20 m ahead, 30 m to the left and 40 m behind."""
    xyz = np.array([[0, 20, 0], [-30, 0, 0], [0, -40, 0]], dtype=np.float32)
    rgb = np.array([[1, 0, 0], [2, 0, 0], [3, 0, 0]], dtype=np.uint8)
    above = raster.birds_eye_view(xyz, NUSCENES, rgb, size=100, dot=1)
    assert [np.argwhere(above[..., 0] == value).tolist() for value in (1, 2, 3)] == [[[30, 50]], [[50, 20]], [[90, 50]]]
    around = raster.range_view(xyz, NUSCENES, rgb)
    columns = [np.argwhere(around[..., 0] == value)[0, 1] for value in (1, 2)]
    assert columns == [512, 256]
    assert np.argwhere(around[..., 0] == 3)[0, 1] in (0, 1023)


def test_each_beam_of_nuscenes_has_a_row_of_its_own():
    """The 32 beams lie at +10.67 to -30.67 degrees; each is moved by up to a third of their distance."""
    beams = np.radians(np.linspace(10.67, -30.67, 32) + np.tile([0.44, -0.44], 16))
    xyz = np.stack([np.zeros(32), 15 * np.cos(beams), 15 * np.sin(beams)], axis=1).astype(np.float32)
    rgb = np.stack([np.arange(100, 132)] * 3, axis=1).astype(np.uint8)
    picture = raster.range_view(xyz, NUSCENES, rgb)
    assert picture.shape == (32, 1024, 3)
    assert picture[:, 512, 0].tolist() == list(range(100, 132))


def test_from_above_a_point_hides_those_of_lower_rank_however_high_they_are():
    xyz = np.array([[5, 5, 9], [5, 5, 0], [5, 5, 4]], dtype=np.float32)
    rgb = np.array([[1, 1, 1], [2, 2, 2], raster.WRONG], dtype=np.uint8)

    def seen(rank):
        picture = raster.birds_eye_view(xyz, SEMANTICKITTI, rgb, 100, dot=1, rank=rank)
        return [color for color in rgb.tolist() if (picture == color).all(axis=2).any()]

    assert seen(np.array([-2.0, 0.0, -1.0])) == [[2, 2, 2]]
    assert seen(np.array([1.0, 1.0, 0.0])) == [[1, 1, 1]]  # of equal ones the highest
    assert seen(None) == [list(raster.WRONG)]
