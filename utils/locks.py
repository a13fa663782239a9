"""Means for commands that run at the same time: locks, and new folders that only one command gets."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_BUSY = (errno.EACCES, errno.EAGAIN)


class Lock:
    """A lock file that one process at a time holds, until it releases it or ends in any way.

    If the file system has no locks, or the folder cannot be written, every process gets the lock.

    Args:
        path: the lock file; its folder must exist. It is removed when the lock is released.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Is true while this process alone has the lock; false where the file system has no locks, too."""
        return self._descriptor is not None

    def acquire(self, wait: bool = True) -> bool:
        """Acquires the lock and returns True; without `wait`, returns False if another process holds it."""
        while True:
            try:
                # Open for writing, or NFS does not lock; non-blocking, in case there is a pipe with this name.
                flags = os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
                descriptor = os.open(self._path, flags, 0o666)
            except OSError:
                return True
            try:
                # A child process does not inherit this kind of lock, so a child that outlives its parent blocks nobody.
                fcntl.lockf(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError as error:
                os.close(descriptor)
                return error.errno not in _BUSY
            except BaseException:
                os.close(descriptor)
                raise
            if self._is_current(descriptor):
                self._descriptor = descriptor
                return True
            os.close(descriptor)  # its former holder has removed the file meanwhile

    def release(self) -> None:
        """Releases the lock, if this process holds it."""
        if self._descriptor is not None:
            with suppress(OSError):
                self._path.unlink()
            os.close(self._descriptor)
            self._descriptor = None

    def _is_current(self, descriptor: int) -> bool:
        try:
            there = os.stat(self._path)
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(descriptor))


@contextmanager
def locked(path: Path, waiting: Callable[[], object] = lambda: None) -> Iterator[Lock]:
    """Lets only one process at a time run the block; the others wait.

    Args:
        path: the lock file.
        waiting: called once if another process holds the lock.

    Yields:
        The lock; it is not held where the file system has no locks.
    """
    lock = Lock(path)
    if not lock.acquire(wait=False):
        waiting()
        lock.acquire()
    try:
        yield lock
    finally:
        lock.release()


def new_folder(wanted: Path) -> Path:
    """Makes a folder that did not exist before: `wanted`, or the same name with -2, -3 and so on appended.

    Raises:
        OSError: the folder cannot be made.
    """
    wanted.parent.mkdir(parents=True, exist_ok=True)
    folder, number = wanted, 1
    while True:
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1
            folder = wanted.with_name(f"{wanted.name}-{number}")


def stamp(prefix: str) -> str:
    """Appends date and time to `prefix`, as in the names of folders with results."""
    return f"{prefix}{time.strftime('%Y-%m-%d_%H-%M-%S')}"
