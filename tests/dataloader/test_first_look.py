"""What would end a training after an epoch, or a test at its end, ends both before they begin."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from dataloader import first_look
from dataloader.datamodule import DataModule
from tests.conftest import TREE
from utils.config.loading import load_config
from utils.errors import UserError

CONFIG = Path(__file__).parents[2] / "config" / "2DPASS-demo.yaml"


def empty(data: Path, sequence: str) -> Path:
    path = data / sequence / "velodyne" / "000001.bin"
    path.write_bytes(b"")
    labels = data / sequence / "labels" / "000001.label"
    if labels.is_file():
        labels.write_bytes(b"")
    return path


def unlabelled(data: Path, sequence: str) -> None:
    for path in (data / sequence / "labels").iterdir():
        path.write_bytes(bytes(path.stat().st_size))


def far_away(data: Path, sequence: str) -> Path:
    path = data / sequence / "velodyne" / "000001.bin"
    (np.fromfile(path, np.float32).reshape(-1, 4) + np.float32(1000)).tofile(path)
    return path


def cut_labels(data: Path, sequence: str) -> Path:
    path = data / sequence / "labels" / "000001.label"
    path.write_bytes(path.read_bytes()[:-4])
    return path


CASES = {
    "an empty validation scan": (empty, "08", "holds no points", {"fit": True}),
    "an empty validation scan in a test": (empty, "08", "holds no points", {"fit": False}),
    "an empty training scan": (empty, "00", "holds no points", {"fit": True}),
    "an empty test scan": (empty, "11", "holds no points", {"fit": False, "submit": True}),
    "validation without a label": (unlabelled, "08", "val_data_loader: none of its 2 scans", {"fit": True}),
    "training without a label": (unlabelled, "00", "train_data_loader: none of its 2 scans", {"fit": True}),
    "a validation scan somewhere else": (far_away, "08", "no point lies inside the volume", {"fit": True}),
    "labels of another scan": (cut_labels, "08", "do not belong together", {"fit": True}),
}


@pytest.fixture
def data(tmp_path) -> Path:
    shutil.copytree(TREE, tmp_path / "sequences")
    for kind in ("velodyne", "labels"):
        for path in list((tmp_path / "sequences" / "11" / kind).glob("000000.*")):
            shutil.copy(path, path.with_stem("000001"))
    return tmp_path / "sequences"


def make(data: Path, label_map, fit: bool, submit: bool = False) -> DataModule:
    paths = [f"dataset_params.{loader}_data_loader.data_path={data}" for loader in ("train", "val")]
    return DataModule(load_config(CONFIG, paths), label_map, fit, submit=submit)


@pytest.mark.parametrize("case", CASES)
def test_it_is_said_before_the_first_step(data, label_map, case) -> None:
    harm, sequence, message, arguments = CASES[case]
    make(data, label_map, **arguments)
    path = harm(data, sequence)
    with pytest.raises(UserError, match=message) as error:
        make(data, label_map, **arguments)
    assert "\n" not in str(error.value) and (path is None or str(path) in str(error.value))


def test_of_many_scans_some_are_read_and_all_are_looked_at(data, label_map, monkeypatch) -> None:
    monkeypatch.setattr(first_look, "READ_AT_MOST", (data / "08/velodyne/000000.bin").stat().st_size)
    labels = data / "08" / "labels" / "000001.label"
    np.full(labels.stat().st_size // 4, 300, np.uint32).tofile(labels)  # no such class, which only a reading tells
    make(data, label_map, fit=False)
    empty(data, "08")
    with pytest.raises(UserError, match="holds no points"):
        make(data, label_map, fit=False)


def test_a_test_needs_no_labels(data, label_map) -> None:
    unlabelled(data, "08")
    make(data, label_map, fit=False)
