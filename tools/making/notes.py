"""Notes: small JSON files that a tool leaves beside its output, and reads again on a later run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.files import read_text, write_text

Note = dict[str, Any]


def read_note(path: Path, types: Mapping[str, type], harmless: Callable[[Note], bool] | None = None) -> Note | None:
    """Reads the note at `path`; returns None if there is none.

    Args:
        path: path of the file.
        types: types of the entries that the note must have, by key.
        harmless: returns whether the content can be trusted, since anybody may have edited the file.

    Raises:
        UserError: the file is no such note.
        OSError: the file cannot be read, or is no ordinary file.
    """
    if not path.exists():
        return None
    try:
        note = json.loads(read_text(path))
        known = all(isinstance(note[key], kind) for key, kind in types.items()) and (harmless is None or harmless(note))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        known, note = False, None
    if not known:
        raise UserError(f"{path}: not readable as this tool's note; remove it and the data beside it by hand")
    return note


def refuse_others(folders: Iterable[Path]) -> None:
    """Refuses to write into folders that exist without a note of the tool, since something else made them.

    Raises:
        UserError: one of the folders exists.
    """
    for folder in sorted(set(folders)):
        if folder.exists():
            raise UserError(f"{folder}: not made by this tool, so it stays; choose another --output")


def write_note(path: Path, note: Note) -> None:
    """Writes the note; the file appears complete or not at all."""
    write_text(path, json.dumps(note, indent=1) + "\n")
