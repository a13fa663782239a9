"""Every shipped configuration trains and tests, reduced in size, on the made-up data of its data set, and reads
every key of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import main as program
from tests.conftest import ROOT
from tests.support.pictures import leave_out_pictures
from tests.support.recording import keys_of, recording
from utils.command.process import run_program
from utils.config.data import MIX_SEMKITTI, SemanticKITTIImages
from utils.config.loading import load_config
from utils.config.model import ModelParams, VoxelModelParams
from utils.config.schedules import CosineWarmupParams
from utils.config.schema import Config, architectures
from utils.config.train import TrainParams

CONFIGS = sorted((ROOT / "config").glob("*.yaml"))
DRAWN = ("2DPASS-demo", "2DPASS-nuscenes-demo", "MinkowskiNet-multiscan-demo")
"""Those whose pictures are drawn: of each label map, with cameras and without."""


def reduced(path: Path, data_path: Path) -> list[str]:
    """Overrides that leave the experiment its kind and take its size."""
    config = load_config(path)
    data = config.dataset_params
    settings = []
    for kind, batch_size in (("train", 2), ("val", 1)):
        entries = (f"data_path={data_path}", f"batch_size={batch_size}", "num_workers=0")
        settings += [f"dataset_params.{kind}_data_loader.{entry}" for entry in entries]
    settings += ["train_params.max_num_epochs=1", "dataset_params.training_size=null"]
    if isinstance(config.train_params.lr_scheduler, CosineWarmupParams):
        settings += ["train_params.warmup_steps=null", "train_params.warmup_epochs=0.5"]  # shorter than the training
    if isinstance(config.model_params, ModelParams):
        image = "bottom_crop" if isinstance(data, SemanticKITTIImages) else "resize"
        whole = image == "bottom_crop" and config.model_params.frozen_teacher
        settings += ["model_params.hiden_size=4", *([] if whole else [f"dataset_params.{image}=[96,64]"])]
    if isinstance(config.model_params, VoxelModelParams):
        settings.append("model_params.cr=0.1")
    if data.pc_dataset_type == "nuScenes":
        settings.append("dataset_params.version=v1.0-mini")
    return settings


TRACKED = ("2DPASS-demo", "2DPASS-nuscenes-demo")
"""The configs that are trained with the tracker of the default, one for each data set."""


def without_effect(config: Config) -> set[str]:
    """The keys that nothing has to read: they have one possible value, or need a flag, or another architecture."""
    keys = {"format_version", "dataset_params.collate_type", "dataset_params.ignore_label"}
    keys |= {"train_params.swa_epoch_start", "dataset_params.past_steps"}  # for --SWA, and for past_predictions
    if config.dataset_params.dataset_type == MIX_SEMKITTI:
        keys.add("dataset_params.mixing")  # refused beside it
    if isinstance(config.model_params, ModelParams):
        keys |= {"model_params.pretrained2d"} if config.model_params.frozen_teacher else set()
    else:
        keys |= {f"train_params.{name}" for name, field in TrainParams.model_fields.items() if architectures(field)}
    if config.dataset_params.pc_dataset_type == "SemanticKITTI":
        keys.add("dataset_params.version")
        if config.dataset_params.past_scans:
            keys.add("dataset_params.past_sweeps")
    else:
        keys.add("dataset_params.past_predictions")
    return keys


@pytest.fixture
def read(monkeypatch) -> set[str]:
    """The keys that were read from the configs loaded in a test, but for the check of the flags."""
    keys: set[str] = set()
    validate = Config.model_validate
    monkeypatch.setattr(Config, "model_validate", lambda *args, **kwargs: recording(validate(*args, **kwargs), keys))
    monkeypatch.setattr(program, "refuse_idle", lambda *args: None)
    return keys


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_config_trains_and_tests(path, demo_trees, tmp_path, monkeypatch, capsys, read, hub) -> None:
    monkeypatch.chdir(tmp_path)
    if path.stem not in DRAWN:
        leave_out_pictures(monkeypatch)
    if (name := getattr(load_config(path).model_params, "backbone_2d", "resnet34")) != "resnet34":
        hub.add(name)
    dataset = load_config(path).dataset_params.pc_dataset_type
    settings = reduced(path, demo_trees[dataset])
    command = ["--config", str(path), "--cpu", "--set", *settings]
    quiet = [] if path.stem in TRACKED else ["--logger", "none"]  # pictures take time
    read.clear()
    assert run_program(lambda: program.main([*quiet, *command])) == 0
    used = set(read)
    config = load_config(path, settings)
    assert keys_of(config) - used == without_effect(config)
    run = tmp_path / "logs" / dataset / "default"
    assert bool(list(run.glob("version_0/pictures/epoch_000/*.png"))) == (path.stem in TRACKED)
    history = [json.loads(line) for line in (run / "version_0" / "history.jsonl").read_text().splitlines()]
    assert len(history) == 1 and history[0]["train/loss_epoch"] > 0 and 0 <= history[0]["val/mIoU"] <= 1

    tested = ["--test", "--checkpoint", "last", "--num_vote", "2", "--save_prediction", *command]
    assert run_program(lambda: program.main(tested)) == 0
    (scores,) = run.glob("test_*/scores.json")
    assert json.loads(scores.read_text())["points"] > 0
    assert "per class iou" in capsys.readouterr().out
