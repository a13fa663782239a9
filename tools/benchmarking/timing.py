"""The duration of calls, on any device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


def synchronize(device: torch.device) -> None:
    """Waits until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def repeat(call: Callable[[], object], device: torch.device, runs: int, budget: float) -> list[float]:
    """Times up to `runs` calls (seconds), after one to warm up.

    Args:
        call: the call to time.
        device: the device that each call is waited for on.
        runs: the number of timed calls.
        budget: seconds after which no further call begins. If the warm-up alone takes longer, it is the only time.
    """
    first = seconds(call, device)
    if first > budget:
        return [first]
    found: list[float] = []
    while not found or (len(found) < runs and sum(found) < budget):
        found.append(seconds(call, device))
    return found


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Times a call (seconds), from an idle device to an idle device."""
    synchronize(device)
    start = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - start


def quantile(values: list[float], share: float) -> float:
    """Finds the value below which that share of the values lies, by linear interpolation."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[round(100 * share) - 1]


class Clock:
    """Points in the work of a device, which the host does not wait for; on a CPU, points in time."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def mark(self) -> Any:
        """Marks the point that the device reaches when it has finished all work up to here."""
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, first: Any, second: Any) -> float:
        """Returns the seconds between two points; the device must have reached both."""
        return second - first if self.device.type != "cuda" else first.elapsed_time(second) / 1000
