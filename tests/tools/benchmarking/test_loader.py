from __future__ import annotations

import os

import pytest

from tools import benchmark
from tools.benchmarking import frame
from tools.benchmarking.loader import command, page_cache
from tools.benchmarking.loader.page_cache import evict, separate
from tools.demo_world.options import DemoOptions

TINY_SWEEP = DemoOptions(1, 1, 1, beams=8, azimuth_steps=64, image_size=(64, 32), workers=1)
BATCHES = ["dataset_params.train_data_loader.batch_size=2", "dataset_params.val_data_loader.batch_size=1"]


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the benchmark on tiny scans; returns the cells of the rows, and the whole text."""
    monkeypatch.setattr(frame, "FULL_SIZE", TINY_SWEEP)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)

    def run(*flags):
        output = tmp_path / "loader.md"
        common = ["--scans", "5", "--runs", "1", "--output", str(output)]
        settings = ["dataset_params.bottom_crop=[64,32]", *BATCHES]
        assert benchmark.main(["loader", *flags, *common, "--set", *settings]) == 0
        text = output.read_text()
        return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")][2:], text

    return run


def test_every_loader_is_measured(run, monkeypatch) -> None:
    dropped = []
    monkeypatch.setattr(command, "evict", lambda files: dropped.append(list(files)) or 0.0)
    rows, text = run("--workers", "0", "1")
    names = [(items, cache, n) for items in ("training", "evaluation") for cache in ("warm", "cold") for n in "01"]
    assert [tuple(row[:3]) for row in rows] == names
    for row in rows:
        rate, per_scan, per_batch, per_second = (float(cell.replace(",", "")) for cell in row[3:])
        assert rate > 0 and per_batch >= 0 and per_second >= 0
        assert rate == pytest.approx(1000 / per_scan, rel=0.02, abs=1)
    assert len(dropped) == 4 * 2  # once to see whether it can be done, once before the pass
    assert "5 for training" in text and "2 in training, 1 in evaluation" in text


@pytest.mark.parametrize(("stays", "said"), [(1.0, "keeps 100% of the files"), (None, "has no posix_fadvise")])
def test_a_cache_that_cannot_be_emptied_is_a_remark(run, monkeypatch, stays, said) -> None:
    monkeypatch.setattr(command, "evict", lambda files: stays)
    rows, _ = run("--workers", "0", "--items", "evaluation")
    assert [row[1] for row in rows] == ["warm", "cold"] and float(rows[0][3].replace(",", "")) > 0
    assert rows[1][3:7] == ["-"] * 4 and said in rows[1][7]


def test_linked_files_are_separated_and_the_share_that_stays_is_counted(tmp_path, monkeypatch) -> None:
    (tmp_path / "a").write_bytes(b"x" * 10000)
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "c").write_bytes(b"")
    files = sorted(tmp_path.iterdir())
    separate(files)
    assert sorted(tmp_path.iterdir()) == files and all(file.stat().st_nlink == 1 for file in files)
    assert files[0].read_bytes() == files[1].read_bytes() == b"x" * 10000
    if hasattr(os, "posix_fadvise"):
        monkeypatch.setattr(os, "posix_fadvise", lambda *_: None)  # nothing is dropped
        assert evict(files) == 1.0
        monkeypatch.setattr(page_cache, "_resident", lambda _: (1, 4))
        assert evict(files) == 0.25
        monkeypatch.delattr(os, "posix_fadvise")
    assert evict(files) is None
