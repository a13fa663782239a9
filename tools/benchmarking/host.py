"""The memory and the time of cores that this process and others take of the machine; it needs no torch."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import sys
import time
from contextlib import suppress
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CORES = Path("/proc/stat")
_RESET_PEAK = Path("/proc/self/clear_refs")
CROWDED = 0.2
"""Cores that others take before it is worth a remark."""


class Company:
    """The processor time that other processes take from here on."""

    def __init__(self) -> None:
        self._start = time.perf_counter(), self._busy(), time.process_time()

    def cores(self) -> float | None:
        """Returns how many cores others kept busy, on average; None where the system does not say."""
        wall, busy, own = self._start
        now = self._busy()
        if busy is None or now is None:
            return None
        return max(0.0, (now - busy - (time.process_time() - own)) / (time.perf_counter() - wall))

    @staticmethod
    def _busy() -> float | None:
        """Returns the seconds that all cores together have worked, for other guests of the same host, too."""
        try:
            user, nice, system, _, _, *others = map(int, _CORES.read_text().splitlines()[0].split()[1:9])
        except (OSError, ValueError, IndexError):
            return None
        return (user + nice + system + sum(others)) / os.sysconf("SC_CLK_TCK")


def peak_memory() -> int | None:
    """Returns the largest resident size (bytes) of this process so far; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class ProcessMemory:
    """Resident memory of this process. Where the system cannot reset the peak, it is the peak since the process
    began."""

    def start(self) -> int:
        """Forgets the peak so far; returns the resident size of this process in bytes."""
        _give_back()
        try:
            _RESET_PEAK.write_text("5")  # VmHWM starts again at what is resident now
        except OSError:
            return self.peak()
        return self._read("VmRSS")

    def peak(self) -> int:
        """Returns the largest resident size since `start`, in bytes."""
        return self._read("VmHWM")

    def _read(self, field: str) -> int:
        try:
            found = re.search(rf"{field}:\s*(\d+) kB", _STATUS.read_text())
        except OSError:
            found = None
        return int(found[1]) * 1024 if found else peak_memory() or 0


def _give_back() -> None:
    """Gives unused memory back to the system; otherwise what follows could use it and would seem to need less."""
    gc.collect()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL("libc.so.6").malloc_trim(0)
