"""The scans that a run labels, and the past of each, as protocols: whoever lists them lies in another room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from utils.scan.motion import Motion


class ListedScan(Protocol):
    """A scan to be labelled; `dataloader.inputs.InputScan` is one."""

    @property
    def name(self) -> str:
        """The name for messages."""
        ...

    @property
    def index(self) -> int:
        """Its number in its file, 0 but for bags."""
        ...

    @property
    def target(self) -> str:
        """The place of its results below the output folder, without a suffix."""
        ...

    @property
    def location(self) -> str:
        """Its file: a path or a URL."""
        ...

    @property
    def source(self) -> str:
        """Its name in notes: the absolute location, and the number in its file."""
        ...

    @property
    def group(self) -> str:
        """The recording that it belongs to."""
        ...


class PastScan(Protocol):
    """A scan as the past of another one; `dataloader.drives.PastInput` is one."""

    @property
    def scan(self) -> ListedScan:
        """The scan."""
        ...

    @property
    def motion(self) -> Motion:
        """The motion from its frame to that of the other one."""
        ...

    @property
    def age(self) -> float:
        """The age of the scan then; see `utils.scan.records.Scan.age`."""
        ...


PastOf = Callable[[Any], Sequence[PastScan]]
"""A function that lists the past of a scan, the newest first."""


def no_past(scan: ListedScan) -> Sequence[PastScan]:
    """Lists no past scans."""
    return ()
