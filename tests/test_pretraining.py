"""--pretrain_distill end to end: no label is read, it resumes exactly, and a fine-tuning takes what it has learned."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from network.teachers.resnet34 import ImageBranch
from network.training.callbacks import read_history
from network.training.task import SegmentationTask
from network.weights.loading import canonical_state
from predict import main as predict_main
from tests.conftest import TREE
from tests.test_main import RUN, load
from tests.test_resuming import assert_the_same_run, differing, final_state
from utils.command.process import run_program

PLATEAU = tuple(f"train_params.{x}" for x in ("lr_scheduler=ReduceLROnPlateau", "decay_step=1", "decay_rate=0.5"))
TINY = ("model_params.scale_list=[2,4]", "dataset_params.training_size=2")
LOGS = Path("logs/SemanticKITTI")


@pytest.fixture
def pretrain(run_main, tmp_path: Path):
    """Runs a pre-training whose teacher is a ResNet-34 of a file."""
    torch.manual_seed(3)
    torch.save(ImageBranch(4, (2, 4)).state_dict(), tmp_path / "teacher.pt")

    def run(*arguments: str, settings: tuple[str, ...] = ()) -> int:
        teacher = () if "--checkpoint" in arguments else ("--pretrain2d", "--checkpoint", "teacher.pt")
        return run_main("--pretrain_distill", *teacher, *arguments, settings=(*TINY, *settings))

    return run


def spoilt_tree(folder: Path) -> Path:
    """Copies the data; all label files hold nonsense of a wrong length, and those of validation are gone."""
    tree = Path(shutil.copytree(TREE, folder / "sequences"))
    for path in tree.glob("*/labels/*.label"):
        path.write_bytes(b"no labels")
    shutil.rmtree(tree / "08" / "labels")
    return tree


def test_no_label_is_read_and_fine_tuning_takes_the_rest(pretrain, run_main, tmp_path: Path, capsys) -> None:
    assert pretrain() == 0
    tree = spoilt_tree(tmp_path)
    unlabelled = [f"dataset_params.{part}_data_loader.data_path={tree}" for part in ("train", "val")]
    mixing = ("dataset_params.dataset_type=point_image_dataset_mix_semkitti",)  # takes labels: left out
    assert pretrain("--log_dir", "blind", settings=(*unlabelled, *mixing)) == 0
    assert "leaves out what is about them: dataset_params.dataset_type point_image" in capsys.readouterr().out
    blind = LOGS / "blind" / "version_0"
    assert read_history(blind) == read_history(RUN)
    parts = ("state_dict", "optimizer_states")
    assert [differing(final_state(blind)[part], final_state(RUN)[part]) for part in parts] == [[], []]

    learned = canonical_state(load(RUN / "last.ckpt"), RUN)
    still = "train_params.learning_rate=1.0e-30", "train_params.max_num_epochs=1"
    for flags, new in (((), "classifier, distillation"), (("--baseline_only",), "classifier")):
        arguments = ("--log_dir", "tuned", "--fine_tune", "--checkpoint", str(RUN / "last.ckpt"), *flags)
        assert run_main(*arguments, settings=(*TINY, *still)) == 0
        assert f"teaches no class: {new}\n" in capsys.readouterr().out
        folder = sorted((LOGS / "tuned").glob("version_*"))[-1]
        tuned = canonical_state(load(folder / "last.ckpt"), folder)
        both = [name for name in tuned if name in learned and name.endswith(("weight", "bias"))]  # no statistics
        assert all(torch.allclose(tuned[name], learned[name], atol=1e-5) for name in both)
        prefixes = {name.split(".")[0] for name in both}
        assert prefixes == ({"network_3d"} if flags else {"network_3d", "image_branch"})


def test_a_pretraining_that_was_killed_goes_on(pretrain, monkeypatch) -> None:
    class Killed(BaseException):
        pass

    assert pretrain("--log_dir", "whole") == 0
    step = SegmentationTask.training_step

    def killed(task, batch, number):
        if task.current_epoch == 1:
            raise Killed
        return step(task, batch, number)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationTask, "training_step", killed)
        with pytest.raises(Killed):
            pretrain()
    assert pretrain("--checkpoint", "last") == 0
    assert len(read_history(RUN)) == 2
    assert_the_same_run(RUN, LOGS / "whole" / "version_0")


def test_what_a_pretraining_cannot_do_is_one_line(pretrain, run_main, capsys) -> None:
    def refusal(run) -> str:
        capsys.readouterr()
        assert run() == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert pretrain(settings=("train_params.max_num_epochs=1",)) == 0
    last = str(RUN / "last.ckpt")
    assert "fine-tune it first" in refusal(lambda: run_main("--test", "--checkpoint", last))
    scan = str(TREE / "08" / "velodyne" / "000000.bin")
    arguments = ["--checkpoint", last, "--cpu", "--output", "out", scan]
    assert "fine-tune it first" in refusal(lambda: run_program(lambda: predict_main(arguments)))
    flags = ("--fine_tune", "--new_head", "--checkpoint", last)
    assert "leave out --new_head" in refusal(lambda: run_main(*flags, settings=TINY))
    assert "give --fine_tune" in refusal(lambda: run_main("--checkpoint", last, settings=TINY))
    for flags, settings, expected in (
        ((), (), "needs a teacher that has learned"),
        (("--baseline_only",), (), "no --baseline_only"),
        (("--checkpoint", "teacher.pt"), (), "is not of a pre-training"),
        (("--monitor", "val/acc"), (), "--monitor: about validations"),
        (("--pretrain2d", "--checkpoint", last), ("model_params.scale_list=[2,4,8]",), "whole ResNet-34"),
        (
            ("--pretrain2d", "--checkpoint", last),
            (*TINY, *PLATEAU),
            "choose another",
        ),
    ):
        assert expected in refusal(lambda f=flags, s=settings: run_main("--pretrain_distill", *f, settings=s))
