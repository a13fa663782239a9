"""Shared by all tests: a small experiment on the golden SemanticKITTI tree, a way to run commands on it, and small
made-up data sets."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch is imported, as `utils.command.start.begin` has it

import main as program
from tests.support import warm
from tests.support.demo import TINY, TINY_NUSCENES
from tests.support.pictures import leave_out_pictures
from tools.demo_world import nuscenes, semantickitti
from utils.command.process import run_program

pytest_plugins = ["tests.support.data_fixtures", "tests.support.foundations"]

ROOT = Path(__file__).resolve().parents[1]
TREE = ROOT / "tests" / "golden" / "semantickitti_tree" / "sequences"

SMALL_EXPERIMENT = [
    f"dataset_params.train_data_loader.data_path={TREE}",
    f"dataset_params.val_data_loader.data_path={TREE}",
    "dataset_params.train_data_loader.num_workers=0",
    "dataset_params.val_data_loader.num_workers=0",
    "dataset_params.train_data_loader.batch_size=1",
    "dataset_params.bottom_crop=[320,80]",
    "model_params.hiden_size=4",
    "train_params.max_num_epochs=2",
]


def small_command(*arguments: str, settings: tuple[str, ...] = ()) -> list[str]:
    """Arguments of main.py for the small experiment; without trackers, unless `arguments` name some."""
    config = str(ROOT / "config" / "2DPASS-demo.yaml")
    quiet = () if {"--logger", "--test"} & set(arguments) else ("--logger", "none")  # their pictures take time
    return ["--config", config, "--cpu", *quiet, *arguments, "--set", *SMALL_EXPERIMENT, *settings]


@pytest.fixture
def run_main(run_main_and_draw: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """As `run_main_and_draw`, without pictures."""
    leave_out_pictures(monkeypatch)
    return run_main_and_draw


@pytest.fixture
def run_main_and_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run main.py's small experiment in an empty folder, in this process; returns the exit code."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, settings: tuple[str, ...] = ()) -> int:
        return run_program(lambda: program.main(small_command(*arguments, settings=settings)))

    return run


@pytest.fixture(scope="session")
def programs() -> Iterator[warm.Server]:
    """Programs in processes of their own, started without their imports."""
    with warm.serving() as server:
        yield server


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make` fills, once for all processes of the test run; not to be written to."""
    of_all = factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else factory.getbasetemp()
    folder, done = of_all / name, of_all / f"{name}.done"
    with open(of_all / f"{name}.lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


def _write_demo_trees(folder: Path) -> None:
    semantickitti.write_tree(folder / "sequences", TINY)
    nuscenes.write_tree(folder / "nuscenes", TINY_NUSCENES)


@pytest.fixture(scope="session")
def demo_trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`data_path` of a tiny made-up data set of each kind, by `pc_dataset_type`; not to be written to."""
    folder = made_once(tmp_path_factory, "demo", _write_demo_trees)
    return {"SemanticKITTI": folder / "sequences", "nuScenes": folder / "nuscenes"}
