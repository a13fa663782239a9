"""Recordings of ROS 1 and ROS 2: `.bag`, folders with `.db3` or `.mcap` in them, and such files alone, with rosbags.

Nothing but messages of the type `sensor_msgs/PointCloud2` is decoded, with the definition of that type that ROS ships:
the definitions in a bag are untrusted, and rosbags would make code of them.
"""

from __future__ import annotations

import bisect
import bz2
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from dataloader.formats.clouds import Clouds, check_file, missing_library, reading
from dataloader.formats.layout import Layout
from dataloader.formats.point_cloud2 import decode
from utils.errors import UserError
from utils.scan.point_cloud import PointCloud

_TYPE = "sensor_msgs/msg/PointCloud2"
_INDEX = "metadata.yaml"
_MOST_EXPANDED = 256
_ALWAYS_ALLOWED = 1 << 26
"""Largest size of an unpacked chunk, bytes, and as a multiple of the packed one; the larger of both holds."""
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
        reader = _open(path)
        try:
            connections = _stored(reader)
        finally:
            reader.close()
    counts: Counter[str] = Counter()
    others: dict[str, str] = {}
    for connection in connections:
        if connection.msgtype == _TYPE:
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

    def __reduce__(self) -> tuple[type[Bag], tuple[Path, str, int]]:
        return Bag, (self._path, self._topic, self._count)

    def __del__(self) -> None:
        self._close()

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
        if not 0 <= index < self._count:
            raise IndexError(f"message {index} of {self._count}")
        name = f"{self._path} {self._topic} {self.label(index)}"
        with reading(name, "message of points"):
            with self._lock:
                raw = self._raw(index)
            return decode(name, _deserialize(self._path, raw))

    def _raw(self, index: int) -> bytes:
        """Returns the bytes of a message."""
        if self._process != os.getpid():  # of the parent, which moves in the same open file
            self._reader, self._messages, self._process = None, None, os.getpid()
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
            self._reader = _open(self._path)
        connections = [c for c in self._reader.connections if (c.topic, c.msgtype) == (self._topic, _TYPE)]
        start = None
        self._next = 0
        if self._times and self._times == sorted(self._times):
            start = self._times[min(index, len(self._times) - 1)]
            self._next = bisect.bisect_left(self._times, start)
        self._messages = iter(self._reader.messages(connections, start=start))

    def _close(self) -> None:
        reader, self._reader, self._messages = self._reader, None, None
        if reader is not None and self._process == os.getpid():
            with suppress(Exception):
                reader.close()


def _open(path: Path) -> Any:
    """Opens a bag with the reader of rosbags for it.

    Raises:
        UserError: rosbags is not installed.
        Exception: of any type, if the bag is damaged.
    """
    try:
        _bound_unpacking()
        if _is_ros1(path):
            from rosbags.rosbag1 import Reader

            reader: Any = Reader(path)
        else:
            reader = _ros2_reader(path)
    except ImportError as error:
        raise missing_library(path, "bag", "rosbags", error) from error
    reader.open()
    return reader


def _is_ros1(path: Path) -> bool:
    return path.suffix.lower() == ".bag" and path.is_file()


def _ros2_reader(path: Path) -> Any:
    from rosbags.rosbag2.reader import DirectoryReader
    from rosbags.rosbag2.storage_mcap import McapReader
    from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

    def sqlite_reader(file: Path) -> Sqlite3Reader:
        return Sqlite3Reader(Path(quote(str(file))))  # it makes an address of the path, where ? and % mean something

    class Folder(DirectoryReader):
        STORAGE_PLUGINS: ClassVar[Any] = {"mcap": McapReader, "sqlite3": sqlite_reader}

    if path.is_dir():
        return Folder(path)
    return sqlite_reader(path) if path.suffix.lower() == ".db3" else McapReader(path)


def _stored(reader: Any) -> list[Any]:
    """Returns the topics as the files themselves have them: the index of a folder may count what is not there."""
    connections = [c for storage in getattr(reader, "storages", [reader]) for c in storage.connections]
    if any(getattr(c.ext, "serialization_format", "cdr") != "cdr" for c in connections if c.msgtype == _TYPE):
        raise ValueError("its messages are not serialised as ROS does it (CDR)")
    return connections


@cache
def _bound_unpacking() -> None:
    """Bounds what rosbags unpacks: a small chunk may say, or be, terabytes of zeros."""
    import lz4.frame
    from rosbags.rosbag1 import reader as ros1
    from rosbags.rosbag2 import storage_mcap

    def bounded(unpacker: Any) -> Any:
        def unpack(data: bytes, size: int = 0) -> bytes:
            most = max(_MOST_EXPANDED * len(data), _ALWAYS_ALLOWED)
            content = unpacker().decompress(data, max_length=most + 1)
            if len(content) > most:
                raise ValueError(f"a part of {len(data)} bytes unpacks to more than {most} bytes")
            return content

        return unpack

    mcap: Any = storage_mcap
    lz4_unpack, bz2_unpack = bounded(lz4.frame.LZ4FrameDecompressor), bounded(bz2.BZ2Decompressor)
    ros1.decompressors.update(lz4=lz4_unpack, bz2=bz2_unpack)
    mcap.DECOMPRESSORS.update(lz4=lz4_unpack, zstd=bounded(mcap.zstd.ZstdDecompressor))


@cache
def _types(is_ros1: bool) -> Any:
    """Returns the definitions of messages that ROS ships."""
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS1_NOETIC if is_ros1 else Stores.ROS2_HUMBLE)


def _deserialize(path: Path, raw: bytes) -> Any:
    if _is_ros1(path):
        return _types(True).deserialize_ros1(raw, _TYPE)
    return _types(False).deserialize_cdr(raw, _TYPE)
