"""The data base of objects as a file: an uncompressed `.npz` without Python objects, checked when it is read."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataloader.formats.clouds import check_file, reading
from dataloader.formats.npy import read_arrays
from dataloader.objects.cutting import FARTHEST, LEAST_POINTS, MOST_POINTS, Cut
from dataloader.objects.records import FACTS, Objects
from utils.errors import UserError
from utils.files import write_bytes

FORMAT = 2
"""Version of the file; it changes with whatever is cut out."""

_ROUNDING = 0.01  # metres
_TYPES = {"points": np.dtype("<f4"), "facts": FACTS, "class_points": np.dtype("<i8")}


def write_objects(path: Path, objects: Objects) -> None:
    """Writes a data base, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    arrays = {name: getattr(objects, name).astype(kind, copy=False) for name, kind in _TYPES.items()}
    content = io.BytesIO()  # on a full disk, zipfile would write to the file once more when it is already closed
    np.savez(content, **arrays)
    try:
        write_bytes(path, content.getbuffer())
    except OSError as error:
        raise UserError(
            f"{path}: the data base of objects cannot be written ({error.strerror}); name another folder in "
            "dataset_params.mixing.instance_paste.database"
        ) from error


def read_objects(path: Path, cut: Cut) -> Objects:
    """Reads a data base of objects that were cut out as `cut` says.

    Raises:
        UserError: it is no such file, or is damaged.
    """
    check_file(path)
    try:
        with reading(path, "data base of objects"), zipfile.ZipFile(path) as archive:
            arrays = read_arrays(archive, path.stat().st_size)
            if {name: array.dtype for name, array in arrays.items()} != _TYPES:
                raise ValueError("it holds other arrays")
            return _checked(arrays, cut)
    except UserError as error:
        problem = str(error).removesuffix("; write or copy it again")
        raise UserError(f"{problem}; remove it, and it is built again") from error


def _checked(arrays: dict[str, NDArray[Any]], cut: Cut) -> Objects:
    """Makes the record of arrays of the right types; raises a ValueError if they do not fit together."""
    points, facts, counts = (arrays[name] for name in _TYPES)
    if points.shape != (len(points), 4) or facts.ndim != 1 or counts.shape != (cut.classes,):
        raise ValueError("an array has another shape")
    numbers = facts["count"]
    if ((numbers < LEAST_POINTS) | (numbers > MOST_POINTS)).any() or numbers.sum(dtype=np.int64) != len(points):
        raise ValueError("its objects have other numbers of points")
    if not np.isfinite(points).all() or np.abs(points[:, :3]).max(initial=0) > FARTHEST:
        raise ValueError("a point lies nowhere near a sensor")
    if not np.isfinite(facts["box"]).all() or np.abs(facts["box"]).max(initial=0) > FARTHEST:
        raise ValueError("the footprint of an object is no box")
    centre, half = (np.repeat(facts["box"][:, part], numbers, axis=0) for part in (slice(0, 2), slice(2, 4)))
    if (np.hypot(*(points[:, :2] - centre).T) > np.hypot(*half.T) + _ROUNDING).any():
        raise ValueError("an object does not lie in its footprint")
    if (facts["box"][:, 2:4] < 0).any() or not (np.abs(facts["ground"]) <= FARTHEST).all():
        raise ValueError("an object does not stand on the ground")
    if not (np.isin(facts["label"], cut.things).all() and np.isin(facts["surface"], cut.surfaces).all()):
        raise ValueError("an object has another class")
    if (counts < 0).any() or (facts["scan"] < 0).any():
        raise ValueError("a number is negative")
    return Objects(points, facts, counts)
