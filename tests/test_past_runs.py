"""Whole runs on scans with their past: two processes, resumed, in half precision, refused, and on corrupted scans."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import main as program
import robust_test
from dataloader.catalogue import load_label_map, request
from dataloader.datasets.corrupted import CorruptedScans
from dataloader.datasets.past_sweeps import refuse_lone_scans
from dataloader.datasets.semantickitti.corrupted import CorruptedKITTI
from network.training.callbacks import read_history
from network.training.task import SegmentationTask
from tests.conftest import ROOT
from tests.support.drives import write_drives
from tests.support.networks import refusal
from tests.support.pictures import leave_out_pictures
from tests.support.robustness import kept_rows, write_semantickitti
from tests.test_main import MAIN, load, two_processes
from tests.test_resuming import Killed, assert_the_same_run
from utils.command.process import run_program
from utils.config.loading import load_config

CONFIG = ROOT / "config" / "2DPASS-multiscan-demo.yaml"
RUN = Path("logs/SemanticKITTI/default/version_0")
SMALL = (
    "dataset_params.bottom_crop=[48,32]", "model_params.hiden_size=4", "train_params.max_num_epochs=1",
    "dataset_params.training_size=null",
)  # fmt: skip
FEW = ("clean_data", "fog_light")


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """The folder of the sequences, in an empty folder; no pictures are drawn."""
    monkeypatch.chdir(tmp_path)
    leave_out_pictures(monkeypatch)
    return write_drives(tmp_path / "data" / "sequences")


def command(root: Path, *arguments: str, settings: tuple[str, ...] = ()) -> list[str]:
    paths = [f"dataset_params.{loader}_data_loader.data_path={root}" for loader in ("train", "val")]
    return ["--config", str(CONFIG), "--cpu", *arguments, "--set", *paths, *SMALL, *settings]


def run(root: Path, *arguments: str, settings: tuple[str, ...] = ()) -> int:
    return run_program(lambda: program.main(command(root, *arguments, settings=settings)))


def scores(name: str) -> dict:
    return json.loads(next(Path(f"logs/SemanticKITTI/{name}").glob("test_*/scores.json")).read_text())


def predictions(name: str) -> dict[str, np.ndarray]:
    (folder,) = Path(f"logs/SemanticKITTI/{name}").glob("test_*/predictions")
    return {str(path.relative_to(folder)): np.fromfile(path, np.uint32) for path in sorted(folder.rglob("*.label"))}


def test_two_processes_train_and_test_as_one(root, programs) -> None:
    """Five scans to train on, of which one is padded; four to test on, each with its past from whichever process."""
    for done in programs.run_as_torchrun(MAIN, *two_processes(command(root, "--baseline_only"))):
        assert done.returncode == 0, done.stderr[-3000:]
    assert load(RUN / "last.ckpt")["global_step"] == 3
    tested = ("--test", "--num_vote", "2", "--save_prediction", "--checkpoint", str(RUN / "last.ckpt"))
    for done in programs.run_as_torchrun(MAIN, *two_processes(command(root, *tested, "--log_dir", "two"))):
        assert done.returncode == 0, done.stderr[-3000:]
    assert run(root, *tested, "--log_dir", "one") == 0
    one, two = scores("one"), scores("two")
    assert one["points"] == two["points"] and one["iou"] == pytest.approx(two["iou"], abs=1e-4)
    found = predictions("one")
    assert len(found) == 4 and all((found[name] == ids).mean() > 0.999 for name, ids in predictions("two").items())
    assert all(len(ids) == 300 for ids in found.values())  # the points of the scan, and none of its past


def test_a_resumed_run_is_as_one_that_was_not_stopped(root, monkeypatch) -> None:
    settings = ("train_params.max_num_epochs=3", "dataset_params.train_data_loader.num_workers=1")
    assert run(root, "--baseline_only", "--log_dir", "whole", settings=settings) == 0
    begin = SegmentationTask.on_train_epoch_start

    def die(self) -> None:
        if self.current_epoch == 2:
            raise Killed
        begin(self)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(SegmentationTask, "on_train_epoch_start", die)
        run(root, "--baseline_only", settings=settings)
    assert run(root, "--baseline_only", "--checkpoint", "last", settings=settings) == 0
    assert_the_same_run(RUN, Path("logs/SemanticKITTI/whole/version_0"))


def test_half_precision(root) -> None:
    assert run(root, "--baseline_only", "--precision", "bf16", "--debug") == 0
    assert all(np.isfinite(line["train/loss_epoch"]) for line in read_history(RUN))


def lose_poses(sequence: Path) -> None:
    (sequence / "poses.txt").unlink()


def skew_poses(sequence: Path) -> None:
    (sequence / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 2 0\n" * 9)


@pytest.mark.parametrize(
    ("damage", "said"), [(lose_poses, "cannot read the poses"), (skew_poses, "line 1 holds no rotation")]
)
def test_bad_poses_end_in_one_line(root, capsys, damage: Callable[[Path], None], said) -> None:
    damage(root / "00")
    assert run(root) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {root}/00/poses.txt: ") and said in line
    assert not Path("logs").exists()


def corrupted(root: Path) -> Path:
    return write_semantickitti(root / "08", root.parent / "SemanticKITTI-C", FEW)


def opened(root: Path, folder: Path, name: str, *settings: str) -> CorruptedKITTI:
    paths = [f"dataset_params.{loader}_data_loader.data_path={root}" for loader in ("train", "val")]
    config = load_config(CONFIG, [*paths, *settings])
    wanted = request(config, "valid", config.dataset_params.val_data_loader, load_label_map(config))
    return CorruptedKITTI.open(wanted, folder / name, name)


def test_past_scans_of_a_corrupted_set_are_those_of_the_subset(root) -> None:
    """Moved by the poses of the clean sequence, and corrupted as their files are: each lacks points by its rule."""
    source = opened(root, corrupted(root), "fog_light")
    now = source.read(3)
    assert [(sweep.frame.path, sweep.age) for sweep in source.past(3)] == [
        (str(root.parent / f"SemanticKITTI-C/fog_light/velodyne/{name}.bin"), age)
        for name, age in (("000002", 1), ("000001", 2))
    ]
    assert len(now) == len(kept_rows(300, 1)) < 300 and source.past(0) == []
    for sweep in source.past(3):
        measured = source.read_past(sweep, with_labels=False)
        moved = sweep.moved(measured)
        assert np.allclose(moved.xyz, now.xyz, rtol=0, atol=3e-5) and not moved.labels.any()
        assert np.abs(measured.xyz - now.xyz).max() > 1
        assert np.array_equal(source.read_past(sweep, with_labels=True).labels, now.labels)


def test_what_a_corrupted_set_cannot_have_a_past_by_is_refused(root) -> None:
    folder = corrupted(root)
    assert opened(root, folder, "fog_light", "dataset_params.past_scans=0").past(3) == ()
    empty = root.parent / "predictions"
    (empty / "sequences/08/predictions").mkdir(parents=True)
    said = refusal(opened, root, folder, "fog_light", f"dataset_params.past_predictions={empty}")
    assert said.startswith("dataset_params.past_predictions: is of the clean scans")
    lose_poses(root / "08")
    assert f"{root}/08/poses.txt: cannot read the poses" in refusal(opened, root, folder, "fog_light")
    shutil.rmtree(root / "08")
    assert f"{root}: has 0 of the sequences 08 to validate on" in refusal(opened, root, folder, "fog_light")


def test_scans_that_are_known_one_by_one_are_refused(root) -> None:
    """As those of a corrupted set of nuScenes are; without past sweeps they are welcome."""

    class Lone(CorruptedScans):
        def read(self, index: int, camera: int | None = None):
            raise AssertionError

    source = Lone()
    source.frames = opened(root, corrupted(root), "fog_light").frames
    nuscenes = ROOT / "config" / "2DPASS-nuscenes.yaml"
    three = load_config(nuscenes, ["model_params.input_dims=5", "dataset_params.past_sweeps=3"])
    said = refusal(refuse_lone_scans, three.dataset_params, source)
    assert said.startswith("dataset_params.past_sweeps is 3, but these scans (") and "one by one" in said
    refuse_lone_scans(load_config(nuscenes).dataset_params, source)


def test_the_robustness_test_takes_past_scans(root, capsys) -> None:
    """A subset that is the validation split itself has the score of main.py on it."""
    corrupted(root)
    assert run(root, "--baseline_only") == 0
    tested = ("--checkpoint", str(RUN / "last.ckpt"))
    assert run(root, "--test", *tested, "--log_dir", "one") == 0
    clean = scores("one")
    arguments = ["--cpu", *tested, "--num_vote", "1", "--subsets", *FEW, "--allow_missing", "--save_prediction"]
    assert run_program(lambda: robust_test.main(arguments)) == 0
    (found,) = RUN.glob("robust_test_*")
    (row,) = [line.split(",") for line in (found / "summary.csv").read_text().splitlines() if line.startswith("clean")]
    head = (found / "summary.csv").read_text().splitlines()[0].split(",")
    assert float(row[head.index("mIoU")]) == pytest.approx(100 * clean["val/mIoU"], abs=0.01)
    kept = sorted((found / "subsets/fog_light/predictions").rglob("*.label"))
    assert [path.stat().st_size // 4 for path in kept] == [len(kept_rows(300, 1))] * 4
    lose_poses(root / "08")
    assert run_program(lambda: robust_test.main([*arguments, "--restart"])) == 2
    assert f"{root}/08/poses.txt: cannot read the poses" in capsys.readouterr().err
    assert list(RUN.glob("robust_test_*")) == [found]  # nothing was begun
