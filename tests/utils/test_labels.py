from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from utils.errors import UserError
from utils.labels import UNKNOWN, LabelMap

FOLDER = Path(__file__).parents[2] / "config" / "label_mapping"
SHIPPED, NUSCENES = FOLDER / "semantic-kitti.yaml", FOLDER / "nuscenes.yaml"


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
    assert labels.raw_names == content["labels"]


def test_look_up_equals_a_dictionary(content):
    raw = np.random.default_rng(0).choice(list(content["learning_map"]), 5000)
    wanted = np.vectorize(content["learning_map"].__getitem__)(raw)
    labels = LabelMap.load(SHIPPED)
    for dtype in (np.uint16, np.uint32):
        learning = labels.learning_ids(raw.astype(dtype), "a.label")
        assert learning.dtype == np.uint8 and np.array_equal(learning, wanted)
    assert labels.learning_ids(np.zeros(0, np.uint16), "a.label").shape == (0,)


def test_split_and_class_names_are_optional(content, tmp_path):
    changed = {key: value for key, value in content.items() if key != "split"} | {"class_names": {3: "motorbike"}}
    path = tmp_path / "map.yaml"
    path.write_text(yaml.safe_dump(changed))
    labels, shipped = LabelMap.load(path), LabelMap.load(SHIPPED)
    assert labels.split == {}
    assert labels.names == (*shipped.names[:3], "motorbike", *shipped.names[4:])
    assert labels.raw_names == shipped.raw_names


def shuffled_ids(labels, below=60, seed=0):
    """Other raw ids for the same categories."""
    ids = np.random.default_rng(seed).permutation(below)[: len(labels.raw_names)].tolist()
    return dict(zip(ids, labels.raw_names.values(), strict=True))


def test_categories_are_matched_by_name():
    labels = LabelMap.load(NUSCENES)
    names = shuffled_ids(labels)
    matched = labels.with_raw_names(names, "category.json")
    class_of = {name: labels.to_learning[raw] for raw, name in labels.raw_names.items()}
    for raw in range(len(matched.to_learning)):
        assert matched.to_learning[raw] == (class_of[names[raw]] if raw in names else UNKNOWN)
    assert matched.to_learning.dtype == np.uint8 and matched.to_raw.dtype == np.uint32
    assert matched.raw_names == names and matched.names == labels.names
    assert [names[raw] for raw in matched.to_raw] == [labels.raw_names[raw] for raw in labels.to_raw]
    assert np.array_equal(matched.colors, labels.colors)
    raw = next(iter(set(range(60)) - set(names)))
    with pytest.raises(UserError, match=f"^a_lidarseg.bin: label id {raw} on 1 points"):
        matched.learning_ids(np.array([raw], np.uint8), "a_lidarseg.bin")


def test_matching_leaves_the_map_itself_alone():
    labels = LabelMap.load(NUSCENES)
    to_learning, to_raw, raw_names = labels.to_learning.copy(), labels.to_raw.copy(), dict(labels.raw_names)
    labels.with_raw_names(shuffled_ids(labels), "category.json")
    same = labels.with_raw_names(labels.raw_names, "category.json")
    for map_ in (labels, same):
        assert np.array_equal(map_.to_learning, to_learning) and np.array_equal(map_.to_raw, to_raw)
        assert map_.raw_names == raw_names


def test_a_data_set_may_lack_categories():
    labels = LabelMap.load(NUSCENES)
    names = {7: "vehicle.car", 9: "vehicle.bus.rigid"}
    matched = labels.with_raw_names(names, "category.json")
    assert {raw: matched.names[matched.to_learning[raw]] for raw in names} == {7: "car", 9: "bus"}
    assert (matched.to_learning != UNKNOWN).sum() == 2
    assert matched.to_raw[matched.names.index("car")] == 7


@pytest.mark.parametrize(
    "names, word",
    [({1: "vehicle.spaceship"}, "vehicle.spaceship"), ({-1: "animal"}, "-1"), ({65536: "animal"}, "65536")],
)
def test_what_cannot_be_matched_is_one_clear_line(names, word):
    with pytest.raises(UserError) as caught:
        LabelMap.load(NUSCENES).with_raw_names({0: "noise", **names}, "v1.0-mini/category.json")
    message = str(caught.value)
    assert message.startswith("v1.0-mini/category.json: category ") and word in message and "\n" not in message


def test_a_name_without_a_class_is_refused(tmp_path):
    content = yaml.safe_load(NUSCENES.read_text())
    content["learning_map"].pop(1)
    path = tmp_path / "map.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match="category animal"):
        LabelMap.load(path).with_raw_names({1: "animal"}, "category.json")


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
        (lambda content: content.__setitem__("split", None), "split"),
        (lambda content: content["split"].pop("valid"), "split.valid"),
        (_set("split", "test", "11"), "split.test"),
        (_set("learning_map", 60, 20), "60 to 20"),
        (_set("learning_map", 70000, 1), "learning_map"),
        (_set("learning_map", "car", 1), "learning_map"),
        (_set("learning_map_inv", 21, 40), "without a gap"),
        (_set("learning_map_inv", 1, 40), "sends 1 to 40"),
        (lambda content: content.__setitem__("class_names", {20: "tram"}), "class_names has 20"),
        (lambda content: content.__setitem__("class_names", ["tram"]), "class_names"),
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


def test_nuscenes_is_what_the_devkit_says():
    """Classes, their ids and colours, and the colour of every category, each looked up by its name in the devkit."""
    mappers = pytest.importorskip("nuscenes.eval.lidarseg.utils")
    color_map = pytest.importorskip("nuscenes.utils.color_map").get_colormap()
    labels = LabelMap.load(NUSCENES)
    categories = shuffled_ids(labels, below=32)  # the devkit wants ids without a gap
    tables = SimpleNamespace(lidarseg_name2idx_mapping={name: raw for raw, name in categories.items()})
    mapper = mappers.LidarsegClassMapper(tables)
    assert set(labels.raw_names.values()) == set(mapper.fine_name_2_coarse_name_mapping) == set(color_map)

    matched = labels.with_raw_names(categories, "category.json")
    raw = np.random.default_rng(2).choice(list(categories), 3000).astype(np.uint8)
    assert np.array_equal(matched.learning_ids(raw, "a_lidarseg.bin"), mapper.convert_label(raw))

    ids = mapper.coarse_name_2_coarse_idx_mapping  # the devkit calls class 0 "ignore"
    assert labels.names[0] == "noise" and ids["ignore"] == 0
    assert {name: labels.names.index(name) for name in labels.names[1:]} == {n: i for n, i in ids.items() if i}
    for name, learning in ids.items():
        assert tuple(labels.colors[learning]) == mapper.coarse_colormap[name]
    colors = yaml.safe_load(NUSCENES.read_text())["color_map"]
    assert {labels.raw_names[raw]: tuple(reversed(bgr)) for raw, bgr in colors.items()} == color_map


def test_the_shipped_nuscenes_map_is_consistent():
    content = yaml.safe_load(NUSCENES.read_text())
    labels = LabelMap.load(NUSCENES)
    assert set(content["labels"]) == set(content["color_map"]) == set(content["learning_map"]) == set(range(32))
    assert [k for k, ignored in content["learning_ignore"].items() if ignored] == [0]
    assert len(content["learning_ignore"]) == len(labels.names) == 17 and labels.split == {}
    assert np.array_equal(labels.to_learning[labels.to_raw], np.arange(17))
