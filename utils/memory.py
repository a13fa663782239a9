"""Memory that is kept for the next tensor, instead of being given back to the system and asked for again."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # parameters of mallopt in glibc's malloc.h
_SET_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")

A_FEW = 1 << 28
"""Bytes that are enough for evaluations and data items."""
ALL = 2**31 - 1
"""The most bytes that can be said, for programs: a training step on a CPU frees and takes gigabytes."""

_kept = 0


def keep_freed_memory(most: int = A_FEW) -> None:
    """Makes this process keep freed memory for what it allocates next, up to `most` bytes or what it keeps already.

    By default, glibc asks the system for each large tensor, and gives its memory back at once. The system clears such
    memory page by page when it is touched: a seventh of the time of an evaluation, a third of that of a training step,
    and of a data item, too. Other C libraries, and limits that the user has set, are left alone.
    """
    global _kept
    if most <= _kept or any(name in os.environ for name in _SET_BY_USER):
        return
    _kept = most
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, most)
