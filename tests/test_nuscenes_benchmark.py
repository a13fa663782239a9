"""nuScenes from the command line to the benchmark: the unmodified nuscenes-devkit judges what a test writes."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import main as program
from tests.conftest import ROOT
from tests.support.nuscenes import POINTS, write_tree
from tests.support.pictures import leave_out_pictures
from utils.command.process import run_program
from utils.scan.batch import pack

CONFIG = str(ROOT / "config" / "2DPASS-nuscenes.yaml")


def settings(data_path: Path) -> list[str]:
    entries = (f"data_path={data_path}", "batch_size=1", "num_workers=0")
    return [
        *(f"dataset_params.{kind}_data_loader.{entry}" for kind in ("train", "val") for entry in entries),
        "model_params.hiden_size=8",
        "dataset_params.resize=[64,32]",
        "train_params.max_num_epochs=2",
        "train_params.lr_scheduler=CosineAnnealingWarmRestarts",
        "train_params.optimizer=Adam",
        "train_params.learning_rate=0.01",
    ]


@pytest.fixture(scope="module")
def run(demo_trees, tmp_path_factory):
    """Runs a command in a folder where the network has been trained on v1.0-mini."""
    folder, tree = tmp_path_factory.mktemp("run"), demo_trees["nuScenes"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        leave_out_pictures(patch)

        def run(*flags: str) -> Path:
            """The newest test folder."""
            command = [*flags, "--config", CONFIG, "--cpu", "--set", *settings(tree)]
            assert run_program(lambda: program.main(command)) == 0
            return max(folder.glob("logs/nuScenes/default/*_*"), key=lambda path: path.stat().st_mtime_ns)

        run("--debug")
        yield run


def test_the_devkit_scores_what_we_score(run, demo_trees) -> None:
    nuscenes = pytest.importorskip("nuscenes")
    evaluator = pytest.importorskip("nuscenes.eval.lidarseg.evaluate")
    validator = pytest.importorskip("nuscenes.eval.lidarseg.validate_submission")
    folder = run("--debug", "--test", "--checkpoint", "last", "--num_vote", "2", "--save_prediction")
    devkit = nuscenes.NuScenes("v1.0-mini", str(demo_trees["nuScenes"]), verbose=False)
    validator.validate_submission(devkit, str(folder / "predictions"), "mini_val")
    judged = evaluator.LidarSegEval(devkit, str(folder / "predictions"), eval_set="mini_val").evaluate()
    ours = json.loads((folder / "scores.json").read_text())
    assert ours["val/mIoU"] == pytest.approx(judged["miou"], abs=1e-6)
    assert ours["val/mIoU"] > 0.02  # of nothing, any two agree
    for name, iou in ours["iou"].items():
        assert iou == pytest.approx(judged["iou_per_class"][name], abs=1e-6) or (
            iou is None and np.isnan(judged["iou_per_class"][name])
        )
    meta = json.loads((folder / "predictions" / "mini_val" / "submission.json").read_text())["meta"]
    assert meta["use_camera"] is True


def test_a_submission_passes_the_devkits_check(run, demo_trees, capsys, tmp_path) -> None:
    nuscenes = pytest.importorskip("nuscenes")
    validator = pytest.importorskip("nuscenes.eval.lidarseg.validate_submission")
    folder = run("--test", "--checkpoint", "last", "--submit_to_server")
    assert "of the test split scene-" in capsys.readouterr().out
    devkit = nuscenes.NuScenes("v1.0-test", str(demo_trees["nuScenes"]), verbose=False)
    with zipfile.ZipFile(folder / "submission" / "submission.zip") as archive:
        archive.extractall(tmp_path)
    validator.validate_submission(devkit, str(tmp_path), "test")
    for sample in devkit.sample:
        token = sample["data"]["LIDAR_TOP"]
        xyz = np.fromfile(devkit.get_sample_data_path(token), "<f4").reshape(-1, 5)[:, :3]
        classes = np.fromfile(tmp_path / "lidarseg" / "test" / f"{token}_lidarseg.bin", np.uint8)
        outside = (np.abs(xyz[:, :2]) >= 50).any(1) | (xyz[:, 2] <= -4) | (xyz[:, 2] >= 3)
        assert outside.any() and len(classes) == len(xyz)
        assert classes.min() >= 1 and classes.max() <= 16


def test_the_3d_network_alone_uses_no_camera(run, demo_trees) -> None:
    run("--debug", "--baseline_only", "--log_dir", "alone")
    folder = run("--debug", "--baseline_only", "--test", "--checkpoint", "logs/nuScenes/alone/version_0/last.ckpt",
                 "--save_prediction")  # fmt: skip
    assert '"use_camera": false' in (folder / "predictions" / "mini_val" / "submission.json").read_text()


def test_past_sweeps_from_training_to_a_submission(tmp_path, monkeypatch) -> None:
    """They are trained on and voted on; scored and submitted are the key frame's points alone."""
    tree = tmp_path / "nuscenes"
    write_tree(tree, scenes={"scene-0061": 2, "scene-0103": 2}, sweeps=2)
    write_tree(tree, "v1.0-test", {"scene-0077": 2}, seed=1, sweeps=2)
    monkeypatch.chdir(tmp_path)
    batches = []
    monkeypatch.setattr(
        "dataloader.datamodule.pack", lambda *args, **how: batches.append(pack(*args, **how)) or batches[-1]
    )
    changed = ["model_params.input_dims=5", "dataset_params.past_sweeps=3", "model_params.hiden_size=4"]

    def run(*flags: str) -> None:
        config = str(ROOT / "config" / "2DPASS-nuscenes-demo.yaml")
        options = [*settings(tree), *changed, "train_params.max_num_epochs=1"]
        assert run_program(lambda: program.main([*flags, "--config", config, "--cpu", "--set", *options])) == 0

    run()
    tested = ("--test", "--checkpoint", "last", "--num_vote", "2")
    run(*tested, "--save_prediction")
    run(*tested, "--submit_to_server")
    (scores,) = tmp_path.glob("logs/nuScenes/default/test_*/scores.json")
    assert json.loads(scores.read_text())["points"] <= 2 * POINTS
    ages = [batch.tensor("points")[:, 4] for batch in batches]
    assert max(len(age.unique()) for age in ages) == 4 and max(map(len, ages)) > 3 * POINTS
    (archive,) = tmp_path.glob("logs/nuScenes/default/*/submission/*.zip")
    with zipfile.ZipFile(archive) as content:
        sizes = [entry.file_size for entry in content.infolist() if entry.filename.endswith("_lidarseg.bin")]
    assert sizes == [POINTS] * 2
