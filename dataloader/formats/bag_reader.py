"""The readers of rosbags for each kind of bag, with bounds on what they unpack."""

from __future__ import annotations

import bz2
import os
from collections import Counter
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from urllib.parse import quote

from dataloader.formats.clouds import missing_library

POINT_CLOUD = "sensor_msgs/msg/PointCloud2"
"""The type of messages with points, as rosbags names it in bags of ROS 1 and ROS 2."""

_INDEX_ENTRY = 16  # bytes that an MCAP file has in its index for each message
_MOST_EXPANDED = 256
_ALWAYS_ALLOWED = 1 << 26
"""Largest size of what is unpacked, bytes, and as a multiple of the packed size; the larger of both holds."""


def open_reader(path: Path) -> Any:
    """Opens a bag with the reader of rosbags for it: it has `connections`, `messages` and `close`.

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


def stored_topics(reader: Any) -> list[Any]:
    """Returns the topics as the files themselves have them: the index of a folder may count what is not there.

    Raises:
        ValueError: messages with points are not serialised as ROS does it, or an index says what cannot be.
    """
    from rosbags.rosbag2.storage_mcap import McapReader

    storages = getattr(reader, "storages", [reader])
    connections = [c for s in storages for c in (_counted(s) if isinstance(s, McapReader) else s.connections)]
    if not all(isinstance(c.topic, str) and isinstance(c.msgtype, str) and c.msgcount >= 0 for c in connections):
        raise ValueError("a topic has no name or type, or fewer messages than none")
    if any(getattr(c.ext, "serialization_format", "cdr") != "cdr" for c in connections if c.msgtype == POINT_CLOUD):
        raise ValueError("its messages are not serialised as ROS does it (CDR)")
    return connections


def _counted(storage: Any) -> list[Any]:
    """Returns the topics of an MCAP file, with no more messages than its chunks index: the statistics may say any."""
    indexed: Counter[int] = Counter()
    for chunk in storage.chunks:
        indexed.update(chunk.channel_count)
    connections = [
        c._replace(msgcount=min(c.msgcount, indexed[c.id])) if storage.chunks else c for c in storage.connections
    ]
    messages, size = sum(max(c.msgcount, 0) for c in connections), storage.path.stat().st_size
    if messages * _INDEX_ENTRY > size:
        raise ValueError(f"its index says {messages} messages, more than fit into its {size} bytes")
    return connections


def deserialize(path: Path, raw: bytes) -> Any:
    """Decodes the bytes of a message with points.

    Raises:
        Exception: of any type, if they are damaged.
    """
    if _is_ros1(path):
        return _types(True).deserialize_ros1(raw, POINT_CLOUD)
    return _types(False).deserialize_cdr(raw, POINT_CLOUD)


@cache
def _types(is_ros1: bool) -> Any:
    """Returns the definitions of messages that ROS ships."""
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS1_NOETIC if is_ros1 else Stores.ROS2_HUMBLE)


def _is_ros1(path: Path) -> bool:
    return path.suffix.lower() == ".bag" and path.is_file()


def _ros2_reader(path: Path) -> Any:
    from rosbags.rosbag2.reader import DirectoryReader
    from rosbags.rosbag2.storage_mcap import McapReader
    from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

    def sqlite_reader(file: Path) -> Sqlite3Reader:
        return Sqlite3Reader(Path(quote(os.fsencode(file))))  # it makes an address of it, where ? and % mean something

    class Folder(DirectoryReader):
        STORAGE_PLUGINS: ClassVar[Any] = {"mcap": McapReader, "sqlite3": sqlite_reader}

    if path.is_dir():
        return Folder(path)
    return sqlite_reader(path) if path.suffix.lower() == ".db3" else McapReader(path)


@cache
def _bound_unpacking() -> None:
    """Bounds what rosbags unpacks: a small chunk may say, or be, terabytes of zeros."""
    import lz4.frame
    import rosbags.rosbag1.reader
    import rosbags.rosbag2.reader
    import rosbags.rosbag2.storage_mcap

    ros1: Any = rosbags.rosbag1.reader
    ros2: Any = rosbags.rosbag2.reader
    mcap: Any = rosbags.rosbag2.storage_mcap
    zstd = mcap.zstd

    class ZstdFile(zstd.ZstdFile):
        """A packed file in a folder, which rosbags unpacks to a temporary one."""

        def __init__(self, file: Any, mode: str) -> None:
            super().__init__(file, mode)
            self.left = _most(os.fstat(file.fileno()).st_size)

        def read(self, size: int | None = -1) -> bytes:
            """Reads on, up to the bound."""
            content = super().read(size)
            self.left -= len(content)
            if self.left < 0:
                raise ValueError("a file of it unpacks to far more than its size")
            return content

    lz4_unpack, bz2_unpack = _bounded(lz4.frame.LZ4FrameDecompressor), _bounded(bz2.BZ2Decompressor)
    zstd_unpack = _bounded(zstd.ZstdDecompressor)
    ros1.decompressors.update(lz4=lz4_unpack, bz2=bz2_unpack)
    mcap.DECOMPRESSORS.update(lz4=lz4_unpack, zstd=zstd_unpack)
    ros2.zstd = SimpleNamespace(open=ZstdFile, decompress=zstd_unpack)


def _most(packed: int) -> int:
    """Returns how many bytes may come of so many packed ones."""
    return max(_MOST_EXPANDED * packed, _ALWAYS_ALLOWED)


def _bounded(unpacker: Any) -> Any:
    """Makes a function that unpacks bytes with new objects of a class, up to the bound."""

    def unpack(data: bytes, size: int = 0) -> bytes:
        most = _most(len(data))
        content = unpacker().decompress(data, max_length=most + 1)
        if len(content) > most:
            raise ValueError(f"a part of {len(data)} bytes unpacks to more than {most} bytes")
        return content

    return unpack
