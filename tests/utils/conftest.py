"""Configurations with some keys changed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.configs import RAW, set_key


@pytest.fixture
def write(tmp_path: Path):
    """Writes a published run with some keys changed; its label mapping is a file of the test's own."""
    (tmp_path / "labels.yaml").write_text("{}")

    def write_changed(changes: dict[str, Any], base: dict[str, Any] = RAW) -> Path:
        raw = copy.deepcopy(base)
        raw["dataset_params"]["label_mapping"] = str(tmp_path / "labels.yaml")
        for key, value in changes.items():
            set_key(raw, key, value)
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(raw))
        return tmp_path / "run.yaml"

    return write_changed
