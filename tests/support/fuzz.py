"""Settings of the tests that draw their inputs: the same few in each run, or as many others as are asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings

MANY = "TWODPASS_FUZZ"
"""Environment variable: how many inputs each such test draws, new ones in each run."""


def fuzzed(examples: int) -> Callable[[Any], Any]:
    """Decorates a test with inputs that are drawn: always the same `examples` ones, unless more are asked for."""
    many = int(os.environ.get(MANY) or 0)
    return settings(
        max_examples=many or examples,
        derandomize=not many,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
