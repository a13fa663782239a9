"""The folders of runs: logs/<dataset>/<log_dir>/version_<n> of a training, .../test_<date> of a test."""

from __future__ import annotations

import re
import shlex
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.errors import UserError
from utils.fetching.references import FORMS, Note, is_reference
from utils.locks import Lock, stamp
from utils.names import is_folder_name
from utils.paths import expand_home
from utils.results.fetching import fetch
from utils.results.published import model_file
from utils.text import printable

LAST = "last"
HISTORY = "history.jsonl"
SCORES = "scores.json"
"""Scores of a test, and their conditions."""
TRAINING_SCANS = "training_scans.txt"
"""The file that lists the scans of a training on a part of them (`dataset_params.label_fraction`)."""


def _versions(root: Path) -> list[Path]:
    found = [p for p in root.glob("version_*") if p.name.removeprefix("version_").isdigit()]
    return sorted(found, key=lambda p: int(p.name.removeprefix("version_")))


def find_checkpoint(name: str, root: Path, note: Note = print) -> Path:
    """Finds the checkpoint that --checkpoint names.

    Args:
        name: a path of a file or of a published folder, a reference to the network (see
            `utils.results.fetching.fetch`), or `last` or `best` for the newest run below `root` that has such a
            checkpoint.
        root: logs/<dataset>/<log_dir>.
        note: called at once with each line for the user, about a checkpoint that is skipped or fetched.

    Returns:
        The file of the weights.

    Raises:
        UserError: there is none, or it cannot be fetched, or `last` is damaged; the message then names another
            checkpoint, if there is one.
    """
    if name not in (LAST, "best"):
        return checkpoint_at(name, note)
    for folder in reversed(_versions(root)):
        found = _in_folder(folder, name)
        whole = [path for path in found if _is_whole(path)]
        if name == LAST and found and found[-1] not in whole:
            raise UserError(f"{found[-1]}: damaged or incomplete; {_instead(folder)}")
        if name != LAST and len(whole) < len(found):
            damaged = next(path for path in found if path not in whole)
            note(f"note: {damaged} is damaged or incomplete and is skipped ({len(found) - len(whole)} in {folder})")
        if whole:
            return whole[-1] if name == LAST else _best(whole)
    here = f"; what is called {name} here is ./{name}" if Path(name).exists() else ""
    raise UserError(
        f"{root}: no run there has a {name} checkpoint yet; train first, or give a path to --checkpoint{here}"
    )


def checkpoint_at(name: str, note: Note = print) -> Path:
    """Finds a checkpoint by its path, or on the network.

    Args:
        name: a path of a file or of a published folder, or a reference to the network (see
            `utils.results.fetching.fetch`).
        note: called at once with each line for the user about what is fetched.

    Returns:
        The file of the weights.

    Raises:
        UserError: there is none, or it cannot be fetched.
    """
    path = fetch(name, note) if is_reference(name) else expand_home(name)
    if path.is_dir():
        return model_file(path)
    if not path.is_file():
        raise UserError(f"{name}: no such checkpoint; --checkpoint takes {FORMS}")
    return path


def has_checkpoint(name: str, root: Path) -> bool:
    """Returns whether a run below `root` has a checkpoint `last` or `best`, whole or not."""
    return any(_in_folder(folder, name) for folder in _versions(root))


def root_with(name: str, log_dir: str) -> Path:
    """Finds the folder of --log_dir, where the data set is not known, by the runs that have the checkpoint.

    Args:
        name: see `find_checkpoint`; for a path, the folder returned is a pattern for any data set.
        log_dir: the name of the run.

    Raises:
        UserError: no data set has a run of that name with such a checkpoint, or several have.
    """
    anywhere = _root("*", log_dir)
    if name not in (LAST, "best"):
        return anywhere
    roots = [_root(dataset.name, log_dir) for dataset in sorted(Path("logs").glob("*")) if dataset.is_dir()]
    found = [root for root in roots if has_checkpoint(name, root)]
    if len(found) > 1:
        raise UserError(
            f"--checkpoint {name}: {' and '.join(map(str, found))} both have one; give the config of one of them to "
            "--config, or the path of a checkpoint"
        )
    return found[0] if found else anywhere


def _in_folder(folder: Path, name: str) -> list[Path]:
    """Lists the checkpoints of a run whose names begin with `name`, the newest last."""
    found = [path for path in folder.glob(f"{name}*.ckpt") if path.exists()]  # not a broken link
    return sorted(found, key=lambda path: path.stat().st_mtime)


def _is_whole(path: Path) -> bool:
    """Returns whether a file is complete: its list of contents, which is written last, is there."""
    return path.is_file() and zipfile.is_zipfile(path)


def _instead(folder: Path) -> str:
    """Returns a remedy for a run whose last checkpoint cannot be read."""
    whole = [path for path in _in_folder(folder, "best") if _is_whole(path)]
    if not whole:
        return "the run has no other, so train again"
    return f"go on from the best one, of an earlier epoch: --checkpoint {shlex.quote(str(_best(whole)))}"


def _best(checkpoints: list[Path]) -> Path:
    """Returns the checkpoint with the highest score in its name (best-epoch=03-val_mIoU=0.6871.ckpt).

    Among equals it is the newest. A run that was resumed with another --monitor has files of both scores, which do not
    compare: only files with the score of the newest one count.

    Args:
        checkpoints: paths, the newest last.
    """

    def parts(path: Path) -> tuple[str, str]:
        text = re.sub(r"-v\d+$", "", path.stem)  # Lightning adds -v1 to a name that exists
        before, _, number = text.rpartition("=")
        return re.sub(r"^best-epoch=\d+-", "", before), number

    def score(path: Path) -> float:
        try:
            return float(parts(path)[1])
        except ValueError:
            return float("-inf")

    monitored = next((parts(path)[0] for path in reversed(checkpoints) if "=" in path.stem), "")
    return max((path for path in reversed(checkpoints) if parts(path)[0] == monitored), key=score)


def run_root(dataset: str, log_dir: str) -> Path:
    """Returns logs/<dataset>/<log_dir>.

    Raises:
        UserError: `log_dir` is empty, leads out of logs/<dataset>, or is no valid text, which TensorBoard needs; or
            `dataset`, which a config may hold unchecked, cannot be the name of a folder.
    """
    if not is_folder_name(dataset):
        raise UserError(f"dataset_params.pc_dataset_type: {dataset!r} is not the name of a data set")
    return _root(dataset, log_dir)


def _root(dataset: str, log_dir: str) -> Path:
    """Returns logs/<dataset>/<log_dir> after a check of `log_dir` alone; `dataset` may be a pattern."""
    if printable(log_dir) != log_dir:
        raise UserError(f"--log_dir {log_dir!r} holds what is no text in this shell's encoding; choose another name")
    if not log_dir.strip() or Path(log_dir).is_absolute() or ".." in Path(log_dir).parts:
        raise UserError(f"--log_dir {log_dir!r} must name a folder below logs/{dataset}")
    return Path("logs") / dataset / log_dir


def training_folder(root: Path, resumed: Path | None, make: bool = True) -> Path:
    """Returns the folder of a training run: of the resumed checkpoint, if that is below `root`, else a new version.

    Args:
        root: logs/<dataset>/<log_dir>.
        resumed: the checkpoint to resume from, or None.
        make: whether to make the new folder, which then belongs to this run alone, or only to name it. One process
            makes it, and tells the others.
    """
    if resumed is not None and resumed.resolve().parent in [p.resolve() for p in _versions(root)]:
        return resumed.parent
    versions = _versions(root)
    number = int(versions[-1].name.removeprefix("version_")) + 1 if versions else 0
    while make:
        try:
            (root / f"version_{number}").mkdir(parents=True)
            break
        except FileExistsError:  # another run began at this moment
            number += 1
    return root / f"version_{number}"


@contextmanager
def only_training_in(folder: Path) -> Iterator[None]:
    """Locks the folder, so that no other training writes to it at the same time.

    Raises:
        UserError: another training has locked it.
    """
    lock = Lock(folder / ".lock")
    if not lock.acquire(wait=False):
        raise UserError(f"{folder}: another training is running in it; wait for its end, or start a new run")
    try:
        yield
    finally:
        lock.release()


def test_folder(root: Path) -> Path:
    """Returns the folder for the results of a test, named by date and time; see `EvaluationOutput.make_folder`."""
    return root / stamp("test_")
