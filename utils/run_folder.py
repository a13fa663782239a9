"""Where a run's files lie: logs/<dataset>/<log_dir>/version_<n> for training, .../test_<date> for a test."""

from __future__ import annotations

import re
import time
from pathlib import Path

from utils.config import expand_home
from utils.errors import UserError

LAST = "last"
HISTORY = "history.jsonl"


def _versions(root: Path) -> list[Path]:
    found = [p for p in root.glob("version_*") if p.name.removeprefix("version_").isdigit()]
    return sorted(found, key=lambda p: int(p.name.removeprefix("version_")))


def find_checkpoint(name: str, root: Path) -> Path:
    """The checkpoint that --checkpoint names.

    Args:
        name: a path, or `last` or `best`: that of the newest run below `root` that has one.
        root: logs/<dataset>/<log_dir>.

    Raises:
        UserError: there is none.
    """
    if name not in (LAST, "best"):
        path = expand_home(name)
        if not path.is_file():
            raise UserError(f"{name}: no such checkpoint; --checkpoint takes a path, or `last` or `best` of --log_dir")
        return path
    for folder in reversed(_versions(root)):
        found = sorted(folder.glob(f"{name}*.ckpt"), key=lambda p: p.stat().st_mtime)
        if found:
            return found[-1] if name == LAST else _best(found)
    raise UserError(f"{root}: no run there has a {name} checkpoint yet; train first, or give a path to --checkpoint")


def _best(checkpoints: list[Path]) -> Path:
    """The highest score in the file names (…=0.6871.ckpt); among equals the newest."""

    def score(path: Path) -> float:
        text = re.sub(r"-v\d+$", "", path.stem).rpartition("=")[2]  # Lightning adds -v1 to a name that exists
        try:
            return float(text)
        except ValueError:
            return float("-inf")

    return max(reversed(checkpoints), key=score)


def run_root(dataset: str, log_dir: str) -> Path:
    """logs/<dataset>/<log_dir>.

    Raises:
        UserError: `log_dir` is empty or leads out of there.
    """
    if not log_dir.strip() or Path(log_dir).is_absolute() or ".." in Path(log_dir).parts:
        raise UserError(f"--log_dir {log_dir!r} must name a folder below logs/{dataset}")
    return Path("logs") / dataset / log_dir


def training_folder(root: Path, resumed: Path | None) -> Path:
    """The folder of a training run: that of the checkpoint it resumes if it lies below `root`, else a new version."""
    if resumed is not None and resumed.resolve().parent in [p.resolve() for p in _versions(root)]:
        return resumed.parent
    versions = _versions(root)
    number = int(versions[-1].name.removeprefix("version_")) + 1 if versions else 0
    return root / f"version_{number}"


def test_folder(root: Path) -> Path:
    """A new folder for the results of a test, named by date and time."""
    return root / f"test_{time.strftime('%Y-%m-%d_%H-%M-%S')}"
