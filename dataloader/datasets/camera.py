"""The camera: where a point falls in the image, and crop, jitter and flip of an image together with its pixels."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import PIL.Image
import PIL.ImageFile
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from dataloader.datasets.png import Png
from utils.errors import UserError
from utils.files import require_regular
from utils.scan.records import rows_of

_FORMATS: dict[str, Callable[[str | Path | io.BytesIO], PIL.ImageFile.ImageFile]] = {
    ".png": PngImageFile,
    ".jpg": JpegImageFile,
    ".jpeg": JpegImageFile,
}
_MOST_PIXELS = 1 << 26  # 67 million; more is a mistake in the header, and would fill the memory
_TOGETHER = 8192  # points
_SMOOTHED = PIL.Image.Resampling.BILINEAR


def read_image(path: str | Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Reads an image file as (H, W, 3) uint8 RGB, in the order in which its pixels are stored.

    16 bits are brought to 8, transparency is left out, of an animation the first picture counts. What EXIF says of the
    camera's orientation is not followed: a calibration is of the stored pixels.

    Args:
        path: the file, whose suffix says what it is: PNG or JPEG.
        size: (width, height) in pixels to bring the image to, whatever its proportions (bilinear, smoothed when it
            shrinks); None leaves it as it is. A JPEG is decoded at half its size, or a quarter or an eighth, where
            that is still not below `size`.

    Raises:
        UserError: the file is missing, truncated, too large or not what its suffix says.
    """
    with _naming(path):
        png = Png.read(path, _MOST_PIXELS) if Path(path).suffix.lower() == ".png" else None
        if png is not None and png.is_quick:
            pixels = png.pixels()
            return pixels if size is None else np.asarray(PIL.Image.fromarray(pixels).resize(size, _SMOOTHED))
    with _opened(path, None if png is None else io.BytesIO(png.uncompressed())) as image:
        if size is None:
            return np.asarray(_rgb(image))
        drafted = image.draft("RGB", size)  # only JPEG has drafts
        # The part of the draft that the image covers: its last column and row may be cut by the edge.
        box = None if drafted is None else drafted[1]
        return np.asarray(_rgb(image).resize(size, _SMOOTHED, box))


def image_size(path: str | Path) -> tuple[int, int]:
    """Reads the width and height of an image file from its header.

    Raises:
        UserError: see `read_image`, as far as the header shows it.
    """
    with _opened(path) as image:
        return image.size


@contextmanager
def _opened(path: str | Path, content: io.BytesIO | None = None) -> Iterator[PIL.ImageFile.ImageFile]:
    """Opens an image file with Pillow, not decoded yet; what goes wrong in the block becomes a `UserError`.

    Args:
        path: the file.
        content: what to read in place of the file; None: the file.
    """
    with _naming(path):
        # Only this format, whatever else Pillow knows: other decoders are slower, check less, or run other programs.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged EXIF entries, which are not looked at
            opened = _FORMATS[Path(path).suffix.lower()](path if content is None else content)
        with opened as image:
            width, height = image.size
            if not 0 < width * height <= _MOST_PIXELS:
                raise UserError(f"{path}: says that it has {width} x {height} pixels; replace the image")
            yield image


@contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    """Looks whether a file may be read as an image; what goes wrong in the block becomes a `UserError` of one line."""
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise UserError(f"{path}: images must be {' or '.join(_FORMATS)} files")
    try:
        require_regular(path)
        yield
    except FileNotFoundError as error:
        raise UserError(f"{path}: the image is missing; unpack the images there") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error) as error:
        raise UserError(
            f"{path}: cannot read the image (truncated or no {suffix[1:].upper()}); unpack it again"
        ) from error


def _rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    if image.mode.startswith("I"):  # grey of 16 bits: `convert` would make what is above 255 white
        image = PIL.Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image.info.pop("transparency", None)  # Pillow warns of it
    return image if image.mode == "RGB" else image.convert("RGB")


def project(
    xyz: NDArray[np.float32],
    calibration: NDArray[np.float64],
    width: int,
    height: int,
    front: Literal["x", "depth"] = "x",
) -> NDArray[np.float32]:
    """Computes the pixel of every point: (u, v, w) = calibration @ (x, y, z, 1), col = u / w, row = v / w.

    Computed in float64: float32 deviates by up to 0.05 px, enough to change a pixel.

    Args:
        xyz: (N, 3) float32, metres, sensor frame.
        calibration: (3, 4) float64, sensor frame to image.
        width, height: size of the image in pixels.
        front: which points may be seen: "x", those with x > 0, for a camera that looks forward as KITTI's;
            "depth", those with w > 0, for any camera whose w is the distance along its axis.

    Returns:
        (N, 2) float32 (row, col); NaN unless in front, 0 < col < width and 0 < row < height.
    """
    pixels = np.full((len(xyz), 2), np.nan, dtype=np.float32)
    in_front = xyz[:, 0] > 0 if front == "x" else np.ones(len(xyz), dtype=bool)
    rows = np.flatnonzero(in_front)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        near = rows_of(xyz, in_front)
        candidates = _perhaps_in_view(near, calibration, width, height, behind=front == "x")
        u, v, w = calibration[:, :3] @ near.take(candidates, axis=0).T.astype(np.float64) + calibration[:, 3:]
        row, col = (v / w).astype(np.float32), (u / w).astype(np.float32)
    # The bounds are tested on what is kept: in float32 a column may round up to the width.
    seen = (row > 0) & (row < np.float32(height)) & (col > 0) & (col < np.float32(width))
    if front == "depth":
        seen &= w > 0
    rows = rows.take(candidates)[seen]
    pixels[rows, 0], pixels[rows, 1] = row[seen], col[seen]
    return pixels


def _perhaps_in_view(
    xyz: NDArray[np.float32], calibration: NDArray[np.float64], width: int, height: int, behind: bool
) -> NDArray[np.int64]:
    """Rows of `xyz` (N, 3) that may have a pixel: all but those that are certainly outside of the image.

    A point with w > 0 is in view where u, v, width w - u and height w - v are positive. Judged in float32, several
    times faster than projecting all points in float64, with a margin for its rounding. NaN is never certain.

    Args:
        behind: points with w <= 0 may have a pixel too; else they are certainly outside.
    """
    if len(xyz) == 0:
        return np.empty(0, dtype=np.int64)
    u, v, w = calibration
    forms = np.stack([w, u, v, width * w - u, height * w - v])
    largest = max(np.nanmax(xyz), -np.nanmin(xyz))
    margin = 1e-6 * (np.abs(forms[:, :3]).sum(axis=1) * largest + np.abs(forms[:, 3]))
    low, high = ((sign * margin - forms[:, 3]).astype(np.float32) for sign in (-1, 1))
    factors, perhaps = forms[:, :3].astype(np.float32), np.empty(len(xyz), dtype=bool)
    # So few points stay in the cache, and BLAS does not wake threads for them: waiting for those takes milliseconds.
    for start in range(0, len(xyz), _TOGETHER):
        part = slice(start, start + _TOGETHER)
        values = factors @ np.ascontiguousarray(xyz[part].T)
        outside = (values[1:] < low[1:, None]).any(axis=0)
        if behind:
            outside &= values[0] > high[0]
        else:
            outside |= values[0] < low[0]
        np.logical_not(outside, out=perhaps[part])
    return np.flatnonzero(perhaps)
