"""Best checkpoints and patience of a run that is resumed, and what becomes of files that a checkpoint names."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from network.training.resuming import check_resumable
from network.weights.reading import read_checkpoint
from tests.support.training import ADAM, BEST, EARLY, make_network, train


def longer(epochs: int):
    return ADAM.model_copy(update={"max_num_epochs": epochs})


def resume(folder: Path, epochs: int, content: dict[str, Any] | None = None, **settings: Any):
    path = folder / "last.ckpt"
    training = longer(epochs)
    content = read_checkpoint(path) if content is None else content
    return train(folder, training, check_resumable(make_network(), content, training, path), **settings)


def best_files(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("best*.ckpt")}


def scores(folder: Path) -> dict[str, float]:
    """The best checkpoints that the last one knows."""
    return read_checkpoint(folder / "last.ckpt")["callbacks"][BEST]["best_k_models"]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A run of two epochs that keeps three checkpoints."""
    train(tmp_path / "run" / "version_0", save_top_k=3)
    return tmp_path / "run" / "version_0"


def test_checkpoints_hold_names_and_no_paths(folder) -> None:
    assert set(scores(folder)) == best_files(folder) and len(best_files(folder)) == 2


def test_fewer_are_kept_when_fewer_are_wanted(folder) -> None:
    before = scores(folder)
    resume(folder, 3, save_top_k=1)
    (left,) = best_files(folder)
    assert scores(folder)[left] >= max(before.values())


@pytest.mark.parametrize("save_top_k", [0, -1])
def test_none_or_every_one(folder, save_top_k) -> None:
    before = best_files(folder)
    resume(folder, 4, save_top_k=save_top_k)
    assert before <= best_files(folder), "what is there stays"
    assert len(best_files(folder)) == (2 if save_top_k == 0 else 4)


def test_an_epoch_that_is_trained_again_replaces_its_file(folder) -> None:
    """A run that was killed between its best and its last checkpoint trains the epoch once more."""
    content = read_checkpoint(folder / "last.ckpt")
    resume(folder, 3, content, save_top_k=-1)
    files = best_files(folder)
    resume(folder, 3, content, save_top_k=-1)
    assert best_files(folder) == files and len(files) == 3


def test_a_moved_run_goes_on_with_its_files(folder) -> None:
    moved = folder.parent / "version_7"
    folder.rename(moved)
    resume(moved, 3, save_top_k=1)
    assert len(best_files(moved)) == 1


def test_patience_is_that_of_the_flag(folder) -> None:
    content = copy.deepcopy(read_checkpoint(folder / "last.ckpt"))
    content["callbacks"][EARLY] = {"wait_count": 0, "best_score": torch.tensor(1.0), "patience": 50}  # never better
    assert resume(folder, 20, content, patience=2).current_epoch == 4


def test_nothing_outside_of_the_run_is_removed(folder, tmp_path) -> None:
    """Not what a checkpoint names, nor folders and links that have the name of a best checkpoint."""
    outside = tmp_path / "outside"
    precious = outside / "best-epoch=00-val_mIoU=0.1000.ckpt"
    precious.mkdir(parents=True)
    (precious / "file").write_text("x")
    (outside / "file").write_text("x")
    (folder / "best-epoch=05-val_mIoU=0.2000.ckpt").symlink_to(outside / "file")
    (folder / "best-epoch=06-val_mIoU=0.3000.ckpt").mkdir()
    (folder / "config.yaml").write_text("x")
    names = [
        f"local://{outside}", str(outside), str(precious), str(outside / "file"), "../../outside", "config.yaml",
        str(folder), "best-epoch=05-val_mIoU=0.2000.ckpt", "best-epoch=06-val_mIoU=0.3000.ckpt", "last.ckpt", "",
        f"file://{outside}/file", "best-epoch=00-val_mIoU=0.1000.ckpt/../../x",
    ]  # fmt: skip
    content = read_checkpoint(folder / "last.ckpt")
    states = content["callbacks"]
    for key in [key for key in states if key.startswith("ModelCheckpoint")]:
        states[key] = {
            "best_k_models": {name: torch.tensor(0.0) for name in names},
            "best_model_path": f"local://{outside}", "kth_best_model_path": str(outside), "dirpath": str(outside),
            "last_model_path": str(outside), "best_model_score": None, "kth_value": torch.tensor(0.0),
        }  # fmt: skip
    before = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if "best-epoch=0" not in path.parent.name}
    resume(folder, 4, content, save_top_k=1)
    after = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}
    assert before <= after and (precious / "file").read_text() == "x" and (folder / "config.yaml").read_text() == "x"
