"""Labelled scans for the viewer: each is read again when it is shown, and segmented unless its labels are known."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from network.labelling.fits import Fits
from network.labelling.listed_scan import ListedScan, PastOf, no_past
from network.labelling.run import read_past
from network.result import Result
from network.segmenter import Segmenter
from utils.scan.point_cloud import PointCloud
from utils.scan.sensor import Sensor
from utils.viewer.records import ShownScan

_KEPT_BYTES = 1 << 30
PREDICTION = "prediction"


class ViewedResults:
    """The scans of a run as the viewer wants them (`utils.viewer.records.Frames`).

    Args:
        segmenter: labels those whose labels are not kept.
        fits: how scans are aligned.
        scans: the scans.
        read: reads a scan.
        past: lists the past of a scan.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        fits: Fits,
        scans: Sequence[ListedScan],
        read: Callable[[Any], PointCloud],
        past: PastOf = no_past,
    ) -> None:
        self._segmenter, self._scans, self._read, self._fits, self._past = segmenter, scans, read, fits, past
        self._kept: OrderedDict[str, tuple[NDArray[np.uint8], NDArray[np.float16]]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    @property
    def names(self) -> Sequence[str]:
        """The K names of the classes."""
        return self._segmenter.names

    @property
    def colors(self) -> NDArray[np.uint8]:
        """The (K, 3) uint8 colours of the classes."""
        return self._segmenter.colors

    @property
    def num_classes(self) -> int:
        """The number K of classes."""
        return len(self._segmenter.names)

    @property
    def sensor(self) -> Sensor:
        """The sensor of the training, whose frame the scans are shown in."""
        return self._segmenter.sensor

    def __len__(self) -> int:
        return len(self._scans)

    def title(self, index: int) -> str:
        """Returns the name of a scan."""
        return self._scans[index].name

    def keep(self, scan: ListedScan, result: Result) -> None:
        """Keeps the labels of a scan, 3 bytes for each point; the oldest are dropped beyond 1 GiB."""
        with self._lock:
            self._bytes -= 3 * len(self._kept.pop(scan.target, ((), ()))[0])
            self._kept[scan.target] = result.labels, result.confidence.astype(np.float16)
            self._bytes += 3 * len(result)
            while self._bytes > _KEPT_BYTES and len(self._kept) > 1:
                self._bytes -= 3 * len(self._kept.popitem(last=False)[1][0])

    def read(self, index: int) -> ShownScan:
        """Reads a scan and its labels.

        Raises:
            UserError: its file cannot be read, or it has no point to label.
        """
        scan = self._scans[index]
        fit = self._fits.of(scan)
        with self._lock:
            kept = self._kept.get(scan.target)
        # Without need of labels the past is not read.
        past = read_past(self._past(scan), self._read) if kept is None else ()
        prepared = self._segmenter.prepare(self._read(scan), fit.alignment, fit.advice, past)
        if kept is None:
            result = self._segmenter.segment([prepared])[0]
            self.keep(scan, result)
            kept = result.labels, result.confidence.astype(np.float16)
        return ShownScan(
            title=scan.name,
            xyz=prepared.aligned,
            note=fit.note,
            intensity=prepared.cloud.intensity,
            predictions={PREDICTION: kept[0]},
            confidences={PREDICTION: kept[1].astype(np.float32)},
        )
