"""The instructions that this machine's CPU has, and the permission to use the tiles of AMX."""

from __future__ import annotations

import ctypes
import platform
import sys
from functools import lru_cache
from pathlib import Path

from utils.native_switch import LEVELS

_NEEDED = {
    "avx2": {"avx2", "fma", "f16c", "bmi1", "bmi2", "abm"},
    "avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl"},
    "avx512bf16": {"avx512_bf16"},
    "amx": {"amx_tile", "amx_bf16"},
}
"""What the kernel calls the instructions of each level. It names only what programs may use."""

_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XTILEDATA = 158, 0x1023, 18


@lru_cache(maxsize=1)
def features() -> frozenset[str]:
    """Reads the names of what the CPU can do, as the kernel lists them; empty on other systems than Linux on x86-64."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return frozenset()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    flags = [line.partition(":")[2].split() for line in lines if line.startswith("flags")]
    # A virtual machine may move between the kinds of cores that are listed.
    return frozenset.intersection(*map(frozenset, flags)) if flags else frozenset()


def levels() -> tuple[str, ...]:
    """Returns the sets of instructions that the CPU has, of `LEVELS`: the first ones, or none."""
    found: list[str] = []
    for level in LEVELS:
        if not _NEEDED[level] <= features():
            break
        found.append(level)
    return tuple(found)


def usable_levels() -> tuple[str, ...]:
    """Returns the levels whose instructions this process may execute, after asking the kernel for the tiles of AMX.

    The kernel gives the permission to the process and the ones that it forks, and may refuse it.
    """
    found = levels()
    return found[:-1] if found[-1:] == ("amx",) and not _tiles_are_permitted() else found


@lru_cache(maxsize=1)
def _tiles_are_permitted() -> bool:
    syscall = ctypes.CDLL(None).syscall
    return syscall(_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XTILEDATA) == 0
