"""Frames that are read ahead, in the background, and kept as far as memory allows."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from utils.viewer.records import Frames, ShownScan
from utils.viewer.scores import Counts, judge

MEMORY = 512 << 20
"""Bytes of frames that are kept."""

_THREADS = 2
_FAR = 500.0
"""Distance of the middle of a scan from the origin, metres, from which on it is shown around its middle."""


@dataclass(frozen=True)
class Frame:
    """A frozen record of a scan that is ready to be shown.

    Attributes:
        scan: the scan without the points that are not finite; `xyz` as in the file.
        origin: (3,) float64 metres, what is subtracted from `xyz` for the page.
        floor: height of the ground near the origin, metres, after that.
        counts: name of a prediction -> its counts; empty without truth.
    """

    scan: ShownScan
    origin: NDArray[np.float64]
    floor: float
    counts: dict[str, Counts]

    @property
    def size(self) -> int:
        """The memory of the arrays, bytes."""
        scan = self.scan
        columns = [scan.xyz, scan.intensity, scan.labels, scan.age, *scan.predictions.values()]
        columns += scan.confidences.values()
        for row in scan.cameras:
            columns += [array for camera in row for array in (camera.picture.image, camera.picture.pixels)]
        return sum(column.nbytes for column in columns if column is not None)


def prepare(scan: ShownScan, num_classes: int) -> Frame:
    """Returns a scan without the points that cannot be shown, with what is known of it as a whole."""
    counts = judge(scan, num_classes)  # every point of the scan's file counts, as for the benchmarks
    scan = scan.select(np.isfinite(scan.xyz).all(axis=1))
    origin = np.zeros(3)
    if len(scan.xyz):
        middle = np.median(scan.xyz.astype(np.float64), axis=0)
        if np.linalg.norm(middle) > _FAR:
            origin = middle
    return Frame(scan, origin, _floor(scan.xyz - origin), counts)


def _floor(xyz: NDArray[np.floating]) -> float:
    """Returns the height of the ground within 20 m: there are few points below it, and many on it."""
    near = xyz[np.hypot(xyz[:, 0], xyz[:, 1]) < 20, 2]
    return float(np.quantile(near, 0.1)) if len(near) else 0.0


class Loader:
    """The frames that are read, or being read. Its methods may be called from any thread."""

    def __init__(self, frames: Frames, on_ready: Callable[[], None] = lambda: None, memory: int = MEMORY) -> None:
        """Starts the threads that read.

        Args:
            frames: where the scans come from.
            on_ready: called whenever a frame has been read, or has failed, from any thread.
            memory: bytes of frames that are kept; what is shown and what is read ahead is kept in any case.
        """
        self._frames = frames
        self._on_ready = on_ready
        self._memory = memory
        self._lock = threading.Lock()
        self._futures: OrderedDict[int, Future[Frame]] = OrderedDict()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="viewer-reading")

    def ask(self, index: int, ahead: Iterable[int] = ()) -> Future[Frame]:
        """Returns the frame, which may still be read.

        Args:
            index: the frame, which is read before all others.
            ahead: frames to read next.
        """
        wanted = [index, *(i for i in ahead if 0 <= i < len(self._frames))]
        with self._lock:
            for other, future in list(self._futures.items()):
                if other not in wanted and future.cancel():
                    del self._futures[other]
            for i in reversed(wanted):
                if i in self._futures:
                    self._futures.move_to_end(i)
            started = [i for i in wanted if i not in self._futures]
            for i in started:
                self._futures[i] = self._pool.submit(self._read, i)
            new = [self._futures[i] for i in started]
            self._forget(set(wanted))
            found = self._futures[index]
        for future in new:  # without the lock: the call comes at once if the frame is there already
            future.add_done_callback(lambda _: self._on_ready())
        return found

    def known(self, index: int) -> Frame | None:
        """Returns a frame that has been read and kept, or None."""
        with self._lock:
            future = self._futures.get(index)
        ready = future is not None and future.done() and not future.cancelled() and future.exception() is None
        return future.result() if ready and future is not None else None

    def drop(self, index: int) -> None:
        """Forgets a frame that could not be read, so that it is tried again the next time."""
        with self._lock:
            self._futures.pop(index, None)

    def close(self) -> None:
        """Ends the threads, once they have read what they are reading."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, index: int) -> Frame:
        return prepare(self._frames.read(index), self._frames.num_classes)

    def _forget(self, wanted: set[int]) -> None:
        """Drops the frames that were asked for the longest ago, beyond the memory."""
        sizes = {i: f.result().size for i, f in self._futures.items() if f.done() and f.exception() is None}
        total = sum(sizes.values())
        for index, size in sizes.items():
            if total <= self._memory:
                break
            if index not in wanted:
                del self._futures[index]
                total -= size
