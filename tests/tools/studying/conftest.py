"""A folder with programs in place of ours: they write what ours write, and finish at once, fail or wait when asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.studying.files import Place

_FAKE = """
import json, os, sys, time, zipfile
from pathlib import Path

words = sys.argv[1:]
def value(flag, usual=""):
    return words[words.index(flag) + 1] if flag in words else usual

name = Path(sys.argv[0]).stem
run = value("--log_dir", name)
with open("started.txt", "a") as log:
    log.write(f"{run} {'test' if '--test' in words else name} {value('--checkpoint', '-')}\\n")
folder = Path("logs/SemanticKITTI") / run
if name.startswith("make_"):
    Path(value("--output", "dataset/study/SemanticKITTI-C")).mkdir(parents=True, exist_ok=True)
    sys.exit()
if "--test" in words:
    scores = {"val/mIoU": 0.5, "num_vote": int(value("--num_vote"))}
    target = folder / f"test_{value('--num_vote')}"
    target.mkdir(exist_ok=True)
    (target / "scores.json").write_text(json.dumps(scores))
    sys.exit()
if Path(f"fail_{run}").exists():
    print("error: as it was told")
    sys.exit(2)
version = folder / "version_0"
version.mkdir(parents=True, exist_ok=True)
history = version / "history.jsonl"
for epoch in range(len(history.read_text().splitlines()) if history.exists() else 0, 3):
    with history.open("a") as file:
        file.write(json.dumps({"epoch": epoch, "train/loss_ce_epoch": 1.0}) + "\\n")
    with zipfile.ZipFile(version / "last.ckpt", "w") as file:
        file.writestr("epoch", str(epoch))
    while Path(f"wait_{run}_{epoch}").exists():
        time.sleep(0.02)
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Makes the folder."""
    (tmp_path / "tools").mkdir()
    for name in ("main.py", "tools/make_demo_data.py", "tools/make_corruptions.py"):
        (tmp_path / name).write_text(_FAKE)
    return Place(tmp_path)


def started(place: Place) -> list[str]:
    """Lists the commands that were started: run, what, checkpoint."""
    path = place.root / "started.txt"
    return path.read_text().splitlines() if path.exists() else []
