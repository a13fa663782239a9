"""The note beside a data set that its maker wrote, so that a later run recognises its own files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tools.making.notes import Note, read_note, refuse_others, write_note
from utils.errors import UserError
from utils.files import remove_partials
from utils.names import is_path_below

NAME = "demo_world.json"
FORMAT = 3
"""The version of the files: increased when the same options give other bytes."""


def claim(
    output: Path, identity: dict[str, Any], files: Iterable[Path], overwrite: bool, caches: Iterable[Path] = ()
) -> Note | None:
    """Makes sure that a data set may be written to `output`.

    Args:
        output: the data set's folder.
        identity: the options that decide its bytes.
        files: all files the data set will have, below `output`.
        overwrite: whether a set with other options may be removed (only files that the maker wrote).
        caches: files that readers may put among them; they are removed, too.

    Returns:
        The note of a complete set with the same options (then there is nothing to do), else None: write.

    Raises:
        UserError: something else is in the way.
    """
    files = list(files)
    note = _read(output)
    if note is not None:
        same = note["options"] == identity and note["format"] == FORMAT
        if same and note["complete"] and all(path.is_file() for path in files):
            return note
        if not same and not overwrite:
            other = "with other options" if note["format"] == FORMAT else "by another version of this tool"
            raise UserError(f"{output / NAME}: made {other}; add --overwrite or choose another --output")
        _remove(output, note["files"])
    refuse_others(output / path.relative_to(output).parts[0] for path in files)
    output.mkdir(parents=True, exist_ok=True)
    names = [path.relative_to(output).as_posix() for path in [*files, *caches]]
    write_note(output / NAME, {"options": identity, "format": FORMAT, "complete": False, "files": names})
    return None


def complete(output: Path, **found: Any) -> Note:
    """Records that the data set in `output` is complete, and what was `found` while it was made; returns the note."""
    note = _read(output)
    assert note is not None
    note = {**note, "complete": True, **found}
    write_note(output / NAME, note)
    return note


def _read(output: Path) -> Note | None:
    types = {"options": dict, "files": list, "complete": bool, "format": int}
    return read_note(output / NAME, types, harmless=lambda note: _stay_below(output, note["files"]))


def _stay_below(output: Path, names: list[Any]) -> bool:
    """Returns whether all of them lie in `output`, also where a folder on the way is a link."""
    if not all(map(is_path_below, names)):
        return False
    folders = {(output / name).parent for name in names}
    return all(folder.resolve().is_relative_to(output.resolve()) for folder in folders)


def _remove(output: Path, names: list[str]) -> None:
    """Removes the files `names`, and their folders where nothing else is left in them."""
    folders: set[Path] = set()
    for name in names:
        path = output / name
        path.unlink(missing_ok=True)
        folders.update(parent for parent in path.parents if output in parent.parents)
    for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        remove_partials(folder)  # of a run that was killed
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    (output / NAME).unlink()
