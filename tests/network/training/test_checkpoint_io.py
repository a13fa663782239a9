"""Checkpoints reach the disk whole, wherever the folder for temporary files is."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from network.training.checkpoint_io import WholeFileCheckpoints


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    content = {"state_dict": {"w": torch.arange(5.0)}, "epoch": 3}
    WholeFileCheckpoints().save_checkpoint(content, tmp_path / "run" / "last.ckpt")
    back = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert back["epoch"] == 3 and torch.equal(back["state_dict"]["w"], content["state_dict"]["w"])
    assert os.listdir(tmp_path / "run") == ["last.ckpt"]


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints, path = WholeFileCheckpoints(), tmp_path / "last.ckpt"
    checkpoints.save_checkpoint({"epoch": 1}, path)

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("os.write", full)
    with pytest.raises(OSError) as caught:
        checkpoints.save_checkpoint({"epoch": 2, "w": torch.zeros(1000)}, path)
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(path)
    monkeypatch.undo()
    assert torch.load(path, weights_only=True) == {"epoch": 1} and os.listdir(tmp_path) == ["last.ckpt"]


def test_temporary_folders_are_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    monkeypatch.setattr("tempfile.tempdir", None)
    WholeFileCheckpoints().save_checkpoint({"epoch": 1}, tmp_path / "last.ckpt")
    assert torch.load(tmp_path / "last.ckpt", weights_only=True) == {"epoch": 1}


def test_only_files_are_removed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        WholeFileCheckpoints().remove_checkpoint(tmp_path / "folder")
    (tmp_path / "file").write_text("")
    WholeFileCheckpoints().remove_checkpoint(tmp_path / "file")
    WholeFileCheckpoints().remove_checkpoint(tmp_path / "never there")
    assert os.listdir(tmp_path) == ["folder"]
