"""Notes: small JSON files that a tool leaves beside what it made, and finds again on a later run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.files import read_text, write_text

Note = dict[str, Any]


def read_note(path: Path, types: Mapping[str, type], harmless: Callable[[Note], bool] | None = None) -> Note | None:
    """Reads the note at `path`; None if there is none.

    Args:
        path: the file.
        types: what it must hold.
        harmless: whether its content can be trusted: a note is a file that anybody may have edited.

    Raises:
        UserError: it is not such a note.
        OSError: it cannot be read, or is no ordinary file.
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
    """Refuses to write where something lies without a note of the tool: it is somebody else's.

    Raises:
        UserError: one of the folders is there.
    """
    for folder in sorted(set(folders)):
        if folder.exists():
            raise UserError(f"{folder}: not made by this tool, so it stays; choose another --output")


def write_note(path: Path, note: Note) -> None:
    """Writes the note, complete or not at all."""
    write_text(path, json.dumps(note, indent=1) + "\n")
