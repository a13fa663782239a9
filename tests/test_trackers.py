"""All experiment trackers at once, read back with a reader of each; and what is said of those that are not there."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

import main as program
from network.training.trackers.mlflow_run import name_for_mlflow
from tests.support.pictures import leave_out_charts
from tests.support.trackers import wandb_history, wandb_records
from tests.test_main import RUN
from tests.test_resuming import assert_the_same_run
from utils.command import trackers
from utils.errors import UserError
from utils.results.history import read_lines

ALL = ("--logger", "tensorboard", "csv", "wandb", "mlflow")
SCORE, IOU, LOSS = "val/mIoU", "val_iou/car", "train/loss_epoch"
FRAMES = ("08_000000", "08_000001")


@pytest.fixture
def nothing_left(monkeypatch):
    """Clears the variables of MLflow and W&B, and takes back what they leave in this process."""
    before, leave, hook = dict(os.environ), sys.exit, sys.excepthook
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
        del os.environ[name]
    yield
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()
    os.environ.clear()
    os.environ.update(before)
    sys.exit, sys.excepthook = leave, hook


@pytest.fixture
def trained(run_main_and_draw, monkeypatch, nothing_left):
    """Runs a training of two epochs with all trackers, and again from the end of the first one; then one without."""
    leave_out_charts(monkeypatch)
    monkeypatch.setenv("WANDB_MODE", "offline")
    command = ("--baseline_only", "--save_top_k", "-1")
    assert run_main_and_draw(*command, *ALL) == 0
    ids = {name: (RUN / f"{name}_run.txt").read_text().strip() for name in ("wandb", "mlflow")}
    (first,) = RUN.glob("best-epoch=00*.ckpt")
    assert run_main_and_draw(*command, *ALL, "--checkpoint", str(first)) == 0
    assert ids == {name: (RUN / f"{name}_run.txt").read_text().strip() for name in ids}
    assert run_main_and_draw(*command, "--log_dir", "alone", "--logger", "none") == 0
    return ids


def test_every_tracker_has_it_all_and_a_resumed_training_goes_on_in_its_run(trained, capsys) -> None:
    """Epochs of two steps: scores stand at the steps 1 and 3, where the second epoch was trained twice."""
    lines = read_lines(RUN)
    expected = {name: {2 * line["epoch"] + 1: line[name] for line in lines} for name in (SCORE, LOSS)}
    conditions = f"2 scans of the validation split, one view; weights of epoch {lines[-1]['epoch']}"
    assert [line["epoch"] for line in lines] == [0, 1]
    check_tensorboard(expected, conditions)
    check_csv(expected, conditions)
    check_wandb(expected, conditions, trained["wandb"])
    check_mlflow(expected, conditions, trained["mlflow"])
    alone = RUN.parent.parent / "alone" / RUN.name
    assert not list(alone.glob("*event*")) and not (alone / "pictures").exists()
    assert_the_same_run(RUN, alone)  # trackers change nothing


def check_tensorboard(expected: dict[str, dict[int, float]], conditions: str) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(RUN), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    for name, values in expected.items():
        assert {event.step: pytest.approx(event.value, abs=1e-6) for event in events.Scalars(name)} == values
        assert len(events.Scalars(name)) == 2
    assert len(events.Scalars(IOU)) == 2
    for frame in FRAMES:
        assert [event.step for event in events.Images(f"val/{frame}")] == [1, 3]
    texts = {name: events.Tensors(f"{name}/text_summary")[-1].tensor_proto.string_val[0].decode() for name in TEXTS}
    assert conditions in texts["val/conditions"].replace("\\", "")
    assert "| train_params.learning_rate | 0.004 |" in texts["settings"].replace("\\", "")
    assert "last.ckpt" in texts["checkpoint/last"].replace("\\", "")


TEXTS = ("settings", "val/conditions", "checkpoint/best", "checkpoint/last")


def check_csv(expected: dict[str, dict[int, float]], conditions: str) -> None:
    with (RUN / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name, values in expected.items():
        found = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
        assert found == [(step, pytest.approx(value, abs=1e-6)) for step, value in values.items()]
    pictures = [row[f"val/{FRAMES[1]}"] for row in rows if row[f"val/{FRAMES[1]}"]]
    assert pictures == [str(RUN / f"pictures/epoch_{epoch:03d}/{FRAMES[1]}.png") for epoch in range(2)]
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in pictures)
    assert [row["val/conditions"] for row in rows if row["val/conditions"]][-1].startswith(conditions)
    with (RUN / "settings.csv").open(newline="") as file:
        settings = dict(csv.reader(file))
    assert settings["train_params.max_num_epochs"] == "2" and settings["--baseline_only"] == "True"


def check_wandb(expected: dict[str, dict[int, float]], conditions: str, name: str) -> None:
    runs = sorted(RUN.glob(f"wandb/offline-run-*-{name}/run-{name}.wandb"))
    assert len(runs) == 2 and not list(RUN.glob("wandb/offline-run-*/files/*.txt"))  # neither console nor packages
    parts = [wandb_history(path) for path in runs]
    for key, values in expected.items():
        found = [[(step["trainer/global_step"], step[key]) for step in part if key in step] for part in parts]
        assert [[step for step, _ in part] for part in found] == [[1, 3], [3]]
        assert dict(found[0] + found[1]) == {step: pytest.approx(value, abs=1e-6) for step, value in values.items()}
    picture = f"val/{FRAMES[0]}/filenames"
    shown = [step[picture][0] for part in parts for step in part if picture in step]
    assert len(shown) == 3 and all((runs[0].parents[0] / "files" / path).is_file() for path in shown[:2])
    records = [[(record.WhichOneof("record_type"), record) for record in wandb_records(path)] for path in runs]
    (run,) = [record.run for kind, record in records[0] if kind == "run"][:1]
    assert (run.run_id, run.project, run.display_name) == (name, "SemanticKITTI", "default/version_0")
    config = {
        (item.key or item.nested_key[0]): json.loads(item.value_json)
        for kind, record in records[1]
        if kind == "config"
        for item in record.config.update
    }
    assert config["train_params.max_num_epochs"] == 2 and config["model_params.hiden_size"] == 4
    summary = {
        (item.key or "/".join(item.nested_key)): json.loads(item.value_json)
        for kind, record in records[1]
        if kind == "summary"
        for item in record.summary.update
    }
    assert summary["val/conditions"].startswith(conditions) and summary["checkpoint/last"] == str(RUN / "last.ckpt")
    assert [record.exit.exit_code for kind, record in records[1] if kind == "exit"] == [0]


def check_mlflow(expected: dict[str, dict[int, float]], conditions: str, name: str) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient("sqlite:///logs/mlflow.db")
    experiment = client.get_experiment_by_name("SemanticKITTI")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_id, run.info.status, run.info.run_name) == (name, "FINISHED", "default/version_0")
    for key, values in expected.items():
        found = [(metric.step, metric.value) for metric in client.get_metric_history(name, key)]
        assert found == [(step, pytest.approx(value, abs=1e-6)) for step, value in values.items()]
    assert IOU in run.data.metrics and run.data.params["--baseline_only"] == "True"
    assert run.data.params["--checkpoint"] == "None"
    assert run.data.tags["--checkpoint from step 2"].startswith(f"{RUN}/best-epoch=00")
    assert run.data.tags["val/conditions"].startswith(conditions)
    assert run.data.tags["checkpoint/last"] == str(RUN / "last.ckpt")
    folders = [artifact.path for artifact in client.list_artifacts(name, "pictures")]
    assert folders == [f"pictures/epoch_{epoch:03d}" for epoch in range(2)]


ABSENT = {
    "tensorboard": ("tensorboard", "requirements.txt"),
    "wandb": ("wandb", "requirements-trackers.txt"),
    "mlflow": ("mlflow", "requirements-trackers.txt"),
    "alembic": ("mlflow", "requirements-trackers.txt"),
}


@pytest.mark.parametrize("package", ABSENT)
def test_an_absent_package_is_said_before_anything_begins(package, run_main, monkeypatch, capsys, nothing_left) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(trackers, "find_spec", lambda name: None if name == package else find(name))
    name, file = ABSENT[package]
    assert run_main("--logger", "csv", name) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--logger {name}: {package} is not installed; pip install -r {file}" in line
    assert not Path("logs").exists()


def test_mlflow_on_a_server_needs_no_database(monkeypatch, nothing_left) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None if name in ("sqlalchemy", "alembic") else name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://somebody:secret@example.org")
    assert trackers.chosen_trackers(["mlflow"]) == ["mlflow"]


def test_wandb_without_a_key_is_refused(tmp_path, monkeypatch, nothing_left) -> None:
    """It would ask for one on the terminal. Keys lie where W&B looks for them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match="no key on this machine; run `wandb login`"):
        trackers.chosen_trackers(["csv", "wandb"])
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password secret")
    assert trackers.chosen_trackers(["csv", "wandb"]) == ["csv", "wandb"]
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org:8080")
    with pytest.raises(UserError, match="no key"):
        trackers.chosen_trackers(["wandb"])
    for name, value in {"WANDB_API_KEY": "secret", "WANDB_MODE": "offline"}.items():
        with monkeypatch.context() as set_now:
            set_now.setenv(name, value)
            assert trackers.chosen_trackers(["wandb"]) == ["wandb"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--logger", "csv", "csv"], "a tracker is named twice"),
        (
            ["--test", "--checkpoint", "best", "--logger", "csv"],
            "--logger: for a training, without an effect",
        ),
        (["--test", "--checkpoint", "best", "--logger", "none"], "--logger: for a training"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(flags, said) -> None:
    with pytest.raises(UserError, match=said):
        program.main(flags)


def test_names_that_mlflow_takes() -> None:
    from mlflow.utils.validation import _validate_metric_name, _validate_param_name

    classes = ["other-ground", "a#b", "a?b", "..", ".", "a//b", "/a", "a/", "Straße", "道", "a\nb", "x" * 300]
    names = [f"val_iou/{name}" for name in classes]
    found = [name_for_mlflow(name) for name in names]
    assert found[0] == names[0] and len(set(found)) == len(found)
    for name in found:
        _validate_metric_name(name)
        _validate_param_name(name)
