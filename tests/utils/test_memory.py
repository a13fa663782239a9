from __future__ import annotations

import multiprocessing
import sys
from multiprocessing.connection import Connection

import numpy as np
import pytest

from utils.memory import keep_freed_memory


def faults_of_columns(kept: bool, answer: Connection) -> None:
    """Sends how many pages the system made for a second set of columns, after a first was freed."""
    import resource

    if kept:
        keep_freed_memory()

    def columns() -> int:
        made = [np.ones(300_000, np.float32) for _ in range(20)]
        return len(made)

    columns()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        columns()
    answer.send(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(__import__("os"), "confstr"), reason="an option of glibc")
def test_freed_memory_is_used_again() -> None:
    """In a process of its own: the option stays."""
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    child = fork.Process(target=faults_of_columns, args=(True, sender))
    child.start()
    faults = receiver.recv()
    child.join()
    assert faults < 5 * 20 * 300_000 * 4 / 4096 / 10
