"""Damaged and harmful tables; what is made of good ones is in test_nuscenes.py and test_nuscenes_index.py."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from dataloader.datasets.nuscenes.build import build_index
from tests.support.nuscenes import Tables, read_table, write_table, write_tree
from utils.errors import UserError

VERSION = "v1.0-mini"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("nuscenes"), scenes={"scene-0061": 2})


@pytest.fixture
def tree(good: Path, tmp_path: Path) -> Path:
    """A copy of the tables that a test may damage."""
    shutil.copytree(good / VERSION, tmp_path / VERSION)
    return tmp_path


def refusal(root: Path) -> str:
    with pytest.raises(UserError) as caught:
        build_index(root, VERSION)
    message = str(caught.value)
    assert message.isprintable() and len(message) < 600
    return message


def change(root: Path, table: str, channel: str | None = None, **values: object) -> None:
    """Sets keys of a record (of sample_data: a key frame of a sensor); None removes them."""
    tables = Tables(root)
    records = tables.rows(table)
    if table == "sample_data":
        record = next(r for r in records if r["is_key_frame"] and tables.channel(r) == (channel or "LIDAR_TOP"))
    elif channel is not None:
        sensor = next(r["token"] for r in tables.rows("sensor") if r["channel"] == channel)
        record = next(r for r in records if r["sensor_token"] == sensor)
    else:
        record = records[0]
    for key, value in values.items():
        record.pop(key) if value is None else record.update({key: value})
    write_table(root, table, records)


NAMES = ["../../x", "/etc/x", "a/b", "", ".", "..", "a\0b", "a\nb", "a b", "é", "\ud800", "\x1b[31m", "a.b", "x" * 129]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("table", "key"), [("sample_data", "token"), ("scene", "name")])
def test_a_name_that_leads_out_of_its_folder(tree, table, key, name):
    change(tree, table, **{key: name})
    message = refusal(tree)
    assert f"/{table}.json: " in message and "letters, digits, _ and - only" in message


PATHS = [
    "../x.bin",
    "/etc/x",
    "samples/../../x",
    "samples//x",
    "samples/",
    "",
    ".",
    "..",
    "a\0b",
    "a\nb",
    "é",
    "\ud800",
]


@pytest.mark.parametrize("path", [*PATHS, "x" * 256, "samples/" + "x/" * 200 + "y"])
@pytest.mark.parametrize(
    ("table", "channel"), [("sample_data", "LIDAR_TOP"), ("sample_data", "CAM_BACK"), ("lidarseg", None)]
)
def test_a_path_that_leads_out_of_its_folder(tree, table, channel, path):
    change(tree, table, channel, filename=path)
    message = refusal(tree)
    assert f"/{table}.json: filename " in message and "stays below its folder" in message


@pytest.mark.parametrize(
    ("table", "channel", "values", "word"),
    [
        ("sample_data", None, {"token": 5}, "token of the record 5 must be text, not 5"),
        ("sample_data", None, {"filename": ["x"]}, "filename of the record .* must be text, not"),
        ("sample_data", None, {"is_key_frame": 1}, "is_key_frame of .* must be true or false, not 1"),
        ("sample_data", None, {"is_key_frame": None}, "has no is_key_frame"),
        ("sample_data", None, {"is_key_frame": False}, "has no key frame of LIDAR_TOP"),
        ("sample_data", None, {"calibrated_sensor_token": "nowhere"}, "has no key frame of LIDAR_TOP"),
        ("sample_data", None, {"calibrated_sensor_token": {}}, "must be text, not {}"),
        ("sample_data", None, {"sample_token": "nowhere"}, "sample_token nowhere of .* is not in sample.json"),
        ("sample_data", "CAM_BACK", {"width": 0}, "1 to 65535 pixels a side, not 0 x 90"),
        ("sample_data", "CAM_BACK", {"width": True}, "width of .* must be a whole number, not True"),
        ("sample_data", "CAM_BACK", {"height": 10**18}, "1 to 65535 pixels a side"),
        ("sample_data", "CAM_BACK", {"height": 90.0}, "height of .* must be a whole number, not 90.0"),
        ("sample", None, {"timestamp": None}, "has no timestamp"),
        ("sample", None, {"timestamp": "soon"}, "timestamp of .* must be a whole number, not soon"),
        ("sample", None, {"scene_token": "../x"}, "scene_token '../x' of .* is not in scene.json"),
        ("scene", None, {"name": 61}, "name of .* must be text"),
        ("scene", None, {"token": None}, "has no token"),
        ("calibrated_sensor", "LIDAR_TOP", {"rotation": [0, 0, 0, 0]}, "the rotation of .* is zero"),
        ("calibrated_sensor", "LIDAR_TOP", {"rotation": [1, 0]}, "rotation of .* must be 4 finite numbers"),
        ("calibrated_sensor", "CAM_BACK", {"rotation": ["1", "0", "0", "0"]}, "rotation of .* must be 4 finite"),
        ("calibrated_sensor", "CAM_BACK", {"translation": [1e300, 0, 0]}, "translation of .* must be 3 finite numbers"),
        ("calibrated_sensor", "CAM_BACK", {"translation": [10**400, 0, 0]}, "translation of .* must be 3 finite"),
        ("calibrated_sensor", "CAM_BACK", {"translation": None}, "translation of .* must be 3 finite numbers"),
        ("calibrated_sensor", "CAM_BACK", {"camera_intrinsic": []}, "camera_intrinsic of .* must be 3 x 3 finite"),
        ("calibrated_sensor", "CAM_BACK", {"camera_intrinsic": [[1, 0], [0]]}, "camera_intrinsic of .* must be 3 x 3"),
        ("calibrated_sensor", "CAM_BACK", {"camera_intrinsic": [[[]] * 3] * 3}, "camera_intrinsic of .* must be 3 x 3"),
        ("ego_pose", None, {"translation": [float("nan")] * 3}, "translation of .* must be 3 finite numbers"),
        ("ego_pose", None, {"rotation": "1 0 0 0"}, "rotation of .* must be a list"),
        ("category", None, {"index": 5}, "two categories have one index"),
        ("category", None, {"index": "0"}, "index of .* must be a whole number, not 0"),
        ("category", None, {"name": []}, r"name of .* must be text, not \[\]"),
        ("lidarseg", None, {"sample_data_token": None}, "has no sample_data_token"),
    ],
)  # fmt: skip
def test_a_bad_value_is_one_clear_line(tree, table, channel, values, word):
    change(tree, table, channel, **values)
    message = refusal(tree)
    assert message.startswith(f"{tree / VERSION / table}.json: ") and re.search(word, message)


def test_the_record_is_named_by_its_token(tree):
    change(tree, "calibrated_sensor", "CAM_FRONT", camera_intrinsic=[[1, 0], [0, 1]])
    bad = next(
        record["token"] for record in read_table(tree, "calibrated_sensor") if len(record["camera_intrinsic"]) == 2
    )
    assert f"calibrated_sensor.json: camera_intrinsic of {bad} must be 3 x 3" in refusal(tree)


def test_two_scans_of_one_token_would_share_their_files(tree):
    records = [r for r in read_table(tree, "sample_data") if r["is_key_frame"] and "/LIDAR_TOP/" in r["filename"]]
    change(tree, "sample_data", token=records[1]["token"])
    assert "two key frames have one token" in refusal(tree)


@pytest.mark.parametrize("layout", [{"indent": 0}, {"indent": 4}, {"separators": (",", ":")}, {"ensure_ascii": False}])
def test_any_layout_of_the_json_is_read(good, tree, layout):
    for path in (tree / VERSION).iterdir():
        records = json.loads(path.read_text())
        path.write_text(
            "\n " + json.dumps([{**r, "note": 'é\u2028 {}[]," ' * 100} for r in records], **layout) + "\n\n"
        )
    one, other = build_index(good, VERSION), build_index(tree, VERSION)
    assert np.array_equal(one.records, other.records) and one.categories == other.categories


def test_tables_larger_than_a_piece_of_the_file(tree):
    """Records of others (here radars and sweeps) are passed over, wherever a piece of the file ends."""
    before = build_index(tree, VERSION)
    records = read_table(tree, "sample_data")
    sweeps = [{**records[0], "is_key_frame": False, "token": f"s{n}", "note": "-" * (n % 999)} for n in range(5000)]
    write_table(tree, "sample_data", [*sweeps[:2500], *records, *sweeps[2500:]])
    assert (tree / VERSION / "sample_data.json").stat().st_size > 3 << 20
    assert np.array_equal(build_index(tree, VERSION).records, before.records)
