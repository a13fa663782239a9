"""Callbacks that keep the best checkpoints of a run, and that stop it when it no longer improves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from network.training.last_checkpoint import LightningsKey
from network.training.resuming import BEST_FILE


class BestCheckpoints(LightningsKey, ModelCheckpoint):
    """Keeps the checkpoints of the best scores; a resumed run goes on with those that lie in its folder.

    Checkpoints hold the names of these files, not their paths, and only files of such a name in the run's own folder
    are ever removed.

    Args:
        folder: the run's folder.
        monitor: the score to maximise.
        save_top_k: how many are kept; -1: every one.
    """

    def __init__(self, folder: Path, monitor: str, save_top_k: int) -> None:
        super().__init__(
            dirpath=folder,
            filename=f"best-epoch={{epoch:02d}}-{monitor.replace('/', '_')}={{{monitor}:.4f}}",
            auto_insert_metric_name=False,
            monitor=monitor,
            mode="max",
            save_top_k=save_top_k,
            enable_version_counter=False,  # the same name is the same epoch, trained again after an interruption
        )

    def state_dict(self) -> dict[str, Any]:
        """Returns what a checkpoint stores: the scores of the best checkpoints, by file name."""
        return {"best_k_models": {Path(path).name: float(score) for path, score in self.best_k_models.items()}}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restores the scores of the best checkpoints.

        Args:
            state_dict: holds `best_k_models`, the scores by file name.
        """
        scores = state_dict["best_k_models"].items()
        self.best_k_models = {str(self._path(name)): torch.tensor(score) for name, score in scores}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keeps the files that still exist, and removes those beyond the present --save_top_k."""
        super().on_train_start(trainer, pl_module)
        found = {path: score for path, score in self.best_k_models.items() if self._is_ours(Path(path))}
        # The processes decide together what to keep, and may see different folders: the first one's counts.
        found = trainer.strategy.broadcast(found)
        ranked = sorted(found, key=lambda path: float(found[path]), reverse=True)
        kept = ranked if self.save_top_k < 1 else ranked[: self.save_top_k]
        self.best_k_models = {path: found[path] for path in kept}
        self.best_model_path = kept[0] if kept else ""
        self.best_model_score = found[kept[0]] if kept else None
        self.kth_best_model_path = kept[-1] if kept else ""
        self.kth_value = found[kept[-1]] if kept else torch.tensor(-torch.inf)
        for path in ranked[len(kept) :]:
            self._remove_checkpoint(trainer, path)

    def _path(self, name: str) -> Path:
        return Path(str(self.dirpath)) / name

    def _is_ours(self, path: Path) -> bool:
        """Returns whether a path is one of these files and lies in the run's folder."""
        named = path == self._path(path.name) and BEST_FILE.fullmatch(path.name) is not None
        return named and path.is_file() and not path.is_symlink()

    def _remove_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        resumed = trainer.ckpt_path is not None and Path(trainer.ckpt_path).resolve() == Path(filepath).resolve()
        if self._is_ours(Path(filepath)) and not resumed:
            super()._remove_checkpoint(trainer, filepath)


class Patience(LightningsKey, EarlyStopping):
    """Stops a training that has not improved for some validations; a resumed run uses the patience of its own flag.

    Args:
        monitor: the score to maximise.
        patience: number of validations without a better score.
    """

    def __init__(self, monitor: str, patience: int) -> None:
        super().__init__(monitor, mode="max", patience=patience)

    def ended(self, states: Mapping[str, Any]) -> int:
        """Returns how many validations without a better score have ended a training; 0: it has not ended so.

        Args:
            states: checked states of the callbacks in a checkpoint, by key.
        """
        waited = states.get(self.state_key, {"wait_count": 0})["wait_count"]
        return waited if waited >= self.patience else 0

    def state_dict(self) -> dict[str, Any]:
        """Returns what a checkpoint stores: the validations without a better score, and the best score."""
        return {"wait_count": self.wait_count, "best_score": float(self.best_score)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restores the count and the best score, nothing else."""
        self.wait_count = state_dict["wait_count"]
        self.best_score = torch.tensor(state_dict["best_score"])
