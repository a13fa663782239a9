from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.making.frames import map_frames

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order_with_progress(workers):
    told = []
    found = list(map_frames(abs, [-3, 1, -2], workers, lambda done, total: told.append((done, total))))
    assert found == [(-3, 3), (1, 1), (-2, 2)]
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert list(map_frames(abs, [], workers)) == []


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid):
    """Returns whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.mark.skipif(not Path(f"/proc/self/task/{os.getpid()}/children").exists(), reason="looks processes up in /proc")
def test_workers_end_with_a_parent_that_is_killed():
    script = (
        "import time\nfrom tools.making.frames import map_frames\nlist(map_frames(time.sleep, [0] * 4 + [60] * 9, 2))"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    workers = []

    def at_work():
        workers[:] = [pid for pid in children(parent.pid) if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]
        return len(workers) == 2

    try:
        assert until(at_work)
        time.sleep(0.5)
    finally:
        parent.kill()
        parent.wait()
    assert until(lambda: not any(map(alive, workers)))
