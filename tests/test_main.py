"""The commands, end to end, on a data set of five scans."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch.utils.data.dataloader import _SingleProcessDataLoaderIter

import main as program
from network.training.callbacks import read_history
from tests.conftest import ROOT, TREE, small_command
from tests.support.processes import is_alive, until
from utils.command.flags import DEFAULT_CONFIG
from utils.labels import LabelMap
from utils.results.history import read_lines
from utils.results.run_folder import HISTORY

RUN = Path("logs/SemanticKITTI/default/version_0")


def load(path: Path) -> dict:
    return torch.load(path, weights_only=True, map_location="cpu")


def test_train_then_test(run_main_and_draw, capsys) -> None:
    assert run_main_and_draw("--logger", *program.parse_arguments([]).logger) == 0
    printed = capsys.readouterr().out
    for line in ("Validation per class iou:", "other-vehicle : ", "Current val miou is "):
        assert line in printed
    assert "'val/mIoU':" not in printed  # as published, after a test only
    assert "2 scans of the validation split, one view; weights of epoch 1, not trained on this split" in printed
    assert "one view; the best of all validations" in printed
    lines = [json.loads(line) for line in (RUN / HISTORY).read_text().splitlines()]
    assert [(line["conditions"]["split"], line["conditions"]["views"]) for line in lines] == [("validation", 1)] * 2
    history = read_history(RUN)
    assert [line["epoch"] for line in history] == [0, 1]
    assert all(np.isfinite(line["train/loss_epoch"]) for line in history)
    assert yaml.safe_load((RUN / "config.yaml").read_text())["model_params"]["hiden_size"] == 4
    assert (RUN / "last.ckpt").is_file() and len(list(RUN.glob("best-*.ckpt"))) == 1
    assert Image.open(RUN / "training_curve.png").size[0] > 100
    events = b"".join(path.read_bytes() for path in RUN.glob("events*"))
    for tag in (b"train/loss", b"train/learning_rate", b"val/mIoU", b"val_iou/road", b"train/skipped_batches"):
        assert tag in events

    assert run_main_and_draw("--test", "--checkpoint", "best", "--num_vote", "3", "--save_prediction") == 0
    printed = capsys.readouterr().out
    assert "3 vote(s)" in printed and "'val/mIoU':" in printed
    (folder,) = Path("logs/SemanticKITTI/default").glob("test_*")
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["num_vote"] == 3 and scores["points"] > 4000
    assert {p.name for p in (folder / "pictures").iterdir()} == {"08_000000.png", "08_000001.png"}
    assert Image.open(folder / "confusion.png").size[0] > 300
    check_scores_against_written_predictions(folder, scores)
    assert (scores["split"], scores["scans"], scores["views"]) == ("validation", 2, 3)
    assert scores["checkpoint"] in printed and scores["trained_on_split"] is False
    assert (
        "2 scans of the validation split, 3 views" in printed and "2 scans of the validation split, one view" in printed
    )

    assert run_main_and_draw("--test", "--checkpoint", "best", "--log_dir", "default") == 0
    assert "With one view" not in capsys.readouterr().out
    newest = max(Path("logs/SemanticKITTI/default").glob("test_*"), key=lambda path: path.stat().st_mtime_ns)
    alone = json.loads((newest / "scores.json").read_text())
    assert alone["views"] == 1 and "one_view" not in alone
    assert scores["one_view"] == {name: alone[name] for name in scores["one_view"]}


def check_scores_against_written_predictions(folder: Path, scores: dict) -> None:
    """The official evaluation, slowly, from the files alone."""
    label_map = LabelMap.load(ROOT / "config/label_mapping/semantic-kitti.yaml")
    learning = yaml.safe_load((ROOT / "config/label_mapping/semantic-kitti.yaml").read_text())["learning_map"]
    pairs: dict[tuple[int, int], int] = {}
    for frame in ("000000", "000001"):
        truth = np.fromfile(TREE / "08" / "labels" / f"{frame}.label", np.uint32) & 0xFFFF
        guess = np.fromfile(folder / "predictions/sequences/08/predictions" / f"{frame}.label", np.uint32)
        assert len(truth) == len(guess)
        for t, g in zip(truth.tolist(), guess.tolist(), strict=True):
            pair = learning[t], learning[g]
            pairs[pair] = pairs.get(pair, 0) + 1
    labelled = sum(n for (t, _), n in pairs.items() if t)
    right = sum(n for (t, g), n in pairs.items() if t and t == g)
    assert scores["points"] == labelled
    assert scores["val/acc"] == pytest.approx(right / labelled, abs=1e-12)
    ious = []
    for c in range(1, 20):
        tp = pairs.get((c, c), 0)
        fp = sum(n for (t, g), n in pairs.items() if t not in (0, c) and g == c)
        fn = sum(n for (t, g), n in pairs.items() if t == c and g != c)
        ious.append(tp / max(tp + fp + fn, 1))
        assert scores["iou"][label_map.names[c]] == pytest.approx(ious[-1], abs=1e-12)
    assert scores["val/mIoU"] == pytest.approx(sum(ious) / 19, abs=1e-12)


def predictions(name: str) -> dict[str, np.ndarray]:
    (folder,) = Path(f"logs/SemanticKITTI/{name}").glob("test_*/predictions")
    return {path.name: np.fromfile(path, np.uint32) for path in folder.rglob("*.label")}


def test_votes_do_not_depend_on_the_batch_size(run_main) -> None:
    assert run_main("--baseline_only") == 0
    arguments = ("--test", "--save_prediction", "--num_vote", "3", "--checkpoint", str(RUN / "last.ckpt"))
    for size in (1, 2):
        settings = (f"dataset_params.val_data_loader.batch_size={size}",)
        assert run_main(*arguments, "--log_dir", f"batch{size}", settings=settings) == 0
    one, two = predictions("batch1"), predictions("batch2")
    assert one.keys() == two.keys() and len(one) == 2
    for name in one:
        assert (one[name] == two[name]).mean() > 0.999  # up to ties that rounding decides
    assert run_main(*arguments, "--log_dir", "other", "--seed", "1") == 0
    assert any((predictions("other")[name] != one[name]).any() for name in one)  # other views


def test_debug_takes_the_first_items_and_no_workers(run_main, monkeypatch, capsys) -> None:
    monkeypatch.setattr("dataloader.datamodule.DEBUG_ITEMS", 1)
    monkeypatch.setattr("torch.utils.data.DataLoader._get_iterator", single_process_only)
    settings = ("dataset_params.train_data_loader.num_workers=2", "train_params.max_num_epochs=1")
    assert run_main("--baseline_only", "--debug", settings=settings) == 0
    assert "1 training and 1 validation scans" in capsys.readouterr().out
    assert load(RUN / "last.ckpt")["global_step"] == 1


def single_process_only(loader):
    assert loader.num_workers == 0
    return _SingleProcessDataLoaderIter(loader)


def test_the_seed_decides(run_main) -> None:
    settings = ("train_params.max_num_epochs=1",)
    weights = []
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert run_main("--baseline_only", "--seed", seed, "--log_dir", name, settings=settings) == 0
        state = load(Path(f"logs/SemanticKITTI/{name}/version_0/last.ckpt"))["state_dict"]
        weights.append(state["network.encoder.0.merge.weight"])
    torch.testing.assert_close(weights[0], weights[1])
    assert not torch.allclose(weights[0], weights[2])


def test_submission(run_main, capsys) -> None:
    assert run_main("--baseline_only") == 0
    assert run_main("--test", "--submit_to_server", "--checkpoint", "last") == 0
    assert "submission.zip" in capsys.readouterr().out
    (path,) = Path("logs/SemanticKITTI/default").glob("test_*/submission/submission.zip")
    with zipfile.ZipFile(path) as archive:
        folders = ["sequences/", "sequences/11/", "sequences/11/predictions/"]  # the official validator looks for them
        assert archive.namelist() == [*folders, "sequences/11/predictions/000000.label"]
        ids = np.frombuffer(archive.read("sequences/11/predictions/000000.label"), np.uint32)
    points = os.path.getsize(TREE / "11" / "velodyne" / "000000.bin") // 16
    known = set(LabelMap.load(ROOT / "config/label_mapping/semantic-kitti.yaml").to_raw[1:].tolist())
    assert len(ids) == points and set(ids.tolist()) <= known


KILLED_IN_THE_THIRD_EPOCH = """
import os, signal, sys
from network.training.task import SegmentationTask
step = SegmentationTask.training_step
def die(self, batch, batch_idx):
    if self.current_epoch == 2 and batch_idx == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_idx)
SegmentationTask.training_step = die
import main
main.main(sys.argv[1:])
"""


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
        "CUDA_VISIBLE_DEVICES": "",
    }


MAIN = ROOT / "main.py"


def two_processes(command: list[str]) -> list[str]:
    place = command.index("--cpu")
    return [*command[:place], "--cpu", "2", *command[place + 1 :]]


def own_tree(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """A copy of the data set that a test may change, and the settings that point to it."""
    data = folder / "sequences"
    shutil.copytree(TREE, data)
    return data, tuple(f"dataset_params.{loader}_data_loader.data_path={data}" for loader in ("train", "val"))


def test_two_processes_train_and_test_as_one(run_main, programs, tmp_path) -> None:
    """Three scans for two processes, so one has less to do; the results are those of one process.

    The program starts the second process of the training; those of the test are started as torchrun does.
    """
    data, settings = own_tree(tmp_path)
    for file in [file for sequence in ("00", "08") for file in (data / sequence).glob("*/000000.*")]:
        shutil.copy(file, file.with_name("000002" + file.suffix))
    done = programs.run(MAIN, *two_processes(small_command("--logger", "csv", settings=settings)))
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(read_history(RUN)) == 2
    tracked = (RUN / "metrics.csv").read_text()
    for epoch in range(2):  # the first process has the first and the last scan, and alone it tracks
        pictures = sorted((RUN / f"pictures/epoch_{epoch:03d}").iterdir())
        assert [path.name for path in pictures] == ["08_000000.png", "08_000002.png"]
        assert [tracked.count(str(path)) for path in pictures] == [1, 1]
    assert load(RUN / "last.ckpt")["global_step"] == 4  # three scans are two steps of two processes

    arguments = ("--test", "--num_vote", "2", "--save_prediction", "--checkpoint", str(RUN / "last.ckpt"))
    command = two_processes(small_command(*arguments, "--log_dir", "two", settings=settings))
    for done in programs.run_as_torchrun(MAIN, *command):
        assert done.returncode == 0, done.stderr[-3000:]
    assert run_main(*arguments, "--log_dir", "one", settings=settings) == 0
    scores = []
    for name in ("one", "two"):
        (path,) = Path(f"logs/SemanticKITTI/{name}").glob("test_*/scores.json")
        scores.append(json.loads(path.read_text()))
    assert scores[0]["points"] == scores[1]["points"]
    assert scores[0]["iou"] == pytest.approx(scores[1]["iou"], abs=1e-4)
    alone = [found["one_view"]["iou"] for found in scores]
    assert alone[0] == pytest.approx(alone[1], abs=1e-4)
    assert [(found["views"], found["scans"], found["split"]) for found in scores] == 2 * [(2, 3, "validation")]
    one, two = predictions("one"), predictions("two")
    assert one.keys() == two.keys() and len(one) == 3
    for name in one:
        assert (one[name] == two[name]).mean() > 0.999


def cut_picture(data: Path) -> Path:
    """Cuts the end off a training picture, which nothing reads before the first epoch."""
    path = data / "00/image_2/000001.png"
    path.write_bytes(path.read_bytes()[:-100])
    return path


def test_a_bad_file_stops_all_processes_with_its_line(programs, tmp_path, monkeypatch) -> None:
    """One of the processes reads it; the other one waits for it in the step."""
    monkeypatch.chdir(tmp_path)
    data, settings = own_tree(tmp_path)
    bad = cut_picture(data)
    done = programs.run(MAIN, *two_processes(small_command(settings=settings)))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    errors = {line for line in done.stderr.splitlines() if line.startswith("error: ")}
    errors -= {"error: another process of this run ended; its message says why"}
    assert len(errors) == 1 and str(bad) in errors.pop()
    assert (RUN / "config.yaml").is_file()  # the training had begun


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
def test_sigterm_ends_all_processes(programs, tmp_path, monkeypatch) -> None:
    """Also those that wait for each other inside of torch, and the loader process of each."""
    monkeypatch.chdir(tmp_path)
    settings = ("train_params.max_num_epochs=1000", "dataset_params.train_data_loader.num_workers=1")
    process = programs.start(MAIN, *two_processes(small_command("--baseline_only", settings=settings)))
    try:
        assert until(lambda: (tmp_path / RUN / HISTORY).exists() or process.has_ended(), seconds=100)
        assert len(session(process.pid)) >= 4  # Python 3.14 has helpers of its own beside them
        os.kill(process.pid, signal.SIGTERM)
        done = process.wait(seconds=30)
        assert until(lambda: not session(process.pid))
    finally:
        for pid in session(process.pid):
            os.kill(pid, signal.SIGKILL)
    assert done.returncode == 143
    # Not always the last line: the helpers of Python 3.14 warn of semaphores that they clean up.
    pattern = r"interrupted(, saved after epoch \d+|, before a validation)?; --checkpoint last continues from .*"
    assert any(re.fullmatch(pattern, line) for line in done.stderr.splitlines())
    assert "Traceback" not in done.stderr


def session(leader: int) -> list[int]:
    """The processes that a process has started, itself included, as long as they run."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if is_alive(pid) and Path(f"/proc/{pid}/stat").read_text().split()[5] == str(leader)]


def test_interrupted_by_ctrl_c(programs, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    script = KILLED_IN_THE_THIRD_EPOCH.replace("SIGKILL", "SIGINT").replace(
        "main.main(sys.argv[1:])",
        "from utils.command.process import run_program\n"
        "sys.exit(run_program(lambda: main.main(sys.argv[1:]), main.going_on(sys.argv[1:])))",
    )
    # A shell starts its background jobs with SIGINT ignored, and children inherit that.
    script = f"import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n{script}"
    Path("script.py").write_text(script)
    command = small_command("--baseline_only", settings=("train_params.max_num_epochs=4",))
    done = programs.run(Path("script.py"), *command)
    assert done.returncode == 130
    assert "--checkpoint last" in done.stderr and "Traceback" not in done.stderr


def test_a_test_that_is_interrupted_is_not_to_be_continued() -> None:
    assert program.going_on(["--checkpoint", "best", "--test"]) == ""
    assert "--checkpoint last" in program.going_on(["--checkpoint", "best"])


def test_resuming_under_other_conditions_is_refused(run_main, capsys) -> None:
    assert run_main(settings=("train_params.max_num_epochs=1",)) == 0
    before = (RUN / "config.yaml").read_text()
    for arguments, settings, named in (
        (("--baseline_only",), (), "--baseline_only"),
        ((), ("train_params.learning_rate=0.5",), "learning_rate was 0.004, is 0.5"),
        ((), ("train_params.optimizer=SGD",), "optimizer was Adam, is SGD"),
        ((), ("dataset_params.max_volume_space=[50,50,3]",), "max_volume_space was 50, 50, 2, is 50, 50, 3"),
        (("--test",), ("model_params.spatial_shape=[1000,1000,80]",), "spatial_shape was 1000, 1000, 60, is"),
    ):
        capsys.readouterr()
        assert run_main(*arguments, "--checkpoint", "last", settings=settings) == 2
        assert named in capsys.readouterr().err
    assert (RUN / "config.yaml").read_text() == before
    assert run_main("--checkpoint", "last") == 0  # more epochs are fine
    assert [line["epoch"] for line in read_history(RUN)] == [0, 1]


def test_the_score_that_is_named_is_the_one_monitored(run_main, capsys) -> None:
    assert run_main("--baseline_only", "--monitor", "val/acc") == 0
    best = max(line["val/acc"] for line in read_history(RUN))
    printed = float(capsys.readouterr().out.rpartition("best val/acc ")[2].split()[0])
    assert printed == pytest.approx(100 * best, abs=1e-3)
    assert run_main("--baseline_only", "--check_val_every_n_epoch", "5") == 0
    assert "no validation yet" in capsys.readouterr().out


def test_weight_averaging(run_main, capsys) -> None:
    """--SWA: from the first averaged epoch on, checkpoints hold the mean of the weights after each epoch."""
    settings = ("train_params.max_num_epochs=4", "train_params.swa_epoch_start=0.5")
    assert run_main("--baseline_only", "--SWA", "--save_top_k", "-1", settings=settings) == 0
    judged = [line["conditions"]["checkpoint"] for line in read_lines(RUN)]
    mean = "mean of the weights after epochs 2 to {} (--SWA)"
    assert judged == ["weights of epoch 0", "weights of epoch 1", mean.format(2), mean.format(3)]
    assert f"one view; {judged[3]}, " in capsys.readouterr().out
    by_epoch = {load(path)["epoch"]: load(path) for path in RUN.glob("best-*.ckpt")}
    assert sorted(by_epoch) == [0, 1, 2, 3]
    assert "current_model_state" not in by_epoch[1]
    for name, mean in by_epoch[3]["state_dict"].items():
        if mean.is_floating_point():
            current = [by_epoch[epoch]["current_model_state"][name] for epoch in (2, 3)]
            torch.testing.assert_close(mean, (current[0] + current[1]) / 2)
            torch.testing.assert_close(by_epoch[2]["state_dict"][name], current[0])
    moved = by_epoch[2]["current_model_state"]["network.embed_points.weight"]
    assert not torch.equal(moved, by_epoch[3]["current_model_state"]["network.embed_points.weight"])
    last = load(RUN / "last.ckpt")["state_dict"]
    torch.testing.assert_close(last, by_epoch[3]["state_dict"])
    assert run_main("--test", "--baseline_only", "--checkpoint", "last") == 0


def test_fine_tuning_starts_anew_from_the_weights(run_main, capsys) -> None:
    assert run_main("--baseline_only") == 0
    before = load(RUN / "last.ckpt")
    arguments = ("--baseline_only", "--fine_tune", "--checkpoint", str(RUN / "last.ckpt"), "--log_dir", "tuned")
    assert run_main(*arguments, settings=("train_params.learning_rate=1.0e-30",)) == 0
    printed, began = capsys.readouterr().out, "last.ckpt (not trained on this split)"
    assert "fine-tuning" in printed and f"not trained on this split, fine-tuned from {began}" in printed
    after = load(Path("logs/SemanticKITTI/tuned/version_0/last.ckpt"))
    assert after["global_step"] == 4 and after["epoch"] == 1
    assert after["2dpass"]["description"]["began_with"] == began
    assert "began_with" not in before["2dpass"]["description"]
    for name, tensor in after["state_dict"].items():
        if "running" not in name and "tracked" not in name:
            torch.testing.assert_close(tensor, before["state_dict"][name])

    assert run_main(*arguments[:-1], "new", "--new_head", settings=("train_params.learning_rate=1.0e-30",)) == 0
    assert "fine-tuning: new head of 20 classes" in capsys.readouterr().out
    new = load(Path("logs/SemanticKITTI/new/version_0/last.ckpt"))["state_dict"]
    weights = [name for name in new if "running" not in name and "tracked" not in name]
    differing = {name for name in weights if not torch.allclose(new[name], before["state_dict"][name])}
    assert differing == {"network.classifier.weight", "network.classifier.bias"}


def test_fine_tuning_for_classes_that_move(run_main, capsys) -> None:
    """A single-scan training goes on as a new one with the age of points and 25 classes, and only with --fine_tune."""
    assert run_main("--baseline_only", settings=("train_params.max_num_epochs=1",)) == 0
    multiscan = (
        "model_params.input_dims=5",
        "model_params.num_classes=26",
        f"dataset_params.label_mapping={ROOT / 'config/label_mapping/semantic-kitti-multiscan.yaml'}",
        "dataset_params.seg_labelweights=null",
    )
    arguments = ("--baseline_only", "--checkpoint", str(RUN / "last.ckpt"), "--log_dir", "tuned")
    capsys.readouterr()
    assert run_main(*arguments, settings=multiscan) == 2
    assert "with 20 of the 26 classes, unlike the network of this config; give --fine_tune" in capsys.readouterr().err
    assert run_main("--test", *arguments, settings=multiscan) == 2
    assert "was trained with another config" in capsys.readouterr().err

    settings = (*multiscan, "train_params.max_num_epochs=1", "train_params.learning_rate=1.0e-30")
    assert run_main(*arguments, "--fine_tune", "--logger", "tensorboard", settings=settings) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("fine-tuning: new ") for line in lines) == 2
    assert any(line.startswith("Moving classes: ") for line in lines)
    folder = Path("logs/SemanticKITTI/tuned/version_0")
    before, after = (load(path / "last.ckpt")["state_dict"] for path in (RUN, folder))
    old, new = (state["network.classifier.weight"] for state in (before, after))
    torch.testing.assert_close(new, old[[*range(20), 1, 7, 6, 8, 5, 4]])
    assert {"val/mIoU_moving", "val/mIoU_static"} <= read_history(folder)[0].keys()
    assert b"val/mIoU_moving" in b"".join(path.read_bytes() for path in folder.glob("events*"))

    resumed = ("--baseline_only", "--checkpoint", "last", "--log_dir", "tuned")
    assert run_main(*resumed, settings=(*settings[:-2], settings[-1])) == 0
    printed = capsys.readouterr().out
    assert "1 of 2 epochs done" in printed and "fine-tuning" not in printed


def test_pretrained_image_branch(run_main, capsys) -> None:
    assert run_main(settings=("train_params.max_num_epochs=1",)) == 0
    arguments = ("--pretrain2d", "--checkpoint", str(RUN / "last.ckpt"), "--log_dir", "other")
    settings = ("train_params.learning_rate=1.0e-30", "train_params.max_num_epochs=1", "model_params.hiden_size=6")
    assert run_main(*arguments, settings=settings) == 0
    assert "tensors taken from" in capsys.readouterr().out
    taken, given = (
        load(folder / "last.ckpt")["state_dict"]
        for folder in (Path("logs/SemanticKITTI/other/version_0"), RUN)
    )  # fmt: skip
    name = "network.image_branch.layer3.2.conv1.weight"
    torch.testing.assert_close(taken[name], given[name])
    # another width: the decoders' last layers do not fit and stay as initialised
    assert taken["network.image_branch.decoders.2.0.weight"].shape[0] == 6


def test_released_checkpoint_trains_on_and_tests(run_main, capsys, tmp_path) -> None:
    from tests.support.golden import released_state

    torch.save({"state_dict": released_state("arch_2dpass_semkitti"), "epoch": 63}, tmp_path / "best_model.ckpt")
    settings = ("model_params.hiden_size=16", "train_params.max_num_epochs=1")
    assert run_main("--test", "--checkpoint", "best_model.ckpt", settings=settings) == 0
    assert run_main("--checkpoint", "best_model.ckpt", settings=settings) == 0
    assert "optimiser and epochs start from the beginning" in capsys.readouterr().out


def test_early_stopping_and_validation_interval(run_main, capsys) -> None:
    frozen = ("train_params.learning_rate=1.0e-30", "train_params.max_num_epochs=6", "train_params.optimizer=Adam")
    impatient = ("--baseline_only", "--stop_patience", "1", "--monitor", "val/best_miou", "--resume")
    assert run_main(*impatient, settings=frozen) == 0
    epochs = len(read_history(RUN))
    assert epochs < 6
    capsys.readouterr()
    few = frozen[1].replace("6", str(epochs))
    for settings, reason in (
        (frozen, "no better val/best_miou in 1 validation(s)"),
        ((*frozen, few), f"{epochs} of {epochs} epochs"),
    ):
        before = (RUN / "last.ckpt").read_bytes()
        assert run_main(*impatient, settings=settings) == 0  # of a job that was put back into the queue
        assert f"the training is complete: {reason}" in capsys.readouterr().out
        assert (RUN / "last.ckpt").read_bytes() == before and len(read_history(RUN)) == epochs
    rarely = ("--baseline_only", "--check_val_every_n_epoch", "2", "--log_dir", "rarely")
    assert run_main(*rarely, settings=("train_params.max_num_epochs=4",)) == 0
    folder = Path("logs/SemanticKITTI/rarely/version_0")
    assert ["val/mIoU" in line for line in read_history(folder)] == [False, True, False, True]
    with (folder / "history.jsonl").open("a") as file:
        file.write('{"epoch": 4, "tr')  # killed in the middle of a line
    assert len(read_history(folder)) == 4


def test_bf16_and_debug(run_main) -> None:
    assert run_main("--baseline_only", "--precision", "bf16", "--debug") == 0
    assert all(np.isfinite(line["train/loss_epoch"]) for line in read_history(RUN))


def test_a_second_run_gets_its_own_folder(run_main) -> None:
    settings = ("train_params.max_num_epochs=1",)
    assert run_main("--baseline_only", settings=settings) == 0
    first = (RUN / "last.ckpt").read_bytes()
    assert run_main("--baseline_only", settings=settings) == 0
    assert (RUN.parent / "version_1" / "last.ckpt").is_file() and (RUN / "last.ckpt").read_bytes() == first


WRONG_COMMANDS = {
    "test without checkpoint": (["--test"], (), "--checkpoint"),
    "missing checkpoint": (["--test", "--checkpoint", "none.ckpt"], (), "none.ckpt"),
    "no run yet": (["--test", "--checkpoint", "best"], (), "best"),
    "patience of a test": (["--test", "--stop_patience", "3", "--checkpoint", "x"], (), "--stop_patience: for a tr"),
    "averaging a test": (["--test", "--SWA", "--fine_tune", "--checkpoint", "x"], (), "--SWA --fine_tune: for a tr"),
    "GPUs and the CPU": (["--gpu", "0", "1"], (), "--gpu 0 1 has no effect beside --cpu"),
    "a vote in training": (["--num_vote", "4"], (), "--num_vote"),
    "an incomplete submission": (["--test", "--submit_to_server", "--debug", "--checkpoint", "x"], (), "--debug"),
    "a log folder elsewhere": (["--log_dir", "../up"], (), "--log_dir"),
    "no log folder": (["--log_dir", " "], (), "--log_dir"),
    "machines without a launcher": (["--num_nodes", "2"], (), "torchrun"),
    "submit without test": (["--submit_to_server"], (), "--test"),
    "fine-tune nothing": (["--fine_tune"], (), "--checkpoint"),
    "a new head on nothing": (["--new_head", "--checkpoint", "x"], (), "--new_head goes with --fine_tune"),
    "a last checkpoint twice": (["--resume", "--checkpoint", "last"], (), "--resume finds the last checkpoint"),
    "a silent process of none": (["--peer_timeout", "9"], (), "--peer_timeout"),
    "a new head at a test": (
        ["--test", "--fine_tune", "--new_head", "--checkpoint", "x"],
        (),
        "--fine_tune --new_head: for a tr",
    ),
    "half precision on the CPU": (["--precision", "16"], (), "--precision"),
    "TF32 on the CPU": (["--precision", "tf32"], (), "--precision tf32 needs a CUDA device"),
    "no such config": (["--config", "config/none.yaml"], (), "none.yaml"),
    "classes of another mapping": ([], ("model_params.num_classes=17",), "num_classes"),
    "unknown key": ([], ("train_params.learning_rat=1",), "train_params.learning_rate"),
    "no such data": ([], ("dataset_params.train_data_loader.data_path=nowhere",), "nowhere"),
    "spconv on the CPU": (["--baseline_only"], ("model_params.sparse_backend=spconv",), "sparse_backend"),
    "too many processes": (["--cpu", "7"], (), "7 processes"),
}


@pytest.mark.parametrize("case", WRONG_COMMANDS)
def test_wrong_commands_end_in_one_line(run_main, capsys, case) -> None:
    arguments, settings, named = WRONG_COMMANDS[case]
    assert run_main(*arguments, settings=settings) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and named in lines[0] and "Traceback" not in error


def test_a_bad_file_in_a_loader_process_ends_in_one_line(programs, tmp_path, monkeypatch) -> None:
    """The message of a loader process comes through as it is, and what training wrote stays."""
    monkeypatch.chdir(tmp_path)
    data, settings = own_tree(tmp_path)
    bad = cut_picture(data)
    settings = (*settings, "dataset_params.train_data_loader.num_workers=1")
    done = programs.run(MAIN, *small_command(settings=settings))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert str(bad) in line
    assert (RUN / "config.yaml").is_file()


@pytest.mark.parametrize(
    "flags",
    [["--monitor", "foo"], ["--seed", "-1"], ["--save_top_k", "-2"], ["--check_val_every_n_epoch", "0"], ["--cpu", "0"],
     ["--stop_patience", "-1"], ["--num_vote", "0"], ["--gpu", "-1"], ["--gpu"], ["--num_nodes", "0"]],
    ids=" ".join,
)  # fmt: skip
def test_flags_out_of_range(flags, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        program.parse_arguments(flags)
    assert stop.value.code == 2
    assert f"error: argument {flags[0]}" in capsys.readouterr().err


def test_help_names_every_flag(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        program.parse_arguments(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    flags = """--config --config_path --gpu --seed --log_dir --monitor --stop_patience --save_top_k --SWA
        --baseline_only --check_val_every_n_epoch --test --num_vote --submit_to_server --checkpoint --fine_tune
        --new_head --pretrain2d --debug --set --cpu --precision --num_nodes --resume
        --peer_timeout"""
    for flag in flags.split():
        assert flag in text
    defaults = program.parse_arguments([])
    assert (
        DEFAULT_CONFIG == "config/2DPASS-semantickitti.yaml"
        and defaults.config is None
        and defaults.gpu == [0]
        and defaults.seed == 0
    )
    assert defaults.stop_patience == 50 and defaults.save_top_k == 1 and defaults.num_vote == 1
    assert program.parse_arguments(["--config_path", "x.yaml", "--gpu", "0", "1"]).gpu == [0, 1]
