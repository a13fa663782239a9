"""Files of the features of a frozen teacher (`dataset_params.teacher_cache`): one plain .npy file for each picture.

<folder>/<key of the model>/<two digits>/<key of the picture>.npy      (h, w, D) float16

The key of a model is a digest of its name, its weights and the precision of the arithmetic; that of a picture one of
its path below `data_path`, the size at which the network sees it, and the size and time of its file: a picture that was
exchanged has other features. Files appear whole or not at all, and what is read is not trusted.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.files import require_regular, whole_file

_VERSION = 1  # of the layout; raised where older features are not those that would be computed now
_DIGITS = 32
_EXPONENT = np.uint16(0x7C00)  # of a float16; all of its bits are set in NaN and inf


@dataclass(frozen=True)
class Picture:
    """A frozen record of a camera image on disk.

    Attributes:
        path: its file.
        name: its path below the folder of the data set.
        size: height and width at which the network sees it, pixels.
    """

    path: Path
    name: str
    size: tuple[int, int]


class FeatureFiles:
    """The kept features of one model.

    Args:
        folder: of all models.
        model: what the features depend on beside the picture, in one line.
        dimensions: the number D of features of a patch.
        feature_size: gives the number of patches (h, w) of a picture of a height and width.
    """

    def __init__(
        self, folder: Path, model: str, dimensions: int, feature_size: Callable[[int, int], tuple[int, int]]
    ) -> None:
        self.folder = folder / _digest(f"{_VERSION}|{model}|{dimensions}")[:16]
        self._dimensions, self._feature_size = dimensions, feature_size

    def shape_of(self, picture: Picture) -> tuple[int, int, int]:
        """Returns the shape (h, w, D) of the features of a picture."""
        return *self._feature_size(*picture.size), self._dimensions

    def bytes_of(self, picture: Picture) -> int:
        """Returns the size of the file of a picture."""
        shape = self.shape_of(picture)
        return len(_header(shape)) + 2 * math.prod(shape)

    def path_of(self, picture: Picture) -> Path:
        """Returns the file of a picture, which need not exist.

        Raises:
            OSError: there is no such picture.
        """
        file = os.stat(picture.path)
        height, width = picture.size
        key = _digest(f"{picture.name}|{height}x{width}|{file.st_size}|{file.st_mtime_ns}")
        return self.folder / key[:2] / f"{key}.npy"

    def has(self, picture: Picture) -> bool:
        """Tells whether the file of a picture is there with its whole size; what it holds is seen when it is read."""
        try:
            path = self.path_of(picture)
            require_regular(path)
            return path.stat().st_size == self.bytes_of(picture)
        except OSError:
            return False

    def write(self, picture: Picture, features: NDArray[np.float16]) -> None:
        """Writes the (h, w, D) features of a picture.

        Raises:
            OSError: the file cannot be written; the error names it.
        """
        assert features.shape == self.shape_of(picture)
        with whole_file(self.path_of(picture)) as file:
            file.write(_header(features.shape))
            file.write(np.ascontiguousarray(features, dtype="<f2").tobytes())

    def read(self, picture: Picture) -> NDArray[np.float16]:
        """Reads the (h, w, D) features of a picture.

        Raises:
            UserError: they are missing, damaged, of another shape or type, or not finite.
        """
        path, shape = self.path_of(picture), self.shape_of(picture)
        again = "start the command again, and it is made again"
        try:
            require_regular(path)
            whole = path.stat().st_size == self.bytes_of(picture)
            content = path.read_bytes() if whole else b""
        except FileNotFoundError:
            raise UserError(
                f"{path}: the features of {picture.path} are missing (dataset_params.teacher_cache); {again}"
            ) from None
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); see to the file and its permissions") from None
        header = _header(shape)
        features = np.frombuffer(content, "<f2", offset=len(header)).reshape(shape) if whole else None
        exponents = None if features is None else features.view(np.uint16) & _EXPONENT
        if features is None or not content.startswith(header) or (exponents == _EXPONENT).any():
            raise UserError(
                f"{path}: damaged, it does not hold the features of {picture.path} as {' x '.join(map(str, shape))} "
                f"finite float16 numbers (dataset_params.teacher_cache); remove it and {again}"
            )
        return features


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:_DIGITS]


def _header(shape: tuple[int, ...]) -> bytes:
    """Returns what a .npy file of float16 numbers begins with."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
    return file.getvalue()
