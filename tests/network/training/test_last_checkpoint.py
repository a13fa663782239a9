"""When last.ckpt is written: not all the time where epochs are short, but always after the last one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from network.training.last_checkpoint import LastCheckpoint

WEIGHTS = 2_500_000  # 10 MB: one second


class Linear(pl.LightningModule):
    """Some megabytes to write."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(WEIGHTS))

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return (self.weight[:1] * batch).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class StopAfter(pl.Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch == self.epoch


@pytest.mark.parametrize(
    ("seconds", "epochs", "stop", "written"),
    [
        (0.4, 9, 99, [0, 3, 6, 8]),  # one second is over in the third epoch after
        (0.4, 9, 4, [0, 3, 4]),
        (5.0, 3, 99, [0, 1, 2]),
        (0.0, 5, 99, [0, 4]),
    ],
)
def test_last_is_written_so_often(tmp_path: Path, monkeypatch, seconds, epochs, stop, written) -> None:
    last, found = LastCheckpoint(tmp_path, "last"), []
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=epochs, callbacks=[StopAfter(stop), last], logger=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    clock = SimpleNamespace(monotonic=lambda: seconds * trainer.current_epoch)
    monkeypatch.setattr("network.training.last_checkpoint.time", clock)
    save = trainer.save_checkpoint
    monkeypatch.setattr(
        trainer, "save_checkpoint", lambda *arguments: (found.append(trainer.current_epoch), save(*arguments))
    )
    trainer.fit(Linear(), DataLoader([torch.ones(1)], batch_size=None))  # type: ignore[arg-type]
    assert found == written
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == written[-1]
