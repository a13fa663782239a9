"""What the data module refuses before anything slow starts; whole runs of it are in tests/test_main.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataloader.datamodule import DataModule
from utils.config import load_config
from utils.errors import UserError

CONFIG = Path(__file__).parents[2] / "config" / "2DPASS-demo.yaml"


@pytest.mark.parametrize(
    ("data_path", "message"),
    [
        ("~nouser/sequences", "data_path names ~nouser/sequences, but there is no such home folder"),
        (str(CONFIG), "data_path is not a folder"),
        ("nowhere/sequences", "nowhere/sequences: no such folder"),
    ],
)
def test_a_wrong_data_path_is_named_in_one_line(data_path, message, label_map):
    config = load_config(CONFIG, [f"dataset_params.val_data_loader.data_path={data_path}"])
    with pytest.raises(UserError, match=message) as error:
        DataModule(config, label_map, fit=False)
    assert "\n" not in str(error.value)
