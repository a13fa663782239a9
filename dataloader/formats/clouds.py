"""Parts that the readers of all formats share: checks of a file and of its points, and the line about what is wrong."""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from dataloader.formats.layout import Layout
from dataloader.formats.point_layout import FARTHEST
from utils.errors import UserError
from utils.files import require_regular
from utils.scan.cloud_message import CloudMessage
from utils.scan.point_cloud import PointCloud
from utils.text import shortened


class Clouds(Protocol):
    """The point clouds of one file: one, or for a bag as many as the topic has messages."""

    def __len__(self) -> int: ...

    def label(self, index: int) -> str:
        """Returns what tells cloud `index` from the others of the file: "" for the only one, "000012" in a bag."""
        ...

    def read(self, index: int) -> PointCloud:
        """Reads a cloud; ascending numbers are fastest. It may be called from several threads.

        Raises:
            UserError: the file is damaged there, or the cloud has no points.
        """
        ...

    def message(self, index: int) -> CloudMessage | None:
        """Reads a message of a bag with all its fields; None: the file holds no messages. Errors as for `read`."""
        ...


@dataclass(frozen=True)
class OneCloud:
    """A frozen record of a file that holds one point cloud, which is read when it is asked for."""

    path: Path
    layout: Layout
    reader: Callable[[Path, Layout], PointCloud]

    def __len__(self) -> int:
        return 1

    def label(self, index: int) -> str:
        """Returns ""."""
        return ""

    def read(self, index: int) -> PointCloud:
        """Reads the cloud; see `Clouds`."""
        return self.reader(self.path, self.layout)

    def message(self, index: int) -> CloudMessage | None:
        """Returns None."""
        return None


def check_file(path: Path) -> None:
    """Checks that a path is an ordinary file that may be read.

    Raises:
        UserError: it is not.
    """
    try:
        require_regular(path)
        with path.open("rb"):
            pass
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; check the path") from error
    except IsADirectoryError as error:
        raise UserError(f"{path}: is a folder with the name of a file; name the files in it") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); give a file that can be read") from error


def content_of(path: Path) -> NDArray[np.uint8]:
    """Reads a file, (bytes,) uint8.

    Raises:
        UserError: it cannot be read, or is empty.
    """
    check_file(path)
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); copy it again") from error
    if not len(content):
        raise UserError(f"{path}: is empty; copy or write it again")
    return content


@contextmanager
def reading(path: Path | str, kind: str) -> Iterator[None]:
    """Turns whatever goes wrong with an untrusted file in the block into one line that names it.

    Libraries raise errors of any type for a damaged file. What is checked here raises a `ValueError` whose text says
    what is wrong.

    Args:
        path: the file (with the message of a bag), for the line.
        kind: what it should be, such as ".ply file".

    Raises:
        UserError: something went wrong.
    """
    try:
        yield
    except (UserError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # lazrs, in Rust, raises errors that are no `Exception`
        raise UserError(f"{path}: is damaged or no {kind}: {_reason(error)}; write or copy it again") from error


def _reason(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    text = re.sub(r"\s+", " ", (error.strerror if isinstance(error, OSError) else None) or str(error)).strip(" .")
    if isinstance(error, KeyError) or not text:
        text = f"{type(error).__name__} {text}".strip()
    return shortened(text, 200)


_FILTERS = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Silences the warnings of libraries in the block, one thread at a time: the filters belong to the process."""
    with _FILTERS, warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def missing_library(path: Path, kind: str, install: str, error: ImportError) -> UserError:
    """Builds the error for a format whose library is not there.

    Args:
        path: the file that needs it.
        kind: what it is, such as ".las file".
        install: what pip has to install.
        error: what the import has raised.
    """
    return UserError(f"{path}: a {kind} needs a library that is missing ({error}); run: pip install {install}")


def check_surplus(surplus: int, row: int, what: str) -> None:
    """Checks that no further points follow those of a header; less than a point may be a last line or padding.

    Args:
        surplus: bytes after the last point.
        row: size of a point, bytes.
        what: what the header says, such as "12 points".

    Raises:
        ValueError: they do.
    """
    if surplus >= row:
        raise ValueError(f"its header says {what}, and {surplus} bytes more follow")


def no_points(name: Path | str) -> NoReturn:
    """Raises the error for a cloud without points."""
    raise UserError(f"{name}: holds no points; leave it out, or write it again")


def point_cloud(
    name: Path | str, coordinates: Sequence[NDArray[Any]], intensity: NDArray[Any] | None = None
) -> PointCloud:
    """Makes the record of the points of a file, with what nothing measures as no return.

    Args:
        name: where they come from.
        coordinates: x, y and z, (N,) numbers of any type each.
        intensity: (N,) numbers of any type.

    Raises:
        UserError: there are none.
    """
    if not len(coordinates[0]):
        no_points(name)
    small = all(values.dtype.kind == "f" and values.dtype.itemsize <= 4 for values in coordinates)
    xyz = np.empty((len(coordinates[0]), 3), np.float32 if small else np.float64)
    strength = None
    with np.errstate(all="ignore"):  # numbers that float32 does not have, and signalling NaNs
        for axis, values in enumerate(coordinates):
            xyz[:, axis] = values
        _replace_far(xyz, np.nan)
        if intensity is not None:
            strength = intensity.astype(np.float32)
            _replace_far(strength, 0.0)
    return PointCloud(str(name), xyz, strength)


def _replace_far(values: NDArray[Any], substitute: float) -> None:
    """Replaces numbers that are not finite or beyond `FARTHEST`: their squares overflow, and nothing measures them."""
    if not (values.max() < FARTHEST and values.min() > -FARTHEST):  # true also if one of them is NaN
        values[~(np.abs(values) < FARTHEST)] = substitute
