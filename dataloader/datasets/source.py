"""Where scans come from: what every data set offers."""

from __future__ import annotations

from typing import Protocol

from utils.scan.records import Frame, Scan


class Source(Protocol):
    """What a data set on disk offers; see `dataloader.datasets.semantickitti.SemanticKITTI`."""

    @property
    def num_cameras(self) -> int:
        """Images per scan to choose from; 0 if images are not to be read."""
        ...

    @property
    def absent(self) -> tuple[str, ...]:
        """Sequences that belong to the split but are not on disk."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for the user about what is doubtful in these scans."""
        ...

    def __len__(self) -> int: ...

    def frame(self, index: int) -> Frame:
        """Which scan number `index` is."""
        ...

    def read(self, index: int, camera: int | None = 0) -> Scan:
        """Scan number `index`, with the image of `camera`, or with none."""
        ...
