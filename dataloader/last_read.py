"""A reader that keeps the last clouds, since a scan is wanted again as the past of the scans after it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock

from dataloader.inputs import InputScan
from utils.scan.point_cloud import PointCloud


class LastRead:
    """A callable that reads scans and keeps the last few clouds, so that each file is read once.

    Several threads may call it; one reads a file, and the others wait for it.

    Args:
        read: reads a scan.
        most: number of clouds that are kept.
    """

    def __init__(self, read: Callable[[InputScan], PointCloud], most: int) -> None:
        self._read, self._most = read, most
        self._kept: OrderedDict[tuple[str, int], Future[PointCloud]] = OrderedDict()
        self._lock = Lock()

    def __call__(self, scan: InputScan) -> PointCloud:
        """Reads a scan, or returns its cloud if it is kept.

        Raises:
            UserError: its file is damaged.
        """
        key, mine = (scan.location, scan.index), None
        with self._lock:
            cloud = self._kept.get(key)
            if cloud is None:
                cloud = mine = self._kept[key] = Future()
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        if mine is not None:
            try:
                mine.set_result(self._read(scan))
            except BaseException as error:  # for those who wait, too
                mine.set_exception(error)
        return cloud.result()
