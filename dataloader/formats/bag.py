"""Recordings of ROS 1 and ROS 2: `.bag`, folders with `.db3` or `.mcap` in them, and such files alone, with rosbags.

Nothing but messages of the type `sensor_msgs/PointCloud2` is decoded, with the definition of that type that ROS ships:
the definitions in a bag are untrusted, and rosbags would make code of them.
"""

from __future__ import annotations

import bisect
import os
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from dataloader.formats.bag_reader import POINT_CLOUD, deserialize, open_reader, stored_topics
from dataloader.formats.clouds import Clouds, check_file, reading
from dataloader.formats.layout import Layout
from dataloader.formats.point_cloud2 import decode, decode_whole
from utils.errors import UserError
from utils.scan.cloud_message import CloudMessage
from utils.scan.point_cloud import PointCloud
from utils.text import shortened

Decoded = TypeVar("Decoded")

_INDEX = "metadata.yaml"
_FAR = 8  # messages; rather than reading so many to leave them out, a new search begins


def is_bag_folder(path: Path) -> bool:
    """Returns whether a path is a folder with the index of a ROS 2 bag in it."""
    try:
        if not (path / _INDEX).is_file():  # reading from a pipe may never end
            return False
        with (path / _INDEX).open("rb") as file:
            return b"rosbag2_bagfile_information" in file.read(1 << 16)
    except OSError:
        return False


def open_bag(path: Path, layout: Layout, beside: Iterator[Path] | None) -> Clouds:
    """Opens a bag, and counts the messages of its topic by its index.

    Args:
        path: the file, or the folder of a ROS 2 bag.
        layout: the topic, if the user has said it.
        beside: not used.

    Raises:
        UserError: rosbags is not installed, the bag is damaged, or its topic is missing, of another type or uncertain.
    """
    for file in [path] if path.is_file() else sorted(path.iterdir()):
        if not file.is_dir():
            check_file(file)
    with reading(path, "bag"):
        reader = open_reader(path)
        try:
            connections = stored_topics(reader)
        finally:
            reader.close()
    counts: Counter[str] = Counter()
    others: dict[str, str] = {}
    for connection in connections:
        if connection.msgtype == POINT_CLOUD:
            counts[connection.topic] += connection.msgcount
        else:
            others[connection.topic] = connection.msgtype
    topic = _topic(path, counts, others, layout.topic)
    return Bag(path, topic, counts[topic])


def _topic(path: Path, counts: Counter[str], others: dict[str, str], wanted: str | None) -> str:
    """Returns the topic of the points, as the user has said it, or the only one with messages."""
    listed = ", ".join(f"{topic[:80]} ({count} messages)" for topic, count in sorted(counts.items())[:20])
    if not counts:
        found = ", ".join(f"{topic[:80]} ({kind[:60]})" for topic, kind in sorted(others.items())[:8])
        raise UserError(f"{path}: has no topic of the type sensor_msgs/PointCloud2, but {found or 'none at all'}")
    if wanted is not None:
        bare = wanted.strip("/")
        wanted = next((topic for topic in [*counts, *others] if topic.strip("/") == bare), wanted)
        if wanted not in counts:
            what = f"has the type {others[wanted][:60]}" if wanted in others else "is not in it"
            raise UserError(f"{path}: the topic {wanted} {what}; --topic may be {listed}")
        if not counts[wanted]:
            raise UserError(f"{path}: holds no message of the topic {wanted}; --topic may be {listed}")
        return wanted
    filled = [topic for topic, count in counts.items() if count]
    if not filled:
        raise UserError(f"{path}: holds no points: its topics are {listed}")
    if len(filled) > 1:
        raise UserError(f"{path}: has several topics with points; say which with --topic: {listed}")
    return filled[0]


class Bag:
    """The messages of one topic of a bag, as point clouds; see `Clouds`.

    It is read on from one message to the next. The times of those that were passed are remembered, by which an earlier
    message is found again. A process that gets a copy, and a read after the last message, open the file again.
    """

    def __init__(self, path: Path, topic: str, count: int) -> None:
        self._path, self._topic, self._count = path, topic, count
        self._lock = threading.Lock()
        self._times: list[int] = []  # of the first messages, as far as the bag has been read
        self._next = 0
        self._reader: Any = None
        self._messages: Iterator[tuple[Any, int, bytes]] | None = None
        self._process = os.getpid()
        self._end: weakref.finalize[..., Bag] | None = None

    def __reduce__(self) -> tuple[type[Bag], tuple[Path, str, int]]:
        return Bag, (self._path, self._topic, self._count)

    def __len__(self) -> int:
        return self._count

    def label(self, index: int) -> str:
        """Returns the number of the message in the topic, six digits or more."""
        return f"{index:06d}"

    def read(self, index: int) -> PointCloud:
        """Reads the points of a message; see `Clouds`.

        Raises:
            UserError: the bag or the message is damaged, or the message has no points.
        """
        return self._decoded(index, decode)

    def message(self, index: int) -> CloudMessage:
        """Reads a message with all its fields and its times; errors as for `read`."""
        return self._decoded(index, lambda name, message: decode_whole(name, message, self._topic, self._times[index]))

    def _decoded(self, index: int, decoder: Callable[[str, Any], Decoded]) -> Decoded:
        if not 0 <= index < self._count:
            raise IndexError(f"message {index} of {self._count}")
        name = f"{self._path} {shortened(self._topic, 80)} {self.label(index)}"
        if self._process != os.getpid():  # of the parent, which moves in the same open file, and may hold the lock
            self._reader, self._messages, self._end, self._process = None, None, None, os.getpid()
            self._lock = threading.Lock()
        with reading(name, "message of points"):
            with self._lock:
                raw = self._raw(index)
            return decoder(name, deserialize(self._path, raw))

    def _raw(self, index: int) -> bytes:
        """Returns the bytes of a message."""
        known = index < len(self._times)
        if self._messages is None or index < self._next or (known and index > self._next + _FAR):
            self._find(index)
        try:
            while True:
                raw = self._step()
                if self._next > index:
                    break
        except BaseException:
            self._close()
            raise
        if self._next == self._count:
            self._close()
        return raw

    def _step(self) -> bytes:
        """Returns the bytes of the next message."""
        assert self._messages is not None
        try:
            _, time, raw = next(self._messages)
        except StopIteration:
            raise ValueError(f"its index says {self._count} messages, and it has {self._next}") from None
        if self._next == len(self._times):
            self._times.append(time)
        self._next += 1
        return raw

    def _find(self, index: int) -> None:
        """Begins to read at a message that is known already and lies before `index` or is the same."""
        if self._reader is None:
            self._reader = open_reader(self._path)
            self._end = weakref.finalize(self, _end, self._reader, os.getpid())
        connections = [c for c in self._reader.connections if (c.topic, c.msgtype) == (self._topic, POINT_CLOUD)]
        start = None
        self._next = 0
        if self._times and self._times == sorted(self._times):
            start = self._times[min(index, len(self._times) - 1)]
            self._next = bisect.bisect_left(self._times, start)
        self._messages = iter(self._reader.messages(connections, start=start))

    def _close(self) -> None:
        if self._end is not None:
            self._end()
        self._reader, self._messages, self._end = None, None, None


def _end(reader: Any, process: int) -> None:
    """Closes a reader, but not that of the parent process: both have the same temporary files."""
    if process == os.getpid():
        with suppress(Exception):
            reader.close()
