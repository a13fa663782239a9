"""predict.py --format mcap and bag, end to end, with rosbags, mcap and SQLite as judges of what is written."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

import predict
from commands import bagging
from tests.support.bags import message, write_bag
from tests.support.checkpoints import small_config, write_checkpoint
from tests.support.full_disk import files_of_at_most
from utils import locations
from utils.command.process import run_program
from utils.labels import LabelMap
from utils.paths import REPOSITORY

CLASSES = LabelMap.load(REPOSITORY / "config" / "label_mapping" / "semantic-kitti.yaml")
KINDS = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 8: "<f8"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("predict") / "best.ckpt", small_config())


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(checkpoint: Path, *arguments: str | Path) -> int:
    command = ["--checkpoint", str(checkpoint), "--cpu", "--fit", "off", *map(str, arguments)]
    return run_program(lambda: predict.main(command))


def cloud(seed: int, count: int = 600) -> np.ndarray:
    drawn = np.random.default_rng(seed)
    xyz = drawn.uniform([-30, -30, -2], [30, 30, 1], (count, 3))
    return np.c_[xyz, drawn.uniform(0, 1, count)].astype(np.float32)


def table(found: Any) -> np.ndarray:
    """The fields of a message, by its own description of them."""
    assert not found.is_bigendian and found.row_step == found.width * found.point_step
    assert len(found.data) == found.row_step * found.height
    names = [field.name for field in found.fields]
    kinds = [KINDS[field.datatype] for field in found.fields]
    assert all(field.count == 1 for field in found.fields)
    assert all(field.offset % np.dtype(kind).itemsize == 0 for field, kind in zip(found.fields, kinds, strict=True))
    offsets = [field.offset for field in found.fields]
    layout: Any = {"names": names, "formats": kinds, "offsets": offsets, "itemsize": found.point_step}
    return np.frombuffer(bytes(found.data), np.dtype(layout))


def by_rosbags(path: str) -> Iterator[tuple[str, int, Any]]:
    with AnyReader([Path(path)], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
        for connection, time, raw in reader.messages():
            yield connection.topic, time, reader.deserialize(raw, connection.msgtype)


def by_mcap(path: str) -> Iterator[tuple[str, int, Any]]:
    with open(path, "rb") as file:
        reader = make_reader(file, validate_crcs=True, decoder_factories=[DecoderFactory()])
        assert reader.get_header().profile == "ros2"
        for schema, channel, raw, decoded in reader.iter_decoded_messages():
            assert schema is not None and schema.encoding == "ros2msg" and channel.message_encoding == "cdr"
            yield channel.topic, raw.log_time, decoded


def clouds(found: Iterator[tuple[str, int, Any]]) -> list[tuple[str, int, Any]]:
    return [each for each in found if not each[0].endswith("/classes")]


def check_labels(points: np.ndarray, labels: np.ndarray) -> None:
    assert np.array_equal(points["label"], labels) and len(set(labels.tolist())) > 1
    assert np.array_equal(CLASSES.to_raw[points["class"]], labels)
    rgb = points["rgb"].view("<u4")  # as rviz and PCL unpack it
    assert np.array_equal(np.stack([rgb >> 16, rgb >> 8 & 255, rgb & 255], 1), CLASSES.colors[points["class"]])


@pytest.mark.parametrize(
    ("kind", "order", "rows"), [("bag", ">", 1), ("mcap", "<", 4), ("sqlite", ">", 4)], ids=["ros1", "mcap", "sqlite"]
)
def test_the_clouds_of_a_bag_come_back_with_labels(checkpoint, tmp_path, kind, order, rows):
    sent = [cloud(0), cloud(1)]
    sent[1][::7, :3] = np.nan
    ros1 = kind == "bag"
    said = [message(each, ros1, order, rows, padding=1, row_padding=3) for each in sent]
    path = write_bag(tmp_path, kind, {"velodyne points": said, "/text": ["a", "b"]})
    formats = ("label", "mcap", "bag")
    assert run(checkpoint, path, "--output", "out", "--format", *formats, "--confidence") == 0
    judged = [clouds(found) for found in (by_rosbags("out/drive.mcap"), by_rosbags("out/drive.ros2"))]
    judged.append(clouds(by_mcap("out/drive.mcap")))
    for found in judged:
        assert [(topic, time) for topic, time, _ in found] == [
            ("/velodyne_points/labelled", 10**9 + number * 100) for number in range(2)
        ]
        for number, (_, _, each) in enumerate(found):
            assert (each.header.frame_id, each.header.stamp.sec, each.header.stamp.nanosec) == ("lidar", 1, 2)
            assert (each.height, each.width, each.is_dense) == (rows, 600 // rows, number == 0)
            points = table(each)
            assert points.dtype.names == ("i", "ring", "z", "x", "y", "label", "class", "rgb", "confidence")
            got = np.stack([points[name] for name in ("x", "y", "z", "i")], 1)
            assert np.array_equal(got, sent[number], equal_nan=True)
            assert points.dtype["x"] == "<f8" and set(points["ring"].tolist()) == {int.from_bytes(b"MM", "little")}
            check_labels(points, np.fromfile(f"out/drive/{number:06d}.label", "<u4"))
            assert not points["label"][~np.isfinite(points["x"])].any()
            assert np.array_equal(points["confidence"], np.load(f"out/drive/{number:06d}.confidence.npy"))
    (text,) = (found for topic, _, found in by_mcap("out/drive.mcap") if topic == "/velodyne_points/labelled/classes")
    (car,) = (row for row in json.loads(text.data)["classes"] if row["name"] == "car")
    assert car["label"] == 10 and car["color"] == "#{:02x}{:02x}{:02x}".format(*CLASSES.colors[car["class"]])
    check_folder(Path("out/drive.ros2"))
    assert not list(Path("out").rglob("*.partial"))


def check_folder(folder: Path) -> None:
    """Reads a bag as its definition says, without a library for bags."""
    about = yaml.safe_load((folder / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert about["storage_identifier"] == "sqlite3" and about["message_count"] == 3
    assert about["starting_time"]["nanoseconds_since_epoch"] == 10**9 and about["duration"]["nanoseconds"] == 100
    (name,) = about["relative_file_paths"]
    topics = {each["topic_metadata"]["name"]: each for each in about["topics_with_message_count"]}
    assert topics["/velodyne_points/labelled"]["message_count"] == 2
    assert topics["/velodyne_points/labelled"]["topic_metadata"]["type"] == "sensor_msgs/msg/PointCloud2"
    with sqlite3.connect(folder / name) as database:
        query = "SELECT topics.name, count(*) FROM messages JOIN topics ON topics.id = topic_id GROUP BY topics.id"
        assert dict(database.execute(query)) == {name: each["message_count"] for name, each in topics.items()}


def write_drive(folder: str, count: int) -> list[np.ndarray]:
    Path(folder).mkdir()
    made = [cloud(number, 601) for number in range(count)]  # a size that only four columns fit
    for number, each in enumerate(made):
        each.tofile(Path(folder, f"{2 * number:06d}.bin"))
    return made


def test_a_folder_is_one_bag_with_times(checkpoint, capsys):
    made = write_drive("a %20?#", 3)
    Path("a %20?#/000006.bin").write_bytes(b"x")
    write_drive("other", 1)
    np.save("one.npy", cloud(9))
    arguments = ["a %20?#", "other", "one.npy", "--output", "out 100%", "--format", "bag", "mcap"]
    assert run(checkpoint, *arguments) == 2
    shown = capsys.readouterr()
    assert "a %20?#.mcap: 3 of 4 scans of a %20?#/*.bin; 1 could not be labelled" in shown.out
    assert "a %20?#/000006.bin" in shown.err
    found = clouds(by_mcap("out 100%/a %20?#.mcap"))
    assert [(topic, time) for topic, time, _ in found] == [("/points/labelled", n * 2 * 10**8) for n in range(3)]
    for number, (_, _, each) in enumerate(found):
        points = table(each)
        assert points.dtype.names == ("x", "y", "z", "intensity", "label", "class", "rgb")
        assert points.dtype["x"] == "<f4" and each.header.frame_id == "lidar" and each.height == 1
        assert np.array_equal(np.stack([points[name] for name in ("x", "y", "z", "intensity")], 1), made[number])
    folder = Path("out 100%/a %20?#.ros2")
    about = yaml.safe_load((folder / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert (folder / about["relative_file_paths"][0]).is_file() and about["message_count"] == 4
    assert [len(clouds(by_mcap(f"out 100%/{name}.mcap"))) for name in ("other", "one")] == [1, 1]
    assert not list(Path("out 100%").glob("**/*.label"))
    # Labels are looked for in scans, not in results; nothing is made again.
    before = {
        path: path.stat().st_mtime_ns for path in Path("out 100%").rglob("*") if path.suffix in (".mcap", ".ros2")
    }
    assert run(checkpoint, *arguments) == 2 and "3 of 4 scans" not in capsys.readouterr().out
    assert all(path.stat().st_mtime_ns == time for path, time in before.items()) and len(before) == 6
    assert run(checkpoint, "out 100%", "--output", "again") == 2
    assert "no point files" in capsys.readouterr().err


def test_a_killed_run_goes_on_to_the_same_bag(checkpoint, monkeypatch, capsys):
    write_drive("drive", 3)
    Path("drive/000002.bin").rename("later.bin")
    assert run(checkpoint, "drive", "--output", "whole", "--format", "mcap", "bag", "label") == 0
    Path("later.bin").rename("drive/000002.bin")
    assert run(checkpoint, "drive", "--output", "whole", "--format", "mcap", "bag", "label") == 0
    assert "1 of 3 scans labelled" in capsys.readouterr().out

    reads = 0
    part = bagging._part

    def ended(*arguments: Any) -> Any:
        nonlocal reads
        reads += 1
        if reads == 2:
            raise KeyboardInterrupt
        return part(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(bagging, "_part", ended)
        assert run(checkpoint, "drive", "--output", "out", "--format", "mcap", "bag") != 0
    assert not Path("out/drive.mcap").exists() and not Path("out/drive.ros2").exists()
    with files_of_at_most(10_000):
        assert run(checkpoint, "drive", "--output", "out", "--format", "mcap") != 0
    assert not Path("out/drive.mcap").exists() and "drive.mcap" in capsys.readouterr().err
    assert run(checkpoint, "drive", "--output", "out", "--format", "mcap", "bag") == 0
    assert "0 of 3 scans labelled" in capsys.readouterr().out
    for name in ("drive.mcap", "drive.ros2/metadata.yaml", "drive.ros2/drive.db3"):
        assert Path("out", name).read_bytes() == Path("whole", name).read_bytes()
    assert not list(Path("out").glob(".*.partial"))


def test_a_bag_is_replaced_when_that_loses_nothing(checkpoint, capsys):
    write_drive("drive", 3)
    formats = ["--output", "out", "--format", "mcap"]
    assert run(checkpoint, "drive/000000.bin", "drive/000002.bin", *formats) == 0
    assert len(clouds(by_mcap("out/drive.mcap"))) == 2
    for arguments, line in [
        (["drive/000000.bin", "drive/000004.bin"], "holds 1 scans that are not named now (000002)"),
        (["drive/000000.bin", "drive/000002.bin", "--num_vote", "2"], "made with another num_vote"),
    ]:
        assert run(checkpoint, *arguments, *formats) == 2
        assert line in capsys.readouterr().err and len(clouds(by_mcap("out/drive.mcap"))) == 2
    assert run(checkpoint, "drive/000000.bin", "drive/000004.bin", *formats, "--overwrite") == 0
    assert [time for _, time, _ in clouds(by_mcap("out/drive.mcap"))] == [0, 4 * 10**8]
    Path("mine").mkdir()
    Path("mine/drive.mcap").write_bytes(b"mine")
    assert run(checkpoint, "drive", "--output", "mine", "--format", "mcap") == 2
    assert "not from predict.py" in capsys.readouterr().err and Path("mine/drive.mcap").read_bytes() == b"mine"


def test_an_input_is_not_written_over(checkpoint, tmp_path, capsys):
    path = write_bag(tmp_path, "mcap", {"/points": [message(cloud(0), False)]})
    (path / "drive.mcap").rename("drive.mcap")
    before = Path("drive.mcap").read_bytes()
    assert run(checkpoint, "drive.mcap", "--output", ".", "--format", "mcap", "--overwrite") == 2
    assert "its labels would be written over it" in capsys.readouterr().err
    assert Path("drive.mcap").read_bytes() == before
    # A labelled bag, named by itself, is a bag like any other.
    assert run(checkpoint, "drive.mcap", "--output", "out", "--format", "label", "mcap") == 0
    assert run(checkpoint, "out/drive.mcap", "--output", "again", "--format", "label", "mcap") == 0
    assert Path("again/drive/000000.label").read_bytes() == Path("out/drive/000000.label").read_bytes()
    ((topic, _, found),) = clouds(by_mcap("again/drive.mcap"))
    assert topic == "/points/labelled/labelled" and [f.name for f in found.fields].count("label") == 1


def test_a_cloud_without_points_is_left_out(checkpoint, tmp_path, capsys):
    empty = message(cloud(0, 0), False)
    path = write_bag(tmp_path, "mcap", {"/points": [message(cloud(0), False), empty, message(cloud(2), False)]})
    assert run(checkpoint, path, "--output", "out", "--format", "mcap") == 2
    shown = capsys.readouterr()
    assert "2 of 3 scans" in shown.out and "holds no points" in shown.err
    assert [time for _, time, _ in clouds(by_mcap("out/drive.mcap"))] == [10**9, 10**9 + 200]


def test_urls_and_processes(checkpoint, capsys):
    write_drive("drive", 3)
    assert run(checkpoint, "drive", "--output", "memory://bags/out", "--format", "mcap") == 0
    assert run(checkpoint, "drive", "--output", "out", "--format", "mcap") == 0
    assert locations.read("memory://bags/out/drive.mcap") == Path("out/drive.mcap").read_bytes()
    assert run(checkpoint, "drive", "--output", "memory://bags/out", "--format", "bag") == 2
    assert "use --format mcap" in capsys.readouterr().err
