"""Freed memory is kept for the next tensor, unless the user has decided otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

COUNTED = """
import resource, sys
from utils.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def faults(size):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(size)  # filled with zeros, page by page
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(50 << 20)
print(sum(faults(50 << 20) for _ in range(3)))
"""


def pages_cleared(argument: str, **environment: str) -> int:
    """Counts the pages that the system clears for three times 50 MiB, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", COUNTED, argument],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these limits")
def test_memory_is_asked_for_once() -> None:
    assert pages_cleared("kept") < 1000
    assert pages_cleared("as usual") > 1000
    assert pages_cleared("kept", MALLOC_MMAP_THRESHOLD_="1000000") > 1000, "the user's own limit"
