"""The compiled library, loaded and ready: its functions take the addresses of tensors.

Where it cannot be used, everything is computed by plain PyTorch, and a line says why: in the first process of a run,
once.
"""

from __future__ import annotations

import ctypes
import hashlib
import multiprocessing
import os
import shlex
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from network.native import cpu
from network.native.compiling import CompilationError, compiled
from utils.command.terminal import say_error
from utils.errors import UserError
from utils.memory import keep_freed_memory
from utils.native_switch import LEVELS, SWITCH, native_switch, odd_switch

FLAGS = "TWODPASS_NATIVE_FLAGS"
"""Environment variable: further flags of the compiler, for sanitizers and debuggers."""


class Library:
    """The functions of the compiled library.

    Attributes:
        levels: the sets of instructions (of `LEVELS`) that it has code for and that the CPU has, "avx2" first.

    Raises:
        OSError: it cannot be loaded.
        AttributeError: it is another library.
    """

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._marker = path
        self._identity = hashlib.sha256(path.read_bytes()).hexdigest()
        self._allow = self.function("native_allow_isa", ctypes.c_int32, returns=ctypes.c_int32)
        usable = cpu.usable_levels()
        self.levels = usable[: self._allow(len(usable))]
        self._share_threads()

    def function(self, name: str, *kinds: Any, returns: Any = None) -> Callable[..., Any]:
        """Looks up a C function: `kinds` are the ctypes of its arguments, tensors go as `pointer(tensor)`."""
        found = getattr(self._library, name)
        found.argtypes, found.restype = kinds, returns
        return found

    @property
    def level(self) -> str:
        """The instructions that are used: one of `levels`."""
        return LEVELS[self.function("native_isa", returns=ctypes.c_int32)() - 1]

    def allow(self, level: str) -> None:
        """Uses no instructions beyond a level, which is one of `levels`."""
        assert level in self.levels
        self._allow(LEVELS.index(level) + 1)

    def remembers(self, what: str) -> bool:
        """Returns whether `remember` was called for this library and this PyTorch, on this machine."""
        return self._note(what).exists()

    def remember(self, what: str) -> None:
        """Notes that something is right, beside the library; where that cannot be written, nothing happens."""
        with suppress(OSError):
            self._note(what).touch()

    def _note(self, what: str) -> Path:
        # A compiler need not make the same library of the same source: what was found right is this one.
        about = f"{self._identity} {torch.__version__} {self.level} {what}"
        digest = hashlib.sha256(about.encode()).hexdigest()
        return self._marker.with_name(f"{self._marker.stem}.{digest[:16]}.ok")

    def _share_threads(self) -> None:
        """Gives the library the functions of PyTorch's OpenMP: a second one would fight it for the cores.

        They are looked up as the linker did for PyTorch: what is loaded for all first (as by LD_PRELOAD), then the
        libraries that PyTorch names. A PyTorch with threads of its own has none; then one thread is used.
        """
        places = [ctypes.CDLL(None)]
        with suppress(OSError):
            places.append(ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")))
        for place in places:
            try:
                functions = [getattr(place, name) for name in _OPENMP]
            except AttributeError:
                continue
            self._library.native_use_openmp(*(ctypes.cast(function, ctypes.c_void_p) for function in functions))
            return


_OPENMP = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")

_off = False
_library: Library | None = None
_tried = False
_trying = threading.RLock()


def pointer(tensor: Tensor | None) -> int | None:
    """Returns the address of the first number of a tensor; None stays None."""
    return None if tensor is None else tensor.data_ptr()


def library() -> Library | None:
    """Returns the library, compiled and checked; None where native code is switched off or cannot be used.

    Raises:
        UserError: the environment variable TWODPASS_NATIVE has no such value, or asks for what this machine lacks.
    """
    if _off:
        return None
    return _library if _tried else _load()


@contextmanager
def switched_off() -> Iterator[None]:
    """Makes this process compute in plain PyTorch inside the block."""
    global _off
    before, _off = _off, True
    try:
        yield
    finally:
        _off = before


def give_up(reason: str) -> None:
    """Makes this process compute in plain PyTorch from now on, and says why in a line.

    Raises:
        UserError: TWODPASS_NATIVE is "required".
    """
    global _library, _tried
    _library, _tried = None, True
    if native_switch() == "required":
        _tried = False
        raise UserError(f"{SWITCH}=required, but native code cannot be used: {reason}")
    # A loader process, and every process of a run but the first, would say the same again.
    from utils.command.devices import is_first_process

    if multiprocessing.parent_process() is None and is_first_process():
        warnings.warn(f"plain PyTorch is used instead of native code, which is slower: {reason}", RuntimeWarning)


def _load() -> Library | None:
    global _library, _tried
    with _trying:
        # While the library is checked, it is there for the thread that checks it, and the others wait.
        if not _tried and _library is None:
            if (problem := odd_switch()) is not None:
                raise UserError(problem)
            if native_switch() == "off":
                _tried = True
            else:
                try:
                    with compiled(_flags(), begins=_say_so) as path:
                        _library = Library(path)
                        keep_freed_memory()
                        reason = _wrong(_library)
                except (OSError, CompilationError) as error:
                    reason = str(error)
                except BaseException:
                    _library, _tried = None, False
                    raise
                if reason is not None:
                    _library = None
                    give_up(reason)
                _tried = True
        return _library


def _say_so() -> None:
    say_error("native code: compiling it (once; some seconds)")


def _flags() -> list[str]:
    try:
        return shlex.split(os.environ.get(FLAGS, ""))
    except ValueError as error:
        raise UserError(f"the environment variable {FLAGS} is no list of flags: {error}") from None


def _wrong(found: Library) -> str | None:
    """Limits the library to the instructions that are asked for, and compares it with plain PyTorch, if need be."""
    level = native_switch()
    if level in LEVELS:
        if level not in found.levels:
            raise UserError(f"{SWITCH}={level}: this CPU and its compiler have {', '.join(found.levels)}")
        found.allow(level)
    from network.native import checks  # here, because it needs this module

    checked = f"checked {', '.join(checks.NAMES)}"  # a later version may compare more
    if found.remembers(checked):
        return None
    try:
        wrong = checks.first_wrong()
    except Exception as error:
        return f"{type(error).__name__}: {error}".partition("\n")[0]
    if wrong is not None:
        return f"it computes wrong {wrong}"
    found.remember(checked)
    return None
