"""Commands that run side by side: locks, and folders of their own."""

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
    """A file that one process at a time holds, until it lets go or ends, however it ends.

    Where the file system knows no locks, or the folder cannot be written, everybody holds it.

    Args:
        path: the file of the lock; its folder must exist. It is removed when the lock is let go.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self, wait: bool = True) -> bool:
        """Take the lock; without `wait`, False if another process holds it."""
        while True:
            try:
                # Open for writing, or NFS locks nothing; not blocking, should there be a pipe of this name.
                flags = os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
                descriptor = os.open(self._path, flags, 0o666)
            except OSError:
                return True
            try:
                # A child process does not inherit this kind of lock: one that outlives its parent keeps nobody waiting.
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
            os.close(descriptor)  # whoever held it before has removed it meanwhile

    def release(self) -> None:
        """Let go."""
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
def locked(path: Path, waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Only one process at a time passes; the others wait.

    Args:
        path: the file of the lock.
        waiting: called if another process is inside.
    """
    lock = Lock(path)
    if not lock.acquire(wait=False):
        waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def new_folder(wanted: Path) -> Path:
    """Make a folder that no other process has: `wanted`, or the same with -2, -3 and so on behind its name.

    Raises:
        OSError: it cannot be made.
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
    """`prefix` with date and time behind it, as in the names of folders with results."""
    return f"{prefix}{time.strftime('%Y-%m-%d_%H-%M-%S')}"
