"""What the data module refuses before anything slow starts; whole runs of it are in tests/test_main.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dataloader.datamodule import DataModule
from dataloader.sampler import EpochSampler
from tests.conftest import TREE
from utils.config.loading import load_config
from utils.errors import UserError
from utils.scan.batch import collate

CONFIG = Path(__file__).parents[2] / "config" / "2DPASS-demo.yaml"


@pytest.mark.parametrize(
    ("data_path", "message"),
    [
        ("~nouser/sequences", "data_path names ~nouser/sequences, but there is no such home folder"),
        (str(CONFIG), "data_path is not a folder"),
        ("nowhere/sequences", "nowhere/sequences: no such folder; set data_path"),
        ("nowhere/dataset/demo/sequences", "demo/sequences: no such folder; make the data .*make_demo_data.py$"),
    ],
)
def test_a_wrong_data_path_is_named_in_one_line(data_path, message, label_map):
    config = load_config(CONFIG, [f"dataset_params.val_data_loader.data_path={data_path}"])
    with pytest.raises(UserError, match=message) as error:
        DataModule(config, label_map, fit=False)
    assert "\n" not in str(error.value)


def test_notes_of_training_and_validation_come_once_each(tree, label_map):
    loaders = [f"dataset_params.{loader}_data_loader.data_path={tree}" for loader in ("train", "val")]
    config = load_config(CONFIG, loaders)
    assert DataModule(config, label_map, fit=True).notes == []
    for path in tree.glob("*/velodyne/*.bin"):
        points = np.fromfile(path, "<f4").reshape(-1, 4)
        (points * [1, 1, 1, 255]).astype("<f4").tofile(path)
    training, validation = DataModule(config, label_map, fit=True).notes
    assert "00" in training and "08" in validation
    assert all("the intensity goes up to" in note and "likewise 1 more" in note for note in (training, validation))
    assert DataModule(config, label_map, fit=False).notes == [validation]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_first_batch_is_of_the_epoch_that_is_set_last(workers, label_map):
    """Lightning makes an iterator first and sets the epoch then. The network's random numbers are left alone."""
    loaders = [f"dataset_params.{part}_data_loader" for part in ("train", "val")]
    paths = [f"{loader}.data_path={TREE}" for loader in loaders]
    config = load_config(CONFIG, [*paths, *(f"{loader}.num_workers={workers}" for loader in loaders)])
    data = DataModule(config, label_map, fit=True, seed=5)
    loader, state = data.train_dataloader(), torch.get_rng_state()
    assert isinstance(loader.sampler, EpochSampler) and data.training_set is not None
    for epoch in (3, 4):
        batches = iter(loader)
        loader.sampler.set_epoch(epoch)
        keys = list(loader.sampler)[: loader.batch_size]
        expected = collate([data.training_set[key] for key in keys], with_images=True)
        for batch in batches:
            assert torch.equal(batch.to("cpu").points, expected.points)
            break
    assert len(list(data.val_dataloader())) == 2
    assert torch.equal(torch.get_rng_state(), state)
