"""The names of results: no two are the same, none is that of a folder, and all of them can be written."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from utils.results.point_files import PARTS
from utils.results.prediction_records import BAG_FOLDER, FOLDER, SUFFIXES

_MADE = (*SUFFIXES, *PARTS, "json")  # suffixes of what is made of a scan, with the note
_RESERVED = ("summary.json/", f"{FOLDER}/", f"{BAG_FOLDER}/")
_LONGEST_NAME = 200  # bytes; file systems allow 255, with the suffix and what stands before it while it is written


def possible(target: str) -> str:
    """Returns a target whose files can be made: no name is too long, nor that of what predict.py writes itself."""
    parts = ["scans", target] if target.lower().startswith(_RESERVED) else [target]
    return "/".join(map(_shortened, "/".join(parts).split("/")))


def _shortened(name: str) -> str:
    whole = os.fsencode(name)
    if len(whole) <= _LONGEST_NAME:
        return name
    return f"{whole[: _LONGEST_NAME - 9].decode(errors='ignore')}-{hashlib.sha256(whole).hexdigest()[:8]}"


def told_apart(targets: Sequence[str], beside: Sequence[str] = ()) -> list[str]:
    """Numbers the targets that are the same, as of drive.mcap and of the folder drive.

    Neither may a file have the name of a folder, as the labels of a.bin beside the folder a.label; also not of a folder
    of the targets `beside`.
    """
    folders = {str(folder).lower() for target in (*targets, *beside) for folder in PurePosixPath(target).parents}
    taken: set[str] = set()
    found = []
    for target in targets:
        free, place = target, 1
        while free.lower() in taken or not folders.isdisjoint(f"{free.lower()}.{suffix}" for suffix in _MADE):
            place += 1
            free = f"{target}-{place}"
        taken.add(free.lower())
        found.append(free)
    return found


def clashes(names: Sequence[str]) -> list[list[int]]:
    """Returns the numbers of the names that are the same, whatever the case of their letters."""
    same: dict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(names):
        same[name.lower()].append(number)
    return [numbers for numbers in same.values() if len(numbers) > 1]
