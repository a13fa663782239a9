"""Where runs lie and which checkpoint a name means."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from utils.errors import UserError
from utils.results.run_folder import find_checkpoint, root_with, run_root, training_folder


def make(folder: Path, *names: str) -> None:
    """Small zip files, as torch writes them, the last one the newest."""
    folder.mkdir(parents=True, exist_ok=True)
    for age, name in enumerate(reversed(names)):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("archive/data.pkl", bytes(1000))
        os.utime(folder / name, (1000 - age, 1000 - age))


def test_best_is_the_highest_score_of_the_newest_run(tmp_path) -> None:
    make(tmp_path / "version_0", "best-epoch=50-val_mIoU=0.9900.ckpt")
    scores = {"00": "0.3000", "01": "0.9000", "07": "0.1000"}
    best = [f"best-epoch={epoch}-val_mIoU={score}.ckpt" for epoch, score in scores.items()]
    make(tmp_path / "version_10", *best, "last.ckpt")
    make(tmp_path / "version_9", "best-epoch=50-val_mIoU=0.9900.ckpt", "last.ckpt")
    assert find_checkpoint("best", tmp_path) == tmp_path / "version_10" / best[1]
    assert find_checkpoint("last", tmp_path) == tmp_path / "version_10" / "last.ckpt"


def test_scores_of_another_monitor_do_not_count(tmp_path) -> None:
    """A run that was resumed with another --monitor keeps the files of both; the newest says which one counts."""
    names = (
        "best-epoch=03-val_acc=0.9000.ckpt",
        "best-epoch=05-val_mIoU=0.4000.ckpt",
        "best-epoch=04-val_mIoU=0.5000.ckpt",
    )
    make(tmp_path / "version_0", *names, "best-copy.ckpt")
    (tmp_path / "version_0/best-link.ckpt").symlink_to(tmp_path / "gone.ckpt")
    for second, name in enumerate((*names, "best-copy.ckpt")):
        os.utime(tmp_path / "version_0" / name, (second, second))
    assert find_checkpoint("best", tmp_path).name == names[2]


def test_among_equal_scores_the_newest(tmp_path) -> None:
    names = "best-epoch=03-val_mIoU=0.5000.ckpt", "best-epoch=03-val_mIoU=0.5000-v1.ckpt"
    make(tmp_path / "version_0", *names)
    assert find_checkpoint("best", tmp_path).name == names[1]


def test_runs_without_the_checkpoint_are_passed_over(tmp_path) -> None:
    make(tmp_path / "version_0", "last.ckpt")
    (tmp_path / "version_1").mkdir()
    (tmp_path / "version_x").mkdir()
    assert find_checkpoint("last", tmp_path) == tmp_path / "version_0/last.ckpt"
    with pytest.raises(UserError, match="no run there has a best checkpoint"):
        find_checkpoint("best", tmp_path)


def test_paths_are_taken_as_they_are(tmp_path) -> None:
    make(tmp_path, "some model.ckpt")
    assert find_checkpoint(str(tmp_path / "some model.ckpt"), tmp_path / "nowhere").name == "some model.ckpt"
    with pytest.raises(UserError, match="no such checkpoint"):
        find_checkpoint(str(tmp_path), tmp_path)


def cut(path: Path) -> None:
    """Leave half of a file, and its time as it is."""
    times = path.stat().st_atime, path.stat().st_mtime
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    os.utime(path, times)


def test_a_damaged_last_names_the_best(tmp_path) -> None:
    best = "best-epoch=03-val_mIoU=0.5000.ckpt"
    make(tmp_path / "version_0", best, "best-epoch=04-val_mIoU=0.4000.ckpt", "last.ckpt")
    cut(tmp_path / "version_0/last.ckpt")
    with pytest.raises(UserError, match="last.ckpt: damaged or incomplete.*--checkpoint .*" + best):
        find_checkpoint("last", tmp_path)
    make(tmp_path / "version_1", "last.ckpt")
    (tmp_path / "version_1/last.ckpt").write_bytes(b"")
    with pytest.raises(UserError, match="train again"):
        find_checkpoint("last", tmp_path)


def test_a_damaged_best_does_not_hide_a_whole_one(tmp_path) -> None:
    notes: list[str] = []
    names = [f"best-epoch=0{epoch}-val_mIoU=0.{epoch}000.ckpt" for epoch in range(3)]
    make(tmp_path / "version_0", *names)
    make(tmp_path / "version_1", *names)
    cut(tmp_path / "version_1" / names[2])
    assert find_checkpoint("best", tmp_path, notes.append) == tmp_path / "version_1" / names[1]
    assert len(notes) == 1 and names[2] in notes[0]
    for name in names:
        (tmp_path / "version_1" / name).write_bytes(b"")
    assert find_checkpoint("best", tmp_path, notes.append) == tmp_path / "version_0" / names[2]


def test_a_resumed_run_stays_in_its_folder(tmp_path) -> None:
    assert training_folder(tmp_path, None, make=False) == tmp_path / "version_0"
    for name in ("version_0", "version_3", "elsewhere"):
        make(tmp_path / name, "last.ckpt")
    assert training_folder(tmp_path, None, make=False) == tmp_path / "version_4"
    assert training_folder(tmp_path, tmp_path / "version_0/last.ckpt") == tmp_path / "version_0"
    assert training_folder(tmp_path, tmp_path / "elsewhere/last.ckpt") == tmp_path / "version_4"
    assert (tmp_path / "version_4").is_dir()


@pytest.mark.parametrize("name", ["", " ", "..", "a/../../b", "/abs"])
def test_log_dir_stays_below_logs(name) -> None:
    with pytest.raises(UserError, match="--log_dir"):
        run_root("SemanticKITTI", name)
    assert run_root("SemanticKITTI", "a/b") == Path("logs/SemanticKITTI/a/b")


def test_the_data_set_of_a_run_need_not_be_named_where_one_has_it(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("logs/SemanticKITTI/a/version_0"), "last.ckpt", "best-epoch=01-val_mIoU=0.5000.ckpt")
    make(Path("logs/nuScenes/a/version_0"), "last.ckpt")
    make(Path("logs/nuScenes/b/version_0"), "last.ckpt")
    assert root_with("best", "a") == Path("logs/SemanticKITTI/a")
    assert root_with("last", "b") == Path("logs/nuScenes/b")
    with pytest.raises(UserError, match=r"logs/SemanticKITTI/a and logs/nuScenes/a both have one; .*--config"):
        root_with("last", "a")
    with pytest.raises(UserError, match="no run there has a best checkpoint yet"):
        find_checkpoint("best", root_with("best", "b"))
    with pytest.raises(UserError, match="must name a folder below logs"):
        root_with("last", "../../etc")


@pytest.mark.parametrize("dataset", ["../elsewhere", "/tmp", "", "a/b", "x\x1b[2J"])
def test_a_data_set_that_is_no_name_leads_nowhere(dataset) -> None:
    with pytest.raises(UserError, match="pc_dataset_type"):
        run_root(dataset, "default")
