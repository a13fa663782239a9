"""The names that trackers gave to the run of a training, kept in its folder: resumed, it goes on in that run."""

from __future__ import annotations

import re
from pathlib import Path

from utils.files import read_text, write_text

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


def known_run(folder: Path, tracker: str) -> str | None:
    """Returns the run in which a training goes on; None: it begins a new one, also if the file is damaged.

    Args:
        folder: the run's folder.
        tracker: name of the tracker.
    """
    try:
        text = read_text(_file(folder, tracker)).strip()
    except (OSError, UnicodeDecodeError):
        return None
    return text if _ID.fullmatch(text) else None


def keep_run(folder: Path, tracker: str, name: str) -> None:
    """Keeps the name of the run.

    Raises:
        OSError: it cannot be written.
    """
    write_text(_file(folder, tracker), f"{name}\n")


def _file(folder: Path, tracker: str) -> Path:
    return folder / f"{tracker}_run.txt"
