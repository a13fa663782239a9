"""The sequences of a split, which are folders, and the folders that there are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from dataloader.datasets.semantickitti.frames import some_of
from utils.errors import UserError
from utils.labels import LabelMap
from utils.names import is_folder_name, shown

_NAMED = 12  # folders that a line names
_HOW = (
    "list the folders under split in the file of dataset_params.label_mapping: any names in letters, digits, '.', '_' "
    "and '-', such as 08 or 2013_05_28_drive_0000_sync"
)


def sequences_of(split: str, label_map: LabelMap) -> tuple[str, ...]:
    """Lists the sequences of "train", "valid", "test" or of "trainval", each once.

    Raises:
        UserError: the label mapping lists none.
    """
    parts = ("train", "valid") if split == "trainval" else (split,)
    for part in parts:
        if not label_map.split.get(part):
            raise UserError(
                f"dataset_params.label_mapping: the file has no sequences under split.{part}; take SemanticKITTI's"
            )
    return tuple(dict.fromkeys(sequence for part in parts for sequence in label_map.split[part]))


def none_there(root: Path, split: str, wanted: Sequence[str], where: str) -> UserError:
    """Makes the error that none of the `wanted` sequences of a split is in `root`; `where` says how to set that."""
    there = sorted(path.name for path in root.iterdir() if path.is_dir())
    found = f"the folders there are {_some(there)}" if there else "there are no folders"
    return UserError(f"{root}: holds none of the sequences {_some(wanted)} ({split}), {found}; {where}, or {_HOW}")


def unlisted(root: Path, absent: Collection[str], label_map: LabelMap) -> str | None:
    """Describes folders with scans that no split lists, where sequences of the split are `absent`."""
    listed = {sequence for sequences in label_map.split.values() for sequence in sequences}
    others = sorted(path.parent.name for path in root.glob("*/velodyne") if path.parent.name not in listed)
    if not others or not absent:
        return None
    return f"no split lists {_some(others)}, so their scans are left out (not there: {_some(list(absent))}); {_HOW}"


def _some(names: Sequence[str]) -> str:
    return some_of([name if is_folder_name(name) else shown(name) for name in names], _NAMED)
