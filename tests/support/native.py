"""The machine as tests of native code see it: some of its instructions, some threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from network.native.library import library


@contextmanager
def machine(level: str | None = None, threads: int = 1) -> Iterator[None]:
    """Allows no instructions beyond a level (None: all that there are), and uses some threads."""
    found = library()
    assert found is not None
    before = found.level, torch.get_num_threads()
    found.allow(level or found.level)
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        found.allow(before[0])
        torch.set_num_threads(before[1])
