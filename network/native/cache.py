"""The folder in which compiled libraries are kept. Code is loaded from it, so nobody else may write there."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from utils.caches import cache_folder
from utils.files import remove_partials, require_regular, whole_file

_WORKSPACE = ".compiling-"
_ABANDONED = 3600.0  # seconds after which a workspace belongs to a process that was killed
_UNUSED = 60 * 86400.0  # seconds after which a library is of a version that nobody runs any more


def private_folder() -> Path:
    """Makes the folder, if need be.

    Raises:
        OSError: it cannot be made, or somebody else could write there.
    """
    cache = cache_folder()
    if cache is None:
        raise OSError("this user has no home folder to keep it in")
    folder = cache / "native"
    cache.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    _require_private(folder.resolve(strict=True))
    return folder


def _require_private(folder: Path) -> None:
    """Raises an OSError if another user than the superuser can write to a folder, or put another one in its place."""
    there = folder.stat()
    if not stat.S_ISDIR(there.st_mode) or there.st_uid != os.geteuid() or there.st_mode & 0o022:
        raise OSError(f"{folder}: others can write there")
    for parent in folder.parents:
        there = parent.stat()
        open_to_all = there.st_mode & stat.S_IWOTH and not there.st_mode & stat.S_ISVTX
        if there.st_uid not in (0, os.geteuid()) or open_to_all:
            raise OSError(f"{parent}: others can write there")


@contextmanager
def workspace(folder: Path) -> Iterator[Path]:
    """Makes a temporary folder in `folder`, and removes it after the block."""
    made = Path(tempfile.mkdtemp(prefix=_WORKSPACE, dir=folder))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def tidy(folder: Path) -> None:
    """Removes what killed processes have left, and old libraries; under the lock of the folder."""
    remove_partials(folder)
    now = time.time()
    for path in folder.iterdir():
        with suppress(OSError):
            age = now - path.stat().st_mtime
            if path.name.startswith(_WORKSPACE):
                if age > _ABANDONED:
                    shutil.rmtree(path, ignore_errors=True)
            elif age > _UNUSED:
                path.unlink()


def keep(path: Path, content: bytes) -> None:
    """Writes a file followed by its SHA-256, whole or not at all. A library with such an end can be loaded.

    Raises:
        OSError: it cannot be written.
    """
    with whole_file(path) as file:
        file.write(content + hashlib.sha256(content).digest())


def is_kept(path: Path) -> bool:
    """Returns whether `keep` has written this file, and nothing has changed it since; notes that it is in use."""
    try:
        require_regular(path)
        content = path.read_bytes()
    except OSError:
        return False
    if hashlib.sha256(content[:-32]).digest() != content[-32:]:
        return False
    with suppress(OSError):
        os.utime(path)
    return True
