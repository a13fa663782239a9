"""The compiled library, loaded and ready: its functions take the addresses of tensors."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from network.native.compiling import compiled

SWITCH = "TWODPASS_NATIVE"
"""Environment variable: "auto" (default), "off", or "required" (an error where the library cannot be used)."""

_off = False


class Library:
    """The functions of the compiled library."""

    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path)
        # PyTorch's own OpenMP: a second one in the process would fight it for the cores.
        pool = ctypes.CDLL(None)
        for candidate in _loaded_openmp():
            pool = ctypes.CDLL(candidate)
        names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
        if all(hasattr(pool, name) for name in names):
            addresses = [ctypes.cast(getattr(pool, name), ctypes.c_void_p) for name in names]
            self._library.native_use_openmp(*addresses)

    def function(self, name: str, *kinds: Any, returns: Any = None) -> Callable[..., Any]:
        """Looks up a C function: `kinds` are the ctypes of its arguments, tensors go as `pointer(tensor)`."""
        found = getattr(self._library, name)
        found.argtypes, found.restype = kinds, returns
        return found


def pointer(tensor: Tensor | None) -> int | None:
    """Returns the address of the first number of a tensor; None stays None."""
    return None if tensor is None else tensor.data_ptr()


def library() -> Library | None:
    """Returns the library; None where native code is switched off or cannot be used."""
    return None if _off else _load()


@contextmanager
def switched_off() -> Iterator[None]:
    """Makes this process compute in plain PyTorch inside the block."""
    global _off
    before, _off = _off, True
    try:
        yield
    finally:
        _off = before


@lru_cache(maxsize=1)
def _load() -> Library | None:
    if os.environ.get(SWITCH) == "off":
        return None
    torch.get_num_threads()
    return Library(str(compiled()))


def _loaded_openmp() -> list[str]:
    with open("/proc/self/maps", encoding="utf-8") as maps:
        paths = {line.split()[-1] for line in maps if "/" in line}
    return [path for path in paths if "gomp" in os.path.basename(path)]
