"""The commands with checkpoints that are not what they should be: one line, exit code 2, and nothing else happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import main as program
from network.assemble import load_for_test
from tests.conftest import ROOT
from tests.support.networks import refusal
from utils.command.process import run_program
from utils.config.loading import load_config

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
}


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        ("weights of NaN", ["--test"]),
        ("weights of NaN", ["--fine_tune"]),
        *((kind, []) for kind in SPOILED),
    ],
)
def test_a_spoiled_checkpoint_ends_in_one_line(kind, flags, command, trained, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
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


def test_a_resumed_run_leaves_the_folders_that_its_checkpoint_names(command, trained, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
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
    assert run_program(lambda: program.main(["--save_top_k", "0", "--checkpoint", str(trained), *command])) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("best val/mIoU ") and "--save_top_k 0" in last
    assert not list(tmp_path.rglob("best*.ckpt"))
