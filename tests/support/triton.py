"""Triton's interpreter for some tests, without an effect on other tests of the same run.

Triton looks at TRITON_INTERPRET when a function is decorated, not when it runs. By the time of these tests it has long
been imported (Lightning does), and its own library (`tl.sum` and the like) stands decorated for a GPU.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest

pytest.importorskip("triton", reason="Triton is not installed")

import triton.experimental.gluon  # noqa: F401 -- else imported when the first kernel runs, and it wants the library as it was
import triton.language as tl
from triton.runtime.interpreter import InterpretedFunction
from triton.runtime.jit import JITFunction

_NAMES = ("triton_geometry", "triton_tuning", "triton_kernels", "triton_backend")


@contextmanager
def interpreter_asked_for() -> Iterator[None]:
    """Sets TRITON_INTERPRET=1 in the environment."""
    before = os.environ.get("TRITON_INTERPRET")
    os.environ["TRITON_INTERPRET"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TRITON_INTERPRET"]
        else:
            os.environ["TRITON_INTERPRET"] = before


def interpreted_modules() -> dict[str, ModuleType]:
    """Imports the modules of the Triton backend for the interpreter; later imports give other modules."""
    package = importlib.import_module("network.sparse")
    full_names = [f"{package.__name__}.{name}" for name in _NAMES]
    before = {name: sys.modules.pop(name) for name in full_names if name in sys.modules}
    attributes = {name: vars(package).pop(name) for name in _NAMES if name in vars(package)}
    try:
        with interpreter_asked_for():
            return {name: importlib.import_module(f"{package.__name__}.{name}") for name in _NAMES}
    finally:
        for full_name, name in zip(full_names, _NAMES, strict=True):
            sys.modules.pop(full_name, None)
            vars(package).pop(name, None)
        sys.modules.update(before)
        vars(package).update(attributes)


@contextmanager
def interpreted_library() -> Iterator[None]:
    """Patches Triton's own library as the interpreter needs it."""
    changed = [
        (module, name, value)
        for module in (tl, tl.standard)
        for name, value in vars(module).items()
        if isinstance(value, JITFunction)
    ]
    interpreted = {id(value): InterpretedFunction(value.fn) for _, _, value in changed}  # one each: they are compared
    for module, name, value in changed:
        setattr(module, name, interpreted[id(value)])
    try:
        yield
    finally:
        for module, name, value in changed:
            setattr(module, name, value)
