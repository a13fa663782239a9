"""Files of servers in a cache of this machine, each under the SHA-256 that it must have."""

from __future__ import annotations

import os
import threading
import uuid
from pathlib import Path

from utils.caches import cache_folder
from utils.errors import UserError
from utils.fetching.references import Link, Note
from utils.fetching.transfer import discard, transfer, unwritable
from utils.files import sha256_of
from utils.locks import locked

_THREADS = threading.Lock()
"""Threads of one process wait here: a lock of a file is for processes."""


def fetch_link(link: Link, note: Note) -> Path:
    """Returns a file of the cache, which is compared with its digest each time; it is downloaded if it is not there.

    Of several processes one downloads; the others wait for it.

    Raises:
        UserError: the file cannot be had, or it is another one than the digest says.
    """
    path = _folder() / f"sha256-{link.sha256}"
    if _is_good(path, link.sha256):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{path.parent}: cannot be made ({error.strerror}); see to its permissions, or let XDG_CACHE_HOME name "
            "another folder"
        ) from error
    waiting = f"waiting for another process that fetches {link}"
    with _THREADS, locked(path.parent / f".{path.name}.lock", lambda: note(waiting)) as lock:
        if _is_good(path, link.sha256):
            return path
        if path.exists():
            note(f"note: {path} is damaged, and is fetched again")
        note(f"fetching {link} into {path}")
        # Without locks, others may write at this moment: to a file of its own, which nobody goes on with.
        own = "" if lock.held else f".{uuid.uuid4().hex[:8]}"
        partial = path.with_name(f".{path.name}{own}.partial")
        try:
            _download(link, partial, note)
            _finish(partial, path)
        finally:
            if own:
                discard(partial)
    return path


def _folder() -> Path:
    cache = cache_folder()
    if cache is None:
        raise UserError("there is no home folder for fetched checkpoints; let XDG_CACHE_HOME name a folder for them")
    return cache / "checkpoints"


def _is_good(path: Path, sha256: str) -> bool:
    try:
        return sha256_of(path) == sha256
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); remove it, and it is fetched again") from error


def _download(link: Link, partial: Path, note: Note) -> None:
    """Downloads to a partial file, and on from where it ends; in the end it is the right one."""
    if transfer(link, partial, note) and sha256_of(partial) != link.sha256:
        # The file on the server has changed meanwhile, or the part that an earlier run has left is damaged.
        note("note: the parts that came one after the other do not belong together; starting from the beginning")
        partial.unlink()
        transfer(link, partial, note)
    if (found := sha256_of(partial)) != link.sha256:
        partial.unlink()
        raise UserError(
            f"{link}: refused, its SHA-256 is {found}, not {link.sha256} as --checkpoint says; it is another file, or "
            "the digits are of another one: ask where you have them from"
        )


def _finish(partial: Path, path: Path) -> None:
    """Gives a file that is on the disk its name."""
    try:
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise unwritable(partial, error) from error
