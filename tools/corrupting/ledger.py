"""The note in the folder of the corrupted subsets, about their source and their options.

With it, an interrupted run can be continued, and subsets with other options are not mixed in.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from dataloader.corruptions.families import NOTE, CorruptedSubset
from dataloader.formats.files import missing_files
from tools.corrupting.clean import CleanFrame
from tools.corrupting.frame import FrameResult
from tools.making.notes import Note, read_note, refuse_others, write_note
from utils.corruptions import CLEAN_FOLDER
from utils.errors import UserError
from utils.locks import Lock, locked


class Ledger:
    """The note <output>/corruptions.json, which is made if there is none.

    Args:
        output: folder of the subsets.
        options: all options that the content of the files depends on.
        subsets: names of all subsets of the family, also of those that are not asked for.

    Raises:
        UserError: the folder holds subsets made with other options, or not made by this tool.
    """

    def __init__(self, output: Path, options: dict[str, Any], subsets: Iterable[str]) -> None:
        self.path = output / NOTE
        output.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self.note = self._begin(output, options, subsets)

    def _locked(self) -> AbstractContextManager[Lock]:
        """Locks the note, since other processes may make subsets at the same time."""
        return locked(self.path.with_name(f".{self.path.name}.lock"))

    def _read(self) -> Note | None:
        return read_note(self.path, {"options": dict, "subsets": dict})

    def _begin(self, output: Path, options: dict[str, Any], subsets: Iterable[str]) -> Note:
        options = json.loads(json.dumps(options))  # tuples become lists, as in the file
        note = self._read()
        if note is None:
            refuse_others(output / name.partition("/")[0] for name in subsets)
            note = {"options": options, "subsets": {}}
            write_note(self.path, note)
        elif note["options"] != options:
            difference = _difference(note["options"], options)
            raise UserError(f"{self.path}: made with other options ({difference}); choose another --output")
        return note

    def finished(self, name: str, frames: Sequence[CleanFrame]) -> bool:
        """Returns whether the subset was completed and all of its files still exist."""
        files = [path for frame in frames for path in (frame.scan_to, frame.labels_to)]
        return name in self.note["subsets"] and not missing_files(self.path.parent / name, files)

    def complete(self, name: str, subset: CorruptedSubset | None, results: dict[str, FrameResult]) -> None:
        """Notes that a subset is complete.

        Args:
            name: name of the subset.
            subset: the subset; None for `CLEAN_FOLDER`.
            results: results by the key of the frame.
        """
        entry: dict[str, Any] = {
            "frames": len(results),
            "points_change_percent": 100 * float(np.mean([result.change for result in results.values()])),
            "ignored_percent": 100 * float(np.mean([result.ignored for result in results.values()])),
        }
        if subset is not None:
            entry |= {
                "type": subset.type,
                "severity": subset.severity,
                "function": subset.function.__name__,
                "parameters": dict(subset.parameters),
            }
            if subset.drawn:
                entry["drawn"] = {key: result.drawn for key, result in results.items()}
        with self._locked():
            self.note = self._read() or self.note
            self.note["subsets"][name] = entry
            write_note(self.path, self.note)

    def line(self, name: str) -> str:
        """Describes a completed subset in one line."""
        entry = self.note["subsets"][name]
        points, ignored = entry["points_change_percent"], entry["ignored_percent"]
        what = "untouched" if name == CLEAN_FOLDER else f"{points:+7.2f} % points"
        return f"{name:<26}{entry['frames']:>6} frames   {what:<16} {ignored:6.2f} % ignored"


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Lists the options that differ: "seed 0, now 1"."""
    flat_before, flat_now = _flat(before), _flat(now)
    names = [name for name in {**flat_before, **flat_now} if flat_before.get(name) != flat_now.get(name)]
    return "; ".join(f"{name} {flat_before.get(name)}, now {flat_now.get(name)}" for name in names)


def _flat(options: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in options.items():
        flat |= {f"{name}.{key}": below for key, below in value.items()} if isinstance(value, dict) else {name: value}
    return flat
