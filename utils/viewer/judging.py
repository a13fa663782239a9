"""The search for what a network does worst: all frames are judged by their truth, in the background."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from functools import reduce
from operator import add

import numpy as np

from utils.viewer.loading import Loader
from utils.viewer.records import Frames
from utils.viewer.scores import Counts, judge

_NEWS = 0.5  # seconds between two reports


class Judge:
    """The scores of all frames, as far as they are known. Its methods may be called from any thread."""

    def __init__(self, frames: Frames, loader: Loader, on_news: Callable[[], None] = lambda: None) -> None:
        """Starts with no score; `start` starts the thread.

        Args:
            frames: the frames.
            loader: where frames may be that are read already.
            on_news: called twice a second at most while there is more to tell, and at the end.
        """
        self._frames = frames
        self._loader = loader
        self._on_news = on_news
        self._lock = threading.Lock()
        self._counts: dict[int, dict[str, Counts]] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def done(self) -> int:
        """The number of frames that have been looked at."""
        return len(self._counts)

    def start(self) -> None:
        """Starts to judge, if that has not happened."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True, name="viewer-judging")
                self._thread.start()

    def close(self) -> None:
        """Ends the thread after the frame that it reads."""
        self._stop.set()

    def join(self) -> None:
        """Waits until all frames are judged."""
        if self._thread is not None:
            self._thread.join()

    def worst_frame(self, name: str, seen: Collection[int] = ()) -> tuple[int, float] | None:
        """Returns the frame with the lowest mIoU among those that are judged, and that mIoU; None if there is none.

        Args:
            name: the prediction.
            seen: frames that are left out.
        """
        with self._lock:
            found = [(counts[name].miou, index) for index, counts in self._counts.items() if name in counts]
        found = [(miou, index) for miou, index in found if not np.isnan(miou) and index not in seen]
        if not found:
            return None
        miou, index = min(found)
        return index, miou

    def worst_class(self, name: str, seen: Collection[int] = ()) -> tuple[int, float, int] | None:
        """Returns the class with the lowest IoU over the frames that are judged, that IoU, and its worst frame.

        Classes that do not occur in the truth are left out. The worst frame is that with most wrong points.

        Args:
            name: the prediction.
            seen: classes that are left out.

        Returns:
            Learning id, IoU and index of the frame; None if there is no such class.
        """
        with self._lock:
            found = {index: counts[name] for index, counts in self._counts.items() if name in counts}
        if not found:
            return None
        total = reduce(add, found.values())
        left = [c for c in range(1, len(total.iou)) if total.true[c] and c not in seen]
        if not left:
            return None
        worst = min(left, key=lambda c: (total.iou[c], c))
        frame = max(found, key=lambda index: (found[index].wrong[worst], -index))
        return worst, float(total.iou[worst]), frame

    def _run(self) -> None:
        told = time.monotonic()
        for index in range(len(self._frames)):
            start = time.monotonic()
            counts = self._judged(index)
            with self._lock:
                self._counts[index] = counts
            now = time.monotonic()
            if now - told > _NEWS:
                told = now
                self._on_news()
            if self._stop.wait(now - start):  # half of the time is left to what is looked at
                return
        self._on_news()

    def _judged(self, index: int) -> dict[str, Counts]:
        known = self._loader.known(index)
        if known is not None:
            return known.counts
        try:
            return judge(self._frames.read(index), self._frames.num_classes)
        except Exception:  # the page says why when it shows that frame
            return {}
