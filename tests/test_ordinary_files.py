"""A pipe in the place of any file that is read ends in an error: nothing waits for somebody to write into it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dataloader.datasets.camera import read_image
from dataloader.datasets.corrupted import Origin
from dataloader.datasets.semantickitti.calibration import read_calibration
from dataloader.formats.files import read_bytes
from dataloader.formats.json_records import read_records
from network.training.callbacks import read_history
from network.weights.reading import read_checkpoint
from tools.making.notes import read_note
from utils.config.loading import load_config
from utils.errors import UserError
from utils.labels import LabelMap
from utils.paths import resolve_path
from utils.results.run_folder import find_checkpoint
from utils.robustness.results import read_results
from utils.robustness.run import find_run

READERS: dict[str, Callable[[Path], object]] = {
    "scan.bin": lambda path: read_bytes(path, "scan"),
    "image.png": read_image,
    "calib.txt": read_calibration,
    "sample.json": lambda path: list(read_records(path)),
    "config.yaml": load_config,
    "labels.yaml": LabelMap.load,
    "mapping.yaml": resolve_path,
    "last.ckpt": read_checkpoint,
    "best.ckpt": lambda path: find_checkpoint(str(path), path.parent),
    "corruptions.json": lambda path: Origin.read(path.parent),
    "note.json": lambda path: read_note(path, {}),
    "summary.csv": read_results,
}


@pytest.fixture
def soon() -> Iterator[None]:
    """What waits is ended."""

    def end(*_: object) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", READERS)
def test_a_pipe_is_no_file(name: str, tmp_path: Path, soon) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises((UserError, OSError)) as caught:
        READERS[name](tmp_path / name)
    assert name in str(caught.value)


def test_what_may_be_missing_is_missing_then(tmp_path: Path, soon) -> None:
    run = tmp_path / "robust_test_1"
    run.mkdir()
    for path in (tmp_path / "history.jsonl", run / "settings.json"):
        os.mkfifo(path)
    assert read_history(tmp_path) == []
    assert find_run(tmp_path, {}, None) is None  # type: ignore[arg-type]
