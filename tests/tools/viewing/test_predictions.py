"""Where predictions are found, how they are called, and what is wrong with them."""

from __future__ import annotations

import json
import pickle
import re

import numpy as np
import pytest

from dataloader.catalogue import DATA_SETS
from tools.viewing.predictions import Places, open_predictions
from utils.errors import UserError
from utils.labels import LabelMap
from utils.results.conditions import Conditions, TrainedOn

KITTI = LabelMap.load(DATA_SETS["SemanticKITTI"].label_mapping_path)
COUNT = 50
SCAN = "somewhere/velodyne/000001.bin"
PLACES = Places(["sequences/08/predictions", ""], [(f"00000{number}.label", f"00000{number}.npy") for number in (0, 1)])
SUBSET = Places(["labels"], PLACES.files, subset="fog/light")


def write(path, raw=10, count=COUNT):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.full(count, raw, dtype="<u4").tofile(path)
    return path


@pytest.mark.parametrize(
    ("below", "places"),
    [
        ("sequences/08/predictions", PLACES),
        ("predictions/sequences/08/predictions", PLACES),  # the folder of a test
        ("submission/sequences/08/predictions", PLACES),
        ("subsets/clean/predictions/sequences/08/predictions", PLACES),  # the folder of robust_test.py
        (".", PLACES),  # the files themselves
        ("labels", SUBSET),
        ("fog/light/predictions/labels", SUBSET),
        ("subsets/fog/light/predictions/labels", SUBSET),
    ],
)
def test_the_files_are_found(tmp_path, below, places):
    file = write(tmp_path / below / "000001.label")
    (found,) = open_predictions([tmp_path], places)
    assert found.lacking == {0}
    assert file.samefile(found.files[1])
    ids, confidence = found.read(1, COUNT, SCAN, KITTI)
    assert (ids == 1).all() and confidence is None


@pytest.mark.parametrize(
    ("below", "places", "scores"),
    [
        ("predictions/sequences/08/predictions", PLACES, "scores.json"),
        ("subsets/fog/light/predictions/labels", SUBSET, "subsets/fog/light/scores.json"),
    ],
)
def test_the_conditions_are_those_beside_the_predictions(tmp_path, below, places, scores):
    write(tmp_path / below / "000001.label")

    def conditions():
        (found,) = open_predictions([tmp_path], places)
        return found.conditions

    assert conditions() == "the conditions of its test are not known"
    known = Conditions("validation", 2, 12, "last.ckpt", TrainedOn(True, 0.1), places.subset)
    record = {"num_vote": 12, **known.record()}
    (tmp_path / scores).write_text(json.dumps(record))
    assert conditions() == known.text
    damaged = ["{", "[]", "[" * 9999, *(json.dumps(record | {key: [1]}) for key in record if key != "num_vote")]
    for text in (*damaged, json.dumps({"checkpoint": "a"})):
        (tmp_path / scores).write_text(text)
        expected = f"the conditions of its test are not known: {tmp_path / scores} is not readable"
        assert conditions() == expected, text


def test_an_array_of_raw_ids_and_confidences_beside_it(tmp_path):
    raw = np.array([0, 10, 252, 71] * 10)
    np.save(tmp_path / "000000.npy", raw.astype(np.uint32))
    confidence = np.linspace(0, 1, 40, dtype=np.float32)
    np.save(tmp_path / "000000.confidence.npy", confidence)
    (found,) = open_predictions([tmp_path], PLACES)
    ids, sure = found.read(0, 40, SCAN, KITTI)
    assert ids.tolist() == [0, 1, 1, 16] * 10
    assert sure is not None
    np.testing.assert_array_equal(sure, confidence)


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        ("logs/a/test_1/predictions", "logs/a/test_2/predictions", ["test_1", "test_2"]),
        ("logs/a/test_1/predictions", "logs/b/test_1/predictions", ["a", "b"]),
        ("a", "b/a", None),
        ("b/a", "b", ["a", "b"]),
    ],
)
def test_two_predictions_are_called_by_what_their_folders_differ_in(tmp_path, first, second, names):
    for folder in (first, second):
        write(tmp_path / folder / "000000.label")
    found = [each.name for each in open_predictions([tmp_path / first, tmp_path / second], PLACES)]
    assert len(set(found)) == 2 and (names is None or found == names)


def test_a_folder_cannot_be_compared_with_itself_nor_three_with_each_other(tmp_path):
    for name in "abc":
        write(tmp_path / name / "000000.label")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(UserError, match="the same folder twice"):
        open_predictions([tmp_path / "a", tmp_path / "link"], PLACES)
    with pytest.raises(UserError, match="at most 2"):
        open_predictions([tmp_path / name for name in "abc"], PLACES)


def test_a_folder_without_any_prediction_is_refused_with_the_usual_place(tmp_path):
    with pytest.raises(UserError, match=r"sequences/08/predictions/000000\.label: missing"):
        open_predictions([tmp_path], PLACES)


def damaged_arrays():
    """Contents of .npy files that are no array of a number for each point, by name."""
    whole = np.lib.format.magic(1, 0)

    def header(text):
        return whole + len(text).to_bytes(2, "little") + text.encode()

    return {
        "objects": header("{'descr': '|O', 'fortran_order': False, 'shape': (50,)}\n") + pickle.dumps(print),
        "huge": header("{'descr': '<u4', 'fortran_order': False, 'shape': (1000000000000,)}\n") + bytes(200),
        "cut": header("{'descr': '<u4', 'fortran_order': False, 'shape': (50,)}\n") + bytes(100),
        "code": header("__import__('os').abort()\n"),
        "text": b"0 1 2",
        "empty": b"",
        "table": header("{'descr': '<u4', 'fortran_order': False, 'shape': (25, 2)}\n") + bytes(200),
        "names": header("{'descr': '<U1', 'fortran_order': False, 'shape': (50,)}\n") + bytes(200),
    }


@pytest.mark.parametrize("kind", damaged_arrays())
@pytest.mark.parametrize("suffix", [".npy", ".confidence.npy"])
def test_an_array_that_is_damaged_is_one_line(tmp_path, kind, suffix):
    write(tmp_path / "000000.label") if suffix != ".npy" else None
    path = tmp_path / f"000000{suffix}"
    path.write_bytes(damaged_arrays()[kind])
    (found,) = open_predictions([tmp_path], PLACES)
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}: .*; write it again$"):
        found.read(0, COUNT, SCAN, KITTI)


@pytest.mark.parametrize("values", [np.arange(COUNT) - 1, np.arange(COUNT) + (1 << 16), np.full(COUNT, 999)])
def test_ids_that_no_class_has_are_refused(tmp_path, values):
    np.save(tmp_path / "000000.npy", values)
    (found,) = open_predictions([tmp_path], PLACES)
    with pytest.raises(UserError, match=r"000000\.npy: (holds ids outside|label id 999 )"):
        found.read(0, COUNT, SCAN, KITTI)


def test_confidences_are_shares(tmp_path):
    write(tmp_path / "000000.label")
    np.save(tmp_path / "000000.confidence.npy", np.full(COUNT, 97.0, np.float32))
    (found,) = open_predictions([tmp_path], PLACES)
    with pytest.raises(UserError, match=r"confidence\.npy: holds confidences outside of 0 to 1"):
        found.read(0, COUNT, SCAN, KITTI)


@pytest.mark.parametrize("name", ["000000.label", "000000.npy", "000000.confidence.npy", "000000_lidarseg.bin"])
def test_another_number_of_points_names_both_files(tmp_path, name):
    places = Places([""], [("000000.label", "000000.npy", "000000_lidarseg.bin")])
    wrong = tmp_path / name
    if name.endswith(".npy"):
        np.save(wrong, np.ones(COUNT + 1, np.float32 if "confidence" in name else np.uint32))
    else:
        np.ones(COUNT + 1, np.uint8 if name.endswith(".bin") else "<u4").tofile(wrong)
    if "confidence" in name:
        write(tmp_path / "000000.label")
    (found,) = open_predictions([tmp_path], places)
    with pytest.raises(
        UserError, match=f"^{re.escape(str(wrong))}: 51 predictions for 50 points of {re.escape(SCAN)};"
    ):
        found.read(0, COUNT, SCAN, KITTI)
