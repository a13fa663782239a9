"""A label map, and a copy of a made-up SemanticKITTI tree that a test may damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from utils.labels import LabelMap
from utils.scan.records import Frame, Scan

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"


@pytest.fixture(scope="session")
def label_map() -> LabelMap:
    """Loads the label mapping of SemanticKITTI."""
    return LabelMap.load(ROOT / "config" / "label_mapping" / "semantic-kitti.yaml")


@pytest.fixture(scope="session")
def golden_sequences() -> Path:
    """Returns the folder of the golden sequences in the SemanticKITTI layout."""
    return GOLDEN / "semantickitti_tree" / "sequences"


@pytest.fixture(scope="session")
def golden_items():
    """Reads the golden items, by name."""
    with np.load(GOLDEN / "semantickitti_items.npz") as items:
        return {name: items[name] for name in items.files}


@pytest.fixture
def tree(golden_sequences: Path, tmp_path: Path) -> Path:
    """Provides a copy of the golden tree."""
    return Path(shutil.copytree(golden_sequences, tmp_path / "sequences"))


@pytest.fixture
def make_scan():
    """Builds a scan whose labels and index tell the points apart, with an image whose colours tell the pixels apart."""

    def build(count: int = 500, width: int = 40, height: int = 24, seed: int = 0) -> Scan:
        rng = np.random.default_rng(seed)
        rows, cols = np.mgrid[:height, :width]
        image = np.stack([rows, cols, rows * 0 + 7], axis=2).astype(np.uint8)
        pixels = (rng.random((count, 2)) * [height, width]).astype(np.float32)
        pixels[::5] = np.nan
        return Scan(
            frame=Frame("00", "000000", "made/up.bin"),
            xyz=rng.uniform(-20, 20, (count, 3)).astype(np.float32),
            intensity=rng.random(count).astype(np.float32),
            labels=rng.integers(0, 20, count).astype(np.uint8),
            instances=(np.arange(count) % 3).astype(np.int32),
            index=np.arange(count, dtype=np.int64),
            pixels=pixels,
            image=image,
        )

    return build
