"""Paths that a person wrote: with ~, or relative to the root of the repository."""

from __future__ import annotations

from pathlib import Path

from utils.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[1]


def expand_home(name: str | Path, key: str = "") -> Path:
    """Replaces a leading ~ or ~user in a path by that home folder.

    Args:
        name: a path as written in the configuration.
        key: the key that names it, for the error message.

    Raises:
        UserError: there is no such user, or no home folder.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        start = f"{key} names " if key else ""
        raise UserError(f"{start}{name}, but there is no such home folder, correct the path") from error


def resolve_path(name: str | Path, key: str = "") -> Path:
    """Finds the file that a configuration names, relative to the current directory or else to this repository's root.

    Args:
        name: a path as written in the configuration.
        key: the key that names it, for the error message.

    Raises:
        UserError: the file is in neither place, or there is no such home folder.
    """
    path = expand_home(name, key)
    roots = [Path.cwd()] if path.is_absolute() else list(dict.fromkeys([Path.cwd(), REPOSITORY]))
    for root in roots:
        if (root / path).is_file():  # an absolute path stays as it is
            return root / path
    folders = "" if path.is_absolute() else f" in {' or '.join(map(str, roots))}"
    start = f"{key} names " if key else ""
    raise UserError(f"{start}{name}, but there is no such file{folders}, correct the path")
