"""Memory that is kept for the next tensor, instead of being given back to the system and asked for again."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

# Parameters of mallopt in glibc's malloc.h, and what they are set to, bytes.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT, _LARGEST = 1 << 28, 1 << 30
_SET_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> None:
    """Makes this process keep up to 256 MiB of freed memory for what it allocates next.

    By default, glibc asks the system for each tensor of more than 32 MiB, and smaller pieces often go back to it, too.
    The system clears such memory page by page when it is touched: a seventh of the time of an evaluation, and more of
    that of a data item. Other C libraries, and limits that the user has set, are left alone.
    """
    if any(name in os.environ for name in _SET_BY_USER):
        return
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, _KEPT)
