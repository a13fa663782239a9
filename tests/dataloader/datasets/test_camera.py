from __future__ import annotations

import struct
import zlib
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
from PIL import ImageEnhance

from dataloader.augment.image import bottom_crop, color_jitter, flip_horizontally, random_left
from dataloader.datasets.camera import image_size, project, read_image
from utils.errors import UserError

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


def test_project_by_depth_sees_behind_the_sensor_but_not_behind_the_camera():
    """A camera that looks along -x, from (-1, 0, 0): right is +y, down is -z."""
    rng = np.random.default_rng(0)
    xyz = rng.uniform(-20, 20, (2000, 3)).astype(np.float32)
    xyz[:4] = [[-1, 0, 0], [-1, 1, 1], [np.nan, 0, 0], [-np.inf, 0, 0]]
    calibration = np.array([[-16.0, 20.0, 0.0, -16.0], [-5.0, 0.0, -20.0, -5.0], [-1.0, 0.0, 0.0, -1.0]])
    with np.errstate(all="raise"):
        pixels = project(xyz, calibration, 32, 10, front="depth")
    for (x, y, z), pixel in zip(xyz.astype(float), pixels, strict=True):
        depth = -x - 1
        col, row = (16 + 20 * y / depth, 5 - 20 * z / depth) if depth > 0 else (np.nan, np.nan)
        if np.isfinite([x, y, z]).all() and 0 < col < 32 and 0 < row < 10:
            assert np.allclose(pixel, [row, col], rtol=1e-6)
        else:
            assert np.isnan(pixel).all()
    assert np.isfinite(pixels[:, 0]).sum() > 50
    assert (xyz[np.isfinite(pixels[:, 0]), 0] < 0).all()


@pytest.mark.parametrize("front", ["x", "depth"])
@pytest.mark.parametrize("centre", [0.0, 300.0])
def test_project_near_the_edges_is_that_of_all_points_in_double(front, centre):
    """Points on the edges of the image, in the plane of the camera and behind it: whether seen is decided exactly."""
    rng = np.random.default_rng(0)
    calibration = np.array([[700.0, -720.0, 5.0, 40.0], [180.0, 3.0, -710.0, -50.0], [0.99, -0.01, 0.02, -0.27]])
    calibration[:, 3] -= calibration[:, :3] @ np.full(3, centre)
    depth = rng.choice([1e-4, 0.01, 1, 40, -1, -0.1, 0], 20000) + rng.normal(0, 1e-3, 20000)
    col, row = rng.choice([0, 1241, 600, -5], 20000), rng.choice([0, 376, 100, 400], 20000)
    image = np.column_stack([col, row, np.ones(20000)]) + rng.normal(0, 1e-4, (20000, 3)) * [1, 1, 0]
    xyz = np.linalg.solve(calibration[:, :3], (image * depth[:, None] - calibration[:, 3]).T).T.astype(np.float32)
    u, v, w = calibration @ np.column_stack([xyz.astype(np.float64), np.ones(20000)]).T
    with np.errstate(all="ignore"):
        expected = np.column_stack([v / w, u / w]).astype(np.float32)
    seen = (expected > 0).all(axis=1) & (expected < np.array([376, 1241], dtype=np.float32)).all(axis=1)
    seen &= xyz[:, 0] > 0 if front == "x" else w > 0
    expected[~seen] = np.nan
    assert 1000 < seen.sum() < 19000
    found = project(xyz, calibration, 1241, 376, front)
    assert np.mean(np.isnan(found[:, 0]) == ~seen) > 0.999  # which rounds at 1e-16 is not the same
    both = seen & ~np.isnan(found[:, 0])
    assert np.allclose(found[both], expected[both], rtol=1e-6)


@pytest.fixture
def ramp_file(tmp_path):
    """Writes an image whose red grows from left to right by 1 and green from top to bottom by 2 per pixel."""

    def write(suffix, width=203, height=101):
        rows, cols = np.mgrid[:height, :width]
        path = tmp_path / f"ramp{suffix}"
        image = PIL.Image.fromarray(np.stack([cols, 2 * rows, 0 * rows + 90], axis=2).astype(np.uint8))
        image.save(path, quality=95, subsampling=0) if suffix == ".jpg" else image.save(path)
        return path

    return write


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("size", [(203, 101), (100, 50), (48, 32), (32, 48), (30, 12), (300, 200)])
def test_a_resized_image_shows_the_same_things_at_the_scaled_place(ramp_file, suffix, size):
    image = read_image(ramp_file(suffix), size).astype(float)
    width, height = size
    assert image.shape == (height, width, 3)
    # The middle of pixel (row, col) of the result lies there in the file; the edges are smoothed with nothing beyond.
    cols = (np.arange(width) + 0.5) * 203 / width - 0.5
    rows = (np.arange(height) + 0.5) * 101 / height - 0.5
    inner = (slice(2, -2), slice(2, -2))
    assert np.abs(image[..., 0] - cols)[inner].max() < 4 and np.abs((image[..., 0] - cols)[inner].mean()) < 0.5
    assert np.abs(image[..., 1] - 2 * rows[:, None])[inner].max() < 4
    assert np.abs((image[..., 1] - 2 * rows[:, None])[inner].mean()) < 0.5


def test_without_a_size_the_image_is_as_in_the_file(ramp_file):
    path = ramp_file(".png")
    assert np.array_equal(read_image(path), np.asarray(PIL.Image.open(path)))


@pytest.mark.parametrize("size", [None, (48, 32)])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_bad_image_is_one_clear_line(ramp_file, suffix, size):
    path = ramp_file(suffix)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=rf"ramp\{suffix}: cannot read the image"):
        read_image(path, size)
    path.unlink()
    with pytest.raises(UserError, match=rf"ramp\{suffix}: the image is missing"):
        read_image(path, size)


def test_a_grey_jpeg_becomes_rgb(tmp_path):
    PIL.Image.new("L", (64, 32), 77).save(tmp_path / "grey.jpg")
    assert (read_image(tmp_path / "grey.jpg", (16, 16)) == 77).all()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, bits: int, kind: int, rows: bytes, more: bytes = b"") -> bytes:
    """A PNG file by its specification: kind 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA; rows begin with 0."""

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + more + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def deep(*values: int) -> bytes:
    return b"\0" + np.array(values, ">u2").tobytes()


def palette(*colors: int, alpha: bytes = b"") -> bytes:
    return chunk(b"PLTE", bytes(colors)) + (chunk(b"tRNS", alpha) if alpha else b"")


PICTURES = {
    "16 bits, grey": (png(4, 1, 16, 0, deep(0, 256, 32768, 65535)), [[0] * 3, [1] * 3, [128] * 3, [255] * 3]),
    "16 bits, RGB": (png(2, 1, 16, 2, deep(256, 512, 65535, 0, 40000, 100)), [[1, 2, 255], [0, 156, 0]]),
    "16 bits, RGBA": (png(1, 1, 16, 6, deep(256, 512, 65535, 0)), [[1, 2, 255]]),
    "16 bits, alpha": (png(2, 1, 16, 4, deep(256, 0, 65535, 9)), [[1] * 3, [255] * 3]),
    "1 bit": (png(2, 1, 1, 0, b"\0\x40"), [[0] * 3, [255] * 3]),
    "2 bits": (png(4, 1, 2, 0, b"\0\x1b"), [[0] * 3, [85] * 3, [170] * 3, [255] * 3]),
    "palette": (png(2, 1, 8, 3, b"\0\1\0", palette(1, 2, 3, 40, 50, 60)), [[40, 50, 60], [1, 2, 3]]),
    "palette, alpha": (png(2, 1, 8, 3, b"\0\1\0", palette(1, 2, 3, 4, 5, 6, alpha=b"\0\x80")), [[4, 5, 6], [1, 2, 3]]),
    "alpha": (png(2, 1, 8, 4, b"\0\x10\0\x20\xff"), [[16] * 3, [32] * 3]),
    "RGBA": (png(2, 1, 8, 6, b"\0\1\2\3\0\4\5\6\xff"), [[1, 2, 3], [4, 5, 6]]),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", PICTURES)
def test_every_kind_of_png_becomes_rgb_of_8_bits(tmp_path, name):
    content, pixels = PICTURES[name]
    path = tmp_path / "image.png"
    path.write_bytes(content)
    image = read_image(path)
    assert image.dtype == np.uint8 and image.tolist() == [pixels]
    assert read_image(path, (len(pixels), 1)).tolist() == [pixels]
    assert image_size(path) == (len(pixels), 1)


BLOCK = PIL.Image.fromarray(np.arange(768, dtype=np.uint8).reshape(16, 16, 3))


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP", "PPM", "EPS", "PDF", "JPEG", "PNG"])
def test_a_name_promises_a_format(tmp_path, kind):
    suffix = ".jpg" if kind == "PNG" else ".png"
    BLOCK.save(tmp_path / f"image{suffix}", kind)
    with pytest.raises(UserError, match=rf"image\{suffix}: cannot read the image \(truncated or no (PNG|JPG)\)"):
        read_image(tmp_path / f"image{suffix}")
    BLOCK.save(tmp_path / "image.other", kind)
    with pytest.raises(UserError, match=r"image\.other: images must be \.png or \.jpg"):
        image_size(tmp_path / "image.other")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [(100_000, 100_000), (10_000, 9_500), (2**31 - 1, 1)])
def test_an_image_of_too_many_pixels_is_not_decoded(tmp_path, size):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(size[0], size[1], 8, 2, b"\0"))
    for read in (read_image, image_size):
        with pytest.raises(UserError, match=rf"bomb\.png: says that it has {size[0]} x {size[1]} pixels"):
            read(path)


def test_pixels_are_those_that_are_stored(tmp_path):
    """Neither turned as EXIF says, nor of another picture of an animation: calibrations are of stored pixels."""
    exif = PIL.Image.Exif()
    exif[0x112] = 6  # turned by 90 degrees
    BLOCK.crop((0, 0, 16, 8)).save(tmp_path / "turned.png", exif=exif)
    BLOCK.crop((0, 0, 16, 8)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.png").shape == read_image(tmp_path / "turned.jpg").shape == (8, 16, 3)
    assert image_size(tmp_path / "turned.jpg") == (16, 8)
    BLOCK.save(tmp_path / "moving.png", save_all=True, append_images=[BLOCK.rotate(90)])
    assert np.array_equal(read_image(tmp_path / "moving.png"), np.asarray(BLOCK))


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_damage_anywhere_in_an_image_is_one_line_or_harmless(ramp_file, suffix):
    content = ramp_file(suffix, 40, 30).read_bytes()
    rng = np.random.default_rng(0)
    path = ramp_file(suffix, 40, 30)
    failed = 0
    for _ in range(150):
        damaged = bytearray(content[: rng.integers(len(content)) if rng.random() < 0.3 else None])
        for place in rng.integers(max(len(damaged), 1), size=rng.choice([1, 3, 20])) if damaged else ():
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            assert read_image(path).dtype == np.uint8
        except UserError as error:
            assert str(path) in str(error)
            failed += 1
    assert failed > 20


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


@pytest.mark.parametrize("strength", [(0.4, 0, 0), (0, 0.4, 0), (0, 0, 0.4), (0.4, 0.4, 0.4), (1.5, 1.5, 1.5)])
def test_jitter_is_that_of_pillow(strength):
    """Pillow cuts down to whole numbers after every step; here nothing is rounded until the end."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        factors = [rng.uniform(max(0, 1 - s), 1 + s) for s in strength]
        picture = PIL.Image.fromarray(noise)
        for kind in rng.permutation(3):
            picture = enhancers[kind](picture).enhance(factors[kind])
        found = color_jitter(noise, strength, np.random.default_rng(seed))
        assert found.shape == noise.shape and found.dtype == np.uint8
        assert np.abs(found.astype(int) - np.asarray(picture).astype(int)).max() <= 4 * max(1, *factors) ** 2


def test_jitter_leaves_its_input_alone(make_scan):
    image = make_scan().image
    before = image.copy()
    color_jitter(image, (0.4, 0.4, 0.4), np.random.default_rng(0))
    assert np.array_equal(image, before)
