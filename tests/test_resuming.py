"""A run that was killed goes on as if it had not been; one that is to go on otherwise says so, or does not."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

from network.training.callbacks import read_history
from network.training.task import SegmentationTask
from network.weights.description import read_description
from tests.conftest import small_command
from tests.test_main import KILLED_IN_THE_THIRD_EPOCH, RUN, load

LONG_ENOUGH = (
    "train_params.optimizer=SGD", "train_params.learning_rate=0.05", "dataset_params.training_size=2",
)  # fmt: skip
ONE_LOADER = ("dataset_params.train_data_loader.num_workers=1", "dataset_params.val_data_loader.num_workers=1")


def final_state(folder: Path) -> dict:
    """What the last checkpoint holds, but for where it lies and what was logged on the way."""
    content = load(folder / "last.ckpt")
    return {key: value for key, value in content.items() if key not in ("callbacks", "loops")}


def assert_the_same_run(folder: Path, whole: Path) -> None:
    """Losses and scores of every epoch, weights, optimiser and schedule, to the last bit."""
    assert read_history(folder) == read_history(whole)
    assert differing(final_state(folder), final_state(whole)) == []


def differing(a: object, b: object, place: str = "") -> list[str]:
    """Where two nested records are not the same to the last bit."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [found for key in a for found in differing(a[key], b[key], f"{place}.{key}")]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [found for i in range(len(a)) for found in differing(a[i], b[i], f"{place}.{i}")]
    same = torch.equal(a, b) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) else a == b
    return [] if same else [f"{place}: {a}, {b}"]


def test_a_killed_run_resumes_exactly(run_main, programs) -> None:
    """kill -9 in the third epoch, --checkpoint last, with loader processes: as if nothing had happened."""
    settings = (*LONG_ENOUGH, *ONE_LOADER, "train_params.max_num_epochs=4")
    command = small_command("--baseline_only", settings=settings)
    Path("script.py").write_text(KILLED_IN_THE_THIRD_EPOCH)
    killed = programs.run(Path("script.py"), *command)
    assert killed.returncode == -signal.SIGKILL
    assert [line["epoch"] for line in read_history(RUN)] == [0, 1]
    assert run_main("--baseline_only", "--checkpoint", "last", settings=settings) == 0
    assert run_main("--baseline_only", "--log_dir", "whole", settings=settings) == 0
    assert [line["epoch"] for line in read_history(RUN)] == [0, 1, 2, 3]
    assert_the_same_run(RUN, Path("logs/SemanticKITTI/whole/version_0"))


class Killed(BaseException):
    """Ends a run as SIGKILL does, as far as its files can tell."""


@pytest.fixture
def kill_in(monkeypatch):
    """Set the epochs in which the next runs end before their first step, one each."""
    epochs: list[int] = []
    begin = SegmentationTask.on_train_epoch_start

    def die(self) -> None:
        if self.current_epoch in epochs[:1]:
            raise Killed(epochs.pop(0))
        begin(self)

    monkeypatch.setattr(SegmentationTask, "on_train_epoch_start", die)
    return epochs


VARIANTS = {
    "a cosine per epoch, averaging, few validations": (
        ("--SWA", "--check_val_every_n_epoch", "2"),
        ("train_params.lr_scheduler=CosineAnnealingLR", "train_params.swa_epoch_start=0.4"),
    ),
    "steps, loader processes": (
        (),
        ("train_params.lr_scheduler=StepLR", "train_params.decay_step=2", "train_params.decay_rate=0.5", *ONE_LOADER),
    ),
    "a plateau": (
        ("--monitor", "val/best_miou"),
        (
            "train_params.lr_scheduler=ReduceLROnPlateau", "train_params.decay_step=1", "train_params.decay_rate=0.5",
            "train_params.learning_rate=1.0e-6",  # nothing gets better, so it falls
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_that_was_killed_twice_is_as_one_that_was_not(run_main, kill_in, variant) -> None:
    arguments, settings = VARIANTS[variant]
    settings = (*LONG_ENOUGH, "train_params.max_num_epochs=6", *settings)
    assert run_main("--baseline_only", *arguments, "--log_dir", "whole", settings=settings) == 0
    kill_in += [3, 4]
    for resume in ((), ("--checkpoint", "last")):
        with pytest.raises(Killed):
            run_main("--baseline_only", *arguments, *resume, settings=settings)
    assert run_main("--baseline_only", *arguments, "--checkpoint", "last", settings=settings) == 0
    assert_the_same_run(RUN, Path("logs/SemanticKITTI/whole/version_0"))
    assert read_description(final_state(RUN), RUN) is not None
    (group,) = final_state(RUN)["optimizer_states"][0]["param_groups"]
    assert group["lr"] < float(settings[-1].partition("=")[2]) or variant != "a plateau"


def test_a_best_checkpoint_holds_what_the_last_one_of_its_epoch_does(run_main) -> None:
    """Also where not every epoch is validated, and the best one is written before the epoch ends: a plateau counts."""
    settings = (*LONG_ENOUGH, "train_params.max_num_epochs=2", *VARIANTS["a plateau"][1])
    assert run_main("--baseline_only", "--check_val_every_n_epoch", "2", settings=settings) == 0
    (best,) = RUN.glob("best-*.ckpt")
    states = [load(path) for path in (best, RUN / "last.ckpt")]
    assert states[0]["2dpass"]["plateau"]["last_epoch"] == 1
    assert read_description(states[0], best) is not None
    parts = ("epoch", "global_step", "2dpass", "optimizer_states", "state_dict")
    assert [differing(states[0][part], states[1][part], part) for part in parts] == [[]] * len(parts)


LENGTHS = {
    "steps per epoch": ("CosineAnnealingWarmRestarts", (), ("dataset_params.train_data_loader.batch_size=2",)),
    "epochs and scans": (
        "CosineAnnealingWarmRestarts",
        (),
        ("train_params.max_num_epochs=6", "dataset_params.training_size=7"),
    ),
    "epochs": ("CosineAnnealingLR", (), ("train_params.max_num_epochs=7",)),
    "no matter": (
        "StepLR",
        ("train_params.decay_step=2", "train_params.decay_rate=0.5"),
        ("dataset_params.train_data_loader.batch_size=2",),
    ),
}


@pytest.mark.parametrize("case", LENGTHS)
def test_a_run_of_another_length_goes_on_as_if_it_always_had_it(run_main, kill_in, monkeypatch, capsys, case) -> None:
    """The learning rate of every step after the resume is that of a whole run of the new length."""
    schedule, settings, change = LENGTHS[case]
    settings = (*LONG_ENOUGH, f"train_params.lr_scheduler={schedule}", "train_params.max_num_epochs=5", *settings)
    rates: dict[int, list[float]] = {}

    def note(self, batch, batch_idx) -> None:
        rates.setdefault(self.current_epoch, []).append(self.trainer.optimizers[0].param_groups[0]["lr"])
        self.guard.remember()

    monkeypatch.setattr(SegmentationTask, "on_train_batch_start", note)
    assert run_main("--baseline_only", "--log_dir", "whole", settings=(*settings, *change)) == 0
    whole, _ = dict(rates), rates.clear()
    kill_in.append(2)
    with pytest.raises(Killed):
        run_main("--baseline_only", settings=settings)
    rates.clear()
    capsys.readouterr()
    assert run_main("--baseline_only", "--checkpoint", "last", settings=(*settings, *change)) == 0
    assert rates == {epoch: rate for epoch, rate in whole.items() if epoch >= 2}
    printed = capsys.readouterr().out
    assert "note: changed since this run was begun, and taken as it is now: " in printed
    assert all(text.partition("=")[0] in printed for text in change)
    assert ("the learning rate goes on where it would be after 2 of" in printed) == (case != "no matter")


def test_a_training_on_few_labels_lists_its_scans_and_stays_one(run_main, capsys) -> None:
    few = ("dataset_params.label_fraction=0.3", "dataset_params.training_size=null", "train_params.max_num_epochs=1")
    assert run_main("--baseline_only", "--seed", "1", settings=few) == 0
    (listed,) = (RUN / "training_scans.txt").read_text().splitlines()
    assert listed in ("00/000000", "00/000001", "00/000002")
    content = load(RUN / "last.ckpt")
    assert content["global_step"] == 1 and content["2dpass"]["settings"]["training scans"].startswith("1 (")
    assert run_main("--baseline_only", "--log_dir", "other", "--seed", "2", settings=few) == 0
    assert Path("logs/SemanticKITTI/other/version_0/training_scans.txt").read_text() == f"{listed}\n"
    more = (few[0].replace("0.3", "0.7"), *few[1:-1], "train_params.max_num_epochs=2")
    assert run_main("--baseline_only", "--checkpoint", "last", settings=more) == 2
    assert "dataset_params.label_fraction was 0.3, is 0.7" in capsys.readouterr().err
    assert (RUN / "training_scans.txt").read_text() == f"{listed}\n"
