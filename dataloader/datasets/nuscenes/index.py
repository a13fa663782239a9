"""The part of nuScenes' tables that reading scans takes, kept in a file that opens at once.

The tables are JSON of more than a gigabyte. What is needed of them is a few dozen megabytes of equal records, written
once:

    <data_path>/<version>/2dpass_index.npy            one record per key frame (`tables.key_frames`)
    <data_path>/<version>/2dpass_index.json           the tables it was made of, and the categories
    <data_path>/<version>/2dpass_index_sweeps.*       the same with one record per LiDAR sweep (`sweeps.lidar_sweeps`),
                                                      made when past sweeps are asked for

or, where the data cannot be written, in $XDG_CACHE_HOME/2dpass/<hash of the folder>/ (~/.cache if unset). The records
are mapped into memory, so processes share them, and a newly started process opens the file again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import uuid
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.caches import cache_folder
from utils.errors import UserError
from utils.files import require_regular, whole_file, write_text
from utils.locks import locked

_FORMAT = 2
"""The version of the content of an index, raised with each change; an older index is built again."""

KEY_FRAMES, SWEEPS = "2dpass_index", "2dpass_index_sweeps"
"""The names of the indexes, which their files have; no table is called so."""

_COLUMNS = {
    KEY_FRAMES: {
        "scene": ("S", ()),
        "token": ("S", ()),
        "lidar": ("S", ()),
        "lidarseg": ("S", ()),
        "images": ("S", (6,)),
        "matrices": ("f", (6, 3, 4)),
        "sizes": ("i", (6, 2)),
    },
    SWEEPS: {
        "lidar": ("S", ()),
        "time": ("i", ()),
        "pose": ("f", (3, 4)),
        "frame": ("i", ()),
        "previous": ("i", ()),
    },
}
"""Kind and shape of what a record holds."""

Stamps = dict[str, list[int]]
"""Size and time of change (ns) of every table: an index made of other tables is stale."""


@dataclass(frozen=True)
class NuScenesIndex:
    """The part of one version's tables that is kept.

    Attributes:
        records: (key frames,) structured, sorted by scene name, then time; see `tables.key_frames`. Or (sweeps,), as
            `sweeps.lidar_sweeps` gives them.
        categories: raw label id -> category name; empty if category.json has no index (it came without lidarseg), and
            beside sweeps.
        kept: (folder, checksum) of the file that `records` is mapped from; None if they are in memory only.
        name: which index it is.
    """

    records: NDArray[np.void]
    categories: dict[int, str]
    kept: tuple[Path, int] | None = None
    name: str = KEY_FRAMES

    @property
    def path(self) -> Path | None:
        """The file that `records` is mapped from, for error messages."""
        return self.kept and self.kept[0] / f"{self.name}.npy"

    def __reduce__(self) -> tuple[Callable[..., NuScenesIndex], tuple[Any, ...]]:
        """Pickles the place of the file, not its content, for a newly started process."""
        if self.kept is None:
            return NuScenesIndex, (self.records, self.categories, None, self.name)
        return _reopen, (*self.kept, self.name)


def open_index(folder: Path, build: Callable[[], NuScenesIndex], name: str = KEY_FRAMES) -> NuScenesIndex:
    """Opens the index of the tables in `folder`; builds and keeps it where there is none that is whole and of these.

    Several processes may call this at once: one builds, the others wait for it.

    Args:
        folder: <data_path>/<version>, with the tables.
        build: reads the tables.
        name: which index.

    Raises:
        UserError: whatever `build` raises.
    """
    stamps = _stamps(folder)
    places = [folder, *_cache_folder(folder)]
    for place in places:
        if (index := _load(place, stamps, name)) is not None:
            return index
    writeable = next((place for place in places if _is_writeable(place)), None)
    if writeable is None:
        _say(folder, name, f"it is not kept, as none of these can be written: {', '.join(map(str, places))}")
        return build()
    with locked(writeable / f".{name}.lock"):
        # It may have been built while this process waited.
        if (index := _load(writeable, stamps, name)) is not None:
            return index
        _say(folder, name, f"what is needed is kept in {writeable / name}.npy")
        index = build()
        try:
            _write(writeable, index, stamps)
        except OSError as error:
            print(f"{writeable}: cannot keep the index ({error.strerror}); it is in memory only", file=sys.stderr)
            return index
        return _load(writeable, stamps, name) or index


def _say(folder: Path, name: str, where: str) -> None:
    what = " for the past sweeps" if name == SWEEPS else ""
    print(
        f"{folder}: reading the nuScenes tables{what}, once (v1.0-trainval takes about half a minute); {where}",
        file=sys.stderr,
        flush=True,
    )


def _stamps(folder: Path) -> Stamps:
    tables = sorted(path for path in folder.glob("*.json") if not path.name.startswith((KEY_FRAMES, ".")))
    return {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in tables}


def _cache_folder(folder: Path) -> list[Path]:
    """Returns the place in the user's cache; none if the user has no home."""
    digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    cache = cache_folder()
    return [] if cache is None else [cache / digest]


def _is_writeable(folder: Path) -> bool:
    probe = folder / f".{KEY_FRAMES}.{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(probe, "xb"):
            probe.unlink()
    except OSError:
        return False
    return True


def _write(folder: Path, index: NuScenesIndex, stamps: Stamps) -> None:
    """Writes both files, each complete or not at all.

    Between the two the header does not fit the records; then the checksum is wrong, and a reader waits or builds.

    Raises:
        OSError: they cannot be written.
    """
    records = folder / f"{index.name}.npy"
    with whole_file(records) as file:
        np.save(file, index.records, allow_pickle=False)
    about = {"tables": stamps, "categories": {str(raw): name for raw, name in index.categories.items()}}
    header = {"format": _FORMAT, "checksum": _checksum(records, about), **about}
    write_text(folder / f"{index.name}.json", json.dumps(header))


def _checksum(records: Path, about: dict[str, Any]) -> int:
    """Computes the CRC-32 of the file of records and of what the header says about it."""
    text = json.dumps(about, sort_keys=True).encode()
    return zlib.crc32(text, zlib.crc32(np.memmap(records, dtype=np.uint8, mode="r").data))


def _load(folder: Path, stamps: Stamps | None, name: str) -> NuScenesIndex | None:
    """Loads the index kept in `folder`; None if there is none, or it is damaged, or not of the tables of `stamps`."""
    path = folder / f"{name}.npy"
    try:
        for file in (path, folder / f"{name}.json"):
            require_regular(file)
        header = json.loads((folder / f"{name}.json").read_bytes())
        about = {key: header[key] for key in ("tables", "categories")}
        if header["format"] != _FORMAT or (stamps is not None and about["tables"] != stamps):
            return None
        if _checksum(path, about) != header["checksum"]:
            return None
        categories = {int(raw): category for raw, category in about["categories"].items()}
        records = np.load(path, mmap_mode="r", allow_pickle=False)
        if not _are(name, records) or not all(isinstance(category, str) for category in categories.values()):
            return None
        return NuScenesIndex(records, categories, (folder, header["checksum"]), name)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _are(name: str, records: NDArray[Any]) -> bool:
    """Returns whether this can be what the tables are made into: the file may come with a data set."""
    columns = _COLUMNS[name]
    if records.ndim != 1 or records.dtype.names != tuple(columns):
        return False
    if {column: (records[column].dtype.kind, records[column].shape[1:]) for column in columns} != columns:
        return False
    if name == SWEEPS:
        return _lead_back(records)
    return np.array_equal(records["images"] != b"", (records["sizes"] > 0).all(axis=-1))


def _lead_back(sweeps: NDArray[Any]) -> bool:
    """Returns whether each sweep has a pose, and the one before it is earlier: then the way back ends.

    Raises:
        IndexError: there is no such sweep before it.
    """
    previous = sweeps["previous"]
    linked = previous >= 0
    earlier = sweeps["time"][previous[linked]] < sweeps["time"][linked]
    return bool(np.isfinite(sweeps["pose"]).all() and (previous >= -2).all() and earlier.all())


def _reopen(folder: Path, checksum: int, name: str) -> NuScenesIndex:
    index = _load(folder, None, name)
    if index is None or index.kept != (folder, checksum):
        raise UserError(f"{folder / name}.npy: removed or replaced while the program ran; start it again")
    return index
