"""The commands with checkpoints that are not what they should be: one line, exit code 2, and nothing else happens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import main as program
from network import assemble
from network.assemble import load_for_test
from network.weights.configuration import open_for_test
from network.weights.description import read_description
from network.weights.reading import read_checkpoint
from tests.conftest import ROOT
from tests.support.networks import refusal
from tests.support.pictures import leave_out_pictures
from utils.command.process import run_program
from utils.config.loading import load_config
from utils.scan.traits import PERCENTAGES

CONFIG = ROOT / "config" / "MinkowskiNet-demo.yaml"


@pytest.fixture(scope="module")
def command(demo_trees) -> list[str]:
    tree = demo_trees["SemanticKITTI"]
    paths = [f"dataset_params.{part}_data_loader.data_path={tree}" for part in ("train", "val")]
    return ["--config", str(CONFIG), "--cpu", "--set", "model_params.cr=0.05", "train_params.max_num_epochs=2", *paths]


@pytest.fixture(scope="module")
def trained(command, tmp_path_factory) -> Path:
    """The last checkpoint of a run of one epoch."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        leave_out_pictures(monkeypatch)
        assert run_program(lambda: program.main([*command, "train_params.max_num_epochs=1"])) == 0
    return folder / "logs" / "SemanticKITTI" / "default" / "version_0" / "last.ckpt"


def spoil_weights(content: dict[str, Any]) -> None:
    for tensor in content["state_dict"].values():
        tensor.fill_(torch.nan if tensor.is_floating_point() else 0)


def shrink_moments(content: dict[str, Any]) -> None:
    for state in content["optimizer_states"][0]["state"].values():
        state["exp_avg"] = torch.zeros(3)


SPOILED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "weights of NaN": (spoil_weights, "holds NaN or inf"),
    "small moments": (shrink_moments, "optimizer_states.state.0.exp_avg is missing or damaged"),
    "no loops, schedules nor callbacks": (
        lambda content: [content.pop(key) for key in ("loops", "lr_schedulers", "callbacks")],
        "callbacks is missing or damaged",
    ),
    "a colour that is none": (
        lambda content: content["2dpass"]["description"]["class_colors"][3].append(7),
        "2dpass.description.class_colors is missing or damaged",
    ),
}


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        ("weights of NaN", ["--test"]),
        ("weights of NaN", ["--fine_tune"]),
        ("a colour that is none", ["--test"]),
        *((kind, []) for kind in SPOILED if kind != "a colour that is none"),
    ],
)
def test_a_spoiled_checkpoint_ends_in_one_line(kind, flags, command, trained, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    leave_out_pictures(monkeypatch)
    content = torch.load(trained, weights_only=True)
    change, expected = SPOILED[kind]
    change(content)
    torch.save(content, "x.ckpt")
    assert run_program(lambda: program.main(["--checkpoint", "x.ckpt", *flags, *command])) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line]
    assert line.startswith("error: x.ckpt: ") and expected in line
    assert not (tmp_path / "logs").exists(), "nothing was begun"


def test_outputs_that_are_no_numbers_are_not_scored(command, trained, tmp_path, monkeypatch, capsys) -> None:
    """Finite weights can be as wrong."""
    monkeypatch.chdir(tmp_path)
    leave_out_pictures(monkeypatch)
    content = torch.load(trained, weights_only=True)
    for name, tensor in content["state_dict"].items():
        if name.endswith("weight"):
            tensor.fill_(3e38)
    torch.save(content, "x.ckpt")
    assert run_program(lambda: program.main(["--checkpoint", "x.ckpt", "--test", *command])) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "outputs are NaN or infinite" in line
    assert not list(tmp_path.rglob("scores.json"))


def test_other_bytes_in_a_record_are_not_scored(trained, tmp_path) -> None:
    whole = trained.read_bytes()
    place = whole.rindex(b"data/4") + 100  # in the list of contents: what is before it are values
    damaged = bytearray(whole)
    damaged[place - len(whole) // 2 : place - len(whole) // 2 + 500] = bytes(range(250)) * 2
    (tmp_path / "x.ckpt").write_bytes(damaged)
    message = refusal(load_for_test, load_config(CONFIG, ["model_params.cr=0.05"]), tmp_path / "x.ckpt")
    assert "damaged" in message


def test_a_config_of_a_giant_asks_for_no_memory(trained, tmp_path, monkeypatch) -> None:
    content = torch.load(trained, weights_only=True)
    content["2dpass"]["description"]["config"]["model_params"].update(cr=64.0, layer_num=[4096 // 64] * 9)
    torch.save(content, tmp_path / "x.ckpt")
    built: list[str] = []
    build = assemble.build_network
    monkeypatch.setattr(
        assemble, "build_network", lambda *a, **b: (built.append(torch.empty(0).device.type), build(*a, **b))[1]
    )
    tested = open_for_test(str(tmp_path / "x.ckpt"), "default", None, [])
    message = refusal(load_for_test, tested.config, tested.path, tested.content)
    assert "by the config" in message and built == ["meta"]


def test_a_resumed_run_leaves_the_folders_that_its_checkpoint_names(command, trained, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    leave_out_pictures(monkeypatch)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    content = torch.load(trained, weights_only=True)
    for key, state in content["callbacks"].items():
        if key.startswith("ModelCheckpoint"):
            state["best_model_path"] = state["kth_best_model_path"] = f"local://{precious}"
            state["best_k_models"] = {f"local://{precious}": torch.tensor(0.0)}
    torch.save(content, "x.ckpt")
    assert run_program(lambda: program.main(["--checkpoint", "x.ckpt", *command])) == 0
    assert (precious / "file").read_text() == "x"


def test_no_best_checkpoint_wanted_is_not_no_validation(command, trained, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    leave_out_pictures(monkeypatch)
    assert run_program(lambda: program.main(["--save_top_k", "0", "--checkpoint", str(trained), *command])) == 0
    score, conditions = capsys.readouterr().out.splitlines()[-2:]
    assert score.startswith("best val/mIoU ") and "--save_top_k 0" in score
    assert "one view; the best of all validations" in conditions
    assert not list(tmp_path.rglob("best*.ckpt"))


def scores_of(arguments: list[str], log_dir: str) -> dict[str, Any]:
    """What a test gives, but for the checkpoint and what it was trained on, which an earlier one does not say."""
    assert run_program(lambda: program.main(["--test", "--cpu", "--log_dir", log_dir, *arguments])) == 0
    (path,) = Path("logs").glob(f"*/{log_dir}/test_*/scores.json")
    found = json.loads(path.read_text())
    assert found.pop("checkpoint_sha256") == hashlib.sha256(Path(found.pop("checkpoint")).read_bytes()).hexdigest()
    return {**found, "trained_on_split": None}


def test_a_checkpoint_needs_no_config_and_an_earlier_one_does(command, trained, tmp_path, monkeypatch, capsys) -> None:
    """An earlier one is one without description: all else in it is as it was."""
    monkeypatch.chdir(tmp_path)
    leave_out_pictures(monkeypatch)
    content = torch.load(trained, weights_only=True)
    del content["2dpass"]["description"]
    torch.save(content, "earlier.ckpt")
    assert scores_of(["--checkpoint", str(trained)], "own") == scores_of(
        ["--checkpoint", "earlier.ckpt", *command], "given"
    )
    capsys.readouterr()
    assert run_program(lambda: program.main(["--test", "--cpu", "--checkpoint", "earlier.ckpt"])) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: earlier.ckpt: ") and "give it to --config" in line
    assert run_program(lambda: program.main(["--checkpoint", "earlier.ckpt", "--log_dir", "on", *command])) == 0
    (resumed,) = Path("logs").glob("*/on/version_0/last.ckpt")
    found = [read_description(read_checkpoint(path), path) for path in (trained, resumed)]
    assert found[0] is not None and found[1] is not None
    assert found[0].statistics == found[1].statistics


def test_its_statistics_are_those_of_the_files_it_was_trained_on(trained, demo_trees) -> None:
    found = read_description(read_checkpoint(trained), trained)
    assert found is not None and found.statistics is not None
    files = sorted((demo_trees["SemanticKITTI"] / "00" / "velodyne").iterdir())
    points = np.concatenate([np.fromfile(file, np.float32).reshape(-1, 4) for file in files])
    labels = [np.fromfile(file.parents[1] / "labels" / f"{file.stem}.label", np.uint32) & 0xFFFF for file in files]
    statistics = found.statistics
    assert statistics.scans == len(files)
    for name, column in (("height", 2), ("intensity", 3)):
        expected = np.percentile(points[:, column], PERCENTAGES)
        assert getattr(statistics, name) == pytest.approx(expected, abs=0.02 * np.ptp(points[:, column])), name
        assert getattr(statistics, name)[::8] == (points[:, column].min(), points[:, column].max())
    road = found.label_map.names.index("road")
    assert statistics.class_shares[road] == pytest.approx(np.isin(np.concatenate(labels), (40, 60)).mean())
    assert statistics.ground_height == pytest.approx(-1.73, abs=0.1), "the sensor stands as KITTI's"
