"""Bags of labelled clouds for ROS 2, rviz and Foxglove, written by rosbags cloud by cloud: MCAP, and SQLite folders."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import numpy as np

from utils.errors import UserError
from utils.results.labelled_cloud import message_values
from utils.scan.cloud_message import CloudMessage

FORMATS = {"mcap": "mcap", "bag": "ros2"}
"""Name of the format -> the suffix: one `.mcap` file, or a folder with a `.db3` file and `metadata.yaml`.

Readers take what is called `.bag` for a file of ROS 1.
"""

_CLOUD, _TEXT = "sensor_msgs/msg/PointCloud2", "std_msgs/msg/String"
_VERSION = 8  # of metadata.yaml; ROS 2 Humble cannot read the quality of service of version 9
_FIRST, _LAST = -(2**31) * 10**9, 2**31 * 10**9 - 1  # nanoseconds that a stamp of ROS 2 can say
_LATEST = 2**63 - 1  # nanoseconds that both formats can say


def labelled_topic(topic: str) -> str:
    """Returns the topic of labelled clouds, a name that ROS 2 takes: "/points" gives "/points/labelled"."""
    parts = [re.sub(r"[^A-Za-z0-9_]", "_", part) for part in topic.split("/") if part]
    return "/" + "/".join([*(f"_{part}" if part[0].isdigit() else part for part in parts), "labelled"])


class BagWriter:
    """A bag that is being written; memory holds one cloud of it.

    Args:
        writer: the open writer of rosbags.
        classes: what the numbers mean, as text; it is sent once on `<topic>/classes` for whoever joins later.
    """

    def __init__(self, writer: Any, classes: str) -> None:
        from rosbags.typesys import Stores, get_typestore

        self._writer, self._classes = writer, classes
        self._store = get_typestore(Stores.ROS2_HUMBLE)
        self._topics: dict[str, Any] = {}

    def add(self, message: CloudMessage) -> None:
        """Adds a cloud whose table has the labels, from `labelled_cloud.with_labels`, in the topic that it names."""
        types, logged = self._store.types, min(max(message.logged, 0), _LATEST)
        if message.topic not in self._topics:
            self._topics[message.topic] = self._connection(message.topic, _CLOUD)
            named = self._connection(f"{message.topic}/classes", _TEXT, kept=True)
            self._write(named, logged, types[_TEXT](data=self._classes))
        seconds, nanoseconds = divmod(min(max(message.stamp, _FIRST), _LAST), 10**9)
        header = types["std_msgs/msg/Header"](
            stamp=types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds), frame_id=message.frame_id
        )
        values = message_values(message.table, message.height, message.width)
        values["fields"] = [types["sensor_msgs/msg/PointField"](**each) for each in values["fields"]]
        values["data"] = np.frombuffer(values["data"], np.uint8)
        self._write(self._topics[message.topic], logged, types[_CLOUD](header=header, **values))

    def _connection(self, topic: str, kind: str, kept: bool = False) -> Any:
        return self._writer.add_connection(topic, kind, typestore=self._store, offered_qos_profiles=[_quality(kept)])

    def _write(self, connection: Any, logged: int, message: Any) -> None:
        self._writer.write(connection, logged, self._store.serialize_cdr(message, connection.msgtype))


def _quality(kept: bool) -> Any:
    """Returns the quality of service of a topic: reliable; `kept` messages also reach those who join later."""
    from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

    durability = QosDurability.TRANSIENT_LOCAL if kept else QosDurability.VOLATILE
    never = QosTime(2**31 - 1, 0)
    return Qos(
        QosHistory.KEEP_LAST, 1 if kept else 10, QosReliability.RELIABLE, durability, never, never,
        QosLiveliness.AUTOMATIC, never, False,
    )  # fmt: skip


@contextmanager
def open_bag_writer(path: Path, kind: str, classes: str) -> Iterator[BagWriter]:
    """Opens a bag for writing that appears under its name when it is complete, or not at all.

    It grows in a hidden folder beside `path`; what a killed process has left there goes first.

    Args:
        path: the `.mcap` file, or the folder; what is there is replaced.
        kind: the suffix of the format, "mcap" or "ros2".
        classes: see `BagWriter`.

    Raises:
        OSError: it cannot be written.
        UserError: SQLite cannot write.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        grown = partial / re.sub(r"[^\w.-]", "_", path.stem, flags=re.ASCII)
        with _writer(grown, kind) as writer:
            yield BagWriter(writer, classes)
        for file in grown.iterdir():
            _flush(file)
        if kind == "mcap":
            os.replace(next(grown.glob("*.mcap")), path)
        else:
            if path.exists():
                os.replace(path, partial / "former")
            os.replace(grown, path)
    except sqlite3.Error as error:
        raise UserError(f"{path}: cannot be written ({error}); make room, or choose another --output") from error
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _writer(folder: Path, kind: str) -> Any:
    """Returns the writer of rosbags for a new folder."""
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
    from rosbags.rosbag2.storage_mcap import McapWriter
    from rosbags.rosbag2.storage_sqlite3 import Sqlite3Writer

    def sqlite_writer(path: Path, compression: CompressionMode) -> Sqlite3Writer:
        return Sqlite3Writer(Path(quote(os.fsencode(path))), compression)  # it makes an address of it, as its reader

    class AnyPath(Writer):
        STORAGE_PLUGINS: ClassVar[Any] = {StoragePlugin.MCAP: McapWriter, StoragePlugin.SQLITE3: sqlite_writer}

    if kind == "ros2":
        return AnyPath(folder, version=_VERSION)
    writer = AnyPath(folder, version=_VERSION, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    return writer


def require_rosbags() -> None:
    """Checks that bags can be written, before there is something to write.

    Raises:
        UserError: rosbags is not installed.
    """
    if find_spec("rosbags") is None:
        raise UserError("--format mcap and bag need a library that is missing; run: pip install rosbags")


def _flush(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
