"""The page cache: the memory in which the system keeps files that were read."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

_PAGE = mmap.PAGESIZE


def separate(files: Iterable[Path]) -> None:
    """Gives every file that shares its content with others by a link a content of its own."""
    for file in files:
        if file.stat().st_nlink > 1:
            copy = file.with_name(file.name + ".copy")
            shutil.copyfile(file, copy)
            os.replace(copy, file)


def evict(files: Iterable[Path]) -> float | None:
    """Asks the system to drop files from its page cache.

    Returns:
        The share of their pages that stay all the same, 0..1: on a file system in memory, all. None: the system has no
        such call.
    """
    if not hasattr(os, "posix_fadvise"):
        return None
    stay = total = 0
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # what is not written yet would stay
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            resident, pages = _resident(descriptor)
        finally:
            os.close(descriptor)
        stay, total = stay + resident, total + pages
    return stay / max(total, 1)


def _resident(descriptor: int) -> tuple[int, int]:
    """Counts the pages of a file that are in memory, and all its pages."""
    size = os.fstat(descriptor).st_size
    if size == 0:
        return 0, 0
    pages = -(-size // _PAGE)
    flags = np.zeros(pages, dtype=np.uint8)
    with mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) as mapped:
        content = np.frombuffer(mapped, np.uint8)
        failed = ctypes.CDLL(None).mincore(
            ctypes.c_void_p(content.ctypes.data), ctypes.c_size_t(size), ctypes.c_void_p(flags.ctypes.data)
        )
        del content  # or the file could not be unmapped
    return (pages if failed else int(np.count_nonzero(flags & 1))), pages
