"""The summary of a made-up run folder."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools import demo_summary
from utils.config.loading import load_config, save_config

ROOT = Path(__file__).parents[2]
TREE = ROOT / "tests" / "golden" / "semantickitti_tree" / "sequences"
SCORES = {
    "num_vote": 4,
    "checkpoint": "logs/SemanticKITTI/demo/version_1/best.ckpt",
    "iou": {"car": 0.875, "road": 0.5},
    "published_iou": {"car": 0.75, "road": 0.25},
    "val/mIoU": 0.6875,
    "val/mIoU_published": 0.5,
    "val/acc": 0.9375,
    "one_view": {"val/mIoU": 0.5625},
}


@pytest.fixture
def run_folder(tmp_path, monkeypatch):
    """Makes two trainings, the newer one resumed from its first epoch, and two tests; the current folder is that of
    logs/."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "logs" / "SemanticKITTI" / "demo"
    for number, scores in enumerate([[(0, 0.9)], [(0, 0.125), (1, 0.25), (1, 0.375), (2, None), (3, 0.5)]]):
        lines = [{"epoch": e, "train/loss_epoch": 1.0} | ({} if s is None else {"val/mIoU": s}) for e, s in scores]
        history = root / f"version_{number}" / "history.jsonl"
        history.parent.mkdir(parents=True)
        history.write_text("".join(json.dumps(line) + "\n" for line in lines))
        os.utime(history, (1000 + number, 1000 + number))
    for date, scores in (("2024-01-01", {**SCORES, "val/acc": 0.0625}), ("2024-02-01", SCORES)):
        (root / f"test_{date}").mkdir()
        (root / f"test_{date}" / "scores.json").write_text(json.dumps(scores))
    return root


def rows(text):
    """Reads the cells of the printed table, by the name in its first column."""
    cells = [[cell.strip() for cell in line.strip("│┃").split("│")] for line in text.splitlines() if "│" in line]
    return {name: rest for name, *rest in cells}


def test_the_table_is_that_of_the_newest_test(run_folder, capsys):
    assert demo_summary.main(["--log_dir", "demo"]) == 0
    printed = capsys.readouterr().out
    assert (
        f"the validation split, 4 views; {SCORES['checkpoint']}" in printed and "with one view: mIoU 56.2 %" in printed
    )
    assert rows(printed) == {
        "car": ["87.5", "75.0"], "road": ["50.0", "25.0"], "mIoU": ["68.8", "50.0"], "accuracy": ["93.8", ""],
    }  # fmt: skip
    assert "logs/SemanticKITTI/demo/test_2024-02-01/confusion.png" in printed


def test_an_epoch_trained_again_counts_once(run_folder, capsys):
    assert demo_summary.main([]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("validation mIoU")]
    assert line.split(": ")[1].split() == ["12.5", "37.5", "50.0"]


def test_a_network_trained_elsewhere_has_no_progress(run_folder, capsys):
    for folder in run_folder.glob("version_*"):
        shutil.rmtree(folder)
    assert demo_summary.main([]) == 0
    printed = capsys.readouterr().out
    assert "validation mIoU" not in printed
    assert rows(printed)["car"] == ["87.5", "75.0"]


@pytest.fixture
def with_predictions(run_folder, tmp_path, monkeypatch):
    """Makes a configuration whose data exist, and predictions of its first frame; returns the flags."""
    monkeypatch.setattr(demo_summary, "FRAMES", ("000000", "999999"))
    config = load_config(demo_summary.CONFIG, [f"dataset_params.val_data_loader.data_path={TREE}"])
    save_config(config, tmp_path / "demo.yaml")
    path = run_folder / "test_2024-02-01" / "predictions" / "sequences" / "08" / "predictions" / "000000.label"
    path.parent.mkdir(parents=True)
    shutil.copy(TREE / "08" / "labels" / "000000.label", path)
    return ["--config", str(tmp_path / "demo.yaml")]


def test_the_street_is_drawn(run_folder, with_predictions):
    assert demo_summary.main(with_predictions) == 0
    (picture,) = run_folder.glob("test_*/street_*.png")
    assert picture == run_folder / "test_2024-02-01" / "street_000000.png"
    assert np.asarray(Image.open(picture)).std() > 10


def test_a_picture_that_cannot_be_written_is_one_line(run_folder, with_predictions, capsys):
    (run_folder / "test_2024-02-01" / "street_000000.png").mkdir()
    assert demo_summary.main(with_predictions) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "street_000000.png: " in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "logs/SemanticKITTI/demo: no finished test there"),
        (["--log_dir", "../demo"], "--log_dir '../demo' must name a folder"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: no such configuration file"),
    ],
)
def test_what_is_missing_is_named_in_one_line(tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    assert demo_summary.main(flags) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {words}")
    assert error.count("\n") == 1
