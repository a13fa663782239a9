"""Scans that threads read and prepare while the network runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

THREADS = {"cpu": 1, "cuda": 4}
"""How many, by the kind of the device."""
READ_AHEAD = 2 * max(THREADS.values()) + 2
"""So many scans may lie between the first and the last one that threads are reading, with both."""

Item = TypeVar("Item")
Made = TypeVar("Made")


def ahead(make: Callable[[Item], Made], items: Iterable[Item], threads: int) -> Iterator[tuple[Item, Made]]:
    """Yields each item with what `make` makes of it, in order; the next ones are made meanwhile."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="read")
    pending: list[tuple[Item, Future[Made]]] = []
    try:
        for item in items:
            pending.append((item, pool.submit(make, item)))
            if len(pending) > 2 * threads:
                first, future = pending.pop(0)
                yield first, future.result()
        for first, future in pending:
            yield first, future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
