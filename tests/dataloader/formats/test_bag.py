"""Bags of ROS 1 and ROS 2 as rosbags writes them: topics, orders, damage."""

from __future__ import annotations

import os
import pickle
import sqlite3
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Writer1

from dataloader.formats import bag_reader
from dataloader.formats.open import Clouds, Layout, is_bag_folder, open_clouds
from tests.support.bags import KINDS, POINTS, STORES, message, write_bag
from tests.support.point_files import CLOUD, assert_is, cut, flipped, with_lost_returns
from utils.errors import UserError
from utils.scan.point_cloud import PointCloud


def scaled(number: int) -> np.ndarray:
    return (CLOUD * np.float32(1 + number)).astype(np.float32)


def line_of_bag(path: Path, layout: Layout | None = None) -> str:
    with pytest.raises(UserError) as caught:
        open_clouds(path, layout or Layout()).read(0)
    line = str(caught.value)
    assert line.startswith(str(path)) and line.isprintable()
    return line


@pytest.mark.parametrize("kind", KINDS)
def test_messages_in_any_order(tmp_path, kind) -> None:
    ros1 = kind.startswith("bag")
    path = write_bag(tmp_path, kind, {"/info": ["a"] * 5, "/top": [message(scaled(n), ros1) for n in range(5)]})
    assert is_bag_folder(path) == path.is_dir()
    clouds = open_clouds(path, Layout())
    assert len(clouds) == 5 and clouds.label(3) == "000003"
    for number in (0, 1, 2, 3, 4, 4, 1, 0, 3, 2):
        cloud = clouds.read(number)
        assert_is(cloud, scaled(number))
        assert cloud.name == f"{path} /top {number:06d}"
    assert_is(open_clouds(path, Layout(topic="/top")).read(4), scaled(4))
    copy: Clouds = pickle.loads(pickle.dumps(clouds))
    assert_is(copy.read(2), scaled(2))


@pytest.mark.parametrize("ros1", [True, False])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("rows", "row_padding"), [(1, 0), (11, 0), (11, 7), (253, 1)])
@pytest.mark.parametrize("padding", [0, 3])
def test_orders_rows_and_padding(tmp_path, ros1, order, rows, row_padding, padding) -> None:
    cloud = with_lost_returns()
    made = message(cloud, ros1, order, rows, padding, row_padding)
    assert_is(open_clouds(write_bag(tmp_path, "bag" if ros1 else "mcap", {"/top": [made]}), Layout()).read(0), cloud)


@pytest.mark.parametrize("kind", ["bag", "sqlite", "mcap"])
def test_topics_are_asked_for(tmp_path, kind) -> None:
    ros1 = kind == "bag"
    topics = {"/b": [message(CLOUD, ros1)] * 2, "/a": [message(scaled(1), ros1)], "/none": [], "/info": ["a"]}
    path = write_bag(tmp_path, kind, topics)
    line = line_of_bag(path)
    assert "--topic" in line and "/a (1 messages), /b (2 messages)" in line
    for topic in ("/a", "a"):
        assert_is(open_clouds(path, Layout(topic=topic)).read(0), scaled(1))
    assert len(open_clouds(path, Layout(topic="/b"))) == 2
    assert "is not in it" in line_of_bag(path, Layout(topic="/c"))
    assert "std_msgs/msg/String" in line_of_bag(path, Layout(topic="/info"))
    assert "no message" in line_of_bag(path, Layout(topic="/none"))
    (tmp_path / "other").mkdir()
    assert "/info (std_msgs/msg/String)" in line_of_bag(write_bag(tmp_path / "other", kind, {"/info": ["a"]}))


def test_several_threads_and_messages_of_one_time(tmp_path) -> None:
    messages = [message(scaled(n)) for n in range(12)]
    store = STORES[True]
    with Writer1(tmp_path / "drive.bag") as writer:
        connection = writer.add_connection("/top", POINTS, typestore=store)
        for number, made in enumerate(messages):
            writer.write(connection, 10**9 + number // 4, store.serialize_ros1(made, POINTS))
    clouds = open_clouds(tmp_path / "drive.bag", Layout())
    order = np.random.default_rng(0).integers(0, 12, 200).tolist()
    with ThreadPoolExecutor(4) as pool:
        for number, cloud in zip(order, pool.map(clouds.read, order), strict=True):
            assert_is(cloud, scaled(number))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 0, "data": np.zeros(0, np.uint8)}, "holds no points"),
        ({"width": 254}, "do not fit"),
        ({"width": 2**32 - 1, "height": 2**32 - 1}, "do not fit"),
        ({"height": 2}, "do not fit"),
        ({"height": 11, "width": 23, "row_step": 1}, "do not fit"),
        ({"point_step": 0}, "ends behind its point"),
        ({"point_step": 21}, "ends behind its point"),
        ({"fields": []}, "no x, y, z"),
        ({"row_step": 0}, ""),
    ],
)
def test_messages_that_do_not_fit_are_one_line(tmp_path, changes, words) -> None:
    """The others of the bag are read."""
    path = write_bag(tmp_path, "bag", {"/top": [message(), message(**changes), message(scaled(2))]})
    clouds = open_clouds(path, Layout())
    assert_is(clouds.read(0), CLOUD)
    if words:
        with pytest.raises(UserError, match=words) as caught:
            clouds.read(1)
        assert str(caught.value).startswith(f"{path} /top 000001: ")
    else:
        assert_is(clouds.read(1), CLOUD)  # a single row needs no step
    assert_is(clouds.read(2), scaled(2))


def test_fields_of_odd_types_are_one_line(tmp_path) -> None:
    made = message()
    for change in ({"datatype": 9}, {"offset": 2**32 - 1}):
        fields = [replace(field, **change) if field.name == "x" else field for field in made.fields]
        line_of_bag(write_bag(tmp_path, "bag", {"/top": [message(fields=fields)]}))
        (tmp_path / "drive.bag").unlink()


def points_or_lines(path: Path, file: Path, contents) -> int:
    """Reads all messages of a damaged bag; each gives its points or one line. Returns how many bags gave a line."""
    lines = 0
    for content in contents:
        file.write_bytes(content)
        damaged = False
        try:
            clouds = open_clouds(path, Layout())
            numbers = range(min(len(clouds), 5))
        except UserError as error:
            assert str(error).startswith(str(path)) and str(error).isprintable()
            lines += 1
            continue
        for number in numbers:
            try:
                assert len(clouds.read(number)) == 9
            except UserError as error:
                assert str(error).startswith(str(path)) and str(error).isprintable()
                damaged = True
        lines += damaged
    return lines


@pytest.mark.parametrize("kind", ["bag", "bag lz4", "sqlite", "sqlite message", "mcap", "mcap storage", "mcap alone"])
def test_damaged_bags_give_points_or_one_line(tmp_path, kind, capfd) -> None:
    path = write_bag(tmp_path, kind, {"/top": [message(CLOUD[:9], kind.startswith("bag"))] * 2})
    file = path if path.is_file() else next(file for file in sorted(path.iterdir()) if file.suffix != ".yaml")
    content = file.read_bytes()
    few = [*cut(content, 0)]
    assert points_or_lines(path, file, few) >= len(few) - 8
    points_or_lines(path, file, flipped(content, 0, len(content), most=40))
    if path.is_dir():
        file.write_bytes(content)
        index = path / "metadata.yaml"
        text = index.read_bytes()
        points_or_lines(path, index, flipped(text, 0, len(text), most=40))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["bag bz2", "bag lz4", "mcap storage", "sqlite message", "sqlite file"])
def test_what_unpacks_to_far_more_is_one_line(tmp_path, kind, monkeypatch) -> None:
    monkeypatch.setattr(bag_reader, "_ALWAYS_ALLOWED", 1 << 16)
    monkeypatch.setattr(bag_reader, "_MOST_EXPANDED", 100)
    path = write_bag(tmp_path, kind, {"/top": [message(ros1=kind.startswith("bag"), data=np.zeros(2**22, np.uint8))]})
    assert "unpacks to" in line_of_bag(path)


def test_numbers_of_messages_that_lie(tmp_path) -> None:
    path = write_bag(tmp_path, "mcap alone", {"/top": [message(ros1=False)] * 3})
    content = path.read_bytes()
    assert len(open_clouds(path, Layout())) == 3
    statistics = content.rindex(struct.pack("<QHII", 3, 1, 1, 0))
    for count in (2, 4, 2**40):
        changed = bytearray(content)
        struct.pack_into("<Q", changed, statistics + 48, count)  # of the first topic
        path.write_bytes(changed)
        assert len(open_clouds(path, Layout())) == min(count, 3)
    chunk = content.rindex(b"\x08" + struct.pack("<Q", 74))  # of the index: times, place, length, places of messages
    changed = bytearray(content)
    struct.pack_into("<Q", changed, chunk + 9 + 38, 2**40)  # behind the end of what it has
    path.write_bytes(changed)
    assert "fewer messages than none" in line_of_bag(path)
    whole = write_bag(tmp_path, "sqlite", {"/top": [message(ros1=False)] * 3})
    index = whole / "metadata.yaml"
    index.write_text(index.read_text().replace("message_count: 3", "message_count: 999999999"))
    assert len(open_clouds(whole, Layout())) == 3
    file = next(whole.glob("*.db3"))
    with closing(sqlite3.connect(file)) as table:
        table.executescript("CREATE TABLE t(id, name, type, serialization_format, offered_qos_profiles, "
                            "type_description_hash); INSERT INTO t SELECT * FROM topics; UPDATE t SET name = NULL; "
                            "DROP TABLE topics; ALTER TABLE t RENAME TO topics")  # fmt: skip
    assert "no name" in line_of_bag(file)


def test_a_pipe_in_the_folder_is_one_line(tmp_path) -> None:
    path = write_bag(tmp_path, "sqlite", {"/top": [message(ros1=False)]})
    file = next(path.glob("*.db3"))
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(UserError, match="not an ordinary file"):
        open_clouds(path, Layout())


INHERITED: list[Clouds] = []


def read_inherited(number: int) -> PointCloud:
    return INHERITED[-1].read(number)


def test_other_processes_read_by_themselves(tmp_path) -> None:
    """A child has the open file of its parent in common with it; neither may move in it for the other."""
    path = write_bag(tmp_path, "bag", {"/top": [message(scaled(n)) for n in range(4)]})
    clouds = open_clouds(path, Layout())
    clouds.read(0)
    INHERITED.append(clouds)
    lock = vars(clouds)["_lock"]  # as if another thread were reading
    with lock, get_context("fork").Pool(2) as pool:
        children = pool.map_async(read_inherited, [3, 1, 2, 0, 3]).get(timeout=10)
    for number, cloud in zip([3, 1, 2, 0, 3], children, strict=True):
        assert_is(cloud, scaled(number))
    assert_is(clouds.read(1), scaled(1))


def test_a_missing_library_is_named(tmp_path, monkeypatch) -> None:
    path = write_bag(tmp_path, "bag", {"/top": [message()]})
    for name in [name for name in sys.modules if name.partition(".")[0] == "rosbags"]:
        monkeypatch.setitem(sys.modules, name, None)
    assert "pip install rosbags" in line_of_bag(path)
