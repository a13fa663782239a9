"""What is written after an epoch beside its checkpoint costs no epoch."""

from __future__ import annotations

from pathlib import Path

import pytest

from network.training.callbacks import read_history
from tests.support.training import ADAM, train
from utils.results.run_folder import HISTORY


def test_a_picture_that_cannot_be_written_ends_no_training(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "run" / "version_0"
    (folder / "training_curve.png").mkdir(parents=True)
    train(folder, ADAM)
    notes = [line for line in capsys.readouterr().err.splitlines() if "training_curve.png" in line]
    assert len(notes) == 2 and all(line.startswith("note: ") for line in notes)
    assert [line["epoch"] for line in read_history(folder)] == [0, 1]


def test_the_checkpoint_comes_before_the_history(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "version_0"
    (folder / HISTORY).mkdir(parents=True)
    with pytest.raises(OSError, match=HISTORY):
        train(folder, ADAM)
    assert (folder / "last.ckpt").is_file() and list(folder.glob("best-epoch=00*"))
