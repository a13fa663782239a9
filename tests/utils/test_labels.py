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
MULTISCAN = FOLDER / "semantic-kitti-multiscan.yaml"


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
    assert {type(name) for name in (*labels.names, *labels.raw_names.values())} == {str}  # they go into checkpoints


def test_the_multi_scan_map_has_the_classes_of_the_single_scan_one_and_those_that_move(content):
    """Raw ids 252 to 259 are what moves in the published label files; nothing else differs but these."""
    single, multi = LabelMap.load(SHIPPED), LabelMap.load(MULTISCAN)
    static = np.setdiff1d(np.flatnonzero(single.to_learning != UNKNOWN), range(252, 260))
    assert np.array_equal(multi.to_learning[static], single.to_learning[static])
    assert multi.raw_names == single.raw_names and multi.split == single.split
    assert multi.names[:20] == single.names and np.array_equal(multi.colors[:20], single.colors)
    assert multi.names[20:] == tuple(f"moving-{name}" for name in ("car", "bicyclist", "person", "motorcyclist",
                                                                   "other-vehicle", "truck"))  # fmt: skip
    assert multi.to_raw[:20].tolist() == single.to_raw.tolist()
    assert multi.to_raw[20:].tolist() == [252, 253, 254, 255, 259, 258]
    assert multi.to_learning[252:260].tolist() == [20, 21, 22, 23, 24, 24, 25, 24]
    assert multi.moving == (20, 21, 22, 23, 24, 25) and single.moving == ()
    assert len(set(map(tuple, multi.colors.tolist()))) == 26, "no two classes look alike"
    shares = yaml.safe_load(MULTISCAN.read_text())["content"]
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
    assert {raw: shares[raw] for raw in (252, 253, 254, 255, 257, 258, 259)} == pytest.approx(
        {252: 1.79e-3, 253: 1.27e-4, 254: 1.61e-4, 255: 3.75e-5, 257: 1.14e-4, 258: 1.02e-4, 259: 4.4e-5}, rel=0.01
    )


def test_what_moves_is_kept_when_raw_ids_change():
    labels = LabelMap.load(MULTISCAN)
    assert labels.with_raw_names(shuffled_ids(labels), "category.json").moving == labels.moving
    for color in (None, (255, 255, 255)):
        assert labels.adding({300: "snow"}, color).moving == labels.moving
    assert labels.ignoring_unknown().moving == labels.moving


@pytest.mark.parametrize(
    ("entries", "moving"),
    [
        ({4: True, 1: True, 2: False}, (1, 4)),
        ({1: "yes", 2: "off", 3: "True"}, (1, 3)),
        ({"01": True}, (1,)),
        ({1: False}, ()),
    ],
)
def test_what_moves_is_what_is_written(entries, moving, content, tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text(yaml.safe_dump(content | {"learning_moving": entries}))
    assert LabelMap.load(path).moving == moving


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
    """Returns other raw ids for the same categories."""
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
        (_set("split", "test", ["11", "../11"]), r"found ../11"),
        (_set("split", "test", [["11"]]), "found a list"),
        (_set("split", "test", [".."]), "found .."),
        (_set("split", "test", [""]), "found ''"),
        (_set("split", "train", [3, "03"]), "split.train lists the sequence 03 twice"),
        (_set("learning_map", 60, 20), "60 to 20"),
        (_set("learning_map", 60, "road"), "60 to road"),
        (_set("learning_map", 70000, 1), "learning_map"),
        (_set("learning_map", "car", 1), "learning_map"),
        (_set("learning_map_inv", 21, 40), "without a gap"),
        (_set("learning_map_inv", 1, 40), "sends 1 to 40"),
        (_set("learning_map_inv", 1, {}), "sends 1 to a table"),
        (lambda content: content.__setitem__("class_names", {20: "tram"}), "class_names has 20"),
        (lambda content: content.__setitem__("class_names", ["tram"]), "class_names"),
        (lambda content: content.__setitem__("class_names", {3: "car"}), "classes 1 and 3 are both called car"),
        (lambda content: content.__setitem__("class_names", {3: "\x1b[2J"}), "a control character"),
        (lambda content: content.__setitem__("class_names", {3: ["tram"]}), "class_names of 3"),
        (_set("color_map", 10, [1, 2]), "color_map of 10"),
        (_set("color_map", 10, [1, 2, 256]), "color_map of 10"),
        (_set("color_map", 10, [1, 2, 0.5]), "color_map of 10"),
        (lambda content: content["labels"].pop(10), "raw id 10"),
        (lambda content: content.__setitem__("labels", ["car"]), "labels"),
        (_set("learning_ignore", 5, 1), "learning_ignore of 5 must be true or false, found 1"),
        (_set("learning_ignore", 20, False), "learning_ignore has 20"),
        (
            lambda content: content.__setitem__("learning_moving", {20: True}),
            "learning_moving has 20, which is no",
        ),
        (lambda content: content.__setitem__("learning_moving", {0: True}), "learning_moving has 0, which is no"),
        (
            lambda content: content.__setitem__("learning_moving", {0: False}),
            "learning_moving has 0, which is no",
        ),
        (lambda content: content.__setitem__("learning_moving", {-1: True}), "learning_moving must map ids from 0"),
        (lambda content: content.__setitem__("learning_moving", {5: 1}), "learning_moving of 5 must be true or false"),
        (lambda content: content.__setitem__("learning_moving", {5: None}), "learning_moving of 5 must be true or"),
        (lambda content: content.__setitem__("learning_moving", {5: [True]}), "learning_moving of 5 must be true or"),
        (lambda content: content.__setitem__("learning_moving", [5]), "learning_moving must map ids from 0"),
        (lambda content: content.__setitem__("learning_moving", {"car": True}), "learning_moving must map ids from 0"),
        (lambda content: content.__setitem__("learning_movin", {1: True}), "did you mean learning_moving?"),
        (lambda content: content.__setitem__("class_name", {1: "tram"}), "class_name, did you mean class_names?"),
        (lambda content: content.__setitem__(7, 8), "unknown key 7; correct"),
        (_set("split", "val", [8]), "unknown key split.val"),
        (_set("learning_map", "001", 0), "learning_map has the id 1 twice"),
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
    assert message.startswith(f"{path}: ") and word in message and message.isprintable()


def _ignore(*learning):
    return lambda content: content.__setitem__("learning_ignore", {k: k in learning for k in range(20)})


def _send(raw, learning):
    """Returns a change of the learning id of a raw id, as in maps of other code bases, which ignore 255 or -1."""
    return _set("learning_map", raw, learning)


def _renumber(ignored):
    """Returns a change that numbers the classes 0..18 and gives ignored points the id `ignored`."""

    def change(content):
        learning = {k: k - 1 if k else ignored for k in range(20)}
        content["learning_map"] = {raw: learning[k] for raw, k in content["learning_map"].items()}
        content["learning_map_inv"] = {learning[k]: raw for k, raw in content["learning_map_inv"].items()}
        content["learning_ignore"] = {learning[k]: k == 0 for k in range(20)}

    return change


@pytest.mark.parametrize(
    "change, found",
    [
        (_ignore(19), "learning_ignore does not ignore 0 (unlabeled)"),
        (_ignore(), "learning_ignore does not ignore 0 (unlabeled)"),
        (_ignore(0, 19), "learning_ignore ignores 19 (traffic-sign)"),
        (lambda content: content.__setitem__("learning_ignore", {19: True}), "learning_ignore ignores 19"),
        (_send(0, 255), "learning_map sends 0 to 255"),
        (_send(0, -1), "learning_map sends 0 to -1"),
        (_renumber(19), "learning_ignore ignores 19 (unlabeled)"),
        (_renumber(255), "learning_map_inv must have"),
        (_renumber(-1), "learning_map_inv must map ids from 0 to 65535, found -1"),
    ],
)
def test_another_ignored_class_than_0_is_refused_with_the_rule(change, found, content, tmp_path):
    changed = yaml.safe_load(yaml.safe_dump(content))
    change(changed)
    path = tmp_path / "map.yaml"
    path.write_text(yaml.safe_dump(changed, sort_keys=False))
    with pytest.raises(UserError) as caught:
        LabelMap.load(path)
    assert found in str(caught.value)
    assert "the learning id 0 is what is left out of loss and score, and the classes are 1, 2, 3" in str(caught.value)


def test_a_class_that_0_leaves_out_by_accident_is_named(content, tmp_path):
    changed = yaml.safe_load(yaml.safe_dump(content))
    _renumber(19)(changed)
    path = tmp_path / "map.yaml"
    for ignore in ({}, {"learning_ignore": {5: False}}):
        path.write_text(yaml.safe_dump({k: v for k, v in changed.items() if k != "learning_ignore"} | ignore))
        with pytest.raises(UserError, match="learning_map_inv has car for 0, but the learning id 0 is"):
            LabelMap.load(path)
    path.write_text(yaml.safe_dump(changed | {"learning_ignore": {0: True}}))
    assert LabelMap.load(path).names[0] == "car"


def test_learning_ignore_may_be_left_out_or_name_0_alone(content, tmp_path):
    shipped = LabelMap.load(SHIPPED)
    for ignore in (None, {0: True}, {5: False}):
        changed = {key: value for key, value in content.items() if key != "learning_ignore"}
        changed |= {} if ignore is None else {"learning_ignore": ignore}
        (tmp_path / "map.yaml").write_text(yaml.safe_dump(changed))
        labels = LabelMap.load(tmp_path / "map.yaml")
        assert labels.names == shipped.names and np.array_equal(labels.to_learning, shipped.to_learning)


def with_split(tmp_path, train):
    """Loads the shipped map with the text `train` as its training sequences."""
    text = SHIPPED.read_text()
    before, _, after = text.partition("  train: [0, 1, 2, 3, 4, 5, 6, 7, 9, 10]")
    assert after
    path = tmp_path / "map.yaml"
    path.write_text(f"{before}  train: {train}{after}")
    return LabelMap.load(path)


@pytest.mark.parametrize(
    "written, names",
    [
        ("[00, 01, 07, 08, 09, 10]", "00 01 07 08 09 10"),  # 08 and 09 are no numbers to YAML 1.1
        ("[0, 7, 8, 10]", "00 07 08 10"),  # as the semantic-kitti-api writes them
        ("[010, 0x10, 0o7, 1_0, 1e3, 0b1, 1.0, 12:30:00]", None),  # numbers to YAML, and a colon is none of the names
        ("[010, 0x10, 0o7, 1_0, 1e3, 0b1, 1.0]", "010 0x10 0o7 1_0 1e3 0b1 1.0"),
        ("['8', \"00\", 'a']", "8 00 a"),  # in quotes: as it is written
        ("[2013_05_28_drive_0000_sync, no, null, 2024-01-01]", "2013_05_28_drive_0000_sync no null 2024-01-01"),
        ("[100, 2013]", "100 2013"),
        ("\n  - 08 # the eighth\n  - ..9", "08 ..9"),
        ("[-1, +1]", None),
        ("[~]", None),
        ("[a/b]", None),
        ("[08, 8]", None),
    ],
)
def test_a_sequence_is_what_is_written(written, names, tmp_path):
    if names is not None:
        assert with_split(tmp_path, written).split["train"] == tuple(names.split())
        return
    with pytest.raises(UserError, match=r"map\.yaml: key split\.train ") as caught:
        with_split(tmp_path, written)
    assert "\n" not in str(caught.value)


def test_names_and_ids_are_what_is_written(tmp_path, content):
    text = SHIPPED.read_text()
    for old, new in (('10: "car"', "010: no"), ("10: 1  # car", '"10": 01'), ("15: 3 ", "015: 3 ")):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "map.yaml").write_text(text)
    labels, shipped = LabelMap.load(tmp_path / "map.yaml"), LabelMap.load(SHIPPED)
    assert labels.names == ("unlabeled", "no", *shipped.names[2:])
    assert np.array_equal(labels.to_learning, shipped.to_learning)


def test_endless_yaml_ends(tmp_path):
    """Anchors that would unfold into 10^9 entries, in each place of the file."""
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
    shipped = SHIPPED.read_text()
    for old in ("10: 1  # car", '10: "car"', "10: [245, 150, 100]", "1: 10  # car", "1: false", "train: [0, 1"):
        new = "train: [*a8, 1" if "train" in old else old.partition(":")[0] + ": *a8"
        (tmp_path / "map.yaml").write_text(bomb + shipped.replace(old, new))
        with pytest.raises(UserError) as caught:
            LabelMap.load(tmp_path / "map.yaml")
        assert len(str(caught.value)) < 600, old


def test_points_that_a_corruption_has_added():
    labels = LabelMap.load(SHIPPED)
    raw = np.array([10, 21, 23, 0, 10], np.uint16)
    wider = labels.adding({21: "fog", 23: "crosstalk", 10: "not that"})
    assert wider.learning_ids(raw, "a.label").tolist() == [1, 0, 0, 0, 1]
    with pytest.raises(UserError, match="label id 22 on 1 points"):
        wider.learning_ids(np.array([22, 21], np.uint16), "a.label")
    with pytest.raises(UserError, match="label id 21"):
        labels.learning_ids(raw, "a.label")
    shown = labels.adding({21: "fog", 23: "crosstalk", 10: "not that"}, color=(1, 2, 3))
    assert shown.learning_ids(raw, "a.label").tolist() == [1, 20, 21, 0, 1]
    assert shown.names == (*labels.names, "fog", "crosstalk") and shown.colors[20:].tolist() == [[1, 2, 3]] * 2
    assert np.array_equal(shown.colors[:20], labels.colors) and np.array_equal(shown.to_raw, labels.to_raw)


def test_added_points_in_a_data_set_that_numbers_its_ids_itself():
    labels = LabelMap.load(NUSCENES).adding({41: "fog", 42: "snow"})
    matched = labels.with_raw_names({5: "vehicle.car", 42: "animal", 43: "vehicle.car"}, "category.json")
    assert matched.learning_ids(np.array([5, 41, 42, 43], np.uint8), "a.bin").tolist() == [4, 0, 0, 4]
    assert (matched.to_learning != UNKNOWN).sum() == 4


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


def test_names_in_quotes_are_plain_text():
    """A checkpoint holds the names, and nothing that is more than data."""
    labels = LabelMap.load(NUSCENES)
    assert "'" in NUSCENES.read_text() or '"' in NUSCENES.read_text()
    assert {type(name) for name in (*labels.names, *labels.raw_names.values())} == {str}


def test_the_shipped_nuscenes_map_is_consistent():
    content = yaml.safe_load(NUSCENES.read_text())
    labels = LabelMap.load(NUSCENES)
    assert set(content["labels"]) == set(content["color_map"]) == set(content["learning_map"]) == set(range(32))
    assert [k for k, ignored in content["learning_ignore"].items() if ignored] == [0]
    assert len(content["learning_ignore"]) == len(labels.names) == 17 and labels.split == {}
    assert np.array_equal(labels.to_learning[labels.to_raw], np.arange(17))
