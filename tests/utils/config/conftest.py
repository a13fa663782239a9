"""A configuration file that the tests of single keys override."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.support.configs import RAW


@pytest.fixture
def path(tmp_path) -> Path:
    """Writes a valid configuration."""
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(RAW))
    return file
