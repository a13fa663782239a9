from __future__ import annotations

import gc
import subprocess
import sys

import torch

from utils.command.importing import importing

FRESH = """
import gc
from utils.command.importing import importing
with importing():
    assert not gc.isenabled()
    import torch
assert gc.isenabled() and gc.get_freeze_count() > 10_000
"""


def test_the_collector_rests_while_torch_is_imported() -> None:
    subprocess.run([sys.executable, "-c", FRESH], check=True)


def test_garbage_of_a_program_that_runs_in_a_process_with_torch_is_collected() -> None:
    assert torch.__version__
    before = gc.get_freeze_count()
    with importing():
        assert gc.isenabled()
    assert gc.get_freeze_count() == before
