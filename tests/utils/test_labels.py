from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from utils.errors import UserError
from utils.labels import UNKNOWN, LabelMap

SHIPPED = Path(__file__).parents[2] / "config" / "label_mapping" / "semantic-kitti.yaml"


@pytest.fixture(scope="module")
def content():
    return yaml.safe_load(SHIPPED.read_text())


def test_the_shipped_map(content):
    labels = LabelMap.load(SHIPPED)
    assert len(labels.names) == 20 and labels.names[0] == "unlabeled" and labels.names[5] == "other-vehicle"
    assert labels.names == tuple(content["labels"][content["learning_map_inv"][k]] for k in range(20))
    assert labels.split["train"] == ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10")
    assert labels.split["valid"] == ("08",) and labels.split["test"] == tuple(str(n) for n in range(11, 22))
    assert (labels.to_learning.dtype, labels.to_raw.dtype, labels.colors.dtype) == (np.uint8, np.uint32, np.uint8)
    assert labels.to_learning.shape == (65536,) and labels.colors.shape == (20, 3)
    assert tuple(labels.colors[1]) == (100, 150, 245)  # a car is light blue in RGB; the file has blue first


def test_the_shipped_map_is_consistent(content):
    assert (
        set(content["labels"]) == set(content["color_map"]) == set(content["learning_map"]) == set(content["content"])
    )
    assert sum(content["content"].values()) == pytest.approx(1, abs=1e-3)
    assert [k for k, ignored in content["learning_ignore"].items() if ignored] == [0]
    labels = LabelMap.load(SHIPPED)
    assert np.array_equal(labels.to_learning[labels.to_raw], np.arange(20))
    assert (labels.to_learning != UNKNOWN).sum() == len(content["learning_map"]) == 34


def test_look_up_equals_a_dictionary(content):
    raw = np.random.default_rng(0).choice(list(content["learning_map"]), 5000)
    wanted = np.vectorize(content["learning_map"].__getitem__)(raw)
    labels = LabelMap.load(SHIPPED)
    for dtype in (np.uint16, np.uint32):
        learning = labels.learning_ids(raw.astype(dtype), "a.label")
        assert learning.dtype == np.uint8 and np.array_equal(learning, wanted)
    assert labels.learning_ids(np.zeros(0, np.uint16), "a.label").shape == (0,)


def test_an_unknown_id_is_named():
    raw = np.array([10, 77, 10, 77, 40000], np.uint16)
    with pytest.raises(UserError, match=r"^seq/a\.label: label id 77 on 2 points .*1 more") as caught:
        LabelMap.load(SHIPPED).learning_ids(raw, "seq/a.label")
    assert "\n" not in str(caught.value)


def _without(key):
    return lambda content: content.pop(key)


def _set(key, entry, value):
    return lambda content: content[key].__setitem__(entry, value)


@pytest.mark.parametrize(
    "change, word",
    [
        (_without("labels"), "labels"),
        (_without("color_map"), "color_map"),
        (_without("learning_map"), "learning_map"),
        (_without("learning_map_inv"), "learning_map_inv"),
        (_without("split"), "split"),
        (lambda content: content["split"].pop("valid"), "split.valid"),
        (_set("split", "test", "11"), "split.test"),
        (_set("learning_map", 60, 20), "60 to 20"),
        (_set("learning_map", 70000, 1), "learning_map"),
        (_set("learning_map", "car", 1), "learning_map"),
        (_set("learning_map_inv", 21, 40), "without a gap"),
        (_set("learning_map_inv", 1, 40), "sends 1 to 40"),
        (_set("color_map", 10, [1, 2]), "color_map of 10"),
        (_set("color_map", 10, [1, 2, 256]), "color_map of 10"),
        (lambda content: content["labels"].pop(10), "raw id 10"),
        (lambda content: content.__setitem__("labels", ["car"]), "labels"),
    ],
)
def test_a_wrong_map_is_one_clear_line(change, word, content, tmp_path):
    damaged = yaml.safe_load(yaml.safe_dump(content))
    change(damaged)
    path = tmp_path / "map.yaml"
    path.write_text(yaml.safe_dump(damaged))
    with pytest.raises(UserError) as caught:
        LabelMap.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and word in message and "\n" not in message


@pytest.mark.parametrize(
    "text",
    [
        None, "labels: [1, 2\nfoo: {", "just a word", "", b"\xff\xfe\x00\x80", "labels: 2020-13-45",
        pytest.param("labels: " + "[" * 5000, id="deep"),
    ],
)  # fmt: skip
def test_what_is_no_map_at_all_is_one_clear_line(text, tmp_path):
    path = tmp_path / "map.yaml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as caught:
        LabelMap.load(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
