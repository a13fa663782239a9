"""The memory that a process frees: whether it goes back to the system at once."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # options of glibc's mallopt
_KEPT = 1 << 28  # bytes that are kept at the end of the heap, at the most
_LARGEST = 1 << 25  # bytes; larger pieces always go back


def keep_freed_memory() -> None:
    """Makes this process keep memory that it frees, up to 256 MiB, in place of giving pieces back to the system.

    The columns of a scan have some hundred kilobytes each. Given back and taken again, every page of them is cleared by
    the system first, which may take longer than what is computed with it. Where the C library has no such option,
    nothing changes.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL(None)
            library.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
            library.mallopt(_M_TRIM_THRESHOLD, _KEPT)
