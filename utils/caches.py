"""The folder where this project keeps what it can make again: a cache of the user, outside of data and results."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """Returns $XDG_CACHE_HOME/2dpass, or ~/.cache/2dpass where that is unset; None if the user has no home.

    The folder need not exist.
    """
    # A relative path is to be ignored, says the XDG base directory specification.
    bases = [Path(os.environ.get("XDG_CACHE_HOME", "")), Path(os.path.expanduser("~")) / ".cache"]
    return next((base / "2dpass" for base in bases if base.is_absolute()), None)
