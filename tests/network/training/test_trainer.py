"""What training keeps beside its checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

from network.training.callbacks import read_history
from utils.results.run_folder import HISTORY


def test_damaged_lines_of_a_history_are_left_out(tmp_path: Path) -> None:
    whole = [{"epoch": epoch, "val/mIoU": epoch / 10} for epoch in range(4)]
    damaged = ['{"epoch": 9, "val/', "[9]", '{"epoch": "9"}', '{"epoch": true}', "9", "[" * 100_000, "\udcff", "\0"]
    lines = [json.dumps(line) for line in [*whole, {"epoch": 2, "val/mIoU": "high", "train/loss_epoch": 0.5}]]
    text = "\n".join(text for pair in zip(lines, damaged[: len(lines)], strict=True) for text in pair)
    text += "\n" + "\n".join(damaged[len(lines) :])
    (tmp_path / HISTORY).write_bytes(text.encode("utf-8", errors="surrogateescape"))
    assert read_history(tmp_path) == [whole[0], whole[1], {"epoch": 2, "train/loss_epoch": 0.5}, whole[3]]
    assert read_history(tmp_path / "nowhere") == []
