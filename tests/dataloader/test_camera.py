from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dataloader.camera import bottom_crop, color_jitter, flip_horizontally, normalize, project, random_left

CALIBRATION = np.array([[16.0, -18.0, 0.0, 1.0], [5.0, 0.0, -18.0, 0.5], [1.0, 0.0, 0.0, -0.25]])


def colours(scan):
    """Colour under the pixel of every point that has one."""
    seen = ~np.isnan(scan.pixels[:, 0])
    rows, cols = scan.pixels[seen].astype(int).T
    return seen, scan.image[rows, cols]


def test_project_against_the_formula_point_by_point():
    rng = np.random.default_rng(0)
    xyz = rng.uniform(-20, 20, (2000, 3)).astype(np.float32)
    pixels = project(xyz, CALIBRATION, 32, 10)
    for point, pixel in zip(xyz, pixels, strict=True):
        u, v, w = (sum(row[i] * float(point[i]) for i in range(3)) + row[3] for row in CALIBRATION)
        row, col = v / w, u / w
        if point[0] > 0 and 0 < col < 32 and 0 < row < 10:
            assert np.allclose(pixel, [row, col], rtol=1e-6)
        else:
            assert np.isnan(pixel).all()
    assert 50 < np.isfinite(pixels[:, 0]).sum() < 1000
    assert pixels.dtype == np.float32


def test_project_never_rounds_onto_the_edge():
    # col = y just below the width in float64; float32 has no number between, so it would be col == width.
    calibration = np.array([[0.0, 1.0, 0.0, -1e-9], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    pixels = project(np.array([[1, 32, 5], [1, 31, 5]], dtype=np.float32), calibration, 32, 10)
    assert np.isnan(pixels[0]).all() and pixels[1].tolist() == [5, 31]


@pytest.mark.parametrize("size, left", [((16, 10), 0), ((16, 10), 24), ((40, 24), 0), ((50, 10), 0), ((16, 30), 7)])
def test_crop_keeps_the_colour_under_every_pixel(make_scan, size, left):
    scan = make_scan()
    before = scan.image[tuple(np.nan_to_num(scan.pixels).astype(int).T)]
    cropped = bottom_crop(scan, size, left)
    seen, after = colours(cropped)
    assert cropped.image is not None and cropped.image.shape == (size[1], size[0], 3)
    assert np.array_equal(after, before[seen])
    row, col = scan.pixels.T
    top = 24 - size[1]
    assert np.array_equal(seen, (row >= top) & (col >= left) & (col < left + size[0]))
    assert np.array_equal(cropped.xyz, scan.xyz)


def test_a_small_image_is_padded_with_black_on_the_right_and_at_the_top(make_scan):
    scan = make_scan()
    cropped = bottom_crop(scan, (50, 30), 0)
    assert cropped.image is not None
    assert np.array_equal(cropped.image[6:, :40], scan.image)
    assert not cropped.image[:6].any() and not cropped.image[:, 40:].any()


def test_crop_leaves_its_input_alone(make_scan):
    scan = make_scan()
    image, pixels = scan.image.copy(), scan.pixels.copy()
    flip_horizontally(bottom_crop(scan, (16, 10), 3))
    assert np.array_equal(scan.image, image) and np.array_equal(scan.pixels, pixels, equal_nan=True)


@pytest.mark.parametrize("whole", [False, True])
def test_flip_keeps_the_colour_under_every_pixel(make_scan, whole):
    scan = make_scan()
    if whole:
        scan = replace(scan, pixels=np.floor(scan.pixels))
    _, before = colours(scan)
    flipped = flip_horizontally(scan)
    _, after = colours(flipped)
    assert np.array_equal(after, before)
    assert flipped.image is not None
    assert np.array_equal(flipped.image, scan.image[:, ::-1])
    again = flip_horizontally(flipped)
    assert np.array_equal(again.pixels, np.floor(scan.pixels), equal_nan=True)


def test_image_operations_need_an_image(make_scan):
    blind = replace(make_scan(), image=None)
    with pytest.raises(ValueError):
        bottom_crop(blind, (16, 10), 0)
    with pytest.raises(ValueError):
        flip_horizontally(blind)


def test_left_edge_reaches_both_ends_and_no_further():
    rng = np.random.default_rng(0)
    assert {random_left(484, 480, rng) for _ in range(300)} == {0, 1, 2, 3, 4}
    assert {random_left(width, 480, rng) for width in (480, 479, 100) for _ in range(20)} == {0}


def test_jitter_of_one_kind_is_what_it_says():
    rng = np.random.default_rng(1)
    grey = np.full((4, 6, 3), 100, dtype=np.uint8)
    values = [int(color_jitter(grey, (0.4, 0.0, 0.0), rng)[0, 0, 0]) for _ in range(300)]
    assert min(values) >= 60 and max(values) <= 140 and max(values) - min(values) > 70
    assert np.array_equal(color_jitter(grey, (0.0, 0.4, 0.4), rng), grey)  # a grey image has no contrast nor colour
    coloured = np.dstack([grey[..., 0], grey[..., 0] // 2, grey[..., 0] * 2]).astype(np.uint8)
    jittered = color_jitter(coloured, (0.0, 0.0, 0.4), rng)
    assert not np.array_equal(jittered, coloured)
    assert np.array_equal(color_jitter(coloured, (0.0, 0.0, 0.0), rng), coloured)


def test_jitter_depends_on_the_generator_only(make_scan):
    image = make_scan().image
    one, same, other = (color_jitter(image, (0.4, 0.4, 0.4), np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_normalize(make_scan):
    image = make_scan().image
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
    result = normalize(image, (mean, std))
    for channel in range(3):
        assert np.allclose(
            result[..., channel], (image[..., channel] / 255.0 - mean[channel]) / std[channel], atol=1e-6
        )
    assert np.allclose(normalize(image, None), image / 255.0)
    assert result.dtype == np.float32
