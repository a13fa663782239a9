"""The environment variable that says whether C++ is used on a CPU, and which instructions it may use."""

from __future__ import annotations

import os

SWITCH = "TWODPASS_NATIVE"

LEVELS = ("avx2", "avx512", "avx512bf16", "amx")
"""Sets of instructions, each of which contains the ones before it."""

CHOICES = ("auto", "off", "required", *LEVELS)
"""Values of the variable: C++ where it can be used; never; an error where it cannot be used; at most these
instructions (for tests)."""


def odd_switch() -> str | None:
    """Describes in a line what is wrong with the variable; None if nothing is."""
    value = native_switch()
    return None if value in CHOICES else f"the environment variable {SWITCH} is {value!r}; it is {_LIST}"


def native_switch() -> str:
    """Returns the value of the variable; unset or empty, it is "auto"."""
    return os.environ.get(SWITCH) or "auto"


_LIST = f"{', '.join(CHOICES[:-1])} or {CHOICES[-1]}"
